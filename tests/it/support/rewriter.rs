//! A proxy on a socket of its own between Aegis and the real engine, that changes what passes: the request that makes
//! a container, and answers. The engine then makes something else than Aegis asked for, and may lie about it.
//!
//! One request per connection: each is forwarded with `Connection: close`, which both sides of HTTP/1.1 understand.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// Bytes of a body that is read whole.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of a head.
const HEAD_BYTES_MAX: u64 = 64 * 1024;

/// Changes the body of the request that makes a container.
pub type OnCreate = Box<dyn Fn(&mut Value) + Send + Sync>;
/// Changes an answer: path of the request, body.
pub type OnAnswer = Box<dyn Fn(&str, &mut Value) + Send + Sync>;

/// What the inspection of a container says after its request was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inspection {
    /// What the engine made.
    Honest,
    /// What Aegis asked for.
    Lying,
}

/// A running proxy. Dropped, its socket is gone; its threads end with their connections.
pub struct Rewriter {
    directory: tempfile::TempDir,
    seen: Arc<Mutex<Seen>>,
}

/// What has passed.
#[derive(Debug, Default)]
struct Seen {
    /// Request lines, without the version.
    lines: Vec<String>,
    /// The last request for a container, as Aegis sent it and as the engine got it.
    create: Option<(Value, Value)>,
}

struct Rules {
    on_create: OnCreate,
    on_answer: OnAnswer,
    inspection: Inspection,
    seen: Arc<Mutex<Seen>>,
}

impl Rewriter {
    /// Changes what the engine is asked to make, and what it says about it.
    pub fn weakening(inspection: Inspection, on_create: OnCreate) -> Self {
        Self::start(inspection, on_create, Box::new(|_, _| {}))
    }

    /// Changes answers only.
    pub fn answering(on_answer: impl Fn(&str, &mut Value) + Send + Sync + 'static) -> Self {
        Self::start(Inspection::Honest, Box::new(|_| {}), Box::new(on_answer))
    }

    fn start(inspection: Inspection, on_create: OnCreate, on_answer: OnAnswer) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(directory.path().join("docker.sock")).expect("a socket");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let rules = Arc::new(Rules { on_create, on_answer, inspection, seen: seen.clone() });
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let rules = rules.clone();
                // A connection that breaks is the client's to notice.
                std::thread::spawn(move || forward(client, &rules));
            }
        });
        Self { directory, seen }
    }

    /// The value of `DOCKER_HOST`.
    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.directory.path().join("docker.sock").display())
    }

    /// Every request so far: method and path.
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().expect("not poisoned").lines.clone()
    }

    /// The last request for a container, as Aegis sent it.
    pub fn asked(&self) -> Option<Value> {
        self.seen.lock().expect("not poisoned").create.as_ref().map(|(asked, _)| asked.clone())
    }
}

/// The head of a message: its first line and its fields.
struct Head {
    first: String,
    fields: Vec<(String, String)>,
}

impl Head {
    fn read(stream: &mut impl BufRead) -> std::io::Result<Self> {
        let mut limited = stream.take(HEAD_BYTES_MAX);
        let mut line = || -> std::io::Result<String> {
            let mut text = String::new();
            limited.read_line(&mut text)?;
            Ok(text.trim_end().to_owned())
        };
        let first = line()?;
        let mut fields = Vec::new();
        loop {
            let text = line()?;
            let Some((name, value)) = text.split_once(':') else {
                break;
            };
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Self { first, fields })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    fn is_chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked"))
    }

    fn length(&self) -> Option<u64> {
        self.get("content-length").and_then(|it| it.parse().ok())
    }

    /// The head with other framing: `length` of a body that follows whole, `None` where the old framing holds.
    fn write(&self, stream: &mut impl Write, length: Option<usize>) -> std::io::Result<()> {
        write!(stream, "{}\r\n", self.first)?;
        for (name, value) in &self.fields {
            let framing = matches!(name.as_str(), "content-length" | "transfer-encoding") && length.is_some();
            if name != "connection" && !framing {
                write!(stream, "{name}: {value}\r\n")?;
            }
        }
        if let Some(length) = length {
            write!(stream, "content-length: {length}\r\n")?;
        }
        write!(stream, "connection: close\r\n\r\n")
    }
}

fn forward(client: UnixStream, rules: &Rules) -> std::io::Result<()> {
    let mut from_client = BufReader::new(client.try_clone()?);
    let mut client = client;
    let request = Head::read(&mut from_client)?;
    let line = request.first.rsplit_once(' ').map_or("", |(line, _)| line).to_owned();
    let path = line.split_once(' ').map_or("", |(_, path)| path).to_owned();
    rules.seen.lock().expect("not poisoned").lines.push(line.clone());
    let mut engine = UnixStream::connect(engine_socket())?;
    if line.starts_with("POST") && path.contains("/containers/create") {
        let body = changed_request(&whole_body(&mut from_client, &request)?, rules);
        request.write(&mut engine, Some(body.len()))?;
        engine.write_all(&body)?;
    } else {
        request.write(&mut engine, None)?;
        copy_body(&mut from_client, &request, &mut engine)?;
    }
    let mut from_engine = BufReader::new(engine);
    let answer = Head::read(&mut from_engine)?;
    let is_json = answer.get("content-type").is_some_and(|it| it.starts_with("application/json"));
    let is_stream = ["/events", "/images/create", "/build"].iter().any(|it| path.contains(it));
    if !is_json || is_stream || answer.first.contains(" 204 ") {
        answer.write(&mut client, None)?;
        std::io::copy(&mut from_engine, &mut client)?;
        return Ok(());
    }
    let body = changed_answer(&whole_body(&mut from_engine, &answer)?, &path, rules);
    answer.write(&mut client, Some(body.len()))?;
    client.write_all(&body)
}

/// The real engine's socket; a test that stands this proxy up has not changed its own environment.
fn engine_socket() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    PathBuf::from(host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock"))
}

fn changed_request(body: &[u8], rules: &Rules) -> Vec<u8> {
    let asked: Value = serde_json::from_slice(body).expect("Aegis sends JSON");
    let mut changed = asked.clone();
    (rules.on_create)(&mut changed);
    let bytes = changed.to_string().into_bytes();
    rules.seen.lock().expect("not poisoned").create = Some((asked, changed));
    bytes
}

fn changed_answer(body: &[u8], path: &str, rules: &Rules) -> Vec<u8> {
    let Ok(mut answer) = serde_json::from_slice::<Value>(body) else {
        return body.to_vec();
    };
    (rules.on_answer)(path, &mut answer);
    let inspected = path.contains("/containers/") && path.ends_with("/json");
    let seen = rules.seen.lock().expect("not poisoned");
    if let (Inspection::Lying, true, Some((asked, changed))) = (rules.inspection, inspected, &seen.create) {
        hide(&mut answer, asked, changed);
    }
    answer.to_string().into_bytes()
}

/// Puts back, in an inspection, every setting that the engine was told otherwise.
fn hide(answer: &mut Value, asked: &Value, changed: &Value) {
    put_back(&mut answer["HostConfig"], &asked["HostConfig"], &changed["HostConfig"]);
    put_back(&mut answer["Config"], asked, changed);
}

fn put_back(shown: &mut Value, asked: &Value, changed: &Value) {
    let (Some(shown), Some(asked), Some(changed)) =
        (shown.as_object_mut(), asked.as_object(), changed.as_object())
    else {
        return;
    };
    for name in changed.keys().chain(asked.keys()).filter(|it| *it != "HostConfig") {
        match (asked.get(name), changed.get(name)) {
            (asked, changed) if asked == changed => {}
            (Some(value), _) => {
                shown.insert(name.clone(), value.clone());
            }
            (None, _) => {
                shown.remove(name);
            }
        }
    }
}

fn whole_body(stream: &mut impl BufRead, head: &Head) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if head.is_chunked() {
        copy_chunks(stream, |content| {
            body.extend_from_slice(content);
            Ok(())
        })?;
        return Ok(body);
    }
    stream.take(head.length().unwrap_or(0).min(BODY_BYTES_MAX)).read_to_end(&mut body)?;
    Ok(body)
}

fn copy_body(stream: &mut impl BufRead, head: &Head, to: &mut impl Write) -> std::io::Result<()> {
    if head.is_chunked() {
        copy_chunks(stream, |content| {
            write!(to, "{:x}\r\n", content.len())?;
            to.write_all(content)?;
            to.write_all(b"\r\n")
        })?;
        return to.write_all(b"0\r\n\r\n");
    }
    std::io::copy(&mut stream.take(head.length().unwrap_or(0)), to).map(|_| ())
}

fn copy_chunks(
    stream: &mut impl BufRead,
    mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        let mut content = vec![0; usize::try_from(size.min(BODY_BYTES_MAX)).expect("it is bounded")];
        stream.read_exact(&mut content)?;
        let mut end = [0; 2];
        stream.read_exact(&mut end)?;
        if content.is_empty() {
            return Ok(());
        }
        take(&content)?;
    }
}
