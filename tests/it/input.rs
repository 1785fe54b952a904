//! Bad input: each wrong thing has a message of its own, with the reason and what to do, the right exit status, and
//! leaves nothing behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::aegis::{Aegis, Ended, eventually, finish};

/// What a debug dump looks like; no message has any of it.
const DUMPS: [&str; 10] =
    ["Err(", "Os {", "Some(", "None)", "Error {", "Error(", "kind:", "panicked", "RUST_BACKTRACE", "::"];

/// Holds status and words, that nothing is dumped, and that nothing is left behind.
#[track_caller]
fn check(aegis: &Aegis, ended: &Ended, code: i32, parts: &[&str]) {
    ended.code(code);
    for part in parts {
        ended.says(part);
    }
    for dump in DUMPS {
        assert!(!ended.stderr.contains(dump), "`{dump}` in {ended:#?}");
    }
    assert_eq!(ended.stdout, "", "{ended:#?}");
    if !aegis.state().join("instance").exists() {
        return;
    }
    // The removal is the engine's, and not waited for.
    eventually("the container is gone", Duration::from_secs(10), || aegis.containers().is_empty());
    let slots = fs::read_dir(aegis.runtime().join("slots"));
    assert_eq!(slots.map_or(0, Iterator::count), 0, "a slot is left");
}

/// `aegis run FLAGS -- true` without a workspace.
#[track_caller]
fn run(flags: &[&str], code: i32, parts: &[&str]) {
    let aegis = Aegis::new();
    let mut arguments = vec!["run", "--no-workspace"];
    arguments.extend(flags);
    arguments.extend(["--", "true"]);
    check(&aegis, &aegis.call(&arguments), code, parts);
}

/// The same with a policy file of these lines.
#[track_caller]
fn policy(text: &str, parts: &[&str]) {
    let aegis = Aegis::new();
    fs::write(aegis.here().join("p.toml"), text).expect("written");
    let ended = aegis.call(&["run", "--no-workspace", "--sandbox", "./p.toml", "--", "true"]);
    check(&aegis, &ended, 125, parts);
}

// Policies.

#[test]
fn an_unknown_policy_is_told_with_those_there_are() {
    run(&["--sandbox", "strct"], 125, &["no policy `strct`", "`strict`"]);
}

#[test]
fn a_policy_file_that_is_not_there_is_told() {
    run(&["--sandbox", "./none.toml"], 125, &["`./none.toml`", "No such file"]);
}

#[test]
fn an_unknown_key_is_told_with_its_place_and_the_nearest() {
    policy(
        "[resources]\n  memry = \"1GiB\"\n",
        &["./p.toml:2:3:", "`resources.memry`", "nearest is `resources.memory`"],
    );
}

#[test]
fn a_number_out_of_range_is_told_with_the_range() {
    policy("[resources]\npids = 1\n", &["./p.toml:2:8:", "`resources.pids`", "out of range", "2 to 4194304"]);
}

#[test]
fn a_size_without_a_unit_is_told_with_one() {
    policy("[resources]\nmemory = 512\n", &["./p.toml:2:10:", "no unit", "512MiB"]);
}

#[test]
fn every_mistake_of_a_file_is_told_at_once() {
    policy("[resources]\nmemory = 512\npids = 0\n[netwrok]\n", &["2:10", "3:8", "netwrok", "network"]);
}

// Flags.

#[test]
fn flags_without_units_are_usage() {
    run(&["--memory", "512"], 2, &["--memory", "no unit", "512MiB"]);
    run(&["--timeout", "5"], 2, &["--timeout", "no unit", "5s"]);
    run(&["--tmp-size", "lots"], 2, &["--tmp-size", "lots"]);
    run(&["--cpus", "many"], 2, &["--cpus", "many"]);
    run(&["--pids-limit", "x"], 2, &["--pids-limit"]);
}

#[test]
fn flags_out_of_range_are_told_with_the_nearest_that_would_pass() {
    run(&["--memory", "1KiB"], 125, &["resources.memory", "16MiB", "hint: pass `--memory"]);
    run(&["--pids-limit", "0"], 125, &["resources.pids", "hint: pass `--pids-limit"]);
    run(&["--cpus", "0"], 125, &["resources.cpus", "hint: pass `--cpus"]);
}

#[test]
fn more_than_the_ceiling_is_told_with_who_could_allow_it() {
    run(
        &["--memory", "15TiB"],
        125,
        &["resources.memory", "ceiling", "/etc/aegis/ceiling.toml", "hint: pass `--memory"],
    );
}

#[test]
fn unknown_and_missing_arguments_are_usage() {
    let aegis = Aegis::new();
    check(&aegis, &aegis.call(&["run", "--no-such-flag", "--", "true"]), 2, &["--no-such-flag"]);
    check(&aegis, &aegis.call(&["run"]), 2, &["no command", "after `--`", "hint:"]);
    check(&aegis, &aegis.call(&["run", "--no-workspace", "--", ""]), 2, &["command is empty", "hint:"]);
    check(&aegis, &aegis.call(&["dance"]), 2, &["dance"]);
}

#[test]
fn odd_variables_names_and_labels_are_usage() {
    run(&["-e", "TOKEN"], 2, &["NAME=value", "never passed on"]);
    run(&["-e", "=x"], 2, &["no name of a variable"]);
    run(&["-e", "1A=x"], 2, &["no name of a variable"]);
    run(&["--name", "a/../\u{1b}[31m"], 2, &["--name", "letters"]);
    run(&["--label", "aegis.owner=root"], 2, &["Aegis's own"]);
    run(&["--label", "novalue"], 2, &["KEY=value"]);
    run(&["--result", "fd:x"], 2, &["descriptor"]);
}

#[test]
fn what_a_person_typed_cannot_steer_their_terminal() {
    for flags in [
        ["--name", "x\u{1b}]0;title\u{7}"],
        ["--sandbox", "x\u{1b}[2J"],
        ["--image", "x\u{1b}[2J"],
        ["-e", "\u{1b}[2J"],
        ["--memory", "\u{1b}[2J"],
        ["-o", "[\u{1b}[2J"],
        ["--runtime", "\u{1b}[2J"],
        ["--workdir", "/\u{1b}[2J"],
    ] {
        let aegis = Aegis::new();
        let mut arguments = vec!["run", "--no-workspace"];
        arguments.extend(flags);
        arguments.extend(["--", "true"]);
        let ended = aegis.call(&arguments);
        assert_ne!(ended.code, Some(0), "{ended:#?}");
        assert!(!ended.stderr.contains('\u{1b}'), "{flags:?}: {:?}", ended.stderr);
    }
}

// Images and commands.

#[test]
fn an_absent_image_is_told_with_how_to_get_it() {
    run(&["--image", "aegis/nope"], 125, &["`aegis/nope` is not on this engine", "aegis image build"]);
    run(&["--image", "debian:none"], 125, &["`debian:none` is not on this engine", "--pull missing"]);
}

#[test]
fn what_is_no_image_reference_is_told() {
    for image in ["UPPER", "a b", "../x", "--help", ""] {
        let aegis = Aegis::new();
        let flag = format!("--image={image}");
        let ended = aegis.call(&["run", "--no-workspace", &flag, "--", "true"]);
        assert!(matches!(ended.code, Some(2 | 125)), "{ended:#?}");
        check(&aegis, &ended, ended.code.unwrap_or_default(), &["image"]);
    }
}

#[test]
fn a_command_that_the_image_lacks_is_127_with_a_line_that_helps() {
    let aegis = Aegis::new();
    let ended = aegis.call(&["run", "--no-workspace", "--", "cargo-nonesuch", "x"]);
    check(&aegis, &ended, 127, &["`cargo-nonesuch`", "`aegis/base`", "--image"]);
}

#[test]
fn a_file_that_is_no_program_is_126() {
    let aegis = Aegis::new();
    let ended = aegis.call(&["run", "--no-workspace", "--", "/etc/passwd"]);
    check(&aegis, &ended, 126, &["`/etc/passwd`", "executable"]);
}

#[test]
fn a_working_directory_that_is_not_there_is_told_as_that() {
    let aegis = Aegis::new();
    let ended = aegis.call(&["run", "--no-workspace", "--workdir", "/none", "--", "true"]);
    check(&aegis, &ended, 125, &["working directory", "/none"]);
}

// The workspace.

fn with_workspace(aegis: &Aegis, workspace: &str, flags: &[&str]) -> Ended {
    let mut arguments = vec!["run", "-w", workspace];
    arguments.extend(flags);
    arguments.extend(["--", "true"]);
    aegis.call(&arguments)
}

#[test]
fn a_missing_workspace_is_told() {
    let aegis = Aegis::new();
    check(
        &aegis,
        &with_workspace(&aegis, "/nonexistent", &[]),
        125,
        &["workspace `/nonexistent`", "No such file"],
    );
}

#[test]
fn a_workspace_that_is_a_file_is_told() {
    let aegis = Aegis::new();
    fs::write(aegis.here().join("file"), "x").expect("written");
    check(&aegis, &with_workspace(&aegis, "file", &[]), 125, &["file", "directory"]);
}

#[test]
fn the_root_and_the_home_directory_are_no_workspace() {
    let aegis = Aegis::new();
    check(&aegis, &with_workspace(&aegis, "/", &[]), 125, &["root of the file system", "--no-workspace"]);
    let home = aegis.here().parent().expect("a parent").join("home");
    check(
        &aegis,
        &with_workspace(&aegis, &home.to_string_lossy(), &[]),
        125,
        &["home directory", "--no-workspace"],
    );
}

#[test]
fn a_workspace_that_is_too_large_is_told_before_anything_starts() {
    let aegis = Aegis::new();
    let directory = aegis.here().join("w");
    fs::create_dir(&directory).expect("made");
    fs::write(directory.join("big"), vec![1; 200_000]).expect("written");
    let ended = with_workspace(&aegis, "w", &["--workspace-size", "64KiB"]);
    check(&aegis, &ended, 125, &["workspace", "64 KiB", "--workspace-size"]);
}

#[test]
fn a_workspace_with_too_many_files_is_told() {
    let aegis = Aegis::new();
    let directory = aegis.here().join("w");
    fs::create_dir(&directory).expect("made");
    for number in 0..20 {
        fs::write(directory.join(number.to_string()), "").expect("written");
    }
    fs::write(aegis.here().join("p.toml"), "extends = \"strict\"\n[filesystem]\nworkspace_files = 10\n")
        .expect("written");
    let ended = with_workspace(&aegis, "w", &["--sandbox", "./p.toml"]);
    check(&aegis, &ended, 125, &["workspace", "10", "files"]);
}

// Outputs.

#[test]
fn an_output_that_is_not_there_is_told_and_is_in_the_result() {
    let aegis = Aegis::new();
    let ended = aegis.script(&["-o", "reports/*.xml", "--result", "result.json"], "exit 3");
    check(&aegis, &ended, 3, &["`reports/*.xml` is not there"]);
    let result: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(aegis.here().join("result.json")).expect("read"))
            .expect("JSON");
    assert_eq!(result["artifacts"]["unmatched"], serde_json::json!(["reports/*.xml"]));
    assert_eq!(result["exit_status"], 3);
}

#[test]
fn an_output_pattern_that_leads_out_is_told() {
    run(&["-o", "../x"], 125, &["`../x`", "leads out"]);
    run(&["-o", "["], 125, &["`[`", "pattern"]);
}

#[test]
fn an_output_directory_that_cannot_be_made_is_told_before_the_run() {
    run(&["-o", "x", "--output-dir", "/proc/none"], 125, &["/proc/none"]);
}

#[test]
fn a_result_file_that_cannot_be_written_is_told_before_the_run() {
    run(&["--result", "/proc/none/x"], 125, &["/proc/none/x"]);
    run(&["--result", "fd:77"], 2, &["descriptor 77", "hint: open it"]);
}

// The engine.

#[test]
fn an_engine_that_does_not_run_is_told_with_how_to_start_it() {
    let aegis = Aegis::new().with("DOCKER_HOST", "unix:///run/no-such-engine.sock");
    let parts = [
        "no container engine answers at `/run/no-such-engine.sock`",
        "systemctl start docker",
        "DOCKER_HOST",
    ];
    check(&aegis, &aegis.script(&[], "true"), 125, &parts);
}

#[test]
fn a_dead_engines_socket_is_told_as_that() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    let aegis = Aegis::new().with("DOCKER_HOST", &format!("unix://{}", path.display()));
    check(&aegis, &aegis.script(&[], "true"), 125, &["no container engine answers", "start it"]);
}

/// The program and its directories where another user can reach them.
fn as_nobody(state_mode: u32) -> (tempfile::TempDir, Ended) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("opened");
    fs::copy(env!("CARGO_BIN_EXE_aegis"), path("aegis")).expect("copied");
    for (name, mode) in [("state", state_mode), ("runtime", 0o700), ("home", 0o700)] {
        fs::create_dir(path(name)).expect("made");
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).expect("set");
    }
    for name in ["runtime", "home"] {
        std::os::unix::fs::chown(path(name), Some(65_534), Some(65_534)).expect("given");
    }
    if state_mode == 0o700 {
        std::os::unix::fs::chown(path("state"), Some(65_534), Some(65_534)).expect("given");
    }
    let child = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(path("aegis"))
        .args(["run", "--no-workspace", "--", "true"])
        .current_dir("/")
        .env_clear()
        .env("AEGIS_STATE_DIR", path("state"))
        .env("XDG_RUNTIME_DIR", path("runtime"))
        .env("HOME", path("home"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("setpriv runs");
    let ended = finish(child, b"");
    (directory, ended)
}

#[track_caller]
fn check_words(ended: &Ended, parts: &[&str]) {
    ended.code(125);
    for part in parts {
        ended.says(part);
    }
    for dump in DUMPS {
        assert!(!ended.stderr.contains(dump), "`{dump}` in {ended:#?}");
    }
}

#[test]
fn a_socket_that_may_not_be_opened_is_told_with_who_may() {
    let (_directory, ended) = as_nobody(0o700);
    check_words(&ended, &["may not be opened by this user", "group", "hint:"]);
}

#[test]
fn a_state_directory_of_another_user_is_told() {
    let (_directory, ended) = as_nobody(0o755);
    check_words(&ended, &["state", "belongs to user 0", "AEGIS_STATE_DIR"]);
}

// The state directory.

/// `aegis run` in a mount namespace of its own, with another file system where its state directory is.
fn with_state_on(options: &str, prepare: &str) -> (Aegis, Ended) {
    let aegis = Aegis::new();
    let state = aegis.state();
    fs::create_dir(&state).expect("made");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).expect("set");
    let script = format!(
        "mount -t tmpfs -o {options},mode=0700 tmpfs \"$1\" && cd \"$1\" && {prepare} cd \"$2\" && \
         {{ \"$3\" run --no-workspace -- true; status=$?; }} && cd / && \
         if [ -s \"$1/instance\" ]; then rm -rf \"/run/aegis/$(cat \"$1/instance\")\"; fi; exit $status"
    );
    let child = Command::new("unshare")
        .args(["-m", "bash", "-c", &script, "bash"])
        .args([state.as_path(), aegis.here().as_path(), Path::new(env!("CARGO_BIN_EXE_aegis"))])
        .env("AEGIS_STATE_DIR", &state)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare runs");
    let ended = finish(child, b"");
    (aegis, ended)
}

#[test]
fn a_state_directory_that_cannot_be_written_is_told() {
    let (_aegis, ended) = with_state_on("ro", "");
    check_words(&ended, &["state", "Read-only file system", "AEGIS_STATE_DIR"]);
}

#[test]
fn a_full_disk_is_told() {
    let (_aegis, ended) = with_state_on("size=64k", "head -c 1M /dev/zero >filler 2>/dev/null;");
    check_words(&ended, &["state", "No space left on device", "hint: the disk is full"]);
}

#[test]
fn a_disk_that_is_full_after_a_few_pages_is_told() {
    let (_aegis, ended) = with_state_on("size=96k", "");
    check_words(&ended, &["state", "full", "AEGIS_STATE_DIR"]);
}

#[test]
fn looking_at_images_makes_no_directory() {
    let aegis = Aegis::new();
    aegis.call(&["image", "ls"]).code(0);
    assert!(!aegis.state().exists());
}

#[test]
fn a_state_directory_that_others_can_enter_is_told_with_the_cure() {
    let aegis = Aegis::new();
    fs::create_dir(aegis.state()).expect("made");
    fs::set_permissions(aegis.state(), fs::Permissions::from_mode(0o755)).expect("set");
    check(&aegis, &aegis.script(&[], "true"), 125, &["open to other users", "chmod 700"]);
}

#[test]
fn a_database_of_a_newer_version_is_told_and_left_alone() {
    let aegis = Aegis::new();
    aegis.script(&[], "true").code(0);
    let place = aegis.state().join("aegis.db");
    let mut content = fs::read(&place).expect("read");
    content[60..64].copy_from_slice(&99_u32.to_be_bytes());
    fs::write(&place, &content).expect("written");
    check(&aegis, &aegis.script(&[], "true"), 125, &["newer Aegis", "99", "AEGIS_STATE_DIR"]);
    check(&aegis, &aegis.call(&["ps"]), 125, &["newer Aegis"]);
    assert_eq!(fs::read(&place).expect("read"), content, "it was touched");
}

#[test]
fn a_damaged_database_is_told_and_left_alone() {
    let aegis = Aegis::new();
    aegis.script(&[], "true").code(0);
    let place = aegis.state().join("aegis.db");
    fs::write(&place, b"hello").expect("written");
    check(&aegis, &aegis.script(&[], "true"), 125, &["aegis.db", "does not overwrite"]);
    assert_eq!(fs::read(&place).expect("read"), b"hello");
}

// Runs.

#[test]
fn a_run_that_nobody_knows_is_told() {
    let aegis = Aegis::new();
    for command in ["show", "logs", "why", "cancel"] {
        check(
            &aegis,
            &aegis.call(&[command, "000000000000"]),
            1,
            &["no run `000000000000`", "aegis ps --all"],
        );
        check(&aegis, &aegis.call(&[command, "not-a-run"]), 2, &["is not a run id", "aegis ps"]);
    }
}

#[test]
fn no_message_shows_a_value_of_the_environment() {
    let aegis = Aegis::new();
    let secret = "c0ffee-5ecret-value";
    for arguments in [
        vec!["run", "--no-workspace", "-e", "TOKEN=c0ffee-5ecret-value", "--", "no-such-program"],
        vec!["run", "--no-workspace", "-e", "TOKEN=c0ffee-5ecret-value", "--image", "none:1", "--", "true"],
        vec!["run", "--no-workspace", "-e", "TOKEN=c0ffee-5ecret-value", "--memory", "1KiB", "--", "true"],
        vec!["run", "--no-workspace", "-e", "TO KEN=c0ffee-5ecret-value", "--", "true"],
        vec!["run", "--no-workspace", "--dry-run", "--json", "-e", "TOKEN=c0ffee-5ecret-value", "--", "true"],
    ] {
        let ended = aegis.call(&arguments);
        assert!(!ended.stderr.contains(secret) && !ended.stdout.contains(secret), "{ended:#?}");
    }
    let shown = aegis.call(&["ps", "--all", "--json"]);
    assert!(!shown.stdout.contains(secret), "{}", shown.stdout);
}
