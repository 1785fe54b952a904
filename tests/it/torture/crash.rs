//! The crash matrix (acceptance 1 of the server): `kill -9` at random moments and at each narrow place, a PostgreSQL that
//! crashes, a server that sleeps through its lease. No run is lost, none ends twice, and nothing of the dead stays.

use std::time::Duration;

use aegis::task::{RunId, RunState};
use rustix::process::Signal;

use crate::support::aegis::{Aegis, eventually, repetitions};
use crate::support::cluster::Cluster;
use crate::support::processes::{Tag, processes_with};
use crate::support::random::Random;
use crate::support::serving::{Books, Server, Task, asked};
use crate::torture::{BODY, end, ended_once};

/// Both kinds of runs: what may be repeated ends well; what may not is lost if it was released, and was never run twice.
#[track_caller]
fn check_ends(books: &Books, runs: &[(RunId, bool)], server: &Server) {
    for (run, idempotent) in runs {
        let outcome = ended_once(books, *run, server);
        let events = books.events(*run);
        let released = events.iter().filter(|it| it.as_str() == "Running").count();
        match outcome.as_str() {
            "exited(0)" => {}
            "lost(owner)" => assert!(!idempotent && released == 1, "{events:?}"),
            other => panic!("{other}: {events:?}"),
        }
        assert!(*idempotent || released <= 1, "{events:?}");
    }
}

/// Tasks of both kinds, in memory and on disk; every other one may be repeated.
fn mixed(count: usize, random: &Random) -> Vec<(Task, bool)> {
    let mut tasks = Vec::with_capacity(count);
    for index in 0..count {
        let task = Task::script(&format!("sleep 0.{}; echo {index}", random.below(6)));
        let task = if random.below(4) == 0 { task.under("ci") } else { task };
        let idempotent = index % 2 == 0;
        tasks.push((if idempotent { task.idempotent(100) } else { task.attempts(100) }, idempotent));
    }
    tasks
}

fn submitted(books: &Books, tasks: Vec<(Task, bool)>) -> Vec<(RunId, bool)> {
    let (tasks, idempotent): (Vec<Task>, Vec<bool>) = tasks.into_iter().unzip();
    books.submit_all(&tasks).into_iter().zip(idempotent).collect()
}

#[test]
fn of_01_a_server_that_is_killed_at_any_moment_loses_nothing() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let random = Random::seeded_by_the_caller();
    let mut runs = Vec::new();
    for round in 0..repetitions(20, 600) {
        if round % 2 == 0 {
            runs.extend(submitted(&books, mixed(2, &random)));
        }
        let server = Server::start(&aegis, &["--workers", "3"]);
        std::thread::sleep(Duration::from_millis(random.below(1_200)));
        server.kill();
    }
    let server = Server::start(&aegis, &["--workers", "3"]);
    check_ends(&books, &runs, &server);
    end(&aegis, server);
}

#[test]
fn of_01_one_of_two_workers_around_a_postgresql_that_crashes_too() {
    let Some(mut cluster) = Cluster::start() else { return };
    let url = cluster.url();
    let flags = ["--workers", "3", "--database", &url];
    let (steady, mortal) = (Aegis::new(), Aegis::new());
    let books = Books::at(&url);
    let random = Random::seeded_by_the_caller();
    let survivor = Server::start(&steady, &flags);
    let mut runs = Vec::new();
    let kills = repetitions(12, 400);
    for round in 0..kills {
        if round % 2 == 0 {
            runs.extend(submitted(&books, mixed(4, &random)));
        }
        let server = Server::start(&mortal, &flags);
        std::thread::sleep(Duration::from_millis(random.below(1_500)));
        server.kill();
        if round % 40 == 19 {
            cluster.crash();
            cluster.begin();
        }
    }
    let server = Server::start(&mortal, &flags);
    check_ends(&books, &runs, &survivor);
    end(&mortal, server);
    end(&steady, survivor);
}

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
