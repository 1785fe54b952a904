//! Warm sandboxes: made and proven ahead, used once, and never when anything speaks against them.

use std::time::Duration;

use aegis::record::Run;
use aegis::task::RunState;
use rustix::process::Signal;

use crate::support::aegis::{Aegis, docker, eventually};
use crate::support::serving::{Books, Server, Task};

const FLAGS: [&str; 4] = ["--workers", "2", "--slots", "aegis/base=strict:1"];

/// A server with one sandbox that waits, and its container.
#[track_caller]
fn waiting(aegis: &Aegis) -> (Server, String) {
    let server = Server::start(aegis, &FLAGS);
    let container = container(aegis, &[], &server);
    (server, container)
}

/// The container that waits and is none of these.
#[track_caller]
fn container(aegis: &Aegis, others: &[&str], server: &Server) -> String {
    let mut found = None;
    eventually(&format!("a sandbox waits: {}", server.said()), Duration::from_secs(60), || {
        let containers = aegis.containers();
        let fresh: Vec<_> = containers.iter().filter(|it| !others.contains(&it.as_str())).collect();
        // It waits once its init sleeps; its start has a state of its own.
        found = fresh.first().map(|it| (*it).clone());
        fresh.len() == 1 && docker(&["inspect", "-f", "{{.State.Running}}", fresh[0]]).contains("true")
    });
    found.expect("it was found")
}

/// How long a run's sandbox had waited; `None` for one that was made for it.
fn waited_ms(run: &Run) -> Option<u64> {
    let attestation: serde_json::Value =
        serde_json::from_str(run.attestation.as_deref().expect("it was proven")).expect("JSON");
    attestation["waited_ms"].as_u64()
}

/// Holds that a run is run, with how its sandbox was made; gives the run.
#[track_caller]
fn check(books: &Books, server: &Server, script: &str, is_warm: bool) -> Run {
    let run = books.submit(&Task::script(script));
    assert_eq!(books.outcome(run, server), "exited(0)", "{}", server.said());
    let run = books.run(run);
    assert_eq!(waited_ms(&run).is_some(), is_warm, "{}", server.said());
    run
}

/// The slots that are settled: proven, in the pool.
#[track_caller]
fn settled(server: &Server) {
    // The pool has no sign of its own outside the server yet; a sandbox that was made is proven within this time.
    eventually("it is proven", Duration::from_secs(60), || server.said().contains("a warm sandbox waits"));
}

#[test]
fn a_task_gets_the_sandbox_that_waits_and_nobody_gets_it_again() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let (server, first) = waiting(&aegis);
    settled(&server);
    let run = check(&books, &server, "test ! -e /tmp/left && touch /tmp/left /workspace/left", true);
    assert_eq!(run.slot.expect("a slot").container_id, first);
    eventually("it is destroyed", Duration::from_secs(20), || !aegis.containers().contains(&first));
    let second = container(&aegis, &[&first], &server);
    let run = check(&books, &server, "test ! -e /tmp/left && test ! -e /workspace/left", true);
    let slot = run.slot.expect("a slot");
    assert_ne!(slot.container_id, first);
    drop(second);
    server.signal(Signal::TERM);
    assert_eq!(server.finish().0, Some(0));
    eventually("nothing is left", Duration::from_secs(15), || aegis.containers().is_empty());
}

#[test]
fn a_task_with_other_limits_does_not_get_it() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let (server, waiting) = waiting(&aegis);
    settled(&server);
    let task = Task::script("true").policy("[resources]\npids = 77\n");
    let run = books.submit(&task);
    assert_eq!(books.outcome(run, &server), "exited(0)");
    assert_eq!(waited_ms(&books.run(run)), None);
    assert!(aegis.containers().contains(&waiting));
}

#[test]
fn a_task_with_another_wall_time_gets_it() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let (server, _) = waiting(&aegis);
    settled(&server);
    let run = books.submit(&Task::script("sleep 30").timeout_ms(1_500));
    assert_eq!(books.outcome(run, &server), "timed_out(wall)");
    assert!(waited_ms(&books.run(run)).is_some(), "{}", server.said());
}

/// Holds that a sandbox which was meddled with is destroyed, and its task run in another one.
fn check_meddled(meddle: impl Fn(&str), reason: &str) {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let (server, waiting) = waiting(&aegis);
    settled(&server);
    meddle(&waiting);
    check(&books, &server, "true", false);
    assert!(server.said().contains(reason), "{}", server.said());
    eventually("it is destroyed", Duration::from_secs(20), || !aegis.containers().contains(&waiting));
}

#[test]
fn a_sandbox_whose_limits_were_raised_is_not_used() {
    check_meddled(
        |container| {
            docker(&["update", "--pids-limit", "4000", container]);
        },
        "PidsLimit",
    );
}

#[test]
fn a_sandbox_that_somebody_entered_is_not_used() {
    check_meddled(
        |container| {
            docker(&["exec", "-d", container, "/bin/sleep", "300"]);
        },
        "processes are in it",
    );
}

#[test]
fn a_sandbox_that_waits_dies_with_its_server() {
    let aegis = Aegis::new();
    let (server, _) = waiting(&aegis);
    settled(&server);
    server.kill();
    eventually("it is gone", Duration::from_secs(10), || aegis.containers().is_empty());
}

#[test]
fn a_sandbox_that_was_killed_while_it_waited_costs_nobody_anything() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let (server, waiting) = waiting(&aegis);
    settled(&server);
    docker(&["kill", &waiting]);
    let run = books.submit(&Task::script("true"));
    assert_eq!(books.outcome(run, &server), "exited(0)", "{}", server.said());
    assert_eq!(books.run(run).state, RunState::Done);
}
