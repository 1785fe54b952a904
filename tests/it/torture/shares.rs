//! RB-11: a project that floods the queue waits for its own runs, not others for it.

use aegis::task::{RunId, RunState};

use crate::support::aegis::Aegis;
use crate::support::serving::{Books, Server, Task, asked};

#[test]
fn rb_11_one_run_of_another_project_does_not_wait_behind_a_thousand() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let flood: Vec<RunId> = books.submit_all(&vec![Task::script("true").of_project("flood"); 1_000]);
    let server = Server::start(&aegis, &["--workers", "2"]);
    books.until(flood[0], RunState::Done, &server);
    let single = books.submit(&Task::script("true").of_project("single"));
    assert_eq!(books.outcome(single, &server), "exited(0)");
    let ended = flood.iter().filter(|it| books.run(**it).state == RunState::Done).count();
    assert!(ended < 100, "{ended} runs of the flood were first");
    server.kill();
}

#[test]
fn rb_11_a_project_beyond_its_quota_is_told_so() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    books.limit_queued("small", 2);
    let server = Server::start(&aegis, &["--workers", "1"]);
    let body = r#"{"command": ["sleep", "30"], "project": "small"}"#;
    let answers: Vec<_> =
        (0..5).map(|_| asked(&aegis, "POST", "/api/v1/runs", "", body).expect("an answer")).collect();
    let refused = answers.iter().find(|it| it.status != 201).expect("not all are taken");
    let problem = refused.refused(429);
    assert_eq!(problem["code"], "quota_exceeded");
    assert!(problem["message"].as_str().is_some_and(|it| it.contains("quota")), "{problem}");
    assert!(refused.headers.contains_key("retry-after"));
    server.kill();
}
