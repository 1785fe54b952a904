//! A run that is looked at from outside while it goes on.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::aegis::{Aegis, Ended, docker, finish};

/// A run of an instance that has no other. What its script prints is read line by line; its standard input is open.
pub struct Watched<'a> {
    aegis: &'a Aegis,
    child: Option<Child>,
    stdout: BufReader<ChildStdout>,
}

impl<'a> Watched<'a> {
    /// Starts a script in the base image under `strict`, with these flags, its standard input open.
    pub fn script(aegis: &'a Aegis, flags: &[&str], script: &str) -> Self {
        let mut arguments = vec!["run", "-i", "--no-workspace"];
        arguments.extend(flags);
        arguments.extend(["--", "bash", "-c", script]);
        let mut child = aegis.command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { aegis, child: Some(child), stdout }
    }

    /// Reads until a line that is this text; fails if the output ends before.
    #[track_caller]
    pub fn wait_for(&mut self, expected: &str) {
        let mut line = String::new();
        while line.trim_end() != expected {
            line.clear();
            if self.stdout.read_line(&mut line).unwrap() == 0 {
                let ended = finish(self.child.take().unwrap(), b"");
                panic!("the output ended before `{expected}`: {ended:#?}");
            }
        }
    }

    /// Writes a line to the script's standard input.
    pub fn say(&mut self, line: &str) {
        let stdin = self.child.as_mut().unwrap().stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    /// The container, by id.
    #[track_caller]
    pub fn container(&self) -> String {
        let containers = self.aegis.containers();
        assert_eq!(containers.len(), 1, "one run has one container");
        containers.into_iter().next().unwrap()
    }

    /// What the engine says of the container, by a template of its client.
    pub fn inspect(&self, template: &str) -> String {
        docker(&["inspect", "--format", template, &self.container()]).trim().to_owned()
    }

    /// PID 1 of the sandbox, as the host counts.
    pub fn init(&self) -> u32 {
        self.inspect("{{.State.Pid}}").parse().unwrap()
    }

    /// The first process of the command, as the host counts.
    pub fn command(&self) -> u32 {
        let init = self.init();
        let children = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// The directory of a cgroup v1 controller, or of the one hierarchy, as the host sees it.
    pub fn cgroup(&self, controller: &str) -> PathBuf {
        let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", self.init())).unwrap();
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next().unwrap(), parts.next().unwrap().trim_start_matches('/'));
            if controllers.split(',').any(|it| it == controller) {
                return PathBuf::from("/sys/fs/cgroup").join(controller).join(path);
            }
            if controllers.is_empty() && !groups.lines().any(|it| it.contains(controller)) {
                return PathBuf::from("/sys/fs/cgroup").join(path);
            }
        }
        panic!("no cgroup of {controller} in {groups}");
    }

    /// Runs a further command in the same sandbox, by the run's id in the list.
    #[track_caller]
    pub fn exec(&self, script: &str) -> Ended {
        let listed = self.aegis.call(&["ps", "--json"]);
        let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
        let id = listed.pointer("/0/short_id").and_then(serde_json::Value::as_str);
        let id = id.unwrap_or_else(|| panic!("one run in {listed:#}"));
        self.aegis.call(&["exec", id, "--", "bash", "-c", script])
    }

    /// The process of `aegis` itself.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Sends a signal to `aegis` itself.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().unwrap().id();
        kill_process(Pid::from_raw(id.cast_signed()).unwrap(), signal).unwrap();
    }

    /// Waits for the end; `stdout` is what was not read yet.
    pub fn end(mut self) -> Ended {
        let mut child = self.child.take().unwrap();
        drop(child.stdin.take());
        let mut stdout = self.stdout;
        let reader = std::thread::spawn(move || {
            let mut rest = String::new();
            stdout.read_to_string(&mut rest).map(|_| rest)
        });
        let ended = finish(child, b"");
        Ended { stdout: reader.join().unwrap().unwrap(), ..ended }
    }
}
