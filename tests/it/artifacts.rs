//! What came out of a run, handed out by a server and by the command: those bytes, only those, and never to be run.

use std::time::Duration;

use aegis::access::{Access, Decision, Role};
use aegis::queue::{Queue, Reached, Settled, Worker};
use aegis::record::{Artifact, End, Owner};
use aegis::sandbox::artifacts::Artifacts;
use aegis::task::{Outcome, RunId, RunState};
use sha2::{Digest, Sha256};

use crate::support::aegis::{Aegis, eventually};
use crate::support::server::{Answer, Server};
use crate::support::serving::{self, Books, Task};

/// A server with one run of project `a` that has ended, with these files.
struct Kept {
    server: Server,
    token: String,
    run: RunId,
}

impl Kept {
    fn new(files: &[(&[u8], &str)]) -> Self {
        let server = Server::new();
        let token = server.token("ann", Role::Submit, Some("a"));
        let run: RunId = server.queued(&token).parse().expect("an id");
        end(&server, run, files);
        Self { server, token, run }
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let authorization = format!("Bearer {}", self.token);
        let headers = [&[("authorization", authorization.as_str())], headers].concat();
        self.server.send("GET", &format!("/api/v1/runs/{}/artifacts/{path}", self.run), &headers, "")
    }
}

/// Ends a queued run as a worker would, with these files beside its record.
fn end(server: &Server, run: RunId, files: &[(&[u8], &str)]) {
    use std::os::unix::ffi::OsStrExt;

    let owner = Owner { pid: std::process::id(), lock: "test".to_owned() };
    let worker = Worker { name: "test".to_owned(), owner, labels: Vec::new(), capacity: 1 };
    let claimed = server.within(server.store.claim(&worker, 1)).expect("records").remove(0);
    assert_eq!(claimed.fence.run, run);
    let place = Artifacts::new(server.state.path()).begin(run, claimed.fence.attempt).expect("made");
    let mut end = End::bare(Outcome::Exited(0));
    for (path, content) in files {
        let file = place.join(std::ffi::OsStr::from_bytes(path));
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("made");
        std::fs::write(file, content).expect("written");
        end.artifacts.push(Artifact {
            path: path.to_vec(),
            bytes: content.len() as u64,
            sha256: Sha256::digest(content).into(),
            mode: 0o644,
        });
    }
    end.output_dir = Some(place);
    let settled = server.within(server.store.settle(claimed.fence, Reached::Released, &end, None));
    assert_eq!(settled.expect("records"), Settled::Done);
}

#[test]
fn ar_10_no_path_leads_out_of_what_came_out() {
    let kept = Kept::new(&[(b"out/file", "content")]);
    // Files that a path that was resolved would find.
    let artifacts = Artifacts::new(kept.server.state.path());
    let beside = artifacts.by_run().of(kept.run);
    std::fs::write(beside.join("1/unlisted"), "secret-4711").expect("written");
    std::fs::write(beside.join("beside"), "secret-4711").expect("written");
    std::os::unix::fs::symlink("/etc/passwd", beside.join("1/out/link")).expect("a link");
    let other = kept.server.token("bob", Role::Submit, Some("b"));
    let of_other: RunId = kept.server.queued(&other).parse().expect("an id");
    end(&kept.server, of_other, &[(b"theirs", "secret-4711")]);
    let to_other = [format!("..%2f{of_other}%2f1%2ftheirs"), format!("../../{of_other}/artifacts/theirs")];
    let mut paths: Vec<&str> = vec![
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e%2fbeside",
        "%252e%252e%252fbeside",
        "..%252fbeside",
        "....//beside",
        "....%2f%2fbeside",
        "..\\beside",
        "..%5cbeside",
        "%5c..%5cbeside",
        "%00",
        "out/file%00",
        "out%2f..%2f..%2fbeside",
        "out/../../beside",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "%2f",
        "out",
        "out/",
        "out//file",
        "./out/file",
        "out/link",
        "unlisted",
        "%ff%fe",
        "OUT/FILE",
    ];
    paths.extend(to_other.iter().map(String::as_str));
    for path in &paths {
        let answer = kept.get(path, &[]);
        assert!([400, 404].contains(&answer.status), "{path}: {answer:#?}");
        assert!(
            !answer.body.contains("secret-4711") && !answer.body.contains("root:"),
            "{path}: {answer:#?}"
        );
    }
    let audits = kept.server.within(kept.server.store.audits(None, 1_000)).expect("records");
    let refused = audits.iter().filter(|it| {
        it.entry.decision == Decision::Refused && it.entry.what == "GET /api/v1/runs/{id}/artifacts/{*path}"
    });
    // A few of them are paths of other routes, or of none.
    assert!(refused.count() >= paths.len() - 4, "{audits:#?}");
    assert_eq!(kept.get("out/file", &[]).is(200).body, "content");
    assert_eq!(kept.get("out%2ffile", &[]).is(200).body, "content");
}

#[test]
fn ar_11_what_came_out_is_downloaded_and_neither_run_nor_shown() {
    let page = "<script>fetch('/api/v1/tokens')</script>";
    let kept = Kept::new(&[(b"x.html", page), (b"x.svg", page), (b"a\r\nset-cookie: b\".js", page)]);
    for path in ["x.html", "x.svg", "a%5Cx0d%5Cx0aset-cookie: b%22.js"] {
        let answer = kept.get(&path.replace(' ', "%20"), &[("accept", "text/html")]);
        assert_eq!(answer.is(200).body, page, "{path}");
        assert_eq!(answer.headers["content-type"], "application/octet-stream", "{answer:#?}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{answer:#?}");
        assert!(answer.headers["content-disposition"].starts_with("attachment; filename=\""), "{answer:#?}");
        let policy = &answer.headers["content-security-policy"];
        assert!(policy.contains("default-src 'none'") && policy.contains("sandbox"), "{answer:#?}");
        assert!(!answer.headers.contains_key("set-cookie"), "{answer:#?}");
    }
}

#[test]
fn a_part_of_a_file_is_served_and_what_lies_outside_is_told() {
    let kept = Kept::new(&[(b"digits", "0123456789"), (b"empty", "")]);
    let part = |range: &str| kept.get("digits", &[("range", range)]);
    let answer = part("bytes=2-4");
    assert_eq!(
        (answer.is(206).body.as_str(), answer.headers["content-range"].as_str()),
        ("234", "bytes 2-4/10")
    );
    assert_eq!(part("bytes=-3").is(206).body, "789");
    assert_eq!(part("bytes=8-").is(206).body, "89");
    assert_eq!(part("bytes=0-1,4-5").is(200).body, "0123456789");
    let outside = part("bytes=10-");
    outside.refused(416);
    assert_eq!(outside.headers["content-range"], "bytes */10");
    let tag = kept.get("digits", &[]).headers["etag"].clone();
    let since = |tag: &str| kept.get("digits", &[("range", "bytes=2-4"), ("if-range", tag)]);
    assert_eq!(since(&tag).is(206).body, "234");
    assert_eq!(since("\"other\"").is(200).body, "0123456789");
    assert_eq!(kept.get("empty", &[]).is(200).headers["content-length"], "0");
    let head =
        kept.server.ask(&kept.token, "HEAD", &format!("/api/v1/runs/{}/artifacts/digits", kept.run), "");
    assert_eq!((head.is(200).body.as_str(), head.headers["content-length"].as_str()), ("", "10"));
}

#[test]
fn the_command_lists_and_fetches_here_and_through_a_server() {
    let aegis = Aegis::new();
    let script = "mkdir out; printf content >out/a; printf x >$'out/b\\n'";
    let run = aegis.script(&["-o", "out/*", "--quiet"], script);
    run.code(0);
    let local = aegis.call(&["ps", "--all", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&local.stdout).expect("JSON");
    let local = listed[0]["id"].as_str().expect("an id").to_owned();
    check_fetched(&aegis, &local, &[]);
    // Written since, it is not what came out.
    let out = std::fs::read_dir(aegis.here().join("aegis-out")).expect("outputs").flatten();
    for directory in out.filter(|it| it.path().is_dir()) {
        std::fs::write(directory.path().join("out/a"), "changed").expect("written");
    }
    aegis.call(&["artifact", "get", &local, "out/a", "-o", "-"]).code(1).says("was changed");

    let books = Books::of(&aegis);
    let submitted = books.submit(&Task::script(script).output("out/*"));
    let server = serving::Server::start(&aegis, &[]);
    assert_eq!(books.outcome(submitted, &server), "exited(0)");
    let place = format!("unix:{}/aegis.sock", aegis.state().display());
    check_fetched(&aegis, &submitted.to_string(), &["--server", &place]);
}

#[track_caller]
fn check_fetched(aegis: &Aegis, run: &str, server: &[&str]) {
    let call = |arguments: &[&str]| aegis.call(&[&["artifact"], arguments, server].concat());
    let listed = call(&["ls", run]);
    listed.code(0).prints("out/a").prints("out/b\\x0a");
    assert_eq!(call(&["get", run, "out/a", "-o", "-"]).code(0).stdout, "content");
    assert_eq!(call(&["get", run, "out/b\\x0a", "-o", "-"]).code(0).stdout, "x");
    call(&["get", run, "out/a", "-o", "fetched"]).code(0);
    assert_eq!(std::fs::read_to_string(aegis.here().join("fetched")).expect("written"), "content");
    call(&["get", run, "out/a"]).code(0);
    call(&["get", run, "out/a"]).code(2).says("is there already");
    std::fs::remove_file(aegis.here().join("a")).expect("it was written");
    call(&["get", run, "out/none"]).code(1).says("nothing came out as");
}

#[test]
fn ar_13_a_collection_that_is_cut_leaves_nothing_to_be_seen() {
    let aegis = Aegis::new();
    let books = Books::of(&aegis);
    let server = serving::Server::start(&aegis, &["--workers", "1"]);
    let script = "mkdir out; for i in $(seq 100 199); do head -c 2M /dev/zero >out/$i; done";
    let run = books.submit(&Task::script(script).output("out/*"));
    let artifacts = Artifacts::new(&aegis.state());
    let kept = artifacts.by_run().of(run);
    let count = || std::fs::read_dir(kept.join("1/out")).map_or(0, Iterator::count);
    eventually("it is being collected", serving::RUN_TIME_MAX, || {
        let said = server.said();
        assert!(!said.contains("is over") && !said.contains("came to nothing"), "{said}");
        count() > 0
    });
    server.kill();
    assert!(count() < 100, "it was cut in the middle");
    let server = serving::Server::start(&aegis, &["--workers", "1"]);
    let ended = books.until(run, RunState::Done, &server);
    let end = ended.end.expect("an end");
    assert!(end.outcome.to_string().starts_with("lost("), "{}", end.outcome);
    assert_eq!((end.artifacts, end.output_dir), (Vec::new(), None));
    assert_eq!(aegis.call(&["artifact", "ls", &run.to_string()]).code(0).stdout, "nothing came out\n");
    eventually("nothing of it is left", Duration::from_secs(10), || !kept.join("1").exists());
}

#[test]
fn a_run_is_submitted_anew_by_who_may_and_once_a_key() {
    let server = Server::new();
    let ann = server.token("ann", Role::Submit, Some("a"));
    let body = r#"{"command": ["make"], "environment": {"KEY": "value-4711"}, "labels": {"team": "core"}}"#;
    let first = server.ask(&ann, "POST", "/api/v1/runs", body).is(201).json()["id"].clone();
    let first: RunId = first.as_str().expect("an id").parse().expect("an id");
    let path = format!("/api/v1/runs/{first}/retry");
    let again = |body: &str| server.ask(&ann, "POST", &path, body);
    assert_eq!(again("{}").refused(409)["code"], "going_on");
    end(&server, first, &[]);
    let other = server.ask(&ann, "POST", "/api/v1/runs", body).is(201).json()["id"].clone();
    let other: RunId = other.as_str().expect("an id").parse().expect("an id");
    end(&server, other, &[]);
    assert_eq!(again("{}").refused(400)["errors"][0]["field"], "environment.KEY");
    let more = r#"{"environment": {"KEY": "a", "OTHER": "b"}}"#;
    assert_eq!(again(more).refused(400)["errors"][0]["field"], "environment.OTHER");
    let authorization = format!("Bearer {ann}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("idempotency-key", "again"),
    ];
    let given = r#"{"environment": {"KEY": "value-4712"}}"#;
    let second = server.send("POST", &path, &headers, given).is(201).json()["id"].clone();
    assert_eq!(server.send("POST", &path, &headers, given).is(200).json()["id"], second);
    let second = second.as_str().expect("an id");
    // The same words to another run ask for something else.
    let refused = server.send("POST", &format!("/api/v1/runs/{other}/retry"), &headers, given).refused(409);
    assert_eq!(refused["code"], "idempotency_conflict");
    let told = server.ask(&ann, "GET", &format!("/api/v1/runs/{second}"), "").is(200).json();
    assert_eq!(told["labels"]["aegis.retry-of"], first.to_string());
    assert_eq!((&told["labels"]["team"], &told["task"]["command"][0]), (&"core".into(), &"make".into()));
    assert!(!told.to_string().contains("value-471"), "{told}");
}

#[test]
fn projects_are_set_up_by_an_administrator_and_seen_by_their_own() {
    let server = Server::new();
    let (root, ann) = (server.token("root", Role::Admin, None), server.token("ann", Role::Read, Some("a")));
    let set_up = |name: &str, body: &str| server.ask(&root, "PUT", &format!("/api/v1/projects/{name}"), body);
    let wanted = r#"{"name": "a", "quotas": {"runs": 2, "storage_bytes": 1024}, "images": ["aegis/base"], "secrets": []}"#;
    set_up("a", wanted).is(200);
    set_up("b", r#"{"name": "b"}"#).is(200);
    let told = server.ask(&ann, "GET", "/api/v1/projects/a", "").is(200).json();
    assert_eq!((&told["quotas"]["runs"], &told["quotas"]["queued"]), (&2.into(), &serde_json::Value::Null));
    let listed = server.ask(&ann, "GET", "/api/v1/projects", "").is(200).json();
    assert_eq!(listed["projects"].as_array().map(Vec::len), Some(1), "{listed}");
    server.ask(&ann, "GET", "/api/v1/projects/b", "").refused(404);
    server.ask(&root, "GET", "/api/v1/projects/never", "").refused(404);
    for (body, field) in [
        (r#"{"name": "b"}"#, "name"),
        (r#"{"name": "a", "ceiling": "[resources]\nmemory = 7"}"#, "ceiling"),
        (r#"{"name": "a", "images": ["UPPER CASE"]}"#, "images[0]"),
        (r#"{"name": "a", "secrets": ["../x"]}"#, "secrets[0]"),
        (r#"{"name": "a", "quotas": {"runs": 18446744073709551615}}"#, "quotas.runs"),
        (r#"{"name": "a", "owner": "root"}"#, "owner"),
    ] {
        assert_eq!(set_up("a", body).refused(400)["errors"][0]["field"], field);
    }
    assert_eq!(server.ask(&ann, "GET", "/api/v1/projects/a", "").json(), told, "nothing of it changed");
}
