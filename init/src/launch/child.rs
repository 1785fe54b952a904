//! The child's half of a start: what a forked process does to itself before it becomes the command. It has init's
//! memory and makes system calls only.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, setsid};

use aegis_init::wire::StartStep;

use crate::confine;
use crate::launch::{DESCRIPTORS_MAX, Plan, SHELL, StartFailure, Streams};
use crate::terminal;

const UMASK: u32 = 0o022;
const SIGNAL_MAX: i32 = 64;

/// The way to the program. Returns only if something failed.
pub fn become_command(
    plan: &Plan,
    filter: &mut [libc::sock_filter],
    argv: &[*const libc::c_char],
    env: &[*const libc::c_char],
    shell_argv: &mut [*const libc::c_char],
) -> StartFailure {
    let at = |step: StartStep| move |errno: Errno| StartFailure { step, errno: errno as i32 };
    let prepared = setsid()
        .map_err(at(StartStep::Confine))
        .and_then(|_| take_streams(&plan.streams).map_err(at(StartStep::Terminal)))
        .and_then(|()| reset_signals().map_err(at(StartStep::Confine)))
        .and_then(|()| {
            setrlimit(Resource::RLIMIT_MSGQUEUE, plan.tag, plan.tag).map_err(at(StartStep::Confine))
        })
        .and_then(|()| chdir(plan.work_dir.as_c_str()).map_err(at(StartStep::WorkDir)))
        .and_then(|()| {
            umask(Mode::from_bits_truncate(UMASK));
            seal_descriptors();
            confine::confine(filter).map_err(at(StartStep::Confine))
        });
    if let Err(failure) = prepared {
        return failure;
    }
    let errno = execute(&plan.programs, argv, env, shell_argv);
    StartFailure { step: StartStep::Execute, errno: errno as i32 }
}

fn take_streams(streams: &Streams) -> nix::Result<()> {
    let [input, output, error] = match streams {
        Streams::Pipes(pipes) => pipes.each_ref(),
        Streams::Terminal(terminal) => {
            terminal::take_control(&terminal.slave)?;
            [&terminal.slave; 3]
        }
    };
    for (descriptor, standard) in [(input, 0), (output, 1), (error, 2)] {
        // SAFETY: both are numbers; the standard ones belong to nobody in a child that is about to execute.
        Errno::result(unsafe { libc::dup2(descriptor.as_raw_fd(), standard) })?;
    }
    Ok(())
}

/// A program starts with every signal at its default and none blocked. The call is made raw because the library keeps
/// two signals for itself, which an engine may have left ignored.
fn reset_signals() -> nix::Result<()> {
    let default = [0u64; 4];
    for signal in 1..=SIGNAL_MAX {
        // SAFETY: zeros are the kernel's default action, which runs no code of ours; SIGKILL and SIGSTOP cannot be
        // changed, fail, and are at their default.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null::<u64>(),
                size_of::<u64>(),
            );
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// The rules of `execvp`: the first candidate that can be executed; a file that is no program goes to the shell; a
/// candidate that may not be executed is remembered and the search goes on.
fn execute(
    programs: &[CString],
    argv: &[*const libc::c_char],
    env: &[*const libc::c_char],
    shell_argv: &mut [*const libc::c_char],
) -> Errno {
    let mut refused = None;
    for program in programs {
        // SAFETY: all three are null-terminated and live; `execve` returns only on failure.
        unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
        match Errno::last() {
            Errno::ENOEXEC => {
                shell_argv[1] = program.as_ptr();
                // SAFETY: as above.
                unsafe { libc::execve(SHELL.as_ptr(), shell_argv.as_ptr(), env.as_ptr()) };
                return Errno::ENOEXEC;
            }
            Errno::EACCES => refused = Some(Errno::EACCES),
            Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {}
            errno => return errno,
        }
    }
    refused.unwrap_or(Errno::ENOENT)
}

/// Marks every descriptor above the standard three as closed on exec. All of init's are made so; this is the second
/// lock of that door.
fn seal_descriptors() {
    // SAFETY: changes a flag of descriptors, touches no memory.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) } == 0 {
        return;
    }
    for descriptor in 3..DESCRIPTORS_MAX {
        // SAFETY: changes a flag of one descriptor, which may not exist.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

pub fn fail(status: &OwnedFd, failure: StartFailure) -> ! {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&(failure.step as u32).to_le_bytes());
    bytes[4..].copy_from_slice(&failure.errno.to_le_bytes());
    let _ = nix::unistd::write(status, &bytes);
    // SAFETY: `_exit` runs no handlers and does not return.
    unsafe { libc::_exit(127) }
}
