//! Recorded evidence with one thing changed: that thing is named, and nothing else.

mod mount_table;
mod process;
mod surroundings;

use aegis_init::wire::ProbeResult;
use proptest::prelude::*;
use serde_bytes::ByteBuf;

use crate::sandbox::attestation::fixture::{self, Fixture};
use crate::sandbox::attestation::json::AttestationReport;
use crate::sandbox::attestation::{Difference, compare};

/// What differs after a change of what init reported.
fn check(change: impl FnOnce(&mut Fixture), expected: &[&str]) {
    let mut fixture = Fixture::recorded();
    change(&mut fixture);
    let differences = compare(fixture.expectation(), &fixture.inside, None);
    assert_eq!(differences.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
}

/// The fields that differ after a change of what either saw.
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
fn what_both_see_is_told_once() {
    check_both(|it| it.replace("mountinfo", " / / ro,", " / / rw,"), &["mount `/`"]);
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

proptest! {
    #[test]
    fn no_evidence_makes_the_comparison_panic(
        text in prop::collection::vec(any::<u8>(), 0..2_000), lines in "([a-zA-Z/0:,\\\\ \\t-]{0,40}\n){0,20}", which in 0_usize..9,
    ) {
        for bytes in [text, lines.into_bytes()] {
            let mut fixture = Fixture::recorded();
            let inside = &mut fixture.inside;
            let field = match which {
                0 => &mut inside.status,
                1 => &mut inside.mountinfo,
                2 => &mut inside.limits,
                3 => &mut inside.cgroup,
                4 => &mut inside.net_dev,
                5 => &mut inside.net_route,
                6 => &mut inside.net_ipv6_route,
                7 => &mut inside.uid_map,
                _ => &mut inside.hostname,
            };
            *field = ByteBuf::from(bytes.clone());
            fixture.outside.mountinfo = Some(bytes);
            let differences = fixture.differences();
            AttestationReport::of(fixture.expectation(), &fixture.inside, Some(&fixture.outside), &differences);
            prop_assert!(!differences.is_empty());
        }
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
