//! What is kept of a run and how it is read back: lists, pages, the published JSON, logs.

use std::io::Read;
use std::process::Command;

use aegis::report::json::{BriefJson, RunJson};
use serde_json::{Value, json};

use crate::support::aegis::{Aegis, Ended, finish};
use crate::support::live::{Live, newest, record, runs};
use crate::support::rewriter::{Inspection, Rewriter};

/// What sha256sum says of a file with `report` and a newline.
const REPORT_SHA256: &str = "331d26d6d8f862e46ba900811be8a7a1e4dbaa229b14c99becfd5e5151490d95";

/// Holds that an object is what `docs/schemas/result-1.json` says: by our own reader, which knows every field and takes
/// no other, and by an independent validator where Python has one.
#[track_caller]
fn check_schema(text: &str) -> RunJson {
    let run: RunJson = serde_json::from_str(text).expect("every field, and no other");
    validate("docs/schemas/result-1.json", text);
    run
}

#[track_caller]
fn validate(schema: &str, text: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let object = directory.path().join("object.json");
    std::fs::write(&object, text).expect("written");
    let script = "import json, sys\n\
                  try: import jsonschema\n\
                  except ImportError: sys.exit(42)\n\
                  jsonschema.validate(json.load(open(sys.argv[1])), json.load(open(sys.argv[2])))";
    let schema = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(schema);
    let output = Command::new("python3").args(["-c", script]).arg(&object).arg(&schema).output();
    let Ok(output) = output else { return eprintln!("skipped: no python3 to validate with") };
    match output.status.code() {
        Some(0) => {}
        Some(42) => eprintln!("skipped: python3 has no jsonschema"),
        _ => panic!("{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// A run with `--result FILE`: what it printed, and the object.
fn with_result(aegis: &Aegis, flags: &[&str], script: &str) -> (Ended, String) {
    let mut all = vec!["--result", "result.json"];
    all.extend(flags);
    let ended = aegis.script(&all, script);
    let text = std::fs::read_to_string(aegis.here().join("result.json")).expect("the result is there");
    (ended, text)
}

/// Holds the outcome in the result, in the record, and its exit status.
fn check_outcome(flags: &[&str], script: &str, status: u8, outcome: Value) {
    let aegis = Aegis::new();
    let (ended, text) = with_result(&aegis, flags, script);
    ended.code(i32::from(status));
    check_schema(&text);
    let result: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&result["outcome"], &result["exit_status"]), (&outcome, &json!(status)));
    assert_eq!(record(&aegis, &newest(&aegis)), result, "`show --json` prints the same object");
}

#[test]
fn an_exit_is_recorded_with_its_code() {
    check_outcome(&[], "echo out; echo error >&2; exit 3", 3, json!({"kind": "exited", "code": 3}));
}

#[test]
fn a_signal_is_recorded_with_its_number() {
    check_outcome(&[], "kill -TERM $$", 143, json!({"kind": "signaled", "signal": 15}));
}

#[test]
fn a_timeout_is_recorded() {
    let outcome = json!({"kind": "timed_out", "clock": "wall"});
    check_outcome(&["--timeout", "1s"], "sleep 60", 124, outcome);
}

#[test]
fn running_out_of_memory_is_recorded() {
    let outcome = json!({"kind": "out_of_memory"});
    check_outcome(&["--memory", "32MiB"], "exec python3 -c 'x = bytearray(1 << 30)'", 137, outcome);
}

#[test]
fn the_output_limit_is_recorded() {
    check_outcome(&["--output-limit", "4KiB"], "yes", 123, json!({"kind": "output_limit"}));
}

#[test]
fn a_full_disk_is_recorded_with_its_mount() {
    let outcome = json!({"kind": "disk_limit", "limit": "full", "mount": "/tmp"});
    check_outcome(&["--tmp-size", "1MiB"], "head -c 4M /dev/zero >/tmp/a; sleep 1; exit 1", 123, outcome);
}

#[test]
fn a_missing_program_is_recorded() {
    let aegis = Aegis::new();
    aegis.call(&["run", "--no-workspace", "--", "no-such-program"]).code(127);
    let outcome = record(&aegis, &newest(&aegis))["outcome"].clone();
    assert_eq!((&outcome["kind"], &outcome["reason"]), (&json!("start_failed"), &json!("not_found")));
}

#[test]
fn a_refusal_is_recorded_with_what_differed() {
    let weaker = |body: &mut Value| body["HostConfig"]["CapAdd"] = json!(["CHOWN"]);
    let rewriter = Rewriter::weakening(Inspection::Lying, Box::new(weaker));
    let aegis = Aegis::new().with("DOCKER_HOST", &rewriter.docker_host());
    let (ended, text) = with_result(&aegis, &[], "echo started");
    assert_eq!(ended.code(125).stdout, "");
    let run = check_schema(&text);
    assert!(run.released_at.is_none(), "{run:?}");
    let record = record(&aegis, &newest(&aegis));
    assert_eq!(record["outcome"]["kind"], "refused");
    assert!(record["outcome"]["differences"].to_string().contains("CapBnd"), "{record}");
    assert_eq!(record["attestation"]["proven"], false);
}

#[test]
fn what_policy_denies_is_told_in_the_place_of_the_result() {
    let aegis = Aegis::new();
    let (ended, text) = with_result(&aegis, &["--pids-limit", "4194304"], "true");
    ended.code(125).says("policy does not allow this run");
    let failure: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&failure["schema"], &failure["exit_code"]), (&json!("aegis.failure/1"), &json!(125)));
    assert_eq!(runs(&aegis, &["--all"]), Some(Vec::new()), "nothing was accepted");
}

#[test]
fn the_result_holds_what_was_used_and_proven() {
    let aegis = Aegis::new();
    let script = "head -c 5000000 /dev/zero >/tmp/zero; mkdir out; echo report >out/report; printf 12345; \
                  printf 123 >&2";
    let flags = [
        "-o",
        "out",
        "-o",
        "absent/*",
        "--name",
        "the name",
        "--label",
        "team=blue",
        "-e",
        "KEY=cobalt-blue",
    ];
    let (ended, text) = with_result(&aegis, &flags, script);
    ended.code(0);
    let run = check_schema(&text);
    assert_eq!(run.name.as_deref(), Some("the name"));
    assert_eq!(run.labels.get("team").map(String::as_str), Some("blue"));
    assert_eq!(run.task.environment_names, ["KEY"], "names only");
    assert!(!text.contains("cobalt-blue"), "a value of the environment is not kept: {text}");
    assert!(run.image.id.as_deref().is_some_and(|it| it.starts_with("sha256:")));
    assert_eq!(run.policy.digest.len(), 64);
    let output = run.output.expect("it wrote");
    assert_eq!((output.stdout_bytes, output.stderr_bytes, output.log_truncated), (5, 3, false));
    let usage = run.usage.expect("it used something");
    assert!(usage.wall_us > 0 && usage.written_bytes_peak >= 5_000_000, "{usage:?}");
    assert!(usage.memory_peak_bytes.is_some_and(|it| it >= 5_000_000), "{usage:?}");
    let artifacts = run.artifacts.expect("outputs were declared");
    assert_eq!(artifacts.unmatched, ["absent/*"]);
    let report = artifacts.files.iter().find(|it| it.path == "out/report").expect("it came out");
    assert_eq!((report.bytes, report.sha256.as_str()), (7, REPORT_SHA256));
    for phase in ["create", "start", "attestation", "run", "first_output", "total"] {
        assert!(run.timings_us.contains_key(phase), "{phase}: {:?}", run.timings_us);
    }
    let attestation = run.attestation.expect("it was proven");
    assert_eq!((&attestation["proven"], &attestation["no_new_privileges"]), (&json!(true), &json!(true)));
}

#[test]
fn asked_resolved_and_effective_are_told_apart() {
    let aegis = Aegis::new();
    // More CPUs than any host has: asked for, and lowered to what is here.
    aegis.script(&["--cpus", "1024", "--memory", "128MiB"], "true").code(0);
    let run = record(&aegis, &newest(&aegis));
    let value = |list: &str, field: &str| {
        let fields = run["policy"][list].as_array().expect("a list").clone();
        fields.iter().find(|it| it["field"] == field).map(|it| it["value"].clone())
    };
    assert_eq!(run["policy"]["asked"].as_array().map(Vec::len), Some(2));
    assert_eq!(value("asked", "resources.cpus"), Some(json!("1024")));
    assert_eq!(value("resolved", "resources.cpus"), Some(json!("1024")));
    assert_ne!(value("effective", "resources.cpus"), Some(json!("1024")));
    assert_eq!(value("asked", "resources.memory"), value("effective", "resources.memory"));
    let page = aegis.call(&["show", &newest(&aegis)]);
    for title in ["\nasked\n", "\nresolved\n", "\neffective\n", "\nwhat the kernel showed\n", "\nused\n"] {
        page.prints(title);
    }
    page.prints("mounts point=/tmp kind=tmpfs options=rw,nosuid,nodev");
}

#[test]
fn a_result_goes_to_a_descriptor_of_the_caller() {
    let aegis = Aegis::new();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    // A shell opens the descriptor, as a caller does: `4>&1`.
    let plain = aegis.command(&[]);
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(r#"exec "$0" run --no-workspace --result fd:4 -- sh -c 'echo task; exit 5' 4>&1 >/dev/null"#);
    shell.arg(plain.get_program()).current_dir(aegis.here()).env_clear();
    shell.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let child = shell.stdout(writer).stderr(std::process::Stdio::piped()).spawn().expect("a shell");
    drop(shell);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("read");
    finish(child, b"").code(5);
    assert_eq!(check_schema(text.trim_end()).exit_status, Some(5));
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn a_result_that_cannot_be_written_is_told_before_anything_runs() {
    let aegis = Aegis::new();
    for (target, status) in [("fd:9", 2), ("/nowhere/result.json", 125)] {
        let ended = aegis.script(&["--result", target], "echo started");
        assert_eq!(ended.code(status).says("hint:").stdout, "");
    }
}

#[test]
fn a_list_shows_what_goes_on_and_all_of_it_on_request() {
    let aegis = Aegis::new();
    assert_eq!(aegis.call(&["ps"]).code(0).stdout, "no runs\n");
    aegis.script(&["--name", "first"], "exit 3").code(3);
    let live = Live::start(&aegis, "second", &["--label", "a=b"], "while :; do sleep 1; done");
    let going_on = aegis.call(&["ps"]);
    going_on.code(0).prints("RUN").prints("running").prints("second");
    assert!(!going_on.stdout.contains("first"), "{going_on:?}");
    aegis.call(&["ps", "--all"]).code(0).prints("exited(3)").prints("first").prints("second");
    live.cancel(&aegis).code(143);
    let text = aegis.call(&["ps", "--all", "--json"]).stdout;
    validate("docs/schemas/list-1.json", &text);
    let list: Vec<BriefJson> = serde_json::from_str(&text).expect("a list");
    let names: Vec<_> = list.iter().map(|it| it.name.clone().expect("a name")).collect();
    assert_eq!(names, ["second", "first"], "the newest comes first");
    assert_eq!(list[0].labels.get("a").map(String::as_str), Some("b"));
}

#[test]
fn a_run_that_goes_on_is_shown_without_its_end() {
    let aegis = Aegis::new();
    let live = Live::start(&aegis, "on", &[], "while :; do sleep 1; done");
    let run = record(&aegis, &live.id);
    assert_eq!(
        (&run["state"], &run["outcome"], &run["ended_at"]),
        (&json!("running"), &Value::Null, &Value::Null)
    );
    check_schema(&run.to_string());
    aegis.call(&["why", &live.id]).code(1).says("is going on");
    live.cancel(&aegis).code(143);
}

#[test]
fn a_run_is_found_by_its_whole_id_and_by_its_last_digits() {
    let aegis = Aegis::new();
    aegis.script(&[], "echo found").code(0);
    let run = record(&aegis, &newest(&aegis));
    let (whole, short) = (run["id"].as_str().expect("an id"), run["short_id"].as_str().expect("an id"));
    for id in [whole, short, &whole.to_uppercase(), &short.to_uppercase()] {
        aegis.call(&["logs", id]).code(0).prints("found");
        aegis.call(&["why", id]).code(0);
        assert_eq!(record(&aegis, id)["id"], run["id"]);
    }
    aegis.call(&["show", &short[1..]]).code(2).says("is not a run id");
}

#[test]
fn an_id_that_names_two_runs_is_not_guessed() {
    let aegis = Aegis::new();
    aegis.script(&[], "true").code(0);
    let id = record(&aegis, &newest(&aegis))["id"].as_str().expect("an id").to_owned();
    let twin = format!("{}0{}", &id[..7], &id[8..]);
    let twin = if twin == id { format!("{}1{}", &id[..7], &id[8..]) } else { twin };
    copy_run(&aegis, &id, &twin);
    let short = &id[24..];
    for command in [&["show", short][..], &["logs", short], &["why", short], &["cancel", short]] {
        let ended = aegis.call(command);
        ended.code(1).says(&format!("`{short}` names 2 runs")).says(&id).says(&twin);
    }
    aegis.call(&["show", &id]).code(0).prints(&id);
    aegis.call(&["show", &twin]).code(0).prints(&twin);
}

/// Gives a run a twin with another id, as two hosts' records in one database could.
fn copy_run(aegis: &Aegis, id: &str, twin: &str) {
    let script = "import sqlite3, sys\n\
                  db = sqlite3.connect(sys.argv[1])\n\
                  columns = [it[1] for it in db.execute('PRAGMA table_info(runs)')]\n\
                  values = ', '.join({'id': '?', 'container_id': \"'other'\"}.get(it, it) for it in columns)\n\
                  db.execute(f\"INSERT INTO runs ({', '.join(columns)}) SELECT {values} FROM runs WHERE id = ?\", \
                  sys.argv[3:1:-1])\n\
                  db.commit()";
    let database = aegis.state().join("aegis.db");
    let output = Command::new("python3").args(["-c", script]).arg(database).args([id, twin]).output();
    let output = output.expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_log_is_read_back_byte_for_byte_and_by_stream() {
    let aegis = Aegis::new();
    let script = "head -c 3000000 /dev/urandom | tee /dev/fd/2 | base64; echo end";
    let child = aegis.command(&["run", "--no-workspace", "-q", "--", "bash", "-c", script]).output();
    let run = child.expect("it runs");
    assert!(run.status.success());
    let id = newest(&aegis);
    let read = |flags: &[&str]| {
        let mut arguments = vec!["logs", id.as_str()];
        arguments.extend(flags);
        let output = aegis.command(&arguments).output().expect("it runs");
        (output.stdout, output.stderr)
    };
    let whole = read(&[]);
    assert!(whole == (run.stdout.clone(), run.stderr.clone()), "{} {}", whole.0.len(), whole.1.len());
    let stdout = read(&["--stream", "stdout"]);
    assert!(stdout == (run.stdout, Vec::new()), "{} {}", stdout.0.len(), stdout.1.len());
    let stderr = read(&["--stream", "stderr"]);
    assert!(stderr == (Vec::new(), run.stderr), "{} {}", stderr.0.len(), stderr.1.len());
}

#[test]
fn a_run_that_wrote_nothing_has_an_empty_log() {
    let aegis = Aegis::new();
    aegis.script(&[], "true").code(0);
    let ended = aegis.call(&["logs", &newest(&aegis)]);
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let aegis = Aegis::new();
    aegis.script(&[], "seq 200000").code(0);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let child = aegis.command(&["logs", &newest(&aegis)]).stdout(writer).spawn().expect("started");
    drop(reader);
    let ended = finish(child, b"");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
}
