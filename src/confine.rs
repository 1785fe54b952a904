//! Walls that a process of ours raises around itself, for when what it reads takes it over: opaque to others, without powers,
//! ended with its owner, and left with the few system calls that its work needs. The gateway and the broker have them.

use std::collections::BTreeMap;

use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::sandbox::seccomp::groups::EPERM;
use crate::sandbox::seccomp::numbers;

/// Calls that a single thread of sockets, timers and memory needs, whatever their arguments. What else there is, first of
/// all `open`, `execve`, `clone`, `ptrace` and `io_uring_setup`, is refused where [`Walls`] do not name it.
const CALLS: [&str; 50] = [
    "brk",
    "clock_gettime",
    "clock_nanosleep",
    "close",
    "connect",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "eventfd2",
    "exit",
    "exit_group",
    "fcntl",
    "futex",
    "getcpu",
    "getpeername",
    "getpid",
    "getrandom",
    "getsockname",
    "getsockopt",
    "gettid",
    "gettimeofday",
    "getuid",
    "madvise",
    "mremap",
    "munmap",
    "nanosleep",
    "poll",
    "ppoll",
    "read",
    "readv",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "restart_syscall",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "sigaltstack",
    "splice",
    "time",
    "write",
    "writev",
];

/// `PROT_EXEC`: no memory becomes code.
const PROT_EXEC: u64 = 4;
/// Sets a descriptor to non-blocking; no other request is needed.
const FIONBIO: u64 = 0x5421;

/// Calls that such a thread needs with some arguments only.
const RULES: [(&str, &[Rule]); 3] = [
    ("ioctl", &[Rule::Equal(1, FIONBIO)]),
    ("mmap", &[Rule::Without(2, PROT_EXEC)]),
    ("mprotect", &[Rule::Without(2, PROT_EXEC)]),
];

/// What distinguishes the walls of one process.
#[derive(Debug, Clone, Copy)]
pub struct Walls {
    /// Whose they are, for errors.
    pub process: &'static str,
    /// Capabilities that it keeps, of those that it has.
    pub powers: CapabilitySet,
    /// Further calls that it may make, whatever their arguments.
    pub calls: &'static [&'static str],
    /// Further calls that it may make where one of these holds.
    pub rules: &'static [(&'static str, &'static [Rule])],
}

/// What must hold of an argument, by its index. The kernel reads it as 32 bits, and so does the filter.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// It is this.
    Equal(u8, u64),
    /// It has none of these bits.
    Without(u8, u64),
}

/// Walls that could not be raised.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The process could not be given its account, made opaque, or bound to its owner.
    #[error("the {process}'s process cannot be set apart")]
    Process {
        /// Whose walls these are.
        process: &'static str,
        /// Why.
        #[source]
        source: rustix::io::Errno,
    },
    /// The filter could not be put together or loaded.
    #[error("the {process}'s system call filter cannot be raised")]
    Filter {
        /// Whose walls these are.
        process: &'static str,
        /// Why.
        #[source]
        source: seccompiler::Error,
    },
}

impl Walls {
    /// Makes the process opaque to others of its user, takes every power from it that is not named, and ends it with its owner.
    /// No other thread may exist, and no change of the user may follow: the kernel undoes two of these with it.
    pub fn set_apart(&self) -> Result<(), ConfineError> {
        let failed = |errno| self.not_apart(errno);
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed)?;
        let held = rustix::thread::capabilities(None).map_err(failed)?;
        let kept = held.permitted & self.powers;
        let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
        rustix::thread::set_capabilities(None, sets).map_err(failed)?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)
    }

    /// The error of a step that sets the process apart.
    pub fn not_apart(&self, source: rustix::io::Errno) -> ConfineError {
        ConfineError::Process { process: self.process, source }
    }

    /// Raises the filter on this thread; with it no program can be given more than this process has. No other thread may exist.
    pub fn raise_filter(&self) -> Result<(), ConfineError> {
        let raised = self.program().map_err(seccompiler::Error::Backend);
        raised
            .and_then(|it| seccompiler::apply_filter(&it))
            .map_err(|source| ConfineError::Filter { process: self.process, source })
    }

    fn program(&self) -> Result<BpfProgram, BackendError> {
        let mut allowed: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for name in CALLS.iter().chain(self.calls) {
            allowed.extend(number(name).map(|it| (it, Vec::new())));
        }
        for (name, alternatives) in RULES.iter().chain(self.rules) {
            let alternatives = alternatives.iter().map(Rule::compiled).collect::<Result<_, _>>()?;
            allowed.extend(number(name).map(|it| (it, alternatives)));
        }
        let refused = SeccompAction::Errno(EPERM.unsigned_abs());
        SeccompFilter::new(allowed, refused, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
    }
}

impl Rule {
    fn compiled(&self) -> Result<SeccompRule, BackendError> {
        let (argument, holds, value) = match *self {
            Self::Equal(argument, value) => (argument, SeccompCmpOp::Eq, value),
            Self::Without(argument, bits) => (argument, SeccompCmpOp::MaskedEq(bits), 0),
        };
        SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, holds, value)?])
    }
}

fn number(name: &str) -> Option<i64> {
    numbers::number(name).map(i64::from)
}

/// Attempts at walls, for the tests of those who raise them.
#[cfg(test)]
pub mod attempt {
    use std::io;

    use super::*;

    /// What an attempt gives on a thread of its own under the filter.
    pub fn under<T: Send + 'static>(walls: Walls, attempt: impl FnOnce() -> T + Send + 'static) -> T {
        let tried = std::thread::spawn(move || {
            walls.raise_filter().expect("raised");
            attempt()
        });
        tried.join().expect("joined")
    }

    /// Holds that an attempt is refused under the filter.
    #[track_caller]
    pub fn check_refused<T>(walls: Walls, attempt: impl FnOnce() -> io::Result<T> + Send + 'static) {
        let error = under(walls, || attempt().err().map(|it| it.kind()));
        assert_eq!(error, Some(io::ErrorKind::PermissionDenied));
    }

    /// Holds that no name is misspelt: what has no number is not allowed.
    #[track_caller]
    pub fn check_numbered(walls: Walls) {
        let rules = RULES.iter().chain(walls.rules).map(|(name, _)| name);
        for name in CALLS.iter().chain(walls.calls).chain(rules) {
            assert!(number(name).is_some(), "{name}");
        }
    }

    /// Holds that no program is started and no process looked into.
    #[track_caller]
    pub fn check_alone(walls: Walls) {
        check_refused(walls, || std::process::Command::new("/bin/true").status());
        check_refused(walls, || {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, Signal::CONT).map_err(io::Error::from)
        });
    }
}
