//! Readers of changes: each holds a thread of the server's for as long as it takes, so that there are few at once. One more
//! is told to come back, and everybody else is answered.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use aegis::access::Role;
use aegis::queue::{Queue, Reached, Settled, Worker};
use aegis::record::{ChangeCounts, End, Owner};
use aegis::sandbox::changes::kept::Kept;
use aegis::task::{Outcome, RunId};

use crate::support::aegis::eventually;
use crate::support::server::{Answer, Server};

/// Readers at once at the most.
const READERS_MAX: usize = 16;
/// More than the sockets between server and client hold. It takes no room: there is nothing in it.
const CONTENT_BYTES: u64 = 256 << 20;

/// Ends a queued run as a worker would, with changes that are that large.
fn end(server: &Server, run: RunId) {
    let owner = Owner { pid: std::process::id(), lock: "test".to_owned() };
    let worker = Worker { name: "test".to_owned(), owner, labels: Vec::new(), capacity: 1 };
    let claimed = server.within(server.store.claim(&worker, 1)).expect("records").remove(0);
    let place = Kept::new(server.state.path()).by_run().of(run);
    std::fs::create_dir_all(place.join("content")).expect("made");
    std::fs::write(place.join("manifest.json"), "{}").expect("written");
    let content = std::fs::File::create(place.join("content").join("ab".repeat(32))).expect("made");
    content.set_len(CONTENT_BYTES).expect("it has holes");
    let changes = ChangeCounts {
        added: 1,
        modified: 0,
        deleted: 0,
        skipped: 0,
        left_out: 0,
        complete: true,
        failure: None,
    };
    let end = End { changes: Some(changes), ..End::bare(Outcome::Exited(0)) };
    let settled = server.within(server.store.settle(claimed.fence, Reached::Released, &end, None));
    assert_eq!(settled.expect("records"), Settled::Done);
}

/// A reader whose answer has begun, and who takes no more of it. `None` where it was refused.
fn begun(server: &Server, token: &str, path: &str) -> Option<TcpStream> {
    let mut stream = server.connect();
    let host = server.address;
    let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("asked");
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).expect("an answer");
    (&begin == b"HTTP/1.1 200").then_some(stream)
}

#[test]
fn of_many_readers_of_changes_the_seventeenth_is_told_to_come_back() {
    let server = Server::new();
    let token = server.token("ann", Role::Submit, Some("a"));
    let run: RunId = server.queued(&token).parse().expect("an id");
    end(&server, run);
    let path = format!("/api/v1/runs/{run}/changes");
    let mut readers: Vec<TcpStream> =
        (0..READERS_MAX).map(|_| begun(&server, &token, &path).expect("it is read")).collect();
    let refused: Answer = server.ask(&token, "GET", &path, "");
    assert!(
        refused.refused(429)["message"].as_str().is_some_and(|it| it.contains("archives")),
        "{refused:?}"
    );
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    server.ask(&token, "GET", &format!("/api/v1/runs/{run}"), "").is(200);
    // Whoever goes makes room, and no more than that.
    drop(readers.pop());
    eventually("there is room for one", Duration::from_secs(30), || {
        readers.extend(begun(&server, &token, &path));
        readers.len() == READERS_MAX
    });
    server.ask(&token, "GET", &path, "").refused(429);
}
