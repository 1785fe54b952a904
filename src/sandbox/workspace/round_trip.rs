//! Scans and sends real trees to a writer that makes of the messages what init makes of them, and compares.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use aegis_init::frame::{REQUEST_BYTES_MAX, encode};
use aegis_init::wire::{CHUNK_BYTES_MAX, Entry, EntryKind, Request};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::sandbox::workspace::{Choice, Limits, Sent, Stopped, Summary, WorkspaceError, scan, send};

pub(super) const LIMITS: Limits = Limits { bytes: 64 << 20, files: 10_000 };

/// Two directories: the project, and where its copy goes.
pub(super) struct Place {
    kept: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let kept = tempfile::tempdir().expect("a directory");
        fs::create_dir(kept.path().join("project")).expect("a directory");
        Self { kept }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.kept.path()).expect("its path").join(name)
    }

    fn project(&self) -> PathBuf {
        self.path("project")
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.project().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, content).expect("a file");
    }

    /// Copies the directory `name` to `copy`.
    pub(super) fn copy(&self, name: &str) -> (Summary, Sent) {
        self.copy_with(name, &Choice::PLAIN)
    }

    /// The same with a choice.
    pub(super) fn copy_with(&self, name: &str, choice: &Choice) -> (Summary, Sent) {
        let plan = scan(&self.path(name), LIMITS, choice).expect("it can be copied");
        let mut writer = Writer::new(&self.path("copy"));
        let sent = send(&plan, &mut |it| writer.take(it)).expect("it is sent");
        assert!(writer.ended);
        (plan.summary.clone(), sent)
    }

    /// Which paths come out of a copy of the project.
    fn copied(&self) -> Vec<String> {
        self.copy("project");
        tree(&self.path("copy")).into_keys().collect()
    }

    fn refusal(&self, limits: Limits) -> String {
        scan(&self.project(), limits, &Choice::PLAIN).expect_err("a refusal").to_string()
    }
}

/// Makes of the messages what init makes of them.
struct Writer {
    root: PathBuf,
    file: Option<(File, u64)>,
    directories: HashMap<PathBuf, Entry>,
    ended: bool,
}

impl Writer {
    fn new(root: &Path) -> Self {
        fs::create_dir(root).expect("a directory");
        Self { root: root.to_path_buf(), file: None, directories: HashMap::new(), ended: false }
    }

    fn take(&mut self, request: Request) -> Result<(), Stopped> {
        assert!(encode(&request, 0, REQUEST_BYTES_MAX).is_ok(), "every message fits a frame");
        match request {
            Request::Put(entries) => {
                let last = entries.len() - 1;
                for (index, entry) in entries.into_iter().enumerate() {
                    assert_eq!(self.left(), 0, "the file before is whole");
                    self.make(&entry);
                    assert!(index == last || self.left() == 0, "only the last file goes on in chunks");
                }
            }
            Request::PutChunk(bytes) => {
                assert!(bytes.len() <= CHUNK_BYTES_MAX);
                let (file, left) = self.file.as_mut().expect("a file before its chunk");
                file.write_all(&bytes).expect("it is written");
                *left -= bytes.len() as u64;
                if *left == 0 {
                    self.file = None;
                }
            }
            Request::PutEnd => {
                assert_eq!(self.left(), 0);
                for (path, entry) in &self.directories {
                    set_meta(path, entry);
                }
                self.ended = true;
            }
            other => panic!("{other:?} is no workspace message"),
        }
        // Times are set as soon as a file is whole; a chunked one gets them at the end like the directories.
        Ok(())
    }

    fn left(&self) -> u64 {
        self.file.as_ref().map_or(0, |(_, left)| *left)
    }

    fn make(&mut self, entry: &Entry) {
        let path = self.root.join(std::ffi::OsStr::from_bytes(&entry.path));
        match &entry.kind {
            EntryKind::Dir => {
                fs::create_dir(&path).expect("parents come first, and once");
                self.directories.insert(path, entry.clone());
            }
            EntryKind::Symlink(target) => {
                symlink(std::ffi::OsStr::from_bytes(target), &path).expect("a link");
                let times = times(entry);
                utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("its time");
            }
            EntryKind::Hardlink(first) => {
                let first = self.root.join(std::ffi::OsStr::from_bytes(first));
                fs::hard_link(first, &path).expect("the first name is there");
            }
            EntryKind::File { size, data } => {
                let mut file = File::create_new(&path).expect("a new file");
                file.write_all(data).expect("it is written");
                let left = size - data.len() as u64;
                if left == 0 {
                    set_meta(&path, entry);
                } else {
                    self.file = Some((file, left));
                    self.directories.insert(path, entry.clone());
                }
            }
        }
    }
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime_s, tv_nsec: entry.mtime_ns.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn set_meta(path: &Path, entry: &Entry) {
    fs::set_permissions(path, fs::Permissions::from_mode(entry.mode)).expect("its mode");
    utimensat(CWD, path, &times(entry), AtFlags::empty()).expect("its time");
}

/// All that is kept of an entry: mode, time, number of names, content or target.
type Kept = (u32, i64, i64, u64, Vec<u8>);

fn tree(root: &Path) -> BTreeMap<String, Kept> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let meta = fs::symlink_metadata(&path).expect("it is there");
            let mut names = meta.nlink();
            let content = if meta.is_dir() {
                names = 0;
                pending.push(path.clone());
                Vec::new()
            } else if meta.is_symlink() {
                fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes()
            } else {
                fs::read(&path).unwrap_or_default()
            };
            let name = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
            found.insert(name, (meta.mode(), meta.mtime(), meta.mtime_nsec(), names, content));
        }
    }
    found
}

fn at(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("its time");
}

#[test]
fn a_copy_keeps_contents_modes_times_links_and_names() {
    let place = Place::new();
    let project = place.project();
    place.write("small", "content");
    place.write("empty", "");
    place.write("big", vec![7; 3 * CHUNK_BYTES_MAX + 1]);
    place.write("edge", vec![8; CHUNK_BYTES_MAX]);
    place.write("dir/sub/script", "#!/bin/sh\n");
    place.write(".hidden/.file", "x");
    place.write("node_modules/a/index.js", "x");
    place.write("build/target/kept", "x");
    fs::write(project.join(std::ffi::OsStr::from_bytes(b"\xff\n\x1b")), "odd").expect("a file");
    fs::hard_link(project.join("big"), project.join("dir/zweite")).expect("a hard link");
    symlink("/etc/passwd", project.join("absolute")).expect("a link");
    symlink("dir", project.join("to-dir")).expect("a link");
    symlink("nowhere", project.join("dangling")).expect("a link");
    fs::set_permissions(project.join("dir/sub/script"), fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::set_permissions(project.join("empty"), fs::Permissions::from_mode(0o2640)).expect("a mode");
    at(&project.join("small"), -5, 999_999_999);
    at(&project.join("edge"), 5_000_000_000, 1);
    at(&project.join("big"), 1_600_000_000, 123_456_789);
    at(&project.join("dangling"), 1_500_000_000, 42);
    fs::set_permissions(project.join("dir/sub"), fs::Permissions::from_mode(0o1777)).expect("a mode");
    at(&project.join("dir/sub"), 1_400_000_000, 9);

    let (summary, sent) = place.copy("project");
    assert_eq!(tree(&place.path("copy")), tree(&project));
    assert_eq!((summary.files, summary.directories, summary.symlinks), (10, 7, 3));
    assert_eq!((summary.excluded, summary.skipped), (0, 0));
    assert_eq!(summary.bytes, sent.bytes);
    assert_eq!(sent.entries, 20);
}

#[test]
fn many_small_files_share_messages() {
    let place = Place::new();
    for index in 0..500 {
        place.write(&format!("d/{index}"), "some content");
    }
    let plan = scan(&place.project(), LIMITS, &Choice::PLAIN).expect("it can be copied");
    let mut messages = 0;
    send(&plan, &mut |_| {
        messages += 1;
        Ok(())
    })
    .expect("it is sent");
    assert_eq!(messages, 2);
}

#[test]
fn long_paths_of_empty_files_do_not_overfill_a_message() {
    let place = Place::new();
    let deep = vec!["d".repeat(200); 10].join("/");
    for index in 0..300 {
        place.write(&format!("{deep}/{index}"), "");
    }
    place.copy("project");
}

#[test]
fn special_files_are_skipped_and_counted() {
    let place = Place::new();
    rustix::fs::mknodat(CWD, place.project().join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .expect("a fifo");
    let _socket = std::os::unix::net::UnixListener::bind(place.project().join("socket")).expect("a socket");
    place.write("file", "");
    let (summary, _) = place.copy("project");
    assert_eq!(summary.skipped, 2);
    assert_eq!(tree(&place.path("copy")).len(), 1);
}

#[test]
fn built_in_rules_leave_caches_and_outputs_out() {
    let place = Place::new();
    for path in ["aegis-out/x", "Cargo.toml", "target/debug/a", "a/__pycache__/b.pyc", "a/aegis-out/x", "a/b"]
    {
        place.write(path, "");
    }
    assert_eq!(place.copied(), ["Cargo.toml", "a", "a/b"]);
}

#[test]
fn patterns_leave_out_and_take_in_and_the_deepest_decides() {
    let place = Place::new();
    place.write(".aegisignore", "# a comment\n*.log\n/only-here\nbuild/\n!target/\n");
    place.write("sub/.aegisignore", "!keep.log\nsecret-*\n");
    for path in [
        "a.log",
        "only-here",
        "sub/only-here",
        "build/x",
        "sub/build",
        "sub/keep.log",
        "sub/b.log",
        "sub/secret-1",
    ] {
        place.write(path, "");
    }
    place.write("Cargo.toml", "");
    place.write("target/kept", "");
    assert_eq!(
        place.copied(),
        [
            ".aegisignore",
            "Cargo.toml",
            "sub",
            "sub/.aegisignore",
            "sub/build",
            "sub/keep.log",
            "sub/only-here",
            "target",
            "target/kept"
        ]
    );
}

#[test]
fn other_ignore_files_mean_nothing() {
    let place = Place::new();
    for name in [".gitignore", ".ignore", ".dockerignore"] {
        place.write(name, "*\n");
    }
    place.write("a", "");
    assert_eq!(place.copied(), [".dockerignore", ".gitignore", ".ignore", "a"]);
}

#[test]
fn a_pattern_for_builds_leaves_a_branch_of_that_name_alone() {
    let place = Place::new();
    place.write(".aegisignore", "build/\n.git/lfs\n");
    place.write(".git/refs/heads/build/x", "");
    place.write(".git/lfs/big", "");
    assert_eq!(
        place.copied(),
        [
            ".aegisignore",
            ".git",
            ".git/refs",
            ".git/refs/heads",
            ".git/refs/heads/build",
            ".git/refs/heads/build/x"
        ]
    );
}

fn check_ignore_refused(content: &[u8], expected: &str) {
    let place = Place::new();
    place.write("a/.aegisignore", content);
    let refusal = place.refusal(LIMITS);
    assert!(refusal.contains(expected), "{refusal}");
}

#[test]
fn a_bad_pattern_is_named_with_its_line() {
    check_ignore_refused(b"ok\n{a\n", "`a/.aegisignore` line 2: ");
}

#[test]
fn a_pattern_that_is_not_utf8_is_refused() {
    check_ignore_refused(b"\xff\n", "`a/.aegisignore` line 1: it is not UTF-8");
}

#[test]
fn a_huge_pattern_file_is_refused() {
    check_ignore_refused(&[b'a'; 300_000], "it is longer than 262144 bytes");
}

#[test]
fn a_pattern_file_that_is_a_link_or_a_fifo_is_refused() {
    let place = Place::new();
    symlink("/etc/passwd", place.project().join(".aegisignore")).expect("a link");
    assert!(place.refusal(LIMITS).contains("it is a link"));
    fs::remove_file(place.project().join(".aegisignore")).expect("it is gone");
    rustix::fs::mknodat(
        CWD,
        place.project().join(".aegisignore"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .expect("a fifo");
    assert!(place.refusal(LIMITS).contains("it is not a regular file"));
}

#[test]
fn too_many_bytes_are_refused_before_anything_starts() {
    let place = Place::new();
    place.write("data/raw/huge", vec![0; 2 << 20]);
    place.write("src/small", "x");
    let refusal = place.refusal(Limits { bytes: 1 << 20, files: 100 });
    assert!(
        refusal.contains("takes 2.1 MiB and its limit is 1 MiB (largest: `data/raw` 2 MiB, `src` 4 KiB)"),
        "{refusal}"
    );
    assert!(
        refusal.contains("`.aegisignore`") && refusal.contains("`filesystem.workspace_size`"),
        "{refusal}"
    );
}

#[test]
fn following_the_advice_on_too_many_bytes_helps() {
    let place = Place::new();
    place.write("data/raw/huge", vec![0; 2 << 20]);
    place.write(".aegisignore", "data/raw\n");
    assert!(scan(&place.project(), Limits { bytes: 1 << 20, files: 100 }, &Choice::PLAIN).is_ok());
}

#[test]
fn too_many_files_are_refused_and_counted() {
    let place = Place::new();
    for index in 0..120 {
        place.write(&format!("many/{index}"), "");
    }
    let refusal = place.refusal(Limits { bytes: 1 << 20, files: 100 });
    assert!(
        refusal.contains("holds 121 files and its limit is 100 (largest: `many` 120 files)"),
        "{refusal}"
    );
}

#[test]
fn a_directory_too_large_to_count_is_refused_all_the_same() {
    let place = Place::new();
    for index in 0..10_002 {
        File::create(place.project().join(index.to_string())).expect("a file");
    }
    assert!(place.refusal(Limits { bytes: 1 << 20, files: 100 }).contains("holds more than 10000 files"));
}

#[test]
fn a_sparse_file_counts_with_its_apparent_size() {
    let place = Place::new();
    place.write("sparse", "");
    File::options()
        .write(true)
        .open(place.project().join("sparse"))
        .expect("it opens")
        .set_len(1 << 42)
        .expect("it grows");
    assert!(place.refusal(LIMITS).contains("takes 4096 GiB"));
}

fn check_changed(change: impl Fn(&Path)) {
    let place = Place::new();
    place.write("dir/file", vec![1; 2 * CHUNK_BYTES_MAX]);
    let plan = scan(&place.project(), LIMITS, &Choice::PLAIN).expect("it can be copied");
    change(&place.project());
    let refusal = send(&plan, &mut |_| Ok(())).expect_err("a refusal");
    assert!(matches!(&refusal, WorkspaceError::Changed { path } if path.starts_with("dir")), "{refusal}");
}

#[test]
fn a_file_that_went_away_is_named() {
    check_changed(|project| fs::remove_file(project.join("dir/file")).expect("it is gone"));
}

#[test]
fn a_file_that_became_a_link_is_not_followed() {
    check_changed(|project| {
        fs::remove_file(project.join("dir/file")).expect("it is gone");
        symlink("/etc/passwd", project.join("dir/file")).expect("a link");
    });
}

#[test]
fn a_directory_that_became_a_link_is_not_followed() {
    check_changed(|project| {
        fs::rename(project.join("dir"), project.join("moved")).expect("it moves");
        symlink("/etc", project.join("dir")).expect("a link");
    });
}

#[test]
fn a_file_that_became_a_fifo_does_not_hang() {
    check_changed(|project| {
        fs::remove_file(project.join("dir/file")).expect("it is gone");
        rustix::fs::mknodat(CWD, project.join("dir/file"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("a fifo");
    });
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_named() {
    let place = Place::new();
    place.write("file", vec![1; 2 * CHUNK_BYTES_MAX]);
    let plan = scan(&place.project(), LIMITS, &Choice::PLAIN).expect("it can be copied");
    let path = place.project().join("file");
    let sent = send(&plan, &mut |_| {
        File::options().write(true).open(&path).expect("it opens").set_len(10).expect("it shrinks");
        Ok(())
    });
    assert!(
        sent.expect_err("a refusal")
            .to_string()
            .contains("`file` in the workspace changed while it was copied")
    );
}

#[test]
fn a_receiver_that_stops_ends_the_sending() {
    let place = Place::new();
    place.write("file", "x");
    let plan = scan(&place.project(), LIMITS, &Choice::PLAIN).expect("it can be copied");
    assert!(matches!(send(&plan, &mut |_| Err(Stopped)), Err(WorkspaceError::Stopped)));
}

#[test]
fn an_unreadable_file_is_named_with_its_fix() {
    let place = Place::new();
    place.write("dir/secret", "x");
    fs::set_permissions(place.project().join("dir/secret"), fs::Permissions::from_mode(0o200))
        .expect("a mode");
    fs::set_permissions(place.kept.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let project = place.project();
    // Root may read everything, so a thread that gives that up looks at it.
    let refusal = std::thread::spawn(move || {
        if rustix::process::geteuid().is_root() {
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("root may become anybody");
        }
        scan(&project, LIMITS, &Choice::PLAIN).expect_err("a refusal").to_string()
    });
    assert_eq!(
        refusal.join().expect("it ends"),
        "`dir/secret` in the workspace cannot be read; make it readable (`chmod u+r`), or leave it out with the line `/dir/secret` in `.aegisignore`"
    );
}
