//! Nothing is lost, whatever dies: servers killed at any moment and at the narrow ones, databases that go away, disks that
//! fill, and a long mixed load.

use std::time::Duration;

use aegis::task::RunId;
use rustix::process::Signal;

use crate::support::aegis::{Aegis, eventually};
use crate::support::serving::{Books, Server};

mod api_tester;
mod bombs;
mod books;
mod clock;
mod crash;
mod engine;
mod ledger;
mod matrix;
mod shares;
mod soak;
mod streams;

/// Time in which nothing may be left once everything has ended.
const CLEAN_TIME_MAX: Duration = Duration::from_secs(5);
/// A body that is submitted over the interface.
const BODY: &str = r#"{"command": ["true"]}"#;

/// What of an instance the host still has: containers, slots, sockets, workspaces, mounts.
fn left(aegis: &Aegis) -> Vec<String> {
    let mut left = aegis.containers();
    let work = std::path::Path::new("/var/lib/sandbox-work").join(aegis.instance()).join("runs");
    for directory in [aegis.runtime().join("slots"), aegis.runtime().join("runs"), work] {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        left.extend(entries.map(|it| it.path().display().to_string()));
    }
    let mounts = std::fs::read_to_string("/proc/mounts").expect("read");
    left.extend(mounts.lines().filter(|it| it.contains(&aegis.instance())).map(str::to_owned));
    left
}

/// Ends the last server, and holds that nothing of the instance is left.
#[track_caller]
fn end(aegis: &Aegis, server: Server) {
    server.signal(Signal::TERM);
    let (code, said) = server.finish();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    let mut found = Vec::new();
    eventually(&format!("nothing is left\n{said}"), CLEAN_TIME_MAX, || {
        let now = left(aegis);
        if now != found {
            eprintln!("left: {now:?}");
            found = now;
        }
        found.is_empty()
    });
}

/// Holds that a run ended once; how.
#[track_caller]
fn ended_once(books: &Books, run: RunId, server: &Server) -> String {
    let outcome = books.outcome(run, server);
    let events = books.events(run);
    assert_eq!(events.iter().filter(|it| it.as_str() == "Done").count(), 1, "{events:?}");
    outcome
}
