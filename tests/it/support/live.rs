//! A run that goes on while a test looks at it from outside.

use std::io::Read;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::aegis::{Aegis, Ended, eventually, finish};

/// Time that a run may take to reach a state.
const UP_TIME_MAX: Duration = Duration::from_secs(60);

/// A run whose command was released. Its streams are read as they come, so that it never waits for a reader.
pub struct Live {
    child: Child,
    stdout: Reading,
    stderr: Reading,
    /// The last 12 digits of its id.
    pub id: String,
}

impl Live {
    /// Starts a shell script and waits until it runs. `name` tells it from other runs of the instance.
    #[track_caller]
    pub fn start(aegis: &Aegis, name: &str, flags: &[&str], script: &str) -> Self {
        let mut arguments = vec!["run", "--no-workspace", "--name", name];
        arguments.extend(flags);
        arguments.extend(["--", "bash", "-c", script]);
        let mut child = aegis.command(&arguments).spawn().expect("aegis starts");
        let stdout = Reading::of(child.stdout.take().expect("a pipe"));
        let stderr = Reading::of(child.stderr.take().expect("a pipe"));
        let mut id = None;
        eventually("the run is running", UP_TIME_MAX, || {
            id = running(aegis, name);
            let ended = child.try_wait().expect("waited for");
            assert!(id.is_some() || ended.is_none(), "it ended with {ended:?}: {}", stderr.text());
            id.is_some()
        });
        Self { child, stdout, stderr, id: id.expect("it was found") }
    }

    /// Waits until its standard output has this text.
    #[track_caller]
    pub fn until(self, said: &str) -> Self {
        eventually("the task says so", UP_TIME_MAX, || self.stdout.text().contains(said));
        self
    }

    /// Sends a signal to the owner.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        kill_process(pid, signal).expect("it is there");
    }

    /// Waits for the owner.
    pub fn finish(self) -> Ended {
        let ended = finish(self.child, b"");
        Ended { stdout: self.stdout.join(), stderr: self.stderr.join(), ..ended }
    }

    /// Cancels the run and waits for the owner.
    #[track_caller]
    pub fn cancel(self, aegis: &Aegis) -> Ended {
        aegis.call(&["cancel", &self.id]).code(0);
        self.finish()
    }
}

/// A stream that is read by a thread of its own.
struct Reading {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Reading {
    fn of(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = bytes.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                into.lock().expect("no panic").extend_from_slice(&buffer[..count]);
            }
        });
        Self { bytes, thread }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no panic")).into_owned()
    }

    fn join(self) -> String {
        self.thread.join().expect("joined");
        String::from_utf8_lossy(&self.bytes.lock().expect("no panic")).into_owned()
    }
}

/// The running run of this name.
fn running(aegis: &Aegis, name: &str) -> Option<String> {
    // Before the first run there is no record to be read.
    let runs = runs(aegis, &[]).unwrap_or_default();
    let run = runs.iter().find(|it| it["name"] == name && it["state"] == "running")?;
    run["short_id"].as_str().map(str::to_owned)
}

/// What `aegis ps --json` lists; `None` where it does not.
pub fn runs(aegis: &Aegis, flags: &[&str]) -> Option<Vec<Value>> {
    let mut arguments = vec!["ps", "--json"];
    arguments.extend(flags);
    serde_json::from_str(&aegis.call(&arguments).stdout).ok()
}

/// The newest run's short id.
#[track_caller]
pub fn newest(aegis: &Aegis) -> String {
    let runs = runs(aegis, &["--all"]).expect("a list");
    runs.first().expect("a run")["short_id"].as_str().expect("an id").to_owned()
}

/// The record of a run, as `aegis show --json` prints it.
#[track_caller]
pub fn record(aegis: &Aegis, run: &str) -> Value {
    let ended = aegis.call(&["show", run, "--json"]);
    ended.code(0);
    serde_json::from_str(&ended.stdout).expect("one JSON object")
}
