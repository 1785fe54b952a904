//! `/proc/<pid>/status`: who the process is and what it may do.

use crate::container::ContainerSpec;
use crate::sandbox::attestation::difference::{Findings, Viewpoint};
use crate::sandbox::attestation::id_map::IdMap;

/// The sets of capabilities.
const CAPABILITIES: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
const NO_CAPABILITY: &str = "0000000000000000";

/// The value of a field, `None` where the text has none.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))?;
    line.get(name.len() + 1..).map(str::trim)
}

/// Holds a status against the specification. The host sees ids through the sandbox's map.
pub(super) fn check(findings: &mut Findings, text: &str, spec: &ContainerSpec, uids: &IdMap, gids: &IdMap) {
    let (uid, gid) = match findings.viewpoint() {
        Viewpoint::Inside => (Some(spec.uid), Some(spec.gid)),
        Viewpoint::Outside => (uids.outside(spec.uid), gids.outside(spec.gid)),
    };
    check_ids(findings, "Uid", uid, value(text, "Uid"));
    check_ids(findings, "Gid", gid, value(text, "Gid"));
    // The engine sets the group itself as the one supplementary group, or none.
    let groups = value(text, "Groups");
    if !groups.is_empty() && Some(groups) != gid.map(|it| it.to_string()).as_deref() {
        findings.add("supplementary groups", "none", groups);
    }
    for name in CAPABILITIES {
        let seen = value(text, name);
        if seen != NO_CAPABILITY {
            findings.add(format!("capabilities: {name}"), "0", seen);
        }
    }
    findings.same("NoNewPrivs", 1, value(text, "NoNewPrivs"));
    findings.same("Seccomp", "2 (a filter)", filter_mode(text));
    // Kernels before 5.9 do not count them.
    if field(text, "Seccomp_filters").is_some_and(|it| it.parse::<u32>().is_ok_and(|count| count == 0)) {
        findings.add("Seccomp_filters", "1 or more", "0");
    }
    findings.same("TracerPid", 0, value(text, "TracerPid"));
    let innermost = value(text, "NSpid").split_whitespace().next_back().unwrap_or_default();
    findings.same("NSpid, in its own namespace", 1, innermost);
}

fn value<'a>(text: &'a str, name: &str) -> &'a str {
    field(text, name).unwrap_or("missing")
}

fn filter_mode(text: &str) -> &str {
    match value(text, "Seccomp") {
        "2" => "2 (a filter)",
        "0" => "0 (off)",
        other => other,
    }
}

/// Real, effective, saved and file-system id must all be the one.
fn check_ids(findings: &mut Findings, name: &str, expected: Option<u32>, seen: &str) {
    let Some(expected) = expected else {
        findings.add(name, "an id that the sandbox's map has", seen);
        return;
    };
    let ids: Vec<&str> = seen.split_whitespace().collect();
    let expected = expected.to_string();
    if ids.len() != 4 || ids.iter().any(|it| *it != expected) {
        findings.add(name, expected, ids.join(" "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, name: &str, expected: Option<&str>) {
        assert_eq!(field(text, name), expected);
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        check("Seccomp_filters:\t1\nSeccomp:\t2\n", "Seccomp", Some("2"));
        check("NSpid:\t77\t1\n", "NSpid", Some("77\t1"));
    }

    #[test]
    fn an_empty_field_is_there() {
        check("Groups:\t \n", "Groups", Some(""));
    }

    #[test]
    fn a_missing_field_is_none() {
        check("Uid:\t1\n", "Gid", None);
    }
}
