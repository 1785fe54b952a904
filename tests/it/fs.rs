//! FS of the checks: a task sees its image read-only, beside it scratch space of its own with a limit; nothing of the
//! host, nothing of another task, and nothing stays but what was collected.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::probe::{check_script, check_script_with, script_with_result};
use crate::support::aegis::{Aegis, docker, eventually};
use crate::watched::Watched;

/// The largest tmpfs of `strict`, and with it the most that one of its tasks may write, bytes.
const DISK_CAP_BYTES: u64 = 512 << 20;

/// The file system that holds the engine's data: free bytes and free inodes.
fn host_space() -> (u64, u64) {
    let root = docker(&["info", "--format", "{{.DockerRootDir}}"]);
    let root = Path::new(root.trim());
    let found = rustix::fs::statvfs(root).or_else(|_| rustix::fs::statvfs("/")).unwrap();
    (found.f_bavail * found.f_frsize, found.f_favail)
}

/// Files of the host with a secret word, wherever this user may put one. They go when this is dropped.
struct Canaries {
    word: String,
    files: Vec<NamedTempFile>,
}

impl Canaries {
    fn place() -> Self {
        let word = format!("canary-{}-{}", std::process::id(), uuid::Uuid::now_v7());
        let home = std::env::var("HOME").unwrap_or_default();
        let mut files = Vec::new();
        for place in ["/etc", "/root", "/var/tmp", "/tmp", "/dev/shm", "/run", "/srv", "/mnt", home.as_str()]
        {
            if let Ok(mut file) = tempfile::Builder::new().prefix("aegis-canary-").tempfile_in(place) {
                writeln!(file, "{word}").unwrap();
                files.push(file);
            }
        }
        assert!(files.len() >= 3, "places for canaries");
        Self { word, files }
    }

    fn paths(&self) -> String {
        let paths: Vec<_> = self.files.iter().map(|it| it.path().to_str().unwrap()).collect();
        paths.join(" ")
    }

    #[track_caller]
    fn are_untouched(&self) {
        for file in &self.files {
            let content = std::fs::read_to_string(file.path()).unwrap();
            assert_eq!(content.trim(), self.word, "{}", file.path().display());
        }
    }
}

/// Writes to every directory of the system, 12 attempts.
pub const FS_01: &str = "for d in / /etc /usr /bin /lib /var /root /home /opt /srv /mnt /.aegis; do
            touch $d/.aegis-mark 2>/dev/null && echo BREACH $d; echo tried $d
         done
         touch /tmp/.aegis-mark && echo able";

#[test]
fn fs_01_the_root_and_system_directories_cannot_be_written() {
    check_script(12, FS_01).prints("able");
}

/// Flags of every directory that can be written, 8 attempts.
pub const FS_02: &str = r#"
while read -r _ m t o _; do case $o in rw*) [ -d "$m" ] && touch "$m/.w" 2>/dev/null && { rm -f "$m/.w"; echo tried $m
    case ,$o, in *,nosuid,*) ;; *) echo BREACH suid $m;; esac; case ,$o, in *,nodev,*) ;; *) echo BREACH dev $m;; esac; };;
esac; done </proc/mounts
python3 - <<'PY'
import os
places = set()
for place, directories, files in os.walk('/'):
    if place == '/': directories.remove('proc')
    if os.access(place, os.W_OK):
        places.add(place)
        flags = os.statvfs(place).f_flag
        if not flags & os.ST_NOSUID: print('BREACH suid', place)
        if not flags & 4: print('BREACH dev', place)
print('tried all,', sorted(places))
PY
mount_points=$(grep -c . /proc/mounts); echo tried $mount_points mounts"#;

#[test]
fn fs_02_every_directory_that_can_be_written_is_nosuid_and_nodev() {
    // The mount table first, as the row says; then every directory there is, whatever the table says.
    let ended = check_script(8, FS_02);
    for place in ["/workspace", "/tmp", "/run", "/run/home", "/dev/shm", "/dev/mqueue"] {
        ended.prints(&format!("tried {place}\n"));
    }
}

#[test]
fn fs_03_a_full_workspace_ends_the_task_as_a_disk_limit_and_costs_the_host_nothing() {
    let (before, _) = host_space();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let lowest = scope.spawn(|| {
            let mut lowest = before;
            while !over.load(Ordering::Relaxed) {
                lowest = lowest.min(host_space().0);
                std::thread::sleep(Duration::from_millis(50));
            }
            lowest
        });
        let (ended, result) = script_with_result(
            &Aegis::new(),
            &[],
            "dd if=/dev/zero of=./big bs=1M count=3072; s=$(stat -c %s ./big); echo tried $s
             [ $s -gt 2147483648 ] && echo BREACH $s; exit 1",
        );
        over.store(true, Ordering::Relaxed);
        ended.code(123).no_breach().prints(&format!("tried {DISK_CAP_BYTES}\n")).says("/workspace");
        assert_eq!(result["outcome"]["kind"], "disk_limit", "{result:#}");
        assert_eq!(result["outcome"]["mount"], "/workspace", "{result:#}");
        // Others write to this file system too: the row's own bound, far below the 3 GiB that were tried.
        assert!(before.saturating_sub(lowest.join().unwrap()) < 2 << 30);
    });
}

#[test]
fn fs_04_every_scratch_directory_has_its_own_limit() {
    let ended = check_script(
        5,
        "for d in /dev/shm /tmp /run $HOME /workspace; do
            dd if=/dev/zero of=$d/f bs=1M count=1024 2>/dev/null; s=$(stat -c %s $d/f); rm -f $d/f
            [ $s -gt 268435456 ] && [ $d != /workspace ] && echo BREACH $d $s; echo tried $d $s
         done",
    );
    for line in ["/dev/shm 67108864", "/tmp 268435456", "/run/home 67108864", "/workspace 536870912"] {
        ended.prints(&format!("tried {line}\n"));
    }
}

#[test]
fn fs_04_scratch_that_is_full_everywhere_is_never_out_of_memory() {
    let (ended, result) = script_with_result(
        &Aegis::new(),
        &[],
        "for d in /dev/shm /tmp /run $HOME /workspace; do cat /dev/zero >$d/f; echo tried $d; done 2>/dev/null
         python3 -c 'print(len(bytearray(700 << 20)))'",
    );
    ended.code(0).prints("tried /workspace").prints("734003200");
    assert_eq!(result["usage"]["oom_kills"], 0, "{result:#}");
    assert_eq!(result["full_mounts"].as_array().unwrap().len(), 5, "{result:#}");
}

#[test]
fn fs_05_files_of_the_host_cannot_be_read_on_any_path() {
    let canaries = Canaries::place();
    let script = format!(
        r#"
for path in {paths}; do
    for way in "" /host /proc/1/root /proc/self/root /proc/self/cwd/../../.. /.aegis/../.. /proc/self/fd/../root \
        /proc/1/cwd/../.. /proc/thread-self/root/..; do
        cat "$way$path" 2>/dev/null | grep -q . && echo BREACH $way$path
    done
    echo tried $path
done
find / -name 'aegis-canary-*' 2>/dev/null | sed 's/^/BREACH /'
grep -rl 'canary-[0-9]*-' /run /tmp /etc /var /srv /mnt /home /dev/shm /.aegis 2>/dev/null | sed 's/^/BREACH /'
echo word >/tmp/control; [ -n "$(find / -name control 2>/dev/null)" ] && echo able"#,
        paths = canaries.paths(),
    );
    check_script(canaries.files.len(), &script).prints("able");
    canaries.are_untouched();
}

/// Files below a directory that hold these bytes.
fn files_with(directory: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if kind.is_file() {
            let content = std::fs::read(&path).unwrap();
            if content.windows(bytes.len()).any(|it| it == bytes) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn fs_06_the_next_run_and_the_host_find_nothing_of_a_run() {
    let aegis = Aegis::new();
    let since = docker(&["info", "--format", "{{.SystemTime}}"]);
    // The word is made inside, so that the record of the command does not hold it.
    let marks = "word=$(printf mark | sha256sum | cut -c1-64)
        for d in /tmp /dev/shm . $HOME /run /dev/mqueue /var/tmp; do
            (echo $word >$d/mark-1) 2>/dev/null; [ -e $d/mark-1 ] && echo marked $d
        done; echo $word >kept; exit 0";
    let arguments = ["run", "--no-workspace", "-o", "kept", "--output-dir", "out", "--", "bash", "-c", marks];
    let first = aegis.call(&arguments);
    first.code(0);
    assert_eq!(first.stdout.lines().count(), 6, "{first:#?}");
    let word = std::fs::read(aegis.here().join("out/kept")).unwrap();

    let second = aegis.script(
        &[],
        "touch /tmp/here; find / -name 'mark-*' 2>/dev/null | sed 's/^/BREACH /'; find / -name here 2>/dev/null; ipcs -m",
    );
    second.code(0).no_breach().prints("/tmp/here");

    assert_eq!(files_with(&aegis.state(), word.trim_ascii()), Vec::<PathBuf>::new());
    assert_eq!(std::fs::read_dir(aegis.runtime().join("slots")).unwrap().count(), 0);
    // The engine removes a container by itself when it has ended.
    eventually("the containers are gone", Duration::from_secs(10), || aegis.containers().is_empty());
    let label = format!("label=aegis.instance={}", aegis.instance());
    let created = events(&since, &["type=container", "event=create", &label], "{{.Actor.ID}}");
    assert_eq!(created.lines().count(), 2, "{created}");
    let volumes = events(&since, &["type=volume", "event=mount"], "{{.Actor.Attributes.container}}");
    assert!(created.lines().all(|it| !volumes.contains(it)), "{volumes}");
}

/// What the engine did since then, as far as it passes the filters.
fn events(since: &str, filters: &[&str], template: &str) -> String {
    let until = docker(&["info", "--format", "{{.SystemTime}}"]);
    let mut arguments =
        vec!["events", "--since", since.trim(), "--until", until.trim(), "--format", template];
    arguments.extend(filters.iter().flat_map(|it| ["--filter", it]));
    docker(&arguments)
}

#[test]
fn fs_07_two_tasks_at_once_see_nothing_of_each_other() {
    let (first, second) = (Aegis::new(), Aegis::new());
    let mut marker = Watched::script(
        &first,
        &[],
        "for d in /tmp /dev/shm . $HOME /run /dev/mqueue; do echo M >$d/mark-a; done; ipcmk -M 4096 -p 0666 >/dev/null
         ipcmk -Q >/dev/null; ipcmk -S 1 >/dev/null
         echo $(find / -name mark-a 2>/dev/null | wc -l) $(ipcs -m | grep -c 4096); echo ready; read -r line",
    );
    marker.wait_for("6 1");
    marker.wait_for("ready");
    let namespaces = |process: u32| {
        ["ipc", "mnt", "net", "pid", "uts", "cgroup"]
            .map(|it| std::fs::read_link(format!("/proc/{process}/ns/{it}")).unwrap())
    };
    check_script(
        2,
        "find / -name 'mark-*' 2>/dev/null | sed 's/^/BREACH /'; echo tried files
         for kind in m q s; do ipcs -$kind | tail -n +4 | grep . | sed 's/^/BREACH /'; done; echo tried ipc",
    );
    let mut beside = Watched::script(&second, &[], "echo ready; read -r line");
    beside.wait_for("ready");
    let host = namespaces(std::process::id());
    let (marked, other) = (namespaces(marker.init()), namespaces(beside.init()));
    for ((marked, other), host) in marked.iter().zip(&other).zip(&host) {
        assert!(marked != other && marked != host && other != host, "{marked:?} {other:?} {host:?}");
    }
    marker.say("done");
    beside.say("done");
    marker.end().code(0);
    beside.end().code(0);
}

#[test]
fn fs_09_links_resolve_inside_the_sandbox_only() {
    let canaries = Canaries::place();
    let host_passwd = std::fs::read("/etc/passwd").unwrap();
    let script = format!(
        r#"
ln -s /etc/passwd p; (echo x >>p) 2>/dev/null && echo BREACH p; echo tried p
for path in {paths}; do
    ln -sf ../../../../../..$path q; cat q 2>/dev/null && echo BREACH $path
    ln -sf $path q; cat q 2>/dev/null && echo BREACH $path; (echo x >q) 2>/dev/null; echo tried $path
done
ln -s /tmp/real link; echo through >link; cat /tmp/real"#,
        paths = canaries.paths(),
    );
    check_script(canaries.files.len() + 1, &script).prints("through\n");
    canaries.are_untouched();
    assert_eq!(std::fs::read("/etc/passwd").unwrap(), host_passwd);
}

/// An image of the test's own, made from the base image by a script that root runs in it. Dropped, it is gone.
struct ChangedImage(String);

impl ChangedImage {
    fn make(script: &str) -> Self {
        let name = format!("aegis-test-t1-{}", uuid::Uuid::now_v7());
        docker(&[
            "run",
            "--label",
            "aegis.test=t1",
            "--network",
            "none",
            "--name",
            &name,
            "aegis/base",
            "bash",
            "-c",
            script,
        ]);
        docker(&["commit", &name, &name]);
        docker(&["rm", "-f", &name]);
        Self(name)
    }
}

impl Drop for ChangedImage {
    fn drop(&mut self) {
        docker(&["rmi", "-f", &self.0]);
    }
}

#[test]
fn fs_10_setuid_programs_of_the_task_and_of_the_image_give_nothing() {
    let image =
        ChangedImage::make("cp /usr/bin/bash /usr/bin/rootbash; chmod 6755 /usr/bin/rootbash /usr/bin/su");
    let ended = check_script_with(
        &["--image", &image.0],
        5,
        r#"
cp /bin/sh /tmp/s 2>/dev/null && chmod 4755 /tmp/s 2>/dev/null && [ "$(/tmp/s -p -c 'id -u' 2>/dev/null)" = 0 ] && echo BREACH suid
echo tried "$(stat -c %a /tmp/s) $(/tmp/s -p -c 'id -u')"
for b in $(find / -xdev -perm -4000 -type f 2>/dev/null); do echo tried $b; timeout 2 $b </dev/null >/dev/null 2>&1; done
rootbash -p -c 'cat /proc/self/status; touch /etc/mark 2>/dev/null && echo BREACH mark' >/tmp/status
awk '/^(Uid|Gid)/ && ($2 < 1000 || $3 < 1000 || $4 < 1000 || $5 < 1000) { print "BREACH", $0 }
     /^Cap/ && $2 !~ /^0+$/ { print "BREACH", $0 } /^Seccomp:/ && $2 != 2 { print "BREACH", $0 }
     /^Uid/ { print "tried rootbash" } /BREACH/' /tmp/status
awk '/^NoNewPrivs/ { if ($2 != 1) print "BREACH nnp"; print "tried nnp" }' /proc/self/status"#,
    );
    ended.prints("tried /usr/bin/rootbash\n").prints("tried /usr/bin/su\n").prints("tried 4755 20");
}

#[test]
fn fs_11_inodes_run_out_inside_and_not_on_the_host() {
    let (_, before) = host_space();
    let script = "python3 - <<'PY'
import os
for place in ('/tmp', '/dev/shm', '/run', '/run/home', '/workspace'):
    n = 0
    try:
        for n in range(400000): os.close(os.open(place + '/i%d' % n, os.O_CREAT | os.O_WRONLY))
        print('BREACH made', n)
    except OSError as e: print('tried', place, 'stopped at', n, e.strerror)
PY";
    let ended = check_script(5, script);
    for line in ended.stdout.lines().filter(|it| it.starts_with("tried")) {
        assert!(line.ends_with("No space left on device"), "{line}");
    }
    let (_, after) = host_space();
    assert!(before.saturating_sub(after) < 65_536, "{before} free before, {after} after");
}

#[test]
fn fs_12_the_engines_own_files_cannot_be_written() {
    check_script(
        6,
        "for f in /etc/resolv.conf /etc/hosts /etc/hostname; do
            (echo x >>$f) 2>/dev/null && echo BREACH $f; echo tried $f
            rm -f $f 2>/dev/null; mv /tmp/other $f 2>/dev/null && echo BREACH $f; [ -s $f ] && echo tried to replace $f
         done; echo able >/tmp/other; cat /tmp/other",
    )
    .prints("able");
}

#[test]
fn fs_13_huge_sparse_files_are_refused_or_cost_nothing_and_do_not_come_out() {
    let aegis = Aegis::new();
    let (before, _) = host_space();
    let script = "truncate -s 4T t; echo tried $?; fallocate -l 1T u; echo tried $?
        dd if=/dev/zero of=v bs=1 seek=1T count=1; echo tried $?; truncate -s 300M w; echo tried $?
        du -k t u v w | awk '$1 > 64 { print \"BREACH\", $0 }'; stat -c '%n %s' t u v w; true";
    let flags = ["-o", "*", "--output-dir", "out"];
    let (ended, result) = script_with_result(&aegis, &flags, script);
    ended.code(0).no_breach();
    assert_eq!(ended.stdout.lines().filter(|it| it.starts_with("tried")).count(), 4, "{ended:#?}");
    for file in ["t 0", "u 0", "v 0"] {
        ended.prints(&format!("{file}\n"));
    }
    assert!(result["artifacts"]["dropped_count"].as_u64().unwrap() >= 1, "{result:#}");
    assert!(!aegis.here().join("out/w").exists());
    assert!(before.saturating_sub(host_space().0) < 1 << 30);
}

#[test]
fn fs_15_no_directory_of_aegis_or_of_a_user_and_no_socket_is_among_the_mounts() {
    let aegis = Aegis::new();
    let script = "grep -oE '(upperdir|lowerdir)=[^,: ]*' /proc/self/mountinfo | grep -q aegis && echo BREACH
        grep -E 'docker.sock|containerd.sock| /root | /home/' /proc/self/mountinfo && echo BREACH mount
        cat /proc/self/mountinfo";
    let ended = aegis.script(&[], script);
    ended.no_breach().prints(" /proc ");
    let state = aegis.state();
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    for hidden in [state.to_str().unwrap(), state.parent().unwrap().to_str().unwrap(), &format!(" {home}/")] {
        assert!(!ended.stdout.contains(hidden), "{hidden} in {}", ended.stdout);
    }
}

#[test]
fn fs_15_a_run_with_a_workspace_shows_no_path_of_the_workspace() {
    let workspace = tempfile::tempdir().unwrap();
    std::fs::write(workspace.path().join("file"), "content").unwrap();
    let path = workspace.path().to_str().unwrap();
    let ended =
        Aegis::new().call(&["run", "-w", path, "--", "bash", "-c", "cat file /proc/self/mountinfo; env"]);
    ended.code(0).prints("content");
    assert!(!ended.stdout.contains(path), "{}", ended.stdout);
}
