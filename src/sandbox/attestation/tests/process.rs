//! Who the process is, what it may do, and its limits.

use aegis_init::wire::ProbeResult;

use crate::sandbox::attestation::tests::{check, check_text};

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
