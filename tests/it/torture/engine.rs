//! An engine that cannot make anything (OF-10): runs are tried again with growing pauses and end with the reason; nothing
//! storms, and the next run goes on when there is room.

use crate::support::aegis::Aegis;
use crate::support::second_engine::SecondEngine;
use crate::support::serving::{Books, Server, Task};
use crate::torture::{end, ended_once};

#[test]
fn heavy_of_10_a_full_disk_of_the_engine_ends_runs_after_bounded_tries() {
    let engine = SecondEngine::on_disk("512m");
    engine.load_minimal(&[]);
    let aegis = Aegis::new().with("DOCKER_HOST", &engine.docker_host());
    let books = Books::of(&aegis);
    let server = Server::start(&aegis, &["--workers", "2"]);
    let well = books.submit(&Task::minimal("true"));
    assert_eq!(ended_once(&books, well, &server), "exited(0)", "{}", server.said());
    let ballast = engine.state().join("ballast");
    let mut file = std::fs::File::create(&ballast).expect("made");
    let _ = std::io::copy(&mut std::io::repeat(0), &mut file).expect_err("it is full");
    // Of another shape than what waits already.
    let run = books.submit(&Task::minimal("true").policy("[resources]\nmemory = \"64MiB\"\n"));
    let outcome = ended_once(&books, run, &server);
    let events = books.events(run);
    assert!(outcome.starts_with("start_failed(") || outcome.starts_with("lost("), "{outcome}");
    let tries = events.iter().filter(|it| it.as_str() == "Leased").count();
    assert_eq!(tries, 3, "{events:?}");
    assert!(events.iter().any(|it| it == "GivenUp"), "{events:?}");
    std::fs::remove_file(&ballast).expect("removed");
    let next = books.submit(&Task::minimal("true"));
    assert_eq!(ended_once(&books, next, &server), "exited(0)", "{}", server.said());
    end(&aegis, server);
}
