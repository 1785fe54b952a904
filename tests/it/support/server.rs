//! The API of a server on loopback and a Unix socket, over real records; queue and tokens are kept in memory. No task runs.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aegis::api::access::{Access, Audit, Identity, NewToken, Role, Token};
use aegis::api::listener::{Address, Members, Plain};
use aegis::api::services::{
    Admission, Answer as Later, Asked, Limits, Listed, PageFilter, Refusal, Runs, Services,
};
use aegis::api::{Listener, serve};
use aegis::app::api::StoredLogs;
use aegis::policy::{default_policy, shipped};
use aegis::queue::{
    CancelAnswer, Claimed, Expired, NewSubmission, PolicySource, Queue, Reached, Renewed, Settled, Submitted,
    Worker,
};
use aegis::record::{
    End, Fence, Found, NewRun, Pending, PolicyRecord, Record, RecordError, RunFilter, TaskRecord, Transition,
};
use aegis::store::{Logs, Store};
use aegis::task::run_id::RunSelector;
use aegis::task::{Cancellation, Outcome, RunId, RunState};
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
    /// What it keeps in memory.
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
        let state = tempfile::tempdir().expect("a directory");
        let directory = state.path().to_owned();
        let closing = CancellationToken::new();
        let (tell, told) = std::sync::mpsc::channel();
        let ended = closing.clone();
        let serving = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async {
                let store = Store::open(&directory).await.expect("records");
                let clerk = Arc::new(Clerk {
                    store: store.clone(),
                    desk: Mutex::default(),
                    broken: AtomicBool::new(false),
                });
                let Ok(Address::Tcp(loopback)) = "127.0.0.1:0".parse() else { panic!("an address") };
                let tcp = Listener::tcp(loopback, None, Plain::Loopback).await.expect("listens");
                let address = tcp.shown().trim_start_matches("http://").parse().expect("an address");
                let members = Members { own_uid: rustix::process::geteuid().as_raw(), group: None };
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
        let secret = format!("aegis_test_{name}");
        let identity = Identity { name: name.to_owned(), role, project: project.map(str::to_owned) };
        let token = NewToken { identity, sha256: Sha256::digest(&secret).into(), expires_ms: None };
        self.clerk.desk.lock().expect("a desk").tokens.push((token, false));
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
        queue: clerk.clone(),
        access: clerk.clone(),
        runs: clerk.clone(),
        admission: clerk.clone(),
        logs: Arc::new(StoredLogs(Logs::new(state))),
        uploads: state.join("uploads"),
        unready: Arc::new(Vec::new),
        metrics: Arc::new(|| "aegis_up 1\n".to_owned()),
        limits,
    }
}

/// Queue, tokens and projects, in memory.
pub struct Clerk {
    store: Store,
    /// What it keeps.
    pub desk: Mutex<Desk>,
    /// Whether every question fails as a store that is away does.
    pub broken: AtomicBool,
}

/// What a clerk keeps.
#[derive(Default)]
pub struct Desk {
    /// Tokens, and whether each is revoked.
    pub tokens: Vec<(NewToken, bool)>,
    /// The audit.
    pub audit: Vec<Audit>,
    /// Projects of runs.
    pub projects: HashMap<RunId, String>,
    keys: HashMap<(String, String), ([u8; 32], RunId)>,
}

impl Clerk {
    fn whole(&self) -> Result<std::sync::MutexGuard<'_, Desk>, RecordError> {
        if self.broken.load(Ordering::SeqCst) {
            let source = "SELECT secret FROM /var/lib/aegis/aegis.db".into();
            return Err(RecordError::Unavailable { place: "/var/lib/aegis/aegis.db".into(), source });
        }
        Ok(self.desk.lock().expect("a desk"))
    }

    async fn take(&self, batch: &[NewSubmission]) -> Result<Submitted, RecordError> {
        let mut taken = Vec::new();
        for one in batch {
            let known = {
                let mut desk = self.whole()?;
                desk.projects.insert(one.run.id, one.project.clone());
                match &one.idempotency {
                    None => None,
                    Some(it) => {
                        let key = (one.project.clone(), it.key.clone());
                        let entry = desk.keys.entry(key).or_insert((it.body_sha256, one.run.id));
                        if entry.0 != it.body_sha256 {
                            return Ok(Submitted::KeyConflict { index: taken.len(), run: entry.1 });
                        }
                        (entry.1 != one.run.id).then_some(entry.1)
                    }
                }
            };
            if let Some(run) = known {
                taken.push((run, false));
                continue;
            }
            let _ = self.store.insert(&one.run).await?;
            taken.push((one.run.id, true));
        }
        Ok(Submitted::Accepted(taken))
    }

    async fn end(&self, run: RunId, by: Cancellation) -> Result<CancelAnswer, RecordError> {
        if !self.whole()?.projects.contains_key(&run) {
            return Ok(CancelAnswer::Unknown);
        }
        let Found::Run(run) = self.store.find(&RunSelector::Id(run)).await? else {
            return Ok(CancelAnswer::Unknown);
        };
        if run.state == RunState::Done {
            return Ok(CancelAnswer::Over);
        }
        let end = End::bare(Outcome::Cancelled(by));
        Ok(match self.store.finish(run.fence, &end, None, run.created_ms).await? {
            Transition::Applied => CancelAnswer::Ended,
            Transition::Superseded => CancelAnswer::Over,
        })
    }
}

impl Queue for Clerk {
    fn submit<'a>(&'a self, batch: &'a [NewSubmission]) -> Pending<'a, Submitted> {
        Box::pin(self.take(batch))
    }

    fn claim<'a>(&'a self, _: &'a Worker, _: u32) -> Pending<'a, Vec<Claimed>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn renew<'a>(&'a self, _: &'a [Fence]) -> Pending<'a, Renewed> {
        Box::pin(async { Ok(Renewed::default()) })
    }

    fn settle<'a>(&'a self, _: Fence, _: Reached, _: &'a End, _: Option<&'a str>) -> Pending<'a, Settled> {
        Box::pin(async { Ok(Settled::Superseded) })
    }

    fn give_back<'a>(&'a self, _: &'a [Fence]) -> Pending<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn cancel(&self, run: RunId, by: Cancellation) -> Pending<'_, CancelAnswer> {
        Box::pin(self.end(run, by))
    }

    fn expire(&self, _: u32) -> Pending<'_, Vec<Expired>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn wait(&self) -> Pending<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

impl Access for Clerk {
    fn authenticate(&self, sha256: [u8; 32]) -> Pending<'_, Option<Identity>> {
        let now_ms =
            i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("a clock").as_millis()).expect("a time");
        Box::pin(async move {
            let desk = self.whole()?;
            let mut found = desk.tokens.iter();
            let found = found.find(|(it, revoked)| {
                it.sha256 == sha256 && !revoked && it.expires_ms.is_none_or(|it| it > now_ms)
            });
            Ok(found.map(|it| it.0.identity.clone()))
        })
    }

    fn create_token<'a>(&'a self, token: &'a NewToken) -> Pending<'a, bool> {
        Box::pin(async {
            let mut desk = self.whole()?;
            let is_new = !desk.tokens.iter().any(|it| it.0.identity.name == token.identity.name);
            if is_new {
                desk.tokens.push((token.clone(), false));
            }
            Ok(is_new)
        })
    }

    fn revoke_token<'a>(&'a self, name: &'a str) -> Pending<'a, bool> {
        Box::pin(async move {
            let mut desk = self.whole()?;
            let mut found = desk.tokens.iter_mut();
            let found = found.find(|it| it.0.identity.name == name && !it.1);
            Ok(found.map(|it| it.1 = true).is_some())
        })
    }

    fn tokens(&self) -> Pending<'_, Vec<Token>> {
        Box::pin(async {
            let desk = self.whole()?;
            let token = |(it, revoked): &(NewToken, bool)| Token {
                identity: it.identity.clone(),
                created_ms: 0,
                expires_ms: it.expires_ms,
                last_used_ms: None,
                revoked_ms: revoked.then_some(0),
            };
            Ok(desk.tokens.iter().map(token).collect())
        })
    }

    fn audit<'a>(&'a self, event: &'a Audit) -> Pending<'a, ()> {
        Box::pin(async {
            self.whole()?.audit.push(event.clone());
            Ok(())
        })
    }
}

impl Runs for Clerk {
    fn project_of(&self, run: RunId) -> Pending<'_, Option<String>> {
        Box::pin(async move { Ok(self.whole()?.projects.get(&run).cloned()) })
    }

    fn page<'a>(&'a self, filter: &'a PageFilter, count_max: u32) -> Pending<'a, Vec<Listed>> {
        Box::pin(async move {
            let runs = self.store.list(RunFilter::All, 1000).await?;
            let desk = self.whole()?;
            let listed =
                runs.into_iter().map(|run| Listed { project: desk.projects.get(&run.id).cloned(), run });
            let fits = |it: &Listed| {
                (filter.project.is_none() || it.project == filter.project)
                    && filter.state.is_none_or(|state| it.run.state == state)
                    && filter.label.as_ref().is_none_or(|label| it.run.labels.contains(label))
                    && filter.before.is_none_or(|before| it.run.id < before)
            };
            Ok(listed.filter(fits).take(count_max as usize).collect())
        })
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
