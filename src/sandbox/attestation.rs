//! The proof of a sandbox: what the kernel shows, from inside and from the host, is compared with what was asked for.
//! Comparing is pure; `outside` reads the host's `/proc`. Nothing is released over a difference.

mod agreement;
mod cgroup;
mod devices;
mod difference;
pub mod engine;
mod id_map;
pub mod json;
mod limits;
mod mount_table;
mod mounts;
mod namespaces;
mod network;
pub mod outside;
mod status;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use aegis_init::wire::{self, Report};

use crate::container::ContainerSpec;
use crate::sandbox::seccomp::Filter;

pub use difference::Difference;
pub use outside::OutsideView;

use difference::{Findings, Viewpoint};
use id_map::IdMap;

/// Init cuts a text here: one of this length is not whole.
const TEXT_BYTES_MAX: usize = 256 * 1024;
/// `EROFS`: the root refuses a write because it is read-only, not because of its permissions.
const READ_ONLY: i32 = 30;
/// The kernel parameter that the report reads back.
const PORT_START: &str = "net.ipv4.ip_unprivileged_port_start";

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Expectation<'a> {
    /// The container, as the engine was asked to make it.
    pub spec: &'a ContainerSpec,
    /// Its filter.
    pub filter: &'a Filter,
    /// Masked and read-only paths that this host's kernel has ([`outside::existing`]).
    pub existing_paths: &'a BTreeSet<String>,
}

/// Everything that is not as it was asked for; empty means proven.
pub fn compare(expected: Expectation<'_>, inside: &Report, outside: Option<&OutsideView>) -> Vec<Difference> {
    let mut findings = Findings::new();
    findings.same("init's protocol version", wire::VERSION, inside.version);
    let (Some(uids), Some(gids)) = (IdMap::parse(&inside.uid_map), IdMap::parse(&inside.gid_map)) else {
        findings.add("user and group map", "numbers", "unreadable");
        return findings.into_list();
    };
    check_inside(&mut findings, expected, inside, &uids, &gids);
    if let Some(view) = outside {
        findings.seen_from(Viewpoint::Outside);
        check_outside(&mut findings, expected, view, &uids, &gids);
        agreement::check(&mut findings, inside, view);
    }
    findings.into_list()
}

fn check_inside(
    findings: &mut Findings,
    expected: Expectation<'_>,
    report: &Report,
    uids: &IdMap,
    gids: &IdMap,
) {
    let spec = expected.spec;
    for (name, text) in texts(report) {
        if text.len() >= TEXT_BYTES_MAX {
            findings.add(name, "a text below 256 KiB", "longer");
        }
    }
    status::check(findings, &String::from_utf8_lossy(&report.status), spec, uids, gids);
    limits::check(findings, &String::from_utf8_lossy(&report.limits), spec);
    check_mounts(findings, expected, &report.mountinfo, uids, gids);
    let files = report.cgroup_limits.iter().map(|(path, content)| (path.as_slice(), content.as_slice()));
    cgroup::check_limits(findings, &cgroup::Files::new(files), spec);
    cgroup::check_membership(findings, &String::from_utf8_lossy(&report.cgroup));
    devices::check(findings, &report.devices);
    network::check(findings, report);
    findings.same("host name", &spec.hostname, String::from_utf8_lossy(&report.hostname));
    if let Some(start) = spec.sysctls.get(PORT_START) {
        findings.same(PORT_START, start, String::from_utf8_lossy(&report.port_start).trim());
    }
    if report.root_write_errno != READ_ONLY {
        findings.add("a write to `/`", "refused as read-only", errno(report.root_write_errno));
    }
    findings.extend(expected.filter.judge(&report.probes));
}

fn check_outside(
    findings: &mut Findings,
    expected: Expectation<'_>,
    view: &OutsideView,
    uids: &IdMap,
    gids: &IdMap,
) {
    if let Some(text) = &view.status {
        status::check(findings, &String::from_utf8_lossy(text), expected.spec, uids, gids);
    }
    if let Some(text) = &view.limits {
        limits::check(findings, &String::from_utf8_lossy(text), expected.spec);
    }
    if let Some(text) = &view.mountinfo {
        check_mounts(findings, expected, text, uids, gids);
    }
    if let Some(text) = &view.cgroup {
        cgroup::check_membership(findings, &String::from_utf8_lossy(text));
    }
    if let Some(text) = &view.net_route {
        network::check_routes(findings, &String::from_utf8_lossy(text));
    }
}

fn check_mounts(findings: &mut Findings, expected: Expectation<'_>, text: &[u8], uids: &IdMap, gids: &IdMap) {
    let Expectation { spec, existing_paths: existing, .. } = expected;
    match mounts::parse(&String::from_utf8_lossy(text)) {
        Ok(table) => {
            mount_table::check(findings, &table, mount_table::Expected { spec, existing, uids, gids })
        }
        Err(line) => findings.add("mount table", "lines of mountinfo", line),
    }
}

fn texts(report: &Report) -> [(&'static str, &[u8]); 5] {
    [
        ("status", &report.status),
        ("mount table", &report.mountinfo),
        ("limits", &report.limits),
        ("IPv4 routes", &report.net_route),
        ("IPv6 routes", &report.net_ipv6_route),
    ]
}

fn errno(errno: i32) -> String {
    match errno {
        0 => "possible".to_owned(),
        13 => "refused by permissions only".to_owned(),
        other => format!("refused with errno {other}"),
    }
}
