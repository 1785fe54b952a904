//! Reaping: PID 1 collects the dead of the whole sandbox, its own children and the orphans that fell to it.

use std::thread::sleep;
use std::time::Duration;

use aegis_init::wire::ExitStatus;

use crate::clock::Moment;
use crate::ending::kill_everything;

/// How long init waits for killed processes to be gone.
const GONE_MS_MAX: u64 = 5_000;

/// A dead process that was collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dead {
    /// Its process id, free for reuse from now on.
    pub pid: i32,
    /// How it ended.
    pub status: ExitStatus,
}

/// What a look for the dead found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// One, collected.
    Dead(Dead),
    /// Children live, none is dead.
    NoneDead,
    /// There are no children at all.
    NoChildren,
}

/// Collects one dead child without waiting.
pub fn reap_one() -> Found {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the answer.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        match pid {
            0 => return Found::NoneDead,
            pid if pid > 0 => return Found::Dead(Dead { pid, status: exit_status(status) }),
            _ if nix::errno::Errno::last() == nix::errno::Errno::EINTR => {}
            _ => return Found::NoChildren,
        }
    }
}

/// Kills every process of the sandbox but init and collects them all, for at most five seconds: a process
/// in an uninterruptible wait of the kernel may take that long. Returns the dead.
pub fn kill_and_reap_everything() -> Vec<Dead> {
    let mut dead = Vec::new();
    let limit = Moment::now().after_ms(GONE_MS_MAX);
    loop {
        kill_everything();
        loop {
            match reap_one() {
                Found::Dead(one) => dead.push(one),
                Found::NoChildren => return dead,
                Found::NoneDead => break,
            }
        }
        if Moment::now() >= limit {
            return dead;
        }
        sleep(Duration::from_micros(50));
    }
}

fn exit_status(status: i32) -> ExitStatus {
    if libc::WIFSIGNALED(status) {
        return ExitStatus::Signal(libc::WTERMSIG(status));
    }
    ExitStatus::Code(libc::WEXITSTATUS(status))
}
