//! A project's `aegis.toml`: what it may say by itself, what waits for trust, and how trust begins and ends.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use aegis::policy::shipped::{DEFAULT, NAMES};
use rustix::fs::inotify;
use serde_json::Value;

use crate::support::aegis::{Aegis, Ended, finish, repetitions};
use crate::support::live::{newest, record};
use crate::support::terminal::Terminal;

const FILE: &str = "aegis.toml";

/// An instance that stands in a project with these files.
fn project(files: &[(&str, &str)]) -> Aegis {
    let aegis = Aegis::new();
    write(&aegis.here(), files);
    aegis
}

fn write(directory: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(directory.join(".git")).expect("a mark");
    for (name, text) in files {
        fs::write(directory.join(name), text).expect("written");
    }
}

/// The origin and value of a field or of a part of the task, as `--dry-run` shows them.
#[track_caller]
fn shown(aegis: &Aegis, flags: &[&str], field: &str) -> (String, String) {
    let arguments = [&["run", "--dry-run"], flags].concat();
    let ended = aegis.call(&arguments);
    let printed = &ended.code(0).stdout;
    let line = printed.lines().find(|it| it.split_whitespace().next() == Some(field));
    let line = line.unwrap_or_else(|| panic!("no `{field}` in {ended:#?}"));
    let rest = line[field.len()..].trim_start();
    let (value, origin) = rest.split_once("  ").unwrap_or(rest.rsplit_once(' ').expect("an origin"));
    (value.trim().to_owned(), origin.trim().to_owned())
}

#[track_caller]
fn check_shown(aegis: &Aegis, flags: &[&str], field: &str, value: &str, origin: &str) {
    assert_eq!(shown(aegis, flags, field), (value.to_owned(), origin.to_owned()));
}

/// Nothing was run, and nothing was even recorded.
#[track_caller]
fn ran_nothing(aegis: &Aegis, ended: &Ended) {
    assert_eq!(ended.code(125).stdout, "", "it ran");
    assert_eq!(aegis.call(&["ps", "--all", "--json"]).code(0).stdout.trim(), "[]");
}

/// Wishes that no trust can grant: there is no key for them, or no such policy.
const NEVER: [(&str, &str); 6] = [
    ("mounts = [\"/:/host\"]", "unknown key `mounts`"),
    ("volumes = [\"/var/run/docker.sock:/s\"]", "unknown key `volumes`"),
    ("[policy.filesystem]\nmounts = [\"/:/host\"]", "unknown key `filesystem.mounts`"),
    ("[policy]\nsandbox = \"none\"", "`sandbox` names `none`"),
    ("[policy]\nsandbox = \"./loose.toml\"", "`sandbox` names `./loose.toml`"),
    ("[network]\negress = \"all\"", "policy.network"),
];

#[test]
fn po_09_a_weaker_policy_gets_nothing_without_trust() {
    for name in NAMES.into_iter().filter(|it| *it != DEFAULT) {
        let aegis = project(&[(FILE, &format!("policy.sandbox = \"{name}\"\n"))]);
        let ended = aegis.call(&["run", "--", "echo", "ran"]);
        ran_nothing(&aegis, &ended);
        ended.says("and without trust the run gets").says(&format!("policy `{name}` by aegis.toml"));
        aegis.call(&["trust", "--yes"]).code(0);
        aegis.call(&["run", "--dry-run", "--", "true"]).code(0).prints(&format!("policy {name}"));
    }
}

/// Wishes that trust can grant, with the field that names each.
const WIDER: [(&str, &str); 6] = [
    (
        "image = \"aegis/minimal\"",
        "asks for the image `aegis/minimal`, and without trust the run gets `aegis/base`",
    ),
    ("policy.resources.memory = \"1280MiB\"", "resources.memory: aegis.toml:1 asks for \"1280MiB\""),
    (
        "policy.resources.pids = 300",
        "resources.pids: aegis.toml:1 asks for 300, and without trust the run gets 256",
    ),
    ("policy.images.pull = \"always\"", "images.pull: aegis.toml:1 asks for \"always\""),
    ("policy.resources.wall_time = \"2h\"", "resources.wall_time"),
    (
        "policy.runtimes = [\"*\"]",
        "runtimes: aegis.toml:1 asks for [\"*\"], and without trust the run gets [\"runc\"]",
    ),
];

#[test]
fn po_09_what_no_run_may_have_is_refused_by_its_key() {
    for (text, told) in NEVER {
        let aegis = project(&[(FILE, text)]);
        let ended = aegis.call(&["run", "--", "echo", "ran"]);
        ran_nothing(&aegis, &ended);
        ended.says(told);
        aegis.call(&["trust", "--yes"]).code(125).says(told);
    }
}

#[test]
fn po_09_a_wider_wish_gets_nothing_without_trust() {
    for (text, told) in WIDER {
        let aegis = project(&[(FILE, text)]);
        let ended = aegis.call(&["run", "--", "echo", "ran"]);
        ran_nothing(&aegis, &ended);
        ended.says(told).says("aegis trust").says("--no-project-file");
    }
}

#[test]
fn po_09_all_wishes_together_are_named_one_by_one() {
    let all: String = WIDER.iter().map(|(text, _)| format!("{text}\n")).collect();
    let aegis = project(&[(FILE, &all)]);
    let ended = aegis.call(&["run", "--", "echo", "ran"]);
    ran_nothing(&aegis, &ended);
    for field in
        ["aegis/minimal", "resources.memory", "resources.pids", "images.pull", "wall_time", "runtimes"]
    {
        ended.says(field);
    }
    assert_eq!(ended.stderr.matches("aegis trust").count(), 1, "the way out is told once: {ended:#?}");
    aegis.call(&["run", "--dry-run", "--", "true"]).code(0).prints("refused: resources.memory");
}

#[test]
fn po_09_a_shell_and_a_command_of_the_file_get_no_more() {
    let aegis =
        project(&[(FILE, "command = [\"echo\", \"ran\"]\n[policy.resources]\nmemory = \"1280MiB\"\n")]);
    ran_nothing(&aegis, &aegis.call(&["run"]));
    let terminal = Terminal::start(&aegis, &["shell"]);
    let left = terminal.finish();
    assert_eq!(left.code, Some(125), "{left:?}");
    assert!(left.screen.contains("asks for"), "{left:?}");
}

#[test]
fn po_09_a_file_that_is_no_file_is_refused() {
    let aegis = project(&[("other", "")]);
    let path = aegis.here().join(FILE);
    std::os::unix::fs::symlink("other", &path).expect("a link");
    ran_nothing(&aegis, aegis.call(&["run", "--", "echo", "ran"]).says("is not a regular file"));
    fs::remove_file(&path).expect("removed");
    let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success());
    ran_nothing(&aegis, aegis.call(&["run", "--", "echo", "ran"]).says("is not a regular file"));
    fs::remove_file(&path).expect("removed");
    fs::write(&path, "#".repeat(65 * 1024)).expect("written");
    ran_nothing(&aegis, aegis.call(&["run", "--", "echo", "ran"]).says("64 KiB"));
    aegis.call(&["run", "--no-project-file", "--dry-run", "--", "true"]).code(0);
}

#[test]
fn what_tightens_is_taken_and_named() {
    let text = "command = [\"sh\", \"-c\", \"echo $KIND; pwd; ls\"]\nworkdir = \"sub\"\noutputs = [\"out\"]\n\
                [environment]\nKIND = \"plain\"\n\
                [workspace]\nexclude = [\"*.log\"]\n\
                [policy.resources]\nmemory = \"256MiB\"\n";
    let aegis = project(&[(FILE, text), (".aegisignore", "!keep.log\n")]);
    fs::create_dir(aegis.here().join("sub")).expect("a directory");
    for name in ["sub/a", "sub/b.log", "sub/keep.log"] {
        fs::write(aegis.here().join(name), "").expect("written");
    }
    let ended = aegis.call(&["run", "--quiet"]);
    assert_eq!(ended.code(0).stdout, "plain\n/workspace/sub\na\n");
    check_shown(&aegis, &[], "resources.memory", "\"256MiB\"", "aegis.toml:9");
    check_shown(&aegis, &[], "resources.pids", "256", "default (strict)");
    check_shown(&aegis, &[], "workdir", "/workspace/sub", "aegis.toml:2");
    check_shown(&aegis, &[], "output", "out", "aegis.toml:3");
    check_shown(&aegis, &[], "variable", "KIND", "aegis.toml:5");
    check_shown(&aegis, &[], "exclude", "*.log", "aegis.toml:7");
    let run = record(&aegis, &newest(&aegis));
    assert_eq!(run["policy"]["name"], "strict");
    let asked = run["policy"].to_string();
    assert!(asked.contains("aegis.toml:9"), "the record names the file: {asked}");
}

#[test]
fn a_shell_and_a_further_command_are_at_home_too() {
    let text = "command = [\"false\"]\nworkdir = \"sub\"\n[environment]\nKIND = \"plain\"\n\
                [workspace]\nexclude = [\"*.log\"]\n[policy.resources]\nmemory = \"256MiB\"\n";
    let aegis = project(&[(FILE, text)]);
    fs::create_dir(aegis.here().join("sub")).expect("a directory");
    for name in ["sub/a.txt", "sub/b.log"] {
        fs::write(aegis.here().join(name), "").expect("written");
    }
    let terminal = Terminal::start(&aegis, &["shell", "--", "sh"]);
    terminal.until("$ ").types("echo is-$KIND $(pwd) *\r").until("is-plain /workspace/sub a.txt");
    let further = aegis.call(&["exec", &newest(&aegis), "--", "sh", "-c", "echo $KIND $(pwd) *"]);
    assert_eq!(further.code(0).stdout, "plain /workspace/sub a.txt\n");
    terminal.types("exit\r");
    terminal.finish().code(0);
    let run = record(&aegis, &newest(&aegis));
    assert_eq!(run["limits"]["memory_bytes"], 256 << 20, "{run}");
}

#[test]
fn a_flag_takes_the_place_of_a_key() {
    let text = "image = \"aegis/minimal\"\ncommand = [\"false\"]\nworkdir = \"a\"\noutputs = [\"x\"]\n\
                [environment]\nA = \"file\"\nB = \"file\"\n\
                [policy.resources]\nmemory = \"1280MiB\"\npids = 10\n";
    let aegis = project(&[(FILE, text)]);
    let flags =
        ["--image", "aegis/base", "--memory", "300MiB", "--workdir", "/tmp", "-e", "A=flag", "-o", "y"];
    let all = |more: &[&'static str]| [&flags[..], more].concat();
    check_shown(&aegis, &all(&["--", "true"]), "resources.memory", "\"300MiB\"", "flag `--memory`");
    check_shown(&aegis, &all(&["--", "true"]), "resources.pids", "10", "aegis.toml:10");
    check_shown(&aegis, &all(&["--", "true"]), "image", "aegis/base", "flag `--image`");
    check_shown(&aegis, &all(&["--", "true"]), "output", "y", "flag `--output`");
    let script = "echo $A $B; pwd";
    let ended = aegis.call(&[&["run", "--quiet"], &all(&["--", "sh", "-c", script])[..]].concat());
    assert_eq!(ended.code(0).stdout, "flag file\n/tmp\n");
}

#[test]
fn a_policy_that_the_user_names_takes_the_place_of_the_files() {
    let aegis = project(&[(FILE, "[policy.resources]\nmemory = \"1280MiB\"\npids = 10\n")]);
    let flags = ["--sandbox", "strict", "--", "true"];
    check_shown(&aegis, &flags, "resources.memory", "\"1GiB\"", "policy `strict`");
    check_shown(&aegis, &flags, "resources.pids", "256", "policy `strict`");
}

#[test]
fn without_a_command_both_ways_are_told() {
    for files in [&[(FILE, "")][..], &[("README", "")]] {
        let ended = project(files).call(&["run"]);
        ended.code(2).says("give one after `--`").says("command = [\"make\", \"test\"]").says("aegis init");
    }
    Aegis::new().call(&["run"]).code(2).says("give one after `--`");
}

#[test]
fn a_look_picks_the_image_and_says_why() {
    let node = project(&[("package.json", "{}")]);
    check_shown(&node, &["--", "true"], "image", "aegis/node", "look at the project (`package.json`)");
    check_shown(&node, &["--no-workspace", "--", "true"], "image", "aegis/base", "default");
    let asked = "image = \"aegis/node\"\n";
    fs::write(node.here().join(FILE), asked).expect("written");
    check_shown(&node, &["--", "true"], "image", "aegis/node", "aegis.toml:1");
    let ruby = project(&[("Gemfile", "")]);
    let ended = ruby.call(&["run", "--", "echo", "ran"]);
    assert_eq!(ended.code(0).says("aegis: image aegis/base, which has no Ruby").stdout, "ran\n");
    let quiet = ruby.call(&["run", "--quiet", "--", "echo", "ran"]);
    assert_eq!(quiet.code(0).stderr, "");
}

#[test]
fn a_missing_image_names_the_command_that_builds_it() {
    // The engine of this machine may have the image: one that nobody has stands for it.
    let aegis = project(&[("package.json", "{}")]);
    let ended = aegis.call(&["run", "--image", "aegis/none", "--", "true"]);
    ended.code(125).says("aegis image build none");
}

#[test]
fn trust_shows_the_difference_and_binds_the_file() {
    let text = "image = \"aegis/minimal\"\n[policy.resources]\nmemory = \"1280MiB\"\n";
    let aegis = project(&[(FILE, text)]);
    for way in ["--show", "--yes"] {
        let page = aegis.call(&["trust", way]);
        let page = page.code(0);
        page.prints("resources.memory").prints("\"1GiB\"").prints("\"1280MiB\"").prints("aegis.toml:3");
        page.prints("aegis/base").prints("aegis/minimal").prints("it is not trusted");
    }
    check_shown(&aegis, &["--", "true"], "resources.memory", "\"1280MiB\"", "aegis.toml:3");
    let ended = aegis.call(&["run", "--", "sh", "-c", "test -e /etc/debian_version || echo small"]);
    assert_eq!(ended.code(0).says("image aegis/minimal, by aegis.toml:1").stdout, "small\n");
    aegis.call(&["trust"]).code(0).prints("it is trusted");
    let listed = aegis.call(&["trust", "--list"]);
    listed.code(0).prints(&aegis.here().display().to_string()).prints("holds");
}

#[test]
fn trust_is_only_for_who_gave_it() {
    let aegis = project(&[(FILE, "policy.resources.pids = 300\n")]);
    aegis.call(&["trust", "--show"]).code(0);
    ran_nothing(&aegis, &aegis.call(&["run", "--", "echo", "ran"]));
    aegis.call(&["trust", "--yes"]).code(0);
    aegis.call(&["trust", "--revoke"]).code(0).says("no longer trusted");
    ran_nothing(&aegis, &aegis.call(&["run", "--", "echo", "ran"]));
    aegis.call(&["trust", "--revoke"]).code(1).says("was not trusted");
}

#[test]
fn without_a_terminal_trust_is_not_asked_for() {
    let aegis = project(&[(FILE, "policy.resources.pids = 300\n")]);
    let ended = aegis.call_with_input(&["trust"], b"y\n");
    ended.code(2).says("there is no terminal to ask on").says("aegis trust --yes");
    ran_nothing(&aegis, &aegis.call(&["run", "--", "echo", "ran"]));
}

#[test]
fn trust_on_a_terminal_takes_a_plain_yes() {
    let aegis = project(&[(FILE, "policy.resources.pids = 300\n")]);
    for (answer, code) in [("\r", 1), ("n\r", 1), ("y\r", 0)] {
        let terminal = Terminal::start(&aegis, &["trust"]);
        terminal.until("[y/N]");
        terminal.types(answer);
        let left = terminal.finish();
        assert_eq!(left.code, Some(code), "{answer:?}: {left:?}");
    }
    check_shown(&aegis, &["--", "true"], "resources.pids", "300", "aegis.toml:1");
}

#[test]
fn trust_binds_what_was_shown_and_not_what_came_meanwhile() {
    let aegis = project(&[(FILE, "policy.resources.pids = 300\n")]);
    let terminal = Terminal::start(&aegis, &["trust"]);
    terminal.until("[y/N]");
    fs::write(aegis.here().join(FILE), "policy.resources.pids = 5000\n").expect("written");
    terminal.types("y\r");
    terminal.finish().code(0);
    let ended = aegis.call(&["run", "--", "echo", "ran"]);
    ran_nothing(&aegis, &ended);
    ended.says("- policy.resources.pids = 300").says("+ policy.resources.pids = 5000");
}

#[test]
fn trust_ends_when_one_byte_changes() {
    let text = "# a comment\npolicy.resources.pids = 300\n";
    let path = |aegis: &Aegis| aegis.here().join(FILE);
    for (changed, told) in [
        ("# a Comment\npolicy.resources.pids = 300\n", "+ # a Comment"),
        ("# a comment\npolicy.resources.pids = 301\n", "- policy.resources.pids = 300"),
        ("# a comment\npolicy.resources.pids = 300\n\n", "changed since you trusted it"),
    ] {
        let aegis = project(&[(FILE, text)]);
        aegis.call(&["trust", "--yes"]).code(0);
        aegis.call(&["run", "--dry-run", "--", "true"]).code(0);
        fs::write(path(&aegis), changed).expect("written");
        let ended = aegis.call(&["run", "--", "echo", "ran"]);
        ran_nothing(&aegis, &ended);
        ended.says("aegis.toml changed since you trusted it").says(told);
        aegis.call(&["trust", "--show"]).code(0).prints("has changed since:");
        aegis.call(&["trust", "--list"]).code(0).prints("ended: the file changed");
        // The file as it was is the file that was agreed to.
        fs::write(path(&aegis), text).expect("written");
        check_shown(&aegis, &["--", "true"], "resources.pids", "300", "aegis.toml:2");
    }
}

#[test]
fn trust_does_not_follow_a_copy_or_a_move() {
    let aegis = Aegis::new();
    let first = aegis.here().join("first");
    write(&first, &[(FILE, "policy.resources.pids = 300\n")]);
    aegis.call(&["trust", "--yes", "first"]).code(0);
    let refused = |directory: &str| {
        let ended = aegis.call(&["run", "-w", directory, "--", "echo", "ran"]);
        ran_nothing(&aegis, &ended);
        ended.says("resources.pids");
    };
    let copied = Command::new("cp").args(["-r", "first", "second"]).current_dir(aegis.here()).status();
    assert!(copied.expect("cp").success());
    refused("second");
    fs::rename(&first, aegis.here().join("third")).expect("moved");
    refused("third");
    // By another name of the same directory it is the same project.
    fs::rename(aegis.here().join("third"), &first).expect("moved back");
    std::os::unix::fs::symlink("first", aegis.here().join("link")).expect("a link");
    check_shown(&aegis, &["-w", "link", "--", "true"], "resources.pids", "300", "aegis.toml:1");
}

#[test]
fn trust_does_not_pass_the_ceiling() {
    let aegis = project(&[(FILE, "policy.resources.memory = \"15TiB\"\n")]);
    aegis.call(&["trust", "--yes"]).code(0).prints("the ceiling stays in force");
    let ended = aegis.call(&["run", "--", "echo", "ran"]);
    ran_nothing(&aegis, &ended);
    ended.says("aegis.toml:1 asks for `resources.memory` = \"15TiB\"").says("ceiling");
}

#[test]
fn a_file_that_only_tightens_needs_no_trust() {
    let aegis = project(&[(FILE, "policy.resources.pids = 100\n")]);
    aegis.call(&["trust"]).code(0).prints("it needs no trust");
    assert_eq!(aegis.call(&["trust", "--list"]).code(0).stdout, "");
    Aegis::new().call(&["trust"]).code(1).says("there is no aegis.toml");
}

#[test]
fn a_directory_that_looks_like_a_project_and_is_not_marked_is_told() {
    let aegis = Aegis::new();
    fs::write(aegis.here().join("package.json"), "{}").expect("written");
    let ended = aegis.call(&["run", "--", "ls"]);
    assert_eq!(ended.code(0).says("nothing is copied in").says("`-w .`").stdout, "");
}

#[test]
fn the_file_is_opened_once() {
    let aegis = project(&[(FILE, "policy.resources.pids = 300\n")]);
    aegis.call(&["trust", "--yes"]).code(0);
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).expect("a watch");
    inotify::add_watch(&watch, aegis.here().join(FILE), inotify::WatchFlags::OPEN).expect("watched");
    aegis.call(&["run", "--dry-run", "--", "true"]).code(0);
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&watch, &mut buffer);
    let mut opened = 0;
    while events.next().is_ok() {
        opened += 1;
    }
    assert_eq!(opened, 1);
}

#[test]
fn a_file_that_is_swapped_meanwhile_gets_nothing_for_it() {
    let aegis = project(&[(FILE, "policy.resources.pids = 300\n")]);
    aegis.call(&["trust", "--yes"]).code(0);
    let (here, done) = (aegis.here(), AtomicBool::new(false));
    let (plans, runs): (Vec<String>, Vec<Ended>) = std::thread::scope(|scope| {
        scope.spawn(|| {
            for pids in [5000, 300].into_iter().cycle() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                fs::write(here.join("draft"), format!("policy.resources.pids = {pids}\n")).expect("written");
                fs::rename(here.join("draft"), here.join(FILE)).expect("swapped");
            }
        });
        let plan = |_| aegis.call(&["run", "--dry-run", "--", "true"]).stdout;
        let plans = (0..repetitions(20, 500)).map(plan).collect();
        let runs =
            (0..repetitions(5, 50)).map(|_| aegis.call(&["run", "--quiet", "--", "echo", "ran"])).collect();
        done.store(true, Ordering::Relaxed);
        (plans, runs)
    });
    for plan in plans {
        let pids = plan.lines().find(|it| it.starts_with("resources.pids")).expect("the field");
        let value = pids.split_whitespace().nth(1).expect("a value");
        let is_refused = plan.contains("refused: resources.pids");
        assert!((value == "300" && !is_refused) || (value == "256" && is_refused), "{plan}");
    }
    assert!(runs.iter().all(|it| matches!(it.code, Some(0 | 125))), "{runs:#?}");
    let listed: Value = serde_json::from_str(&aegis.call(&["ps", "--all", "--json"]).stdout).expect("JSON");
    for run in listed.as_array().expect("a list") {
        assert_eq!(record(&aegis, run["id"].as_str().expect("an id"))["limits"]["pids"], 300, "{run}");
    }
}

#[test]
fn init_writes_a_file_that_needs_no_trust_and_never_overwrites() {
    let aegis = project(&[("Makefile", "test:\n\t@echo tested\n")]);
    let printed = aegis.call(&["init", "--print"]);
    printed.code(0).prints("command = [\"make\", \"test\"]").prints("image = \"aegis/base\"");
    assert!(!aegis.here().join(FILE).exists());
    aegis.call(&["init"]).code(0).says("aegis.toml");
    assert_eq!(fs::read_to_string(aegis.here().join(FILE)).expect("written"), printed.stdout);
    aegis.call(&["trust"]).code(0).prints("it needs no trust");
    assert_eq!(aegis.call(&["run", "--quiet"]).code(0).stdout, "tested\n");
    fs::write(aegis.here().join(FILE), "# mine\n").expect("written");
    aegis.call(&["init"]).code(125).says("is there already").says("--print");
    assert_eq!(fs::read_to_string(aegis.here().join(FILE)).expect("kept"), "# mine\n");
}

#[test]
fn every_file_that_init_writes_is_understood() {
    for sign in ["Cargo.toml", "package.json", "go.mod", "pom.xml", "pytest.ini", "CMakeLists.txt", "README"]
    {
        let aegis = project(&[(sign, "{}")]);
        aegis.call(&["init"]).code(0);
        aegis.call(&["trust"]).code(0).prints("it needs no trust");
        aegis.call(&["run", "--dry-run", "--", "true"]).code(0);
    }
}

/// Holds that the published schema takes a file that the reader takes, where Python can say.
#[test]
fn the_schema_takes_what_the_reader_takes() {
    let aegis = project(&[("Cargo.toml", "")]);
    let text = aegis.call(&["init", "--print"]).code(0).stdout.clone()
        + "memory = \"512MiB\"\n[policy]\nsandbox = \"strict\"\nruntimes = [\"runc\"]\n[environment]\nA = \"1\"\n";
    let text = text.replace("# [policy.resources]", "[policy.resources]");
    fs::write(aegis.here().join(FILE), text).expect("written");
    aegis.call(&["run", "--dry-run"]).code(0);
    let script = "import json, sys, tomllib\n\
                  try: import jsonschema\n\
                  except ImportError: sys.exit(42)\n\
                  schema, file = json.load(open(sys.argv[1])), tomllib.load(open(sys.argv[2], 'rb'))\n\
                  jsonschema.validate(file, schema)\n\
                  file['mounts'] = []\n\
                  try: jsonschema.validate(file, schema)\n\
                  except jsonschema.ValidationError: sys.exit(0)\n\
                  sys.exit('an unknown key passed')";
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas/project-1.json");
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(schema).arg(aegis.here().join(FILE));
    python.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let ended = finish(python.spawn().expect("python3"), b"");
    match ended.code {
        Some(42) => eprintln!("skipped: python3 has no jsonschema"),
        _ => drop(ended.code(0)),
    }
}

#[test]
fn the_plan_as_json_names_the_task_with_its_origins() {
    let aegis = project(&[(FILE, "command = [\"true\"]\npolicy.resources.pids = 300\n")]);
    let ended = aegis.call(&["run", "--dry-run", "--json"]);
    let plan: Value = serde_json::from_str(&ended.code(0).stdout).expect("JSON");
    assert_eq!(plan["task"][1]["origin"], "aegis.toml:1");
    assert_eq!(plan["refused"][0]["field"], "resources.pids");
    assert_eq!(plan["engine_request"], Value::Null);
}
