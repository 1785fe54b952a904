//! Why a run ended as it did, and the smallest change that would have let it pass. Pure.

use crate::policy::amount::Amount;
use crate::record::{End, Limits, Run, TaskRecord};
use crate::report::amount;
use crate::task::escape::escape;
use crate::task::outcome::{LostReason, StartFailure};
use crate::task::{Cancellation, DiskLimit, Outcome, TimeLimit};

/// Linux: a system call that the filter answers with a signal.
const SIGSYS: u8 = 31;
const SIGKILL: u8 = 9;
/// What a shell adds to the signal of its child.
const SHELL_SIGNAL: u8 = 128;

/// What an end is explained from.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// What was to be run.
    pub task: &'a TaskRecord,
    /// What it might use.
    pub limits: &'a Limits,
    /// How it ended.
    pub end: &'a End,
}

impl<'a> Ended<'a> {
    /// The end of a run; `None` while it goes on.
    pub fn of(run: &'a Run) -> Option<Self> {
        Some(Self { task: &run.task, limits: &run.limits, end: run.end.as_ref()? })
    }
}

/// An explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What happened, most important first; each line stands alone.
    pub lines: Vec<String>,
    /// The flag that would have let it pass, or let it go further.
    pub recommendation: Option<Flag>,
}

/// A flag of `aegis run` with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Such as `--memory`.
    pub name: &'static str,
    /// As it is typed.
    pub value: String,
}

impl std::fmt::Display for Flag {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} {}", self.name, self.value)
    }
}

impl Explanation {
    fn line(text: impl Into<String>) -> Self {
        Self { lines: vec![text.into()], recommendation: None }
    }

    fn with(mut self, flag: Option<Flag>) -> Self {
        self.recommendation = self.recommendation.or(flag);
        self
    }

    fn and(mut self, text: impl Into<String>) -> Self {
        self.lines.push(text.into());
        self
    }

    /// The hint that goes with it, where a flag helps.
    pub fn hint(&self) -> Option<String> {
        self.recommendation.as_ref().map(|it| format!("run it again with `{it}`"))
    }
}

/// Explains an end.
pub fn why(ended: &Ended<'_>) -> Explanation {
    match &ended.end.outcome {
        Outcome::Exited(code) => exited(ended, *code),
        Outcome::Signaled(signal) => signaled(ended, *signal),
        Outcome::TimedOut(TimeLimit::Wall) => timed_out(ended),
        Outcome::OutOfMemory => out_of_memory(ended),
        Outcome::OutputLimit => output_limit(ended),
        Outcome::DiskLimit(DiskLimit::Full { mount }) => mount_full(ended, mount),
        Outcome::DiskLimit(DiskLimit::FileSize) => file_size(ended),
        Outcome::DiskLimit(DiskLimit::Size { bytes, entries }) => too_large(ended, *bytes, *entries),
        Outcome::DiskLimit(DiskLimit::HostSpace { left_bytes }) => Explanation::line(format!(
            "the disk of this host had {} left, which stay free: the task was ended; free some space",
            amount::bytes(*left_bytes)
        )),
        Outcome::Cancelled(by) => Explanation::line(cancelled(*by)),
        Outcome::Refused { differences } => refused(differences),
        Outcome::StartFailed { reason } => start_failed(ended, reason),
        Outcome::Lost { reason } => lost(reason),
    }
}

/// The same without what the outcome's own words say already: for the end of a run, where they stand one line above.
pub fn remarks(ended: &Ended<'_>) -> Explanation {
    let mut explanation = why(ended);
    let plain = matches!(ended.end.outcome, Outcome::Exited(code) if shell_meaning(code).is_none());
    if plain {
        explanation.lines.remove(0);
    }
    explanation
}

fn exited(ended: &Ended<'_>, code: u8) -> Explanation {
    let said = match shell_meaning(code) {
        None if code == 0 => "the command ended by itself with success".to_owned(),
        None => format!("the command ended by itself with {code}"),
        Some(meaning) => format!("the command ended by itself with {code}: a shell says so of {meaning}"),
    };
    beside(ended, Explanation::line(said))
}

/// What a shell means by a code.
fn shell_meaning(code: u8) -> Option<String> {
    match code {
        126 => Some("a program that cannot be executed".to_owned()),
        127 => Some("a program that the image lacks".to_owned()),
        _ => {
            let signal = code.checked_sub(SHELL_SIGNAL)?;
            signal_name(signal)?;
            Some(format!("a child that {} ended", named(signal)))
        }
    }
}

fn signaled(ended: &Ended<'_>, signal: u8) -> Explanation {
    let said = format!("{} ended the command", named(signal));
    let explanation = match signal {
        SIGSYS => {
            Explanation::line(said).and("it made a system call that the sandbox's filter does not allow")
        }
        SIGKILL => Explanation::line(said)
            .and("no limit of the sandbox was met: a process of the task's own sent the signal"),
        _ => Explanation::line(said),
    };
    beside(ended, explanation)
}

/// What was counted beside an end that is the task's own.
fn beside(ended: &Ended<'_>, explanation: Explanation) -> Explanation {
    let mut explanation = explanation;
    let usage = ended.end.usage;
    if let Some(hits @ 1..) = usage.and_then(|it| it.pids_limit_hits) {
        let limit = ended.limits.pids;
        explanation = explanation
            .and(format!("the limit of {limit} processes and threads refused {hits} of its forks"))
            .with(raised("--pids-limit", Amount::Pids, limit));
    }
    if let Some(kills @ 1..) = usage.and_then(|it| it.oom_kills) {
        explanation = explanation
            .and(format!("the kernel killed {kills} of its processes for memory, with {}", memory(ended)))
            .with(raised("--memory", Amount::Memory, ended.limits.memory_bytes));
    }
    for mount in &ended.end.full_mounts {
        let full = mount_full(ended, mount);
        explanation = explanation.and(full.lines.join("; ")).with(full.recommendation);
    }
    explanation
}

fn timed_out(ended: &Ended<'_>) -> Explanation {
    let limit = ended.limits.wall_time_ms;
    let mut explanation = Explanation::line(format!(
        "the command ran longer than its limit of {}",
        Amount::WallTime.display(limit)
    ));
    if let Some(usage) = ended.end.usage {
        let cpu = usage.cpu_user_us.saturating_add(usage.cpu_system_us);
        // A task that hardly used a CPU waited for something: more time may not help it.
        if cpu < usage.wall_us / 20 {
            let (cpu, wall) = (amount::microseconds(cpu), amount::microseconds(usage.wall_us));
            explanation = explanation.and(format!("it used {cpu} of CPU time in {wall}: it mostly waited"));
        }
    }
    explanation.with(raised("--timeout", Amount::WallTime, limit))
}

fn out_of_memory(ended: &Ended<'_>) -> Explanation {
    Explanation::line(format!("the kernel killed the command for memory, with {}", memory(ended)))
        .with(raised("--memory", Amount::Memory, ended.limits.memory_bytes))
}

/// The limit and the peak. Memory and the memory file systems are counted together by the kernel.
fn memory(ended: &Ended<'_>) -> String {
    let limit = format!("a limit of {}", amount::bytes(ended.limits.memory_bytes));
    match ended.end.usage.and_then(|it| it.memory_peak_bytes) {
        Some(peak) => format!("{limit} and a peak of {} (its files in memory included)", amount::bytes(peak)),
        None => limit,
    }
}

fn output_limit(ended: &Ended<'_>) -> Explanation {
    let limit = ended.limits.output_bytes;
    Explanation::line(format!("the command wrote more than its limit of {} of output", amount::bytes(limit)))
        .with(raised("--output-limit", Amount::OutputSize, limit))
}

fn mount_full(ended: &Ended<'_>, mount: &str) -> Explanation {
    let limits = ended.limits;
    let (bytes, flag, key) = match mount {
        "/tmp" => (limits.tmp_bytes, raised("--tmp-size", Amount::TmpSize, limits.tmp_bytes), "tmp_size"),
        "/workspace" => (
            limits.workspace_bytes,
            raised("--workspace-size", Amount::WorkspaceSize, limits.workspace_bytes),
            "workspace_size",
        ),
        "/run/home" => (limits.home_bytes, None, "home_size"),
        "/run" => (limits.run_bytes, None, "run_size"),
        "/dev/shm" => (limits.shm_bytes, None, "shm_size"),
        _ => return Explanation::line(format!("`{}` was full", escape(mount.as_bytes()))),
    };
    let explanation =
        Explanation::line(format!("`{mount}` was full at its size of {}", amount::bytes(bytes)));
    match flag {
        Some(_) => explanation.with(flag),
        None => explanation.and(format!("its size is `filesystem.{key}` of the policy")),
    }
}

fn file_size(ended: &Ended<'_>) -> Explanation {
    let limits = ended.limits;
    let sizes =
        [limits.workspace_bytes, limits.tmp_bytes, limits.home_bytes, limits.run_bytes, limits.shm_bytes];
    let largest = sizes.into_iter().max().unwrap_or(0);
    Explanation::line("the command made a file larger than any of its file systems")
        .and(format!("the largest of them has {}", amount::bytes(largest)))
        .with(raised("--workspace-size", Amount::WorkspaceSize, largest))
}

fn too_large(ended: &Ended<'_>, bytes: u64, entries: u64) -> Explanation {
    let limit = ended.limits.workspace_bytes;
    if bytes > limit {
        let (seen, limit_shown) = (amount::bytes(bytes), amount::bytes(limit));
        return Explanation::line(format!(
            "`/workspace` was seen with {seen}, {} above its size of {limit_shown}",
            amount::bytes(bytes - limit)
        ))
        .with(raised("--workspace-size", Amount::WorkspaceSize, limit));
    }
    Explanation::line(format!("`/workspace` was seen with {entries} files, directories and links"))
        .and("how many it may hold follows from `filesystem.workspace_files` of the policy")
}

fn cancelled(by: Cancellation) -> &'static str {
    match by {
        Cancellation::Interrupt => "Ctrl-C, or another SIGINT to `aegis run`, ended it",
        Cancellation::Terminate => "SIGTERM or SIGHUP to `aegis run` ended it",
        Cancellation::Command => "`aegis cancel` ended it",
        Cancellation::Deadline => "it had not been started when its deadline passed",
        Cancellation::Dependency => "a run that it waited for did not end as it had to",
        Cancellation::Client => "the client that was attached to it went away",
    }
}

fn refused(differences: &[String]) -> Explanation {
    let first = "the sandbox or the request was not what policy demands; nothing of the task ran".to_owned();
    Explanation {
        lines: std::iter::once(first).chain(differences.iter().cloned()).collect(),
        recommendation: None,
    }
}

fn start_failed(ended: &Ended<'_>, reason: &StartFailure) -> Explanation {
    match reason {
        StartFailure::NotFound { program } => {
            let (program, image) = (escape(program.as_bytes()), escape(ended.task.image.as_bytes()));
            let explanation = Explanation::line(format!("the image `{image}` has no program `{program}`"));
            match image_with(&program) {
                Some(better) if better != ended.task.image => {
                    explanation.with(Some(Flag { name: "--image", value: better.to_owned() }))
                }
                Some(_) | None => explanation
                    .and("name an image that has it with `--image`; `aegis image ls` lists those here"),
            }
        }
        StartFailure::NotExecutable { program, cause } => {
            let program = escape(program.as_bytes());
            Explanation::line(format!("`{program}` cannot be executed: {cause}"))
                .and("it needs the executable bit, and an interpreter or a format that the image knows")
        }
        StartFailure::Infrastructure { message } => {
            Explanation::line("the command could not be started").and(message.clone())
        }
    }
}

/// Which of the images that ship has a program.
fn image_with(program: &str) -> Option<&'static str> {
    let name = program.rsplit('/').next().unwrap_or(program);
    match name {
        "node" | "npm" | "npx" => Some("aegis/node"),
        "cargo" | "rustc" => Some("aegis/rust"),
        "bash" | "curl" | "git" | "python3" | "make" | "gcc" | "cc" => Some("aegis/base"),
        _ => None,
    }
}

fn lost(reason: &LostReason) -> Explanation {
    match reason {
        LostReason::InitDied => Explanation::line(
            "the sandbox's own init ended while engine and owner lived: something killed the container",
        ),
        LostReason::Engine { message } => {
            Explanation::line("the engine went away under the task").and(message.clone())
        }
        LostReason::Owner => Explanation::line("the process that ran it was gone when its record was found")
            .and("its sandbox ended itself when its owner did"),
    }
    .and("run it again: it was not the task's doing")
}

/// The flag with twice the amount; `None` where that is more than anybody may ask for. What would have been enough
/// cannot be known of a task that was stopped on its way.
fn raised(name: &'static str, amount: Amount, limit: u64) -> Option<Flag> {
    let value = amount.checked(limit.saturating_mul(2)).ok()?;
    Some(Flag { name, value: amount.display(value) })
}

fn named(signal: u8) -> String {
    match signal_name(signal) {
        Some(name) => format!("signal {signal} ({name})"),
        None => format!("signal {signal}"),
    }
}

/// Linux, the numbers that x86 and arm share.
fn signal_name(signal: u8) -> Option<&'static str> {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        SIGKILL => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        SIGSYS => "SIGSYS",
        _ => return None,
    };
    Some(name)
}

#[cfg(test)]
mod tests;
