//! OF-12: the wall clock of the server's host is put forward and back, or stands still. No lease, time limit or order goes
//! by it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aegis::task::RunState;

use crate::support::aegis::Aegis;
use crate::support::serving::{Books, Server, Task};
use crate::torture::{end, ended_once};

/// Where the distribution has the library that shows a program another time.
fn library() -> PathBuf {
    let directories = std::fs::read_dir("/usr/lib").expect("read").flatten();
    let mut found =
        directories.map(|it| it.path().join("faketime/libfaketime.so.1")).filter(|it| it.exists());
    found.next().expect("`packaging/bootstrap.sh test` installs faketime")
}

/// An instance whose clock is what stands in this file.
fn instance(clock: &Path) -> Aegis {
    set(clock, "+0");
    Aegis::new()
        .with("LD_PRELOAD", library().to_str().expect("a path"))
        .with("FAKETIME_TIMESTAMP_FILE", clock.to_str().expect("a path"))
        .with("FAKETIME_NO_CACHE", "1")
        .with("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

fn set(clock: &Path, time: &str) {
    // A reader must not find it empty.
    let next = clock.with_extension("next");
    std::fs::write(&next, format!("{time}\n")).expect("written");
    std::fs::rename(next, clock).expect("renamed");
}

#[test]
fn of_12_steps_of_the_clock_end_nothing_and_begin_nothing_twice() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = directory.path().join("clock");
    let aegis = instance(&clock);
    let books = Books::of(&aegis);
    let server = Server::start(&aegis, &["--workers", "2"]);
    let before = books.submit(&Task::script("date +%s"));
    assert_eq!(ended_once(&books, before, &server), "exited(0)");
    // An hour forward and back, far ahead, and not at all.
    for time in ["+1h", "-1h", "+400d", "2030-01-01 00:00:00"] {
        let running = books.submit(&Task::script("sleep 3; exit 3").timeout_ms(60_000));
        books.until(running, RunState::Running, &server);
        set(&clock, time);
        let limited = books.submit(&Task::script("sleep 60").timeout_ms(2_000));
        assert_eq!(ended_once(&books, running, &server), "exited(3)", "{time}: {}", server.said());
        let begun = Instant::now();
        assert_eq!(ended_once(&books, limited, &server), "timed_out(wall)", "{time}: {}", server.said());
        assert!(begun.elapsed() < Duration::from_secs(60), "{time}: {:?}", begun.elapsed());
        for run in [running, limited] {
            let events = books.events(run);
            assert_eq!(events.iter().filter(|it| it.as_str() == "Leased").count(), 1, "{time}: {events:?}");
            assert_eq!(events.last().map(String::as_str), Some("Done"), "{time}: {events:?}");
        }
    }
    assert!(!server.said().contains("without its owner"), "{}", server.said());
    set(&clock, "+0");
    end(&aegis, server);
}
