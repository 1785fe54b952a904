//! Where a run stands, and which steps it may take.

/// The state of a run. Data of a state lives with the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunState {
    /// Accepted, on disk.
    Queued,
    /// Claimed by an owner.
    Leased,
    /// Its sandbox is being made and attested.
    Starting,
    /// Its command was released.
    Running,
    /// Its command ended; outputs are collected.
    Finishing,
    /// It has its outcome.
    Done,
}

impl RunState {
    /// Every state, in order.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Leased, Self::Starting, Self::Running, Self::Finishing, Self::Done];

    /// The word for it in records and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Leased => "leased",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Finishing => "finishing",
            Self::Done => "done",
        }
    }

    /// The state with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// Whether a run may go from here to `next` in one step. Every state may end.
    pub fn can_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Done, _) => false,
            (_, Self::Done) => true,
            (Self::Queued, Self::Leased)
            | (Self::Leased, Self::Starting)
            | (Self::Starting, Self::Running)
            | (Self::Running, Self::Finishing) => true,
            (Self::Leased | Self::Starting | Self::Running | Self::Finishing, Self::Queued) => true,
            (Self::Queued | Self::Leased | Self::Starting | Self::Running | Self::Finishing, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_but_done_may_end_and_done_never_changes() {
        for state in RunState::ALL {
            assert_eq!(state.can_become(RunState::Done), state != RunState::Done);
            assert!(!RunState::Done.can_become(state));
        }
    }

    #[test]
    fn every_name_is_read_back() {
        for state in RunState::ALL {
            assert_eq!(RunState::from_name(state.name()), Some(state));
        }
    }
}
