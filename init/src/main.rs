//! PID 1 of a sandbox: it connects to its owner, shows what the kernel shows, starts commands when told to, and
//! dies with its owner. One thread, one poll loop, no byte of a task's streams. A second thread is there while content comes
//! in, before anything of the task runs.
//!
//! The order of start-up matters: what a task of the same uid could use against init is closed before anything else
//! can run. See `session` for the loop and `ending` for the ways in which it ends.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("aegis-init knows the system calls of x86_64 Linux only");

mod beneath;
mod clock;
mod collect;
mod command;
mod compare;
mod confine;
mod connection;
mod content;
mod ending;
mod errand;
mod evidence;
mod files;
mod foreign;
mod launch;
mod loopback;
mod probe;
mod reap;
mod sandbox;
mod session;
mod stamps;
mod terminal;
mod tree;
mod usage;

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;

use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::sys::stat::{Mode, umask};

use aegis_init::wire::SOCKET_PATH;

use crate::clock::Moment;
use crate::connection::Connection;
use crate::ending::Ending;
use crate::session::Session;

fn main() {
    let born = Moment::now();
    // A panic must end the sandbox: the kernel drops the signal that abort raises, because this is PID 1.
    std::panic::set_hook(Box::new(|_| ending::leave(Ending::Defect)));
    let ending = match start(born) {
        Ok(mut session) => session.run(),
        Err(_) => Ending::StartUp,
    };
    ending::leave(ending)
}

/// Everything before the first message. On failure nobody can be told but by the exit status.
fn start(born: Moment) -> std::io::Result<Session> {
    launch::close_descriptors();
    // Opened before the process becomes non-dumpable, which gives its files in `/proc` to root.
    let oom_score_adj = open_oom_score_adj();
    prctl::set_dumpable(false)?;
    prctl::set_name(c"aegis-init")?;
    let child_ended = signals()?;
    // Modes of the workspace's content are exact; each command gets a mask of its own.
    umask(Mode::empty());
    let connection = Connection::new(connect_owner()?)?;
    Ok(Session::new(born, connection, child_ended, oom_score_adj))
}

fn open_oom_score_adj() -> Option<File> {
    OpenOptions::new().read(true).write(true).open("/proc/self/oom_score_adj").ok()
}

/// All dispositions stay at their default, for which the kernel drops every signal from inside that would end PID 1.
/// Only the end of a child is taken, by descriptor.
fn signals() -> nix::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?;
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: ignoring a signal installs no handler that could run.
    unsafe { sigaction(Signal::SIGPIPE, &ignore) }?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

fn connect_owner() -> nix::Result<OwnedFd> {
    let control = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let address = UnixAddr::new(SOCKET_PATH)?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&control), &address)?;
    Ok(control)
}
