//! The end of a sandbox, however it comes: an owner that is killed, frozen or interrupted, a container that is removed
//! behind its back. No process of the task outlives it.

use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::aegis::{Aegis, Ended, docker, eventually, finish};
use crate::support::processes::{Tag, processes_with};

/// A run whose processes can be told from all others on this machine.
struct Running {
    child: Child,
    tag: Tag,
}

impl Running {
    /// A process tree: some in sessions of their own, one that ignores what it can.
    fn tree(aegis: &Aegis, flags: &[&str]) -> Self {
        let tag = Tag::new();
        let script = format!(
            "trap '' TERM INT HUP; for i in 1 2 3; do setsid -f sleep {tag}; (setsid sleep {tag} &); done; \
             echo up; while :; do sleep {tag}; done"
        );
        Self::script(aegis, flags, &script, tag)
    }

    fn script(aegis: &Aegis, flags: &[&str], script: &str, tag: Tag) -> Self {
        let mut arguments = vec!["run", "--no-workspace"];
        arguments.extend(flags);
        arguments.extend(["--", "bash", "-c", script]);
        Self { child: aegis.command(&arguments).spawn().expect("aegis starts"), tag }
    }

    /// Waits until the task's `count` processes are there.
    fn up(self, count: usize) -> Self {
        eventually("the task is up", Duration::from_secs(60), || processes_with(&self.tag).len() >= count);
        self
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        kill_process(pid, signal).expect("it is there");
    }

    fn finish(self) -> Ended {
        finish(self.child, b"")
    }
}

/// The container of the one run of an instance.
fn container(aegis: &Aegis) -> String {
    let containers = aegis.containers();
    assert_eq!(containers.len(), 1, "{containers:?}");
    containers[0].clone()
}

/// Holds that a run which lost its container says so: never 137, never out of memory.
fn check_lost(verb: &[&str]) {
    let aegis = Aegis::new();
    let running = Running::tree(&aegis, &[]).up(7);
    let tag = running.tag.clone();
    let mut arguments = verb.to_vec();
    let container = container(&aegis);
    arguments.push(&container);
    docker(&arguments);
    running.finish().code(125).says("lost");
    eventually("the task is gone", Duration::from_secs(1), || processes_with(&tag).is_empty());
    eventually("the container is gone", Duration::from_secs(10), || aegis.containers().is_empty());
}

#[test]
fn a_container_removed_from_outside_is_lost() {
    check_lost(&["rm", "-f"]);
}

#[test]
fn a_container_killed_from_outside_is_lost() {
    check_lost(&["kill"]);
}

#[test]
fn a_container_stopped_from_outside_is_lost() {
    check_lost(&["stop", "-t", "1"]);
}

#[test]
fn a_paused_container_still_times_out() {
    let aegis = Aegis::new();
    let running = Running::tree(&aegis, &["--timeout", "4s", "--grace", "1s"]).up(7);
    let (container, tag) = (container(&aegis), running.tag.clone());
    docker(&["pause", &container]);
    running.finish().code(124);
    eventually("the task is gone", Duration::from_secs(1), || processes_with(&tag).is_empty());
    eventually("the container is gone", Duration::from_secs(10), || aegis.containers().is_empty());
}

#[test]
fn a_frozen_owner_does_not_keep_a_task_alive() {
    let aegis = Aegis::new();
    let running = Running::tree(&aegis, &["--timeout", "4s", "--grace", "1s"]).up(7);
    let tag = running.tag.clone();
    running.signal(Signal::STOP);
    eventually("init's own clock ends the task", Duration::from_secs(15), || processes_with(&tag).is_empty());
    running.signal(Signal::CONT);
    running.finish().code(124);
}

/// What the task of a cancel does: it tells each signal.
fn cancelled(aegis: &Aegis, flags: &[&str], on_term: &str) -> Running {
    let tag = Tag::new();
    let script =
        format!("trap '{on_term}' TERM; (setsid sleep {tag} &); sleep {tag} & while :; do wait; done");
    Running::script(aegis, flags, &script, tag).up(3)
}

#[test]
fn an_interrupt_gives_the_task_its_word_first() {
    let aegis = Aegis::new();
    let running = cancelled(&aegis, &[], "echo asked to end; exit 0");
    let tag = running.tag.clone();
    running.signal(Signal::INT);
    running.finish().code(130).prints("asked to end");
    assert_eq!(processes_with(&tag), Vec::<String>::new());
}

#[test]
fn a_termination_is_told_apart_from_an_interrupt() {
    let aegis = Aegis::new();
    let running = cancelled(&aegis, &[], "echo asked to end; exit 0");
    running.signal(Signal::TERM);
    running.finish().code(143).prints("asked to end");
}

#[test]
fn a_task_that_does_not_listen_is_killed_after_its_grace() {
    let aegis = Aegis::new();
    let running = cancelled(&aegis, &["--grace", "2s"], "echo no");
    let (tag, begun) = (running.tag.clone(), Instant::now());
    running.signal(Signal::TERM);
    running.finish().code(143).prints("no");
    assert!(begun.elapsed() >= Duration::from_millis(1900), "no grace was given: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(processes_with(&tag), Vec::<String>::new());
}

#[test]
fn a_second_interrupt_kills_at_once() {
    let aegis = Aegis::new();
    let running = cancelled(&aegis, &["--grace", "5m"], "echo no");
    let begun = Instant::now();
    running.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(300));
    running.signal(Signal::INT);
    running.finish().code(130);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn an_interrupt_before_the_release_ends_the_run() {
    let aegis = Aegis::new();
    let running = Running::tree(&aegis, &[]);
    // The signal streams stand before the engine is asked; a signal before them is the shell's business.
    eventually("it has begun", Duration::from_secs(60), || aegis.state().join("aegis.db").exists());
    running.signal(Signal::INT);
    let tag = running.tag.clone();
    running.finish().code(130);
    assert_eq!(processes_with(&tag), Vec::<String>::new());
    eventually("the container is gone", Duration::from_secs(10), || aegis.containers().is_empty());
}

#[test]
fn every_process_ends_with_the_command() {
    // PL-07: the status is the command's own, told at once, and nothing outlives it.
    let aegis = Aegis::new();
    let tag = Tag::new();
    let ended =
        aegis.script(&[], &format!("setsid sh -c 'sleep {tag} & exec sleep {tag}' >/dev/null 2>&1 & exit 5"));
    ended.code(5);
    assert_eq!(processes_with(&tag), Vec::<String>::new());
}

/// Kills of the owner at random moments: a machine of its own.
mod heavy_kill {
    use super::*;
    use crate::support::aegis::repetitions;
    use crate::support::random::Random;

    /// From here to the end of a start on a slow machine; the moments lie between.
    const MOMENT_MS_MAX: u64 = 2_500;
    /// Runs at once.
    const AT_ONCE: u32 = 4;

    #[test]
    fn no_process_is_alive_one_second_after_its_owner_was_killed() {
        let random = Random::seeded_by_the_caller();
        let rounds = repetitions(40, 200) / AT_ONCE;
        let aegis = Aegis::new();
        // The instance is made once, so that every moment falls into a run.
        aegis.script(&[], "true").code(0);
        for round in 0..rounds {
            let moments: Vec<u64> = (0..AT_ONCE).map(|_| random.below(MOMENT_MS_MAX)).collect();
            std::thread::scope(|threads| {
                for moment_ms in &moments {
                    threads.spawn(|| kill_at(&aegis, *moment_ms));
                }
            });
            aegis.call(&["gc"]).code(0);
            nothing_is_left(&aegis, &format!("after gc of round {round}, {moments:?} ms"));
        }
        // The other promise: the next run, without `gc`.
        kill_at(&aegis, MOMENT_MS_MAX);
        aegis.script(&[], "true").code(0);
        eventually("the next run leaves nothing", Duration::from_secs(10), || aegis.containers().is_empty());
        nothing_is_left(&aegis, "after the next run");
    }

    fn kill_at(aegis: &Aegis, moment_ms: u64) {
        let mut running = Running::tree(aegis, &[]);
        std::thread::sleep(Duration::from_millis(moment_ms));
        running.signal(Signal::KILL);
        running.child.wait().expect("waited for");
        std::thread::sleep(Duration::from_secs(1));
        let left = processes_with(&running.tag);
        assert!(left.is_empty(), "alive one second after a kill at {moment_ms} ms: {left:?}");
    }

    #[track_caller]
    fn nothing_is_left(aegis: &Aegis, when: &str) {
        assert_eq!(aegis.containers(), Vec::<String>::new(), "containers {when}");
        let runtime = aegis.runtime();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("read");
        let below = runtime.display().to_string();
        assert!(!mounts.contains(&below), "mounts {when}: {mounts}");
        let slots: Vec<_> = std::fs::read_dir(runtime.join("slots")).expect("read").flatten().collect();
        assert!(slots.is_empty(), "slot directories {when}: {slots:?}");
    }
}
