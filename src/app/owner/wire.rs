//! Messages at the owner's door. Both ends are this program, of one version: the frame's bounds hold all the same.

use serde::{Deserialize, Serialize};

/// What a client asks; one question a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Run a further command. Without `terminal` three descriptors travel with it: input, output, error.
    Exec {
        /// Program and arguments.
        argv: Vec<Vec<u8>>,
        /// Variables on top of the task's environment.
        environment: Vec<(String, String)>,
        /// Working directory.
        workdir: Option<String>,
        /// Wall time, milliseconds.
        timeout_ms: Option<u64>,
        /// Rows and columns of a terminal.
        terminal: Option<(u16, u16)>,
    },
    /// End the task.
    Cancel,
    /// Wait until the run has its outcome: the connection closes then.
    Wait,
}

/// What the owner tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tell {
    /// It was understood.
    Taken,
    /// It was not, and why.
    Refused(String),
    /// The command runs; the terminal's master side travels with it where one was asked for.
    Started,
    /// The command could not be started.
    StartFailed {
        /// 126 or 127, else 125.
        exit_code: u8,
        /// Why.
        message: String,
    },
    /// The command ended.
    Exited {
        /// As `aegis run` would say it.
        exit_code: u8,
    },
    /// The command was ended: its time was up.
    TimedOut,
}
