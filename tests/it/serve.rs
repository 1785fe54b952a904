//! The server: what is queued is run under lease and ends once, whatever dies on the way.

use std::time::Duration;

use aegis::queue::CancelAnswer;
use aegis::task::RunState;
use aegis_init::frame::{self, REQUEST_BYTES_MAX};
use aegis_init::wire::{Entry, EntryKind, Request};
use rustix::process::Signal;
use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};

use crate::support::aegis::{Aegis, docker, eventually};
use crate::support::processes::{Tag, processes_with};
use crate::support::second_engine::{SecondEngine, Standing};
use crate::support::serving::{Books, Server, Task};

/// Time in which nothing may be left once everything has ended.
const CLEAN_TIME_MAX: Duration = Duration::from_secs(15);

/// Holds that no container and no slot is left.
#[track_caller]
fn check_clean(aegis: &Aegis) {
    eventually("the containers are gone", CLEAN_TIME_MAX, || aegis.containers().is_empty());
    eventually("the slots are gone", CLEAN_TIME_MAX, || {
        std::fs::read_dir(aegis.runtime().join("slots")).map_or(0, Iterator::count) == 0
    });
}

/// A task that runs until it is ended, told by its processes.
fn endless(tag: &Tag) -> Task {
    Task::script(&format!("trap 'exit 7' TERM; sleep {tag} & wait"))
}

/// Waits until its processes are there.
#[track_caller]
fn up(tag: &Tag) {
    eventually("the task runs", Duration::from_secs(90), || !processes_with(tag).is_empty());
}

#[track_caller]
fn gone(tag: &Tag) {
    eventually("the task is gone", Duration::from_secs(10), || processes_with(tag).is_empty());
}

#[test]
fn what_is_queued_is_run_and_its_end_recorded() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let before = books.submit(&Task::script("echo queued before; exit 3"));
    let server = Server::start(&aegis, &["--workers", "2"]);
    let after = books.submit(&Task::script("echo queued after"));
    assert_eq!(books.outcome(before, &server), "exited(3)");
    assert_eq!(books.outcome(after, &server), "exited(0)");
    aegis.call(&["logs", &before.to_string()]).code(0).prints("queued before");
    aegis.call(&["logs", &after.to_string()]).code(0).prints("queued after");
    server.signal(Signal::TERM);
    let (code, said) = server.finish();
    assert_eq!(code, Some(0), "{said}");
    check_clean(&aegis);
}

#[test]
fn policy_is_asked_again_when_a_run_starts() {
    let aegis = Aegis::new().with_ceiling("[resources]\nmemory = \"256MiB\"\n");
    let books = Books::of(&aegis);
    // The submitter saw no ceiling.
    let run = books.submit(&Task::script("echo ran").policy("[resources]\nmemory = \"2GiB\"\n"));
    let server = Server::start(&aegis, &[]);
    assert_eq!(books.outcome(run, &server), "refused");
    assert!(!aegis.call(&["logs", &run.to_string()]).stdout.contains("ran"));
}

#[test]
fn an_image_that_is_not_there_is_told() {
    let aegis = Aegis::new().with("DOCKER_CONFIG", "/nonexistent");
    let books = Books::of(&aegis);
    let run =
        books.submit(&Task::script("echo ran").policy("[images]\npull = \"never\"\nallow = [\"nothing\"]\n"));
    let server = Server::start(&aegis, &[]);
    assert_eq!(books.outcome(run, &server), "refused");
}

#[test]
fn of_11_the_first_signal_lets_running_tasks_end_and_leaves_the_queue_alone() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let tag = Tag::new();
    let server = Server::start(&aegis, &["--workers", "1"]);
    let running = books.submit(&Task::script(&format!("sleep 3; : {tag}; echo finished")));
    books.until(running, RunState::Running, &server);
    let queued = books.submit_all(&vec![Task::script("true"); 5]);
    server.signal(Signal::HUP);
    server.signal(Signal::TERM);
    let (code, said) = server.finish();
    assert_eq!(code, Some(0), "{said}");
    let ended = books.run(running);
    assert_eq!(ended.end.expect("it ended").outcome.to_string(), "exited(0)", "{said}");
    for run in queued {
        assert_eq!(books.run(run).state, RunState::Queued, "{said}");
    }
    check_clean(&aegis);
}

#[test]
fn of_11_a_second_signal_ends_what_runs_by_the_rule() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let (once, again) = (Tag::new(), Tag::new());
    let server = Server::start(&aegis, &["--workers", "2"]);
    let runs = books.submit_all(&[endless(&once), endless(&again).idempotent(3)]);
    up(&once);
    up(&again);
    server.signal(Signal::INT);
    server.signal(Signal::TERM);
    let (code, said) = server.finish();
    assert_eq!(code, Some(0), "{said}");
    gone(&once);
    gone(&again);
    assert_eq!(books.run(runs[0]).end.expect("it ended").outcome.to_string(), "lost(owner)");
    assert_eq!(books.run(runs[1]).state, RunState::Queued);
    check_clean(&aegis);
}

#[test]
fn of_15_a_run_is_cancelled_in_every_state() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let tag = Tag::new();
    let queued = books.submit(&Task::script("echo ran"));
    assert_eq!(books.cancel(queued), CancelAnswer::Ended);
    let server = Server::start(&aegis, &["--workers", "2"]);
    assert_eq!(books.outcome(queued, &server), "cancelled(command)");
    let running = books.submit(&endless(&tag));
    up(&tag);
    assert_eq!(books.cancel(running), CancelAnswer::Asked);
    assert_eq!(books.cancel(running), CancelAnswer::Asked);
    assert_eq!(books.outcome(running, &server), "cancelled(command)");
    assert_eq!(books.cancel(running), CancelAnswer::Over);
    // Wherever in its start it is by then.
    let starting = books.submit_all(&vec![Task::script("sleep 30"); 6]);
    for run in &starting {
        books.cancel(*run);
    }
    for run in starting {
        assert_eq!(books.outcome(run, &server), "cancelled(command)");
    }
    gone(&tag);
}

#[test]
fn of_15_the_owners_door_cancels_at_once() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let tag = Tag::new();
    let server = Server::start(&aegis, &[]);
    let run = books.submit(&endless(&tag));
    up(&tag);
    aegis.call(&["cancel", &run.to_string()]).code(0);
    assert_eq!(books.outcome(run, &server), "cancelled(command)");
    gone(&tag);
}

/// Holds what becomes of a run whose container is taken away.
fn check_killed(verb: &[&str], attempts_max: u32, expected: &str) {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let tag = Tag::new();
    let server = Server::start(&aegis, &["--workers", "1"]);
    // The second attempt finds what the first one could not leave: nothing. So it tells itself by the clock.
    let late = jiff::Timestamp::now().as_second() + 8;
    let script = format!("[ $(date +%s) -gt {late} ] && exit 0; sleep {tag}");
    let task = Task::script(&script);
    let run = books.submit(&if attempts_max > 1 { task.idempotent(attempts_max) } else { task });
    up(&tag);
    let mut arguments = verb.to_vec();
    let container = books.container(run);
    arguments.push(&container);
    eventually("it is late enough", Duration::from_secs(30), || jiff::Timestamp::now().as_second() > late);
    docker(&arguments);
    assert_eq!(books.outcome(run, &server), expected);
    gone(&tag);
}

#[test]
fn of_06_a_container_removed_from_outside_is_lost() {
    check_killed(&["rm", "-f"], 1, "lost(init_died)");
}

#[test]
fn of_06_an_idempotent_run_is_tried_again_when_its_container_is_killed() {
    check_killed(&["kill"], 3, "exited(0)");
}

#[test]
fn of_06_a_paused_container_still_times_out() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let tag = Tag::new();
    let server = Server::start(&aegis, &[]);
    let run = books.submit(&endless(&tag).timeout_ms(4_000));
    up(&tag);
    docker(&["pause", &books.container(run)]);
    assert_eq!(books.outcome(run, &server), "timed_out(wall)");
    gone(&tag);
}

#[test]
fn of_01_what_was_released_and_may_not_be_repeated_is_lost_once() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let tag = Tag::new();
    let server = Server::start(&aegis, &[]);
    let run = books.submit(&endless(&tag));
    up(&tag);
    books.until(run, RunState::Running, &server);
    server.kill();
    gone(&tag);
    let server = Server::start(&aegis, &[]);
    assert_eq!(books.outcome(run, &server), "lost(owner)");
    check_clean_of_runs(&aegis, &server);
}

#[track_caller]
fn check_clean_of_runs(aegis: &Aegis, server: &Server) {
    eventually(&format!("the containers are gone: {}", server.said()), Duration::from_secs(45), || {
        aegis.containers().is_empty()
    });
}

#[test]
fn of_22_a_runtime_directory_that_is_gone_leaves_nothing_alive() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let tag = Tag::new();
    let server = Server::start(&aegis, &[]);
    let run = books.submit(&endless(&tag).idempotent(2));
    up(&tag);
    server.kill();
    std::fs::remove_dir_all(aegis.runtime()).expect("removed");
    let server = Server::start(&aegis, &[]);
    gone_or_again(&tag);
    let state = books.run(run).state;
    assert_ne!(state, RunState::Done, "{}", server.said());
    books.cancel(run);
    assert_eq!(books.outcome(run, &server), "cancelled(command)");
    check_clean_of_runs(&aegis, &server);
}

/// The first attempt's processes end with their owner; the second attempt has the same mark.
#[track_caller]
fn gone_or_again(tag: &Tag) {
    eventually("one attempt at the most is alive", Duration::from_secs(30), || {
        processes_with(tag).len() <= 2
    });
}

#[test]
fn a_frozen_server_does_not_keep_a_task_beyond_its_lease() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let tag = Tag::new();
    let server = Server::start(&aegis, &[]);
    let run = books.submit(&endless(&tag).timeout_ms(600_000));
    up(&tag);
    books.until(run, RunState::Running, &server);
    server.signal(Signal::STOP);
    eventually("init's own lease clock ends the task", Duration::from_secs(25), || {
        processes_with(&tag).is_empty()
    });
    server.signal(Signal::CONT);
    let outcome = books.outcome(run, &server);
    assert!(outcome.starts_with("lost("), "{outcome}");
}

/// Lays down what a client would have sent; gives its digest.
fn upload(aegis: &Aegis, requests: &[Request]) -> String {
    let encode = |it: &Request| frame::encode(it, 0, REQUEST_BYTES_MAX).expect("it fits");
    let frames: Vec<u8> = requests.iter().flat_map(encode).collect();
    let bytes = zstd::encode_all(frames.as_slice(), 1).expect("packed");
    let digits = hex::encode(Sha256::digest(&bytes));
    let uploads = aegis.state().join("uploads");
    std::fs::create_dir_all(&uploads).expect("made");
    std::fs::write(uploads.join(format!("sha256-{digits}")), bytes).expect("written");
    format!("sha256:{digits}")
}

fn file(path: &str, data: &str) -> Request {
    let kind = EntryKind::File { size: data.len() as u64, data: ByteBuf::from(data) };
    Request::Put(vec![Entry { path: ByteBuf::from(path), mode: 0o644, mtime_s: 1, mtime_ns: 0, kind }])
}

#[test]
fn an_uploaded_workspace_goes_in_and_outputs_come_out() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let digest = upload(&aegis, &[file("greeting", "hello"), Request::PutEnd]);
    let task = Task::script("tr a-z A-Z <greeting >answer").workspace(&digest).output("answer");
    let run = books.submit(&task);
    let server = Server::start(&aegis, &[]);
    assert_eq!(books.outcome(run, &server), "exited(0)");
    let end = books.run(run).end.expect("it ended");
    let directory = end.output_dir.expect("something came out");
    assert!(directory.starts_with(aegis.state().join("artifacts").join(run.to_string())), "{directory:?}");
    assert_eq!(std::fs::read_to_string(directory.join("answer")).expect("it came out"), "HELLO");
}

#[test]
fn an_upload_that_says_more_than_content_starts_nothing() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let digest = upload(&aegis, &[file("a", "1"), Request::End, Request::PutEnd]);
    let run = books.submit(&Task::script("echo ran").workspace(&digest));
    let unknown = books.submit(&Task::script("echo ran").workspace(&format!("sha256:{}", "0".repeat(64))));
    let server = Server::start(&aegis, &[]);
    for run in [run, unknown] {
        assert_eq!(books.outcome(run, &server), "start_failed(infrastructure)");
        assert!(!aegis.call(&["logs", &run.to_string()]).stdout.contains("ran"));
    }
}

#[test]
fn heavy_of_05_an_engine_that_is_killed_and_comes_back_loses_no_run() {
    let engine = SecondEngine::start(Standing::Runc, "pass");
    engine.load_minimal(&[]);
    let aegis = Aegis::new().with("DOCKER_HOST", &engine.docker_host());
    let books = Books::of(&aegis);
    let server = Server::start(&aegis, &["--workers", "2"]);
    let once = books.submit(&Task::minimal("sleep 1000"));
    let again = books.submit(&Task::minimal("sleep 3").idempotent(5));
    books.until(once, RunState::Running, &server);
    books.until(again, RunState::Running, &server);
    engine.kill();
    let meanwhile = books.submit(&Task::minimal("true"));
    eventually("the server says so", Duration::from_secs(30), || {
        server.said().contains("the engine cannot be had")
    });
    books.until(meanwhile, RunState::Queued, &server);
    engine.begin();
    assert_eq!(books.outcome(meanwhile, &server), "exited(0)");
    assert_eq!(books.outcome(again, &server), "exited(0)");
    let outcome = books.outcome(once, &server);
    assert!(outcome.starts_with("lost("), "{outcome}");
    server.signal(Signal::TERM);
    assert_eq!(server.finish().0, Some(0));
}
