//! `aegis exec`: a further command in the sandbox of a run that is going on.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::owner::client::{Asked, ask};
use crate::app::owner::wire::{Ask, Tell};
use crate::cli::attached::{self, RawTerminal, Stdio};
use crate::cli::failure::Failure;
use crate::cli::run::command_bytes;
use crate::cli::{CommandResult, flags, selected};
use crate::config::Directories;
use crate::executor::meter::Meter;
use crate::executor::streams::{Pumps, pipes};
use crate::executor::{Kept, OutputTap};
use crate::record::Stream;
use crate::task::{ExitCode, RunState};

/// Run a further command in the sandbox of a running run.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The run, by the last 12 digits of its id or all of it
    #[arg(value_name = "RUN")]
    run: String,

    /// Pass standard input and its end
    #[arg(short = 'i', long)]
    interactive: bool,

    /// Give the command a terminal; the default when all three streams are one terminal
    #[arg(short = 't', long)]
    tty: bool,

    /// A variable of the command's environment; repeatable
    #[arg(short = 'e', long = "env", value_name = "K=V", value_parser = flags::variable)]
    environment: Vec<(String, String)>,

    /// Working directory inside; without it the task's
    #[arg(long, value_name = "DIR")]
    workdir: Option<String>,

    /// Wall time of the command, as 90s or 10m; without it as long as the sandbox lives
    #[arg(long, value_name = "DUR", value_parser = flags::duration)]
    timeout: Option<u64>,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command and gives its exit status.
pub fn cmd_exec(args: &ExecArgs) -> CommandResult {
    let stdio = Stdio::of(args.interactive, args.tty);
    attached::wait(exec(args, stdio))
}

async fn exec(args: &ExecArgs, stdio: Stdio) -> CommandResult {
    let directories = Directories::of_this_user().map_err(|it| Failure::of(&it))?;
    let run = selected::run(&args.run, &directories).await.map_err(not_run)?;
    if run.state == RunState::Done {
        return Err(selected::ended(&run));
    }
    let question = Ask::Exec {
        argv: command_bytes(&args.command),
        environment: args.environment.clone(),
        workdir: args.workdir.clone(),
        timeout_ms: args.timeout,
        terminal: stdio.terminal(),
    };
    // The record of the run counts what the task itself writes; what goes through here is the caller's own.
    let sinks = attached::sinks(stdio, Arc::new(Unrecorded)).map_err(Failure::from)?;
    let meter = Arc::new(Meter::new(u64::MAX));
    if stdio == Stdio::Terminal {
        let mut asked =
            ask(&directories.runtime, run.id, &question, &[]).await.map_err(|it| Failure::of(&it))?;
        let Some(master) = started(&mut asked).await? else {
            return Err(Failure::new("the sandbox gave no terminal"));
        };
        let raw = RawTerminal::enter();
        let resized = master.try_clone().map_err(|it| Failure::of(&it))?;
        let pumps = Pumps::start_terminal(master, sinks, &meter).map_err(|it| Failure::of(&it))?;
        let code = ended(&mut asked, Some(&resized)).await;
        drop(resized);
        pumps.finish().await;
        drop(raw);
        return code;
    }
    let (child, host) = pipes(sinks.stdin.is_some()).map_err(|it| Failure::of(&std::io::Error::from(it)))?;
    let descriptors = [child.stdin.as_fd(), child.stdout.as_fd(), child.stderr.as_fd()];
    let asked = ask(&directories.runtime, run.id, &question, &descriptors).await;
    drop(child);
    let mut asked = asked.map_err(|it| Failure::of(&it))?;
    started(&mut asked).await?;
    let pumps = Pumps::start(host, sinks, &meter).map_err(|it| Failure::of(&it))?;
    let code = ended(&mut asked, None).await;
    pumps.finish().await;
    code
}

/// Waits for the start; gives the terminal where one was asked for.
async fn started(asked: &mut Asked) -> Result<Option<OwnedFd>, Failure> {
    let received = asked.answer().await.map_err(|it| Failure::of(&it))?;
    match received.message {
        Tell::Started => Ok(received.descriptors.into_iter().next().filter(|it| rustix::termios::isatty(it))),
        Tell::StartFailed { exit_code, message } => {
            let code = ExitCode::of_status(exit_code);
            Err(Failure::new(message).with_exit_code(code))
        }
        Tell::Taken | Tell::Refused(_) | Tell::Exited { .. } | Tell::TimedOut => {
            Err(Failure::new("the owner of the run spoke out of turn"))
        }
    }
}

/// Waits for the end, passing resizes on; the connection's end is the sandbox's.
async fn ended(asked: &mut Asked, terminal: Option<&OwnedFd>) -> CommandResult {
    let mut resized = signal(SignalKind::window_change()).map_err(|it| Failure::of(&it))?;
    loop {
        let told = tokio::select! {
            told = asked.next() => told,
            _ = resized.recv() => {
                if let Some(terminal) = terminal {
                    attached::resize(terminal);
                }
                continue;
            }
        };
        return match told {
            Ok(received) => match received.message {
                Tell::Exited { exit_code } => Ok(ExitCode::of_status(exit_code)),
                Tell::TimedOut => Err(Failure::new("the command ran longer than its `--timeout`")
                    .with_exit_code(ExitCode::TIMED_OUT)),
                Tell::Taken | Tell::Started | Tell::Refused(_) | Tell::StartFailed { .. } => continue,
            },
            Err(_) => Err(Failure::new("the run ended, and this command with it")),
        };
    }
}

/// A status that the command itself could have is not used for a run that is not there.
fn not_run(failure: Failure) -> Failure {
    if failure.exit_code == ExitCode::FAILURE { failure.with_exit_code(ExitCode::AEGIS) } else { failure }
}

/// Keeps nothing: what goes through is the caller's own, and its owner keeps the record.
pub(super) struct Unrecorded;

impl OutputTap for Unrecorded {
    fn saw(&self, _stream: Stream, _bytes: &[u8]) {}

    fn ended(&self) -> Kept {
        Kept::Whole
    }
}
