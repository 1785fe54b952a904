//! A sandbox that waits for its task: its time counts anew when the task comes, and only then.

use std::time::{Duration, Instant};

use aegis_init::wire::{ExitStatus, Reply, Request};

use crate::host::{LIFETIME_MS, Sandbox};

#[test]
fn a_sandbox_that_waited_lives_from_its_task_on() {
    let mut sandbox = Sandbox::connected();
    sandbox.attest(Vec::new(), 1_500);
    sandbox.request(&Request::Begin { lifetime_ms: LIFETIME_MS });
    assert_eq!(sandbox.reply(), Reply::Begun { others: 0 });
    let begun = Instant::now();
    // Longer than it would have lived without its task.
    let finished = sandbox.run("sleep 2; echo alive");
    assert!(begun.elapsed() > Duration::from_millis(1_500));
    assert_eq!((finished.status, finished.output.as_str()), (ExitStatus::Code(0), "alive\n"));
}

#[test]
fn a_sandbox_that_nobody_wants_ends_by_itself() {
    let mut sandbox = Sandbox::connected();
    sandbox.attest(Vec::new(), 300);
    assert_ne!(sandbox.exit_status(), 0);
}

#[test]
fn a_used_sandbox_does_not_begin_again() {
    let mut sandbox = Sandbox::attested();
    sandbox.run("true");
    sandbox.request(&Request::Begin { lifetime_ms: LIFETIME_MS });
    assert_ne!(sandbox.exit_status(), 0);
}
