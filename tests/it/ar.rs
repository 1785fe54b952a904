//! What comes out of a sandbox through a real run (group AR): nothing outside the output directory is read or written,
//! no link is followed, nothing blocks, and everything is bounded.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::aegis::{Aegis, Ended, docker, eventually, finish};
use crate::support::processes::{Tag, processes_with};

/// A run with `-o out`, and where its outputs went.
struct Collected {
    aegis: Aegis,
    ended: Ended,
}

impl Collected {
    /// Runs a script that fills `out/`.
    fn of(script: &str) -> Self {
        Self::with(&[], script)
    }

    fn with(flags: &[&str], script: &str) -> Self {
        let aegis = Aegis::new();
        let mut all = vec!["-o", "out", "--output-dir", "kept"];
        all.extend(flags);
        let ended = aegis.script(&all, &format!("mkdir -p out; {script}"));
        Self { aegis, ended }
    }

    fn kept(&self) -> PathBuf {
        self.aegis.here().join("kept")
    }

    /// Every entry below the output directory, links with their targets, files with their contents.
    fn tree(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut tree = BTreeMap::new();
        list(&self.kept(), &self.kept(), &mut tree);
        tree
    }

    fn file(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.kept().join("out").join(name.as_ref())
    }

    /// Holds that exactly these came out below `out/`, and that nothing beside the directory was made.
    #[track_caller]
    fn holds(&self, names: &[&str]) -> &Self {
        let found: Vec<String> = self
            .tree()
            .keys()
            .filter_map(|it| it.strip_prefix(b"out/"))
            .map(|it| String::from_utf8_lossy(it).into_owned())
            .collect();
        let mut expected: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
        expected.sort();
        assert_eq!(found, expected, "{:#?}", self.ended);
        let beside: Vec<_> = fs::read_dir(self.aegis.here()).expect("read").flatten().collect();
        assert!(beside.iter().all(|it| it.file_name() == "kept"), "{beside:?}");
        self
    }
}

fn list(root: &Path, directory: &Path, tree: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = path.strip_prefix(root).expect("below").as_os_str().as_bytes().to_vec();
        let kind = entry.file_type().expect("read");
        if kind.is_symlink() {
            let target = fs::read_link(&path).expect("read");
            tree.insert(name, [b"-> ".as_slice(), target.as_os_str().as_bytes()].concat());
        } else if kind.is_dir() {
            list(root, &path, tree);
            tree.insert(name, b"/".to_vec());
        } else {
            assert!(kind.is_file() && !kind.is_fifo(), "{path:?}");
            tree.insert(name, fs::read(&path).unwrap_or_default());
        }
    }
}

#[test]
fn what_a_task_made_comes_out_with_its_content() {
    let collected = Collected::of("echo report >out/report.txt; mkdir out/sub; echo deep >out/sub/x; exit 3");
    collected.ended.code(3);
    collected.holds(&["report.txt", "sub", "sub/x"]);
    assert_eq!(fs::read_to_string(collected.file("sub/x")).expect("read"), "deep\n");
}

#[test]
fn ar_01_links_never_bring_bytes_of_the_host() {
    let collected = Collected::of(
        "cd out; ln -s /etc/passwd a; ln -s /etc/shadow b; ln -s ../../../.. c; ln -s loop2 loop; ln -s loop loop2; \
         ln -s a inside; echo x >real; ln -s real good; ln -s /proc/1/root r; ln -s /.aegis/aegis-init i",
    );
    collected.ended.code(0);
    for (name, content) in collected.tree() {
        let shown = String::from_utf8_lossy(&content).into_owned();
        assert!(!shown.contains("root:"), "{}: {shown}", String::from_utf8_lossy(&name));
        // A link that came out leads nowhere outside.
        if let Some(target) = shown.strip_prefix("-> ") {
            assert!(!target.starts_with('/') && !target.contains(".."), "{target}");
        }
    }
    assert_eq!(fs::read_link(collected.file("good")).expect("a link"), Path::new("real"));
}

#[test]
fn ar_02_a_link_that_is_swapped_while_it_is_collected_stays_inside() {
    // A task that goes on changing its outputs after its command ended: nothing survives the command, so that the
    // last state is one that the command left; a background process tries all the same.
    let collected = Collected::of(
        "echo x >out/f; (setsid bash -c 'while :; do ln -sfn /etc out/d; rm -f out/d; mkdir -p out/d; \
         echo y >out/d/passwd; rm -rf out/d; done' >/dev/null 2>&1 &); sleep 0.3",
    );
    collected.ended.code(0);
    for content in collected.tree().values() {
        assert!(!String::from_utf8_lossy(content).contains("root:"));
    }
}

#[test]
fn ar_03_an_archive_that_a_task_made_stays_an_archive() {
    let collected = Collected::of(
        "python3 - <<'END'
import io, tarfile
with tarfile.open('out/evil.tar', 'w') as archive:
    for name in ('../x', '/abs', 'a/../../x'):
        entry = tarfile.TarInfo(name)
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b'x'))
END",
    );
    collected.ended.code(0);
    collected.holds(&["evil.tar"]);
}

#[test]
fn ar_04_fifos_and_sockets_are_left_out_at_once() {
    let begun = Instant::now();
    let collected = Collected::of(
        "mkfifo out/p; python3 -c 'import socket; socket.socket(1,1).bind(\"out/s\")'; mkfifo out/-q; echo ok >out/f",
    );
    collected.ended.code(0);
    collected.holds(&["f"]);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn ar_05_a_file_larger_than_it_is_does_not_come_out() {
    let before = free_bytes();
    // The first is refused where it is made (a file's size has a limit); the second by its apparent size.
    let collected = Collected::of("truncate -s 1T out/bomb; truncate -s 400M out/sparse; echo ok >out/f");
    assert!(!collected.file("sparse").exists());
    assert_eq!(fs::metadata(collected.file("bomb")).map_or(0, |it| it.len()), 0);
    assert!(collected.file("f").exists(), "{:#?}", collected.ended);
    let moved = before.saturating_sub(free_bytes());
    assert!(moved < 2 << 30, "{moved} bytes of the host went");
}

/// Free bytes where the outputs go; other tests move it too.
fn free_bytes() -> u64 {
    let stat = rustix::fs::statvfs(std::env::temp_dir()).expect("it tells");
    stat.f_bfree * stat.f_frsize
}

#[test]
fn ar_05_content_beyond_the_limit_is_cut_at_whole_files() {
    let collected = Collected::with(
        &["--workspace-size", "600MiB", "--memory", "1GiB"],
        "for i in 1 2 3 4; do head -c 100M /dev/zero >out/$i; done",
    );
    let bytes: u64 =
        (1..=4).filter_map(|it| fs::metadata(collected.file(it.to_string())).ok()).map(|it| it.len()).sum();
    assert!(bytes <= 256 << 20, "{bytes} bytes came out under a limit of 256 MiB");
    assert_eq!(bytes % (100 << 20), 0, "half a file came out");
    assert!(bytes > 0, "{:#?}", collected.ended);
}

#[test]
fn ar_06_depth_and_count_are_bounded() {
    let begun = Instant::now();
    let collected = Collected::of(
        "mkdir -p out/$(printf 'd/%.0s' $(seq 1990)); \
         python3 -c 'for i in range(30000): open(\"out/f%d\" % i, \"w\").close()'; \
         name=$(printf 'n%.0s' $(seq 255)); echo x >out/$name",
    );
    collected.ended.code(0);
    let tree = collected.tree();
    assert!(tree.len() <= 10_001, "{} entries came out under a limit of 10000", tree.len());
    let deepest = tree.keys().map(|it| it.iter().filter(|byte| **byte == b'/').count()).max().unwrap_or(0);
    assert!(deepest <= 66, "{deepest} levels came out under a limit of 64");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn ar_07_names_come_out_as_their_bytes_and_are_shown_escaped() {
    let names: [&[u8]; 12] = [
        b"new\nline",
        b"esc\x1b[31mred",
        b"quote\"",
        b"semi;colon",
        b"cr\r\nlf",
        b"bad\xff\xfeutf8",
        b"-leading",
        b"trailing.",
        "nfc\u{e9}".as_bytes(),
        "nfde\u{301}".as_bytes(),
        "rtl\u{202e}txt".as_bytes(),
        b"...",
    ];
    let list: Vec<String> = names.iter().map(|it| format!("bytes({:?})", it.to_vec())).collect();
    let script = format!(
        "python3 -c 'import os\nfor n in [{}]: open(b\"out/\" + n, \"w\").close()'; mkfifo $'out/p\\e[31m'",
        list.join(",")
    );
    let collected = Collected::of(&script);
    collected.ended.code(0);
    for name in names {
        assert!(collected.file(OsStr::from_bytes(name)).exists(), "{:?}", String::from_utf8_lossy(name));
    }
    assert!(!collected.ended.stderr.contains("\u{1b}[31m"), "{:?}", collected.ended.stderr);
    assert!(!collected.ended.stderr.contains('\u{202e}'), "{:?}", collected.ended.stderr);
}

#[test]
fn ar_08_modes_owners_and_times_are_tamed() {
    let collected = Collected::of(
        "echo x >out/f; chmod 7777 out/f; setfattr -n user.x -v y out/f 2>/dev/null; touch -d @99999999999 out/f; \
         echo y >out/g; touch -d @-1 out/g; chmod 2644 out/g; mkdir out/d; chmod 7700 out/d",
    );
    collected.ended.code(0);
    let here = rustix::process::getuid().as_raw();
    for name in ["f", "g", "d"] {
        let metadata = fs::symlink_metadata(collected.file(name)).expect("it came out");
        assert_eq!(metadata.mode() & 0o7000, 0, "{name}: {:o}", metadata.mode());
        assert_eq!(metadata.uid(), here, "{name}");
    }
    let attributes = Command::new("getfattr").args(["-d", "-m", "-"]).arg(collected.file("f")).output();
    if let Ok(output) = attributes {
        assert!(!String::from_utf8_lossy(&output.stdout).contains("user.x"));
    }
}

fn check_kept_after(flags: &[&str], script: &str, code: i32) {
    let collected = Collected::with(flags, &format!("echo kept >out/f; {script}"));
    collected.ended.code(code);
    collected.holds(&["f"]);
    assert_eq!(fs::read_to_string(collected.file("f")).expect("read"), "kept\n");
}

#[test]
fn ar_12_outputs_come_out_after_a_failure() {
    check_kept_after(&[], "exit 1", 1);
}

#[test]
fn ar_12_outputs_come_out_after_a_timeout() {
    check_kept_after(&["--timeout", "1s", "--grace", "500ms"], "trap '' TERM; sleep 60", 124);
}

#[test]
fn ar_12_outputs_come_out_after_a_kill_for_memory() {
    check_kept_after(&["--memory", "64MiB"], "exec python3 -c 'b=bytearray(1<<30)'", 137);
}

#[test]
fn ar_12_outputs_come_out_after_too_much_output() {
    check_kept_after(&["--output-limit", "64KiB"], "yes", 123);
}

#[test]
fn ar_12_outputs_come_out_after_a_signal() {
    check_kept_after(&[], "kill -SEGV $$", 139);
}

#[test]
fn ar_12_outputs_come_out_after_a_cancel() {
    let aegis = Aegis::new();
    let tag = Tag::new();
    let child = aegis
        .command(&[
            "run",
            "--no-workspace",
            "-o",
            "f",
            "--output-dir",
            "kept",
            "--",
            "bash",
            "-c",
            &format!("echo kept >f; sleep {tag}"),
        ])
        .spawn()
        .expect("aegis starts");
    let sleeps = || processes_with(&tag).iter().any(|it| it.starts_with("sleep"));
    eventually("the task is up", Duration::from_secs(60), sleeps);
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is there");
    finish(child, b"").code(130);
    assert_eq!(fs::read_to_string(aegis.here().join("kept/f")).expect("it came out"), "kept\n");
}

#[test]
fn ar_15_the_engine_is_never_asked_for_an_archive() {
    let aegis = Aegis::new();
    let project = aegis.here().join("project");
    fs::create_dir(&project).expect("a directory");
    fs::write(project.join("input"), "content").expect("written");
    let since = docker(&["info", "--format", "{{.SystemTime}}"]);
    let mut events = Command::new("docker")
        .args(["events", "--since", since.trim(), "--format", "{{.Action}} {{.Actor.Attributes}}"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("docker runs");
    let project = project.to_string_lossy().into_owned();
    let ended = aegis.call(&[
        "run",
        "-w",
        &project,
        "-o",
        "copy",
        "--output-dir",
        "kept",
        "--",
        "cp",
        "input",
        "copy",
    ]);
    ended.code(0);
    assert_eq!(fs::read_to_string(aegis.here().join("kept/copy")).expect("it came out"), "content");
    // The engine tells of a removal last.
    std::thread::sleep(Duration::from_secs(2));
    events.kill().expect("ended");
    let told = events.wait_with_output().expect("waited for");
    let instance = aegis.instance();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let ours: Vec<&str> =
        told.lines().filter(|it| it.contains(&instance)).filter_map(|it| it.split(' ').next()).collect();
    assert!(ours.contains(&"start"), "the events are seen: {told}");
    for action in ["archive-path", "extract-to-dir", "copy", "export", "commit"] {
        assert!(!ours.contains(&action), "{ours:?}");
    }
}

#[test]
fn a_path_that_is_not_there_is_told_and_the_status_stays_the_tasks() {
    let aegis = Aegis::new();
    let ended = aegis.script(&["-o", "absent/*.xml"], "exit 7");
    ended.code(7).says("absent/*.xml");
}

#[test]
fn names_of_outputs_are_bytes_in_the_directory_too() {
    let collected = Collected::of("echo x >out/$'\\xff'");
    collected.ended.code(0);
    let names: Vec<Vec<u8>> = fs::read_dir(collected.kept().join("out"))
        .expect("read")
        .flatten()
        .map(|it| it.file_name().into_vec())
        .collect();
    assert_eq!(names, [b"\xff".to_vec()]);
}
