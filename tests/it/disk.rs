//! `ci`: the walls of `strict` around a workspace on disk. What differs from `strict` is shown at its edge, and what does
//! not is tried again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::probe::{check_script_with, program, script_with_result};
use crate::support::aegis::{Aegis, eventually};
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
    check_weakened(|body| replace(body, "redirect_dir=on,index=on", "userxattr"), "userxattr");
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
