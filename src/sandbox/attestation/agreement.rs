//! Whether init and the host saw the same: a report that another process made would differ here.

use aegis_init::wire::Report;

use crate::sandbox::attestation::difference::Findings;
use crate::sandbox::attestation::mounts::{self, Mounted};
use crate::sandbox::attestation::outside::OutsideView;
use crate::sandbox::attestation::{namespaces, status};

/// Fields of a status that do not change while init waits, and that the host reads in the same words.
const STATUS_FIELDS: [&str; 8] =
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters"];

/// Holds what the host saw against what init reported, and the sandbox's namespaces against the host's.
pub(super) fn check(findings: &mut Findings, inside: &Report, view: &OutsideView) {
    if let Some(text) = &view.status {
        let (theirs, ours) = (String::from_utf8_lossy(&inside.status), String::from_utf8_lossy(text));
        for name in STATUS_FIELDS {
            let reported = status::field(&theirs, name).unwrap_or("missing");
            findings.same(
                format!("agreement: {name}"),
                reported,
                status::field(&ours, name).unwrap_or("missing"),
            );
        }
    }
    if let Some(text) = &view.mountinfo {
        check_mounts(findings, &inside.mountinfo, text);
    }
    for (name, reported, seen) in [
        ("limits", &inside.limits, &view.limits),
        ("uid map", &inside.uid_map, &view.uid_map),
        ("IPv4 routes", &inside.net_route, &view.net_route),
    ] {
        if seen.as_ref().is_some_and(|it| it[..] != reported[..]) {
            findings.add(format!("agreement: {name}"), "what init reported", "another text");
        }
    }
    for (name, seen) in &view.namespaces {
        match namespaces::inode(&inside.namespaces, name) {
            Some(reported) => findings.same(format!("agreement: namespace `{name}`"), reported, seen),
            None => findings.add(format!("agreement: namespace `{name}`"), "reported by init", "missing"),
        }
    }
    namespaces::check(findings, &inside.namespaces, &view.host_namespaces);
}

fn check_mounts(findings: &mut Findings, inside: &[u8], outside: &[u8]) {
    let parsed = |text| mounts::parse(&String::from_utf8_lossy(text));
    let (Ok(reported), Ok(seen)) = (parsed(inside), parsed(outside)) else { return };
    let reported: Vec<Mounted> = reported.into_iter().map(comparable).collect();
    let seen: Vec<Mounted> = seen.into_iter().map(comparable).collect();
    for mounted in seen.iter().filter(|it| !reported.contains(it)) {
        findings.add(
            format!("agreement: mount `{}`", mounted.point),
            "as init reported",
            "another, or unreported",
        );
    }
    for mounted in reported.iter().filter(|it| !seen.iter().any(|other| other.point == it.point)) {
        findings.add(format!("agreement: mount `{}`", mounted.point), "as init reported", "absent");
    }
}

/// A group's path is told from the reader's own group.
fn comparable(mut mounted: Mounted) -> Mounted {
    if mounted.kind.starts_with("cgroup") {
        mounted.root.clear();
    }
    mounted
}
