//! The walls of the gateway's own process. What it parses is hostile; if it fell, it could still open no file, reach no
//! Unix socket, start no program and look into no other process. Everything it works with comes over its one connection.

use std::collections::BTreeMap;

use rustix::process::{DumpableBehavior, Gid, Resource, Rlimit, Signal, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::sandbox::seccomp::groups::EPERM;
use crate::sandbox::seccomp::numbers;
use crate::sandbox::slot;

/// User and group id of a gateway whose owner is root: one below those of the slots, and nobody else's.
pub const ACCOUNT: u32 = slot::UID_FIRST - 1;
/// Open files that it asks for: a socket each for listeners and for both ends of connections.
const NOFILE: u64 = 8192;

/// Calls that a single thread of sockets, timers and memory needs. Everything else, first of all `open`, `execve`,
/// `clone`, `ptrace` and `io_uring_setup`, is refused.
pub const CALLS: [&str; 52] = [
    "accept4",
    "bind",
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

const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
/// `PROT_EXEC`: no memory becomes code.
pub const PROT_EXEC: u64 = 4;
/// Sets a descriptor to non-blocking; no other request is needed.
pub const FIONBIO: u64 = 0x5421;

/// Walls that could not be raised.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The process could not be made opaque or bound to its owner.
    #[error("the gateway's process cannot be set apart")]
    Process(#[source] std::io::Error),
    /// The filter could not be put together or loaded.
    #[error("the gateway's system call filter cannot be raised")]
    Filter(#[source] seccompiler::Error),
}

impl From<seccompiler::BackendError> for ConfineError {
    fn from(error: seccompiler::BackendError) -> Self {
        Self::Filter(seccompiler::Error::Backend(error))
    }
}

/// Gives the process an account of its own where its owner is root, makes it opaque to others of its user, takes root's powers
/// from it, and ends it with its owner. No other thread may exist.
pub fn set_apart() -> Result<(), ConfineError> {
    let failed = |errno: rustix::io::Errno| ConfineError::Process(errno.into());
    // First: the kernel undoes the dumpable and the death setting with a change of the user.
    if rustix::process::geteuid().is_root() {
        let (user, group) = (Uid::from_raw(ACCOUNT), Gid::from_raw(ACCOUNT));
        rustix::thread::set_thread_groups(&[]).map_err(failed)?;
        rustix::thread::set_thread_res_gid(group, group, group).map_err(failed)?;
        rustix::thread::set_thread_res_uid(user, user, user).map_err(failed)?;
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed)?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).map_err(failed)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(NOFILE).min(NOFILE);
    let wanted = Rlimit { current: Some(most), maximum: Some(most) };
    rustix::process::setrlimit(Resource::Nofile, wanted).map_err(failed)
}

/// Raises the filter on this thread. No other thread may exist.
pub fn raise_filter() -> Result<(), ConfineError> {
    let program = program()?;
    seccompiler::apply_filter(&program).map_err(ConfineError::Filter)
}

fn program() -> Result<BpfProgram, ConfineError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for name in CALLS {
        rules.extend(number(name).map(|it| (it, Vec::new())));
    }
    let internet = vec![equal(0, AF_INET)?, equal(0, AF_INET6)?];
    let conditional = [
        ("socket", internet),
        ("ioctl", vec![equal(1, FIONBIO)?]),
        ("mmap", vec![without(2, PROT_EXEC)?]),
        ("mprotect", vec![without(2, PROT_EXEC)?]),
    ];
    for (name, alternatives) in conditional {
        rules.extend(number(name).map(|it| (it, alternatives)));
    }
    let refused = SeccompAction::Errno(EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, TargetArch::x86_64)?;
    Ok(filter.try_into()?)
}

/// A call's number, by its name.
pub fn number(name: &str) -> Option<i64> {
    numbers::number(name).map(i64::from)
}

/// The calls whose argument is this. The kernel reads it as 32 bits, and so does the filter.
pub fn equal(argument: u8, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?;
    SeccompRule::new(vec![condition])
}

/// The calls whose argument has none of these bits.
pub fn without(argument: u8, bits: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    let cleared = SeccompCmpOp::MaskedEq(bits);
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, cleared, 0)?])
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// What an attempt gives on a thread of its own under the filter.
    fn under_filter<T: Send + 'static>(attempt: impl FnOnce() -> T + Send + 'static) -> T {
        let tried = std::thread::spawn(move || {
            raise_filter().expect("raised");
            attempt()
        });
        tried.join().expect("joined")
    }

    #[track_caller]
    fn check_refused<T: Send + 'static>(attempt: impl FnOnce() -> std::io::Result<T> + Send + 'static) {
        let error = under_filter(|| attempt().err().map(|it| it.kind()));
        assert_eq!(error, Some(ErrorKind::PermissionDenied));
    }

    #[test]
    fn every_call_that_is_named_has_a_number() {
        for name in CALLS {
            assert!(numbers::number(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_engines_socket_is_not_reached() {
        check_refused(|| UnixStream::connect("/var/run/docker.sock"));
        check_refused(UnixStream::pair);
    }

    #[test]
    fn no_file_is_opened() {
        check_refused(|| std::fs::File::open("/dev/null"));
        check_refused(|| std::fs::read("/proc/self/environ"));
        check_refused(|| std::fs::write("/tmp/aegis-gateway-test", b"x"));
    }

    #[test]
    fn no_program_is_started_and_no_process_looked_into() {
        check_refused(|| std::process::Command::new("/bin/true").status());
        check_refused(|| {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, Signal::CONT).map_err(std::io::Error::from)
        });
    }

    #[test]
    fn no_listener_is_opened_and_connections_are() {
        check_refused(|| TcpListener::bind("127.0.0.1:0"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("its address");
        let connected = under_filter(move || {
            TcpStream::connect(address).is_ok() && UdpSocket::bind("127.0.0.1:0").is_ok()
        });
        assert!(connected);
    }
}
