//! What a task changes in its workspace comes back exactly, and only where it belongs.

mod model;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::changes::model::{Thing, Tree, differences, read};
use crate::gc::age;
use crate::support::aegis::{Aegis, Ended, finish, repetitions};
use crate::support::live::{newest, record};
use crate::support::random::Random;

/// Trees that one run is given: a sandbox costs a second, a tree next to nothing.
const TREES_PER_RUN: u64 = 10;

/// An instance with a project, and a neighbour that nothing may touch.
struct Project {
    aegis: Aegis,
    neighbour: Vec<(PathBuf, Vec<u8>, u32)>,
}

impl Project {
    fn new() -> Self {
        let aegis = Aegis::new();
        let here = aegis.here();
        std::fs::create_dir_all(here.join("project")).expect("a directory");
        std::fs::create_dir_all(here.join("neighbour/deep")).expect("a directory");
        std::fs::write(here.join("neighbour/canary"), "canary").expect("written");
        std::fs::write(here.join("neighbour/deep/canary"), "canary").expect("written");
        let project = Self { aegis, neighbour: Vec::new() };
        let neighbour = project.look_beside();
        Self { neighbour, ..project }
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

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root().join(path)).expect("a file")
    }

    fn run(&self, flags: &[&str], script: &str) -> Ended {
        let workspace = self.root().display().to_string();
        let arguments = [&["run", "-w", &workspace], flags, &["--", "bash", "-c", script]].concat();
        finish(self.aegis.command(&arguments).spawn().expect("aegis starts"), b"")
    }

    /// Runs a script that succeeds, and gives the run.
    #[track_caller]
    fn changed(&self, script: &str) -> String {
        self.run(&[], script).code(0);
        newest(&self.aegis)
    }

    fn apply(&self, run: &str, rest: &[&str]) -> Ended {
        self.aegis.call(&[&["apply", run], rest].concat())
    }

    fn diff(&self, run: &str, rest: &[&str]) -> Ended {
        self.aegis.call(&[&["diff", run], rest].concat())
    }

    /// Everything beside the project: paths, contents, modes.
    fn look_beside(&self) -> Vec<(PathBuf, Vec<u8>, u32)> {
        let mut found = Vec::new();
        let mut waiting = vec![self.aegis.here()];
        while let Some(directory) = waiting.pop() {
            for entry in std::fs::read_dir(&directory).expect("a directory").flatten() {
                let (path, metadata) = (entry.path(), entry.metadata().expect("metadata"));
                if path == self.root() {
                    continue;
                }
                let content =
                    if metadata.is_file() { std::fs::read(&path).expect("a file") } else { Vec::new() };
                if metadata.is_dir() {
                    waiting.push(path.clone());
                }
                found.push((path, content, metadata.mode()));
            }
        }
        found.sort();
        found
    }

    /// Holds that nothing beside the project is other than it was.
    #[track_caller]
    fn untouched_beside(&self) {
        assert_eq!(self.look_beside(), self.neighbour);
    }

    /// Changes as `aegis diff` tells them: path and letter, a rename as what goes and what comes.
    fn told(&self, run: &str) -> Vec<(Vec<u8>, char)> {
        let ended = self.diff(run, &["--json"]);
        let told: Value = serde_json::from_str(&ended.code(0).stdout).expect("JSON");
        assert_eq!(told["complete"], true, "{told}");
        let mut changes = Vec::new();
        for it in told["changes"].as_array().expect("a list") {
            let bytes = |name: &str| {
                aegis::task::escape::unescape(it[name].as_str().expect("a path")).expect("escaped")
            };
            match it["status"].as_str().expect("a letter") {
                "R" => changes.extend([(bytes("path"), 'A'), (bytes("renamed_from"), 'D')]),
                letter => changes.push((bytes("path"), letter.chars().next().expect("a letter"))),
            }
        }
        changes.sort();
        changes
    }
}

/// Everything of the project as it is now.
fn tree(project: &Project) -> BTreeMap<Vec<u8>, Thing> {
    read(&project.root())
}

#[test]
fn random_trees_and_edits_come_back_as_the_model_has_them() {
    let random = Random::seeded_by_the_caller();
    for _ in 0..repetitions(3, 20) {
        let project = Project::new();
        let mut model = Tree::default();
        for index in 0..TREES_PER_RUN {
            model.grow(&format!("t{index}"), &random);
        }
        model.write_to(&project.root());
        let before = model.snapshot();
        assert_eq!(tree(&project), before, "the model is written as it is");
        let script = model.edit(&random);
        let after = model.snapshot();

        let run = project.changed(&script);
        assert_eq!(project.told(&run), differences(&before, &after), "{script}");
        assert_eq!(tree(&project), before, "looking changes nothing");
        project.apply(&run, &[]).code(0);
        model::check(&tree(&project), &after, &script);
        project.untouched_beside();
        // What was brought in stays so.
        project.apply(&run, &[]).code(0);
        model::check(&tree(&project), &after, &script);
    }
}

/// Trees and edits over a workspace that was copied before, in which everything else stays as it was.
fn check_repeated(policy: &str) {
    let (random, project) = (Random::seeded_by_the_caller(), Project::new());
    for number in 0..1_200 {
        project.write(&format!("bulk/d{}/f{number}", number % 30), format!("content {number}"));
    }
    for number in 0..20 {
        for name in ["a", "b", "sub/c"] {
            project.write(&format!("bulk/k{number}/{name}"), format!("{name} of {number}"));
        }
    }
    project.write("bulk/s8/same", "eight");
    project.write("bulk/s9/same", "nine!");
    // Where a quarter of the bytes is new, everything is copied anew.
    project.write("bulk/large", vec![b'x'; 32 << 20]);
    let flags = ["--sandbox", policy];
    // What is as young as a tick of the clock counts as changed.
    std::thread::sleep(Duration::from_secs(4));
    project.run(&flags, "true").code(0);
    let made = kept_before(&project.aegis, policy);
    for round in 0..repetitions(3, 20) {
        // The caller's own edits go in as what differs from before.
        for index in 0..TREES_PER_RUN {
            let _ = std::fs::remove_dir_all(project.root().join(format!("t{index}")));
        }
        let mut model = Tree::default();
        for index in 0..TREES_PER_RUN {
            model.grow(&format!("t{index}"), &random);
        }
        model.write_to(&project.root());
        std::fs::remove_file(project.root().join(format!("bulk/d0/f{}", 30 * round))).expect("a file");
        let before = tree(&project);
        let planned = model.snapshot();
        let script = model.edit(&random);
        let mut after = before.clone();
        after.retain(|path, _| !planned.contains_key(path));
        after.extend(model.snapshot());
        let (gone, edited) = (format!("bulk/d1/f{}", 30 * round + 1), format!("bulk/d2/f{}", 30 * round + 2));
        after.remove(gone.as_bytes());
        after.insert(edited.clone().into_bytes(), Thing::File(0o644, b"edited".to_vec()));
        after.retain(|path, _| !path.starts_with(b"bulk/d3/") || path == b"bulk/d3/f3");
        // Directories that lay there before are renamed, edited, exchanged and brought back.
        let (from, to) = (format!("bulk/k{round}"), format!("bulk/n/k{round}"));
        after.insert(b"bulk/n".to_vec(), Thing::Directory(0o755));
        rename(&mut after, &from, &to);
        after.remove(format!("{to}/a").as_bytes());
        after.insert(format!("{to}/sub/new").into_bytes(), Thing::File(0o644, b"new".to_vec()));
        for (from, to) in [("bulk/s8", "t"), ("bulk/s9", "bulk/s8"), ("t", "bulk/s9")] {
            rename(&mut after, from, to);
        }
        let script = format!(
            "{script}\nrm {gone}; printf edited >{edited}
            mv bulk/d3/f3 kept; rm -r bulk/d3; mkdir bulk/d3; mv kept bulk/d3/f3
            mkdir -p bulk/n; mv {from} t; mv t {to}; rm {to}/a; printf new >{to}/sub/new
            mv bulk/s8 t; mv bulk/s9 bulk/s8; mv t bulk/s9; mv bulk/d4 t; mv t bulk/d4"
        );

        project.run(&flags, &script).code(0);
        let run = newest(&project.aegis);
        assert_eq!(project.told(&run), differences(&before, &after), "{script}");
        project.apply(&run, &[]).code(0);
        model::check(&tree(&project), &after, &script);
        project.untouched_beside();
    }
    assert_eq!(kept_before(&project.aegis, policy), made, "it was not what lay below");
}

/// Moves everything at and below a path.
fn rename(tree: &mut BTreeMap<Vec<u8>, Thing>, from: &str, to: &str) {
    let below = format!("{from}/").into_bytes();
    let is_moved = |path: &[u8]| path == from.as_bytes() || path.starts_with(&below);
    let moved: Vec<Vec<u8>> = tree.keys().filter(|it| is_moved(it)).cloned().collect();
    for path in moved {
        let thing = tree.remove(&path).expect("it is there");
        tree.insert([to.as_bytes(), &path[from.len()..]].concat(), thing);
    }
}

/// When what is kept of a workspace for the next run was made.
fn kept_before(aegis: &Aegis, policy: &str) -> SystemTime {
    let (trees, name) = match policy {
        "ci" => (Path::new("/var/lib/sandbox-work").join(aegis.instance()).join("trees"), "tree"),
        _ => (aegis.state().join("trees"), "messages"),
    };
    let mut places = std::fs::read_dir(trees).expect("something is kept").flatten();
    let place = places.find_map(|it| std::fs::metadata(it.path().join(name)).ok());
    place.expect("something is kept").created().expect("a time")
}

#[test]
fn changes_of_a_repeated_run_in_memory_come_back_as_the_model_has_them() {
    check_repeated("strict");
}

#[test]
fn changes_of_a_repeated_run_on_disk_come_back_as_the_model_has_them() {
    check_repeated("ci");
}

#[test]
fn a_run_that_changes_nothing_has_no_changes() {
    let project = Project::new();
    project.write("a", "1");
    let run = project.changed("cat a; touch a; cp -p a b; rm a; mv b a; mkdir d; rmdir d");
    assert_eq!(project.told(&run), []);
    project.diff(&run, &["--exit-code"]).code(0);
    let result = record(&project.aegis, &run);
    assert_eq!(result["changes"]["added"], 0);
    assert_eq!(result["changes"]["complete"], true);
}

#[test]
fn the_result_counts_changes_and_the_summary_says_how_to_see_them() {
    let project = Project::new();
    project.write("a", "1");
    project.write("b", "1");
    let ended = project.run(&[], "echo 2 >a; rm b; echo 3 >c; mkfifo f; exit 4");
    ended.code(4).says("3 changes in the workspace").says("aegis diff");
    let changes = record(&project.aegis, &newest(&project.aegis))["changes"].clone();
    for (name, count) in [("added", 1), ("modified", 1), ("deleted", 1), ("skipped", 1), ("left_out", 0)] {
        assert_eq!(changes[name], count, "{changes}");
    }
}

#[test]
fn changes_of_a_run_that_ran_out_of_time_are_kept() {
    let project = Project::new();
    project.write("a", "1");
    project.run(&["--timeout", "2s", "--grace", "1s"], "echo 2 >a; sleep 60").code(124);
    let run = newest(&project.aegis);
    project.apply(&run, &[]).code(0);
    assert_eq!(project.read("a"), "2\n");
}

#[test]
fn nothing_is_kept_where_nobody_wants_it() {
    let project = Project::new();
    project.run(&["--no-changes"], "echo 2 >a").code(0);
    let run = newest(&project.aegis);
    assert_eq!(record(&project.aegis, &run)["changes"], Value::Null);
    project.diff(&run, &[]).code(1).says("no changes of run");
    project.apply(&run, &[]).code(1);
    project.aegis.script(&[], "true").code(0);
    project.diff(&newest(&project.aegis), &[]).code(1).says("had no workspace");
}

#[test]
fn the_patch_is_one_that_git_applies() {
    let project = Project::new();
    project.write("text", "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n");
    project.write("without newline", "a\nb");
    project.write("dir/gone", "gone\n");
    project.write("moved", "the same content\n");
    let name = std::ffi::OsStr::from_bytes(b"odd \"name\"\n\\x");
    std::fs::write(project.root().join(name), "odd\n").expect("written");
    symlink("text", project.root().join("link")).expect("a link");
    let before = tree(&project);
    let run = project.changed(
        "sed -i -e 2d -e s/11/eleven/ text; printf 'a\\nc' >'without newline'; rm -r dir; mv moved there; \
         for f in odd*; do echo more >>\"$f\"; done; ln -sfn there link; echo new >new; chmod 755 new; rm -f there2",
    );
    let patch = project.diff(&run, &[]).code(0).stdout.clone();
    std::fs::write(project.aegis.here().join("../patch"), &patch).expect("written");
    let patched = Command::new("git")
        .args(["apply", "-v", "../../patch"])
        .current_dir(project.root())
        .output()
        .expect("git");
    assert!(patched.status.success(), "{}\n{patch}", String::from_utf8_lossy(&patched.stderr));
    let by_git = tree(&project);
    assert_ne!(by_git, before);
    // The same comes of applying it: everything is so already.
    project.apply(&run, &[]).code(0);
    assert_eq!(tree(&project), by_git);
}

#[test]
fn a_conflict_applies_nothing_and_is_named() {
    let project = Project::new();
    for name in ["a", "b", "c", "d/x"] {
        project.write(name, "1\n");
    }
    let run = project.changed("echo 2 >a; echo 2 >b; rm c; echo 2 >new; echo 2 >d/x");
    project.write("b", "mine\n");
    project.write("new", "mine\n");
    std::fs::remove_dir_all(project.root().join("d")).expect("removed");
    let before = tree(&project);
    let ended = project.apply(&run, &[]);
    ended
        .code(125)
        .says("nothing was applied: 3 of")
        .says("`b`: it changed here")
        .says("`new`: something is here");
    ended.says("`d/x`: the directory that it belongs to is not here").says("hint: name the paths");
    assert_eq!(tree(&project), before);
    project.apply(&run, &["a", "c"]).code(0);
    assert_eq!((project.read("a").as_str(), project.read("b").as_str()), ("2\n", "mine\n"));
    assert!(!project.root().join("c").exists());
}

#[test]
fn what_is_so_already_is_no_conflict() {
    let project = Project::new();
    for name in ["a", "b"] {
        project.write(name, "1\n");
    }
    let run = project.changed("echo 2 >a; rm b; echo 3 >c; mkdir d");
    project.write("a", "2\n");
    project.write("c", "3\n");
    std::fs::remove_file(project.root().join("b")).expect("removed");
    project.apply(&run, &[]).code(0).says("1 added, 0 modified, 0 deleted, 3 were so already");
}

#[test]
fn a_file_that_was_written_and_written_back_is_no_conflict() {
    let project = Project::new();
    project.write("a", "1\n");
    let run = project.changed("echo 2 >a");
    project.write("a", "x\n");
    project.write("a", "1\n");
    project.apply(&run, &[]).code(0);
    assert_eq!(project.read("a"), "2\n");
}

#[test]
fn a_link_on_the_way_is_not_followed() {
    let project = Project::new();
    project.write("d/canary", "1\n");
    let run = project.changed("echo 2 >d/canary; echo 2 >d/new; rm -f d/deep/canary");
    std::fs::remove_dir_all(project.root().join("d")).expect("removed");
    symlink("../neighbour", project.root().join("d")).expect("a link");
    project.apply(&run, &[]).code(125).says("a link or a file leads there");
    project.untouched_beside();
}

#[test]
fn a_link_in_the_place_of_a_file_is_not_written_through() {
    let project = Project::new();
    project.write("a", "1\n");
    let run = project.changed("echo 2 >a; echo 2 >b");
    std::fs::remove_file(project.root().join("a")).expect("removed");
    symlink("../neighbour/canary", project.root().join("a")).expect("a link");
    symlink("../neighbour/new", project.root().join("b")).expect("a link");
    project.apply(&run, &[]).code(125).says("`a`: it changed here").says("`b`: something is here");
    project.untouched_beside();
}

#[test]
fn a_hard_link_out_of_the_tree_keeps_its_content_and_mode() {
    let project = Project::new();
    let inside = project.root().join("a");
    std::fs::hard_link(project.aegis.here().join("neighbour/canary"), &inside).expect("a hard link");
    let run = project.changed("echo 2 >a; chmod 755 a");
    project.apply(&run, &[]).code(0);
    assert_eq!(project.read("a"), "2\n");
    project.untouched_beside();
}

#[test]
fn git_is_never_written_and_what_runs_unasked_must_be_named() {
    let project = Project::new();
    project.write("src/a", "1\n");
    let run = project.changed(
        "mkdir -p .git/hooks sub/.GIT .vscode src/.husky; echo evil | tee .git/hooks/pre-commit sub/.GIT/config .envrc \
         .vscode/tasks.json src/.husky/pre-commit src/.envrc src/ok >/dev/null; ln -s /etc/passwd src/out; \
         ln -s ../.git/config src/into; ln -s a src/in",
    );
    let ended = project.apply(&run, &[]);
    ended.code(0).says("`.envrc` is skipped").says("`src/out` is skipped").says("`src/into` is skipped");
    let paths = |project: &Project| -> Vec<String> {
        tree(project).into_keys().map(|it| String::from_utf8(it).expect("plain")).collect()
    };
    assert_eq!(paths(&project), ["src", "src/a", "src/in", "src/ok", "sub"]);
    project.diff(&run, &[]).code(0).says("changes inside `.git` are left out");
    // A directory that is named does not name what is guarded in it.
    project.apply(&run, &["src"]).code(0);
    assert_eq!(paths(&project), ["src", "src/a", "src/in", "src/ok", "sub"]);
    project.apply(&run, &["src/.envrc", ".vscode"]).code(0);
    assert_eq!(
        paths(&project),
        [".vscode", ".vscode/tasks.json", "src", "src/.envrc", "src/a", "src/in", "src/ok", "sub"]
    );
    project.apply(&run, &[".git"]).code(2).says("the run changed nothing at `.git`");
}

#[test]
fn caches_are_no_changes() {
    let project = Project::new();
    project.write("Cargo.toml", "");
    project.write(".aegisignore", "*.tmp\n/cache/\n");
    project.write("sub/.aegisignore", "!keep.tmp\n");
    let script = "mkdir -p target/debug cache aegis-out sub/__pycache__ node_modules/x; touch target/debug/a cache/b x.tmp \
         sub/y.tmp sub/keep.tmp aegis-out/z sub/__pycache__/m node_modules/x/y; rm .aegisignore; echo '!*' >.aegisignore";
    // The image that a look at `Cargo.toml` picks is not here in CI.
    project.run(&["--image", "aegis/base"], script).code(0);
    let run = newest(&project.aegis);
    assert_eq!(project.told(&run), [(b".aegisignore".to_vec(), 'M'), (b"sub/keep.tmp".to_vec(), 'A')]);
    project.diff(&run, &[]).code(0).says("changes in ignored directories are left out");
    // A pattern decides what the next sandbox gets to see.
    project.apply(&run, &[]).code(0).says("`.aegisignore` is skipped");
}

#[test]
fn a_limit_is_told_and_refuses_the_whole() {
    let project = Project::new();
    let policy = project.aegis.here().join("few.toml");
    std::fs::write(&policy, "[outputs]\nentries = 3\nsize = \"1MiB\"\n").expect("written");
    let policy = policy.display().to_string();
    let flags = ["--sandbox", policy.as_str()];
    project.run(&flags, "for i in 1 2 3 4 5; do echo $i >f$i; done").code(0).says("not all changes");
    let run = newest(&project.aegis);
    project.diff(&run, &[]).code(0).says("`outputs.entries`");
    project.apply(&run, &[]).code(125).says("`outputs.entries`").says("hint: name the paths");
    assert!(tree(&project).is_empty());
    project.apply(&run, &["f2"]).code(0);
    assert_eq!(project.read("f2"), "2\n");

    project.run(&flags, "truncate -s 100M big; echo small >small").code(0);
    let run = newest(&project.aegis);
    project.apply(&run, &[]).code(125).says("`outputs.size`");
    project.apply(&run, &["big"]).code(125).says("its content was not kept");
    project.apply(&run, &["small"]).code(0);
}

#[test]
fn bits_that_a_file_did_not_have_pass_the_callers_mask() {
    let project = Project::new();
    let mut had = std::fs::metadata(project.write("had", "1\n")).expect("metadata").permissions();
    had.set_mode(0o666);
    std::fs::set_permissions(project.root().join("had"), had).expect("a mode");
    let run = project.changed("echo 2 >had; echo 1 >new; chmod 4777 new; mkdir d; chmod 1777 d");
    project.apply(&run, &[]).code(0);
    let mode = |name: &str| std::fs::metadata(project.root().join(name)).expect("metadata").mode() & 0o7777;
    assert_eq!((mode("had"), mode("new"), mode("d")), (0o666, 0o755, 0o755));
}

#[test]
fn a_directory_that_holds_more_than_was_given_is_not_lost() {
    let project = Project::new();
    project.write("d/given", "1\n");
    project.write("d/__pycache__/kept", "1\n");
    let run = project.changed("rm -r d");
    project.apply(&run, &[]).code(0).says("`d` stays");
    assert_eq!(project.read("d/__pycache__/kept"), "1\n");
    project.write("d/given", "1\n");
    let run = project.changed("rm -r d; echo file >d");
    project.apply(&run, &[]).code(125).says("it takes the place of a directory that holds more");
    assert_eq!(project.read("d/given"), "1\n");
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let project = Project::new();
    project.write("a", "1\n");
    let run = project.changed("echo 2 >a; echo 3 >b");
    assert_eq!(project.apply(&run, &["--dry-run"]).code(0).stdout, "M\ta\nA\tb\n");
    assert_eq!(project.read("a"), "1\n");
}

#[test]
fn another_directory_in_the_place_of_the_workspace_is_refused() {
    let project = Project::new();
    project.write("a", "1\n");
    let run = project.changed("echo 2 >a");
    let away = project.aegis.here().join("away");
    std::fs::rename(project.root(), &away).expect("moved");
    project.apply(&run, &[]).code(125).says("cannot be opened");
    std::fs::create_dir(project.root()).expect("a directory");
    project.write("a", "1\n");
    project.apply(&run, &[]).code(125).says("not the directory any more");
    std::fs::remove_dir_all(project.root()).expect("removed");
    symlink(&away, project.root()).expect("a link");
    project.apply(&run, &[]).code(125);
    assert_eq!(std::fs::read_to_string(away.join("a")).expect("a file"), "1\n");
}

#[test]
fn a_task_that_races_its_own_links_reaches_nothing() {
    let project = Project::new();
    project.write("d/a", "1\n");
    project.write("d/canary", "1\n");
    for _ in 0..repetitions(3, 20) {
        let run = project.changed(
            "setsid bash -c 'while :; do mv d e; ln -s /etc d; ln -sfn ../neighbour f; rm d; mv e d; echo $RANDOM >d/a; \
             done' >/dev/null 2>&1 & while [ ! -L f ]; do sleep 0.01; done; sleep 0.0$((RANDOM % 9)); exit 0",
        );
        // What was caught is whatever it was; it is whole, and it stays inside.
        project.diff(&run, &[]).code(0);
        let ended = project.apply(&run, &[]);
        assert!(matches!(ended.code, Some(0 | 125)), "{ended:#?}");
        project.untouched_beside();
    }
}

#[test]
fn hostile_names_and_contents_do_not_reach_a_terminal_or_break_a_patch() {
    let project = Project::new();
    let run = project.changed("printf '\\e[2Jx\\n' >$'evil\\e[2J\\n+++ b'");
    let coloured = project.diff(&run, &["--color", "always"]);
    assert!(!coloured.code(0).stdout.contains("\x1b[2J"), "{coloured:#?}");
    let plain = project.diff(&run, &[]);
    assert!(
        plain.code(0).stdout.contains("+\x1b[2Jx\n") && !plain.stdout.contains("\n+++ b\n"),
        "{plain:#?}"
    );
}

#[test]
fn paths_are_taken_as_they_are_typed() {
    let project = Project::new();
    let run = project.changed("mkdir d; echo 1 >d/a; echo 1 >b");
    assert_eq!(project.diff(&run, &["./d/", "--name-status"]).code(0).stdout, "A\td\nA\td/a\n");
    let absolute = project.root().join("b").display().to_string();
    assert_eq!(project.diff(&run, &[&absolute, "--name-status"]).code(0).stdout, "A\tb\n");
    project.diff(&run, &["../x"]).code(2).says("holds `..`");
    project.diff(&run, &["/etc"]).code(2).says("does not lie in the workspace");
    // A file in a new directory brings the directory.
    project.apply(&run, &["d/a"]).code(0);
    assert_eq!(project.read("d/a"), "1\n");
    assert!(!project.root().join("b").exists());
}

#[test]
fn a_sweep_takes_the_changes_with_the_run() {
    let project = Project::new();
    let run = project.changed("echo 1 >a");
    let kept = || std::fs::read_dir(project.aegis.state().join("changes")).expect("kept").count();
    assert_eq!(kept(), 1);
    age(&project.aegis, &run, 31);
    project.aegis.call(&["gc"]).code(0);
    assert_eq!(kept(), 0);
}

#[test]
fn changes_of_a_servers_run_stay_without_a_record() {
    let project = Project::new();
    project.run(&[], "true").code(0);
    // Ids tell when they were made: two hours ago, and long ago.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after it").as_millis() as u64;
    let id =
        |made_ms: u64, last: &str| format!("{:08x}-{:04x}-7abc-8def-{last}", made_ms >> 16, made_ms & 0xffff);
    let hour_ms = 60 * 60 * 1000;
    let (recent, old) = (id(now - 2 * hour_ms, "0000000000aa"), id(now - 31 * 24 * hour_ms, "0000000000bb"));
    let nobodys = id(now - 2 * hour_ms, "0000000000cc");
    for (run, marked) in [(&recent, true), (&old, true), (&nobodys, false)] {
        let place = project.aegis.state().join("changes").join(run);
        std::fs::create_dir_all(&place).expect("made");
        if marked {
            std::fs::write(place.join("of-a-server"), "").expect("written");
        }
    }
    let swept = project.aegis.call(&["gc"]);
    swept.code(0).prints("changes of run 0000000000bb").prints("changes of run 0000000000cc");
    assert!(project.aegis.state().join("changes").join(&recent).exists(), "{swept:#?}");
}

#[test]
fn changes_that_no_run_has_go_once_they_are_old() {
    let project = Project::new();
    project.changed("true");
    let orphan = project.aegis.state().join("changes/01912345-6789-7abc-8def-0123456789ab/content");
    std::fs::create_dir_all(&orphan).expect("a directory");
    project.aegis.call(&["gc"]).code(0).prints("removed the changes of run 0123456789ab");
    assert!(!orphan.exists());
}
