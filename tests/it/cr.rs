//! Group CR: credentials. What the user keeps secret is in no output, in no record and in no request to the engine, and
//! inside a sandbox only where policy names it.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::aegis::{Aegis, Ended, docker, repetitions};
use crate::support::live::{Live, newest, record};
use crate::support::terminal::Terminal;

const SECRET: &str = "tR7-x9Qz.kV2_mN4w";
const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
                   MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2\n\
                   OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r\n\
                   1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G\n\
                   -----END PRIVATE KEY-----\n";
const HIDDEN: &str = "[redacted:KEY]";

/// An instance whose store has these.
fn vault(secrets: &[(&str, &str)]) -> Aegis {
    let aegis = Aegis::new();
    for (name, value) in secrets {
        set(&aegis, name, value).code(0);
    }
    aegis
}

fn set(aegis: &Aegis, name: &str, value: &str) -> Ended {
    aegis.call_with_input(&["secret", "set", name], value.as_bytes())
}

/// A policy file that extends `strict`.
fn policy(aegis: &Aegis, text: &str) -> String {
    let path = aegis.here().join("p.toml");
    fs::write(&path, text).expect("written");
    path.to_str().expect("text").to_owned()
}

/// `KEY` may be a file and a variable.
fn granting(aegis: &Aegis) -> String {
    policy(aegis, "[secrets]\nfiles = [\"KEY\"]\nenvironment = [\"KEY\"]\n")
}

/// Files below a directory that hold these bytes.
fn holding(directory: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, bytes));
        } else if path.is_file() {
            let content = fs::read(&path).expect("read");
            let packed = path.extension().is_some_and(|it| it == "zst");
            let content = if packed { zstd::decode_all(content.as_slice()).expect("zstd") } else { content };
            if content.windows(bytes.len()).any(|it| it == bytes) {
                found.push(path);
            }
        }
    }
    found
}

/// Holds that a secret is in nothing that came out or is kept.
#[track_caller]
fn nowhere(aegis: &Aegis, ended: &Ended, secret: &str) {
    assert!(!ended.stdout.contains(secret) && !ended.stderr.contains(secret), "{ended:#?}");
    assert_eq!(holding(&aegis.state(), secret.as_bytes()), Vec::<PathBuf>::new());
    let id = newest(aegis);
    for command in [
        &["show", &id][..],
        &["show", "--json", &id],
        &["why", &id],
        &["logs", &id],
        &["ps", "--all", "--json"],
    ] {
        let told = aegis.call(command);
        assert!(!told.stdout.contains(secret) && !told.stderr.contains(secret), "{command:?} {told:#?}");
    }
}

#[test]
fn cr_01_a_task_has_nothing_of_the_callers_environment() {
    let mut aegis = vault(&[("KEY", SECRET)]);
    for name in [
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "DATABASE_URL",
        "SSH_AUTH_SOCK",
        "VAULT_TOKEN",
        "KUBECONFIG",
    ] {
        aegis = aegis.with(name, "canary");
    }
    let search = "env | grep -iE '^(AEGIS|DATABASE_URL|PG|DOCKER_|AWS_|SSH_AUTH|GITHUB_|KUBE|VAULT|.*TOKEN|.*SECRET|.*PASSW)' \
                  | sed 's/^/BREACH /'; ls /run/secrets 2>/dev/null | sed 's/^/BREACH /'; env | cut -d= -f1 | sort | tr '\\n' ' '";
    let ended = aegis.script(&[], search);
    ended.code(0).no_breach().prints("HOME").prints("PATH");
}

#[test]
fn cr_02_a_secret_of_one_task_is_not_anothers() {
    let aegis = vault(&[("KEY", SECRET)]);
    let granting = granting(&aegis);
    let flags = ["--sandbox", &granting, "--secret", "KEY", "--secret", "KEY=env:TOKEN"];
    let live = Live::start(&aegis, "first", &flags, "test -s /run/secrets/KEY && echo ready; sleep 120");
    let live = live.until("ready");
    let search = "ls /run/secrets 2>/dev/null | sed 's/^/BREACH /'; \
                  cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep -a TOKEN | sed 's/^/BREACH /'; \
                  grep -ras -e 'tR7-x9Q[z]' /run /tmp /proc/self/environ | sed 's/^/BREACH /'; echo searched";
    aegis.script(&["--sandbox", &granting], search).code(0).no_breach().prints("searched");
    live.signal(Signal::TERM);
    live.finish();
}

#[test]
fn cr_03_what_a_task_prints_of_a_secret_is_nowhere() {
    let aegis = vault(&[("KEY", SECRET)]).with("RUST_LOG", "trace");
    let result = aegis.here().join("result.json");
    let target = result.to_str().expect("text").to_owned();
    let granting = granting(&aegis);
    let flags = ["--sandbox", &granting, "--secret", "KEY", "--result", &target, "--label", "a=b"];
    // The caller's shell puts the value into the command line too.
    let script =
        format!("S=$(cat /run/secrets/KEY); echo out $S; echo err $S >&2; test $S = {SECRET} && echo same");
    let ended = aegis.script(&flags, &script);
    ended.code(0).prints(&format!("out {HIDDEN}")).prints("same").says(&format!("err {HIDDEN}"));
    nowhere(&aegis, &ended, SECRET);
    let text = fs::read_to_string(result).expect("a result");
    assert!(!text.contains(SECRET), "{text}");
    let logs = aegis.call(&["logs", &newest(&aegis)]);
    assert_eq!((logs.stdout, logs.stderr.lines().next()), (ended.stdout, Some("err [redacted:KEY]")));
    let record = record(&aegis, &newest(&aegis));
    assert_eq!(record["redactions"], serde_json::json!({"KEY": 2}));
    assert_eq!(record["task"]["secrets"], serde_json::json!([{"name": "KEY", "place": "/run/secrets/KEY"}]));
}

#[test]
fn cr_03_an_error_that_names_a_secret_is_kept_free_of_it() {
    let aegis = vault(&[("KEY", SECRET)]);
    let program = format!("/no/such/{SECRET}");
    let ended = aegis.call(&["run", "--no-workspace", "--", &program]);
    ended.code(127).says(HIDDEN);
    nowhere(&aegis, &ended, SECRET);
    let refused = aegis.call(&["run", "--no-workspace", "--image", &format!("{SECRET}/x:1"), "--", "true"]);
    assert!(!refused.stderr.contains(SECRET), "{refused:#?}");
}

#[test]
fn cr_04_a_key_of_many_lines_is_masked_whole_by_line_and_in_json() {
    let aegis = vault(&[("KEY", PEM)]);
    let granting = granting(&aegis);
    let script = "cd /run/secrets; cat KEY; echo; echo --; while read -r l; do echo \"line: $l\"; done <KEY; echo --; \
                  sed 's/$/\\r/' KEY; echo; echo --; python3 -c 'import json; print(json.dumps({\"k\": open(\"KEY\").read()}))'";
    let ended = aegis.script(&["--sandbox", &granting, "--secret", "KEY"], script);
    ended.code(0);
    for line in PEM.lines() {
        nowhere(&aegis, &ended, line);
    }
    let parts: Vec<&str> = ended.stdout.split("--\n").collect();
    assert_eq!(parts[0], "[redacted:KEY]\n");
    // `read` gives no line that has no end: the last one of a value without a line end.
    assert_eq!(parts[1].matches("line: [redacted:KEY]\n").count(), 4, "{}", parts[1]);
    assert_eq!(parts[3], "{\"k\": \"[redacted:KEY]\"}\n");
}

#[test]
fn cr_05_every_form_that_programs_write_is_masked() {
    let value = "pa$$ w0rd/+<x>&\"y'\\z";
    let aegis = vault(&[("KEY", value)]);
    let granting = granting(&aegis);
    let script = "cd /run/secrets; S=$(cat KEY); base64 -w0 <KEY; echo; printf 'user:%s' \"$S\" | base64 -w 8; \
                  od -An -v -tx1 KEY | tr -d ' \\n'; echo; printf '%q\\n' \"$S\"; echo \"${S@Q}\"; set -x; : \"$S\"; set +x
                  python3 - <<'END'
import base64, html, json, shlex, urllib.parse
s = open('/run/secrets/KEY').read()
b = s.encode()
print(base64.urlsafe_b64encode(b).decode().rstrip('='))
print(b.hex().upper())
print(urllib.parse.quote(s), urllib.parse.quote(s, safe=''), urllib.parse.quote_plus(s))
print(json.dumps(s), json.dumps(json.dumps(s)), html.escape(s), shlex.quote(s))
END";
    let ended = aegis.script(&["--sandbox", &granting, "--secret", "KEY"], script);
    ended.code(0);
    let lines: Vec<&str> = ended.stdout.lines().filter(|it| !it.contains(HIDDEN)).collect();
    assert_eq!(lines, Vec::<&str>::new());
    assert_eq!(ended.stdout.matches(HIDDEN).count(), 14, "{}", ended.stdout);
    for part in ["w0rd", "cGEk", "706124"] {
        assert!(!ended.stdout.contains(part) && !ended.stderr.contains(part), "{ended:#?}");
    }
}

#[test]
fn cr_06_a_secret_is_masked_wherever_two_writes_cut_it() {
    let aegis = vault(&[("KEY", SECRET)]);
    let granting = granting(&aegis);
    let script = "S=$(cat /run/secrets/KEY)
        for ((k = 1; k < ${#S}; k++)); do printf %s \"${S:0:k}\"; sleep 0.05; printf '%s\\n' \"${S:k}\"; done
        for border in 4096 8192 16384 32768; do for k in 1 5 16; do
            printf \"%$((border - k))s%s\\n\" '' \"$S\"; done; done";
    let ended = aegis.script(&["--sandbox", &granting, "--secret", "KEY"], script);
    let expected = SECRET.len() - 1 + 12;
    assert_eq!(ended.code(0).stdout.matches(HIDDEN).count(), expected, "{}", ended.stdout.trim());
    nowhere(&aegis, &ended, SECRET);
    assert_eq!(aegis.call(&["logs", "--stream", "stdout", &newest(&aegis)]).stdout, ended.stdout);
}

#[test]
fn cr_06_on_a_terminal_a_prompt_is_shown_and_at_most_three_bytes_of_a_secret() {
    let aegis = vault(&[("KEY", SECRET)]);
    let granting = granting(&aegis);
    let script = "stty -echo; printf 'name: tR7'; read; S=$(cat /run/secrets/KEY); printf %s \"${S:0:3}\"; sleep 0.5; \
                  printf '%s\\n' \"${S:3}\"";
    let arguments =
        ["run", "--no-workspace", "--sandbox", &granting, "--secret", "KEY", "--", "bash", "-c", script];
    let terminal = Terminal::start(&aegis, &arguments);
    terminal.until("name: tR7").types("x\r");
    let left = terminal.finish();
    left.code(0).shows("[redacted:KEY]");
    assert!(!left.screen.contains(&SECRET[..4]) && !left.screen.contains(&SECRET[4..]), "{}", left.screen);
}

#[test]
fn cr_08_values_that_are_everywhere_are_refused_and_the_longest_is_masked() {
    let aegis = vault(&[("S1", "abcd-4711"), ("S2", "abcd-4711-efgh")]);
    for (value, reason) in [
        ("a", "has 1 bytes"),
        ("", "is empty"),
        (" ", "has 0 bytes"),
        ("docker", "has 6 bytes"),
        ("0", "has 1 bytes"),
        ("aaaaaaaaaaaa", "1 different bytes"),
        ("container", "a word or a number"),
    ] {
        set(&aegis, "PLAIN", value).code(1).says("the value of `PLAIN` is not taken").says(reason);
    }
    let ended = aegis.script(&[], "echo abcd-4711-efgh, abcd-4711, docker 0 a");
    assert_eq!(ended.code(0).stdout, "[redacted:S2], [redacted:S1], docker 0 a\n");
}

#[test]
fn cr_10_two_hundred_secrets_and_a_line_of_ten_megabytes() {
    let aegis = vault(&[]);
    let value = |number: u32| format!("kX{number:04}-{:016x}", u64::from(number + 1) * 0x9e37_79b9_7f4a);
    for number in 0..repetitions(20, 200) {
        set(&aegis, &format!("KEY{number}"), &value(number)).code(0);
    }
    let script = format!("head -c 10000000 /dev/zero | tr '\\0' k; echo; echo {}", value(7));
    let ended = aegis.script(&["--quiet"], &script);
    let (line, rest) = ended.code(0).stdout.split_at(10_000_000);
    assert!(line.bytes().all(|it| it == b'k'));
    assert_eq!(rest, "\n[redacted:KEY7]\n");
}

#[test]
fn cr_11_control_sequences_are_escaped_on_a_terminal_and_exact_elsewhere() {
    let aegis = vault(&[("KEY", SECRET)]);
    let hostile = "\\033]52;c;ZWNobw==\\a\\033[2J\\033]0;x\\a\\r\\x9b31m\\xe2\\x80\\xa8";
    aegis.script(&["--quiet"], &format!("printf '{hostile}\\n'")).code(0);
    let id = newest(&aegis);
    let child = aegis.command(&["logs", &id]).stderr(Stdio::null()).output().expect("aegis");
    assert_eq!(child.stdout, b"\x1b]52;c;ZWNobw==\x07\x1b[2J\x1b]0;x\x07\r\x9b31m\xe2\x80\xa8\n");
    let left = Terminal::start(&aegis, &["logs", &id]).finish();
    left.code(0).shows("\\x1b]52;c;ZWNobw==\\x07").shows("\\x1b[2J").shows("\\x9b31m");
}

#[test]
fn cr_14_the_engine_never_has_a_secret() {
    let aegis = vault(&[("KEY", SECRET)]);
    let granting = granting(&aegis);
    let flags =
        ["--sandbox", &granting, "--secret", "KEY", "--secret", "KEY=a.pem", "--secret", "KEY=env:TOKEN"];
    let script = "stat -c '%a %u' /run/secrets/KEY; stat -f -c %T /run/secrets/a.pem; id -u; \
                  test \"$TOKEN\" = \"$(cat /run/secrets/a.pem)\" && echo the same; \
                  ls -l /run/secrets | tail -n +2 | wc -l; echo ready; sleep 120";
    let live = Live::start(&aegis, "given", &flags, script).until("ready");
    for container in aegis.containers() {
        let inspected = docker(&["inspect", &container]);
        assert!(inspected.contains("aegis.instance") && !inspected.contains(SECRET), "{inspected}");
        assert!(!docker(&["diff", &container]).contains("secrets"));
    }
    let exec = aegis.call(&["exec", &live.id, "--", "bash", "-c", "echo $TOKEN; cat /run/secrets/KEY"]);
    assert_eq!(exec.code(0).stdout, "[redacted:KEY]\n[redacted:KEY]");
    live.signal(Signal::TERM);
    let ended = live.finish();
    let uid = ended.stdout.lines().nth(2).expect("a uid").to_owned();
    assert_eq!(ended.stdout, format!("400 {uid}\ntmpfs\n{uid}\nthe same\n2\nready\n"));
    nowhere(&aegis, &ended, SECRET);
}

#[test]
fn a_secret_goes_in_only_where_the_policy_names_it_for_that_place() {
    let aegis = vault(&[("KEY", SECRET), ("OTHER", "another-4711-value")]);
    let refused = aegis.script(&["--secret", "KEY"], "true");
    refused.code(125).says("`secrets.files` of default (strict) does not name it");
    refused.says("hint: write `secrets.files = [\"KEY\"]` into a policy file and pass it with `--sandbox`");
    let files = policy(&aegis, "[secrets]\nfiles = [\"KEY\"]\n");
    aegis.script(&["--sandbox", &files, "--secret", "OTHER"], "true").code(125).says("`secrets.files`");
    aegis
        .script(&["--sandbox", &files, "--secret", "KEY=env:K"], "true")
        .code(125)
        .says("`secrets.environment`");
    let any = policy(&aegis, "[secrets]\nfiles = [\"*\"]\n");
    aegis.script(&["--sandbox", &any, "--secret", "OTHER"], "test -s /run/secrets/OTHER").code(0);
    aegis
        .script(&["--sandbox", &any, "--secret", "NONE"], "true")
        .code(125)
        .says("there is no secret `NONE`");
}

#[test]
fn a_projects_file_cannot_grant_itself_a_secret() {
    let aegis = vault(&[("KEY", SECRET)]);
    fs::write(aegis.here().join("aegis.toml"), "[policy.secrets]\nfiles = [\"*\"]\n").expect("written");
    let refused = aegis.call(&["run", "--secret", "KEY", "--", "true"]);
    refused.code(125).says("aegis.toml:2").says("without trust the run gets []");
}

#[test]
fn outputs_with_a_secret_are_told_or_kept_in() {
    let aegis = vault(&[("KEY", SECRET)]);
    let script = "mkdir out; cd out; echo fine >a; cat /run/secrets/KEY >b; base64 /run/secrets/KEY >c; \
                  head -c 300000 /dev/zero >d; cat /run/secrets/KEY >>d; touch \"x-$(cat /run/secrets/KEY)\"";
    for (outputs, left) in [("report", 5), ("block", 1)] {
        let named = format!("[secrets]\nfiles = [\"KEY\"]\n[outputs]\nsecrets = \"{outputs}\"\n");
        let named = policy(&aegis, &named);
        let directory = aegis.here().join(outputs);
        let target = directory.to_str().expect("text").to_owned();
        let flags = ["--sandbox", &named, "--secret", "KEY", "-o", "out", "--output-dir", &target];
        let ended = aegis.script(&flags, script);
        ended.code(0).says("holds the secret `KEY`");
        nowhere(&aegis, &ended, SECRET);
        let files = fs::read_dir(directory.join("out")).expect("read").count();
        assert_eq!(files, left, "{outputs} {ended:#?}");
        let exposures = record(&aegis, &newest(&aegis))["exposures"].clone();
        let exposures = exposures.as_array().expect("a list");
        let out = exposures.iter().filter(|it| it["came_out"] == serde_json::json!(true)).count();
        assert_eq!((exposures.len(), out), (4, left - 1), "{exposures:?}");
    }
}

#[test]
fn a_reference_keeps_no_value_and_is_looked_up_when_it_is_used() {
    let aegis = vault(&[]).with("MY_TOKEN", SECRET);
    let file = aegis.here().join("key.pem");
    fs::write(&file, PEM).expect("written");
    let path = file.to_str().expect("text").to_owned();
    aegis.call(&["secret", "set", "A", "--from-env", "MY_TOKEN"]).code(0);
    aegis.call(&["secret", "set", "KEY", "--from-file", &path]).code(0);
    let listed = aegis.call(&["secret", "ls"]);
    listed.code(0).prints("variable MY_TOKEN").prints(&format!("file {path}"));
    let granting = granting(&aegis);
    let ended = aegis.script(
        &["--sandbox", &granting, "--secret", "KEY"],
        &format!("cat /run/secrets/KEY; echo; echo {SECRET}"),
    );
    assert_eq!(ended.code(0).stdout, "[redacted:KEY]\n[redacted:A]\n");
    fs::remove_file(file).expect("removed");
    aegis.script(&["--sandbox", &granting, "--secret", "KEY"], "true").code(125).says("which cannot be read");
    aegis.script(&[], "true").code(0);
}

#[test]
fn secrets_are_listed_replaced_removed_and_their_key_changed() {
    let aegis = vault(&[("B", SECRET), ("A", PEM)]);
    let listed = aegis.call(&["secret", "ls", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&listed.code(0).stdout).expect("JSON");
    assert_eq!(json["secrets"][0]["name"], "A");
    assert!(!listed.stdout.contains(SECRET) && !listed.stdout.contains("MIGH"), "{}", listed.stdout);
    aegis.call_with_input(&["secret", "rotate", "B"], b"a-new-value-4711").code(0).says("replaced `B`");
    aegis
        .call_with_input(&["secret", "rotate", "C"], b"a-new-value-4711")
        .code(1)
        .says("there is no secret `C`");
    let key = fs::read(aegis.state().join("secret.key")).expect("a key");
    aegis.call(&["secret", "rotate"]).code(0);
    assert_ne!(fs::read(aegis.state().join("secret.key")).expect("a key"), key);
    let ended = aegis.script(&[], &format!("echo a-new-value-4711 {SECRET}"));
    assert_eq!(ended.code(0).stdout, format!("[redacted:B] {SECRET}\n"));
    aegis.call(&["secret", "rm", "A", "B"]).code(0);
    assert_eq!(aegis.call(&["secret", "ls"]).code(0).stdout, "");
}

#[test]
fn the_key_can_come_from_the_environment_or_a_file() {
    let aegis = vault(&[("KEY", SECRET)]);
    let own = aegis.state().join("secret.key");
    let key = fs::read_to_string(&own).expect("a key");
    let elsewhere = aegis.here().join("elsewhere");
    fs::copy(&own, &elsewhere).expect("copied");
    fs::remove_file(&own).expect("removed");
    aegis.call(&["secret", "ls"]).code(1).says("is not there: bring it back");
    aegis.script(&[], "true").code(125).says("is not there: bring it back");
    let path = elsewhere.to_str().expect("text").to_owned();
    let aegis = aegis.with("AEGIS_SECRET_KEY_FILE", &path);
    aegis.call(&["secret", "ls"]).code(0).prints("KEY");
    aegis.call(&["secret", "rotate"]).code(1).says("which Aegis does not write");
    let aegis = aegis.with("AEGIS_SECRET_KEY", key.trim());
    fs::remove_file(elsewhere).expect("removed");
    aegis.call(&["secret", "ls"]).code(0).prints("KEY");
}

#[test]
fn a_value_that_is_typed_is_not_shown() {
    let aegis = Aegis::new();
    let terminal = Terminal::start(&aegis, &["secret", "set", "KEY"]);
    let line = format!("{SECRET}\r");
    terminal.until("it is not shown").types(&line).until("the same again").types(&line);
    let left = terminal.finish();
    left.code(0).shows("set `KEY`");
    assert!(!left.screen.contains(SECRET), "{}", left.screen);
    assert_eq!(aegis.script(&[], &format!("echo {SECRET}")).code(0).stdout, "[redacted:KEY]\n");
}

#[test]
fn a_process_that_has_secrets_leaves_no_core() {
    let aegis = vault(&[("KEY", SECRET)]);
    let plain = aegis.command(&["run", "--no-workspace", "--", "sh", "-c", "echo ready; sleep 120"]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited 2>/dev/null; exec \"$0\" \"$@\""]);
    command.arg(plain.get_program()).args(plain.get_args()).current_dir(aegis.here()).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("sh");
    let mut ready = [0; 5];
    std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut ready).expect("the task runs");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, Signal::ABORT).expect("it is there");
    let status = child.wait().expect("waited for");
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false), "{status:?}");
}
