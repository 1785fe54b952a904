//! Connections: accepted up to a number, each with its clocks, all ended and joined with the server. HTTP/1 only, so that
//! what is known of HTTP/2's floods is nothing to us.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::api::attach::Afterwards;
use crate::api::caller::Peer;
use crate::api::listener::Listener;
use crate::api::meter::Meter;
use crate::api::services::{Limits, Services};
use crate::api::stalling::Stalling;
use crate::api::{Api, Shared, document, router};

/// Bytes of a request's head at the most.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Headers of a request at the most.
const HEADERS_MAX: usize = 100;
/// Time for the handshake of TLS.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// Time that requests may take once the server is to stop.
const CLOSING_TIME_MAX: Duration = Duration::from_secs(10);
/// Changes that are packed at the same time: each holds a thread for as long as its reader takes, and all requests share them.
const PACKINGS_MAX: usize = 16;
/// Pause after an accept that failed: the host is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections of all listeners until `closing`; then requests under way end, and streams are cut. Every listener
/// and connection is closed when this returns.
pub async fn serve(listeners: Vec<Listener>, services: Services, closing: CancellationToken) {
    let limits = services.limits;
    let api: Shared = Arc::new(Api {
        meter: Meter::new(limits),
        believed: Default::default(),
        closing: closing.clone(),
        packings: Arc::new(Semaphore::new(PACKINGS_MAX)),
        document: document::openapi().to_string(),
        services,
    });
    let house = House {
        router: router::router(&api),
        places: Arc::new(Semaphore::new(limits.connections)),
        limits,
        closing,
    };
    let mut doors = JoinSet::new();
    for listener in listeners {
        doors.spawn(attend(listener, house.clone()));
    }
    while doors.join_next().await.is_some() {}
}

/// What every connection is given.
#[derive(Clone)]
struct House {
    router: Router,
    places: Arc<Semaphore>,
    limits: Limits,
    closing: CancellationToken,
}

async fn attend(listener: Listener, house: House) {
    let mut connections = JoinSet::new();
    loop {
        // A full house lets newcomers wait in the kernel's queue: who is in keeps being served.
        let place = tokio::select! {
            place = house.places.clone().acquire_owned() => place,
            () = house.closing.cancelled() => break,
        };
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            Some(_) = connections.join_next() => continue,
            () = house.closing.cancelled() => break,
        };
        let (Ok(place), Ok(accepted)) = (place, accepted) else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let house = house.clone();
        connections.spawn(async move {
            greet(accepted, house).await;
            drop(place);
        });
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(CLOSING_TIME_MAX, all).await;
    connections.shutdown().await;
}

enum Accepted {
    Unix(tokio::net::UnixStream, Peer),
    Tcp(TcpStream, Peer),
    Tls(TcpStream, Peer, tokio_rustls::TlsAcceptor),
}

async fn accept(listener: &Listener) -> std::io::Result<Accepted> {
    match listener {
        Listener::Unix(socket) => {
            let (stream, _) = socket.listener.accept().await?;
            let cred = stream.peer_cred()?;
            Ok(Accepted::Unix(stream, Peer::Local(socket.members.caller(cred.uid(), cred.gid()))))
        }
        Listener::Tcp { listener, tls, hosts } => {
            let (stream, _) = listener.accept().await?;
            let _ = stream.set_nodelay(true);
            let peer = Peer::Remote { hosts: hosts.clone() };
            Ok(match tls {
                None => Accepted::Tcp(stream, peer),
                Some(tls) => Accepted::Tls(stream, peer, tls.acceptor()),
            })
        }
    }
}

async fn greet(accepted: Accepted, house: House) {
    match accepted {
        Accepted::Unix(stream, peer) => converse(stream, peer, house).await,
        Accepted::Tcp(stream, peer) => converse(stream, peer, house).await,
        Accepted::Tls(stream, peer, acceptor) => {
            // A handshake that fails or dawdles is the client's own loss.
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIME_MAX, acceptor.accept(stream)).await {
                converse(stream, peer, house).await;
            }
        }
    }
}

/// One connection, to its end, and to that of what it became.
async fn converse<S>(stream: S, peer: Peer, house: House)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = house.router;
    let afterwards = Afterwards::default();
    let become_of = afterwards.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (mut router, peer, afterwards) = (router.clone(), peer.clone(), become_of.clone());
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(afterwards);
            router.call(request).await
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(house.limits.head_time)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(2 * HEAD_BYTES_MAX)
        .pipeline_flush(false);
    let stream = TokioIo::new(Stalling::new(stream, house.limits.stall_time));
    let mut connection = std::pin::pin!(builder.serve_connection(stream, service).with_upgrades());
    let is_over = tokio::select! {
        // How it ended is told to the client or to nobody.
        _ = connection.as_mut() => true,
        () = house.closing.cancelled() => false,
    };
    if !is_over {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
    afterwards.attend().await;
}
