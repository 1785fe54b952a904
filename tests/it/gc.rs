//! `aegis gc`: what a dead owner left goes, with what is past its retention; what belongs to anybody else stays.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::aegis::{Aegis, docker};
use crate::support::live::{Live, newest, record, runs};

/// A slot that no test's own run has.
const SLOT: &str = "4321";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// `aegis gc --json`.
#[track_caller]
fn gc(aegis: &Aegis, flags: &[&str]) -> Value {
    let ended = aegis.call(&[&["gc", "--json"], flags].concat());
    ended.code(0);
    serde_json::from_str(&ended.stdout).expect("JSON")
}

/// A container that was made and never started, as an owner that was killed between the two leaves it.
struct Made {
    id: String,
}

impl Made {
    fn of(instance: &str, slot: &str) -> Self {
        let labels = [format!("aegis.instance={instance}"), format!("aegis.slot={slot}")];
        let id = docker(&[
            "create",
            "--network",
            "none",
            "--label",
            "aegis.test=gc",
            "--label",
            &labels[0],
            "--label",
            &labels[1],
            "aegis/minimal",
            "true",
        ]);
        Self { id: id.trim().to_owned() }
    }

    fn exists(&self) -> bool {
        !docker(&["ps", "-aq", "--no-trunc", "--filter", &format!("id={}", self.id)]).trim().is_empty()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        docker(&["rm", "-f", &self.id]);
    }
}

/// An instance after one run.
fn used() -> Aegis {
    let aegis = Aegis::new();
    aegis.script(&[], "true").code(0);
    aegis
}

/// A slot directory that nobody owns, as far as its owner came.
fn dead_slot(aegis: &Aegis) -> PathBuf {
    let slot = aegis.runtime().join("slots").join(SLOT);
    std::fs::create_dir_all(slot.join("in")).expect("a directory");
    std::fs::write(slot.join("owner.lock"), "").expect("written");
    std::fs::write(slot.join("in/aegis-init"), "not ours to run").expect("written");
    slot
}

/// A socket that nobody listens on any more.
fn dead_socket(aegis: &Aegis) -> PathBuf {
    let path = aegis.runtime().join("runs/0123456789ab");
    drop(UnixListener::bind(&path).expect("a socket"));
    path
}

/// A run whose owner was killed.
fn dead_run(aegis: &Aegis) -> String {
    let live = Live::start(aegis, "dead", &[], "while :; do sleep 0.1; done");
    let id = live.id.clone();
    live.signal(Signal::KILL);
    live.finish();
    id
}

#[test]
fn what_a_killed_owner_left_goes() {
    let aegis = used();
    let run = dead_run(&aegis);
    let (slot, socket) = (dead_slot(&aegis), dead_socket(&aegis));
    let container = Made::of(&aegis.instance(), SLOT);

    let listed = gc(&aegis, &["--dry-run"]);
    assert_eq!(listed["dry_run"], true);
    assert!(container.exists() && slot.exists() && socket.exists(), "a dry run removes nothing");
    assert_eq!(record(&aegis, &run)["state"], "running");

    let swept = gc(&aegis, &[]);
    assert_eq!(swept["dry_run"], false);
    for list in ["containers", "slots", "sockets", "runs_ended"] {
        let (before, after) = (sorted(&listed[list]), sorted(&swept[list]));
        assert!(!after.is_empty(), "{list}: {swept}");
        // The killed owner's own container may end by itself between the two.
        assert!(after.iter().all(|it| before.contains(it)), "{list}: {listed} {swept}");
    }
    assert!(sorted(&swept["containers"]).contains(&json!(container.id).to_string()));
    assert!(!container.exists() && !slot.exists() && !socket.exists());
    assert_eq!(aegis.containers(), Vec::<String>::new());
    let ended = record(&aegis, &run);
    assert_eq!((&ended["state"], &ended["outcome"]["kind"]), (&json!("done"), &json!("lost")));
    assert_eq!((&ended["outcome"]["reason"], &ended["exit_status"]), (&json!("owner"), &json!(125)));
    aegis.call(&["why", &run]).code(0).prints("the process that ran it was gone");

    let again = gc(&aegis, &[]);
    for list in ["containers", "slots", "sockets", "runs_ended", "runs_forgotten", "logs"] {
        assert_eq!(again[list], json!([]), "nothing is left for a second one: {again}");
    }
}

fn sorted(list: &Value) -> Vec<String> {
    let mut items: Vec<String> = list.as_array().expect("a list").iter().map(ToString::to_string).collect();
    items.sort();
    items
}

#[test]
fn the_next_run_sweeps_too() {
    let aegis = used();
    let run = dead_run(&aegis);
    let slot = dead_slot(&aegis);
    let container = Made::of(&aegis.instance(), SLOT);
    aegis.script(&[], "true").code(0);
    assert!(!container.exists() && !slot.exists());
    assert_eq!(record(&aegis, &run)["outcome"]["kind"], "lost");
}

#[test]
fn a_container_without_its_slot_goes() {
    let aegis = used();
    let container = Made::of(&aegis.instance(), SLOT);
    aegis.call(&["gc"]).code(0).prints(&format!("removed container {}", container.id));
    assert!(!container.exists());
}

#[test]
fn another_instances_container_stays() {
    let (aegis, other) = (used(), used());
    let containers = [Made::of(&other.instance(), SLOT), Made::of("no-instance", "0")];
    let slot = dead_slot(&other);
    gc(&aegis, &[]);
    assert!(containers.iter().all(Made::exists) && slot.exists());
}

#[test]
fn a_container_that_only_looks_like_ours_stays() {
    let aegis = used();
    let labels = ["--label", "aegis.test=gc", "--label", "aegis.slot=0"];
    let id = docker(&[&["create", "--network", "none"], &labels[..], &["aegis/minimal", "true"]].concat());
    let container = Made { id: id.trim().to_owned() };
    gc(&aegis, &[]);
    assert!(container.exists());
}

#[test]
fn a_living_owner_keeps_everything() {
    let aegis = Aegis::new();
    let live = Live::start(&aegis, "alive", &[], "while :; do sleep 0.1; done");
    let before = aegis.containers();
    let swept = gc(&aegis, &[]);
    for list in ["containers", "slots", "sockets", "runs_ended", "logs"] {
        assert_eq!(swept[list], json!([]), "{swept}");
    }
    assert_eq!(aegis.containers(), before);
    aegis.call(&["exec", &live.id, "--", "true"]).code(0);
    aegis.call(&["logs", &live.id]).code(0);
    live.cancel(&aegis).code(143);
}

/// Moves the end of a run into the past. The database itself holds that an outcome never changes, so its triggers are
/// taken away for that moment.
pub fn age(aegis: &Aegis, run: &str, days: i64) {
    let script = "import sqlite3, sys\n\
                  db = sqlite3.connect(sys.argv[1])\n\
                  triggers = db.execute(\"SELECT name, sql FROM sqlite_master WHERE type = 'trigger'\").fetchall()\n\
                  for name, _ in triggers: db.execute(f'DROP TRIGGER {name}')\n\
                  done = db.execute('UPDATE runs SET ended_ms = ended_ms - ? WHERE short_id = ?', \
                  (int(sys.argv[3]), sys.argv[2]))\n\
                  assert done.rowcount == 1\n\
                  for _, sql in triggers: db.execute(sql)\n\
                  db.commit()";
    let milliseconds = (days * DAY_MS).to_string();
    let aged = Command::new("python3")
        .args(["-c", script])
        .arg(aegis.state().join("aegis.db"))
        .args([run, &milliseconds])
        .output()
        .expect("python3");
    assert!(aged.status.success(), "{}", String::from_utf8_lossy(&aged.stderr));
}

#[test]
fn a_run_past_its_retention_is_forgotten_with_its_log() {
    let aegis = Aegis::new();
    aegis.script(&["--name", "old"], "head -c 100000 /dev/urandom").code(0);
    let old = newest(&aegis);
    aegis.script(&["--name", "recent"], "echo recent").code(0);
    let recent = newest(&aegis);
    age(&aegis, &old, 31);
    age(&aegis, &recent, 29);

    let id = record(&aegis, &old)["id"].clone();
    let listed = gc(&aegis, &["--dry-run"]);
    assert_eq!(listed["runs_forgotten"], json!([id]));
    let swept = gc(&aegis, &[]);
    assert_eq!(swept["runs_forgotten"], json!([id]));
    let freed = swept["bytes_freed"].as_u64().expect("bytes");
    assert!(freed >= 100_000, "{swept}");
    aegis.call(&["show", &old]).code(1).says("no run");
    aegis.call(&["logs", &recent]).code(0).prints("recent");
    let names: Vec<Value> =
        runs(&aegis, &["--all"]).expect("a list").iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["recent"]);
    let logs = std::fs::read_dir(aegis.state().join("logs")).expect("read").count();
    assert_eq!(logs, 1);
}

#[test]
fn a_log_that_no_run_has_goes_once_it_is_old() {
    let aegis = used();
    let logs = aegis.state().join("logs");
    // Ids tell their time: one of 2020, one of this moment.
    let old = "0170f1c0-0000-7000-8000-0123456789ab";
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    let digits = format!("{now:012x}");
    let young = format!("{}-{}-7000-8000-0123456789ab", &digits[..8], &digits[8..]);
    for id in [old, &young] {
        std::fs::create_dir(logs.join(id)).expect("a directory");
        std::fs::write(logs.join(id).join("stdout"), vec![0; 5000]).expect("written");
    }
    let swept = gc(&aegis, &[]);
    assert_eq!(swept["logs"], json!([old]));
    // Images that other tests left without a name may go with it.
    assert!(swept["bytes_freed"].as_u64().expect("bytes") >= 5000, "{swept}");
    assert!(!logs.join(old).exists() && logs.join(young).exists());
}

#[test]
fn what_goes_is_said_in_words() {
    let aegis = used();
    dead_slot(&aegis);
    aegis
        .call(&["gc", "--dry-run"])
        .code(0)
        .prints(&format!("would remove slot {SLOT}"))
        .prints("would free ");
    aegis.call(&["gc"]).code(0).prints(&format!("removed slot {SLOT}")).prints("freed ");
    let again = aegis.call(&["gc"]).code(0).stdout.clone();
    assert!(!again.contains("slot") && again.contains("freed "), "{again}");
}
