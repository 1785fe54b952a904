//! One connection to a server, for one question.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::io::ReaderStream;

use crate::cli::client::Place;
use crate::cli::failure::Failure;
use crate::gateway::roots::Roots;

/// Time for a connection, TLS with it.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(15);
/// A server that streams shows that it lives well within this time.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Why a server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// Nobody is there.
    #[error("the server at `{place}` cannot be reached")]
    Unreached {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is there does not prove itself, or has no name that could be proven.
    #[error("the server at `{place}` does not prove who it is")]
    Unproven {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It broke off, or speaks something else.
    #[error("the server broke the connection off")]
    Broken(#[source] hyper::Error),
    /// It said nothing any more.
    #[error("the server says nothing any more")]
    Silent,
    /// A header that cannot be sent.
    #[error("the token holds characters that no header can carry")]
    Token,
    /// An answer that is too large to be held.
    #[error("the server's answer is larger than {bytes_max} bytes")]
    TooLarge {
        /// The bound.
        bytes_max: usize,
    },
}

/// What is asked.
pub struct Question {
    /// GET, POST, PUT, HEAD or DELETE.
    pub method: Method,
    /// With its query.
    pub path: String,
    /// What may come back.
    pub accept: &'static str,
    /// JSON.
    pub body: Option<Vec<u8>>,
    /// A file with its size, in the place of JSON.
    pub file: Option<(tokio::fs::File, u64)>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

impl Question {
    /// A question without a body.
    pub fn new(method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), accept: "*/*", body: None, file: None, headers: Vec::new() }
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

/// A connection that was made.
pub struct Connection {
    sender: http1::SendRequest<Body>,
    driver: Driver,
    host: String,
}

/// Moves the bytes; how that ends shows in the answer.
type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

impl Connection {
    /// Connects.
    pub async fn open(place: &Place) -> Result<Self, ConnectionError> {
        let shown = match place {
            Place::Unix(path) => format!("unix:{}", path.display()),
            Place::Tcp { host, port, .. } => format!("{host}:{port}"),
        };
        let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
        match tokio::time::timeout(CONNECT_TIME_MAX, connect(place, &shown)).await {
            Ok(connected) => connected,
            Err(_) => Err(ConnectionError::Unreached { place: shown, source: late }),
        }
    }

    /// Asks; gives the head of the answer.
    pub async fn ask(mut self, question: Question, token: Option<&str>) -> Result<Answer, ConnectionError> {
        let request = request(question, &self.host, token)?;
        let mut asked = std::pin::pin!(self.sender.send_request(request));
        let mut done = false;
        let response = loop {
            tokio::select! {
                response = &mut asked => break response.map_err(ConnectionError::Broken)?,
                _ = &mut self.driver, if !done => done = true,
            }
        };
        let (head, body) = response.into_parts();
        Ok(Answer { status: head.status, body, driver: (!done).then_some(self.driver) })
    }
}

/// What became of the wish for a stream.
pub enum Upgraded {
    /// It is one.
    Stream(hyper::upgrade::Upgraded),
    /// It was refused.
    Answer(Answer),
}

impl Connection {
    /// Asks for the connection itself, as a stream of this protocol.
    pub async fn upgrade(
        mut self,
        question: Question,
        token: Option<&str>,
        protocol: &'static str,
    ) -> Result<Upgraded, ConnectionError> {
        let mut request = request(question, &self.host, token)?;
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(protocol));
        let sender = &mut self.sender;
        let upgrading = async {
            let response = sender.send_request(request).await.map_err(ConnectionError::Broken)?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Err(response));
            }
            hyper::upgrade::on(response).await.map(Ok).map_err(ConnectionError::Broken)
        };
        let mut upgrading = std::pin::pin!(upgrading);
        let mut done = false;
        let upgraded = loop {
            tokio::select! {
                upgraded = &mut upgrading => break upgraded?,
                _ = &mut self.driver, if !done => done = true,
            }
        };
        Ok(match upgraded {
            Ok(stream) => Upgraded::Stream(stream),
            Err(response) => {
                let (head, body) = response.into_parts();
                Upgraded::Answer(Answer { status: head.status, body, driver: (!done).then_some(self.driver) })
            }
        })
    }
}

async fn connect(place: &Place, shown: &str) -> Result<Connection, ConnectionError> {
    let unreached = |source| ConnectionError::Unreached { place: shown.to_owned(), source };
    match place {
        Place::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(unreached)?;
            greet(stream, "localhost".to_owned()).await
        }
        Place::Tcp { host, port, tls } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreached)?;
            let _ = stream.set_nodelay(true);
            let name = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            if *tls {
                greet(proven(stream, host, shown).await?, name).await
            } else {
                greet(stream, name).await
            }
        }
    }
}

/// TLS by the authorities of this host.
async fn proven(
    stream: TcpStream,
    host: &str,
    shown: &str,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ConnectionError> {
    fn unproven<E: std::error::Error + Send + Sync + 'static>(
        place: &str,
    ) -> impl Fn(E) -> ConnectionError + '_ {
        move |it| ConnectionError::Unproven { place: place.to_owned(), source: Box::new(it) }
    }
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(unproven(shown))?;
    let roots = Roots::load(&[]).map_err(unproven(shown))?.store();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unproven(shown))?;
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map_err(unproven(shown))
}

async fn greet<S>(stream: S, host: String) -> Result<Connection, ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (sender, driver) = shaken.map_err(ConnectionError::Broken)?;
    Ok(Connection { sender, driver: Box::pin(driver.with_upgrades()), host })
}

fn request(question: Question, host: &str, token: Option<&str>) -> Result<Request<Body>, ConnectionError> {
    let Question { method, path, accept, body, file, headers } = question;
    let mut builder = Request::builder().method(method).uri(path);
    builder = builder.header(header::HOST, host).header(header::ACCEPT, accept);
    if let Some(token) = token {
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut value = value.map_err(|_| ConnectionError::Token)?;
        value.set_sensitive(true);
        builder = builder.header(header::AUTHORIZATION, value);
    }
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    let body = match (body, file) {
        (_, Some((file, bytes))) => {
            builder = builder.header(header::CONTENT_TYPE, "application/octet-stream");
            builder = builder.header(header::CONTENT_LENGTH, bytes);
            StreamBody::new(ReaderStream::new(file).map_ok(Frame::data)).boxed()
        }
        (Some(json), None) => {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
            Full::new(Bytes::from(json)).map_err(|never| match never {}).boxed()
        }
        (None, None) => Full::default().map_err(|never| match never {}).boxed(),
    };
    builder.body(body).map_err(|_| ConnectionError::Token)
}

/// An answer whose body is still to come.
pub struct Answer {
    status: StatusCode,
    body: Incoming,
    driver: Option<Driver>,
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        loop {
            let frame = tokio::select! {
                frame = self.body.frame() => frame,
                _ = driven(&mut self.driver) => {
                    self.driver = None;
                    continue;
                }
                () = tokio::time::sleep(SILENCE_MAX) => return Err(ConnectionError::Silent),
            };
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(ConnectionError::Broken(error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => return Ok(Some(bytes)),
                    // Trailers say nothing to us.
                    Err(_) => continue,
                },
            }
        }
    }

    /// All of it, within bounds.
    pub async fn whole(&mut self, bytes_max: usize) -> Result<Vec<u8>, Failure> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.next().await.map_err(|it| Failure::of(&it))? {
            if whole.len() + bytes.len() > bytes_max {
                return Err(Failure::of(&ConnectionError::TooLarge { bytes_max }));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }
}

/// Never ends once there is nothing to drive.
async fn driven(driver: &mut Option<Driver>) {
    match driver {
        Some(driver) => {
            let _ = driver.await;
        }
        None => std::future::pending().await,
    }
}
