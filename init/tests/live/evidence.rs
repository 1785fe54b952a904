//! The report: what a sandbox shows before anything runs in it.

use aegis_init::wire::{Entrypoint, Probe, ProbeResult, VERSION};

use crate::host::{LIFETIME_MS, Sandbox};

fn probe(number: i64, args: [u64; 6]) -> Probe {
    Probe { entry: Entrypoint::Native, number: number as u32, args, deadly: false }
}

fn check(probes: Vec<Probe>, expected: &[ProbeResult]) {
    let mut sandbox = Sandbox::connected();
    let report = sandbox.attest(probes, LIFETIME_MS);
    assert_eq!(report.probes, expected);
    assert_eq!(sandbox.processes(), Vec::<String>::new());
    sandbox.end();
    assert_eq!(sandbox.exit_status(), 0);
}

#[test]
fn the_report_shows_the_sandbox() {
    let mut sandbox = Sandbox::connected();
    let report = sandbox.attest(Vec::new(), LIFETIME_MS);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(report.version, VERSION);
    assert!(text(&report.status).contains("NoNewPrivs:\t1"), "{}", text(&report.status));
    assert!(text(&report.status).contains("CapEff:\t0000000000000000"));
    assert!(text(&report.uid_map).contains('0'));
    assert!(text(&report.gid_map).contains('0'));
    assert!(text(&report.mountinfo).contains("/workspace"));
    assert!(text(&report.limits).contains("Max msgqueue size"));
    assert!(text(&report.cgroup).contains(':'));
    assert!(text(&report.net_dev).contains("lo:"));
    // Without any route there is not even a table with a header.
    assert!(text(&report.net_route).lines().count() <= 1);
    assert!(!report.hostname.is_empty());
    let devices: Vec<String> = report.devices.iter().map(|it| text(&it.name)).collect();
    assert_eq!(devices, ["full", "null", "ptmx", "pts", "shm", "tty", "urandom", "zero"]);
    assert_eq!(report.devices[1].device, (1, 3));
    assert!(report.namespaces.len() >= 8, "{:?}", report.namespaces);
    assert_eq!(report.root_write_errno, libc::EROFS);
    assert_eq!(report.outside_connect_errno, libc::ENETUNREACH);
    assert!(
        [libc::ENETUNREACH, libc::EADDRNOTAVAIL, libc::EAFNOSUPPORT].contains(&report.outside_connect6_errno)
    );
}

#[test]
fn answers_come_in_order() {
    check(
        vec![
            probe(libc::SYS_getppid, [0; 6]),
            probe(libc::SYS_close, [9_999, 0, 0, 0, 0, 0]),
            probe(libc::SYS_sethostname, [0; 6]),
        ],
        &[ProbeResult::Returned(1), ProbeResult::Errno(libc::EBADF), ProbeResult::Errno(libc::EPERM)],
    );
}

#[test]
fn a_probe_that_ends_its_caller_hides_no_other() {
    check(
        vec![probe(libc::SYS_exit_group, [3, 0, 0, 0, 0, 0]), probe(libc::SYS_getppid, [0; 6])],
        &[ProbeResult::Returned(3), ProbeResult::Returned(1)],
    );
}

#[test]
fn a_probe_that_kills_its_caller_is_told_so() {
    let abort = probe(libc::SYS_tkill, [0; 6]);
    let deadly = Probe { deadly: true, ..probe(libc::SYS_arch_prctl, [0x1002, u64::MAX, 0, 0, 0, 0]) };
    check(vec![abort, deadly], &[ProbeResult::Errno(libc::EINVAL), ProbeResult::Errno(libc::EPERM)]);
}

#[test]
fn a_probe_that_never_returns_is_killed() {
    let results = [ProbeResult::Killed(libc::SIGKILL), ProbeResult::NotRun];
    check(vec![probe(libc::SYS_pause, [0; 6]), probe(libc::SYS_getppid, [0; 6])], &results);
}

#[test]
fn a_probe_that_forks_leaves_nothing() {
    let mut sandbox = Sandbox::connected();
    let report =
        sandbox.attest(vec![probe(libc::SYS_fork, [0; 6]), probe(libc::SYS_vfork, [0; 6])], LIFETIME_MS);
    assert!(report.probes.iter().all(|it| matches!(it, ProbeResult::Returned(_))), "{:?}", report.probes);
    assert_eq!(sandbox.processes(), Vec::<String>::new());
}

#[test]
fn the_compat_entry_is_tried_through_its_own_gate() {
    // 20 is `getpid` there and `writev` here.
    let compat = Probe { entry: Entrypoint::Compat, number: 64, args: [0; 6], deadly: true };
    let mut sandbox = Sandbox::connected();
    let report = sandbox.attest(vec![compat], LIFETIME_MS);
    let emulated =
        [ProbeResult::Returned(1), ProbeResult::Killed(libc::SIGSEGV), ProbeResult::Errno(libc::ENOSYS)];
    assert!(emulated.contains(&report.probes[0]), "{:?}", report.probes);
}

#[test]
fn a_profile_of_probes_is_quick() {
    let probes: Vec<Probe> = (0..400).map(|_| probe(libc::SYS_mount, [0; 6])).collect();
    let mut sandbox = Sandbox::connected();
    let report = sandbox.attest(probes, LIFETIME_MS);
    println!("probes {} us, ready {} us", report.probes_us, report.ready_us);
    assert!(report.probes_us < 50_000, "{} us", report.probes_us);
}
