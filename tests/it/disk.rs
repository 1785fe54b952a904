//! `ci`: the walls of `strict` around a workspace on disk. What differs from `strict` is shown at its edge, and what does
//! not is tried again.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::probe::{check_script_with, program, script_with_result};
use crate::support::aegis::{Aegis, Ended, eventually, finish, repetitions};
use crate::support::random::Random;
use crate::support::rewriter::Inspection;
use crate::watched::Watched;
use crate::weakened::check_under;
use crate::{fs, pl};

const CI: [&str; 2] = ["--sandbox", "ci"];

/// What workspaces on disk of an instance lie in.
fn work(aegis: &Aegis) -> PathBuf {
    Path::new("/var/lib/sandbox-work").join(aegis.instance())
}

/// The layers that an instance has.
fn layers(aegis: &Aegis) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(work(aegis).join("runs")) else { return Vec::new() };
    entries.flatten().map(|it| it.path()).collect()
}

#[test]
fn fs_01_the_root_and_system_directories_cannot_be_written() {
    check_script_with(&CI, 12, fs::FS_01).prints("able");
}

#[test]
fn fs_02_every_directory_that_can_be_written_is_nosuid_and_nodev() {
    check_script_with(&CI, 8, fs::FS_02).prints("tried /workspace\n");
}

#[test]
fn a_workspace_of_one_large_file_goes_in_whole() {
    let aegis = Aegis::new();
    let tree = tempfile::tempdir().unwrap();
    // More than may wait for the sandbox, and too few files for a snapshot.
    std::fs::File::create(tree.path().join("large")).unwrap().set_len(160 * 1024 * 1024).unwrap();
    let path = tree.path().to_str().unwrap();
    let ended = aegis.call(&["run", CI[0], CI[1], "-w", path, "--", "stat", "-c", "%s", "large"]);
    ended.code(0).prints("167772160");
}

#[test]
fn fs_03_a_workspace_above_its_size_ends_the_task_and_the_overshoot_is_recorded() {
    let aegis = Aegis::new();
    let flags = [CI[0], CI[1], "--workspace-size", "64MiB"];
    let script =
        "for i in 1 2 3 4 5 6 7 8; do dd if=/dev/zero of=big$i bs=1M count=60 2>/dev/null; done; echo tried
        sleep 60";
    let (ended, result) = script_with_result(&aegis, &flags, script);
    ended.code(123).says("/workspace").says("above its size of 64 MiB");
    let seen = result["outcome"]["seen_bytes"].as_u64().unwrap();
    assert_eq!(result["outcome"]["limit"], "size", "{result:#}");
    assert!(seen > 64 << 20 && result["usage"]["written_bytes_peak"].as_u64().unwrap() >= seen, "{result:#}");
    assert_eq!(layers(&aegis), Vec::<PathBuf>::new());
}

#[test]
fn fs_03_a_file_without_a_name_counts() {
    let aegis = Aegis::new();
    let flags = [CI[0], CI[1], "--workspace-size", "64MiB"];
    let script = "for i in 1 2 3 4; do exec {held}<>held; rm held; dd if=/dev/zero bs=1M count=40 2>/dev/null >&$held; done
        [ -z \"$(ls)\" ] && echo tried; sleep 60";
    let (ended, result) = script_with_result(&aegis, &flags, script);
    ended.code(123).says("above its size of 64 MiB");
    assert_eq!(result["outcome"]["limit"], "size", "{result:#}");
}

#[test]
fn fs_11_files_without_number_end_the_task() {
    let aegis = Aegis::new();
    std::fs::write(aegis.here().join("p.toml"), "extends = \"ci\"\n[filesystem]\nworkspace_files = 10\n")
        .unwrap();
    let script = "python3 - <<'PY'
import os
for n in range(400000): os.close(os.open('/workspace/i%d' % n, os.O_CREAT | os.O_WRONLY))
print('BREACH made', n)
PY
sleep 60";
    let (ended, result) = script_with_result(&aegis, &["--sandbox", "./p.toml"], script);
    ended.code(123).says("files, directories and links");
    assert_eq!(result["outcome"]["limit"], "size", "{result:#}");
}

#[test]
fn fs_06_the_next_run_and_the_host_find_nothing_of_a_run() {
    let aegis = Aegis::new();
    aegis
        .script(&CI, "mkdir -p a/b; echo M >a/b/mark-1; chmod 0 a/b a; ln -s /etc ../workspace/l; mkfifo f")
        .code(0);
    check_script_with(&CI, 1, "find / -name 'mark-*' 2>/dev/null | sed 's/^/BREACH /'; echo tried");
    assert_eq!(layers(&aegis), Vec::<PathBuf>::new());
    eventually("the containers are gone", Duration::from_secs(10), || aegis.containers().is_empty());
}

#[test]
fn fs_07_two_tasks_at_once_see_nothing_of_each_other() {
    let aegis = Aegis::new();
    let mut marker = Watched::script(&aegis, &CI, "echo M >mark-a; echo ready; read -r line");
    marker.wait_for("ready");
    aegis
        .script(&CI, "find / -name 'mark-*' 2>/dev/null | sed 's/^/BREACH /'; echo tried")
        .code(0)
        .no_breach();
    assert_eq!(layers(&aegis).len(), 1);
    marker.say("done");
    marker.end().code(0);
    assert_eq!(layers(&aegis), Vec::<PathBuf>::new());
}

#[test]
fn fs_10_setuid_programs_of_the_task_give_nothing() {
    let script = "cp /bin/sh s; chmod 4755 s; [ \"$(./s -p -c 'id -u')\" = 0 ] && echo BREACH suid; echo tried $(stat -c %a s)
        mknod d b 8 0 2>/dev/null && echo BREACH device; echo tried device";
    check_script_with(&CI, 2, script).prints("tried 4755");
}

#[test]
fn fs_13_huge_sparse_files_are_refused_or_cost_nothing() {
    let script = "truncate -s 8T t; echo tried $?; truncate -s 3G u; echo tried $?; du -k t u | awk '$1 > 64 { print \"BREACH\", $0 }'";
    check_script_with(&CI, 2, script).prints("tried 1").prints("tried 0");
}

#[test]
fn fs_13_no_space_of_the_disk_is_taken_without_being_written() {
    let script = "for n in 1 2 3 4; do fallocate -l 1G f$n; echo tried $?; done 2>&1
        [ $(du -sk . | cut -f1) -gt 64 ] && echo BREACH $(du -sk .)
        python3 -c 'import os; f = os.open(\"g\", os.O_CREAT | os.O_RDWR); os.posix_fallocate(f, 0, 65536)'; stat -c '%n %s' g";
    check_script_with(&CI, 4, script).prints("Operation not supported").prints("g 65536");
}

#[test]
fn fs_15_no_directory_of_aegis_or_of_a_user_is_among_the_mounts() {
    let aegis = Aegis::new();
    let script = "grep -oE '(upperdir|lowerdir)=[^,: ]*' /proc/self/mountinfo | grep -q aegis && echo BREACH
        grep -E 'docker.sock|containerd.sock| /root | /home/' /proc/self/mountinfo && echo BREACH mount
        cat /proc/self/mountinfo";
    let ended = aegis.script(&CI, script);
    ended.no_breach().prints(" /workspace ");
    assert!(!ended.stdout.contains(aegis.state().to_str().unwrap()), "{}", ended.stdout);
}

#[test]
fn pl_01_user_group_and_groups_are_not_zero() {
    check_script_with(&CI, 3, pl::PL_01);
}

#[test]
fn pl_02_no_capability_is_held_and_the_filter_is_on_for_pid_1_and_children() {
    check_script_with(&CI, 14, pl::PL_02);
}

#[test]
fn ks_08_a_task_traces_its_own_processes_and_never_pid_1() {
    let aegis = Aegis::new();
    let tree = tempfile::tempdir().unwrap();
    std::fs::copy(program("tracer"), tree.path().join("tracer")).unwrap();
    let ended = aegis.call(&["run", CI[0], CI[1], "-w", tree.path().to_str().unwrap(), "--", "./tracer"]);
    ended
        .code(0)
        .prints("read a child: ok\nwrite a child: ok\ncontinue a child: ok\nthe child ended with 42\n");
    ended.prints("init attach: EPERM\ninit seize: EPERM\ninit readv: EPERM\ninit writev: EPERM\n");
}

#[test]
fn ks_08_an_init_that_is_under_attack_by_tracers_tells_the_tasks_own_end() {
    let aegis = Aegis::new();
    let tree = tempfile::tempdir().unwrap();
    std::fs::copy(program("wall"), tree.path().join("wall")).unwrap();
    let path = tree.path().to_str().unwrap();
    let ended = aegis.call(&["run", CI[0], CI[1], "-w", path, "--", "bash", "-c", "./wall; exit 7"]);
    ended.code(7).prints("everything is tried");
    let reached: Vec<_> =
        ended.stdout.lines().filter(|it| !it.starts_with("signal ") && it.ends_with(": ok")).collect();
    assert_eq!(reached, Vec::<&str>::new());
}

#[test]
fn ks_08_leaks_are_found_by_a_sanitizer() {
    let script = "printf '#include <stdlib.h>\\nint main(void) { void *volatile p = malloc(100); p = 0; return p != 0; }\\n' >leak.c
        gcc -fsanitize=address leak.c -o leak && ./leak 2>&1 | grep -o 'detected memory leaks'; echo tried";
    check_script_with(&CI, 1, script).prints("detected memory leaks");
}

#[test]
fn a_killed_owner_leaves_nothing_after_the_next_run() {
    let aegis = Aegis::new();
    let mut running =
        Watched::script(&aegis, &CI, "mkdir -p d/e; echo x >d/e/f; chmod 0 d; echo ready; sleep 300");
    running.wait_for("ready");
    running.signal(Signal::KILL);
    let _ = running.end();
    assert_eq!(layers(&aegis).len(), 1);
    aegis.script(&CI, "true").code(0);
    assert_eq!(layers(&aegis), Vec::<PathBuf>::new());
    eventually("the containers are gone", Duration::from_secs(10), || aegis.containers().is_empty());
}

/// Runs a task under `ci` whose workspace the engine mounts otherwise; refused over `part` whatever the engine says.
#[track_caller]
fn check_weakened(change: impl Fn(&mut Value) + Send + Sync + Copy + 'static, part: &str) {
    check_under("ci", Inspection::Honest, change, &["engine setting `HostConfig.Mounts`"]);
    check_under("ci", Inspection::Lying, change, &[part]);
}

/// The options of the workspace's volume.
fn options(body: &mut Value) -> &mut Value {
    let mounts = body["HostConfig"]["Mounts"].as_array_mut().expect("mounts");
    let volume = mounts.iter_mut().find(|it| it["Type"] == "volume").expect("the workspace");
    &mut volume["VolumeOptions"]["DriverConfig"]["Options"]["o"]
}

fn replace(body: &mut Value, from: &str, to: &str) {
    let options = options(body);
    let changed = options.as_str().expect("text").replace(from, to);
    *options = json!(changed);
}

#[test]
fn a_workspace_that_takes_setuid_programs_is_refused() {
    check_weakened(|body| replace(body, "nosuid,", ""), "nosuid");
}

#[test]
fn a_workspace_that_takes_devices_is_refused() {
    check_weakened(|body| replace(body, "nodev,", ""), "nodev");
}

#[test]
fn a_workspace_over_another_directory_is_refused() {
    check_weakened(
        |body| {
            let options = options(body);
            let text = options.as_str().expect("text");
            let rest = text.split_once(',').expect("options").1.to_owned();
            *options = json!(format!("lowerdir=/etc,{rest}"));
        },
        "lowerdir is /etc",
    );
}

#[test]
fn a_workspace_whose_layers_the_task_has_a_say_in_is_refused() {
    check_weakened(|body| replace(body, "redirect_dir=on,index=off", "userxattr"), "userxattr");
}

#[test]
fn a_second_directory_that_can_be_written_is_refused() {
    check_weakened(
        |body| {
            let bind = json!({ "Type": "bind", "Source": "/srv", "Target": "/srv" });
            body["HostConfig"]["Mounts"].as_array_mut().expect("mounts").push(bind);
        },
        "mount `/srv`",
    );
}

#[test]
fn a_directory_of_the_host_in_the_place_of_the_workspace_is_refused() {
    check_weakened(
        |body| {
            let mounts = body["HostConfig"]["Mounts"].as_array_mut().expect("mounts");
            mounts.retain(|it| it["Type"] != "volume");
            mounts.push(json!({ "Type": "bind", "Source": "/srv", "Target": "/workspace" }));
        },
        "mount `/workspace`",
    );
}

/// Everything about a tree that a task can see: a line for each entry, in order.
const LISTING: &str = r"
import os, hashlib, stat, sys
names = {}
for place, directories, files in os.walk('.'):
    directories.sort()
    for name in sorted(directories + files):
        path = os.path.join(place, name)
        it = os.lstat(path)
        what = ''
        if stat.S_ISLNK(it.st_mode): what = os.readlink(path)
        elif stat.S_ISREG(it.st_mode):
            what = hashlib.sha256(open(path, 'rb').read()).hexdigest()
            if it.st_nlink > 1: what += ' = ' + names.setdefault(it.st_ino, path)
        print(path, oct(it.st_mode), it.st_mtime_ns, '' if stat.S_ISDIR(it.st_mode) else it.st_size, what)
";

/// A project of some hundred files, large enough for a snapshot.
struct Project {
    tree: tempfile::TempDir,
    aegis: Aegis,
}

impl Project {
    fn new() -> Self {
        let project = Self { tree: tempfile::tempdir().unwrap(), aegis: Aegis::new() };
        for number in 0..400 {
            let place = project.tree.path().join(format!("d{}/e{}", number % 10, number % 20));
            std::fs::create_dir_all(&place).unwrap();
            std::fs::write(place.join(format!("f{number}")), format!("content {number}")).unwrap();
        }
        std::fs::hard_link(project.tree.path().join("d0/e0/f0"), project.tree.path().join("d1/again"))
            .unwrap();
        std::os::unix::fs::symlink("d0/e0", project.tree.path().join("link")).unwrap();
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tree.path().join(name)
    }

    /// Runs a script over the project.
    fn run(&self, script: &str) -> Ended {
        let tree = self.tree.path().to_str().unwrap();
        self.aegis.call(&["run", CI[0], CI[1], "-w", tree, "--", "bash", "-c", script])
    }

    /// Holds that the task sees the tree as it is.
    #[track_caller]
    fn is_seen(&self) {
        let here = std::process::Command::new("python3")
            .args(["-c", LISTING])
            .current_dir(self.tree.path())
            .output()
            .unwrap();
        let ended = self.run(&format!("python3 - <<'PY'{LISTING}PY"));
        ended.code(0);
        assert_eq!(ended.stdout, String::from_utf8_lossy(&here.stdout));
    }

    /// The snapshot's tree.
    fn snapshot(&self) -> PathBuf {
        let trees = std::fs::read_dir(work(&self.aegis).join("trees")).unwrap();
        trees.flatten().map(|it| it.path().join("tree")).find(|it| it.exists()).expect("a snapshot")
    }

    /// Waits until no file is so young that it counts as changed, and has a snapshot made of that.
    fn settle(&self) {
        std::thread::sleep(Duration::from_secs(4));
        self.run("true").code(0);
        self.run("true").code(0);
    }
}

/// Which file this is: the number of an inode alone is given again at once.
fn identity(path: &Path) -> (u64, SystemTime) {
    let metadata = std::fs::metadata(path).unwrap();
    (std::os::unix::fs::MetadataExt::ino(&metadata), metadata.created().unwrap())
}

#[test]
fn a_repeated_run_sees_every_kind_of_edit_and_makes_no_new_snapshot() {
    let project = Project::new();
    project.is_seen();
    project.settle();
    let made = identity(&project.snapshot());
    project.is_seen();
    std::fs::write(project.path("d0/e0/f20"), "edited").unwrap();
    std::fs::remove_file(project.path("d1/e1/f1")).unwrap();
    std::fs::rename(project.path("d2/e2/f2"), project.path("d3/renamed")).unwrap();
    std::fs::remove_dir_all(project.path("d4/e4")).unwrap();
    std::fs::write(project.path("d4/e4"), "a file now").unwrap();
    std::fs::remove_file(project.path("link")).unwrap();
    std::fs::create_dir(project.path("link")).unwrap();
    std::fs::create_dir_all(project.path("new/deep")).unwrap();
    std::fs::write(project.path("new/deep/file"), "new").unwrap();
    let mode = |name: &str, mode| {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(project.path(name), permissions).unwrap();
    };
    mode("d5/e5/f5", 0o755);
    mode("d6", 0o711);
    project.is_seen();
    assert_eq!(identity(&project.snapshot()), made);
    // What changed on the way is compared again, not remembered.
    std::fs::write(project.path("d0/e0/f20"), "edited again").unwrap();
    project.is_seen();
    assert_eq!(identity(&project.snapshot()), made);
}

#[test]
fn a_directory_that_nobody_may_write_is_changed_all_the_same() {
    let project = Project::new();
    let permissions: fn(u32) -> std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode;
    for closed in ["d0/e0", "d0/e10"] {
        std::fs::set_permissions(project.path(closed), permissions(0o555)).unwrap();
    }
    std::fs::set_permissions(project.path("d0"), permissions(0o500)).unwrap();
    project.settle();
    std::fs::write(project.path("d0/e0/f0"), "edited").unwrap();
    std::fs::remove_file(project.path("d0/e0/f20")).unwrap();
    project.is_seen();
    // And one that goes with all that is in it.
    std::fs::set_permissions(project.path("d0"), permissions(0o755)).unwrap();
    std::fs::remove_dir_all(project.path("d0/e10")).unwrap();
    std::fs::remove_dir_all(project.path("d0/e0")).unwrap();
    project.is_seen();
}

#[test]
fn an_edit_of_the_same_size_and_time_is_seen() {
    let project = Project::new();
    project.settle();
    let path = project.path("d0/e0/f20");
    let times = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, "CONTENT 20").unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    project.run("cat d0/e0/f20").code(0).prints("CONTENT 20");
}

#[test]
fn an_edit_within_a_tick_of_the_snapshot_is_seen() {
    let project = Project::new();
    // No pause: the first run makes its snapshot of files that are as young as the edits.
    for round in 0..5 {
        std::fs::write(project.path("d0/e0/f20"), format!("round {round}")).unwrap();
        project.run("cat d0/e0/f20").code(0).prints(&format!("round {round}"));
    }
}

#[test]
fn what_a_task_writes_reaches_neither_the_snapshot_nor_the_tree_nor_the_next_run() {
    let project = Project::new();
    project.settle();
    let listing = |tree: &Path| {
        let output = std::process::Command::new("python3").args(["-c", LISTING]).current_dir(tree).output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    };
    let (tree, snapshot) = (listing(project.tree.path()), listing(&project.snapshot()));
    assert_eq!(tree, snapshot);
    let script = "echo x >>d0/e0/f20; rm -r d1; mv d2 moved; chmod 777 d3/e3/f3; echo x >d1; ln -f d4/e4/f4 hard; echo y >>hard
        touch -d @1 d5/e5/f5; : >d0/e0/f0";
    project.run(script).code(0);
    assert_eq!(listing(project.tree.path()), tree);
    assert_eq!(listing(&project.snapshot()), snapshot);
    project.is_seen();
}

#[test]
fn two_runs_of_one_project_at_once_do_not_see_each_other() {
    let project = Project::new();
    project.settle();
    let tree = project.tree.path().to_str().unwrap();
    let mut child = project
        .aegis
        .command(&[
            "run",
            "-i",
            CI[0],
            CI[1],
            "-w",
            tree,
            "--",
            "bash",
            "-c",
            "echo M >mark; id -u; read -r line; ls mark other",
        ])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the first run has begun", Duration::from_secs(60), || {
        layers(&project.aegis).iter().any(|it| it.join("upper/mark").exists())
    });
    let second = project.run("echo M >other; ls mark; id -u; true");
    second.code(0).says("mark");
    let first_stdin = child.stdin.take().unwrap();
    drop(first_stdin);
    let first = finish(child, b"");
    assert!(first.stdout.ends_with("\nmark\n") && first.stderr.contains("other"), "{first:#?}");
    assert_ne!(first.stdout.lines().next(), second.stdout.lines().next(), "both had one user");
}

/// One random edit of the tree.
fn edit(project: &Project, random: &Random) {
    let files: Vec<PathBuf> = (0..400)
        .map(|number| project.path(&format!("d{}/e{}/f{number}", number % 10, number % 20)))
        .filter(|it| it.exists())
        .collect();
    let pick = |random: &Random| files[random.below(files.len() as u64) as usize].clone();
    let (one, other) = (pick(random), pick(random));
    match random.below(8) {
        0 => std::fs::write(&one, format!("edited {}", random.below(1000))).unwrap(),
        1 => std::fs::remove_file(&one).unwrap(),
        2 => std::fs::rename(&one, &other).unwrap(),
        3 => {
            let mode = 0o400 | random.below(0o1000) as u32;
            std::fs::set_permissions(&one, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
        4 => {
            let _ = std::fs::remove_file(&other);
            std::os::unix::fs::symlink("anywhere", &other).unwrap();
        }
        5 => {
            let _ = std::fs::remove_file(&other);
            if one != other {
                std::fs::hard_link(&one, &other).unwrap();
            }
        }
        6 => {
            let _ = std::fs::remove_file(&other);
            std::fs::create_dir_all(other.join("sub")).unwrap();
            std::fs::write(other.join("sub/file"), "below").unwrap();
            std::fs::rename(&other, project.path(&format!("moved-{}", random.below(1 << 40)))).unwrap();
        }
        _ => std::fs::write(one.with_extension("new"), "new").unwrap(),
    }
}

#[test]
fn random_edits_are_seen_exactly() {
    let project = Project::new();
    project.settle();
    let random = Random::seeded_by_the_caller();
    for _ in 0..repetitions(10, 100) {
        for _ in 0..1 + random.below(12) {
            edit(&project, &random);
        }
        project.is_seen();
    }
}

#[test]
fn a_snapshot_that_nobody_used_for_a_week_goes_with_the_next_sweep() {
    let project = Project::new();
    project.run("true").code(0);
    let snapshot = project.snapshot();
    project.aegis.call(&["gc"]).code(0);
    assert!(snapshot.exists(), "it is young");
    let lock = std::fs::File::options().write(true).open(snapshot.with_file_name("lock")).unwrap();
    let days = Duration::from_secs(8 * 24 * 60 * 60);
    lock.set_modified(std::time::SystemTime::now() - days).unwrap();
    project.aegis.call(&["gc", "--dry-run"]).code(0).prints("would remove snapshot");
    assert!(snapshot.exists());
    project.aegis.call(&["gc"]).code(0).prints("removed snapshot");
    assert!(!snapshot.parent().unwrap().exists());
    project.is_seen();
}

#[test]
fn under_strict_what_is_kept_of_a_workspace_is_sent_as_it_is_now() {
    let (tree, aegis) = (tempfile::tempdir().unwrap(), Aegis::new());
    for number in 0..1200 {
        let place = tree.path().join(format!("d{}", number % 30));
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join(format!("f{number}")), format!("content {number}")).unwrap();
    }
    let path = tree.path().to_str().unwrap();
    let seen = || {
        let here = std::process::Command::new("python3").args(["-c", LISTING]).current_dir(path).output();
        let script = format!("python3 - <<'PY'{LISTING}PY");
        let ended = aegis.call(&["run", "-w", path, "--", "bash", "-c", &script]);
        ended.code(0);
        assert_eq!(ended.stdout, String::from_utf8_lossy(&here.unwrap().stdout));
    };
    let kept = || {
        let trees = std::fs::read_dir(aegis.state().join("trees")).unwrap();
        identity(&trees.flatten().map(|it| it.path().join("messages")).find(|it| it.exists()).unwrap())
    };
    seen();
    std::thread::sleep(Duration::from_secs(4));
    seen();
    let made = kept();
    std::fs::write(tree.path().join("d1/f1"), "edited").unwrap();
    std::fs::remove_file(tree.path().join("d2/f2")).unwrap();
    std::fs::rename(tree.path().join("d3"), tree.path().join("moved")).unwrap();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o555);
    std::fs::set_permissions(tree.path().join("d4"), closed).unwrap();
    seen();
    assert_eq!(kept(), made, "it was packed anew");
    // What a rule leaves out now is not sent, not even to be taken back.
    std::fs::write(tree.path().join(".aegisignore"), "d5/\n").unwrap();
    let ended = aegis.call(&["run", "-w", path, "--", "ls"]);
    ended.code(0);
    assert!(!ended.stdout.contains("d5\n") && kept() != made, "{ended:#?}");
}
