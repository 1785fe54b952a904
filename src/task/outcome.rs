//! How a run ends. Exactly one of these is recorded for every run.

use std::fmt;

/// The end of a run, typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The command ended by itself with this code, 0 to 255.
    Exited(u8),
    /// A signal that the task itself raised (or another of its processes) ended the command.
    Signaled(u8),
    /// A clock ran out.
    TimedOut(TimeLimit),
    /// The kernel killed for memory.
    OutOfMemory,
    /// The task wrote more than its output limit.
    OutputLimit,
    /// A writable mount was full, or a file too large.
    DiskLimit(DiskLimit),
    /// Somebody ended it.
    Cancelled(Cancellation),
    /// The sandbox or the request is not what policy demands. Nothing of the task ran.
    Refused {
        /// What differs and who could allow it, one per line.
        differences: Vec<String>,
    },
    /// The command could not be started. Nothing of the task ran.
    StartFailed {
        /// Why.
        reason: StartFailure,
    },
    /// The sandbox or its engine went away under the task.
    Lost {
        /// Why.
        reason: LostReason,
    },
}

/// Which clock ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeLimit {
    /// Wall time since release.
    Wall,
}

/// Which disk limit was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskLimit {
    /// This writable mount was seen full.
    Full {
        /// Mount point inside the sandbox.
        mount: String,
    },
    /// A file passed `RLIMIT_FSIZE`.
    FileSize,
    /// The workspace on disk was seen above its size or its number of files; how far above says what the watchdog missed.
    Size {
        /// What lay there when it was seen.
        bytes: u64,
        /// Files, directories and links.
        entries: u64,
    },
    /// The disk of the host ran out.
    HostSpace {
        /// What it had left.
        left_bytes: u64,
    },
}

/// Who ended a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancellation {
    /// SIGINT to `aegis run`.
    Interrupt,
    /// SIGTERM or SIGHUP to `aegis run`.
    Terminate,
    /// `aegis cancel`.
    Command,
    /// It had not been started when its deadline passed.
    Deadline,
    /// A run that it waited for did not end as it had to.
    Dependency,
    /// The client that was attached to it went away.
    Client,
}

/// Why a command could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartFailure {
    /// The image lacks the program (exit status 127).
    NotFound {
        /// The program.
        program: String,
    },
    /// The program is there and cannot be executed (exit status 126).
    NotExecutable {
        /// The program.
        program: String,
        /// The kernel's word for it.
        cause: String,
    },
    /// Aegis or the engine could not make the sandbox (exit status 125).
    Infrastructure {
        /// What failed, and what to do.
        message: String,
    },
}

/// Why a sandbox was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LostReason {
    /// Init ended while the engine and the owner lived.
    InitDied,
    /// The engine stopped answering, or killed the container on its return.
    Engine {
        /// What was seen.
        message: String,
    },
    /// The owner was gone when the record was found.
    Owner,
}

impl Outcome {
    /// The word for it in records and JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Exited(_) => "exited",
            Self::Signaled(_) => "signaled",
            Self::TimedOut(_) => "timed_out",
            Self::OutOfMemory => "out_of_memory",
            Self::OutputLimit => "output_limit",
            Self::DiskLimit(_) => "disk_limit",
            Self::Cancelled(_) => "cancelled",
            Self::Refused { .. } => "refused",
            Self::StartFailed { .. } => "start_failed",
            Self::Lost { .. } => "lost",
        }
    }
}

impl Outcome {
    /// Edits every text in it that is not Aegis's own.
    pub fn edit_texts(&mut self, mut edit: impl FnMut(&mut String)) {
        match self {
            Self::Refused { differences } => differences.iter_mut().for_each(edit),
            Self::StartFailed { reason: StartFailure::NotFound { program } } => edit(program),
            Self::StartFailed { reason: StartFailure::NotExecutable { program, cause } } => {
                edit(program);
                edit(cause);
            }
            Self::StartFailed { reason: StartFailure::Infrastructure { message } }
            | Self::Lost { reason: LostReason::Engine { message } }
            | Self::DiskLimit(DiskLimit::Full { mount: message }) => edit(message),
            Self::Exited(_)
            | Self::Signaled(_)
            | Self::TimedOut(_)
            | Self::OutOfMemory
            | Self::OutputLimit
            | Self::DiskLimit(DiskLimit::FileSize | DiskLimit::Size { .. } | DiskLimit::HostSpace { .. })
            | Self::Cancelled(_)
            | Self::Lost { reason: LostReason::InitDied | LostReason::Owner } => {}
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(out, "exited({code})"),
            Self::Signaled(signal) => write!(out, "signaled({signal})"),
            Self::TimedOut(TimeLimit::Wall) => write!(out, "timed_out(wall)"),
            Self::OutOfMemory => write!(out, "out_of_memory"),
            Self::OutputLimit => write!(out, "output_limit"),
            Self::DiskLimit(DiskLimit::Full { mount }) => write!(out, "disk_limit({mount})"),
            Self::DiskLimit(DiskLimit::FileSize) => write!(out, "disk_limit(file_size)"),
            Self::DiskLimit(DiskLimit::Size { .. }) => write!(out, "disk_limit(size)"),
            Self::DiskLimit(DiskLimit::HostSpace { .. }) => write!(out, "disk_limit(host_space)"),
            Self::Cancelled(by) => write!(out, "cancelled({by})"),
            Self::Refused { .. } => write!(out, "refused"),
            Self::StartFailed { reason } => write!(out, "start_failed({})", reason.name()),
            Self::Lost { reason } => write!(out, "lost({})", reason.name()),
        }
    }
}

impl Cancellation {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Interrupt, Self::Terminate, Self::Command, Self::Deadline, Self::Dependency, Self::Client];

    /// The word for it in records and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupt",
            Self::Terminate => "terminate",
            Self::Command => "command",
            Self::Deadline => "deadline",
            Self::Dependency => "dependency",
            Self::Client => "client",
        }
    }

    /// The one with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.word() == word)
    }
}

impl fmt::Display for Cancellation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

impl StartFailure {
    /// The word for it in records and JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::NotExecutable { .. } => "not_executable",
            Self::Infrastructure { .. } => "infrastructure",
        }
    }
}

impl LostReason {
    /// The word for it in records and JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::InitDied => "init_died",
            Self::Engine { .. } => "engine",
            Self::Owner => "owner",
        }
    }
}
