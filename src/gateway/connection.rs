//! One connection of the task: the rule, the client's first message, the host, the relay, the entry.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::gateway::dial::{DialError, Dialled};
use crate::gateway::hello::{Hello, HelloReader};
use crate::gateway::inspect::{self, At};
use crate::gateway::lookup::LookupError;
use crate::gateway::relay::{self, Traffic};
use crate::gateway::run::{self, Run};
use crate::policy::network::port::HTTP;
use crate::policy::network::{Connection, Name, Transport};
use crate::record::egress::{Failure, Reason, Verdict};

/// Time that a client may take to say whom it wants.
const HELLO_TIME_MAX: Duration = Duration::from_secs(10);
/// A connection on which nothing moves is ended after this.
const IDLE_TIME_MAX: Duration = Duration::from_secs(15 * 60);
/// Bytes that are read at once of a first message.
const PIECE_BYTES: usize = 4 * 1024;

/// Serves a connection to its end, and puts it on record.
pub async fn serve(run: &Arc<Run>, task: TcpStream, name: &Name, port: u16) {
    let Some(connection) = run.network.connection(name, port) else {
        return reset(&task);
    };
    if connection.transport == Transport::Inspected {
        return read_requests(run, task, name, port).await;
    }
    let traffic = Traffic::begin();
    let mut entry = run::entry(name, Some(port), Verdict::Allowed);
    entry.rule = Some(connection.rule.clone());
    let mut address = None;
    let passed = tokio::select! {
        passed = pass(run, &task, name, port, &connection, &traffic, &mut address) => passed,
        () = run.closing.cancelled() => Ok(()),
    };
    if let Err(verdict) = passed {
        entry.verdict = verdict;
        reset(&task);
    }
    entry.address = address;
    (entry.bytes_up, entry.bytes_down) = traffic.bytes();
    entry.duration_ms = u64::try_from(traffic.duration().as_millis()).unwrap_or(u64::MAX);
    run.record(entry).await;
}

/// Serves a connection whose requests are read: each of them is on record by itself.
async fn read_requests(run: &Arc<Run>, task: TcpStream, name: &Name, port: u16) {
    let _ = task.set_nodelay(true);
    let at = At { name: name.clone(), port, tls: port != HTTP };
    tokio::select! {
        () = inspect::serve(task, at, run.inspection.clone()) => {}
        () = run.closing.cancelled() => {}
    }
}

/// Ends a connection so that the client sees a refusal and not an end.
pub fn reset(task: &TcpStream) {
    // A socket that takes no option is gone already.
    let _ = task.set_zero_linger();
}

async fn pass(
    run: &Arc<Run>,
    task: &TcpStream,
    name: &Name,
    port: u16,
    connection: &Connection,
    traffic: &Traffic,
    address: &mut Option<IpAddr>,
) -> Result<(), Verdict> {
    let _ = task.set_nodelay(true);
    let handshake = run.handshakes.acquire().await.map_err(|_| Verdict::Failed(Failure::Gateway))?;
    let first = match connection.transport {
        Transport::PassThrough => match greeting(task, name).await? {
            Some(first) => first,
            // Browsers connect ahead and may come to want nothing.
            None => return Ok(()),
        },
        Transport::Opaque => Vec::new(),
        Transport::Inspected => return Err(Verdict::Failed(Failure::Gateway)),
    };
    let Dialled { stream, address: reached } =
        run.dial.dial(name, port, connection.private).await.map_err(|it| undialled(&it, address))?;
    *address = reached;
    drop(handshake);
    send(&stream, &first).await.map_err(|_| Verdict::Failed(Failure::Broken))?;
    traffic.sent_before(first.len());
    let relayed = relay::relay(task, &stream, traffic, IDLE_TIME_MAX).await;
    match relayed {
        Ok(()) => Ok(()),
        // Many a client breaks off where it has what it wanted.
        Err(_) if traffic.bytes().1 > 0 => {
            reset(&stream);
            reset(task);
            Ok(())
        }
        Err(error) => {
            reset(&stream);
            let why = if error.kind() == ErrorKind::TimedOut { Failure::Timeout } else { Failure::Broken };
            Err(Verdict::Failed(why))
        }
    }
}

/// Reads a TLS client's first message and holds it to the name that was reached. Gives the bytes, to be passed on; `None`
/// from a client that left without a word.
async fn greeting(task: &TcpStream, name: &Name) -> Result<Option<Vec<u8>>, Verdict> {
    let read = async {
        let (mut reader, mut seen) = (HelloReader::new(), Vec::new());
        let mut piece = [0; PIECE_BYTES];
        loop {
            task.readable().await.map_err(|_| Verdict::Failed(Failure::Broken))?;
            let count = match task.try_read(&mut piece) {
                Ok(0) if seen.is_empty() => return Ok(None),
                Ok(0) => return Err(Verdict::Failed(Failure::Broken)),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(_) => return Err(Verdict::Failed(Failure::Broken)),
            };
            seen.extend_from_slice(&piece[..count]);
            match reader.feed(&piece[..count]) {
                Hello::More => {}
                Hello::NotTls => return Err(Verdict::Denied(Reason::NotTls)),
                Hello::Refused(_) => return Err(Verdict::Denied(Reason::Greeting)),
                Hello::Complete(hello) => {
                    return match hello.server_name {
                        _ if hello.hidden => Err(Verdict::Denied(Reason::ServerNameHidden)),
                        None => Err(Verdict::Denied(Reason::ServerNameAbsent)),
                        Some(named) if named != name.as_str() => {
                            Err(Verdict::Denied(Reason::ServerNameDiffers))
                        }
                        Some(_) => Ok(Some(seen)),
                    };
                }
            }
        }
    };
    match tokio::time::timeout(HELLO_TIME_MAX, read).await {
        Ok(read) => read,
        Err(_) => Err(Verdict::Failed(Failure::Timeout)),
    }
}

/// What a failed connection comes to.
pub fn undialled(error: &DialError, address: &mut Option<IpAddr>) -> Verdict {
    match error {
        DialError::Lookup(LookupError::Unresolved) => Verdict::Failed(Failure::Resolution),
        DialError::Lookup(LookupError::Refused { address: refused, .. }) => {
            *address = Some(*refused);
            Verdict::Denied(Reason::PrivateAddress)
        }
        DialError::Unreached(_) | DialError::Proxy(_) => Verdict::Failed(Failure::Connection),
    }
}

async fn send(stream: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
