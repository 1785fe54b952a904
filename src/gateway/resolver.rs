//! The resolver that the task sees, on 127.0.0.1:53. An allowed name has one A record, a loopback address of its own, and
//! nothing else; no other name exists but the sandbox's own. No query leaves the host for the task's asking: a name is resolved when it is
//! connected to.

pub mod message;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use crate::gateway::resolver::message::{Answer, Asked};
use crate::gateway::run::Run;
use crate::gateway::sockets::SocketError;
use crate::policy::network::Name;
use crate::record::egress::Reason;
use crate::sandbox::container_spec::HOSTNAME;

/// Where it answers.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// At this port.
pub const PORT: u16 = 53;

/// Queries that are worked on at once; further ones wait in the socket, or are dropped there.
const QUERIES_MAX: usize = 64;
/// Connections at once.
const CONNECTIONS_MAX: usize = 16;
/// A connection that says nothing is closed after this.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of a query: one question with room for options.
const QUERY_BYTES_MAX: usize = 1232;

/// Takes queries by datagram until the run is over.
pub async fn datagrams(run: Arc<Run>, socket: UdpSocket) {
    let (socket, places) = (Arc::new(socket), Arc::new(Semaphore::new(QUERIES_MAX)));
    let mut buffer = vec![0; QUERY_BYTES_MAX + 1];
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = run.closing.cancelled() => return,
        };
        // An error here belongs to an answer that somebody did not wait for.
        let Ok((length, from)) = received else { continue };
        let (query, socket, asking) = (buffer[..length].to_vec(), socket.clone(), run.clone());
        run.tasks.spawn(async move {
            if let Some(answer) = answer(&asking, &query).await {
                send(&socket, &answer, from).await;
            }
            drop(place);
        });
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    // Who asked and is gone needs no answer.
    let _ = tokio::time::timeout(IDLE_TIME_MAX, socket.send_to(answer, to)).await;
}

/// Takes connections until the run is over.
pub async fn connections(run: Arc<Run>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = run.closing.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        let asking = run.clone();
        run.tasks.spawn(async move {
            tokio::select! {
                _ = converse(&asking, stream) => {}
                () = asking.closing.cancelled() => {}
            }
            drop(place);
        });
    }
}

/// Queries of one connection, each behind its length. `None` at its end.
async fn converse(run: &Arc<Run>, mut stream: TcpStream) -> Option<()> {
    loop {
        let read = async {
            let length = usize::from(stream.read_u16().await.ok()?);
            if length > QUERY_BYTES_MAX {
                return None;
            }
            let mut query = vec![0; length];
            stream.read_exact(&mut query).await.ok()?;
            Some(query)
        };
        let query = tokio::time::timeout(IDLE_TIME_MAX, read).await.ok()??;
        let answer = answer(run, &query).await?;
        let mut framed = u16::try_from(answer.len()).ok()?.to_be_bytes().to_vec();
        framed.extend(answer);
        tokio::time::timeout(IDLE_TIME_MAX, stream.write_all(&framed)).await.ok()?.ok()?;
    }
}

/// The answer to a query; `None` to what is none.
async fn answer(run: &Arc<Run>, query: &[u8]) -> Option<Vec<u8>> {
    if query.len() > QUERY_BYTES_MAX {
        return None;
    }
    let asked = message::read(query)?;
    let answer = match &asked {
        Asked::Refused { answer, .. } => *answer,
        Asked::Question(question) => match Name::from_labels(question.labels()) {
            Ok(name) => resolve(run, &name, question.is_for_address()).await,
            // What is no host's name is asked by programs, not for hosts.
            Err(_) => Answer::NoSuchName,
        },
    };
    message::write(&asked, answer)
}

async fn resolve(run: &Arc<Run>, name: &Name, for_address: bool) -> Answer {
    let ports = run.network.ports(name);
    if ports.is_empty() {
        if name.as_str() == HOSTNAME {
            return if for_address { Answer::Address(Ipv4Addr::LOCALHOST) } else { Answer::Nothing };
        }
        // Names of addresses are asked for to be shown, not to be reached.
        if !name.as_str().ends_with(".arpa") {
            run.refuse_name(name, Reason::Name).await;
        }
        return Answer::NoSuchName;
    }
    if !for_address {
        return Answer::Nothing;
    }
    let Ok(known) = run.names.take(name, ports.len(), &run.network) else {
        run.refuse_name(name, Reason::Bound).await;
        return Answer::Failed;
    };
    let listening = known.listening.get_or_try_init(|| listen(run, name, known.address, &ports)).await;
    match listening {
        Ok(_) => Answer::Address(known.address),
        Err(_) => Answer::Failed,
    }
}

/// Opens a name's sockets, all of them before it is answered for.
async fn listen(run: &Arc<Run>, name: &Name, address: Ipv4Addr, ports: &[u16]) -> Result<(), SocketError> {
    let mut listeners = Vec::with_capacity(ports.len());
    for port in ports {
        listeners.push((*port, run.sockets.connections(address, *port).await?));
    }
    for (port, listener) in listeners {
        run.take_connections(listener, name.clone(), port);
    }
    Ok(())
}
