//! What is told over the interface outlives a server (OF-17, AP-20): a log goes on where its reader left off, and what was
//! done is written down with what it did.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use aegis::task::{RunId, RunState};

use crate::support::aegis::{Aegis, eventually};
use crate::support::serving::{Books, Server, Task, asked};
use crate::torture::{BODY, end, ended_once};

/// A log as a reader has it so far.
#[derive(Default)]
struct Seen {
    text: String,
    last_id: Option<String>,
    ended: bool,
}

impl Seen {
    /// Reads on from where it is, until the log or the connection ends, or this much was read.
    fn read_on(&mut self, aegis: &Aegis, run: RunId, until: &str) {
        let Ok(mut stream) = UnixStream::connect(aegis.state().join("aegis.sock")) else { return };
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let after = self.last_id.as_ref().map_or(String::new(), |it| format!("last-event-id: {it}\r\n"));
        let head = format!(
            "GET /api/v1/runs/{run}/logs HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept: text/event-stream\r\n{after}\r\n"
        );
        stream.write_all(head.as_bytes()).expect("asked");
        let mut id = None;
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Some(it) = line.strip_prefix("id: ") {
                id = Some(it.to_owned());
            } else if line.starts_with("event: end") {
                self.ended = true;
            } else if let Some(data) = line.strip_prefix("data: ") {
                // What was cut off in the middle is told again.
                let Ok(data) = serde_json::from_str::<serde_json::Value>(data) else { return };
                let Some(text) = data["text"].as_str() else { continue };
                // Both or neither: an event that was cut off is none.
                self.text.push_str(text);
                self.last_id = id.take();
                if !until.is_empty() && self.text.contains(until) {
                    return;
                }
            }
        }
    }
}

#[test]
fn of_17_a_log_goes_on_where_its_reader_left_off_when_the_server_was_killed() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let server = Server::start(&aegis, &["--workers", "1"]);
    let run = books.submit(&Task::script("for i in $(seq 1000); do echo line $i; sleep 0.02; done"));
    books.until(run, RunState::Running, &server);
    let mut seen = Seen::default();
    seen.read_on(&aegis, run, "line 20\n");
    // A second look of the same reader, and one that the kill cuts off.
    seen.read_on(&aegis, run, "line 50\n");
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| seen.read_on(&aegis, run, ""));
        eventually("it reads on", Duration::from_secs(30), || {
            aegis.call(&["logs", &run.to_string()]).stdout.contains("line 80\n")
        });
        server.kill();
        reader.join().expect("joined");
    });
    let server = Server::start(&aegis, &["--workers", "1"]);
    assert_eq!(ended_once(&books, run, &server), "lost(owner)");
    seen.read_on(&aegis, run, "");
    assert!(seen.ended, "the log has an end");
    let numbers: Vec<usize> =
        seen.text.lines().filter_map(|it| it.strip_prefix("line ")?.parse().ok()).collect();
    assert!(numbers.len() >= 80, "{}", numbers.len());
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>(), "no gap and no repeat");
    let kept = aegis.call(&["logs", &run.to_string()]).stdout;
    assert_eq!(kept.lines().count(), seen.text.lines().count(), "the reader has all that is kept");
    end(&aegis, server);
}

/// What the audit has of what was done to an object.
fn audited(books: &Books, object: &str) -> Vec<String> {
    let audits = books.audits().into_iter();
    audits.filter(|it| it.object.as_deref() == Some(object)).map(|it| it.what).collect()
}

#[test]
fn ap_20_what_a_killed_server_did_is_written_down_with_it() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let server = Server::with_fault(&aegis, &["--workers", "1"], "queued");
    assert!(asked(&aegis, "POST", "/api/v1/runs", "", BODY).is_none());
    server.died();
    let server = Server::start(&aegis, &["--workers", "1"]);
    let listed = asked(&aegis, "GET", "/api/v1/runs", "", "").expect("an answer").json();
    let id = listed["runs"][0]["run"]["id"].as_str().expect("it is there").to_owned();
    assert_eq!(audited(&books, &id), ["POST /api/v1/runs"]);
    assert_eq!(ended_once(&books, id.parse().expect("an id"), &server), "exited(0)");
    end(&aegis, server);
}

#[test]
fn ap_20_each_change_is_written_down_once() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let server = Server::start(&aegis, &["--workers", "1"]);
    let body = r#"{"name": "ci", "role": "submit", "project": "web"}"#;
    asked(&aegis, "POST", "/api/v1/tokens", "", body).expect("an answer").is(201);
    asked(&aegis, "POST", "/api/v1/tokens", "", body).expect("an answer").refused(409);
    asked(&aegis, "DELETE", "/api/v1/tokens/ci", "", "").expect("an answer").is(204);
    let token: Vec<String> = audited(&books, "token:ci");
    assert_eq!(token, ["DELETE /api/v1/tokens/{name}", "POST /api/v1/tokens"]);
    let run = books.submit(&Task::script("sleep 60"));
    let cancel = format!("/api/v1/runs/{run}/cancel");
    asked(&aegis, "POST", &cancel, "", "{}").expect("an answer");
    assert_eq!(books.outcome(run, &server), "cancelled(command)");
    assert_eq!(audited(&books, &run.to_string()), ["POST /api/v1/runs/{id}/cancel"]);
    end(&aegis, server);
}

/// A statement that another program runs on the books.
#[track_caller]
fn sql(aegis: &Aegis, statement: &str) {
    let script = "import sqlite3, sys; \
        sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30).execute(sys.argv[2])";
    let mut python = Command::new("python3");
    let status = python.args(["-c", script]).arg(aegis.state().join("aegis.db")).arg(statement).status();
    assert!(status.expect("python starts").success(), "{statement}");
}

#[test]
fn ap_20_what_cannot_be_written_down_is_not_done() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let server = Server::start(&aegis, &["--workers", "1", "--name", "alpha"]);
    let said = |method: &str, path: &str, body: &str| {
        asked(&aegis, method, path, "", body).expect("an answer").status
    };
    let project = r#"{"name": "web", "quotas": {"runs": 1}}"#;
    let token = r#"{"name": "ci", "role": "submit", "project": "web"}"#;
    sql(&aegis, "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END");
    assert!(said("PUT", "/api/v1/projects/web", project) >= 500);
    assert!(said("POST", "/api/v1/workers/alpha/drain", "{}") >= 500);
    assert!(said("POST", "/api/v1/tokens", token) >= 500);
    assert!(said("POST", "/api/v1/runs", BODY) >= 500);
    sql(&aegis, "DROP TRIGGER full");
    assert_eq!(said("GET", "/api/v1/projects/web", ""), 404);
    let workers = asked(&aegis, "GET", "/api/v1/workers", "", "").expect("an answer").json();
    assert_eq!(workers["workers"][0]["standing"], "taking");
    let tokens = asked(&aegis, "GET", "/api/v1/tokens", "", "").expect("an answer").json();
    assert_eq!(tokens["tokens"].as_array().map(Vec::len), Some(0));
    let runs = asked(&aegis, "GET", "/api/v1/runs", "", "").expect("an answer").json();
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(0));
    assert_eq!(said("PUT", "/api/v1/projects/web", project), 200);
    assert_eq!(said("POST", "/api/v1/workers/alpha/drain", "{}"), 204);
    assert_eq!(said("POST", "/api/v1/workers/alpha/resume", "{}"), 204);
    assert_eq!(said("POST", "/api/v1/workers/nobody/drain", "{}"), 404);
    assert_eq!(audited(&books, "project:web"), ["PUT /api/v1/projects/{name}"]);
    let changed = ["POST /api/v1/workers/{name}/resume", "POST /api/v1/workers/{name}/drain"];
    assert_eq!(audited(&books, "worker:alpha"), changed);
    end(&aegis, server);
}
