//! `aegis serve` as a service manager runs it, and its queue as the server's own front reaches it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aegis::access::{Access, NewAudit, Project, Quotas};
use aegis::app::submission::{Named, understand};
use aegis::policy::{HostAmounts, Overrides};
use aegis::queue::{
    CancelAnswer, Dependency, NewSubmission, PolicySource, Queue, Schedule, Submission, Submitted,
};
use aegis::record::{Found, Record, Run};
use aegis::redact::Redactor;
use aegis::store::{Protection, Store};
use aegis::task::run_id::RunSelector;
use aegis::task::{Cancellation, OutputRequest, RunId, RunState};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::aegis::{Aegis, eventually};
use crate::support::server::{Answer, read};

/// Time that a server may take to begin, and to end once it is told to.
const SERVER_TIME_MAX: Duration = Duration::from_secs(60);
/// Time that a run may take on a loaded machine, retries included.
pub const RUN_TIME_MAX: Duration = Duration::from_secs(120);

/// A server that runs. Dropped, it is killed.
pub struct Server {
    child: Child,
    said: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one and waits until it serves.
    #[track_caller]
    pub fn start(aegis: &Aegis, flags: &[&str]) -> Self {
        Self::with_fault(aegis, flags, "")
    }

    /// The same for one that kills itself at a point, `POINT[:PASSES]`.
    #[track_caller]
    pub fn with_fault(aegis: &Aegis, flags: &[&str], fault: &str) -> Self {
        // The usual socket is one for the host; here many servers run beside each other.
        let socket = format!("unix:{}/aegis.sock", aegis.state().display());
        let mut arguments = vec!["serve"];
        if !flags.contains(&"--listen") && !flags.contains(&"worker") {
            arguments.extend(["--listen", &socket]);
        }
        arguments.extend(flags);
        let mut child = aegis.command(&arguments).env("AEGIS_FAULT", fault).spawn().expect("aegis starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let said = Arc::new(Mutex::new(String::new()));
        let into = said.clone();
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut said = into.lock().expect("nobody panics with it");
                said.push_str(&line);
                said.push('\n');
            }
        });
        let mut server = Self { child, said, reader: Some(reader) };
        eventually("the server serves", SERVER_TIME_MAX, || {
            let ended = server.child.try_wait().expect("waited for");
            // One that was told to kill itself may have done so before anybody read what it said.
            assert!(ended.is_none() || !fault.is_empty(), "it ended: {}", server.said());
            ended.is_some() || server.said().contains("serving with")
        });
        server
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        self.said.lock().expect("nobody panics with it").clone()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        kill_process(pid, signal).expect("it is there");
    }

    /// Waits for its end; the exit status, and what it said.
    #[track_caller]
    pub fn finish(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waited for") {
                break status;
            }
            assert!(begun.elapsed() < SERVER_TIME_MAX, "the server goes on: {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        };
        if let Some(reader) = self.reader.take() {
            reader.join().expect("joined");
        }
        (status.code(), self.said())
    }

    /// Waits until it has killed itself.
    #[track_caller]
    pub fn died(mut self) {
        let mut ended = None;
        eventually("the server is dead", RUN_TIME_MAX, || {
            ended = self.child.try_wait().expect("waited for");
            ended.is_some()
        });
        let signal = ended.and_then(|it| it.signal());
        assert_eq!(signal, Some(Signal::KILL.as_raw()), "{ended:?}: {}", self.said());
    }

    /// Kills it and waits for it. It had not ended in another way.
    #[track_caller]
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        let status = self.child.wait().expect("waited for");
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status}: {}", self.said());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks the server of an instance over its socket, as its own user. `None` where nobody answers, or not to the end.
pub fn asked(aegis: &Aegis, method: &str, path: &str, headers: &str, body: &str) -> Option<Answer> {
    let mut stream = UnixStream::connect(aegis.state().join("aegis.sock")).ok()?;
    stream.set_read_timeout(Some(RUN_TIME_MAX)).expect("a timeout");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).ok()?;
    Some(read(&mut stream)).filter(|it| it.status != 0)
}

/// A task that is to be queued.
#[derive(Clone)]
pub struct Task {
    command: Vec<String>,
    image: String,
    outputs: Vec<String>,
    policy: PolicySource,
    overrides: Overrides,
    schedule: Schedule,
    workspace: Option<String>,
    grace_ms: u64,
    project: String,
}

impl Task {
    /// A shell script in the base image under `strict`.
    pub fn script(script: &str) -> Self {
        let schedule = Schedule { attempts_max: 3, ..Schedule::default() };
        let overrides = Overrides::NONE;
        Self {
            command: ["bash", "-c", script].map(str::to_owned).to_vec(),
            image: "aegis/base".to_owned(),
            outputs: Vec::new(),
            policy: PolicySource::Default,
            overrides,
            schedule,
            workspace: None,
            grace_ms: 1_000,
            project: "default".to_owned(),
        }
    }

    /// A shell script in the smallest image.
    pub fn minimal(script: &str) -> Self {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        Self { command, image: "aegis/minimal".to_owned(), ..Self::script(script) }
    }

    /// Of another project.
    pub fn of_project(mut self, project: &str) -> Self {
        self.project = project.to_owned();
        self
    }

    /// With what comes out.
    pub fn output(mut self, pattern: &str) -> Self {
        self.outputs.push(pattern.to_owned());
        self
    }

    /// One that may be tried again after its release, up to so many attempts.
    pub fn idempotent(mut self, attempts_max: u32) -> Self {
        self.schedule.idempotent = true;
        self.schedule.attempts_max = attempts_max;
        self
    }

    /// One that is tried so often where it was not released.
    pub fn attempts(mut self, attempts_max: u32) -> Self {
        self.schedule.attempts_max = attempts_max;
        self
    }

    /// One that waits for another to end well.
    pub fn after(mut self, run: RunId) -> Self {
        self.schedule.after.push(Dependency { run, success: true });
        self
    }

    /// Only on the host that offers this name as its label `host`.
    pub fn on(mut self, host: &str) -> Self {
        self.schedule.worker_labels.push(("host".to_owned(), host.to_owned()));
        self
    }

    /// With another wall time.
    pub fn timeout_ms(mut self, timeout_ms: u64) -> Self {
        self.overrides.wall_time_ms = Some(timeout_ms);
        self
    }

    /// With this policy's text.
    pub fn policy(mut self, text: &str) -> Self {
        self.policy = PolicySource::Document { name: "test.toml".to_owned(), text: text.to_owned() };
        self
    }

    /// Under a shipped policy.
    pub fn under(mut self, policy: &str) -> Self {
        self.policy = PolicySource::Named(policy.to_owned());
        self
    }

    /// With a workspace that was uploaded.
    pub fn workspace(mut self, digest: &str) -> Self {
        self.workspace = Some(digest.to_owned());
        self
    }

    fn submission(&self, id: RunId) -> NewSubmission {
        let submission = Submission {
            policy: self.policy.clone(),
            overrides: self.overrides.clone(),
            command: self.command.iter().map(|it| it.as_bytes().to_vec()).collect(),
            image: self.image.clone(),
            workspace: self.workspace.clone(),
            workdir: None,
            environment: Vec::new(),
            secrets: Vec::new(),
            outputs: self.outputs.iter().map(|it| OutputRequest { pattern: it.clone() }).collect(),
            keep_changes: false,
            grace_ms: self.grace_ms,
            attached: None,
        };
        // What the submitter's host has: it must not matter.
        let host = HostAmounts {
            memory_bytes: 64 << 30,
            cpus_milli: 64_000,
            pids: 1 << 22,
            nofile: 1 << 20,
            disk_bytes: 1 << 40,
        };
        let understood = understand(&submission, Named::default(), &host).expect("it is understood");
        let run = understood.new_run(id, &Redactor::none(), jiff::Timestamp::now().as_millisecond());
        NewSubmission {
            run,
            project: self.project.clone(),
            submitter: "uid:0".to_owned(),
            submission,
            schedule: self.schedule.clone(),
            idempotency: None,
        }
    }
}

/// The books of an instance, opened beside its server.
pub struct Books {
    runtime: tokio::runtime::Runtime,
    store: Store,
}

impl Books {
    /// Opens them; the instance is made if it was not there.
    pub fn of(aegis: &Aegis) -> Self {
        aegis.call(&["ps"]).code(0);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let store = runtime.block_on(Store::open(&aegis.state())).expect("the books open");
        Self { runtime, store }
    }

    /// Opens those of a PostgreSQL server.
    pub fn at(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let store = runtime.block_on(Store::connect(url, Protection::Proven)).expect("the books open");
        Self { runtime, store }
    }

    /// Limits how many runs of a project may wait.
    pub fn limit_queued(&self, project: &str, queued_max: u64) {
        let quotas = Quotas { queued_max: Some(queued_max), ..Quotas::NONE };
        let name = project.to_owned();
        let project = Project { name, quotas, ceiling: None, images: None, secrets: None };
        self.runtime.block_on(self.store.put_project(&project, None)).expect("kept");
    }

    /// Closes them: everything is in the one file then.
    pub fn close(self) {
        self.runtime.block_on(self.store.close());
    }

    /// Queues a task.
    pub fn submit(&self, task: &Task) -> RunId {
        self.submit_all(std::slice::from_ref(task))[0]
    }

    /// Queues a batch.
    pub fn submit_all(&self, tasks: &[Task]) -> Vec<RunId> {
        let batch: Vec<NewSubmission> = tasks.iter().map(|it| it.submission(RunId::generate())).collect();
        match self.runtime.block_on(self.store.submit(&batch)).expect("it is queued") {
            Submitted::Accepted(runs) => runs.into_iter().map(|(run, _)| run).collect(),
            other => panic!("not taken: {other:?}"),
        }
    }

    /// A run as it is now.
    pub fn run(&self, run: RunId) -> Run {
        match self.runtime.block_on(self.store.find(&RunSelector::Id(run))).expect("read") {
            Found::Run(run) => *run,
            other => panic!("not there: {other:?}"),
        }
    }

    /// The container that a run is in. Others of the server's wait beside it.
    #[track_caller]
    pub fn container(&self, run: RunId) -> String {
        self.run(run).slot.expect("it is in a sandbox").container_id
    }

    /// Cancels a run.
    pub fn cancel(&self, run: RunId) -> CancelAnswer {
        self.runtime.block_on(self.store.cancel(run, Cancellation::Command)).expect("asked")
    }

    /// What was asked for and decided, newest first.
    pub fn audits(&self) -> Vec<NewAudit> {
        let audits = self.runtime.block_on(self.store.audits(None, 1_000)).expect("read");
        audits.into_iter().map(|it| it.entry).collect()
    }

    /// The names of a run's events.
    pub fn events(&self, run: RunId) -> Vec<String> {
        let events = self.runtime.block_on(self.store.events(run)).expect("read");
        events.iter().map(|it| format!("{:?}", it.kind)).collect()
    }

    /// Waits until a run is in this state.
    #[track_caller]
    pub fn until(&self, run: RunId, state: RunState, server: &Server) -> Run {
        let mut seen = None;
        let begun = Instant::now();
        loop {
            let now = self.run(run);
            if now.state == state {
                return now;
            }
            seen.get_or_insert(now.state);
            let (state, said) = (now.state, server.said());
            assert!(begun.elapsed() < RUN_TIME_MAX, "it is {state:?}, events {:?}: {said}", self.events(run));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for a run's end; the outcome as text.
    #[track_caller]
    pub fn outcome(&self, run: RunId, server: &Server) -> String {
        let run = self.until(run, RunState::Done, server);
        run.end.expect("a run that is done has its end").outcome.to_string()
    }
}
