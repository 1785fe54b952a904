//! Why a proven sandbox did not come to run its command, and errors as one line of words.

use crate::executor::egress::EgressError;
use crate::record::RecordError;
use crate::sandbox::channel::ChannelError;
use crate::task::Outcome;
use crate::task::causes::told;
use crate::task::outcome::StartFailure;

/// What came between a proven sandbox and the command's start.
pub(super) enum Unreleased {
    /// This is the run's outcome.
    Outcome(Outcome),
    /// Init is gone.
    Lost(ChannelError),
    /// The books could not be kept.
    Books(RecordError),
}

impl From<ChannelError> for Unreleased {
    fn from(error: ChannelError) -> Self {
        Self::Lost(error)
    }
}

impl From<RecordError> for Unreleased {
    fn from(error: RecordError) -> Self {
        Self::Books(error)
    }
}

impl From<EgressError> for Unreleased {
    fn from(error: EgressError) -> Self {
        match error {
            EgressError::Channel(error) => Self::Lost(error),
            EgressError::Gone | EgressError::Late | EgressError::Unasked => infrastructure(told(&error)),
        }
    }
}

/// Init said what nobody asked for.
pub(super) fn unexpected() -> ChannelError {
    ChannelError::Frame(aegis_init::frame::FrameError::Payload)
}

/// The start failed on this side.
pub(super) fn infrastructure(message: String) -> Unreleased {
    Unreleased::Outcome(Outcome::StartFailed { reason: StartFailure::Infrastructure { message } })
}

/// A stream could not be made.
pub(super) fn io_failed(error: &std::io::Error) -> Unreleased {
    infrastructure(format!("the streams could not be made: {error}"))
}
