//! The ways in which init ends, and its last act. Nothing logs inside a sandbox: the exit status is the only trace,
//! and the host shows it beside the outcome `lost`.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Why init ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The host said so and was answered.
    Asked,
    /// Init could not be set up or could not connect.
    StartUp,
    /// The control connection closed or failed.
    HostGone,
    /// The host sent what is not a message, or one at the wrong time.
    HostileFrame,
    /// The host does not read its answers.
    Clogged,
    /// The sandbox's own lifetime is over.
    LifetimeOver,
    /// The owner's lease is no longer certain.
    LeaseOver,
    /// Init itself is wrong.
    Defect,
}

impl Ending {
    /// The exit status of PID 1.
    pub fn exit_status(self) -> i32 {
        match self {
            Self::Asked => 0,
            Self::StartUp => 71,
            Self::HostGone => 72,
            Self::HostileFrame => 73,
            Self::Clogged => 74,
            Self::LifetimeOver => 75,
            Self::LeaseOver => 76,
            Self::Defect => 77,
        }
    }
}

/// Kills every other process of the sandbox and exits. The kernel kills and reaps what a race could have left: a PID
/// namespace does not outlive its PID 1.
pub fn leave(ending: Ending) -> ! {
    kill_everything();
    // SAFETY: `_exit` runs no handlers and does not return.
    unsafe { libc::_exit(ending.exit_status()) }
}

/// One atomic SIGKILL for everything but PID 1. Does nothing if this is not PID 1, so that a test can never end
/// the machine it runs on.
pub fn kill_everything() {
    if nix::unistd::getpid() == Pid::from_raw(1) {
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    }
}
