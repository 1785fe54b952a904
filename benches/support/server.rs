//! `aegis serve` of a bench's instance: started, asked over its socket, measured, stopped.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::instance::{Instance, docker};

/// Time that a server may take to begin, to make what is to wait, and to end.
const SERVER_TIME_MAX: Duration = Duration::from_secs(60);
/// Time that one answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// A server that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Server {
    child: Child,
    socket: PathBuf,
    instance: String,
}

impl Server {
    /// Starts one and waits until it is ready.
    pub fn start(instance: &Instance, flags: &[&str]) -> anyhow::Result<Self> {
        let socket = instance.directory().join("aegis.sock");
        let listen = format!("unix:{}", socket.display());
        let mut arguments = vec!["serve", "--listen", &listen];
        arguments.extend(flags);
        let log = std::fs::File::create(instance.directory().join("serve.log"))?;
        let mut command = instance.aegis(&arguments);
        let child = command.stderr(Stdio::from(log)).spawn().context("the server starts")?;
        let mut server = Self { child, socket, instance: String::new() };
        let deadline = Instant::now() + SERVER_TIME_MAX;
        while server.ask("GET", "/readyz", "").is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended with {status}: {}", told(instance));
            }
            if Instant::now() > deadline {
                bail!("the server did not become ready: {}", told(instance));
            }
            std::thread::sleep(LOOK_PAUSE);
        }
        server.instance = instance.id()?;
        Ok(server)
    }

    /// What `--server` and `AEGIS_SERVER` call it.
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    /// Asks over the socket; an answer that is no success is an error.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> anyhow::Result<Value> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        let length = body.len();
        let sent = format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(sent.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if !status.starts_with('2') {
            bail!("`{method} {path}` was answered with {status}: {body}");
        }
        Ok(serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// Waits until so many sandboxes wait.
    pub fn wait_for_slots(&self, count: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + SERVER_TIME_MAX;
        loop {
            let slots = self.ask("GET", "/api/v1/slots", "")?;
            let waiting = slots.get("slots").and_then(Value::as_array).map_or(0, Vec::len);
            if waiting >= count {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{waiting} sandboxes wait after {SERVER_TIME_MAX:?}, {count} were asked for");
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    /// KiB that the server holds, and what all processes of ours hold: its broker, and init in each sandbox that waits.
    /// What the engine and its shims hold is not in it.
    pub fn resident_kib(&self) -> anyhow::Result<(f64, f64)> {
        let server = resident_kib(self.child.id())?;
        let mut all = server;
        for child in children(self.child.id())? {
            all += resident_kib(child)?;
        }
        let filter = format!("label=aegis.instance={}", self.instance);
        for container in docker(&["ps", "-q", "--filter", &filter])?.lines() {
            let init = docker(&["inspect", "--format", "{{.State.Pid}}", container])?;
            all += resident_kib(init.parse()?)?;
        }
        Ok((server, all))
    }

    /// Ends it as a service manager does.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a pid")?;
        kill_process(pid, Signal::TERM)?;
        let deadline = Instant::now() + SERVER_TIME_MAX;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("the server did not end within {SERVER_TIME_MAX:?}");
            }
            std::thread::sleep(LOOK_PAUSE);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of what a server said.
fn told(instance: &Instance) -> String {
    let said = std::fs::read_to_string(instance.directory().join("serve.log")).unwrap_or_default();
    said.lines().last().unwrap_or_default().to_owned()
}

fn resident_kib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Processes that a process has started.
fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let listed = std::fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        children.extend(listed.split_whitespace().filter_map(|it| it.parse::<u32>().ok()));
    }
    Ok(children)
}
