//! Every recommendation that a message makes is followed, and what it promises is seen.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use serde_json::Value;

use crate::support::aegis::{Aegis, Ended, finish};
use crate::support::live::newest;
use crate::support::scripts::children;

/// The flag that `aegis why --json` recommends for the newest run.
#[track_caller]
fn recommended(aegis: &Aegis) -> [String; 2] {
    let text = aegis.call(&["why", "--json", &newest(aegis)]).code(0).stdout.clone();
    let why: Value = serde_json::from_str(&text).expect("JSON");
    let part = |it: &str| why["recommendation"][it].as_str().expect("a recommendation").to_owned();
    [part("flag"), part("value")]
}

/// The command of a hint: what stands between its backquotes.
#[track_caller]
fn hinted(ended: &Ended, beginning: &str) -> Vec<String> {
    let hints = ended.stderr.lines().filter_map(|it| it.strip_prefix("hint: "));
    let mut quoted = hints.flat_map(|it| it.split('`').skip(1).step_by(2));
    let found = quoted.find(|it| it.starts_with(beginning));
    found
        .unwrap_or_else(|| panic!("no hint with `{beginning}…` in {ended:#?}"))
        .split(' ')
        .map(str::to_owned)
        .collect()
}

/// A script that ends with `status` for a limit that is too low. `flag` is recommended, by `why` and in the talk at the
/// end, and with it the script succeeds.
fn check(limit: [&str; 2], script: &str, status: i32, flag: [&str; 2]) {
    let aegis = Aegis::new();
    let ended = aegis.script(&limit, script);
    ended.code(status).says(&format!("hint: run it again with `{} {}`", flag[0], flag[1]));
    assert_eq!(recommended(&aegis), flag);
    aegis.script(&flag, script).code(0);
}

/// What the task needs: more than the memory file systems of [`SMALL`] and 24 MiB hold together, and less than with
/// 48 MiB. The kernel counts them together.
const HUNGRY: &str = "python3 -c 'x = bytearray(188 << 20)'";
/// Memory file systems that leave little room: 64 MiB of home, 64 of shared memory, 16 of `/run` and 16 of our own stay.
const SMALL: [&str; 4] = ["--tmp-size", "64KiB", "--workspace-size", "64KiB"];

fn check_memory(script: &str, status: i32) {
    let aegis = Aegis::new();
    let with = |memory: &[&str]| aegis.script(&[&SMALL, memory].concat(), script);
    with(&["--memory", "24MiB"]).code(status).says("hint: run it again with `--memory 48MiB`");
    let [flag, value] = recommended(&aegis);
    with(&[&flag, &value]).code(0);
}

#[test]
fn more_memory_lets_it_pass() {
    check_memory(&format!("exec {HUNGRY}"), 137);
}

#[test]
fn more_memory_lets_a_child_pass() {
    // The shell outlives its child; the kill is counted, and told beside the shell's own end.
    check_memory(&format!("{HUNGRY} || exit 3"), 3);
}

#[test]
fn more_time_lets_it_pass() {
    check(["--timeout", "3s"], "sleep 4", 124, ["--timeout", "6s"]);
}

#[test]
fn more_output_lets_it_pass() {
    check(["--output-limit", "10KiB"], "head -c 15000 /dev/zero", 123, ["--output-limit", "20KiB"]);
}

#[test]
fn more_processes_let_it_pass() {
    check(["--pids-limit", "16"], &children(20), 3, ["--pids-limit", "32"]);
}

#[test]
fn a_larger_tmp_lets_it_pass() {
    let script = "head -c 1500000 /dev/zero >/tmp/zero || { sleep 1; exit 1; }";
    check(["--tmp-size", "1MiB"], script, 123, ["--tmp-size", "2MiB"]);
}

#[test]
fn a_larger_workspace_lets_it_pass() {
    let script = "head -c 1500000 /dev/zero >zero || { sleep 1; exit 1; }";
    check(["--workspace-size", "1MiB"], script, 123, ["--workspace-size", "2MiB"]);
}

#[test]
fn a_larger_workspace_lets_a_larger_file_pass() {
    // No file may be larger than the largest file system: 256 MiB of `/tmp` here.
    let script = "exec truncate -s 300M sparse";
    check(["--workspace-size", "1MiB"], script, 123, ["--workspace-size", "512MiB"]);
}

#[test]
fn an_image_with_the_program_lets_it_pass() {
    let aegis = Aegis::new();
    let run =
        |image: &str| aegis.call(&["run", "--no-workspace", "--image", image, "--", "python3", "--version"]);
    run("aegis/minimal").code(127).says("the image `aegis/minimal` has no program `python3`");
    let [flag, image] = recommended(&aegis);
    assert_eq!(flag, "--image");
    run(&image).code(0).prints("Python 3");
}

/// A flag that policy or range denies. The value that the hint names passes the dry run, and says what it is.
fn check_denied(flag: [&str; 2]) {
    let aegis = Aegis::new();
    let denied = aegis.script(&flag, "echo started");
    assert_eq!(denied.code(125).stdout, "");
    let hint = hinted(&denied, flag[0]);
    assert_eq!(hint.len(), 2, "{hint:?}");
    let flags: Vec<&str> = hint.iter().map(String::as_str).collect();
    let planned = aegis.script(&[&flags[..], &["--dry-run"]].concat(), "true");
    planned.code(0).prints(&format!("flag `{}`", flag[0]));
    assert!(!planned.stdout.contains("refused:"), "{planned:#?}");
}

#[test]
fn what_a_denial_of_memory_offers_is_allowed() {
    check_denied(["--memory", "16TiB"]);
    check_denied(["--memory", "1MiB"]);
}

#[test]
fn what_a_denial_of_time_offers_is_allowed() {
    check_denied(["--timeout", "1000h"]);
    check_denied(["--timeout", "1ms"]);
}

#[test]
fn what_a_denial_of_processes_offers_is_allowed() {
    check_denied(["--pids-limit", "4194304"]);
    check_denied(["--pids-limit", "0"]);
}

#[test]
fn what_a_denial_of_output_offers_is_allowed() {
    check_denied(["--output-limit", "16TiB"]);
    check_denied(["--output-limit", "1B"]);
}

#[test]
fn what_a_denial_of_sizes_offers_is_allowed() {
    check_denied(["--tmp-size", "4TiB"]);
    check_denied(["--workspace-size", "4TiB"]);
    check_denied(["--tmp-size", "1KiB"]);
}

#[test]
fn what_a_denial_of_a_runtime_offers_is_allowed() {
    check_denied(["--runtime", "runsc"]);
}

#[test]
fn a_workspace_that_is_too_large_passes_with_the_size_that_is_named() {
    let aegis = Aegis::new();
    let project = aegis.here().join("project");
    std::fs::create_dir(&project).expect("a directory");
    std::fs::write(project.join("large"), vec![b'x'; 3 << 20]).expect("written");
    let run = |flags: &[&str]| {
        let arguments = [&["run", "-w", "project"], flags, &["--", "sh", "-c", "wc -c <large"]].concat();
        aegis.call(&arguments)
    };
    let refused = run(&["--workspace-size", "1MiB"]);
    refused.code(125);
    let words: Vec<&str> = refused.stderr.split('`').collect();
    let flag = words.iter().find(|it| it.starts_with("--workspace-size ")).expect("the flag is named");
    let flags: Vec<&str> = flag.split(' ').collect();
    run(&flags).code(0).prints("3145728");
}

#[test]
fn a_missing_image_of_ours_names_its_build() {
    let aegis = Aegis::new();
    let ended = aegis.call(&["run", "--no-workspace", "--image", "aegis/no-such", "--", "true"]);
    ended.code(125).says("`aegis image build no-such`");
    let hint = hinted(&ended, "aegis image build");
    // Nothing is called so: the command that is named answers with the names that there are.
    let built = aegis.call(&[&hint[1], &hint[2], &hint[3]]);
    built.code(125).says("minimal");
}

#[test]
fn a_missing_image_of_others_names_the_pull() {
    let aegis = Aegis::new();
    let flags = ["--image", "127.0.0.1:1/none:1"];
    let ended = aegis.script(&flags, "true");
    let hint = hinted(ended.code(125), "--pull");
    assert_eq!(hint, ["--pull", "missing"]);
    // Nobody listens there: the engine tried, which the policy allowed it to.
    let tried = aegis.script(&[&flags[..], &["--pull", "missing"]].concat(), "true");
    tried.code(125).says("127.0.0.1:1");
    assert!(!tried.stderr.contains("policy"), "{tried:#?}");
}

#[test]
fn input_that_waits_is_passed_with_the_flag_that_is_named() {
    let aegis = Aegis::new();
    let run = |flags: &[&str]| {
        let arguments = [&["run", "--no-workspace"], flags, &["--", "cat"]].concat();
        let (stdin, mut writing) = std::io::pipe().expect("a pipe");
        writing.write_all(b"waiting").expect("a pipe takes that much");
        drop(writing);
        finish(aegis.command(&arguments).stdin(stdin).spawn().expect("aegis starts"), b"")
    };
    assert_eq!(
        run(&[]).code(0).says("hint: standard input is not passed on: give `-i` to pass it").stdout,
        ""
    );
    assert_eq!(run(&["-i"]).code(0).stdout, "waiting");
}

#[test]
fn input_that_comes_during_the_run_is_told_too() {
    let aegis = Aegis::new();
    let mut child = aegis
        .command(&["run", "--no-workspace", "--", "sh", "-c", "echo started; sleep 60"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("aegis starts");
    let mut first = [0];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("the task started");
    child.stdin.as_mut().expect("a pipe").write_all(b"late").expect("written");
    aegis.call(&["cancel", &newest(&aegis)]).code(0);
    finish(child, b"").code(143).says("hint: standard input is not passed on: give `-i` to pass it");
}
