//! `kill -9` at each narrow place, and a server that sleeps through its lease: what becomes of the run is what the rule says
//! for that place. Kills at random are in `matrix`.

use std::time::Duration;

use aegis::task::{RunId, RunState};
use rustix::process::Signal;

use crate::support::aegis::{Aegis, eventually};
use crate::support::cluster::Cluster;
use crate::support::processes::{Tag, processes_with};
use crate::support::serving::{Books, Server, Task, asked};
use crate::torture::{BODY, end, ended_once};

#[test]
fn a_server_that_slept_through_its_lease_changes_nothing_when_it_wakes() {
    let Some(cluster) = Cluster::start() else { return };
    let url = cluster.url();
    let flags = ["--workers", "1", "--database", &url];
    let (sleeper, other) = (Aegis::new(), Aegis::new());
    let books = Books::at(&url);
    let tag = Tag::new();
    let asleep = Server::start(&sleeper, &flags);
    let run = books.submit(&Task::script(&format!("timeout 40 sleep {tag}; exit 5")).idempotent(5));
    books.until(run, RunState::Running, &asleep);
    asleep.signal(Signal::STOP);
    let awake = Server::start(&other, &flags);
    eventually("the run is given to another", Duration::from_secs(60), || {
        books.events(run).iter().filter(|it| it.as_str() == "Running").count() == 2
    });
    let sleeping = processes_with(&tag).into_iter().filter(|it| it.starts_with("sleep ")).count();
    assert!(sleeping <= 1, "both attempts run");
    asleep.signal(Signal::CONT);
    assert_eq!(ended_once(&books, run, &awake), "exited(5)");
    assert_eq!(books.run(run).state, RunState::Done);
    end(&sleeper, asleep);
    end(&other, awake);
}

/// What becomes of a run that may be repeated, and of one that may not, whose server dies at this point.
fn check_point(point: &str, once: &str) {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    for (idempotent, expected) in [(false, once), (true, "exited(0)")] {
        let task = Task::script("echo here; true");
        let run = books.submit(&if idempotent { task.idempotent(5) } else { task });
        Server::with_fault(&aegis, &["--workers", "1"], point).died();
        let server = Server::start(&aegis, &["--workers", "1"]);
        assert_eq!(ended_once(&books, run, &server), expected, "{:?}", books.events(run));
        if expected == "exited(0)" {
            aegis.call(&["logs", &run.to_string()]).code(0).prints("here");
        }
        end(&aegis, server);
    }
}

#[test]
fn of_01_killed_after_the_lease_it_is_run_anew() {
    check_point("claimed", "exited(0)");
}

#[test]
fn of_01_killed_after_create_and_before_start_it_is_run_anew() {
    check_point("created", "exited(0)");
}

#[test]
fn a_container_of_a_dead_owner_goes_though_its_slots_number_is_taken_again() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let run = books.submit(&Task::script("sleep 300").under("ci"));
    Server::with_fault(&aegis, &["--workers", "1"], "created").died();
    let dead = aegis.containers();
    assert!(!dead.is_empty(), "one was made");
    let server = Server::start(&aegis, &["--workers", "1"]);
    books.until(run, RunState::Running, &server);
    eventually(&format!("the dead are gone\n{}", server.said()), Duration::from_secs(30), || {
        aegis.containers().iter().all(|it| !dead.contains(it))
    });
    books.cancel(run);
    assert_eq!(ended_once(&books, run, &server), "cancelled(command)");
    end(&aegis, server);
}

#[test]
fn of_01_killed_after_release_it_counts_as_run() {
    check_point("released", "lost(owner)");
}

#[test]
fn of_01_killed_when_the_command_runs_it_counts_as_run() {
    check_point("started", "lost(owner)");
}

#[test]
fn of_01_killed_after_the_end_and_before_the_outcome_it_counts_as_run() {
    check_point("ended", "lost(owner)");
}

#[test]
fn of_01_killed_when_the_log_is_complete_it_counts_as_run() {
    check_point("logged", "lost(owner)");
}

#[test]
fn of_01_killed_after_the_outcome_who_waits_for_it_goes_on() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let first = books.submit(&Task::script("exit 0"));
    let second = books.submit(&Task::script("echo after").after(first));
    Server::with_fault(&aegis, &["--workers", "1"], "settled").died();
    let server = Server::start(&aegis, &["--workers", "1"]);
    for run in [first, second] {
        assert_eq!(ended_once(&books, run, &server), "exited(0)");
    }
    end(&aegis, server);
}

#[test]
fn of_01_killed_after_a_submission_is_on_disk_it_is_there_and_its_key_finds_it() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let key = "idempotency-key: once\r\n";
    let server = Server::with_fault(&aegis, &["--workers", "1"], "queued");
    let answer = asked(&aegis, "POST", "/api/v1/runs", key, BODY);
    assert!(answer.is_none(), "{answer:?}");
    server.died();
    let server = Server::start(&aegis, &["--workers", "1"]);
    let again = asked(&aegis, "POST", "/api/v1/runs", key, BODY).expect("an answer");
    let run: RunId = again.is(200).json()["id"].as_str().expect("an id").parse().expect("an id");
    assert_eq!(ended_once(&books, run, &server), "exited(0)");
    let listed = asked(&aegis, "GET", "/api/v1/runs", "", "").expect("an answer");
    assert_eq!(listed.is(200).json()["runs"].as_array().expect("runs").len(), 1);
    end(&aegis, server);
}

#[test]
fn of_01_killed_while_its_log_is_handed_over_the_server_has_it_once() {
    let Some(cluster) = Cluster::start() else { return };
    let url = cluster.url();
    let front = Aegis::new();
    let books = Books::at(&url);
    let server = Server::start(&front, &["--database", &url, "--name", "front", "--workers", "1"]);
    let socket = format!("unix:{}/aegis.sock", front.state().display());
    let host = Aegis::new().with("AEGIS_SERVER", &socket);
    let flags = ["--database", &url, "--role", "worker", "--name", "host", "--label", "host=host"];
    let run =
        books.submit(&Task::script("for i in $(seq 100); do echo line $i; done").idempotent(5).on("host"));
    Server::with_fault(&host, &flags, "handed_over").died();
    let worker = Server::start(&host, &flags);
    assert_eq!(ended_once(&books, run, &worker), "exited(0)");
    let log = || front.call(&["logs", "--server", &socket, &run.to_string()]).stdout;
    eventually("the log is whole", Duration::from_secs(60), || log().contains("line 100\n"));
    let expected: Vec<String> = (1..=100).map(|it| format!("line {it}")).collect();
    assert_eq!(log().lines().collect::<Vec<_>>(), expected);
    end(&host, worker);
    end(&front, server);
}
