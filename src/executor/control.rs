//! What may be asked of a running attempt from outside.

use std::os::fd::OwnedFd;

use tokio::sync::{mpsc, oneshot};

use crate::task::Cancellation;

/// Requests that wait for an attempt at the most.
pub const QUEUE_MAX: usize = 64;

/// A request to the attempt's loop.
#[derive(Debug)]
pub enum Control {
    /// End the task: SIGTERM, after the grace period SIGKILL. A second one kills at once.
    Cancel(Cancellation),
    /// The caller's terminal has another size.
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// Another command in the same sandbox.
    Exec(Box<ExecOrder>),
    /// End a further command: its caller is gone.
    EndExec {
        /// Its number, as [`ExecOrder::taken`] told it.
        exec: u32,
    },
}

/// A further command.
#[derive(Debug)]
pub struct ExecOrder {
    /// Program and arguments.
    pub argv: Vec<Vec<u8>>,
    /// Variables on top of the task's environment.
    pub environment: Vec<(String, String)>,
    /// Working directory; `None` is the task's.
    pub workdir: Option<String>,
    /// Wall time in milliseconds; `None` means as long as the sandbox lives.
    pub timeout_ms: Option<u64>,
    /// Its standard streams.
    pub stdio: ExecStdio,
    /// Where its life is told.
    pub events: mpsc::Sender<ExecEvent>,
    /// Whether it was taken.
    pub taken: oneshot::Sender<Result<u32, &'static str>>,
}

/// The standard streams of a further command.
#[derive(Debug)]
pub enum ExecStdio {
    /// The child's ends: input, output, error.
    Pipes([OwnedFd; 3]),
    /// A terminal of the sandbox.
    Terminal {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
}

/// The life of a further command.
#[derive(Debug)]
pub enum ExecEvent {
    /// It runs; with the terminal's master side where one was asked for.
    Started(Option<OwnedFd>),
    /// It could not be started, in words.
    StartFailed {
        /// The exit status that says so: 126 or 127, else 125.
        exit_code: u8,
        /// Why.
        message: String,
    },
    /// It ended.
    Exited {
        /// As `aegis run` would say it.
        exit_code: u8,
    },
    /// It was ended: its time was up.
    TimedOut,
}

/// Returns when somebody cancels. Wishes that need a running command are refused meanwhile.
pub async fn cancelled(control: &mut mpsc::Receiver<Control>) -> Cancellation {
    loop {
        match control.recv().await {
            Some(Control::Cancel(by)) => return by,
            Some(wish) => refuse(wish),
            // Nobody is left who could.
            None => std::future::pending().await,
        }
    }
}

/// Whether somebody has cancelled already.
pub fn cancelled_already(control: &mut mpsc::Receiver<Control>) -> Option<Cancellation> {
    loop {
        match control.try_recv() {
            Ok(Control::Cancel(by)) => return Some(by),
            Ok(wish) => refuse(wish),
            Err(_) => return None,
        }
    }
}

fn refuse(wish: Control) {
    match wish {
        Control::Exec(order) => {
            let _ = order.taken.send(Err("its command has not started yet: try again"));
        }
        Control::Cancel(_) | Control::Resize { .. } | Control::EndExec { .. } => {}
    }
}
