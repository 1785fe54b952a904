//! Starting one command: what is checked and made before the fork, and the pipe that tells whether the program was
//! executed. What the child does to itself is in `child`.
//!
//! The pipe closes by itself when `execve` succeeds. Until then the child has init's memory, so it stays
//! non-dumpable, and whatever it reports comes from this code.

mod child;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{ForkResult, fork, pipe2};
use serde_bytes::ByteBuf;

use aegis_init::wire::{Exec, StartStep};

use crate::confine;
use crate::terminal::Terminal;

const PATH_DEFAULT: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const SHELL: &CStr = c"/bin/sh";
/// Most likely to be killed when memory runs out: a task dies before its init.
const OOM_SCORE_ADJ_TASK: &str = "1000";
/// Descriptors that are closed one by one where the kernel cannot close a range.
const DESCRIPTORS_MAX: RawFd = 65_536;

/// Why a command could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartFailure {
    /// What was being done.
    pub step: StartStep,
    /// Why.
    pub errno: i32,
}

/// The standard streams of a command to be.
pub enum Streams {
    /// Input, output and error.
    Pipes([OwnedFd; 3]),
    /// A terminal for all three.
    Terminal(Terminal),
}

/// A command that is ready to be forked: every string is made, so that the child allocates nothing.
pub struct Plan {
    programs: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    work_dir: CString,
    streams: Streams,
    tag: u64,
}

/// A forked command.
pub struct Launched {
    /// Its process id.
    pub pid: i32,
    /// Where the child tells a failure; it ends empty when the program was executed.
    pub status: OwnedFd,
    /// The host's side of the terminal, if there is one.
    pub master: Option<OwnedFd>,
}

/// Checks a request and makes everything that the child will need.
pub fn plan(exec: &Exec, workspace: &[u8], streams: Streams, tag: u64) -> Result<Plan, StartFailure> {
    let invalid = |_| StartFailure { step: StartStep::Request, errno: Errno::EINVAL as i32 };
    let Some(program) = exec.argv.first() else {
        return Err(StartFailure { step: StartStep::Request, errno: Errno::EINVAL as i32 });
    };
    let mut programs = Vec::new();
    for candidate in candidates(program, &exec.env) {
        programs.push(CString::new(candidate).map_err(invalid)?);
    }
    Ok(Plan {
        programs,
        argv: strings(&exec.argv).map_err(invalid)?,
        env: strings(&exec.env).map_err(invalid)?,
        work_dir: CString::new(work_dir(workspace, &exec.cwd)).map_err(invalid)?,
        streams,
        tag,
    })
}

/// Forks the command. All descriptors of the plan are closed here when this returns, but the terminal's master.
pub fn launch(plan: Plan, oom_score_adj: Option<&mut File>) -> Result<Launched, StartFailure> {
    let failed = |errno: Errno| StartFailure { step: StartStep::Fork, errno: errno as i32 };
    let (status, status_child) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(failed)?;
    let mut filter = confine::program();
    let argv = pointers(&plan.argv);
    let env = pointers(&plan.env);
    let mut shell_argv = vec![SHELL.as_ptr(), ptr::null()];
    shell_argv.extend(&argv[1..]);

    let restore = oom_score_adj.and_then(|file| offer_to_the_oom_killer(file));
    // SAFETY: init has one thread here, a second one for content was ended; the child makes system calls only, and executes or exits.
    let forked = unsafe { fork() };
    if let Ok(ForkResult::Child) = forked {
        let failure = child::become_command(&plan, &mut filter, &argv, &env, &mut shell_argv);
        child::fail(&status_child, failure)
    }
    if let Some((file, previous)) = restore {
        // Lowering it again is allowed down to the value that a capable process set; where not, init stays a candidate.
        let _ = write_from_start(file, &previous);
    }
    let ForkResult::Parent { child } = forked.map_err(failed)? else {
        return Err(failed(Errno::EINVAL));
    };
    let master = match plan.streams {
        Streams::Terminal(terminal) => Some(terminal.master),
        Streams::Pipes(_) => None,
    };
    Ok(Launched { pid: child.as_raw(), status, master })
}

/// Closes every descriptor above the standard three: what an engine may have left open is nobody's business here.
pub fn close_descriptors() {
    // SAFETY: closes numbers that nothing in this process owns; it has opened none yet.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) } == 0 {
        return;
    }
    for descriptor in 3..DESCRIPTORS_MAX {
        // SAFETY: as above.
        unsafe { libc::close(descriptor) };
    }
}

/// What the pipe said: nothing yet, a failure, or its end.
pub enum Progress {
    /// The child is still getting ready.
    Pending,
    /// The program was executed (or the child was killed before, which its exit status tells).
    Executed,
    /// It could not be started.
    Failed(StartFailure),
}

/// Reads a child's pipe without waiting. Only for a pipe that poll called ready, or whose child is dead.
pub fn progress(status: &OwnedFd) -> Progress {
    let mut bytes = [0; 8];
    match nix::unistd::read(status, &mut bytes) {
        Ok(0) => Progress::Executed,
        Ok(8) => {
            let [a, b, c, d, e, f, g, h] = bytes;
            let errno = i32::from_le_bytes([e, f, g, h]);
            Progress::Failed(StartFailure { step: step(u32::from_le_bytes([a, b, c, d])), errno })
        }
        Err(Errno::EINTR | Errno::EAGAIN) => Progress::Pending,
        Ok(_) | Err(_) => Progress::Failed(StartFailure { step: StartStep::Fork, errno: Errno::EIO as i32 }),
    }
}

fn offer_to_the_oom_killer(file: &mut File) -> Option<(&mut File, String)> {
    let mut previous = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_to_string(&mut previous).ok()?;
    write_from_start(file, OOM_SCORE_ADJ_TASK).ok()?;
    Some((file, previous))
}

fn write_from_start(file: &mut File, value: &str) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(value.trim().as_bytes())
}

fn step(number: u32) -> StartStep {
    let steps = [StartStep::Terminal, StartStep::Confine, StartStep::WorkDir, StartStep::Execute];
    steps.into_iter().find(|it| *it as u32 == number).unwrap_or(StartStep::Fork)
}

/// Where the program may be: in each directory of the `PATH` of its own environment, unless it has a slash.
fn candidates(program: &[u8], env: &[ByteBuf]) -> Vec<Vec<u8>> {
    if program.is_empty() || program.contains(&b'/') {
        return vec![program.to_vec()];
    }
    let path = env.iter().find_map(|it| it.strip_prefix(b"PATH=")).unwrap_or(PATH_DEFAULT);
    let mut candidates = Vec::new();
    for directory in path.split(|byte| *byte == b':') {
        let mut candidate = directory.to_vec();
        if !candidate.is_empty() {
            candidate.push(b'/');
        }
        candidate.extend_from_slice(program);
        candidates.push(candidate);
    }
    candidates
}

/// A relative directory starts at the workspace, without one at the root.
fn work_dir(workspace: &[u8], cwd: &[u8]) -> Vec<u8> {
    if cwd.starts_with(b"/") {
        return cwd.to_vec();
    }
    let mut path = workspace.to_vec();
    path.push(b'/');
    path.extend_from_slice(cwd);
    path
}

fn strings(all: &[ByteBuf]) -> Result<Vec<CString>, std::ffi::NulError> {
    all.iter().map(|it| CString::new(it.as_slice())).collect()
}

fn pointers(all: &[CString]) -> Vec<*const libc::c_char> {
    all.iter().map(|it| it.as_ptr()).chain([ptr::null()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(program: &str, path: Option<&str>, expected: &[&str]) {
        let env: Vec<ByteBuf> = path.iter().map(|it| ByteBuf::from(format!("PATH={it}"))).collect();
        let found = candidates(program.as_bytes(), &env);
        let found: Vec<String> = found.into_iter().map(|it| String::from_utf8(it).expect("text")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_name_is_looked_up_in_order() {
        check("make", Some("/a:/b"), &["/a/make", "/b/make"]);
    }

    #[test]
    fn a_name_with_a_slash_is_taken_as_it_is() {
        check("./make", Some("/a:/b"), &["./make"]);
    }

    #[test]
    fn an_empty_directory_is_the_working_directory() {
        check("make", Some("/a::/b"), &["/a/make", "make", "/b/make"]);
    }

    #[test]
    fn a_missing_path_is_the_usual_one() {
        let usual =
            ["/usr/local/sbin/m", "/usr/local/bin/m", "/usr/sbin/m", "/usr/bin/m", "/sbin/m", "/bin/m"];
        check("m", None, &usual);
    }

    #[test]
    fn an_empty_name_is_not_a_directory_of_the_path() {
        check("", Some("/a"), &[""]);
    }

    #[test]
    fn a_relative_working_directory_starts_at_the_workspace() {
        assert_eq!(work_dir(b"/workspace", b"sub"), b"/workspace/sub");
        assert_eq!(work_dir(b"/workspace", b""), b"/workspace/");
        assert_eq!(work_dir(b"", b""), b"/");
        assert_eq!(work_dir(b"/workspace", b"/tmp"), b"/tmp");
    }
}
