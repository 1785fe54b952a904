//! What happened to a run, as it was appended: one event for each transition, never changed.

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Grows over all runs of a database.
    pub seq: u64,
    /// When.
    pub at_ms: i64,
    /// What.
    pub kind: EventKind,
    /// More about it, a JSON object.
    pub detail: String,
}

/// What an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The run was accepted, or is to be tried again.
    Queued,
    /// An owner has it.
    Leased,
    /// Its sandbox is being made.
    Starting,
    /// Its sandbox was bound to it.
    Bound,
    /// Its command was released.
    Running,
    /// Its command ended.
    Finishing,
    /// Its outcome is recorded.
    Done,
    /// Somebody wants it ended; its worker is told.
    CancelAsked,
    /// It would have been tried again, but its tries are used up.
    GivenUp,
}

impl EventKind {
    /// Every kind, in order.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Leased,
        Self::Starting,
        Self::Bound,
        Self::Running,
        Self::Finishing,
        Self::Done,
        Self::CancelAsked,
        Self::GivenUp,
    ];

    /// The word for it in records and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Leased => "leased",
            Self::Starting => "starting",
            Self::Bound => "bound",
            Self::Running => "running",
            Self::Finishing => "finishing",
            Self::Done => "done",
            Self::CancelAsked => "cancel_asked",
            Self::GivenUp => "given_up",
        }
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}
