//! Interfaces and routes: loopback, and no way out of it.

use aegis_init::wire::Report;

use crate::sandbox::attestation::difference::Findings;

const LOOPBACK: &str = "lo";
/// Devices that the kernel puts into every new namespace while their module is loaded on the host.
const FALLBACK_TUNNELS: [&str; 9] =
    ["tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "sit0", "ip6tnl0", "ip6_vti0", "ip6gre0"];

/// `ENETUNREACH`: no route.
const UNREACHABLE: i32 = 101;
/// What a kernel says to IPv6 without a route: also that it has no IPv6, or no address of it.
const UNREACHABLE6: [i32; 3] = [UNREACHABLE, 97, 99];

/// Holds what init saw against a namespace with loopback only.
pub(super) fn check(findings: &mut Findings, report: &Report) {
    for name in interfaces(&String::from_utf8_lossy(&report.net_dev)) {
        if FALLBACK_TUNNELS.contains(&name.as_str()) {
            let why = format!(
                "`{name}`, of a module of the host: set net.core.fb_tunnels_only_for_init_net=2 there"
            );
            findings.add("network interface", "only `lo`", why);
        } else if name != LOOPBACK {
            findings.add("network interface", "only `lo`", format!("`{name}`"));
        }
    }
    check_routes(findings, &String::from_utf8_lossy(&report.net_route));
    for line in String::from_utf8_lossy(&report.net_ipv6_route).lines() {
        check_last_field(findings, "IPv6 route", line);
    }
    for line in String::from_utf8_lossy(&report.net_if_inet6).lines() {
        check_last_field(findings, "IPv6 address", line);
    }
    if report.outside_connect_errno != UNREACHABLE {
        findings.add("a connection to 192.0.2.1", "no route", answer(report.outside_connect_errno));
    }
    if !UNREACHABLE6.contains(&report.outside_connect6_errno) {
        findings.add("a connection to 2001:db8::1", "no route", answer(report.outside_connect6_errno));
    }
}

/// Holds `/proc/<pid>/net/route` against no route at all: its first line is a heading.
pub(super) fn check_routes(findings: &mut Findings, text: &str) {
    for line in text.lines().skip(1).filter(|it| !it.trim().is_empty()) {
        findings.add("IPv4 route", "none", line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

/// Names of interfaces in `/proc/net/dev`, after its two lines of heading.
pub(super) fn interfaces(text: &str) -> Vec<String> {
    let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}

fn check_last_field(findings: &mut Findings, what: &str, line: &str) {
    let device = line.split_whitespace().next_back().unwrap_or_default();
    if device != LOOPBACK && !device.is_empty() {
        findings.add(what, "only on `lo`", format!("on `{device}`"));
    }
}

fn answer(errno: i32) -> String {
    match errno {
        0 => "a route".to_owned(),
        other => format!("errno {other}"),
    }
}
