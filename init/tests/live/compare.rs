//! How the workspace differs from what was put, as init sees it: by stamps that no task can set.

use serde_bytes::ByteBuf;

use aegis_init::path_key::PathKey;
use aegis_init::wire::{
    CHUNK_BYTES_MAX, Compare, DropReason, Entry, EntryKind, FETCH_PATHS_MAX, Fetch, OutDone, Reply, Request,
};

use crate::host::Sandbox;

const MTIME_S: i64 = 1_000_000_000;
const KEY: PathKey = PathKey([7; 16]);
const COMPARE: Compare = Compare { key: KEY, entries_max: 1_000, depth_max: 32, timeout_ms: 10_000 };
const GIVEN: [&str; 9] = ["a", "b", "d", "d/x", "d/link", "e", "e/x", "hard", "large"];

fn entry(path: &str, mode: u32, kind: EntryKind) -> Entry {
    Entry { path: ByteBuf::from(path), mode, mtime_s: MTIME_S, mtime_ns: 0, kind }
}

fn file(path: &str, content: &[u8]) -> Entry {
    let data = ByteBuf::from(&content[..content.len().min(CHUNK_BYTES_MAX)]);
    entry(path, 0o644, EntryKind::File { size: content.len() as u64, data })
}

/// A sandbox that was given what [`GIVEN`] names, `hard` as another name of `a` and `large` in two pieces.
fn given() -> Sandbox {
    let mut sandbox = Sandbox::attested();
    let large = vec![7; CHUNK_BYTES_MAX + 10];
    sandbox.request(&Request::Put(vec![
        file("a", b"one"),
        file("b", b"two"),
        entry("d", 0o750, EntryKind::Dir),
        file("d/x", b"three"),
        entry("d/link", 0o777, EntryKind::Symlink(ByteBuf::from("x"))),
        entry("e", 0o755, EntryKind::Dir),
        file("e/x", b"four"),
        entry("hard", 0o644, EntryKind::Hardlink(ByteBuf::from("a"))),
        file("large", &large),
    ]));
    sandbox.request(&Request::PutChunk(ByteBuf::from(&large[CHUNK_BYTES_MAX..])));
    sandbox.request(&Request::PutEnd);
    assert!(matches!(sandbox.reply(), Reply::PutDone { failed: None, .. }));
    sandbox
}

struct Compared {
    told: Vec<String>,
    gone: Vec<&'static str>,
    done: OutDone,
    complete: bool,
}

fn compare(sandbox: &mut Sandbox, orders: Compare) -> Compared {
    sandbox.request(&Request::Compare(orders));
    let (mut told, mut met) = (Vec::new(), Vec::new());
    loop {
        match sandbox.reply() {
            Reply::Out(entries) => {
                told.extend(entries.iter().map(|it| String::from_utf8_lossy(&it.path).into_owned()));
            }
            Reply::Met(hashes) => met.extend(hashes),
            Reply::Compared { done, complete } => {
                let gone = GIVEN.into_iter().filter(|it| !met.contains(&KEY.hash(it.as_bytes()))).collect();
                return Compared { told, gone, done, complete };
            }
            Reply::Exited { .. } => {}
            other => panic!("not compared but {other:?}"),
        }
    }
}

/// Holds what differs after a script, and what is gone.
#[track_caller]
fn check(script: &str, told: &[&str], gone: &[&str]) {
    let mut sandbox = given();
    let ended = sandbox.run(script);
    assert_eq!(ended.error, "");
    let compared = compare(&mut sandbox, COMPARE);
    assert_eq!(compared.told, told);
    assert_eq!(compared.gone, gone);
    assert!(compared.complete);
}

#[test]
fn what_is_only_read_is_unchanged() {
    check("cat a b d/x large hard >/dev/null; ls -R . >/dev/null; cd d", &[], &[]);
}

#[test]
fn a_change_of_the_same_size_and_time_is_seen() {
    check("touch -r b ref; printf two >b; touch -r ref b; rm ref", &["b"], &[]);
    check("printf two | dd of=b conv=notrunc 2>/dev/null; touch -d @1000000000 b", &["b"], &[]);
}

#[test]
fn a_write_at_once_after_the_start_is_seen() {
    // Nothing comes before the write but the start of the shell.
    for _ in 0..20 {
        check("printf two >b", &["b"], &[]);
    }
}

#[test]
fn a_write_through_one_name_is_seen_at_all() {
    check("printf ONE >hard", &["a", "hard"], &[]);
}

#[test]
fn modes_are_seen_and_the_content_of_a_directory_is_no_change_of_it() {
    check("chmod 755 d; touch e/new; chmod 600 b", &["b", "d", "e/new"], &[]);
}

#[test]
fn directories_that_change_places_change_what_lies_in_them() {
    check("mv d t; mv e d; mv t e", &["d", "d/x", "e", "e/link", "e/x"], &["d/link"]);
}

#[test]
fn what_is_gone_is_not_met() {
    check("rm -r d; rm large", &[], &["d", "d/x", "d/link", "large"]);
    check("rm -r d; ln -s e d", &["d"], &["d/x", "d/link"]);
    check("rm b; mkdir b; touch b/x", &["b", "b/x"], &[]);
    check("rm a", &["hard"], &["a"]);
}

#[test]
fn what_the_task_closed_to_itself_is_looked_at_all_the_same() {
    check("echo >d/new; chmod 0 d/x; chmod 0 d e; chmod 0 .", &["d", "d/new", "d/x", "e"], &[]);
}

#[test]
fn a_fifo_is_named_and_nothing_is_missing_for_it() {
    let mut sandbox = given();
    sandbox.run("rm b; mkfifo b");
    let compared = compare(&mut sandbox, COMPARE);
    assert_eq!(compared.done.dropped, [(ByteBuf::from("b"), DropReason::NotAFile)]);
    assert_eq!(
        (compared.told.len(), compared.gone.as_slice(), compared.complete),
        (0, ["b"].as_slice(), true)
    );
}

#[test]
fn past_a_limit_a_comparison_is_not_complete() {
    let mut sandbox = given();
    sandbox.run("rm -r d; for i in $(seq 50); do echo >n$i; done; mkdir -p p/q/r; echo >p/q/r/s");
    let compared = compare(&mut sandbox, Compare { entries_max: 10, ..COMPARE });
    assert_eq!((compared.told.len(), compared.complete), (10, false));
    // Asked once: the stamps are used up.
    let mut sandbox = given();
    sandbox.run("rm -r d; mkdir -p p/q/r; echo >p/q/r/s");
    let compared = compare(&mut sandbox, Compare { depth_max: 2, ..COMPARE });
    assert!(!compared.complete);
    let mut sandbox = given();
    let compared = compare(&mut sandbox, Compare { timeout_ms: 0, ..COMPARE });
    assert_eq!((compared.done.dropped.len(), compared.complete), (1, false));
}

#[test]
fn a_process_that_goes_on_is_ended_before() {
    let mut sandbox = given();
    sandbox.run(
        "setsid sh -c 'while :; do mv d t; ln -s /etc d; rm d; mv t d; done' >/dev/null 2>&1 & sleep 0.1",
    );
    let first = compare(&mut sandbox, COMPARE);
    assert!(first.complete);
    assert!(!first.told.iter().any(|it| it.starts_with("d/passwd")), "{:?}", first.told);
}

#[test]
fn names_that_a_process_made_and_removed_until_its_end_are_looked_at_when_it_is_gone() {
    for _ in 0..25 {
        let mut sandbox = given();
        let busy = "import os\nwhile True: os.close(os.open('r', os.O_CREAT)); os.unlink('r')";
        sandbox.run(&format!("setsid python3 -c \"{busy}\" >/dev/null 2>&1 & sleep 0.2"));
        let first = compare(&mut sandbox, COMPARE);
        assert!(first.complete, "{:?}", first.done);
    }
}

#[test]
fn files_are_fetched_and_nothing_else() {
    let mut sandbox = given();
    sandbox.run("printf new >n; chmod 0 n; ln -s /etc/passwd evil; mkfifo pipe; ln -s /etc out");
    compare(&mut sandbox, COMPARE);
    let paths = ["n", "large", "evil", "pipe", "d", "out/passwd", "absent", "../etc/passwd"];
    let paths: Vec<ByteBuf> = paths.iter().map(|it| ByteBuf::from(*it)).collect();
    sandbox.request(&Request::Fetch(Fetch { paths, timeout_ms: 10_000 }));
    let (mut names, mut bytes) = (Vec::new(), 0);
    let done = loop {
        match sandbox.reply() {
            Reply::Out(entries) => {
                for it in entries {
                    let EntryKind::File { data, .. } = it.kind else { panic!("no file") };
                    bytes += data.len();
                    names.push(it.path.into_vec());
                }
            }
            Reply::OutChunk(chunk) => bytes += chunk.len(),
            Reply::OutDone(done) => break done,
            other => panic!("not fetched but {other:?}"),
        }
    };
    assert_eq!(names, [b"n".to_vec(), b"large".to_vec()]);
    assert_eq!(bytes, 3 + CHUNK_BYTES_MAX + 10);
    assert_eq!(done.dropped_count, 6);
}

#[test]
fn what_the_task_closed_to_itself_is_fetched_all_the_same() {
    let mut sandbox = given();
    sandbox.run("mkdir -p c/e; printf new >c/e/n; printf new >n; chmod 0 c/e/n c/e c .");
    let paths = ["c/e/n", "n"].map(ByteBuf::from).to_vec();
    sandbox.request(&Request::Fetch(Fetch { paths, timeout_ms: 10_000 }));
    let Reply::Out(entries) = sandbox.reply() else { panic!("not fetched") };
    let fetched: Vec<_> = entries.iter().map(|it| (it.path.as_slice(), it.mode)).collect();
    assert_eq!(fetched, [(b"c/e/n".as_slice(), 0), (b"n", 0o644)]);
    assert!(matches!(sandbox.reply(), Reply::OutDone(done) if done.dropped_count == 0));
}

#[test]
fn too_many_paths_at_once_end_the_sandbox() {
    let mut sandbox = given();
    let paths = vec![ByteBuf::from("a"); FETCH_PATHS_MAX + 1];
    sandbox.request(&Request::Fetch(Fetch { paths, timeout_ms: 1_000 }));
    assert_ne!(sandbox.exit_status(), 0);
}
