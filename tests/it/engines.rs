//! Engines that cannot raise the walls are refused by name, before anything is made (acceptance 6).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use serde_json::{Value, json};

use crate::support::aegis::{Aegis, Ended};
use crate::support::rewriter::Rewriter;

/// An engine that gives one recorded answer to whatever it is asked.
struct Recorded {
    directory: tempfile::TempDir,
}

impl Recorded {
    fn serve(answer: &'static [u8]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(directory.path().join("engine.sock")).expect("a socket");
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                std::thread::spawn(move || answer_all(client, answer));
            }
        });
        Self { directory }
    }

    fn address(&self) -> String {
        format!("unix://{}", self.directory.path().join("engine.sock").display())
    }
}

/// Requests on one connection, until it ends.
fn answer_all(mut client: UnixStream, answer: &[u8]) -> std::io::Result<()> {
    let requests = BufReader::new(client.try_clone()?);
    for line in requests.lines() {
        if line?.is_empty() {
            client.write_all(answer)?;
        }
    }
    Ok(())
}

/// A run against an engine at this address: refused, with every one of these words, and nothing made.
fn refused(address: &str, flags: &[&str], parts: &[&str]) -> Ended {
    let aegis = Aegis::new().with("DOCKER_HOST", address);
    let ended = aegis.script(flags, "echo STARTED");
    ended.code(125);
    for part in parts {
        ended.says(part);
    }
    assert_eq!(ended.stdout, "");
    let slots = std::fs::read_dir(aegis.runtime().join("slots"));
    assert_eq!(slots.map_or(0, Iterator::count), 0, "a slot was made");
    ended
}

#[test]
fn podman_is_refused_with_what_it_lacks() {
    let podman = Recorded::serve(include_bytes!("../fixtures/engines/podman-4.3.1-version.http"));
    refused(&podman.address(), &[], &["Podman", "seccomp", "uid=", "DOCKER_HOST"]);
}

#[test]
fn an_engine_that_is_too_old_is_refused_with_both_versions() {
    let old = Recorded::serve(include_bytes!("../fixtures/engines/docker-19.03-version.http"));
    refused(&old.address(), &[], &["too old", "1.40", "1.41", "20.10", "Update"]);
}

#[test]
fn something_that_is_no_engine_is_refused() {
    let web =
        Recorded::serve(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 5\r\n\r\nhello");
    refused(&web.address(), &[], &["engine", "version"]);
}

#[test]
fn something_that_does_not_speak_http_is_refused() {
    let noise = Recorded::serve(b"\x00\x01\x02 220 mail ready\r\n");
    refused(&noise.address(), &[], &["engine"]);
}

#[test]
fn a_remote_engine_is_refused_by_name() {
    for address in
        ["tcp://127.0.0.1:1", "ssh://build.example.org", "http://127.0.0.1:1", "npipe:////./pipe/docker"]
    {
        refused(address, &[], &["it is remote", "DOCKER_HOST", address]);
    }
}

#[test]
fn gvisor_is_refused_by_name() {
    let engine = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    refused(&engine, &["--runtime", "runsc"], &["runsc", "gVisor", "until its transport exists"]);
}

#[test]
fn a_runtime_that_nobody_knows_is_refused() {
    let engine = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    refused(&engine, &["--runtime", "nonesuch"], &["nonesuch", "runc"]);
}

/// A real engine that describes itself otherwise.
fn described(change: impl Fn(&mut Value) + Send + Sync + 'static, parts: &[&str]) {
    let rewriter = Rewriter::answering(move |path, answer| {
        if path.ends_with("/info") {
            change(answer);
        }
    });
    refused(&rewriter.docker_host(), &[], parts);
    let made: Vec<String> =
        rewriter.requests().into_iter().filter(|it| it.contains("/containers/create")).collect();
    assert_eq!(made, Vec::<String>::new(), "a container was made");
}

#[test]
fn an_engine_without_seccomp_is_refused() {
    described(|info| info["SecurityOptions"] = json!([]), &["no seccomp"]);
}

#[test]
fn an_engine_without_a_pids_controller_is_refused() {
    described(|info| info["PidsLimit"] = json!(false), &["pids controller", "delegate"]);
}

#[test]
fn an_engine_without_a_memory_controller_is_refused() {
    described(|info| info["MemoryLimit"] = json!(false), &["memory controller"]);
}

#[test]
fn an_engine_that_cannot_limit_cpus_is_refused() {
    described(|info| info["CpuCfsQuota"] = json!(false), &["CPU"]);
}

#[test]
fn everything_that_is_missing_is_told_at_once() {
    described(
        |info| {
            info["SecurityOptions"] = json!([]);
            info["PidsLimit"] = json!(false);
            info["MemoryLimit"] = json!(false);
        },
        &["no seccomp", "pids controller", "memory controller"],
    );
}

#[test]
fn an_engine_without_the_runtime_is_refused_with_those_it_has() {
    described(
        |info| info["Runtimes"] = json!({ "crun": { "path": "crun" } }),
        &["no runtime `runc`", "crun"],
    );
}

#[test]
fn an_engine_that_cannot_see_our_directories_is_refused_by_name() {
    // As an engine in a virtual machine answers to the mount of a directory that it does not have.
    let rewriter = Rewriter::weakening(
        crate::support::rewriter::Inspection::Honest,
        Box::new(|body| body["HostConfig"]["Mounts"][0]["Source"] = json!("/nonexistent/slots/0/in")),
    );
    refused(&rewriter.docker_host(), &[], &["does not share this host's filesystem", "engine's own host"]);
}
