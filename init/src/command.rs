//! The commands of a sandbox: which live, which are being stopped, which ended. What happened comes out as events;
//! answering the host is the session's.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use serde_bytes::ByteBuf;

use aegis_init::wire::{EXECS_MAX, Exec, ExitStatus, StartStep, Stdio, StopCause};

use crate::clock::Moment;
use crate::ending::kill_everything;
use crate::launch::{self, Launched, Progress, StartFailure, Streams};
use crate::reap::{Dead, Found, kill_and_reap_everything, reap_one};
use crate::terminal;
use crate::tree::{self, Target};

/// Where tags start: the limit that the kernel gives, or its usual one where there is none.
const TAG_BASE_MAX: u64 = 819_200;
/// Killing one command's tree takes at most this long before everything is killed.
const KILL_MS_MAX: u64 = 500;
const KILL_PASSES_MAX: u32 = 1_000;
/// How long a killed first process may take to be gone before it is killed again.
const KILL_AGAIN_MS: u64 = 100;

/// What happened to a command.
pub enum Event {
    /// Its program runs; the terminal's master is the host's.
    Started { exec: u32, pid: i32, master: Option<OwnedFd> },
    /// It could not be started.
    StartFailed { exec: u32, failure: StartFailure },
    /// Its first process ended.
    Exited { exec: u32, status: ExitStatus, stopped: Option<StopCause> },
}

/// All commands of the sandbox.
pub struct Commands {
    live: Vec<Command>,
    workspace: ByteBuf,
    oom_score_adj: Option<File>,
    tag_base: u64,
    serial: u64,
}

struct Command {
    exec: u32,
    pid: i32,
    tag: u64,
    start: Start,
    deadline: Option<Moment>,
    grace_ms: u64,
    stopping: Option<Stopping>,
    ended: Option<ExitStatus>,
}

enum Start {
    Pending { status: OwnedFd, master: Option<OwnedFd> },
    Done,
}

#[derive(Clone, Copy)]
struct Stopping {
    cause: StopCause,
    kill_at: Moment,
}

impl Commands {
    /// No command yet.
    pub fn new(workspace: ByteBuf, oom_score_adj: Option<File>) -> Self {
        let hard = getrlimit(Resource::RLIMIT_MSGQUEUE).map_or(TAG_BASE_MAX, |(_, hard)| hard);
        Self { live: Vec::new(), workspace, oom_score_adj, tag_base: hard.min(TAG_BASE_MAX), serial: 0 }
    }

    /// Whether any command lives.
    pub fn any(&self) -> bool {
        !self.live.is_empty()
    }

    /// The pipes of commands that are being started, to be watched for input.
    pub fn pending(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.live.iter().filter_map(|command| match &command.start {
            Start::Pending { status, .. } => Some(status.as_fd()),
            Start::Done => None,
        })
    }

    /// When a deadline or the end of a grace period is due.
    pub fn next(&self) -> Option<Moment> {
        self.live.iter().filter_map(Command::next).min()
    }

    /// Forks a command. Whether its program runs is told later, by an event.
    pub fn start(&mut self, exec: &Exec, descriptors: Vec<OwnedFd>, now: Moment) -> Result<(), StartFailure> {
        let refused = |errno: Errno| StartFailure { step: StartStep::Request, errno: errno as i32 };
        if self.live.len() >= EXECS_MAX {
            return Err(refused(Errno::EAGAIN));
        }
        if self.live.iter().any(|command| command.exec == exec.id) {
            return Err(refused(Errno::EEXIST));
        }
        let tag = self.tag_base.checked_sub(self.serial + 1).ok_or(refused(Errno::EOVERFLOW))?;
        let streams = streams(exec.stdio, descriptors)?;
        let plan = launch::plan(exec, &self.workspace, streams, tag)?;
        let Launched { pid, status, master } = launch::launch(plan, self.oom_score_adj.as_mut())?;
        self.serial += 1;
        self.live.push(Command {
            exec: exec.id,
            pid,
            tag,
            start: Start::Pending { status, master },
            deadline: exec.timeout_ms.map(|timeout_ms| now.after_ms(timeout_ms)),
            grace_ms: exec.grace_ms,
            stopping: None,
            ended: None,
        });
        Ok(())
    }

    /// Sends a signal to a command's process group. A command that ended takes none.
    pub fn signal(&self, exec: u32, signal: i32) {
        let found = self.live.iter().find(|command| command.exec == exec && command.ended.is_none());
        if let Some(command) = found {
            tree::signal_root(command.pid, signal);
        }
    }

    /// Begins to stop a command, or hurries a stop that has begun.
    pub fn stop(&mut self, exec: u32, grace_ms: u64, now: Moment) {
        if let Some(index) = self.live.iter().position(|command| command.exec == exec) {
            self.stop_at(index, StopCause::Asked, grace_ms, now);
        }
    }

    /// Does what is due: deadlines, ends of grace periods.
    pub fn keep_time(&mut self, now: Moment) {
        for index in 0..self.live.len() {
            let command = &self.live[index];
            match command.stopping {
                None if command.deadline.is_some_and(|deadline| now >= deadline) => {
                    let grace_ms = command.grace_ms;
                    self.stop_at(index, StopCause::Deadline, grace_ms, now);
                }
                Some(stopping) if now >= stopping.kill_at => self.kill_tree(index),
                Some(_) | None => {}
            }
        }
    }

    /// Collects the dead, and tells what happened since the last call.
    pub fn settle(&mut self) -> Vec<Event> {
        self.reap();
        let mut events = Vec::new();
        let mut index = 0;
        while index < self.live.len() {
            match self.live[index].start_progress() {
                Some(Event::StartFailed { exec, failure }) => {
                    self.live.remove(index);
                    events.push(Event::StartFailed { exec, failure });
                    continue;
                }
                Some(event) => events.push(event),
                None => {}
            }
            let Some(status) = self.live[index].ended else {
                index += 1;
                continue;
            };
            let stopped = self.live[index].stopping.map(|stopping| stopping.cause);
            if stopped.is_some() {
                self.kill_tree(index);
            }
            let command = self.live.remove(index);
            events.push(Event::Exited { exec: command.exec, status, stopped });
        }
        events
    }

    /// Kills every process of the sandbox and collects them all.
    pub fn kill_all(&mut self) {
        let now = Moment::now();
        for command in &mut self.live {
            command.stopping.get_or_insert(Stopping { cause: StopCause::Asked, kill_at: now });
        }
        for dead in kill_and_reap_everything() {
            self.note(dead);
        }
    }

    fn stop_at(&mut self, index: usize, cause: StopCause, grace_ms: u64, now: Moment) {
        let kill_at = now.after_ms(grace_ms);
        let target = self.target(index);
        let command = &mut self.live[index];
        match &mut command.stopping {
            Some(stopping) => stopping.kill_at = stopping.kill_at.min(kill_at),
            None => {
                command.stopping = Some(Stopping { cause, kill_at });
                if grace_ms > 0 {
                    tree::signal(&target, libc::SIGTERM);
                }
            }
        }
        if grace_ms == 0 {
            self.kill_tree(index);
        }
    }

    /// Kills a command's tree: at one blow if it is the only one, else pass by pass until none is found. What cannot
    /// be emptied in time takes the whole sandbox with it.
    fn kill_tree(&mut self, index: usize) {
        let now = Moment::now();
        if let Some(stopping) = &mut self.live[index].stopping {
            stopping.kill_at = now.after_ms(KILL_AGAIN_MS);
        }
        if self.live.len() == 1 {
            return self.kill_all();
        }
        let limit = now.after_ms(KILL_MS_MAX);
        for _ in 0..KILL_PASSES_MAX {
            if tree::kill_pass(&self.target(index)) == 0 {
                return;
            }
            self.reap();
            if Moment::now() >= limit {
                break;
            }
            sleep(Duration::from_micros(100));
        }
        kill_everything();
    }

    fn target(&self, index: usize) -> Target {
        let command = &self.live[index];
        let others = self.live.iter().filter(|other| other.exec != command.exec);
        Target { root: command.root(), others: others.map(|it| (it.root(), it.tag)).collect() }
    }

    fn reap(&mut self) {
        while let Found::Dead(dead) = reap_one() {
            self.note(dead);
        }
    }

    fn note(&mut self, dead: Dead) {
        let command = self.live.iter_mut().find(|it| it.pid == dead.pid && it.ended.is_none());
        if let Some(command) = command {
            command.ended = Some(dead.status);
        }
    }
}

impl Command {
    /// The first process, as long as its number is its own.
    fn root(&self) -> Option<i32> {
        self.ended.is_none().then_some(self.pid)
    }

    fn next(&self) -> Option<Moment> {
        self.stopping.map(|stopping| stopping.kill_at).or(self.deadline)
    }

    /// Moves on from a pending start, if the child has said something or is dead.
    fn start_progress(&mut self) -> Option<Event> {
        let Start::Pending { status, master } = &mut self.start else { return None };
        let event = match launch::progress(status) {
            Progress::Pending => return None,
            Progress::Executed => Event::Started { exec: self.exec, pid: self.pid, master: master.take() },
            Progress::Failed(failure) => Event::StartFailed { exec: self.exec, failure },
        };
        self.start = Start::Done;
        Some(event)
    }
}

fn streams(stdio: Stdio, descriptors: Vec<OwnedFd>) -> Result<Streams, StartFailure> {
    match stdio {
        Stdio::Pipes => match <[OwnedFd; 3]>::try_from(descriptors) {
            Ok(pipes) => Ok(Streams::Pipes(pipes)),
            Err(_) => Err(StartFailure { step: StartStep::Request, errno: Errno::EBADF as i32 }),
        },
        Stdio::Terminal { rows, columns } => match terminal::make(rows, columns) {
            Ok(terminal) => Ok(Streams::Terminal(terminal)),
            Err(errno) => Err(StartFailure { step: StartStep::Terminal, errno: errno as i32 }),
        },
    }
}
