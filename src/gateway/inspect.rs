//! A connection whose requests are read: TLS is ended with the run's own authority, each request is judged by the rules,
//! written anew and sent to the real host over verified TLS, and its answer is passed back.
//!
//! One client connection has its own connections to the host; nothing of it outlives it. Bodies are streamed, never
//! gathered. Nothing here resolves names or connects: that is [`Dial`]'s, which is given.

mod account;
pub mod answer;
mod body;
mod exchange;
mod fields;
pub mod framing;
mod guarded;
mod judge;
mod relay;
mod tasks;
mod upstream;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::gateway::authority::Authority;
use crate::gateway::credential::Vault;
use crate::policy::network::port::{HTTP, HTTPS};
use crate::policy::network::{Name, Network};
use crate::record::egress::{Failure, Reason, Verdict};

pub use account::Ledger;
pub use upstream::{Dial, NotDialled, Trust};

use account::Account;
use exchange::Connection;
use framing::{FIELDS_MAX, HEAD_BYTES_MAX};
use guarded::{Guarded, Seen};
use tasks::Tasks;
use upstream::Upstream;

/// Time for the client's side of TLS.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// Time for a request's head, and between two requests.
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);
/// Requests at a time on one connection.
const STREAMS_MAX: u32 = 100;
/// Bytes of a stream, and of a connection, that wait for their reader.
const STREAM_BYTES_MAX: u32 = 256 * 1024;
const CONNECTION_BYTES_MAX: u32 = 1024 * 1024;

/// What a connection was made to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The name that the task asked for.
    pub name: Name,
    /// The port.
    pub port: u16,
    /// Whether it speaks TLS there.
    pub tls: bool,
}

/// What all connections of a run share.
pub struct Inspection<D> {
    /// What may be reached.
    pub rules: Arc<Network>,
    /// Who vouches for us to the task; `None` where no rule inspects TLS.
    pub authority: Option<Authority>,
    /// What is added, and what must not pass.
    pub vault: Vault,
    /// Whom we believe.
    pub trust: Trust,
    /// Makes connections to hosts.
    pub dial: Arc<D>,
    /// Room for handshakes, of every connection of the run.
    pub handshakes: Arc<Semaphore>,
    /// Where entries go.
    pub ledger: Ledger,
}

impl At {
    /// The port that needs no mention.
    fn default_port(&self) -> u16 {
        if self.tls { HTTPS } else { HTTP }
    }

    fn is_default_port(&self) -> bool {
        self.port == self.default_port()
    }
}

/// Serves one client connection until it ends. What came of it stands in the ledger.
pub async fn serve<C, D>(client: C, at: At, inspection: Arc<Inspection<D>>)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Dial,
{
    if !at.tls {
        return serve_http1(client, at, inspection).await;
    }
    let mut account = Account::begin(&inspection.ledger, &at, None);
    let shaken = async {
        let _room = inspection.handshakes.acquire().await.map_err(|_| Verdict::Failed(Failure::Gateway))?;
        end_tls(client, &at, inspection.authority.as_ref()).await
    };
    match timeout(HANDSHAKE_TIME_MAX, shaken).await {
        Ok(Ok(stream)) => {
            account.passes_on();
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                serve_http2(stream, at, inspection).await;
            } else {
                serve_http1(stream, at, inspection).await;
            }
        }
        Ok(Err(verdict)) => account.ends(verdict, None),
        Err(_) => account.ends(Verdict::Failed(Failure::Timeout), None),
    }
}

/// The server's side of TLS, under the very name that was asked for.
async fn end_tls<C>(client: C, at: &At, authority: Option<&Authority>) -> Result<TlsStream<C>, Verdict>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let greeted = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), client).await;
    let greeted = greeted.map_err(|_| Verdict::Denied(Reason::Greeting))?;
    match greeted.client_hello().server_name().map(Name::parse) {
        Some(Ok(name)) if name == at.name => {}
        Some(_) => return Err(Verdict::Denied(Reason::ServerNameDiffers)),
        None => return Err(Verdict::Denied(Reason::ServerNameAbsent)),
    }
    let server = authority.and_then(|it| it.server(at.name.as_str()).ok());
    let server = server.ok_or(Verdict::Failed(Failure::Gateway))?;
    greeted.into_stream(server).await.map_err(|_| Verdict::Failed(Failure::Broken))
}

async fn serve_http1<S, D>(stream: S, at: At, inspection: Arc<Inspection<D>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Dial,
{
    let connection = connection(at, inspection);
    let _ends = connection.tasks.ends_with_this();
    let guarded = Guarded::new(stream, connection.seen.clone());
    let service = service_fn(|request| {
        let connection = connection.clone();
        async move { Ok::<_, Infallible>(exchange::answer(&connection, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_headers(FIELDS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(guarded), service)
        .with_upgrades();
    // A client that breaks off is told in the ledger by the request that it broke.
    let _ = served.await;
    if let Some(why) = connection.seen.malformed() {
        tracing::debug!(name = %connection.at.name, %why, "a malformed request ended a connection");
        let mut account = Account::begin(&connection.inspection.ledger, &connection.at, None);
        account.ends(Verdict::Denied(Reason::Malformed), None);
    }
    if connection.seen.is_open() {
        connection.upstream.close();
        connection.tasks.finish().await;
    } else {
        connection.tasks.end().await;
    }
}

async fn serve_http2<S, D>(stream: S, at: At, inspection: Arc<Inspection<D>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Dial,
{
    let connection = connection(at, inspection);
    let _ends = connection.tasks.ends_with_this();
    let served = connection.clone();
    let service = service_fn(move |request| {
        let connection = served.clone();
        async move { Ok::<_, Infallible>(exchange::answer(&connection, request).await) }
    });
    let served = http2::Builder::new(connection.tasks.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .initial_stream_window_size(STREAM_BYTES_MAX)
        .initial_connection_window_size(CONNECTION_BYTES_MAX)
        .max_send_buf_size(STREAM_BYTES_MAX as usize)
        .keep_alive_interval(HEAD_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let _ = served.await;
    connection.tasks.end().await;
}

fn connection<D: Dial>(at: At, inspection: Arc<Inspection<D>>) -> Arc<Connection<D>> {
    let tasks = Tasks::default();
    let upstream =
        Upstream::new(inspection.dial.clone(), inspection.trust.clone(), at.clone(), tasks.clone());
    Arc::new(Connection { at, inspection, upstream, seen: Seen::default(), tasks })
}

#[cfg(test)]
mod tests;
