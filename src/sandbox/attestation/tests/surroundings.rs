//! Control groups, network, devices and names.

use aegis_init::wire::Device;
use serde_bytes::ByteBuf;

use crate::sandbox::attestation::fixture::Fixture;
use crate::sandbox::attestation::tests::{check, fields};

#[test]
fn unlimited_processes_are_named() {
    check(|it| set_limit(it, "pids/pids.max", Some("max")), &["cgroup pids.max is max, expected 256"]);
}

#[test]
fn a_missing_memory_limit_is_named() {
    check(
        |it| set_limit(it, "memory/memory.limit_in_bytes", Some("9223372036854771712")),
        &["cgroup memory.limit_in_bytes is 9223372036854771712, expected 2046820352"],
    );
}

#[test]
fn a_missing_controller_is_named() {
    check(
        |it| set_limit(it, "memory/memory.memsw.limit_in_bytes", None),
        &["cgroup memory.memsw.limit_in_bytes is missing, expected 2046820352"],
    );
}

#[test]
fn unlimited_cpus_are_named() {
    check(
        |it| set_limit(it, "cpu/cpu.cfs_quota_us", Some("-1")),
        &["cgroup CPU limit is -1 of 100000, expected 2.000 CPUs"],
    );
}

#[test]
fn a_memory_limit_between_pages_is_rounded_down() {
    check(|it| it.spec.memory_bytes += 4_095, &[]);
}

#[test]
fn swap_of_the_second_layout_is_named() {
    let mut fixture = Fixture::recorded_v2();
    set_limit(&mut fixture, "memory.swap.max", Some("max"));
    set_limit(&mut fixture, "cpu.max", Some("max 100000"));
    let differences = fixture.differences();
    assert_eq!(fields(&differences), ["cgroup memory.swap.max", "cgroup CPU limit"]);
}

#[test]
fn a_group_of_the_hosts_own_namespace_is_named() {
    check(
        |it| it.inside.cgroup = ByteBuf::from(b"4:memory:/docker/1f\n0::/\n".to_vec()),
        &["cgroup path of `memory` is /docker/1f, expected /"],
    );
}

#[test]
fn an_interface_is_named() {
    check(
        |it| it.inside.net_dev.extend_from_slice(b"  eth0:  1  0\n"),
        &["network interface is `eth0`, expected only `lo`"],
    );
}

#[test]
fn a_tunnel_of_the_hosts_modules_is_named_with_what_helps() {
    check(
        |it| it.inside.net_dev.extend_from_slice(b"  sit0:  1  0\n"),
        &[
            "network interface is `sit0`, of a module of the host: set net.core.fb_tunnels_only_for_init_net=2 there, \
           expected only `lo`",
        ],
    );
}

#[test]
fn a_route_is_named() {
    check(
        |it| it.inside.net_route.extend_from_slice(b"eth0\t00000000\t010011AC\t0003\n"),
        &["IPv4 route is eth0 00000000 010011AC 0003, expected none"],
    );
}

#[test]
fn an_ipv6_address_is_named() {
    check(
        |it| it.inside.net_if_inet6 = ByteBuf::from(b"fe80 02 40 20 80 eth0\n".to_vec()),
        &["IPv6 address is on `eth0`, expected only on `lo`"],
    );
}

#[test]
fn a_way_out_is_named() {
    check(
        |it| it.inside.outside_connect_errno = 0,
        &["a connection to 192.0.2.1 is a route, expected no route"],
    );
}

#[test]
fn a_kernel_without_ipv6_is_as_good() {
    check(|it| it.inside.outside_connect6_errno = 97, &[]);
}

#[test]
fn another_device_is_named() {
    check(
        |it| {
            let name = ByteBuf::from(b"kvm".to_vec());
            it.inside.devices.push(Device { name, mode: 0o020_660, device: (10, 232) });
        },
        &["device `kvm` is a character device 10:232, expected absent"],
    );
}

#[test]
fn a_device_under_a_standard_name_is_named() {
    check(
        |it| {
            let null = it.inside.devices.iter_mut().find(|it| it.name[..] == *b"null");
            null.expect("it is recorded").device = (1, 1);
        },
        &["device `null` is a character device 1:1, expected a character device 1:3"],
    );
}

#[test]
fn another_host_name_is_named() {
    check(
        |it| it.inside.hostname = ByteBuf::from(b"prod".to_vec()),
        &["host name is prod, expected sandbox"],
    );
}

#[test]
fn another_port_start_is_named() {
    check(
        |it| it.inside.port_start = ByteBuf::from(b"1024\n".to_vec()),
        &["net.ipv4.ip_unprivileged_port_start is 1024, expected 0"],
    );
}

#[test]
fn another_protocol_is_named() {
    check(|it| it.inside.version = 0, &["init's protocol version is 0, expected 1"]);
}

fn set_limit(fixture: &mut Fixture, file: &str, value: Option<&str>) {
    let place = fixture.inside.cgroup_limits.iter().position(|(it, _)| it[..] == *file.as_bytes());
    let place = place.expect("it is recorded");
    match value {
        Some(value) => {
            fixture.inside.cgroup_limits[place].1 = ByteBuf::from(format!("{value}\n").into_bytes())
        }
        None => drop(fixture.inside.cgroup_limits.remove(place)),
    }
}
