//! A broker driven by hand, and a socket before the engine's that notes which processes come.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::aegis::Aegis;

/// Time that one answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// A broker, and the server's end of its connection. Dropped, it is killed.
pub struct Driven {
    pub child: Child,
    pub socket: UnixStream,
    last_id: u64,
}

impl Driven {
    /// One that was told nothing yet.
    pub fn fresh(aegis: &Aegis) -> Self {
        let (socket, theirs) = UnixStream::pair().expect("a pair");
        socket.set_read_timeout(Some(ANSWER_TIME_MAX)).expect("set");
        let arguments = ["broker", "--runtime-root", "/run/aegis", "--work-root", "/var/lib/sandbox-work"];
        let mut command = aegis.command(&arguments);
        let child = command.stdin(OwnedFd::from(theirs)).stderr(Stdio::null()).spawn().expect("it starts");
        // The command keeps its copy of the broker's end until it is dropped.
        drop(command);
        Self { child, socket, last_id: 0 }
    }

    /// One that serves this instance.
    pub fn of(aegis: &Aegis) -> Self {
        let mut driven = Self::fresh(aegis);
        let begun = driven.ask(json!({"begin": {"instance": aegis.instance()}}));
        assert_eq!(begun, json!("done"));
        driven
    }

    /// Asks, and gives what came of it.
    pub fn ask(&mut self, verb: Value) -> Value {
        self.last_id += 1;
        self.send(json!({"id": self.last_id, "verb": verb}).to_string().as_bytes());
        let answer = self.answer().expect("it answers");
        assert_eq!(answer["id"], json!(self.last_id), "{answer}");
        answer["answered"].clone()
    }

    /// Asks what is not followed, and gives the reason.
    #[track_caller]
    pub fn refused(&mut self, verb: Value) -> String {
        let answered = self.ask(verb.clone());
        let reason = answered["failed"]["not_allowed"]["reason"].as_str();
        reason.unwrap_or_else(|| panic!("{verb}: {answered}")).to_owned()
    }

    /// Sends a message.
    pub fn send(&mut self, message: &[u8]) {
        let mut frame = u32::try_from(message.len()).expect("short").to_le_bytes().to_vec();
        frame.extend(message);
        self.write(&frame);
    }

    /// Sends bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("taken");
    }

    /// The next answer; `None` once the broker is done.
    pub fn answer(&mut self) -> Option<Value> {
        let mut header = [0; 4];
        match self.socket.read_exact(&mut header) {
            Err(error) if [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&error.kind()) => {
                return None;
            }
            read => read.expect("an answer in time"),
        }
        let mut message = vec![0; u32::from_le_bytes(header) as usize];
        self.socket.read_exact(&mut message).expect("a whole answer");
        Some(serde_json::from_slice(&message).expect("JSON"))
    }

    /// Holds that it says why it does not go on, and ends; gives the reason.
    #[track_caller]
    pub fn ends(mut self) -> String {
        let answer = self.answer().expect("it says why");
        assert_eq!(answer["id"], json!(0), "{answer}");
        assert!(self.answer().is_none(), "it goes on");
        self.child.wait().expect("it ends");
        answer["answered"]["failed"]["not_allowed"]["reason"].as_str().expect("a reason").to_owned()
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The engine's socket, as the environment names it.
pub fn engine_socket() -> PathBuf {
    let text = |name| std::env::var(name).ok();
    aegis::docker::address::socket_path(text("DOCKER_HOST").as_deref(), text("XDG_RUNTIME_DIR").as_deref())
        .expect("an engine of this host")
}

/// A socket before the engine's. Dropped, its name is gone; its threads end with their connections.
pub struct Door {
    directory: tempfile::TempDir,
    comers: Arc<Mutex<Vec<u32>>>,
}

impl Door {
    /// Opens it.
    pub fn open() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(directory.path().join("engine.sock")).expect("a listener");
        let comers = Arc::new(Mutex::new(Vec::new()));
        let noted = comers.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let peer = rustix::net::sockopt::socket_peercred(&near).expect("a peer");
                noted.lock().expect("held").push(peer.pid.as_raw_nonzero().get().unsigned_abs());
                let far = UnixStream::connect(engine_socket()).expect("the engine");
                join(near.try_clone().expect("a clone"), far.try_clone().expect("a clone"));
                join(far, near);
            }
        });
        Self { directory, comers }
    }

    /// What `DOCKER_HOST` says for it.
    pub fn address(&self) -> String {
        format!("unix://{}/engine.sock", self.directory.path().display())
    }

    /// The processes that came, one for each connection.
    pub fn comers(&self) -> Vec<u32> {
        self.comers.lock().expect("held").clone()
    }
}

fn join(mut from: UnixStream, mut to: UnixStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}

/// What a service manager is for the broker: a process for each connection to a socket.
pub struct Activator {
    path: PathBuf,
}

impl Activator {
    /// Listens at this path, for this user alone.
    pub fn listen(path: PathBuf, uid: u32, broker: impl Fn() -> Command + Send + 'static) -> Self {
        use std::os::unix::fs::{PermissionsExt, chown};
        let listener = UnixListener::bind(&path).expect("a listener");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        chown(&path, Some(uid), Some(uid)).expect("given");
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let child = broker().stdin(OwnedFd::from(connection)).spawn();
                std::thread::spawn(move || child.expect("it starts").wait());
            }
        });
        Self { path }
    }

    /// What `--broker` says for it.
    pub fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }
}
