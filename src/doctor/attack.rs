//! `aegis doctor --attack`: what is tried against a sandbox, what the answers come to, and which walls a refused sandbox
//! lacks. Making the sandboxes and watching from outside is `app::attack`'s; everything here is pure.

pub mod calls;
pub mod json;
pub mod probes;
pub mod settle;
pub mod text;
pub mod wall;

pub use probes::{PROBES, Probe};
pub use settle::{Evidence, StageEnd, settle};
pub use wall::WallDown;

/// The sandboxes of an attack, in order; the first two are up together. Each is a run under `strict`, with its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Whatever takes nothing but an attempt.
    Look,
    /// Beside it at the same time: what one sandbox sees of another.
    Beside,
    /// Disk, inodes, descriptors and processes without end; and what the stage before left behind.
    Limits,
    /// A task that ignores signals and takes every CPU.
    Clock,
    /// A task that takes memory without end.
    Memory,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 5] = [Self::Look, Self::Beside, Self::Limits, Self::Clock, Self::Memory];

    /// Its name, and that of its program without the suffix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Beside => "beside",
            Self::Limits => "limits",
            Self::Clock => "clock",
            Self::Memory => "memory",
        }
    }

    /// Its program, in Python; it runs in a directory with `parameters.json`.
    pub fn program(self) -> String {
        let stage = match self {
            Self::Look => include_str!("attack/look.py"),
            Self::Beside => include_str!("attack/beside.py"),
            Self::Limits => include_str!("attack/limits.py"),
            Self::Clock => include_str!("attack/clock.py"),
            Self::Memory => include_str!("attack/memory.py"),
        };
        format!("{}\n{stage}", include_str!("attack/prelude.py"))
    }
}

/// What came of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was tried and did not get through; what stopped it.
    Stopped(String),
    /// It got through; what was had.
    Breach(String),
    /// It could not be tried, which is no pass; why.
    NotTried(String),
}

impl Answer {
    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stopped(_) => "stopped",
            Self::Breach(_) => "breach",
            Self::NotTried(_) => "not_tried",
        }
    }

    /// What was seen.
    pub fn detail(&self) -> &str {
        match self {
            Self::Stopped(detail) | Self::Breach(detail) | Self::NotTried(detail) => detail,
        }
    }
}

/// One probe and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// What was tried.
    pub probe: &'static Probe,
    /// What came of it.
    pub answer: Answer,
}

/// A whole attack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assault {
    /// The image that the probes ran in.
    pub image: String,
    /// Every probe, in the order of the table.
    pub tried: Vec<Tried>,
    /// Walls that a refused sandbox lacked. Nothing was released into it.
    pub walls_down: Vec<WallDown>,
    /// The runs, by their short ids.
    pub runs: Vec<String>,
    /// How long it took, milliseconds.
    pub elapsed_ms: u64,
}

impl Assault {
    /// Whether every probe was tried and stopped.
    pub fn held(&self) -> bool {
        self.walls_down.is_empty() && self.tried.iter().all(|it| matches!(it.answer, Answer::Stopped(_)))
    }

    /// How many probes have this word for an answer.
    pub fn count(&self, word: &str) -> usize {
        self.tried.iter().filter(|it| it.answer.name() == word).count()
    }
}
