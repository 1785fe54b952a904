//! The one place where an end becomes an outcome. Pure.

use aegis_init::wire::{ExitStatus, StopCause, Usage};

use crate::task::{Cancellation, DiskLimit, Outcome, TimeLimit};

/// Linux, x86: the signal of an out-of-memory kill.
const SIGKILL: i32 = 9;
/// Linux, x86: the signal of `RLIMIT_FSIZE`.
const SIGXFSZ: i32 = 25;
/// What a shell adds to a child's signal.
const SHELL_SIGNAL: i32 = 128;

/// What is known when the command has ended.
#[derive(Debug, Clone)]
pub struct Ended<'a> {
    /// How its first process ended.
    pub status: ExitStatus,
    /// Whether init was stopping it, and why.
    pub stopped: Option<StopCause>,
    /// What the sandbox used.
    pub usage: &'a Usage,
    /// Mount points, in the order of the bits of `usage.full_mounts`.
    pub watched: &'a [String],
    /// Whether the host saw the output limit passed.
    pub output_exceeded: bool,
    /// Which limit of a workspace on disk was seen passed.
    pub disk_limit: Option<DiskLimit>,
    /// Who asked for the end, where somebody did.
    pub cancelled: Option<Cancellation>,
}

/// The outcome of a command that was released.
pub fn verdict(ended: &Ended<'_>) -> Outcome {
    if ended.output_exceeded {
        return Outcome::OutputLimit;
    }
    if let Some(limit) = &ended.disk_limit {
        return Outcome::DiskLimit(limit.clone());
    }
    if ended.stopped == Some(StopCause::Deadline) {
        return Outcome::TimedOut(TimeLimit::Wall);
    }
    if let (Some(by), Some(StopCause::Asked)) = (ended.cancelled, ended.stopped) {
        return Outcome::Cancelled(by);
    }
    if ended.usage.oom_kills.unwrap_or(0) > 0 && is(ended.status, SIGKILL) {
        return Outcome::OutOfMemory;
    }
    if is(ended.status, SIGXFSZ) {
        return Outcome::DiskLimit(DiskLimit::FileSize);
    }
    if let (true, Some(mount)) = (ended.status != ExitStatus::Code(0), full_mounts(ended).next()) {
        return Outcome::DiskLimit(DiskLimit::Full { mount });
    }
    match ended.status {
        ExitStatus::Code(code) => Outcome::Exited(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        ExitStatus::Signal(signal) => Outcome::Signaled(u8::try_from(signal).unwrap_or(u8::MAX)),
    }
}

/// The mounts that a sample saw full.
pub fn full_mounts<'a>(ended: &Ended<'a>) -> impl Iterator<Item = String> + use<'a> {
    let bits = ended.usage.full_mounts;
    let watched = ended.watched;
    watched
        .iter()
        .enumerate()
        .filter(move |(index, _)| *index < 64 && bits & (1 << index) != 0)
        .map(|(_, it)| it.clone())
}

/// Whether a process ended by this signal, or a shell says that its child did.
fn is(status: ExitStatus, signal: i32) -> bool {
    status == ExitStatus::Signal(signal) || status == ExitStatus::Code(SHELL_SIGNAL + signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: ExitStatus, usage: &Usage) -> Ended<'_> {
        Ended {
            status,
            stopped: None,
            usage,
            watched: &[],
            output_exceeded: false,
            disk_limit: None,
            cancelled: None,
        }
    }

    #[test]
    fn a_code_is_the_tasks_own() {
        assert_eq!(verdict(&ended(ExitStatus::Code(42), &Usage::default())), Outcome::Exited(42));
    }

    #[test]
    fn a_kill_without_an_oom_event_is_a_signal() {
        assert_eq!(verdict(&ended(ExitStatus::Signal(9), &Usage::default())), Outcome::Signaled(9));
    }

    #[test]
    fn a_kill_with_an_oom_event_is_out_of_memory_also_through_a_shell() {
        let usage = Usage { oom_kills: Some(1), ..Usage::default() };
        assert_eq!(verdict(&ended(ExitStatus::Signal(9), &usage)), Outcome::OutOfMemory);
        assert_eq!(verdict(&ended(ExitStatus::Code(137), &usage)), Outcome::OutOfMemory);
    }

    #[test]
    fn a_success_stays_one_though_a_child_was_killed_for_memory() {
        let usage = Usage { oom_kills: Some(1), ..Usage::default() };
        assert_eq!(verdict(&ended(ExitStatus::Code(0), &usage)), Outcome::Exited(0));
    }

    #[test]
    fn a_deadline_is_a_timeout_whatever_the_status() {
        let usage = Usage::default();
        let ended = Ended { stopped: Some(StopCause::Deadline), ..ended(ExitStatus::Code(0), &usage) };
        assert_eq!(verdict(&ended), Outcome::TimedOut(TimeLimit::Wall));
    }

    #[test]
    fn a_task_that_ended_before_the_cancel_reached_it_keeps_its_end() {
        let usage = Usage::default();
        let ended = Ended { cancelled: Some(Cancellation::Interrupt), ..ended(ExitStatus::Code(3), &usage) };
        assert_eq!(verdict(&ended), Outcome::Exited(3));
    }

    #[test]
    fn a_failure_after_a_full_mount_is_a_disk_limit_and_a_success_is_not() {
        let usage = Usage { full_mounts: 0b10, ..Usage::default() };
        let watched = ["/tmp".to_owned(), "/workspace".to_owned()];
        let failed = Ended { watched: &watched, ..ended(ExitStatus::Code(1), &usage) };
        assert_eq!(verdict(&failed), Outcome::DiskLimit(DiskLimit::Full { mount: "/workspace".to_owned() }));
        let passed = Ended { watched: &watched, ..ended(ExitStatus::Code(0), &usage) };
        assert_eq!(verdict(&passed), Outcome::Exited(0));
    }

    #[test]
    fn a_file_too_large_is_a_disk_limit() {
        let outcome = verdict(&ended(ExitStatus::Signal(25), &Usage::default()));
        assert_eq!(outcome, Outcome::DiskLimit(DiskLimit::FileSize));
    }
}
