//! The API of a server on loopback and a Unix socket, over real records. Nobody claims what is queued.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aegis::access::{
    Access, Audit, Authenticated, Created, NewAudit, NewToken, Project, Revoked, Role, Token,
};
use aegis::api::listener::{Address, Group, Members, Plain};
use aegis::api::services::{Admission, Answer as Later, Asked, Limits, Refusal, Services};
use aegis::api::{Listener, serve};
use aegis::app::api::StoredLogs;
use aegis::policy::{default_policy, shipped};
use aegis::queue::{NewSubmission, PolicySource};
use aegis::record::{NewRun, Pending, PolicyRecord, RecordError, TaskRecord};
use aegis::sandbox::artifacts::Artifacts;
use aegis::sandbox::changes::kept::Kept;
use aegis::store::{Logs, Store};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

/// Time that an answer may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server, ended and joined when it is dropped.
pub struct Server {
    /// Where TCP listens.
    pub address: SocketAddr,
    /// Where the socket is.
    pub socket: PathBuf,
    /// What stands before its records.
    pub clerk: Arc<Clerk>,
    /// Its records.
    pub store: Store,
    /// Its state directory.
    pub state: tempfile::TempDir,
    closing: CancellationToken,
    serving: Option<std::thread::JoinHandle<()>>,
    runtime: tokio::runtime::Handle,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// Its body, as it came.
    pub body: String,
}

impl Answer {
    /// Holds the status.
    #[track_caller]
    pub fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    /// Holds the status of a refusal, and that it has the one form.
    #[track_caller]
    pub fn refused(&self, status: u16) -> serde_json::Value {
        self.is(status);
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:#?}");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["request_id"], self.headers["x-request-id"]);
        assert!(problem["code"].is_string() && problem["message"].is_string(), "{self:#?}");
        problem
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|it| panic!("{it}: {self:#?}"))
    }
}

impl Server {
    /// A server with the usual limits.
    pub fn new() -> Self {
        Self::with(Limits::USUAL)
    }

    /// A server with these limits.
    pub fn with(limits: Limits) -> Self {
        Self::begin(limits, None)
    }

    /// A server whose socket is for members of this group, too.
    pub fn for_group(gid: u32) -> Self {
        Self::begin(Limits::USUAL, Some(Group { name: "aegis-test".to_owned(), gid }))
    }

    fn begin(limits: Limits, group: Option<Group>) -> Self {
        // Clients and server are one process here: a thousand connections are two thousand descriptors.
        let descriptors = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: descriptors.maximum, ..descriptors }).expect("raised");
        let state = tempfile::tempdir().expect("a directory");
        let directory = state.path().to_owned();
        let closing = CancellationToken::new();
        let (tell, told) = std::sync::mpsc::channel();
        let ended = closing.clone();
        let serving = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async {
                let store = Store::open(&directory).await.expect("records");
                let clerk = Arc::new(Clerk { store: store.clone(), broken: AtomicBool::new(false) });
                let Ok(Address::Tcp(loopback)) = "127.0.0.1:0".parse() else { panic!("an address") };
                let tcp = Listener::tcp(loopback, None, Plain::Loopback).await.expect("listens");
                let address = tcp.shown().trim_start_matches("http://").parse().expect("an address");
                let members = Members { own_uid: rustix::process::geteuid().as_raw(), group };
                let socket = directory.join("aegis.sock");
                let unix = Listener::unix(&socket, members).await.expect("listens");
                let services = services(&store, &clerk, &directory, limits);
                let handle = tokio::runtime::Handle::current();
                tell.send((address, socket, clerk, store.clone(), handle)).expect("told");
                serve(vec![tcp, unix], services, ended).await;
                store.close().await;
            });
        });
        let (address, socket, clerk, store, runtime) = told.recv_timeout(PATIENCE).expect("it begins");
        Self { address, socket, clerk, store, state, closing, serving: Some(serving), runtime }
    }

    /// Does something with the records.
    pub fn within<T: Send>(&self, act: impl Future<Output = T> + Send) -> T {
        std::thread::scope(|scope| scope.spawn(|| self.runtime.block_on(act)).join().expect("it ends"))
    }

    /// A token's secret.
    pub fn token(&self, name: &str, role: Role, project: Option<&str>) -> String {
        self.token_until(name, role, project, None)
    }

    /// The same with its end.
    pub fn token_until(
        &self,
        name: &str,
        role: Role,
        project: Option<&str>,
        expires_ms: Option<i64>,
    ) -> String {
        let secret = format!("aegis_test_{name}");
        let token = NewToken {
            name: name.to_owned(),
            role,
            project: project.map(str::to_owned),
            secret_sha256: Sha256::digest(&secret).into(),
            expires_ms,
            created_by: "test".to_owned(),
        };
        let created = self.within(self.store.create_token(&token, None)).expect("records");
        assert_eq!(created, Created::Created);
        secret
    }

    /// Asks with a token; a body is JSON.
    pub fn ask(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let authorization = format!("Bearer {token}");
        self.send(
            method,
            path,
            &[("authorization", &authorization), ("content-type", "application/json")],
            body,
        )
    }

    /// Asks with these headers.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.raw(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes())
    }

    /// Sends bytes as they are, and reads to the end.
    pub fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // A server that has heard enough closes while it is still told.
        let _ = stream.write_all(bytes);
        read(&mut stream)
    }

    /// The same by the Unix socket.
    pub fn local(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut stream = UnixStream::connect(&self.socket).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        read(&mut stream)
    }

    /// A connection on which nothing was said yet.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// A run of a project, queued over the API.
    pub fn queued(&self, token: &str) -> String {
        let answer = self.ask(token, "POST", "/api/v1/runs", r#"{"command": ["true"]}"#);
        answer.is(201).json()["id"].as_str().expect("an id").to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.cancel();
        if let Some(serving) = self.serving.take() {
            let ended = serving.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
        }
    }
}

/// Reads an answer to the end of its connection.
pub fn read(stream: &mut impl Read) -> Answer {
    let mut bytes = Vec::new();
    let mut piece = [0; 64 * 1024];
    // A connection that is reset after the answer has said what there is to say.
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(&piece[..count]);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|it| it.split(' ').nth(1)).and_then(|it| it.parse().ok()).unwrap_or(0);
    let headers = lines
        .filter_map(|it| it.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Answer { status, headers: headers.collect(), body: body.to_owned() }
}

fn services(store: &Store, clerk: &Arc<Clerk>, state: &std::path::Path, limits: Limits) -> Services {
    Services {
        record: Arc::new(store.clone()),
        queue: Arc::new(store.clone()),
        fleet: Arc::new(store.clone()),
        history: Arc::new(store.clone()),
        access: clerk.clone(),
        pages: Arc::new(store.clone()),
        admission: clerk.clone(),
        logs: Arc::new(StoredLogs(Logs::new(state))),
        attachments: None,
        copies: Arc::new(StoredLogs(Logs::new(state))),
        artifacts: Artifacts::new(state),
        changes: Kept::new(state),
        uploads: state.join("uploads"),
        unready: Arc::new(Vec::new),
        slots: Arc::new(Vec::new),
        metrics: Arc::new(|| "aegis_up 1\n".to_owned()),
        limits,
    }
}

/// Tokens of a store that can be made to fail, and an admission that allows everything.
pub struct Clerk {
    store: Store,
    /// Whether every question fails as a store that is away does.
    pub broken: AtomicBool,
}

impl Clerk {
    fn whole(&self) -> Result<(), RecordError> {
        if self.broken.load(Ordering::SeqCst) {
            let source = "SELECT secret FROM /var/lib/aegis/aegis.db".into();
            return Err(RecordError::Unavailable { place: "/var/lib/aegis/aegis.db".into(), source });
        }
        Ok(())
    }
}

impl Access for Clerk {
    fn create_token<'a>(&'a self, token: &'a NewToken, audit: Option<&'a NewAudit>) -> Pending<'a, Created> {
        self.store.create_token(token, audit)
    }

    fn revoke_token<'a>(&'a self, name: &'a str, audit: Option<&'a NewAudit>) -> Pending<'a, Revoked> {
        self.store.revoke_token(name, audit)
    }

    fn tokens(&self) -> Pending<'_, Vec<Token>> {
        self.store.tokens()
    }

    fn authenticate<'a>(&'a self, secret_sha256: &'a [u8; 32]) -> Pending<'a, Authenticated> {
        Box::pin(async {
            self.whole()?;
            self.store.authenticate(secret_sha256).await
        })
    }

    fn put_project<'a>(&'a self, project: &'a Project, audit: Option<&'a NewAudit>) -> Pending<'a, ()> {
        self.store.put_project(project, audit)
    }

    fn project<'a>(&'a self, name: &'a str) -> Pending<'a, Option<Project>> {
        self.store.project(name)
    }

    fn projects(&self) -> Pending<'_, Vec<Project>> {
        self.store.projects()
    }

    fn audit<'a>(&'a self, entry: &'a NewAudit) -> Pending<'a, ()> {
        Box::pin(async {
            self.whole()?;
            self.store.audit(entry).await
        })
    }

    fn audits(&self, before_seq: Option<u64>, count_max: u32) -> Pending<'_, Vec<Audit>> {
        self.store.audits(before_seq, count_max)
    }
}

impl Admission for Clerk {
    fn admit(&self, asked: Asked) -> Later<'_, Result<NewSubmission, Refusal>> {
        Box::pin(async move {
            let Asked { id, name, labels, project, submitter, submission, schedule, idempotency } = asked;
            let chosen = match &submission.policy {
                PolicySource::Named(name) => shipped(name)
                    .map_err(|it| Refusal::Wrong { field: "policy".to_owned(), message: it.to_string() })?,
                PolicySource::Default | PolicySource::Document { .. } => {
                    default_policy().expect("strict ships")
                }
            };
            let policy = PolicyRecord {
                name: chosen.base.to_owned(),
                digest: "sha256:00".to_owned(),
                asked: "{}".to_owned(),
                resolved: "{}".to_owned(),
                effective: "{}".to_owned(),
            };
            let task = TaskRecord {
                command: submission.command.clone(),
                image: submission.image.clone(),
                workspace: None,
                workdir: submission.workdir.clone(),
                environment_names: submission.environment.iter().map(|it| it.0.clone()).collect(),
                outputs: Vec::new(),
                secrets: Vec::new(),
            };
            let limits = aegis::record::Limits::of(&chosen.policy);
            let run = NewRun {
                id,
                name,
                labels,
                task,
                workspace: None,
                policy,
                limits,
                owner: None,
                created_ms: id.made_ms(),
            };
            Ok(NewSubmission { run, project, submitter, submission, schedule, idempotency })
        })
    }
}
