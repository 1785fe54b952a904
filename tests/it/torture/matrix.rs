//! The crash matrix (acceptance 1 of the server): `kill -9` again and again, at random moments and at random narrow places,
//! of servers alone with their books and of a server and a worker host around a PostgreSQL that crashes too. No run is lost,
//! none ends twice, and nothing of the dead stays.

use std::sync::RwLock;
use std::time::Duration;

use aegis::fault::Point;
use aegis::task::{RunId, RunState};

use crate::support::aegis::{Aegis, eventually, repetitions};
use crate::support::cluster::Cluster;
use crate::support::random::Random;
use crate::support::serving::{Books, Server, Task};
use crate::torture::{end, ended_once};

/// Kills of a process after which all is let end and looked at: a run that was lost more often would wait for minutes.
const KILLS: u32 = 15;
/// Instances side by side, each alone with its books.
const ALONE: u32 = 5;
/// Processes that share books and are killed: a server and a worker host.
const SHARING: u32 = 2;
/// How often all of that is done, in CI's form and in the long one.
const TIMES_ALONE: (u32, u32) = (1, 10);
const TIMES_SHARED: (u32, u32) = (1, 15);
const _: () = assert!(KILLS * (ALONE * TIMES_ALONE.0 + SHARING * TIMES_SHARED.0) >= 100);
const _: () = assert!(KILLS * (ALONE * TIMES_ALONE.1 + SHARING * TIMES_SHARED.1) >= 1_000);

/// Time that a process lives at the most once it serves.
const LIFE_MS_MAX: u64 = 1_000;
/// Time between two submissions, and between the looks whether the killing is over.
const PACE: Duration = Duration::from_millis(500);
/// Time in which a worker host has handed everything to its server.
const HANDOVER_TIME_MAX: Duration = Duration::from_secs(60);

/// Tasks of both kinds, in memory and on disk; every other one may be repeated.
fn mixed(count: usize, random: &Random) -> Vec<(Task, bool)> {
    let mut tasks = Vec::with_capacity(count);
    for index in 0..count {
        let task = Task::script(&format!("sleep 0.{}; echo {index}", random.below(4)));
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
            other => panic!("{other}: {events:?}: {:?}", books.until(*run, RunState::Done, server).end),
        }
        assert!(*idempotent || released <= 1, "{events:?}");
    }
}

/// A server that is killed: at a narrow place if it comes to one that was chosen for it, else at any moment.
fn live_and_die(aegis: &Aegis, flags: &[&str], up: &RwLock<()>, random: &Random) {
    let point = Point::ALL[random.below(Point::ALL.len() as u64) as usize].word();
    let armed = random.below(2) == 0;
    let fault = if armed { format!("{point}:{}", random.below(2)) } else { String::new() };
    let server = {
        let _books_answer = up.read().expect("nobody panics with it");
        Server::with_fault(aegis, flags, &fault)
    };
    std::thread::sleep(Duration::from_millis(random.below(LIFE_MS_MAX)));
    server.kill();
}

#[test]
fn of_01_servers_that_are_killed_at_any_moment_lose_nothing() {
    let random = Random::seeded_by_the_caller();
    let killed: u32 = std::thread::scope(|scope| {
        let instances: Vec<_> = (0..ALONE).map(|_| scope.spawn(|| killed_alone(&random))).collect();
        instances.into_iter().map(|it| it.join().expect("it holds")).sum()
    });
    println!("{killed} servers were killed");
    assert_eq!(killed, KILLS * ALONE * repetitions(TIMES_ALONE.0, TIMES_ALONE.1));
}

/// One instance over many kills; how many.
fn killed_alone(random: &Random) -> u32 {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let flags = ["--workers", "2"];
    let mut killed = 0;
    for _ in 0..repetitions(TIMES_ALONE.0, TIMES_ALONE.1) {
        let mut runs = Vec::new();
        for round in 0..KILLS {
            if round % 3 == 0 {
                runs.extend(submitted(&books, mixed(2, random)));
            }
            live_and_die(&aegis, &flags, &RwLock::new(()), random);
            killed += 1;
        }
        let server = Server::start(&aegis, &flags);
        check_ends(&books, &runs, &server);
        end(&aegis, server);
    }
    killed
}

#[test]
fn of_01_a_server_and_a_worker_host_that_are_killed_around_a_postgresql_that_crashes_lose_nothing() {
    let Some(mut cluster) = Cluster::start() else { return };
    let url = cluster.url();
    let (steady, front) = (Aegis::new(), Aegis::new());
    let books = Books::at(&url);
    let random = Random::seeded_by_the_caller();
    let database = ["--database", url.as_str()];
    let survivor = Server::start(&steady, &[&database[..], &["--name", "steady", "--workers", "1"]].concat());
    let socket = format!("unix:{}/aegis.sock", front.state().display());
    let host = Aegis::new().with("AEGIS_SERVER", &socket);
    let front_flags = [&database[..], &["--name", "front", "--workers", "2"]].concat();
    let host_flags = [&database[..], &["--role", "worker", "--name", "host", "--workers", "2"]].concat();
    let mortal = [(&front, &front_flags), (&host, &host_flags)];
    assert_eq!(mortal.len() as u32, SHARING);
    let up = RwLock::new(());
    let mut killed = 0;
    for _ in 0..repetitions(TIMES_SHARED.0, TIMES_SHARED.1) {
        let mut runs = Vec::new();
        std::thread::scope(|scope| {
            let killing = mortal.map(|(aegis, flags)| {
                let (up, random) = (&up, &random);
                scope.spawn(move || (0..KILLS).for_each(|_| live_and_die(aegis, flags, up, random)))
            });
            let mut crashed = false;
            while !killing.iter().all(|it| it.is_finished()) {
                runs.extend(submitted(&books, mixed(2, &random)));
                if !crashed && runs.len() > 8 {
                    let _nobody_begins = up.write().expect("nobody panics with it");
                    cluster.crash();
                    cluster.begin();
                    crashed = true;
                }
                std::thread::sleep(PACE);
            }
            killed += KILLS * SHARING;
            assert!(crashed, "it was over too soon");
        });
        let begun = mortal.map(|(aegis, flags)| (aegis, Server::start(aegis, flags)));
        check_ends(&books, &runs, &survivor);
        let waiting = || std::fs::read_dir(host.state().join("handover")).map_or(0, Iterator::count);
        eventually("the host has handed everything over", HANDOVER_TIME_MAX, || waiting() == 0);
        for (aegis, server) in begun.into_iter().rev() {
            end(aegis, server);
        }
    }
    println!("{killed} servers and worker hosts were killed");
    assert_eq!(killed, KILLS * SHARING * repetitions(TIMES_SHARED.0, TIMES_SHARED.1));
    end(&steady, survivor);
}
