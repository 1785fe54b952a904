//! Books that go away, fill or are damaged (OF-07, OF-08, OF-09, OF-20): the server refuses what it cannot keep, keeps what
//! it was told, and goes on by itself when they are back.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aegis::task::{RunId, RunState};
use sqlx::{ConnectOptions, Connection};

use crate::support::aegis::{Aegis, eventually, long_form};
use crate::support::cluster::Cluster;
use crate::support::processes::{Tag, processes_with};
use crate::support::serving::{Books, Server, Task, asked};
use crate::torture::{BODY, end};

/// Time in which the server notices that its books are away, or back.
const NOTICE_TIME_MAX: Duration = Duration::from_secs(60);

/// The status of one submission, and the run where it was taken. What was refused says when to ask again.
#[track_caller]
fn submit(aegis: &Aegis) -> (u16, Option<RunId>) {
    let answer = asked(aegis, "POST", "/api/v1/runs", "", BODY).expect("an answer");
    if answer.status != 201 {
        assert!(answer.headers.contains_key("retry-after"), "{answer:#?}");
    }
    let run = (answer.status == 201).then(|| answer.json()["id"].as_str().expect("an id").parse());
    (answer.status, run.map(|it| it.expect("an id")))
}

#[track_caller]
fn status(aegis: &Aegis, path: &str) -> u16 {
    asked(aegis, "GET", path, "", "").expect("an answer").status
}

/// What SQLite says of its own file.
fn integrity(aegis: &Aegis) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(aegis.state().join("aegis.db"));
        let mut connection = options.connect().await.expect("it opens");
        let verdict = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await;
        connection.close().await.expect("closed");
        verdict.expect("read")
    })
}

#[test]
fn of_07_what_ends_while_postgresql_is_away_is_recorded_when_it_is_back() {
    let Some(mut cluster) = Cluster::start() else { return };
    let url = cluster.url();
    let aegis = Aegis::new();
    let books = Books::at(&url);
    let server = Server::start(&aegis, &["--workers", "2", "--database", &url]);
    let tag = Tag::new();
    let short = books.submit(&Task::script("sleep 5; exit 3"));
    let long = books.submit(&Task::script(&format!("timeout 25 sleep {tag}; exit 4")).idempotent(5));
    books.until(short, RunState::Running, &server);
    books.until(long, RunState::Running, &server);
    let queued = books.submit_all(&vec![Task::script("exit 5"); 5]);
    cluster.stop();
    let away = Instant::now();
    assert_eq!(submit(&aegis).0, 503);
    assert_eq!(status(&aegis, "/livez"), 200);
    eventually("it is not ready", NOTICE_TIME_MAX, || status(&aegis, "/readyz") == 503);
    eventually("no task outlives its lease", NOTICE_TIME_MAX, || processes_with(&tag).is_empty());
    eventually("it was away for long enough", NOTICE_TIME_MAX, || {
        away.elapsed() > Duration::from_secs(if long_form() { 30 } else { 20 })
    });
    cluster.begin();
    assert_eq!(books.outcome(short, &server), "exited(3)", "{}", server.said());
    for run in queued {
        assert_eq!(books.outcome(run, &server), "exited(5)");
    }
    assert_eq!(books.outcome(long, &server), "exited(4)");
    eventually("it is ready again", NOTICE_TIME_MAX, || status(&aegis, "/readyz") == 200);
    let (status, run) = submit(&aegis);
    assert_eq!(status, 201);
    assert_eq!(books.outcome(run.expect("taken"), &server), "exited(0)");
    end(&aegis, server);
}

#[test]
fn of_07_a_postgresql_that_takes_no_writes_is_answered_with_503() {
    let Some(cluster) = Cluster::start() else { return };
    let url = cluster.url();
    let aegis = Aegis::new();
    let books = Books::at(&url);
    let server = Server::start(&aegis, &["--workers", "1", "--database", &url]);
    let running = books.submit(&Task::script("sleep 3; exit 3"));
    books.until(running, RunState::Running, &server);
    // What a replica says after a failover, to connections that were there and to new ones.
    let read_only = |word: &str| {
        cluster.sql("books", &format!("ALTER SYSTEM SET default_transaction_read_only = {word}"));
        cluster.sql("books", "SELECT pg_reload_conf()");
    };
    read_only("on");
    eventually("submissions are refused", NOTICE_TIME_MAX, || submit(&aegis).0 == 503);
    assert_eq!(status(&aegis, "/api/v1/runs"), 200, "what is there can be read");
    read_only("off");
    assert_eq!(books.outcome(running, &server), "exited(3)");
    let (status, run) = submit(&aegis);
    assert_eq!(status, 201);
    assert_eq!(books.outcome(run.expect("taken"), &server), "exited(0)");
    end(&aegis, server);
}

#[test]
fn of_08_a_lock_that_somebody_holds_delays_and_loses_nothing() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let server = Server::start(&aegis, &["--workers", "2"]);
    let running = books.submit(&Task::script("sleep 4; exit 3"));
    books.until(running, RunState::Running, &server);
    let mut holder = hold(&aegis.state().join("aegis.db"), 15);
    let begun = Instant::now();
    let answers: Vec<(u16, Option<RunId>)> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..4).map(|_| scope.spawn(|| submit(&aegis))).collect();
        asked.into_iter().map(|it| it.join().expect("an answer")).collect()
    });
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert!(answers.iter().all(|it| [201, 503].contains(&it.0)), "{answers:?}");
    holder.wait().expect("it ends");
    assert_eq!(books.outcome(running, &server), "exited(3)", "{}", server.said());
    for run in answers.into_iter().filter_map(|it| it.1) {
        assert_eq!(books.outcome(run, &server), "exited(0)");
    }
    assert_eq!(submit(&aegis).0, 201);
    end(&aegis, server);
}

/// A program that holds the lock of every writer for so many seconds; it has it when this returns.
fn hold(database: &Path, seconds: u32) -> std::process::Child {
    let script = "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60); \
        c.execute('BEGIN EXCLUSIVE'); print('held', flush=True); time.sleep(int(sys.argv[2])); c.execute('ROLLBACK')";
    let mut child = Command::new("python3")
        .args(["-c", script])
        .arg(database)
        .arg(seconds.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("read");
    assert_eq!(line.trim(), "held");
    child
}

#[test]
fn of_08_a_directory_that_cannot_be_written_is_refused_by_name_and_left_as_it_is() {
    let aegis = Aegis::new().on_disk("64m");
    let books = Books::of(&aegis);
    let run = books.submit(&Task::script("exit 3"));
    books.close();
    aegis.remount("ro");
    let refused = aegis.call(&["serve", "--listen", "127.0.0.1:0"]);
    refused.code(125).says(&aegis.state().display().to_string());
    assert!(
        refused.stderr.contains("cannot be written") || refused.stderr.contains("ead-only"),
        "{refused:?}"
    );
    aegis.remount("rw");
    let books = Books::of(&aegis);
    let server = Server::start(&aegis, &[]);
    assert_eq!(books.outcome(run, &server), "exited(3)");
    end(&aegis, server);
}

#[test]
fn of_09_a_full_disk_refuses_what_is_new_and_loses_nothing_that_was_taken() {
    let aegis = Aegis::new().on_disk("64m");
    let books = Books::of(&aegis);
    let server = Server::start(&aegis, &["--workers", "1"]);
    let tag = Tag::new();
    let chatter = "for i in $(seq 60); do head -c 100000 /dev/urandom; sleep 0.1; done";
    let running = books.submit(&Task::script(&format!("{chatter} & timeout 6 sleep {tag}; wait; exit 4")));
    books.until(running, RunState::Running, &server);
    eventually("the task runs", NOTICE_TIME_MAX, || !processes_with(&tag).is_empty());
    let ballast = aegis.state().join("ballast");
    fill(&ballast);
    let mut taken = Vec::new();
    let mut refused = None;
    // Room that SQLite had set aside takes some.
    for _ in 0..300 {
        match submit(&aegis) {
            (201, run) => taken.extend(run),
            (status, _) => {
                refused = Some(status);
                break;
            }
        }
    }
    assert!(refused.is_some_and(|it| [503, 507].contains(&it)), "{refused:?}");
    assert_eq!(status(&aegis, "/livez"), 200);
    eventually("the task is over", NOTICE_TIME_MAX, || processes_with(&tag).is_empty());
    std::fs::remove_file(&ballast).expect("removed");
    assert_eq!(books.outcome(running, &server), "exited(4)", "{}", server.said());
    assert!(books.run(running).end.expect("it ended").output.log_truncated);
    eventually("what is new is taken", NOTICE_TIME_MAX, || match submit(&aegis) {
        (201, run) => {
            taken.extend(run);
            true
        }
        _ => false,
    });
    for run in taken {
        assert_eq!(books.outcome(run, &server), "exited(0)", "{}", server.said());
    }
    end(&aegis, server);
    books.close();
    assert_eq!(integrity(&aegis), "ok");
}

/// Fills a disk to the last byte.
fn fill(ballast: &Path) {
    let mut file = std::fs::File::create(ballast).expect("made");
    let _ = std::io::copy(&mut std::io::repeat(0), &mut file).expect_err("it is full");
}

/// A server over books that were damaged so: it says so and touches nothing.
fn check_damaged(damage: impl FnOnce(&Path), message: &str) {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    books.submit_all(&vec![Task::script("true"); 40]);
    books.close();
    let place = aegis.state().join("aegis.db");
    damage(&place);
    let before = std::fs::read(&place).expect("read");
    let refused = aegis.call(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.code, Some(125), "{refused:?}");
    refused.says(message).says(&place.display().to_string());
    assert_eq!(std::fs::read(&place).expect("read"), before, "the file was touched");
}

#[test]
fn of_20_a_truncated_database_is_refused() {
    check_damaged(
        |place| {
            let bytes = std::fs::read(place).expect("read");
            std::fs::write(place, &bytes[..bytes.len() / 2]).expect("written");
        },
        "damaged",
    );
}

#[test]
fn of_20_a_database_that_is_garbled_in_the_middle_is_refused() {
    check_damaged(
        |place| {
            let mut bytes = std::fs::read(place).expect("read");
            let middle = bytes.len() / 2 / 4096 * 4096;
            bytes[middle..middle + 4 * 4096].fill(0xa5);
            std::fs::write(place, bytes).expect("written");
        },
        "damaged",
    );
}

#[test]
fn of_20_somebody_elses_database_is_refused() {
    check_damaged(
        |place| std::fs::write(place, vec![b'x'; 8192]).expect("written"),
        "not a database of Aegis",
    );
}
