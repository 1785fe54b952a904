//! The other side of the door.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;

use crate::app::owner::socket_path;
use crate::app::owner::wire::{Ask, Tell};
use crate::sandbox::channel::{self, ChannelError, Received, Receiver, Sender};
use crate::task::RunId;

/// Time that an owner may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// Why nobody could be asked.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// No process of this user on this host runs it.
    #[error("nobody owns run {} here: it has ended, or another user's or host's process runs it", run.short())]
    NoOwner {
        /// The run.
        run: RunId,
    },
    /// The owner said no.
    #[error("run {} does not take this: {reason}", run.short())]
    Refused {
        /// The run.
        run: RunId,
        /// Why.
        reason: String,
    },
    /// The connection failed.
    #[error("the process that owns run {} does not answer", run.short())]
    Channel {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: ChannelError,
    },
}

/// A question that was asked.
#[derive(Debug)]
pub struct Asked {
    run: RunId,
    receiver: Receiver<Tell>,
    // Held open: the owner takes its end for ours.
    _sender: Sender<Ask>,
}

/// Asks the owner of a run.
pub async fn ask(
    runtime_directory: &Path,
    run: RunId,
    question: &Ask,
    descriptors: &[BorrowedFd<'_>],
) -> Result<Asked, DoorError> {
    let socket = UnixStream::connect(socket_path(runtime_directory, run)).await;
    let socket = socket.map_err(|_| DoorError::NoOwner { run })?;
    let (sender, receiver) = channel::halves(socket);
    sender.send(question, descriptors).await.map_err(|source| DoorError::Channel { run, source })?;
    Ok(Asked { run, receiver, _sender: sender })
}

impl Asked {
    /// The first answer, within a bounded time.
    pub async fn answer(&mut self) -> Result<Received<Tell>, DoorError> {
        let run = self.run;
        let stuck =
            |_| DoorError::Channel { run, source: ChannelError::NobodyCame { waited: ANSWER_TIME_MAX } };
        tokio::time::timeout(ANSWER_TIME_MAX, self.next()).await.map_err(stuck)?
    }

    /// The next answer, however long it takes: a command runs until it ends.
    pub async fn next(&mut self) -> Result<Received<Tell>, DoorError> {
        let received = self.receiver.receive().await;
        let received = received.map_err(|source| DoorError::Channel { run: self.run, source })?;
        match received.message {
            Tell::Refused(reason) => Err(DoorError::Refused { run: self.run, reason }),
            Tell::Taken | Tell::Started | Tell::StartFailed { .. } | Tell::Exited { .. } | Tell::TimedOut => {
                Ok(received)
            }
        }
    }

    /// Returns when the run has ended: its owner closes the connection then.
    pub async fn wait(mut self) {
        while self.receiver.receive().await.is_ok() {}
    }
}
