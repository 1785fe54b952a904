//! The host's side of an inspected connection: verified TLS, HTTP/2 or HTTP/1.1 as the host likes, connections that are
//! used again for the same client connection and end with it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsConnector;

use crate::gateway::inspect::At;
use crate::gateway::inspect::answer::Refusal;
use crate::gateway::inspect::body::Carried;
use crate::gateway::inspect::framing::{FIELDS_MAX, HEAD_BYTES_MAX};
use crate::gateway::inspect::tasks::Tasks;
use crate::policy::network::Name;
use crate::record::egress::{Failure, Reason};

/// Time for a connection to the host, its TLS included.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);
/// Time in which the host must begin its answer: models think for minutes.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(600);
/// Requests that the host works on at a time for one client connection.
const REQUESTS_MAX: usize = 100;
/// Connections without HTTP/2 that wait for a next request.
const WAITING_MAX: usize = 8;

/// Makes connections to hosts: the name is resolved, its addresses are checked, and one of these is connected to.
pub trait Dial: Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Connects. The address is the one that was checked.
    fn dial(
        &self,
        name: &Name,
        port: u16,
    ) -> impl Future<Output = Result<(Self::Stream, Option<IpAddr>), NotDialled>> + Send;
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDialled {
    /// It was refused.
    Denied(Reason),
    /// It did not come about.
    Failed(Failure),
}

/// Whom the gateway believes.
#[derive(Debug, Clone)]
pub struct Trust {
    any: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

impl Trust {
    /// Believes hosts that one of these authorities vouches for.
    pub fn new(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let roots = Arc::new(roots);
        let with = |protocols: &[&[u8]]| -> Result<Arc<ClientConfig>, rustls::Error> {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
            Ok(Arc::new(config))
        };
        Ok(Self { any: with(&[b"h2", b"http/1.1"])?, http1: with(&[b"http/1.1"])? })
    }
}

/// Which protocols a request can go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Whatever the host likes.
    Any,
    /// Only this one can become another.
    Http1,
}

/// The connections to the host of one client connection.
pub(super) struct Upstream<D> {
    dial: Arc<D>,
    trust: Trust,
    at: At,
    tasks: Tasks,
    requests: Arc<Semaphore>,
    waiting: Mutex<Vec<Plain>>,
    shared: tokio::sync::Mutex<Option<Shared>>,
}

struct Plain {
    sender: http1::SendRequest<Carried>,
    address: Option<IpAddr>,
}

#[derive(Clone)]
struct Shared {
    sender: http2::SendRequest<Carried>,
    address: Option<IpAddr>,
}

enum Connected {
    Plain(Plain),
    Shared(Shared),
}

/// What the host answered.
pub(super) struct Reached {
    pub response: Response<Incoming>,
    pub address: Option<IpAddr>,
    pub permit: OwnedSemaphorePermit,
}

impl<D: Dial> Upstream<D> {
    pub fn new(dial: Arc<D>, trust: Trust, at: At, tasks: Tasks) -> Self {
        let requests = Arc::new(Semaphore::new(REQUESTS_MAX));
        let (waiting, shared) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { dial, trust, at, tasks, requests, waiting, shared }
    }

    /// No request comes any more: connections that wait for one end.
    pub fn close(&self) {
        self.requests.close();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Sends a request, over a connection that is there or a new one, and waits for the head of its answer.
    pub async fn send(&self, request: Request<Carried>, wanted: Wanted) -> Result<Reached, Refusal> {
        let permit = self.requests.clone().acquire_owned().await;
        let permit = permit.map_err(|_| failed(&self.at, Failure::Gateway))?;
        let sent = tokio::time::timeout(ANSWER_TIME_MAX, self.send_some(request, wanted)).await;
        let (response, address) = sent.map_err(|_| failed(&self.at, Failure::Timeout))??;
        Ok(Reached { response, address, permit })
    }

    async fn send_some(
        &self,
        mut request: Request<Carried>,
        wanted: Wanted,
    ) -> Result<(Response<Incoming>, Option<IpAddr>), Refusal> {
        // A host may have closed a waiting connection; a request that was not begun on it goes over another.
        while let Some(mut plain) = self.take_waiting() {
            match plain.sender.try_send_request(as_http1(request, &self.at)).await {
                Ok(response) => return Ok(self.answered(plain, response)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(failed(&self.at, Failure::Broken)),
                },
            }
        }
        match self.connect(wanted).await? {
            Connected::Plain(mut plain) => {
                let sent = plain.sender.send_request(as_http1(request, &self.at)).await;
                let response = sent.map_err(|_| failed(&self.at, Failure::Broken))?;
                Ok(self.answered(plain, response))
            }
            Connected::Shared(mut shared) => {
                let sent = shared.sender.send_request(as_http2(request, &self.at)).await;
                let response = sent.map_err(|_| failed(&self.at, Failure::Broken))?;
                Ok((response, shared.address))
            }
        }
    }

    fn take_waiting(&self) -> Option<Plain> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|it| !it.sender.is_closed());
        let ready = waiting.iter().position(|it| it.sender.is_ready())?;
        Some(waiting.swap_remove(ready))
    }

    /// Keeps the connection for when the answer's body is through.
    fn answered(&self, plain: Plain, response: Response<Incoming>) -> (Response<Incoming>, Option<IpAddr>) {
        let address = plain.address;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WAITING_MAX && response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            waiting.push(plain);
        }
        (response, address)
    }

    async fn connect(&self, wanted: Wanted) -> Result<Connected, Refusal> {
        let mut shared = match wanted {
            // Others wait for the first: it says whether the host has HTTP/2.
            Wanted::Any => Some(self.shared.lock().await),
            Wanted::Http1 => None,
        };
        if let Some(known) = shared.as_deref().and_then(Option::as_ref)
            && !known.sender.is_closed()
        {
            return Ok(Connected::Shared(known.clone()));
        }
        let connected = tokio::time::timeout(CONNECT_TIME_MAX, self.open(wanted)).await;
        let connected = connected.map_err(|_| failed(&self.at, Failure::Timeout))??;
        if let (Some(place), Connected::Shared(new)) = (shared.as_deref_mut(), &connected) {
            *place = Some(new.clone());
        }
        Ok(connected)
    }

    async fn open(&self, wanted: Wanted) -> Result<Connected, Refusal> {
        let dialled = self.dial.dial(&self.at.name, self.at.port).await;
        let (stream, address) = dialled.map_err(|why| not_dialled(&self.at, why))?;
        if !self.at.tls {
            return self.plain(stream, address).await;
        }
        let broken = || failed(&self.at, Failure::Certificate);
        let name = ServerName::try_from(self.at.name.to_string()).map_err(|_| broken())?;
        let config = match wanted {
            Wanted::Any => &self.trust.any,
            Wanted::Http1 => &self.trust.http1,
        };
        let connector = TlsConnector::from(config.clone());
        let stream = connector.connect(name, stream).await.map_err(|error| not_proven(&self.at, &error))?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if http2 { self.multiplexed(stream, address).await } else { self.plain(stream, address).await }
    }

    async fn plain<S>(&self, stream: S, address: Option<IpAddr>) -> Result<Connected, Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shaken = http1::Builder::new()
            .max_headers(FIELDS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = shaken.map_err(|_| failed(&self.at, Failure::Broken))?;
        self.tasks.spawn(async {
            // How it ended is told to whoever waits for an answer.
            let _ = connection.with_upgrades().await;
        });
        Ok(Connected::Plain(Plain { sender, address }))
    }

    async fn multiplexed<S>(&self, stream: S, address: Option<IpAddr>) -> Result<Connected, Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shaken = http2::Builder::new(self.tasks.clone())
            .timer(TokioTimer::new())
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = shaken.map_err(|_| failed(&self.at, Failure::Broken))?;
        self.tasks.spawn(async {
            let _ = connection.await;
        });
        Ok(Connected::Shared(Shared { sender, address }))
    }
}

fn failed(at: &At, why: Failure) -> Refusal {
    let reason = match why {
        Failure::Resolution => format!("`{}` does not resolve", at.name),
        Failure::Connection => format!("`{}` is not reached at port {}", at.name, at.port),
        Failure::Certificate => format!("`{}` does not prove that it is that host", at.name),
        Failure::Timeout => format!("`{}` did not answer in time", at.name),
        Failure::Broken => format!("`{}` broke the connection off", at.name),
        Failure::Gateway => "the gateway ends".to_owned(),
    };
    Refusal::failed(reason, why)
}

fn not_dialled(at: &At, why: NotDialled) -> Refusal {
    match why {
        NotDialled::Failed(why) => failed(at, why),
        NotDialled::Denied(why) => {
            let reason = format!("`{}` leads to an address that the rules do not allow", at.name);
            Refusal::denied(reason, None, why)
        }
    }
}

fn not_proven(at: &At, error: &std::io::Error) -> Refusal {
    let tls = error.get_ref().and_then(|it| it.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(why)) => {
            let reason = format!("the certificate of `{}` is not believed: {why}", at.name);
            Refusal::failed(reason, Failure::Certificate)
        }
        Some(_) | None => failed(at, Failure::Broken),
    }
}

/// As HTTP/1.1 writes it: a path, and the host in its field.
fn as_http1(mut request: Request<Carried>, at: &At) -> Request<Carried> {
    *request.version_mut() = Version::HTTP_11;
    if let Some(target) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(target);
    }
    if let Ok(host) = HeaderValue::from_str(&authority(at)) {
        request.headers_mut().insert(HOST, host);
    }
    request
}

/// As HTTP/2 writes it: the whole address in the request's own fields.
fn as_http2(mut request: Request<Carried>, at: &At) -> Request<Carried> {
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().remove(HOST);
    let target = request.uri().path_and_query().cloned();
    let built = Uri::builder().scheme("https").authority(authority(at));
    if let Ok(uri) = built.path_and_query(target.unwrap_or(PathAndQuery::from_static("/"))).build() {
        *request.uri_mut() = uri;
    }
    request
}

fn authority(at: &At) -> String {
    if at.is_default_port() { at.name.to_string() } else { format!("{}:{}", at.name, at.port) }
}
