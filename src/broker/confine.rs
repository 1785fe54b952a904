//! The walls of the broker's own process. It holds the engine's socket, so what it is asked for is judged before; these walls
//! keep a broker that fell from the rest: it writes no file, starts no program, looks into no process.

use std::collections::BTreeMap;

use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{BackendError, BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch};

use crate::gateway::confine::{CALLS, FIONBIO, PROT_EXEC, equal, number, without};
use crate::sandbox::seccomp::groups::EPERM;

/// What it may besides the gateway's calls: to look at files, and to read a login for a registry.
const LOOKING: [&str; 8] =
    ["access", "faccessat", "faccessat2", "fstat", "lseek", "newfstatat", "readlink", "statx"];
/// The gateway's calls that it has no use for.
const UNUSED: [&str; 2] = ["bind", "accept4"];
const AF_UNIX: u64 = 1;
/// Every flag by which a file is written or made: `O_ACCMODE`, `O_CREAT`, `O_TRUNC`, `O_APPEND`, and that of `O_TMPFILE`.
const WRITING: u64 = 0o3 | 0o100 | 0o1000 | 0o2000 | 0o20_000_000;

/// Walls that could not be raised.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The process could not be made opaque or bound to its owner.
    #[error("the broker's process cannot be set apart")]
    Process(#[source] std::io::Error),
    /// The filter could not be put together or loaded.
    #[error("the broker's system call filter cannot be raised")]
    Filter(#[source] seccompiler::Error),
}

impl From<BackendError> for ConfineError {
    fn from(error: BackendError) -> Self {
        Self::Filter(seccompiler::Error::Backend(error))
    }
}

/// Makes the process opaque to others of its user, takes every power from it but that of looking below the server's
/// directories, and ends it with its owner. No other thread may exist.
pub fn set_apart() -> Result<(), ConfineError> {
    let failed = |errno: rustix::io::Errno| ConfineError::Process(errno.into());
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed)?;
    let held = rustix::thread::capabilities(None).map_err(failed)?;
    let kept = held.permitted & CapabilitySet::DAC_READ_SEARCH;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(failed)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)
}

/// Raises the filter on this thread; with it no program can be given more than this process has. No other thread may exist.
pub fn raise_filter() -> Result<(), ConfineError> {
    let program = program()?;
    seccompiler::apply_filter(&program).map_err(ConfineError::Filter)
}

fn program() -> Result<BpfProgram, ConfineError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for name in CALLS.into_iter().chain(LOOKING).filter(|it| !UNUSED.contains(it)) {
        rules.extend(number(name).map(|it| (it, Vec::new())));
    }
    let conditional = [
        ("socket", vec![equal(0, AF_UNIX)?]),
        ("ioctl", vec![equal(1, FIONBIO)?]),
        ("mmap", vec![without(2, PROT_EXEC)?]),
        ("mprotect", vec![without(2, PROT_EXEC)?]),
        ("openat", vec![without(2, WRITING)?]),
    ];
    for (name, alternatives) in conditional {
        rules.extend(number(name).map(|it| (it, alternatives)));
    }
    let refused = SeccompAction::Errno(EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, TargetArch::x86_64)?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpStream;
    use std::os::unix::net::{UnixListener, UnixStream};

    use rustix::process::Signal;

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
        for name in LOOKING.into_iter().chain(["openat"]) {
            assert!(number(name).is_some(), "{name}");
        }
    }

    #[test]
    fn files_are_read_and_none_is_written() {
        assert!(under_filter(|| std::fs::read("/proc/self/comm").is_ok()));
        check_refused(|| std::fs::write("/tmp/aegis-broker-test", b"x"));
        check_refused(|| std::fs::OpenOptions::new().append(true).open("/dev/null"));
        check_refused(|| std::fs::remove_file("/tmp/aegis-broker-test"));
        check_refused(|| std::fs::create_dir("/tmp/aegis-broker-test"));
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
    fn a_unix_socket_is_reached_and_no_network() {
        check_refused(|| TcpStream::connect("127.0.0.1:1"));
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a listener");
        let near = path.clone();
        assert!(under_filter(move || UnixStream::connect(near).is_ok()));
        drop(listener);
        check_refused(move || UnixListener::bind(path.with_extension("other")));
    }
}
