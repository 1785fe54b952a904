//! Joins the connections whose requests are read to the rest of a run's gateway: how they reach hosts, whom they believe,
//! and where they put things on record.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use crate::gateway::authority::{Authority, AuthorityError};
use crate::gateway::connection::undialled;
use crate::gateway::dial::Dial;
use crate::gateway::inspect::{self, Inspection, Ledger, NotDialled, Trust};
use crate::gateway::roots::Roots;
use crate::gateway::wire::{self, Begin, Tell};
use crate::policy::network::{Name, Network};
use crate::record::egress::Verdict;

/// The way of an inspected request to its host: the same as every other's.
#[derive(Clone)]
pub struct Way {
    network: Arc<Network>,
    dial: Arc<Dial>,
}

/// Why requests cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadingError {
    /// What was sent is not what an owner sends.
    #[error("the gateway was told credentials that are none")]
    Untold,
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The TLS library.
    #[error("the gateway cannot verify hosts")]
    Tls(#[from] rustls::Error),
}

impl inspect::Dial for Way {
    type Stream = TcpStream;

    async fn dial(&self, name: &Name, port: u16) -> Result<(TcpStream, Option<IpAddr>), NotDialled> {
        let private = self.network.connection(name, port).is_some_and(|it| it.private);
        match self.dial.dial(name, port, private).await {
            Ok(dialled) => Ok((dialled.stream, dialled.address)),
            Err(error) => Err(match undialled(&error, &mut None) {
                Verdict::Denied(why) => NotDialled::Denied(why),
                Verdict::Failed(why) => NotDialled::Failed(why),
                Verdict::Allowed => NotDialled::Failed(crate::record::egress::Failure::Connection),
            }),
        }
    }
}

/// What the connections of a run share whose requests are read.
pub fn inspection(
    begin: &Begin,
    network: Arc<Network>,
    dial: Arc<Dial>,
    handshakes: Arc<Semaphore>,
    ledger: Ledger,
) -> Result<Inspection<Way>, ReadingError> {
    let authority = begin.inspect.authority().as_ref().map(Authority::take_over).transpose()?;
    let roots = Roots::of(begin.roots.iter().map(|it| it.as_slice()));
    Ok(Inspection {
        rules: network.clone(),
        authority,
        vault: begin.inspect.vault().ok_or(ReadingError::Untold)?,
        trust: Trust::new(roots.store())?,
        dial: Arc::new(Way { network, dial }),
        handshakes,
        ledger,
    })
}

/// A ledger that never blocks: an entry for which the owner has no room yet waits in a task of its own, of which there are
/// as many as requests at the most.
pub fn ledger(tells: mpsc::Sender<Tell>, tasks: TaskTracker) -> Ledger {
    Arc::new(move |entry| {
        let tell = Tell::Entry(Box::new(wire::Entry::of(&entry)));
        if let Err(TrySendError::Full(tell)) = tells.try_send(tell) {
            let tells = tells.clone();
            tasks.spawn(async move {
                // An owner that is gone takes this process along.
                let _ = tells.send(tell).await;
            });
        }
    })
}
