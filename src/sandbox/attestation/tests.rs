//! Recorded evidence with one thing changed: that thing is named, and nothing else.

use aegis_init::wire::{Device, ProbeResult};
use serde_bytes::ByteBuf;

use crate::sandbox::attestation::fixture::{self, Fixture};
use crate::sandbox::attestation::json::AttestationReport;
use crate::sandbox::attestation::{Difference, compare};

/// The fields that differ after a change, as init saw them; what the host saw of the same is left out.
fn check(change: impl FnOnce(&mut Fixture), expected: &[&str]) {
    let mut fixture = Fixture::recorded();
    change(&mut fixture);
    let differences = compare(fixture.expectation(), &fixture.inside, None);
    assert_eq!(differences.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
}

/// The fields that differ after a change, as both saw them.
fn check_both(change: impl FnOnce(&mut Fixture), expected: &[&str]) {
    let mut fixture = Fixture::recorded();
    change(&mut fixture);
    assert_eq!(fields(&fixture.differences()), expected);
}

fn fields(differences: &[Difference]) -> Vec<&str> {
    differences.iter().map(|it| it.field.as_str()).collect()
}

fn check_text(file: &str, from: &str, to: &str, expected: &[&str]) {
    check(|it| it.replace(file, from, to), expected);
}

#[test]
fn recorded_evidence_is_proven() {
    check_both(|_| {}, &[]);
}

#[test]
fn evidence_of_the_second_layout_is_proven() {
    assert_eq!(Fixture::recorded_v2().differences(), []);
}

#[test]
fn a_kept_capability_is_named() {
    check_text(
        "status",
        "CapEff:\t0000000000000000",
        "CapEff:\t0000000000000400",
        &["capabilities: CapEff is 0000000000000400, expected 0"],
    );
}

#[test]
fn a_missing_filter_is_named() {
    check_text("status", "Seccomp:\t2", "Seccomp:\t0", &["Seccomp is 0 (off), expected 2 (a filter)"]);
}

#[test]
fn privileges_that_can_be_gained_are_named() {
    check_text("status", "NoNewPrivs:\t1", "NoNewPrivs:\t0", &["NoNewPrivs is 0, expected 1"]);
}

#[test]
fn root_is_named() {
    check_text(
        "status",
        "Uid:\t2000000001\t2000000001",
        "Uid:\t2000000001\t0",
        &["Uid is 2000000001 0 2000000001 2000000001, expected 2000000001"],
    );
}

#[test]
fn a_supplementary_group_is_named() {
    check_text(
        "status",
        "Groups:\t2000000001 ",
        "Groups:\t0 2000000001 ",
        &["supplementary groups is 0 2000000001, expected none"],
    );
}

#[test]
fn no_supplementary_group_is_as_good() {
    check_text("status", "Groups:\t2000000001 ", "Groups:\t ", &[]);
}

#[test]
fn a_pid_namespace_of_the_hosts_is_named() {
    check_text("status", "NSpid:\t1\n", "NSpid:\t77\n", &["NSpid, in its own namespace is 77, expected 1"]);
}

#[test]
fn a_status_without_a_field_is_no_proof() {
    check_text("status", "NoNewPrivs:\t1\n", "", &["NoNewPrivs is missing, expected 1"]);
}

#[test]
fn a_probe_that_came_through_is_named() {
    check(
        |it| {
            let place = it.filter.probes().iter().position(|it| it.label == "`bpf`").expect("it is tried");
            it.inside.probes[place] = ProbeResult::Errno(7);
        },
        &["seccomp group `bpf` is `bpf`: E2BIG, expected EACCES"],
    );
}

#[test]
fn a_writable_root_is_named() {
    check_text("mountinfo", " / / ro,", " / / rw,", &["mount `/` is rw,relatime, expected ro"]);
}

#[test]
fn a_root_that_permissions_alone_keep_is_named() {
    check(
        |it| it.inside.root_write_errno = 13,
        &["a write to `/` is refused by permissions only, expected refused as read-only"],
    );
}

#[test]
fn a_mount_of_the_host_is_named() {
    check(
        |it| add_mount(it, "200 72 254:0 /home /mnt/home rw,relatime - ext4 /dev/vda rw\n"),
        &["mount `/mnt/home` is ext4 of `/home`, rw,relatime, expected absent"],
    );
}

#[test]
fn the_engines_socket_is_named() {
    check(
        |it| add_mount(it, "200 72 0:24 /docker.sock /run/docker.sock ro - tmpfs tmpfs rw\n"),
        &["mount `/run/docker.sock` is tmpfs of `/docker.sock`, ro, expected absent"],
    );
}

#[test]
fn a_mount_over_another_is_named() {
    check(
        |it| add_mount(it, "200 72 0:42 / /proc rw,nosuid,nodev,noexec - proc proc rw\n"),
        &["mount `/proc` is mounted over, expected mounted once"],
    );
}

#[test]
fn a_shared_mount_is_named() {
    check_text(
        "mountinfo",
        "master:2",
        "shared:2",
        &["mount `/` is shared with other namespaces, expected private"],
    );
}

#[test]
fn another_file_in_the_place_of_the_engines_is_named() {
    check_text(
        "mountinfo",
        "/var/lib/docker/containers/2de43be79552516c7fe997452998505f852672a7a6748f49d405d95a4f801997/hostname",
        "/etc/shadow",
        &["mount `/etc/hostname` is `/etc/shadow`, expected the engine's own file"],
    );
}

#[test]
fn another_directory_in_the_place_of_the_slots_is_named() {
    check_text(
        "mountinfo",
        "/slots/1/in /.aegis",
        "/slots/2/in /.aegis",
        &["mount `/.aegis` is `/run/aegis/default/slots/2/in`, expected `/run/aegis/default/slots/1/in` of the host"],
    );
}

#[test]
fn a_missing_nosuid_is_named() {
    check_text(
        "mountinfo",
        "/tmp rw,nosuid,nodev,",
        "/tmp rw,nodev,",
        &["mount `/tmp` is rw,nodev,relatime, expected nosuid"],
    );
}

#[test]
fn an_executable_shm_is_named() {
    check_text(
        "mountinfo",
        "/dev/shm rw,nosuid,nodev,noexec,",
        "/dev/shm rw,nosuid,nodev,",
        &["mount `/dev/shm` is rw,nosuid,nodev,relatime, expected noexec"],
    );
}

#[test]
fn a_larger_tmpfs_is_named() {
    check_text(
        "mountinfo",
        "size=262144k,nr_inodes=65536",
        "size=524288k,nr_inodes=65536",
        &["mount `/tmp`: bytes is 536870912, expected 268435456"],
    );
}

#[test]
fn a_tmpfs_without_an_inode_limit_is_named() {
    check_text(
        "mountinfo",
        "nr_inodes=2048,",
        "",
        &["mount `/run`: inodes is without a limit, expected 2048"],
    );
}

#[test]
fn a_mask_that_is_not_there_is_named() {
    check(
        |it| remove_mount(it, "/proc/interrupts"),
        &["mount `/proc/interrupts` is absent, expected mounted"],
    );
}

#[test]
fn a_mask_for_what_this_kernel_lacks_is_not_missed() {
    check(
        |it| {
            remove_mount(it, "/proc/interrupts");
            it.existing_paths.remove("/proc/interrupts");
        },
        &[],
    );
}

#[test]
fn a_mask_that_hides_nothing_is_named() {
    check_text(
        "mountinfo",
        "0:43 /null /proc/keys rw,nosuid - tmpfs",
        "0:42 /keys /proc/keys rw,nosuid - proc",
        &["mount `/proc/keys` is proc of `/keys`, rw,nosuid, expected masked"],
    );
}

#[test]
fn writable_kernel_settings_are_named() {
    check_text(
        "mountinfo",
        "/proc/sys ro,nosuid",
        "/proc/sys rw,nosuid",
        &["mount `/proc/sys` is rw,nosuid,nodev,noexec,relatime, expected ro"],
    );
}

#[test]
fn a_writable_cgroup_is_named() {
    check_text(
        "mountinfo",
        "/sys/fs/cgroup/pids ro,",
        "/sys/fs/cgroup/pids rw,",
        &["mount `/sys/fs/cgroup/pids` is rw,nosuid,nodev,noexec,relatime, expected ro"],
    );
}

#[test]
fn a_line_that_is_no_mount_is_named() {
    check(|it| add_mount(it, "nonsense\n"), &["mount table is nonsense, expected lines of mountinfo"]);
}

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
fn more_open_files_are_named() {
    check_text(
        "limits",
        "1024                 20000",
        "1024                 65536",
        &["limit `Max open files` is 1024 to 65536, expected 1024 to 20000"],
    );
}

#[test]
fn core_dumps_are_named() {
    check_text(
        "limits",
        "Max core file size        0                    0  ",
        "Max core file size        unlimited            unlimited",
        &["limit `Max core file size` is unlimited to unlimited, expected 0 to 0"],
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

#[test]
fn a_report_of_another_process_is_named() {
    check_both(
        |it| {
            it.outside.status =
                it.outside.status.take().map(|text| replaced(&text, "Seccomp:\t2", "Seccomp:\t0"))
        },
        &["Seccomp (as the host sees it)", "agreement: Seccomp (as the host sees it)"],
    );
}

#[test]
fn a_mount_that_init_did_not_report_is_named() {
    check_both(
        |it| {
            let text = it.outside.mountinfo.as_mut().expect("it is recorded");
            text.extend_from_slice(b"200 72 254:0 /etc /tmp/etc rw - ext4 /dev/vda rw\n");
        },
        &["mount `/tmp/etc` (as the host sees it)", "agreement: mount `/tmp/etc` (as the host sees it)"],
    );
}

#[test]
fn another_process_behind_the_connection_is_named() {
    check_both(
        |it| {
            it.outside.namespaces.retain_mut(|(name, inode)| {
                *inode += u64::from(name == "mnt");
                true
            })
        },
        &["agreement: namespace `mnt` (as the host sees it)"],
    );
}

#[test]
fn a_namespace_of_the_hosts_is_named() {
    check_both(
        |it| {
            it.outside.host_namespaces =
                it.outside.namespaces.iter().filter(|it| it.0 == "net").cloned().collect()
        },
        &["namespace `net` (as the host sees it)"],
    );
}

#[test]
fn what_the_host_may_not_read_is_no_difference() {
    check_both(
        |it| {
            it.outside.status = None;
            it.outside.mountinfo = None;
            it.outside.limits = None;
            it.outside.namespaces.clear();
        },
        &[],
    );
}

#[test]
fn a_remapped_user_is_seen_as_such_by_the_host() {
    let mut fixture = Fixture::recorded();
    let map = b"0 1000 1\n1 100000 2000000100\n".to_vec();
    fixture.inside.uid_map = ByteBuf::from(map.clone());
    fixture.outside.uid_map = Some(map);
    fixture.replace("mountinfo", ",uid=2000000001", ",uid=2000100000");
    let status = fixture.outside.status.take().expect("it is recorded");
    fixture.outside.status = Some(replaced(
        &status,
        "Uid:\t2000000001\t2000000001\t2000000001\t2000000001",
        "Uid:\t2000100000\t2000100000\t2000100000\t2000100000",
    ));
    assert_eq!(fixture.differences(), []);
}

#[test]
fn every_open_group_is_seen_on_a_real_kernel() {
    let fixture = Fixture::recorded();
    let planned = fixture.filter.probes();
    let recorded = fixture::text("unfiltered-6.18.txt");
    let answers: Vec<ProbeResult> = recorded.lines().map(answer).collect();
    assert_eq!(planned.len(), answers.len(), "the probes changed: record the answers again");
    let groups: std::collections::BTreeSet<&str> = planned.iter().map(|it| it.group).collect();
    for group in groups {
        let mut results = fixture::filtered(&fixture.filter);
        for (place, plan) in planned.iter().enumerate().filter(|(_, plan)| plan.group == group) {
            results[place] = answers[place];
            // Where the kernel has nothing behind a number, there is nothing to see.
            let nothing = answers[place] == ProbeResult::Errno(38) && plan.probe.number >= 470;
            assert!(nothing || !plan.accepted.contains(&answers[place]), "{}", plan.label);
        }
        assert_eq!(fixture.filter.judge(&results).len(), 1, "{group}");
    }
}

#[test]
fn the_proof_in_short_reads_as_json() {
    let fixture = Fixture::recorded();
    let report = AttestationReport::of(fixture.expectation(), &fixture.inside, Some(&fixture.outside), &[]);
    assert!(report.proven);
    assert_eq!(report.seccomp.probes, report.seccomp.refused);
    assert_eq!(report.interfaces, ["lo"]);
    assert!(!report.user_namespace);
    let points: Vec<&str> = report.mounts.iter().map(|it| it.point.as_str()).collect();
    assert_eq!(
        points,
        [
            "/",
            "/.aegis",
            "/run",
            "/tmp",
            "/workspace",
            "/etc/resolv.conf",
            "/etc/hostname",
            "/etc/hosts",
            "/dev/shm",
            "/run/home"
        ]
    );
    let text = serde_json::to_string(&report).expect("it serialises");
    assert_eq!(serde_json::from_str::<AttestationReport>(&text).expect("it reads back"), report);
}

fn add_mount(fixture: &mut Fixture, line: &str) {
    fixture.inside.mountinfo.extend_from_slice(line.as_bytes());
}

fn remove_mount(fixture: &mut Fixture, point: &str) {
    let text = String::from_utf8_lossy(&fixture.inside.mountinfo).into_owned();
    let kept: Vec<&str> = text.lines().filter(|line| line.split(' ').nth(4) != Some(point)).collect();
    fixture.inside.mountinfo = ByteBuf::from(kept.join("\n").into_bytes());
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

fn replaced(text: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    assert!(text.contains(from), "`{from}` is recorded");
    text.replace(from, to).into_bytes()
}

fn answer(line: &str) -> ProbeResult {
    let mut words = line.rsplit(' ');
    let number = words.next().and_then(|it| it.parse().ok()).expect("a number");
    match words.next() {
        Some("errno") => ProbeResult::Errno(number),
        Some("killed") => ProbeResult::Killed(number),
        Some("returned") => ProbeResult::Returned(i64::from(number)),
        other => unreachable!("{other:?}"),
    }
}
