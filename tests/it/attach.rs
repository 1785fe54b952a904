//! `aegis run` through a server: the same to the eye, and over with its client.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::aegis::{Aegis, Ended, eventually, finish, long_form};
use crate::support::live::{newest, record};
use crate::support::processes::{Tag, processes_with};
use crate::support::serving::Server;
use crate::support::terminal::Terminal;

/// Time in which a run ends once its client is gone.
const GONE_TIME_MAX: Duration = Duration::from_secs(15);
/// Time in which something begins on a loaded machine.
const UP_TIME_MAX: Duration = Duration::from_secs(90);

/// The same flags and script here and through a server.
fn both(flags: &[&str], script: &str, input: &[u8], (here, through): (&Aegis, &Aegis)) -> [Ended; 2] {
    [here, through].map(|aegis| {
        let arguments = [&["run", "--no-workspace", "-q"], flags, &["--", "bash", "-c", script]].concat();
        aegis.call_with_input(&arguments, input)
    })
}

#[test]
fn streams_and_status_are_the_same_as_here() {
    let (here, through) = (Aegis::new(), Aegis::new().through_a_server());
    let numbers: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let cases: [(&[&str], &str, &[u8]); 11] = [
        (&[], "echo out; echo err >&2; exit 42", b""),
        (&[], "cat; echo over", b"not passed on"),
        (&["-i"], "cat; echo over", b"passed on\n"),
        (&["-i"], "sha256sum", &numbers),
        (&["-i"], "exec <&-; echo closed", &numbers),
        (&[], "kill -KILL $$", b""),
        (&[], "kill -TERM $$", b""),
        (&["--timeout", "1s"], "echo before; sleep 60", b""),
        (&["-e", "WORD=a b"], "echo \"$WORD\"; id -u | wc -l; pwd", b""),
        (&["--output-limit", "1KiB"], "seq 1 100000", b""),
        (&["--workdir", "/tmp"], "pwd; head -c 3000000 /dev/zero | tee /dev/stderr | sha256sum", b""),
    ];
    for (flags, script, input) in cases {
        let [a, b] = both(flags, script, input, (&here, &through));
        assert_eq!((a.code, &a.stdout), (b.code, &b.stdout), "{script}: {}", through.server().said());
        // What Aegis itself says of a limit names the server; what the task wrote is the same.
        let own = |it: &Ended| it.stderr.lines().filter(|it| !it.starts_with("aegis:")).collect::<String>();
        assert_eq!(own(&a), own(&b), "{script}");
    }
    let [a, b] = both(&["--image", "aegis/nothing-such", "--pull", "never"], "true", b"", (&here, &through));
    assert_eq!((a.code, b.code), (Some(125), Some(125)), "{a:#?} {b:#?}");
    for aegis in [&here, &through] {
        aegis.call(&["run", "--no-workspace", "--", "/nothing/such"]).code(127);
    }
}

#[test]
fn summary_and_result_say_where_it_ran() {
    let aegis = Aegis::new().through_a_server();
    let result = |flags: &[&str]| {
        let ended = aegis.script(&[flags, &["--result", "result.json"]].concat(), "echo out");
        let result = std::fs::read(aegis.here().join("result.json")).expect("a result");
        let result: serde_json::Value = serde_json::from_slice(&result).expect("JSON");
        assert_eq!(ended.code(0).stdout, "out\n");
        assert_eq!(result["attestation"]["proven"], true, "{result:#}");
        (ended, result["where"].clone())
    };
    let (ended, place) = result(&[]);
    ended.says(", on the server");
    assert_eq!(place, "server");
    let (ended, place) = result(&["--local"]);
    assert!(!ended.stderr.contains("on the server"), "{ended:#?}");
    assert_eq!(place, "local");
    // What the server cannot do is done here, in one line.
    let odd = |flags: &[&str]| {
        let mut command = aegis.command(&[&["run", "--no-workspace"], flags, &["--", "echo"]].concat());
        command.arg(OsStr::from_bytes(b"\xff"));
        finish(command.spawn().expect("aegis starts"), b"")
    };
    odd(&[]).code(0).says("this runs here, not on the server: an argument is not UTF-8");
    let flag = format!("unix:{}/aegis.sock", aegis.state().display());
    odd(&["--server", &flag]).code(2);
}

/// What lies below a directory: content and permission bits of files, targets of links.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let (mut found, mut waiting) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().expect("metadata"));
            let what = if metadata.is_dir() {
                waiting.push(path.clone());
                format!("directory {:o}", metadata.mode())
            } else if metadata.is_symlink() {
                format!("link {}", std::fs::read_link(&path).expect("a link").display())
            } else {
                format!("{:o} {}", metadata.mode(), std::fs::read_to_string(&path).expect("text"))
            };
            found.insert(path.strip_prefix(root).expect("below").to_owned(), what);
        }
    }
    found
}

/// The directory below `aegis-out` that a run made.
fn came_out(aegis: &Aegis) -> PathBuf {
    let entries = std::fs::read_dir(aegis.here().join("aegis-out")).expect("outputs").flatten();
    let mut directories = entries.map(|it| it.path()).filter(|it| it.is_dir());
    let directory = directories.next().expect("a directory of the run");
    assert_eq!(directories.next(), None, "and no other");
    directory
}

#[test]
fn outputs_are_where_a_run_here_puts_them() {
    let script = "mkdir -p out/deep/empty; echo made >out/deep/file; chmod 750 out/deep/file; ln -s deep/file out/link; \
                  ln -s /etc/passwd out/leads-out; mkfifo out/pipe; : >out/nothing; touch -d @1000000000 out/deep/file";
    let (here, through) = (Aegis::new(), Aegis::new().through_a_server());
    let [a, b] = [&here, &through].map(|aegis| {
        let flags = ["-o", "out", "-o", "absent", "--result", "result.json"];
        let ended = aegis.script(&flags, script);
        ended.code(0).says("2 files collected, 2 left out, 1 not found").says("`absent` is not there");
        ended
            .says("`out/pipe` was left out: it is a FIFO")
            .says("`out/leads-out` was left out: it is a link");
        let out = came_out(aegis);
        ended.says(&format!("outputs are in {}", out.display()));
        let modified = std::fs::metadata(out.join("out/deep/file")).and_then(|it| it.modified());
        let since = modified.expect("a time").duration_since(SystemTime::UNIX_EPOCH).expect("after it");
        assert_eq!(since, Duration::from_secs(1_000_000_000));
        let result = std::fs::read(aegis.here().join("result.json")).expect("a result");
        let mut result: serde_json::Value = serde_json::from_slice(&result).expect("JSON");
        let told = result["artifacts"]["directory"].take();
        assert_eq!(told, out.to_str().expect("text"));
        (tree(&out), result["artifacts"].take())
    });
    assert_eq!(a, b);
    // A directory that was named, and one that cannot be had.
    let named = through.script(&["-o", "out", "--output-dir", "named/deep"], "mkdir out; echo 1 >out/a");
    named.code(0).says(", on the server").says("here/named/deep");
    assert_eq!(std::fs::read_to_string(through.here().join("named/deep/out/a")).expect("it came"), "1\n");
    std::fs::write(through.here().join("file"), "").expect("written");
    let runs = || through.call(&["ps", "--all"]).stdout.lines().count();
    let before = runs();
    for (flags, says) in [
        (["-o", "out", "--output-dir", "file"], "`--output-dir`"),
        (["-o", "../out", "--output-dir", "x"], "leads out of the workspace"),
    ] {
        let refused = [&here, &through].map(|it| {
            std::fs::write(it.here().join("file"), "").expect("written");
            let ended = it.script(&flags, "true");
            ended.says(says);
            ended.code
        });
        assert_eq!(refused[0], refused[1], "{says}");
    }
    assert_eq!(runs(), before, "nothing ran");
}

#[test]
fn outputs_that_cannot_be_written_are_told() {
    let aegis = Aegis::new().through_a_server();
    std::fs::create_dir_all(aegis.here().join("out/taken")).expect("made");
    let flags = ["-o", "*", "--output-dir", "out", "--result", "result.json"];
    let ended = aegis.script(&flags, "echo 1 >taken; echo 2 >free");
    ended.code(0).says("the output `taken` was left out: a directory has its name");
    let result = std::fs::read(aegis.here().join("result.json")).expect("a result");
    let result: serde_json::Value = serde_json::from_slice(&result).expect("JSON");
    assert_eq!(result["artifacts"]["files"][0]["path"], "free", "{result:#}");
    assert_eq!(result["artifacts"]["dropped"][0]["path"], "taken", "{result:#}");
    // What came out is on the server all the same.
    let run = newest(&aegis);
    let server = format!("unix:{}/aegis.sock", aegis.state().display());
    let fetched = aegis.call(&["artifact", "get", "--server", &server, &run, "taken", "-o", "-"]);
    assert_eq!(fetched.code(0).stdout, "1\n");
}

#[test]
fn a_workspace_goes_along() {
    let aegis = Aegis::new().through_a_server();
    std::fs::write(aegis.here().join("input.txt"), "from here\n").expect("written");
    std::fs::write(aegis.here().join(".env"), "KEY=canary\n").expect("written");
    let ended =
        aegis.call(&["run", "-w", ".", "--", "sh", "-c", "cat input.txt; test ! -e .env && echo withheld"]);
    assert_eq!(ended.code(0).stdout, "from here\nwithheld\n");
    ended.says(".env").says(", on the server");
}

/// A server's instance, and a user of it with records of their own.
fn server_and_user() -> (Aegis, Server, Aegis) {
    let aegis = Aegis::new();
    let server = Server::start(&aegis, &[]);
    let user = Aegis::new().with("AEGIS_SERVER", &format!("unix:{}/aegis.sock", aegis.state().display()));
    (aegis, server, user)
}

#[test]
fn changes_are_shown_and_brought_in_as_those_of_a_run_here() {
    let (_aegis, server, user) = server_and_user();
    let project = user.here().join("project");
    std::fs::create_dir(&project).expect("made");
    for (name, text) in [("edited", "before\n"), ("gone", "gone\n"), (".aegisignore", "*.cache\n")] {
        std::fs::write(project.join(name), text).expect("written");
    }
    let script =
        "echo after >edited; rm gone; mkdir made; echo new >made/file; echo x >a.cache; chmod 750 made/file";
    let flags = ["run", "-w", "project", "--result", "result.json", "--", "bash", "-c", script];
    let ended = user.call(&flags);
    let result = std::fs::read(user.here().join("result.json")).expect("a result");
    let result: serde_json::Value = serde_json::from_slice(&result).expect("JSON");
    let run = result["short_id"].as_str().expect("an id");
    ended
        .code(0)
        .says(", on the server")
        .says(&format!("`aegis diff {run}` shows the changes, `aegis apply {run}`"));
    let changes = &result["changes"];
    assert_eq!((&changes["added"], &changes["left_out"]), (&2.into(), &1.into()), "{changes}");
    // Neither needs the server any more, nor the project's directory around.
    drop(server);
    let diff = user.call(&["diff", run, "--name-status"]);
    assert_eq!(diff.code(0).stdout, "M\tedited\nD\tgone\nA\tmade\nA\tmade/file\n");
    user.call(&["diff", run]).code(0).prints("-before").prints("+after");
    // What stands against one of them stands against all.
    std::fs::write(project.join("edited"), "mine\n").expect("written");
    user.call(&["apply", run]).code(125).says("edited");
    assert!(project.join("gone").exists() && !project.join("made").exists(), "nothing was applied");
    std::fs::write(project.join("edited"), "before\n").expect("written");
    // A sweep knows no record of it, and leaves it.
    user.call(&["gc"]).code(0);
    user.call(&["apply", run]).code(0).says("2 added, 1 modified, 1 deleted");
    assert_eq!(std::fs::read_to_string(project.join("edited")).expect("read"), "after\n");
    assert!(!project.join("gone").exists() && !project.join("a.cache").exists());
    let mode = std::fs::metadata(project.join("made/file")).expect("there").mode();
    assert_eq!(mode & 0o700, 0o700, "{mode:o}");
}

#[test]
fn a_terminal_is_the_clients() {
    let aegis = Aegis::new().through_a_server();
    let script =
        "trap 'stty size; exit 5' WINCH; test -t 0 && stty size; echo rea''dy; while :; do sleep 0.05; done";
    let terminal = Terminal::start(&aegis, &["run", "--no-workspace", "--", "bash", "-c", script]);
    terminal.until("33 101").until("ready").resize(40, 120).until("40 120");
    terminal.finish().code(5);
    let script = "echo rea''dy; read name; echo hello $name; wc -c; exit 4";
    let terminal = Terminal::start(&aegis, &["run", "--no-workspace", "--", "bash", "-c", script]);
    terminal.until("ready").types("you\r").until("hello you").types("four\r\x04");
    terminal.finish().code(4).shows("\r\n5\r\n");
}

/// A task that goes on until it is ended, with its client.
fn endless(aegis: &Aegis, tag: &Tag) -> Child {
    let script = format!("trap 'echo told; exit 7' TERM; echo up; sleep {tag} & wait");
    let arguments = ["run", "--no-workspace", "--", "bash", "-c", &script];
    let client = aegis.command(&arguments).spawn().expect("aegis starts");
    // The shell carries the tag as well, before it has set its trap.
    let sleeps = |it: &String| it.starts_with("sleep ");
    eventually("the task runs", UP_TIME_MAX, || processes_with(tag).iter().any(sleeps));
    client
}

fn signal(client: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(client.id()).expect("a pid")).expect("a pid");
    kill_process(pid, signal).expect("it is there");
}

fn outcome(aegis: &Aegis) -> serde_json::Value {
    let run = newest(aegis);
    eventually("the outcome is on record", GONE_TIME_MAX, || !record(aegis, &run)["outcome"].is_null());
    record(aegis, &run)["outcome"].clone()
}

#[test]
fn a_run_ends_with_its_client() {
    let (aegis, tag) = (Aegis::new().through_a_server(), Tag::new());
    let mut client = endless(&aegis, &tag);
    client.kill().expect("killed");
    client.wait().expect("waited for");
    eventually("the task is gone", GONE_TIME_MAX, || processes_with(&tag).is_empty());
    assert_eq!(outcome(&aegis), serde_json::json!({"kind": "cancelled", "by": "client"}));
}

#[test]
fn signals_are_the_same_as_here() {
    let (here, through) = (Aegis::new(), Aegis::new().through_a_server());
    for (sent, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        for aegis in [&here, &through] {
            let tag = Tag::new();
            let client = endless(aegis, &tag);
            signal(&client, sent);
            let ended = finish(client, b"");
            assert_eq!(ended.code(code).stdout, "up\ntold\n");
        }
    }
}

#[test]
fn who_waits_is_told_where_it_stands() {
    let (aegis, first, second, third) = (Aegis::new(), Tag::new(), Tag::new(), Tag::new());
    let socket = format!("unix:{}/aegis.sock", aegis.state().display());
    let aegis = aegis.with("AEGIS_SERVER", &socket);
    let _server = Server::start(&aegis, &["--workers", "1"]);
    let running = endless(&aegis, &first);
    let wait = |tag: &Tag, place: &str| {
        let script = format!(": {tag}; echo ran");
        let mut command = aegis.command(&["run", "--no-workspace", "--", "bash", "-c", &script]);
        let mut client = command.spawn().expect("aegis starts");
        let stderr = client.stderr.take().expect("a pipe");
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
        let line = lines.next().expect("a line").expect("text");
        assert_eq!(line, format!("aegis: waiting: position {place}"));
        (client, lines)
    };
    let (one, of_one) = wait(&second, "1");
    let (two, of_two) = wait(&third, "2");
    signal(&running, Signal::TERM);
    finish(running, b"").code(143);
    for (client, lines) in [(one, of_one), (two, of_two)] {
        let said: Vec<String> = lines.map(|it| it.expect("text")).collect();
        let places = said.iter().filter(|it| it.contains("waiting")).count();
        assert!(places <= 1, "{said:?}");
        finish(client, b"").code(0).prints("ran");
    }
}

#[test]
fn a_server_that_goes_takes_its_attached_runs_along() {
    let (aegis, tag, later) = (Aegis::new(), Tag::new(), Tag::new());
    let socket = format!("unix:{}/aegis.sock", aegis.state().display());
    let aegis = aegis.with("AEGIS_SERVER", &socket);
    let server = Server::start(&aegis, &["--workers", "1"]);
    let running = endless(&aegis, &tag);
    // One that waits for the only worker.
    let script = format!("sleep {later}");
    let mut waiting = aegis.command(&["run", "--no-workspace", "--", "bash", "-c", &script]);
    let waiting = waiting.spawn().expect("aegis starts");
    let listed = || aegis.call(&["ps", "--all"]).stdout;
    eventually("it waits", UP_TIME_MAX, || listed().contains("queued"));
    server.kill();
    for client in [running, waiting] {
        finish(client, b"").code(125).says("the connection to the server broke");
    }
    eventually("the task is gone", GONE_TIME_MAX, || processes_with(&tag).is_empty());
    // Whoever comes next ends what nobody waits for any more.
    let _server = Server::start(&aegis, &[]);
    eventually("both have ended", UP_TIME_MAX, || aegis.call(&["ps"]).stdout == "no runs\n");
    let ended = aegis.call(&["ps", "--all", "--json"]).code(0).stdout.clone();
    assert!(ended.contains(r#"{"kind":"cancelled","by":"client"}"#), "{ended}");
    assert!(processes_with(&later).is_empty());
}

/// Resident memory of a process, in KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find(|it| it.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|it| it.parse().ok()).expect("a number")
}

#[test]
fn rb_04_a_client_that_is_stopped_holds_up_its_own_task_only() {
    let (aegis, tag) = (Aegis::new().through_a_server(), Tag::new());
    aegis.script(&[], "true").code(0);
    let before = resident_kib(aegis.server().pid());
    let script = format!(": {tag}; exec yes {tag}");
    let arguments = ["run", "--no-workspace", "--output-limit", "60MiB", "--", "bash", "-c", &script];
    let client = aegis.command(&arguments).spawn().expect("aegis starts");
    eventually("the task runs", UP_TIME_MAX, || !processes_with(&tag).is_empty());
    signal(&client, Signal::STOP);
    // Others go on, and the flood waits.
    for _ in 0..3 {
        aegis.script(&[], "seq 1 1000 | wc -l").code(0).prints("1000");
    }
    assert!(!processes_with(&tag).is_empty(), "its task waits");
    let grown = resident_kib(aegis.server().pid()).saturating_sub(before);
    assert!(grown < 64 * 1024, "the server grew by {grown} KiB");
    if long_form() {
        // A client that shows no sign of life is one that is gone.
        eventually("it is given up", Duration::from_secs(90), || processes_with(&tag).is_empty());
    }
    signal(&client, Signal::CONT);
    signal(&client, Signal::KILL);
    let mut client = client;
    client.wait().expect("waited for");
    eventually("the task is gone", GONE_TIME_MAX, || processes_with(&tag).is_empty());
}

#[test]
fn a_reader_that_leaves_ends_the_writing() {
    let aegis = Aegis::new().through_a_server();
    let arguments = ["run", "--no-workspace", "--", "bash", "-c", "yes; echo $? >&2"];
    let mut client = aegis.command(&arguments).spawn().expect("aegis starts");
    let mut stdout = client.stdout.take().expect("a pipe");
    stdout.read_exact(&mut [0; 1000]).expect("it writes");
    drop(stdout);
    // SIGPIPE ends `yes`, as it would here; the shell goes on.
    assert!(finish(client, b"").code(0).stderr.starts_with("141\n"));
}

/// Asks to be attached over the socket, with these bytes after the head of the answer.
fn attached(aegis: &Aegis, script: &str, then: &[u8]) -> UnixStream {
    attached_to(aegis, &serde_json::json!({"command": ["bash", "-c", script]}), then)
}

fn attached_to(aegis: &Aegis, run: &serde_json::Value, then: &[u8]) -> UnixStream {
    let body = serde_json::json!({"run": run, "input": true, "terminal": null}).to_string();
    let mut stream = UnixStream::connect(aegis.state().join("aegis.sock")).expect("connects");
    stream.set_read_timeout(Some(UP_TIME_MAX)).expect("a timeout");
    let head = format!(
        "POST /api/v1/runs/attach HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: aegis-attach-2\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    stream.write_all(then).expect("sent");
    stream
}

#[test]
fn a_client_that_takes_nothing_does_not_keep_its_worker() {
    let aegis = Aegis::new();
    let socket = format!("unix:{}/aegis.sock", aegis.state().display());
    let aegis = aegis.with("AEGIS_SERVER", &socket);
    let _server = Server::start(&aegis, &["--workers", "1"]);
    let script = "head -c 3000000 /dev/zero; exec sleep 600";
    let run = serde_json::json!({"command": ["bash", "-c", script], "limits": {"timeout": "1s"}});
    let mut client = attached_to(&aegis, &run, b"");
    eventually("the run is on record", UP_TIME_MAX, || {
        aegis.call(&["ps", "--all"]).stdout.contains("strict")
    });
    let run = newest(&aegis);
    eventually("its time is up, and that is on record", UP_TIME_MAX, || {
        // It lives, and takes nothing.
        let _ = client.write_all(&[0x07, 0, 0, 0, 0]);
        !record(&aegis, &run)["outcome"].is_null()
    });
    assert_eq!(record(&aegis, &run)["outcome"]["kind"], "timed_out");
    aegis.script(&[], "echo next").code(0).prints("next");
}

#[test]
fn frames_that_break_the_rules_end_the_connection_and_the_run() {
    let aegis = Aegis::new().through_a_server();
    aegis.script(&[], "true").code(0);
    let frame = |kind: u8, length: u32| [&[kind], &length.to_le_bytes()[..]].concat();
    let flood = [frame(0x01, 65_536), vec![0; 65_536]].concat().repeat(9);
    let rules: [(&str, Vec<u8>); 5] = [
        ("longer than its bound", frame(0x01, 65_537)),
        ("a kind of the server's", frame(0x85, 2)),
        ("a kind of nobody's", frame(0x40, 0)),
        ("more room than there was", [frame(0x05, 5), vec![0, 1, 0, 0, 0]].concat()),
        ("more input than it was let", flood),
    ];
    for (what, bytes) in rules {
        let tag = Tag::new();
        let mut stream = attached(&aegis, &format!("exec sleep {tag}"), &bytes);
        let mut rest = Vec::new();
        // A connection that is reset has ended, too.
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(outcome(&aegis), serde_json::json!({"kind": "cancelled", "by": "client"}), "{what}");
        eventually(what, GONE_TIME_MAX, || processes_with(&tag).is_empty());
    }
}

#[test]
fn over_tls_a_token_attaches_as_a_socket_does() {
    let aegis = Aegis::new();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    for (name, text) in [("server.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem())] {
        std::fs::write(aegis.here().join(name), text).expect("written");
    }
    let unix = format!("unix:{}/aegis.sock", aegis.state().display());
    let tls = ["--listen", "127.0.0.1:0", "--tls-certificate", "server.pem", "--tls-key", "key.pem"];
    let server = Server::start(&aegis, &[&["--listen", &unix], &tls[..]].concat());
    let said = server.said();
    let at = said.find("https://").expect("it listens over TLS");
    let url: String = said[at..].chars().take_while(|it| !it.is_whitespace() && *it != ',').collect();
    let create = ["token", "create", "--server", &unix, "--name", "ci", "--role", "submit", "--project", "a"];
    let token = aegis.call(&create).code(0).stdout.trim().to_owned();
    let authority = aegis.here().join("server.pem").display().to_string();
    let user = Aegis::new().with("AEGIS_TOKEN", &token);
    let project = user.here().join("project");
    std::fs::create_dir(&project).expect("made");
    std::fs::write(project.join("edited"), "before\n").expect("written");
    let script = "cat; echo err >&2; echo after >edited; echo out >made; exit 3";
    let words = ["run", "-i", "--server", &url, "-w", "project", "-o", "made", "--", "bash", "-c", script];
    let run = |authority: Option<&str>| {
        let mut command = user.command(&words);
        command.stdin(Stdio::piped()).envs(authority.map(|it| ("SSL_CERT_FILE", it)));
        finish(command.spawn().expect("aegis starts"), b"given\n")
    };
    let ended = run(Some(&authority));
    assert_eq!(ended.code(3).stdout, "given\n");
    ended.says("err\n").says(", on the server").says("outputs are in").says("aegis diff");
    assert_eq!(std::fs::read_to_string(came_out(&user).join("made")).expect("it came"), "out\n");
    let at = ended.stderr.find("aegis: run ").expect("a summary") + "aegis: run ".len();
    let id = &ended.stderr[at..at + 12];
    assert_eq!(user.call(&["diff", id, "--name-status"]).code(0).stdout, "M\tedited\nA\tmade\n");
    // A server that does not prove itself is told nothing.
    run(None).code(125).says("does not prove who it is");
    assert!(!server.said().contains(&token), "a token is in the log");
}

#[test]
fn a_run_is_joined_by_nobody_else() {
    let (aegis, tag) = (Aegis::new(), Tag::new());
    let unix = format!("unix:{}/aegis.sock", aegis.state().display());
    let server = Server::start(&aegis, &["--listen", &unix, "--listen", "127.0.0.1:0"]);
    let said = server.said();
    let at = said.find("http://").expect("it listens on TCP") + "http://".len();
    let tcp: String = said[at..].chars().take_while(|it| !it.is_whitespace() && *it != ',').collect();
    let token = |name: &str, role: &str, project: &str| {
        let flags =
            ["token", "create", "--server", &unix, "--name", name, "--role", role, "--project", project];
        aegis.call(&flags).code(0).stdout.trim().to_owned()
    };
    let (own, other, reader) =
        (token("own", "submit", "a"), token("other", "submit", "b"), token("eyes", "read", "a"));
    let run = |token: &str, script: &str| {
        let url = format!("http://{tcp}");
        let mut command =
            aegis.command(&["run", "--server", &url, "--no-workspace", "--", "bash", "-c", script]);
        command.env("AEGIS_TOKEN", token).stdin(Stdio::null());
        command.spawn().expect("aegis starts")
    };
    assert_eq!(finish(run(&own, "echo over tcp; exit 3"), b"").code(3).stdout, "over tcp\n");
    finish(run(&reader, "echo ran"), b"").code(125).says("may not do this");
    finish(run("aegis_wrong", "echo ran"), b"").code(125);
    // There is no way to a run that is there: neither of one's own nor of another's.
    let mut client = run(&own, &format!("exec sleep {tag}"));
    eventually("the task runs", UP_TIME_MAX, || !processes_with(&tag).is_empty());
    let id = newest(&aegis);
    for token in [&own, &other] {
        for path in [format!("/api/v1/runs/{id}/attach"), format!("/api/v1/runs/attach?id={id}")] {
            let mut stream = std::net::TcpStream::connect(&tcp).expect("connects");
            stream.set_read_timeout(Some(UP_TIME_MAX)).expect("a timeout");
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: {tcp}\r\nauthorization: Bearer {token}\r\nconnection: upgrade\r\n\
                 upgrade: aegis-attach-2\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
            );
            stream.write_all(head.as_bytes()).expect("sent");
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).expect("an answer");
            assert!(answer.starts_with(b"HTTP/1.1 4"), "{path}: {}", String::from_utf8_lossy(&answer));
        }
    }
    assert!(!processes_with(&tag).is_empty(), "it goes on");
    client.kill().expect("killed");
    client.wait().expect("waited for");
    eventually("the task is gone", GONE_TIME_MAX, || processes_with(&tag).is_empty());
}
