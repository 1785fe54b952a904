//! A run whose streams are this process's own: terminal mode, signals, progress, the end.

use std::io::{IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::termios::{OptionalActions, Termios};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::app::run::{Caller, Finished, Step};
use crate::app::{AppError, RunOrder};
use crate::cli::failure::Failure;
use crate::cli::progress::Progress;
use crate::cli::run::{SandboxArgs, streams_are_one_terminal};
use crate::cli::screen::Screen;
use crate::cli::{CommandResult, ending, known, talk};
use crate::config::Directories;
use crate::executor::control::{Control, QUEUE_MAX};
use crate::executor::{OutputTap, Sinks};
use crate::task::Cancellation;

/// Rows and columns of a terminal that does not tell.
const SIZE_DEFAULT: (u16, u16) = (24, 80);

/// What happens to this process's standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// The command gets pipes and an empty standard input.
    Output,
    /// The command gets pipes and this process's standard input.
    Both,
    /// The command gets a terminal.
    Terminal,
}

impl Stdio {
    /// What the flags mean here.
    pub fn of(interactive: bool, tty: bool) -> Self {
        if tty || (!interactive && streams_are_one_terminal()) {
            return Self::Terminal;
        }
        if interactive { Self::Both } else { Self::Output }
    }

    /// The size of the command's terminal, where it gets one.
    pub fn terminal(self) -> Option<(u16, u16)> {
        match self {
            Self::Terminal => Some(size()),
            Self::Output | Self::Both => None,
        }
    }
}

/// Runs an order with this process's streams, and says how it ended.
pub fn run(args: &SandboxArgs, order: RunOrder, stdio: Stdio) -> CommandResult {
    let begun = Instant::now();
    let target = ending::Target::open(args.result.as_ref())?;
    let told = stdio != Stdio::Output || args.quiet || tell_if_input_waits();
    let runtime = runtime()?;
    let finished = runtime.block_on(attend(args, &order, stdio, begun));
    if !told {
        // A shell starts both ends of a pipe at once: what feeds it may have been slower than the look before.
        tell_if_input_waits();
    }
    // Signals and progress are over; nothing of the runtime's may hold the exit up.
    runtime.shutdown_background();
    ending::report(args, finished, target)
}

/// What a command's waiting is done on: this thread. Bytes of streams and files have threads of their own, and what is
/// left waits for one answer at a time, which is here sooner when no other thread has to be woken for it.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|it| Failure::of(&it))
}

/// Waits for a command's work on it. What is still going on then (a name that is looked up, a file that is read) is left.
pub fn wait<T, E: Into<Failure>>(work: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
    let runtime = runtime()?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done.map_err(E::into)
}

async fn attend(
    args: &SandboxArgs,
    order: &RunOrder,
    stdio: Stdio,
    begun: Instant,
) -> Result<Finished, AppError> {
    let directories = Directories::of_this_user()?;
    let (wishes, control) = mpsc::channel(QUEUE_MAX);
    let progress = Progress::new(args.quiet);
    let raw = match stdio {
        Stdio::Terminal => RawTerminal::enter(),
        Stdio::Output | Stdio::Both => None,
    };
    let told = |step: Step| progress.step(&step);
    let caller = Caller {
        sinks: Box::new(|id, directories| sinks(stdio, crate::app::logs::writer(id, directories)?)),
        control,
        wishes: wishes.clone(),
        progress: &told,
        begun,
    };
    let signals = forward_signals(wishes, stdio);
    let finished = tokio::select! {
        finished = crate::app::run::run(order, &directories, caller) => finished,
        // Never ends by itself: its wishes reach the run through the channel.
        () = signals => unreachable_signals(),
    };
    drop(raw);
    progress.clear();
    finished
}

/// The signal streams could not be made or ended: the run goes on without them only if it is not waited for here.
fn unreachable_signals() -> Result<Finished, AppError> {
    Err(AppError::Read {
        what: "the signals of",
        path: std::path::PathBuf::from("this process"),
        source: std::io::Error::other("the signal streams ended"),
    })
}

/// Turns this process's signals into wishes, until it is dropped.
pub(super) async fn forward_signals(wishes: mpsc::Sender<Control>, stdio: Stdio) {
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup), Ok(mut resize)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
        signal(SignalKind::window_change()),
    ) else {
        return;
    };
    loop {
        let wish = tokio::select! {
            _ = interrupt.recv() => Control::Cancel(Cancellation::Interrupt),
            _ = terminate.recv() => Control::Cancel(Cancellation::Terminate),
            _ = hangup.recv() => Control::Cancel(Cancellation::Terminate),
            _ = resize.recv(), if stdio == Stdio::Terminal => {
                let (rows, columns) = size();
                Control::Resize { rows, columns }
            }
        };
        // A full queue holds wishes of the same kind; a closed one means that the run is over.
        let _ = wishes.try_send(wish);
    }
}

/// This process's standard streams as the ends of a command's.
pub fn sinks(stdio: Stdio, tap: Arc<dyn OutputTap>) -> Result<Sinks, AppError> {
    let stdin = match stdio {
        Stdio::Output => None,
        Stdio::Both | Stdio::Terminal => Some(duplicate(rustix::stdio::stdin())?),
    };
    // On a terminal that is not the task's own, its escape sequences are shown, not obeyed.
    let stdout = screened(rustix::stdio::stdout(), stdio, std::io::stdout().is_terminal())?;
    let stderr = screened(rustix::stdio::stderr(), stdio, std::io::stderr().is_terminal())?;
    Ok(Sinks { stdout, stderr, stdin, tap, redactor: known::redactor(), ..Sinks::nowhere() })
}

fn screened(
    stream: std::os::fd::BorrowedFd<'_>,
    stdio: Stdio,
    is_terminal: bool,
) -> Result<Box<dyn Write + Send>, AppError> {
    let file = std::fs::File::from(duplicate(stream)?);
    if is_terminal && stdio != Stdio::Terminal { Ok(Box::new(Screen::new(file))) } else { Ok(Box::new(file)) }
}

fn duplicate(stream: std::os::fd::BorrowedFd<'_>) -> Result<OwnedFd, AppError> {
    stream.try_clone_to_owned().map_err(|source| AppError::Read {
        what: "the standard streams of",
        path: std::path::PathBuf::from("this process"),
        source,
    })
}

/// Says so when there is input that the command does not get.
pub(super) fn tell_if_input_waits() -> bool {
    let waits = input_waits();
    if waits {
        talk::hint("standard input is not passed on: give `-i` to pass it");
    }
    waits
}

/// Whether something other than a terminal or nothing waits on standard input.
fn input_waits() -> bool {
    let Ok(stat) = rustix::fs::fstat(rustix::stdio::stdin()) else {
        return false;
    };
    match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::Fifo | rustix::fs::FileType::Socket => {
            let stdin = rustix::stdio::stdin();
            let mut polled = [rustix::event::PollFd::from_borrowed_fd(stdin, rustix::event::PollFlags::IN)];
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|it| it > 0)
                && polled[0].revents().contains(rustix::event::PollFlags::IN)
        }
        rustix::fs::FileType::RegularFile => stat.st_size > 0,
        _ => false,
    }
}

/// Gives a command's terminal the size of this process's.
pub fn resize(terminal: &OwnedFd) {
    let (rows, columns) = size();
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // A terminal that is gone has no size.
    let _ = rustix::termios::tcsetwinsize(terminal, size);
}

fn size() -> (u16, u16) {
    match rustix::termios::tcgetwinsize(rustix::stdio::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row, size.ws_col),
        Ok(_) | Err(_) => SIZE_DEFAULT,
    }
}

/// This process's terminal in raw mode; dropped, it is as it was.
#[derive(Debug)]
pub struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Nothing where standard input is no terminal.
    pub fn enter() -> Option<Self> {
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone has no mode.
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}
