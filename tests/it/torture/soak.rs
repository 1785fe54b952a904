//! A long mixed load with containers killed from outside (acceptance 4 of the server, RB-08): every run ends once and as it
//! must, and the server's memory and descriptors do not grow.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aegis::task::RunId;

use crate::support::aegis::{Aegis, docker, eventually, long_form, repetitions};
use crate::support::processes::descriptors;
use crate::support::random::Random;
use crate::support::serving::{Books, Server, Task};
use crate::torture::{end, ended_once};

/// Kinds of runs.
const KINDS: usize = 7;
/// Takes memory until the kernel ends it.
const EATER: &str =
    "exec python3 -c 'import itertools; l = [bytearray(b\"x\") * (16 << 20) for _ in itertools.count()]'";
/// Runs that are submitted together.
const WAVE: usize = 20;
/// Descriptors that a machine's mood may take: connections to the database, three for each, that wait for their next use. A
/// leak with each killed container would be more in the long form.
const DESCRIPTORS_SLACK: usize = 16;
/// Memory that an allocator keeps or gives back as it likes, KiB.
const RESIDENT_SLACK_KIB: u64 = 3 * 1024;

/// What the kernel counts for a server.
#[derive(Debug, Clone, Copy)]
struct Taken {
    resident_kib: u64,
    descriptors: usize,
}

impl Taken {
    fn by(server: &Server) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("read");
        let line = status.lines().find(|it| it.starts_with("VmRSS:")).expect("it is told");
        let resident_kib = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
        Self { resident_kib, descriptors: descriptors(server.pid()) }
    }
}

/// A run of a kind, and how it ends where nobody kills it.
fn task(kind: usize) -> (Task, &'static str) {
    match kind {
        0 => (Task::script("true"), "exited(0)"),
        1 => (Task::script("exit 3"), "exited(3)"),
        2 => (Task::script("sleep 30").timeout_ms(400), "timed_out(wall)"),
        3 => {
            let task = Task::script(EATER).policy("[resources]\nmemory = \"64MiB\"\n");
            (task, "out_of_memory")
        }
        4 => (Task::script("sleep 30"), "cancelled(command)"),
        5 => (Task::script("head -c 2M /dev/zero | base64"), "exited(0)"),
        _ => (Task::script("head -c 100K /dev/urandom >made").output("made"), "exited(0)"),
    }
}

#[test]
fn heavy_rb_08_a_long_mixed_load_leaves_nothing_and_the_server_as_it_was() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let server = Server::start(&aegis, &["--workers", "4", "--slots", "aegis/base=strict:2"]);
    let total = repetitions(300, 2_000) as usize;
    let warm = if long_form() { 200 } else { 100 };
    let killed = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    let mut before = None;
    std::thread::scope(|scope| {
        scope.spawn(|| kill_some(&aegis, total / 20, &killed, &over));
        let mut done = 0;
        while done < total {
            wave(&books, &server, &killed);
            done += WAVE;
            if before.is_none() && done >= warm {
                before = Some(settled(&server));
            }
        }
        over.store(true, Ordering::Release);
    });
    let (before, after) = (before.expect("it was looked at"), settled(&server));
    eprintln!("before {before:?}, after {after:?}, killed {killed:?}");
    assert!(killed.load(Ordering::Acquire) >= total / 40, "{killed:?} containers were killed");
    assert!(after.descriptors <= before.descriptors * 11 / 10 + DESCRIPTORS_SLACK, "{before:?} {after:?}");
    assert!(after.resident_kib <= before.resident_kib * 11 / 10 + RESIDENT_SLACK_KIB, "{before:?} {after:?}");
    end(&aegis, server);
}

/// Some of each kind, to their ends. A run whose container was killed says so or was refused, and no other.
fn wave(books: &Books, server: &Server, killed: &AtomicUsize) {
    let before = killed.load(Ordering::Acquire);
    let kinds: Vec<usize> = (0..WAVE).map(|it| it % KINDS).collect();
    let tasks: Vec<Task> = kinds.iter().map(|it| task(*it).0).collect();
    let runs = books.submit_all(&tasks);
    let ends: Vec<(usize, RunId)> = kinds.into_iter().zip(runs).collect();
    for (_, run) in ends.iter().filter(|it| it.0 == 4) {
        books.cancel(*run);
    }
    let mut lost = 0;
    for (kind, run) in ends {
        let outcome = ended_once(books, run, server);
        // Killed while it was proven, it is not what was asked for.
        if outcome.starts_with("lost(") || outcome == "refused" {
            lost += 1;
            continue;
        }
        assert_eq!(outcome, task(kind).1, "{:?}", books.events(run));
    }
    let kills = killed.load(Ordering::Acquire) - before;
    assert!(lost <= kills + 1, "{lost} runs were lost to {kills} kills");
}

/// Kills so many containers, whatever they are at: waiting, starting, running.
fn kill_some(aegis: &Aegis, count: usize, killed: &AtomicUsize, over: &AtomicBool) {
    let random = Random::seeded_by_the_caller();
    while killed.load(Ordering::Acquire) < count && !over.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(500 + random.below(2_000)));
        let containers = aegis.containers();
        if containers.is_empty() {
            continue;
        }
        let at = random.below(containers.len() as u64) as usize;
        killed.fetch_add(1, Ordering::AcqRel);
        docker(&["kill", &containers[at]]);
    }
}

/// What it takes once nothing runs any more and its slots are made again.
fn settled(server: &Server) -> Taken {
    let mut last = Taken::by(server);
    let mut same = 0;
    eventually("the server is at rest", Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_millis(300));
        let now = Taken::by(server);
        same = if now.descriptors == last.descriptors { same + 1 } else { 0 };
        last = now;
        same >= 5
    });
    last
}
