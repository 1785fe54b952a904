//! The workspace from end to end: which directory it is, what of it arrives and how, and what comes back.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::aegis::{Aegis, Ended, finish};
use crate::support::live::{newest, record};

/// An instance with a project of its own, `here/project`.
struct Project {
    aegis: Aegis,
}

impl Project {
    fn new(mark: &str) -> Self {
        let project = Self { aegis: Aegis::new() };
        std::fs::create_dir(project.root()).expect("a directory");
        if !mark.is_empty() {
            project.write(mark, "");
        }
        project
    }

    fn root(&self) -> PathBuf {
        self.aegis.here().join("project")
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        std::fs::write(&path, content).expect("written");
        path
    }

    /// Runs a script, with `below` of the project as the current directory.
    fn run(&self, below: &str, flags: &[&str], script: &str) -> Ended {
        let arguments = [&["run"], flags, &["--", "bash", "-c", script]].concat();
        let mut command = self.aegis.command(&arguments);
        finish(command.current_dir(self.root().join(below)).spawn().expect("aegis starts"), b"")
    }
}

fn git(directory: &Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"];
    let output = Command::new("git")
        .args(identity)
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The files of a workspace, one path a line.
const LIST: &str = "find . -mindepth 1 | sort";

#[test]
fn the_project_around_the_current_directory_is_the_workspace() {
    let project = Project::new("aegis.toml");
    project.write("src/deep/file", "content");
    let ended = project.run("src/deep", &[], &format!("pwd; cat src/deep/file; echo; {LIST}"));
    assert_eq!(
        ended.code(0).stdout,
        "/workspace\ncontent\n./aegis.toml\n./src\n./src/deep\n./src/deep/file\n"
    );
    let run = record(&project.aegis, &newest(&project.aegis));
    assert_eq!(run["task"]["workspace"], project.root().display().to_string());
}

#[test]
fn without_a_project_there_is_no_workspace() {
    let project = Project::new("");
    project.write("file", "content");
    assert_eq!(project.run("", &[], LIST).code(0).stdout, "");
}

#[test]
fn no_workspace_means_none() {
    let project = Project::new("aegis.toml");
    assert_eq!(project.run("", &["--no-workspace"], LIST).code(0).stdout, "");
}

#[test]
fn a_named_directory_needs_no_mark() {
    let project = Project::new("");
    project.write("sub/file", "content");
    assert_eq!(project.run("", &["-w", "sub"], LIST).code(0).stdout, "./file\n");
}

#[test]
fn what_the_task_does_to_its_copy_stays_in_it() {
    let project = Project::new("aegis.toml");
    let kept = project.write("kept", "before");
    let script = "echo after >kept; rm aegis.toml; echo new >made; chmod 777 . ; cat kept";
    project.run("", &[], script).code(0).prints("after");
    assert_eq!(std::fs::read_to_string(&kept).expect("it is there"), "before");
    assert!(project.root().join("aegis.toml").exists() && !project.root().join("made").exists());
}

/// A directory that is not taken, and what is said of it.
fn check_refused(directory: &dyn Fn(&Aegis) -> PathBuf, said: &str) {
    let aegis = Aegis::new();
    let directory = directory(&aegis);
    let arguments = ["run", "-w", directory.to_str().expect("text"), "--", "echo", "started"];
    let ended = aegis.call(&arguments);
    assert_eq!(ended.code(125).says(said).says("--no-workspace").stdout, "");
}

#[test]
fn the_root_is_refused() {
    check_refused(&|_| PathBuf::from("/"), "it is the root of the file system");
    check_refused(&|_| PathBuf::from("/tmp/../"), "it is the root of the file system");
}

#[test]
fn the_home_directory_is_refused_also_through_a_link() {
    let home = |aegis: &Aegis| aegis.here().parent().expect("a parent").join("home");
    check_refused(&home, "it is your home directory");
    check_refused(
        &|aegis| {
            let link = aegis.here().join("link");
            symlink(home(aegis), &link).expect("a link");
            link
        },
        "it is your home directory",
    );
    check_refused(
        &|aegis| aegis.here().parent().expect("a parent").to_owned(),
        "your home directory lies in it",
    );
}

#[test]
fn a_home_that_is_a_project_is_refused_where_it_would_be_found() {
    let aegis = Aegis::new();
    let home = aegis.here().parent().expect("a parent").join("home");
    std::fs::create_dir_all(home.join(".git")).expect("a directory");
    std::fs::create_dir(home.join("below")).expect("a directory");
    let mut command = aegis.command(&["run", "--", "true"]);
    let ended = finish(command.current_dir(home.join("below")).spawn().expect("aegis starts"), b"");
    ended.code(125).says("it is your home directory");
}

#[test]
fn a_workspace_that_is_not_there_is_named() {
    let aegis = Aegis::new();
    aegis
        .call(&["run", "-w", "absent", "--", "true"])
        .code(125)
        .says("the workspace `absent` cannot be opened");
    std::fs::write(aegis.here().join("file"), "").expect("written");
    aegis.call(&["run", "-w", "file", "--", "true"]).code(125).says("is not a directory");
}

#[test]
fn ignored_files_and_caches_stay_out_and_modules_go_in() {
    let project = Project::new("aegis.toml");
    project.write(".aegisignore", "*.log\n/private/\n!keep.log\n");
    for path in ["a.log", "keep.log", "private/key", "node_modules/m/index.js", "aegis-out/old/report"] {
        project.write(path, "x");
    }
    for path in ["Cargo.toml", "target/debug/large", "docs/target/page", "src/__pycache__/m.pyc", "src/m.py"]
    {
        project.write(path, "x");
    }
    // The image that a look at `Cargo.toml` picks is not here in CI.
    let ended = project.run("", &["--image", "aegis/base"], "find . -type f | sort");
    let expected = [
        "./.aegisignore",
        "./Cargo.toml",
        "./aegis.toml",
        "./docs/target/page",
        "./keep.log",
        "./node_modules/m/index.js",
        "./src/m.py",
        "",
    ];
    assert_eq!(ended.code(0).stdout, expected.join("\n"));
}

#[test]
fn links_stay_links_and_do_not_bring_the_host_in() {
    let project = Project::new("aegis.toml");
    project.write("file", "content");
    std::fs::write(project.aegis.here().join("secret"), "of the host").expect("written");
    for (to, name) in
        [("file", "inside"), ("../secret", "outside"), ("/etc/shadow", "absolute"), ("loop", "loop")]
    {
        symlink(to, project.root().join(name)).expect("a link");
    }
    let script = "readlink inside outside absolute loop; cat inside; echo; cat outside absolute 2>/dev/null";
    let ended = project.run("", &[], script);
    assert_eq!(ended.stdout, "file\n../secret\n/etc/shadow\nloop\ncontent\n");
}

#[test]
fn modes_and_hard_links_are_kept_and_owners_are_the_tasks() {
    let project = Project::new("aegis.toml");
    for mode in [0o400, 0o640, 0o755, 0o4755] {
        let file = project.write(&format!("m{mode:o}"), "x");
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).expect("a mode");
    }
    let file = project.write("one", "same");
    std::fs::hard_link(&file, project.root().join("two")).expect("a link");
    let script = "stat -c '%a %n' m*; [ one -ef two ] && stat -c %h one; \
                  find . ! -user $(id -u) -o ! -group $(id -g); touch m400 && echo mine";
    let ended = project.run("", &[], script);
    let lines: Vec<&str> = ended.code(0).stdout.lines().collect();
    // A set-user-id bit is worth nothing on a file system without it, under no-new-privileges.
    assert_eq!(lines, ["400 m400", "4755 m4755", "640 m640", "755 m755", "2", "mine"]);
}

#[test]
fn times_are_kept_to_the_nanosecond_so_that_make_builds_nothing_again() {
    let project = Project::new("aegis.toml");
    project.write("Makefile", "out: in\n\techo REBUILT\n\ttouch out\n");
    let touch = |path: &Path, nanoseconds: u32| {
        let stamp = format!("2024-05-06T07:08:09.{nanoseconds:09}Z");
        let status = Command::new("touch").args(["-d", &stamp]).arg(path).status().expect("touch");
        assert!(status.success());
    };
    // One nanosecond apart: a copy that rounds would build again, or never again.
    touch(&project.write("in", ""), 123_456_788);
    touch(&project.write("out", ""), 123_456_789);
    let script = "stat -c %.9Y in out; make out; touch -d '2024-05-06T07:08:09.123456790Z' in; make out";
    let ended = project.run("", &[], script);
    let lines: Vec<&str> = ended.code(0).stdout.lines().collect();
    assert_eq!(&lines[..2], ["1714979289.123456788", "1714979289.123456789"]);
    assert_eq!(lines[2], "make: 'out' is up to date.");
    assert_eq!(lines[4], "REBUILT", "the other way round it builds: {lines:?}");
}

/// A repository with a commit, a submodule's worth of history, and a file that git ignores.
fn repository(project: &Project) {
    git(&project.root(), &["init", "-q"]);
    project.write("file", "content\n");
    project.write("script.sh", "#!/bin/sh\n");
    project.write(".gitignore", "built\n");
    let script = project.root().join("script.sh");
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    symlink("file", project.root().join("link")).expect("a link");
    git(&project.root(), &["add", "-A"]);
    git(&project.root(), &["commit", "-qm", "first"]);
    project.write("built", "x");
}

/// What git says inside: branch, changes, and whether it can commit.
const GIT: &str = "set -e; git rev-parse --abbrev-ref HEAD; git status --porcelain; git log --format=%s; \
                   git fsck --no-dangling; echo change >>file; git -c user.name=t -c user.email=t@example.org \
                   commit -qam second; git log --format=%s -1";

#[test]
fn a_repository_is_clean_inside_and_takes_a_commit() {
    let project = Project::new("");
    repository(&project);
    let ended = project.run("", &[], GIT);
    assert_eq!(ended.code(0).stdout, "main\nfirst\nsecond\n");
    git(&project.root(), &["diff", "--exit-code", "HEAD"]);
}

#[test]
fn a_worktree_is_clean_inside_and_takes_a_commit() {
    let project = Project::new("");
    repository(&project);
    git(&project.root(), &["worktree", "add", "-q", "-b", "side", "../worktree"]);
    let mut command = project.aegis.command(&["run", "--", "bash", "-c", GIT]);
    let worktree = project.aegis.here().join("worktree");
    let ended = finish(command.current_dir(&worktree).spawn().expect("aegis starts"), b"");
    assert_eq!(ended.code(0).stdout, "side\nfirst\nsecond\n");
    git(&worktree, &["diff", "--exit-code", "HEAD"]);
}

#[test]
fn a_submodule_works_from_above_and_alone() {
    let project = Project::new("");
    repository(&project);
    let above = project.aegis.here().join("above");
    std::fs::create_dir(&above).expect("a directory");
    git(&above, &["init", "-q"]);
    git(&above, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../project", "sub"]);
    git(&above, &["commit", "-qm", "with a submodule"]);
    let run = |directory: &Path, script: &str| {
        let mut command = project.aegis.command(&["run", "--", "bash", "-c", script]);
        finish(command.current_dir(directory).spawn().expect("aegis starts"), b"")
    };
    let ended = run(&above, "git status --porcelain; git submodule status; git -C sub log --format=%s");
    assert!(ended.code(0).stdout.ends_with("first\n") && ended.stdout.starts_with(' '), "{ended:#?}");
    let alone = run(&above.join("sub"), "git status --porcelain; git log --format=%s");
    assert_eq!(alone.code(0).stdout, "first\n");
}

#[test]
fn a_full_workspace_is_no_space_and_never_out_of_memory() {
    let project = Project::new("aegis.toml");
    let script = "head -c 100M /dev/zero >zero; echo \"status $?\"; sleep 1; stat -c %s zero; exit 1";
    let ended = project.run("", &["--workspace-size", "8MiB", "--memory", "64MiB"], script);
    ended.code(123).says("No space left on device").says("`/workspace` was full at its size of 8 MiB");
    ended.prints("status 1").prints("8388608");
    let run = record(&project.aegis, &newest(&project.aegis));
    let outcome = serde_json::json!({"kind": "disk_limit", "limit": "full", "mount": "/workspace"});
    assert_eq!((&run["outcome"], &run["usage"]["oom_kills"]), (&outcome, &serde_json::json!(0)));
}

#[test]
fn every_memory_file_system_may_be_full_at_once() {
    // The engine's limit is the memory and all of them: filling them is never a kill.
    let project = Project::new("aegis.toml");
    let script = "for dir in /workspace /tmp /run /run/home /dev/shm; do head -c 400M /dev/zero >$dir/zero \
                  2>/dev/null; done; python3 -c 'x = bytearray(30 << 20); print(len(x))'";
    let flags = ["--workspace-size", "32MiB", "--tmp-size", "32MiB", "--memory", "64MiB"];
    project.run("", &flags, script).code(0).prints("31457280");
}

#[test]
fn files_that_do_not_fit_are_refused_before_anything_starts() {
    let project = Project::new("aegis.toml");
    project.write("large/file", vec![0; 2 << 20]);
    let ended = project.run("", &["--workspace-size", "1MiB"], "echo started");
    ended.code(125).says("takes 2 MiB and its limit is 1 MiB (largest: `large` 2 MiB)");
    assert_eq!(ended.stdout, "");
    assert_eq!(project.aegis.containers(), Vec::<String>::new());
}

/// AR-12: outputs come back however the task ends, as far as it came.
fn check_outputs(flags: &[&str], end: &str, status: i32) {
    let project = Project::new("aegis.toml");
    let script = format!("mkdir report; echo done >report/first; ln report/first report/same; {end}");
    let flags = [&["-o", "report", "--output-dir", "out"], flags].concat();
    let ended = project.run("", &flags, &script);
    ended.code(status);
    let out = project.root().join("out/report");
    assert_eq!(std::fs::read_to_string(out.join("first")).expect("it came out"), "done\n", "{ended:#?}");
    let run = record(&project.aegis, &newest(&project.aegis));
    let paths: Vec<_> = run["artifacts"]["files"].as_array().expect("a list").iter().collect();
    assert!(paths.iter().any(|it| it["path"] == "report/first"), "{run}");
    assert_eq!(run["artifacts"]["directory"], project.root().join("out").display().to_string());
}

#[test]
fn outputs_come_back_after_success() {
    check_outputs(&[], "exit 0", 0);
}

#[test]
fn outputs_come_back_after_a_failure() {
    check_outputs(&[], "exit 7", 7);
}

#[test]
fn outputs_come_back_after_a_signal() {
    check_outputs(&[], "kill -SEGV $$", 139);
}

#[test]
fn outputs_come_back_after_a_timeout() {
    check_outputs(&["--timeout", "2s"], "sleep 60", 124);
}

#[test]
fn outputs_come_back_after_a_timeout_that_had_to_kill() {
    check_outputs(&["--timeout", "2s", "--grace", "500ms"], "trap '' TERM; while :; do sleep 1; done", 124);
}

#[test]
fn outputs_come_back_after_too_much_output() {
    check_outputs(&["--output-limit", "4KiB"], "yes", 123);
}

#[test]
fn outputs_come_back_after_an_out_of_memory_kill() {
    check_outputs(&["--memory", "32MiB"], "exec python3 -c 'x = bytearray(1 << 30)'", 137);
}

#[test]
fn outputs_come_back_after_a_full_disk() {
    check_outputs(&["--tmp-size", "1MiB"], "head -c 4M /dev/zero >/tmp/zero; sleep 1; exit 1", 123);
}

#[test]
fn an_output_that_is_absent_is_told_and_the_status_stays_the_tasks() {
    let project = Project::new("aegis.toml");
    let ended = project.run("", &["-o", "absent/report.xml", "--result", "result.json"], "exit 9");
    ended.code(9).says("the output `absent/report.xml` is not there");
    let result = std::fs::read_to_string(project.root().join("result.json")).expect("written");
    let result: serde_json::Value = serde_json::from_str(&result).expect("JSON");
    assert_eq!(result["artifacts"]["unmatched"], serde_json::json!(["absent/report.xml"]));
    assert!(!project.root().join("aegis-out").join(newest(&project.aegis)).exists(), "nothing came out");
}

#[test]
fn outputs_are_the_callers_own() {
    let project = Project::new("aegis.toml");
    let script = "mkdir -p out; echo x >out/file; chmod 750 out/file; touch -d 2020-01-02T03:04:05Z out/file";
    project.run("", &["-o", "out/**"], script).code(0);
    let out = project.root().join("aegis-out").join(newest(&project.aegis)).join("out/file");
    let metadata = std::fs::metadata(out).expect("it came out");
    let of_caller = rustix::process::getuid().as_raw();
    assert_eq!(
        (std::os::unix::fs::MetadataExt::uid(&metadata), metadata.permissions().mode() & 0o777),
        (of_caller, 0o750)
    );
    // A second run does not take the first one's outputs in.
    assert_eq!(project.run("", &[], LIST).code(0).stdout, "./aegis.toml\n");
}
