//! A world of one gateway: hosts with their own authority, a task's clients, and what each of them saw.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::gateway::authority::Authority;
use crate::gateway::credential::{Credential, How, Vault};
use crate::gateway::inspect::{At, Dial, Inspection, NotDialled, Trust, serve};
use crate::policy::network::host::{HostPattern, Standing};
use crate::policy::network::method::Method;
use crate::policy::network::path::PathPattern;
use crate::policy::network::port::PortPattern;
use crate::policy::network::reach::CredentialPattern;
use crate::policy::network::{Allow, Egress, Name, Network, Rule, Transport};
use crate::record::egress::Entry;

/// The host that most rules name.
pub const API: &str = "api.example.org";
/// The value of the credential `model`.
pub const VALUE: &str = "k7Qz-93hfWpLx0vB2mTn";
/// Time for anything in this world.
const TIME_MAX: Duration = Duration::from_secs(30);

/// A body of a host of ours.
pub type HostBody = UnsyncBoxBody<Bytes, std::io::Error>;
/// How a host answers.
pub type Answers = Arc<dyn Fn(&Heard) -> Response<HostBody> + Send + Sync>;

/// A request as a host saw it.
#[derive(Debug, Clone)]
pub struct Heard {
    pub host: String,
    pub method: String,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub http2: bool,
}

/// What hosts speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    Both,
    Http1,
    Plain,
    /// TLS with a certificate that nobody vouches for.
    Forged,
    /// These bytes after a request's head, and then whatever it gets.
    Script(&'static str),
}

/// Every host of a world.
pub struct Hosts {
    authority: Authority,
    speaks: Speaks,
    answers: Answers,
    heard: Arc<Mutex<Vec<Heard>>>,
    dialled: AtomicUsize,
}

/// A gateway between a task and hosts.
pub struct World {
    inspection: Arc<Inspection<Hosts>>,
    ledger: Arc<Mutex<Vec<Entry>>>,
    task_trusts: RootCertStore,
}

impl Dial for Hosts {
    type Stream = DuplexStream;

    async fn dial(&self, name: &Name, _port: u16) -> Result<(DuplexStream, Option<IpAddr>), NotDialled> {
        self.dialled.fetch_add(1, Ordering::Relaxed);
        let (near, far) = duplex(64 * 1024);
        let mut tls = self.authority.server(name.as_str()).expect("a server").as_ref().clone();
        if self.speaks != Speaks::Both {
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        let host = host(far, tls, self.speaks, name.to_string(), self.answers.clone(), self.heard.clone());
        tokio::spawn(host);
        Ok((near, Some(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)))))
    }
}

async fn host(
    far: DuplexStream,
    tls: ServerConfig,
    speaks: Speaks,
    name: String,
    answers: Answers,
    heard: Arc<Mutex<Vec<Heard>>>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let (answers, heard, name) = (answers.clone(), heard.clone(), name.clone());
        async move {
            let told = hear(name, request).await;
            heard.lock().expect("whole").push(told.clone());
            Ok::<_, std::convert::Infallible>(answers(&told))
        }
    });
    let http1 = hyper::server::conn::http1::Builder::new();
    if speaks == Speaks::Plain {
        let _ = http1.serve_connection(TokioIo::new(far), service).await;
        return;
    }
    let Ok(stream) = TlsAcceptor::from(Arc::new(tls)).accept(far).await else { return };
    if let Speaks::Script(script) = speaks {
        follow(stream, script).await;
    } else if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = http2.serve_connection(TokioIo::new(stream), service).await;
    } else {
        let _ = http1.serve_connection(TokioIo::new(stream), service).await;
    }
}

async fn hear(name: String, request: Request<Incoming>) -> Heard {
    let (head, body) = request.into_parts();
    let host = head.uri.authority().map(|it| it.to_string());
    let field = head.headers.get("host").map(|it| it.to_str().expect("text").to_owned());
    assert!(host.or(field).is_some_and(|it| it.starts_with(&name)), "a host is asked by its own name");
    Heard {
        host: name,
        method: head.method.to_string(),
        target: head.uri.path_and_query().map_or("", |it| it.as_str()).to_owned(),
        headers: head.headers,
        body: body.collect().await.map(|it| it.to_bytes().to_vec()).unwrap_or_default(),
        http2: head.version == http::Version::HTTP_2,
    }
}

async fn follow(mut stream: server::TlsStream<DuplexStream>, script: &str) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    stream.write_all(script.as_bytes()).await.expect("written");
    stream.flush().await.expect("flushed");
    let mut buffer = [0; 1024];
    while let Ok(read) = stream.read(&mut buffer).await {
        if read == 0 || stream.write_all(&buffer[..read]).await.is_err() {
            break;
        }
        let _ = stream.flush().await;
    }
}

/// A rule for a host.
pub fn rule(host: &str, methods: &[Method], paths: &[&str]) -> Rule {
    Rule {
        host: HostPattern::parse(host, Standing::Policy).expect("a host"),
        ports: vec![PortPattern::One(443), PortPattern::One(80), PortPattern::One(8443)],
        transport: Transport::Inspected,
        methods: methods.to_vec(),
        paths: paths.iter().map(|it| PathPattern::parse(it).expect("a path")).collect(),
        upgrade: false,
        private: false,
        credential: None,
    }
}

/// The same with the credential `model`.
pub fn with_credential(mut rule: Rule) -> Rule {
    rule.credential = Some(CredentialPattern::Named("model".to_owned()));
    rule
}

/// The credential `model`, which goes to one host only.
pub fn credential() -> Credential {
    Credential {
        name: "model".to_owned(),
        hosts: BTreeSet::from([Name::parse(API).expect("a name")]),
        ports: BTreeSet::from([443]),
        methods: BTreeSet::new(),
        paths: Vec::new(),
        how: How::Header { name: "x-api-key".parse().expect("a name"), template: "{}".to_owned() },
        value: VALUE.into(),
    }
}

/// A text as an answer.
pub fn text(text: &str) -> Response<HostBody> {
    let whole = Full::new(Bytes::from(text.to_owned()));
    Response::new(whole.map_err(|it| match it {}).boxed_unsync())
}

/// An answer that tells what the host heard: target and body.
pub fn echo() -> Answers {
    Arc::new(|heard| {
        text(&format!("{} {} {}", heard.method, heard.target, String::from_utf8_lossy(&heard.body)))
    })
}

fn authority() -> Authority {
    Authority::make(&["example.org".to_owned()], SystemTime::now(), Duration::from_secs(3600)).expect("made")
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(authority.certificate().as_bytes()).expect("PEM");
    roots.add(certificate).expect("a root");
    roots
}

impl World {
    pub fn new(rules: &[Rule], speaks: Speaks, answers: Answers) -> Self {
        let rules = Network { egress: Egress::Rules, allow: Allow::of(rules), ..Network::none() };
        let (hosts, run) = (authority(), authority());
        let trusted = if speaks == Speaks::Forged { authority() } else { authority_of(&hosts) };
        let ledger = Arc::new(Mutex::new(Vec::new()));
        let told = ledger.clone();
        let task_trusts = roots(&run);
        let inspection = Inspection {
            rules: Arc::new(rules),
            authority: Some(run),
            vault: Vault::new(vec![credential()], &[]),
            trust: Trust::new(roots(&trusted)).expect("trust"),
            dial: Arc::new(Hosts {
                authority: hosts,
                speaks,
                answers,
                heard: Arc::default(),
                dialled: AtomicUsize::new(0),
            }),
            handshakes: Arc::new(tokio::sync::Semaphore::new(8)),
            ledger: Arc::new(move |entry| told.lock().expect("whole").push(entry)),
        };
        Self { inspection: Arc::new(inspection), ledger, task_trusts }
    }

    /// What hosts heard.
    pub fn heard(&self) -> Vec<Heard> {
        self.inspection.dial.heard.lock().expect("whole").clone()
    }

    /// Empties the ledger.
    pub fn forget(&self) {
        self.ledger.lock().expect("whole").clear();
    }

    /// How often a host was connected to.
    pub fn dialled(&self) -> usize {
        self.inspection.dial.dialled.load(Ordering::Relaxed)
    }

    /// What stands in the ledger, once so many entries are there.
    pub async fn ledger(&self, count: usize) -> Vec<Entry> {
        in_time(async {
            loop {
                let entries = self.ledger.lock().expect("whole").clone();
                if entries.len() >= count {
                    return entries;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// The task's end of a connection to a name's port, without TLS yet.
    pub fn connect(&self, name: &str, port: u16) -> DuplexStream {
        let (near, far) = duplex(64 * 1024);
        let at = At { name: Name::parse(name).expect("a name"), port, tls: port != 80 };
        tokio::spawn(serve(far, at, self.inspection.clone()));
        near
    }

    /// The same with TLS, for a client that names `server`.
    pub async fn connect_tls(
        &self,
        name: &str,
        server: &str,
        protocol: &str,
    ) -> std::io::Result<client::TlsStream<DuplexStream>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(self.task_trusts.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let server = ServerName::try_from(server.to_owned()).expect("a name");
        let connected = TlsConnector::from(Arc::new(config)).connect(server, self.connect(name, 443));
        in_time(connected).await
    }

    /// A client that speaks HTTP/1.1 on one connection.
    pub async fn http1<B>(&self, name: &str) -> hyper::client::conn::http1::SendRequest<B>
    where
        B: hyper::body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = self.connect_tls(name, name, "http/1.1").await.expect("TLS");
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.expect("HTTP");
        tokio::spawn(connection.with_upgrades());
        sender
    }

    /// A client that speaks HTTP/2 on one connection.
    pub async fn http2<B>(&self, name: &str) -> hyper::client::conn::http2::SendRequest<B>
    where
        B: hyper::body::Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = self.connect_tls(name, name, "h2").await.expect("TLS");
        let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = shaken.expect("HTTP");
        tokio::spawn(connection);
        sender
    }

    /// One request by HTTP/1.1 on a connection of its own.
    pub async fn ask(&self, name: &str, request: Request<Full<Bytes>>) -> Told {
        let mut sender = self.http1(name).await;
        Told::of(in_time(sender.send_request(request)).await.expect("an answer")).await
    }

    /// Bytes as they are, and everything that comes back.
    pub async fn send_raw(&self, name: &str, bytes: &[u8]) -> String {
        let mut stream = self.connect_tls(name, name, "http/1.1").await.expect("TLS");
        stream.write_all(bytes).await.expect("written");
        stream.flush().await.expect("flushed");
        let mut answer = Vec::new();
        let _ = in_time(stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// An authority that vouches for the same.
fn authority_of(other: &Authority) -> Authority {
    Authority::take_over(&other.handover()).expect("taken over")
}

/// An answer as the task saw it.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Told {
    pub async fn of(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = in_time(body.collect()).await.expect("a whole body").to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        Self { status: head.status.as_u16(), headers: head.headers, body }
    }
}

/// A request for a host of this world.
pub fn request(method: &str, target: &str, host: &str) -> http::request::Builder {
    Request::builder().method(method).uri(target).header("host", host)
}

/// Waits, and fails where it takes too long.
pub async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIME_MAX, work).await.expect("in time")
}
