//! The owner's part in a way out: it passes sockets from init to the gateway, and what the gateway says into the ledger. It
//! never looks at what goes through them.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use aegis_init::wire::{Listen, Reply, Request};

use crate::executor::ledger::Ledger;
use crate::gateway::link::{Heard, Link, is_as_asked};
use crate::record::egress::Counts;
use crate::record::{RecordError, now_ms};
use crate::sandbox::channel::{ChannelError, Received, Receiver, Sender};

/// Time that the resolver may take to answer.
const READY_TIME_MAX: Duration = Duration::from_secs(20);
/// `EPROTO`: what came is not what was asked for.
const EPROTO: i32 = 71;

/// A run's way out, from the owner's side.
pub struct Egress<'a> {
    link: Link,
    ledger: Ledger<'a>,
    /// Asked of init and not answered yet.
    awaited: BTreeMap<u32, Listen>,
}

impl fmt::Debug for Egress<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Egress").field("awaited", &self.awaited).finish_non_exhaustive()
    }
}

/// What is to be done about a way out.
#[derive(Debug)]
pub enum Due {
    /// The gateway said something.
    Heard(Heard),
    /// Entries have waited long enough.
    Write,
}

/// Why there is no way out.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// Init is gone.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The gateway ended before it began.
    #[error("the gateway ended before its resolver answered")]
    Gone,
    /// It did not begin in time.
    #[error("the gateway's resolver did not answer within {} s", READY_TIME_MAX.as_secs())]
    Late,
    /// Init sent something else.
    #[error("init sent what nobody asked for")]
    Unasked,
}

impl<'a> Egress<'a> {
    /// The way out of a run, over a gateway that was started.
    pub fn new(link: Link, ledger: Ledger<'a>) -> Self {
        Self { link, ledger, awaited: BTreeMap::new() }
    }

    /// Opens the resolver of a sandbox whose command does not run yet.
    pub async fn open(&mut self, sender: &Sender, receiver: &mut Receiver) -> Result<(), EgressError> {
        let opened = async {
            self.link.open().await;
            loop {
                let heard = tokio::select! {
                    received = receiver.receive() => {
                        if !self.answered(received?).await {
                            return Err(EgressError::Unasked);
                        }
                        continue;
                    }
                    heard = self.link.hear() => heard,
                };
                match heard {
                    Heard::Ready => return Ok(()),
                    Heard::Gone | Heard::Over { .. } => return Err(EgressError::Gone),
                    Heard::Listen(_) | Heard::Entry(_) => self.hear(heard, sender).await?,
                }
            }
        };
        tokio::time::timeout(READY_TIME_MAX, opened).await.unwrap_or(Err(EgressError::Late))
    }

    /// What is to be done next. May be cancelled at any time.
    pub async fn due(&mut self) -> Due {
        tokio::select! {
            heard = self.link.hear() => Due::Heard(heard),
            () = self.ledger.due() => Due::Write,
        }
    }

    /// Does it. `Err` means that init is gone.
    pub async fn attend(&mut self, due: Due, sender: &Sender) -> Result<(), ChannelError> {
        match due {
            Due::Heard(heard) => self.hear(heard, sender).await,
            Due::Write => {
                // What cannot be written now is told by the books when the run ends.
                if let Err(error) = self.ledger.write().await {
                    tracing::warn!(%error, "entries of the ledger could not be written");
                }
                Ok(())
            }
        }
    }

    /// Takes what init answered to a request for a socket. False if it is no such answer.
    pub async fn answered(&mut self, received: Received) -> bool {
        let Reply::Listening { id, errno } = received.message else {
            return false;
        };
        let Some(asked) = self.awaited.remove(&id) else {
            return false;
        };
        let socket = received.descriptors.into_iter().next().filter(|it: &OwnedFd| is_as_asked(it, &asked));
        let socket = socket.as_ref().map(AsFd::as_fd);
        self.link.listening(id, socket.ok_or(if errno == 0 { EPROTO } else { errno })).await;
        true
    }

    /// Whether init has still to answer.
    pub fn is_awaiting(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Ends the gateway and completes the ledger.
    pub async fn finish(self) -> Result<Counts, RecordError> {
        let Self { link, mut ledger, .. } = self;
        let refused_again = link.end(|entry| ledger.take(entry)).await;
        ledger.close(refused_again).await
    }

    async fn hear(&mut self, heard: Heard, sender: &Sender) -> Result<(), ChannelError> {
        match heard {
            Heard::Listen(listen) => {
                self.awaited.insert(listen.id, listen);
                sender.send(&Request::Listen(listen), &[]).await?;
            }
            Heard::Entry(entry) => self.ledger.take(*entry),
            Heard::Gone => self.ledger.take_loss(now_ms()),
            Heard::Ready | Heard::Over { .. } => {}
        }
        Ok(())
    }
}
