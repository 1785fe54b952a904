//! Content in, single files, and what is collected at the end.

use serde_bytes::ByteBuf;

use aegis_init::wire::{
    CHUNK_BYTES_MAX, Collect, DropReason, Entry, EntryKind, FILE_BYTES_MAX, Gone, OutDone, Reply, Request,
};

use crate::host::Sandbox;

const MTIME_S: i64 = 1_000_000_000;
const MTIME_NS: u32 = 123_456_789;

fn entry(path: &str, mode: u32, kind: EntryKind) -> Entry {
    Entry { path: ByteBuf::from(path), mode, mtime_s: MTIME_S, mtime_ns: MTIME_NS, kind }
}

fn file(path: &str, mode: u32, content: &[u8]) -> Entry {
    let data = ByteBuf::from(&content[..content.len().min(CHUNK_BYTES_MAX)]);
    entry(path, mode, EntryKind::File { size: content.len() as u64, data })
}

/// What was collected, with the content of large files joined.
struct Collected {
    entries: Vec<Entry>,
    done: OutDone,
}

impl Collected {
    fn paths(&self) -> Vec<String> {
        self.entries.iter().map(|it| String::from_utf8_lossy(&it.path).into_owned()).collect()
    }

    fn dropped(&self) -> Vec<(String, DropReason)> {
        let named = self.done.dropped.iter();
        named.map(|(path, reason)| (String::from_utf8_lossy(path).into_owned(), *reason)).collect()
    }
}

fn orders(patterns: &[&str]) -> Collect {
    Collect {
        patterns: patterns.iter().map(|it| ByteBuf::from(*it)).collect(),
        entries_max: 10_000,
        bytes_max: 100 << 20,
        depth_max: 32,
        timeout_ms: 10_000,
    }
}

fn collect(sandbox: &mut Sandbox, orders: Collect) -> Collected {
    sandbox.request(&Request::Collect(orders));
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        match sandbox.reply() {
            Reply::Out(batch) => entries.extend(batch),
            Reply::OutChunk(chunk) => match entries.last_mut().map(|it| &mut it.kind) {
                Some(EntryKind::File { data, .. }) => data.extend_from_slice(&chunk),
                other => panic!("a piece of {other:?}"),
            },
            Reply::OutDone(done) => return Collected { entries, done },
            Reply::Exited { .. } => {}
            other => panic!("not collected but {other:?}"),
        }
    }
}

/// Makes files by a script, collects, and looks at the paths that came.
fn check_paths(script: &str, patterns: &[&str], expected: &[&str]) {
    let mut sandbox = Sandbox::attested();
    assert_eq!(sandbox.run(script).error, "");
    assert_eq!(collect(&mut sandbox, orders(patterns)).paths(), expected, "{patterns:?}");
}

fn check_dropped(script: &str, orders: Collect, expected: &[(&str, DropReason)]) {
    let mut sandbox = Sandbox::attested();
    assert_eq!(sandbox.run(script).error, "");
    let collected = collect(&mut sandbox, orders);
    let expected: Vec<(String, DropReason)> =
        expected.iter().map(|(path, it)| (path.to_string(), *it)).collect();
    assert_eq!(collected.dropped(), expected);
    assert_eq!(collected.done.dropped_count, expected.len() as u64);
}

fn put(sandbox: &mut Sandbox, entries: Vec<Entry>) -> Reply {
    sandbox.request(&Request::Put(entries));
    sandbox.request(&Request::PutEnd);
    sandbox.reply()
}

fn check_put_refused(path: &str, expected: i32) {
    let mut sandbox = Sandbox::attested();
    sandbox.run("ln -s /tmp link; ln -s absent dangling; echo x >there");
    let good = file("good", 0o644, b"good");
    let failed = Some((ByteBuf::from(path), expected));
    let reply = put(&mut sandbox, vec![good, file(path, 0o644, b"evil"), file("later", 0o644, b"")]);
    assert_eq!(reply, Reply::PutDone { entries: 1, bytes: 4, failed });
    assert_eq!(sandbox.run("ls /tmp; ls later 2>/dev/null").output, "");
}

#[test]
fn what_went_in_comes_out_the_same() {
    let large: Vec<u8> = (0..CHUNK_BYTES_MAX * 3 + 17).map(|it| (it % 251) as u8).collect();
    let sent = vec![
        entry("locked", 0o555, EntryKind::Dir),
        file("locked/a", 0o400, b"alpha"),
        entry("locked/sub", 0o750, EntryKind::Dir),
        file("locked/sub/tool", 0o755, b"#!/bin/sh\n"),
        entry("locked/sub/up", 0o777, EntryKind::Symlink(ByteBuf::from("../a"))),
        entry("locked/sub/out", 0o777, EntryKind::Symlink(ByteBuf::from("/etc/passwd"))),
        file("locked/zero", 0o600, b""),
    ];
    let mut sandbox = Sandbox::attested();
    sandbox.request(&Request::Put(sent.clone()));
    sandbox.request(&Request::Put(vec![file("large", 0o640, &large)]));
    for chunk in large[CHUNK_BYTES_MAX..].chunks(CHUNK_BYTES_MAX) {
        sandbox.request(&Request::PutChunk(ByteBuf::from(chunk)));
    }
    let more = vec![
        entry("locked/twin", 0o400, EntryKind::Hardlink(ByteBuf::from("locked/a"))),
        file("odd", 0o6711, b"set-id"),
    ];
    let reply = put(&mut sandbox, more);
    let bytes = large.len() as u64 + 5 + 10 + 6;
    assert_eq!(reply, Reply::PutDone { entries: 10, bytes, failed: None });

    let shown =
        sandbox.run("stat -c '%n %a %h %.9Y' large locked locked/* locked/sub/* odd; readlink locked/sub/*");
    let time = "1000000000.123456789";
    let expected = [
        format!("large 640 1 {time}"),
        format!("locked 555 3 {time}"),
        format!("locked/a 400 2 {time}"),
        format!("locked/sub 750 2 {time}"),
        format!("locked/twin 400 2 {time}"),
        format!("locked/zero 600 1 {time}"),
        format!("locked/sub/out 777 1 {time}"),
        format!("locked/sub/tool 755 1 {time}"),
        format!("locked/sub/up 777 1 {time}"),
        format!("odd 6711 1 {time}"),
        "/etc/passwd".to_owned(),
        "../a".to_owned(),
    ];
    assert_eq!(shown.output.lines().collect::<Vec<_>>(), expected);

    let collected = collect(&mut sandbox, orders(&["locked", "large"]));
    let mut expected = sent;
    expected.insert(
        0,
        entry("large", 0o640, EntryKind::File { size: large.len() as u64, data: ByteBuf::from(large) }),
    );
    expected.push(file("locked/twin", 0o400, b"alpha"));
    expected.sort_by(|one, other| one.path.cmp(&other.path));
    let mut entries = collected.entries;
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    assert_eq!(entries, expected);
    assert_eq!(collected.done, OutDone::default());
}

/// Messages of 20 directories with 60 small files each, as a host sends them.
fn many() -> Vec<Vec<Entry>> {
    let directory = |number: u32| {
        let files = (0..60).map(|it| {
            let path = format!("d{number}/f{it}");
            file(&path, 0o640, path.as_bytes())
        });
        let made = entry(&format!("d{number}"), 0o550, EntryKind::Dir);
        std::iter::once(made).chain(files).collect()
    };
    (0..20).map(directory).collect()
}

#[test]
fn what_two_threads_write_is_all_there_with_its_looks_before_its_other_names_are() {
    let mut sandbox = Sandbox::attested();
    let mut bytes = 0;
    for (number, mut message) in many().into_iter().enumerate() {
        bytes += (0..60).map(|it| format!("d{number}/f{it}").len() as u64).sum::<u64>();
        // Of the file that was handed over last.
        let first = ByteBuf::from(format!("d{number}/f59"));
        message.push(entry(&format!("name{number}"), 0o640, EntryKind::Hardlink(first)));
        sandbox.request(&Request::Put(message));
    }
    sandbox.request(&Request::PutEnd);
    assert_eq!(sandbox.reply(), Reply::PutDone { entries: 20 * 62, bytes, failed: None });
    let looks = sandbox.run("find d* -type f ! -name f59 -printf '%m %n %T@\\n' | sort | uniq -c");
    assert_eq!(looks.output.trim(), format!("{} 640 1 {MTIME_S}.1234567890", 20 * 59));
    let strange = sandbox.run(
        "stat -c '%a %h %Y' d* name* | sort | uniq -c; for it in d*/f*; do [ \"$(cat $it)\" = $it ] || echo $it; done",
    );
    let lines: Vec<_> = strange.output.lines().map(str::trim).collect();
    assert_eq!(lines, [format!("20 550 2 {MTIME_S}"), format!("20 640 2 {MTIME_S}")]);
}

#[test]
fn what_the_second_thread_cannot_write_is_told() {
    let mut sandbox = Sandbox::attested();
    for mut message in many() {
        // The last of them is there already.
        let again = message[60].clone();
        message.push(again);
        sandbox.request(&Request::Put(message));
    }
    sandbox.request(&Request::PutEnd);
    let Reply::PutDone { failed: Some((path, errno)), .. } = sandbox.reply() else {
        panic!("nothing failed")
    };
    assert!(path.ends_with(b"/f59"), "{path:?}");
    assert_eq!(errno, libc::EEXIST);
}

#[test]
fn a_command_amid_content_finds_init_with_one_thread() {
    let mut sandbox = Sandbox::attested();
    for message in many() {
        sandbox.request(&Request::Put(message));
    }
    let threads = sandbox.run("ls /proc/$PPID/task | wc -l; ls -d d*/f* | wc -l");
    assert_eq!(threads.output, "1\n1200\n");
}

#[test]
fn content_cannot_leave_the_workspace() {
    for path in ["../evil", "/tmp/evil", "a/../../evil", "", ".", "a//b", "sub/"] {
        check_put_refused(path, libc::EINVAL);
    }
    check_put_refused("link/evil", libc::ENOTDIR);
    check_put_refused("absent/evil", libc::ENOENT);
}

#[test]
fn content_replaces_nothing_and_follows_nothing() {
    check_put_refused("there", libc::EEXIST);
    check_put_refused("dangling", libc::EEXIST);
    check_put_refused("link", libc::EEXIST);
}

fn gone(path: &str, directory: bool) -> Gone {
    Gone { path: ByteBuf::from(path), directory }
}

#[test]
fn what_goes_makes_room_for_what_comes_below_a_directory_that_was_closed() {
    let mut sandbox = Sandbox::attested();
    sandbox.run("mkdir -p d/sub && touch d/sub/file d/keep && chmod 500 d d/sub");
    sandbox.request(&Request::Put(vec![
        entry("d", 0o510, EntryKind::Dir),
        entry("d/sub", 0o700, EntryKind::Dir),
    ]));
    sandbox.request(&Request::Remove(vec![gone("d/sub/file", false), gone("d/sub", true)]));
    let again = vec![entry("d/sub", 0o750, EntryKind::Dir), file("d/sub/new", 0o644, b"new")];
    sandbox.request(&Request::Put(again));
    // The first directory of that name is gone, and with it what was to be set at the end.
    sandbox.request(&Request::PutEnd);
    assert_eq!(sandbox.reply(), Reply::PutDone { entries: 4, bytes: 3, failed: None });
    let shown = sandbox.run("stat -c '%n %a %Y' d d/*; cat d/sub/new");
    assert_eq!(
        shown.output,
        format!("d 510 {MTIME_S}\nd/keep 644 {}\nd/sub 750 {MTIME_S}\nnew", time(&mut sandbox, "d/keep"))
    );
}

fn time(sandbox: &mut Sandbox, path: &str) -> String {
    sandbox.run(&format!("stat -c %Y {path}")).output.trim().to_owned()
}

#[test]
fn a_removal_stays_inside_and_takes_what_it_was_told() {
    for (path, directory, expected) in [
        ("../tmp", true, libc::EINVAL),
        ("link/x", false, libc::ENOTDIR),
        ("absent", false, libc::ENOENT),
        ("full", true, libc::ENOTEMPTY),
        ("there", true, libc::ENOTDIR),
    ] {
        let mut sandbox = Sandbox::attested();
        sandbox.run("ln -s /tmp link; touch /tmp/x there; mkdir -p full/er");
        sandbox.request(&Request::Remove(vec![gone(path, directory), gone("there", false)]));
        sandbox.request(&Request::PutEnd);
        let failed = Some((ByteBuf::from(path), expected));
        assert_eq!(sandbox.reply(), Reply::PutDone { entries: 0, bytes: 0, failed });
        assert_eq!(sandbox.run("ls -d /tmp/x there full").output, "/tmp/x\nfull\nthere\n");
    }
}

#[test]
fn a_hard_link_stays_inside() {
    let mut sandbox = Sandbox::attested();
    let link = entry("link", 0o644, EntryKind::Hardlink(ByteBuf::from("../tmp/x")));
    let failed = Some((ByteBuf::from("link"), libc::EINVAL));
    assert_eq!(put(&mut sandbox, vec![link]), Reply::PutDone { entries: 0, bytes: 0, failed });
}

#[test]
fn a_file_shorter_or_longer_than_announced_is_refused() {
    let mut sandbox = Sandbox::attested();
    let short = entry("short", 0o644, EntryKind::File { size: 9, data: ByteBuf::from("12345") });
    let failed = Some((ByteBuf::from("short"), libc::EPROTO));
    assert_eq!(put(&mut sandbox, vec![short]), Reply::PutDone { entries: 1, bytes: 5, failed });
    let long = entry("long", 0o644, EntryKind::File { size: 2, data: ByteBuf::from("12345") });
    let failed = Some((ByteBuf::from("long"), libc::EPROTO));
    assert_eq!(put(&mut sandbox, vec![long]), Reply::PutDone { entries: 0, bytes: 0, failed });
    sandbox.request(&Request::PutChunk(ByteBuf::from("stray")));
    sandbox.request(&Request::PutEnd);
    let failed = Some((ByteBuf::new(), libc::EPROTO));
    assert_eq!(sandbox.reply(), Reply::PutDone { entries: 0, bytes: 0, failed });
}

#[test]
fn a_full_workspace_says_so() {
    let mut sandbox = Sandbox::attested();
    sandbox.run("cat /dev/zero >fill 2>/dev/null");
    let failed = Some((ByteBuf::from("more"), libc::ENOSPC));
    let reply = put(&mut sandbox, vec![file("more", 0o644, &[7; 10_000])]);
    assert_eq!(reply, Reply::PutDone { entries: 0, bytes: 0, failed });
}

#[test]
fn many_small_files_go_in_quickly() {
    let mut sandbox = Sandbox::attested();
    let mut entries = Vec::new();
    for directory in 0..100 {
        entries.push(entry(&format!("d{directory}"), 0o755, EntryKind::Dir));
        entries.extend((0..100).map(|it| file(&format!("d{directory}/f{it}"), 0o644, b"content\n")));
    }
    let begun = std::time::Instant::now();
    let reply = put(&mut sandbox, entries);
    println!("10,100 entries in {:?}", begun.elapsed());
    assert_eq!(reply, Reply::PutDone { entries: 10_100, bytes: 80_000, failed: None });
}

fn read(sandbox: &mut Sandbox, path: &str, offset: u64, length_max: u32) -> Result<(u64, String), i32> {
    sandbox.request(&Request::Read { id: 5, path: ByteBuf::from(path), offset, length_max });
    match sandbox.reply() {
        Reply::FileContent { id: 5, result } => {
            result.map(|(size, bytes)| (size, String::from_utf8_lossy(&bytes).into_owned()))
        }
        other => panic!("not read but {other:?}"),
    }
}

fn write(sandbox: &mut Sandbox, path: &str, mode: u32, data: &[u8]) -> Result<(), i32> {
    let (path, data) = (ByteBuf::from(path), ByteBuf::from(data));
    sandbox.request(&Request::Write { id: 6, path, mode, data });
    match sandbox.reply() {
        Reply::FileWritten { id: 6, result } => result,
        other => panic!("not written but {other:?}"),
    }
}

#[test]
fn a_file_is_read_in_parts() {
    let mut sandbox = Sandbox::attested();
    sandbox.run("printf 0123456789 >f; ln -s f link; head -c 2M /dev/zero >large");
    assert_eq!(read(&mut sandbox, "f", 0, 100), Ok((10, "0123456789".to_owned())));
    assert_eq!(read(&mut sandbox, "/workspace/f", 3, 4), Ok((10, "3456".to_owned())));
    assert_eq!(read(&mut sandbox, "link", 10, 4), Ok((10, String::new())));
    assert_eq!(read(&mut sandbox, "f", u64::MAX, u32::MAX), Ok((10, String::new())));
    let (size, bytes) = read(&mut sandbox, "large", 0, u32::MAX).expect("it is there");
    assert_eq!((size, bytes.len()), (2 << 20, FILE_BYTES_MAX));
}

#[test]
fn only_regular_files_are_read() {
    let mut sandbox = Sandbox::attested();
    sandbox.run("mkfifo fifo; mkdir directory");
    assert_eq!(read(&mut sandbox, "fifo", 0, 9), Err(libc::EINVAL));
    assert_eq!(read(&mut sandbox, "directory", 0, 9), Err(libc::EISDIR));
    assert_eq!(read(&mut sandbox, "/dev/zero", 0, 9), Err(libc::EINVAL));
    assert_eq!(read(&mut sandbox, "absent", 0, 9), Err(libc::ENOENT));
    assert_eq!(read(&mut sandbox, "", 0, 9), Err(libc::EINVAL));
}

#[test]
fn planted_links_to_the_kernels_and_the_engines_files_are_refused() {
    let mut sandbox = Sandbox::attested();
    let targets =
        ["/proc/self/mem", "/proc/1/mem", "/proc/self/environ", "/proc/version", "/.aegis/aegis-init"];
    for (index, target) in targets.iter().enumerate() {
        sandbox.run(&format!("ln -s {target} link{index}"));
        let result = read(&mut sandbox, &format!("link{index}"), 0, 9);
        assert!(matches!(result, Err(libc::EPERM | libc::EACCES)), "{target}: {result:?}");
    }
    sandbox.run("ln -s /proc/self/fd/0 fd; ln -s /proc/self/fd kernel; ln -s /.aegis slot");
    assert_ne!(write(&mut sandbox, "kernel/x", 0o644, b"x"), Ok(()));
    assert_ne!(write(&mut sandbox, "slot/x", 0o644, b"x"), Ok(()));
    assert_eq!(write(&mut sandbox, "fd", 0o644, b"replaced"), Ok(()));
    assert_eq!(read(&mut sandbox, "fd", 0, 99), Ok((8, "replaced".to_owned())));
}

#[test]
fn a_file_is_written_whole_with_its_parents() {
    let mut sandbox = Sandbox::attested();
    assert_eq!(write(&mut sandbox, "a/b/c", 0o640, b"first"), Ok(()));
    assert_eq!(write(&mut sandbox, "/workspace/a/b/c", 0o755, b"second"), Ok(()));
    let shown = sandbox.run("cat a/b/c; stat -c ' %a' a a/b/c; ls -A a/b");
    assert_eq!(shown.output, "second 755\n 755\nc\n");
}

#[test]
fn a_write_keeps_to_its_bounds() {
    let mut sandbox = Sandbox::attested();
    sandbox.run("mkdir directory; mkfifo fifo");
    assert_eq!(write(&mut sandbox, "f", 0o1777, b""), Err(libc::EPERM));
    assert_eq!(write(&mut sandbox, "f", 0o644, &vec![0; FILE_BYTES_MAX + 1]), Err(libc::EPERM));
    assert_eq!(write(&mut sandbox, "../f", 0o644, b""), Err(libc::EINVAL));
    assert_eq!(write(&mut sandbox, "directory", 0o644, b""), Err(libc::EISDIR));
    assert_eq!(write(&mut sandbox, "fifo/f", 0o644, b""), Err(libc::ENOTDIR));
    assert_eq!(write(&mut sandbox, "/etc/f", 0o644, b""), Err(libc::EROFS));
    assert_eq!(write(&mut sandbox, "fifo", 0o644, b"x"), Ok(()));
    assert_eq!(write(&mut sandbox, "/small/f", 0o644, &vec![0; FILE_BYTES_MAX]), Ok(()));
    assert_eq!(write(&mut sandbox, "/small/g", 0o644, b"x"), Err(libc::ENOSPC));
    assert_eq!(sandbox.run("ls -A /small").output, "f\n");
}

#[test]
fn a_directory_that_matches_comes_whole_with_its_parents() {
    let script = "mkdir -p a/b/c/d; echo 1 >a/b/c/f; echo 2 >a/x; echo 3 >y; touch a/b/c/d/g";
    check_paths(script, &["a/b/c"], &["a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/g", "a/b/c/f"]);
    check_paths(script, &["/workspace/a/b/c/f"], &["a", "a/b", "a/b/c", "a/b/c/f"]);
    check_paths(script, &["**/g", "y", "a/b/c/d/g"], &["a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/g", "y"]);
    check_paths(script, &["a/*"], &["a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/g", "a/b/c/f", "a/x"]);
    check_paths(script, &["."], &["a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/g", "a/b/c/f", "a/x", "y"]);
}

#[test]
fn an_absolute_pattern_starts_at_the_root() {
    check_paths(
        "mkdir /tmp/out; touch /tmp/out/f f",
        &["/tmp/out", "f"],
        &["f", "tmp", "tmp/out", "tmp/out/f"],
    );
}

#[test]
fn one_name_below_both_bases_comes_once() {
    let script = "mkdir tmp; echo mine >tmp/f; echo other >/tmp/f; touch /tmp/g";
    check_paths(script, &["/tmp/f", "tmp/f", "/tmp/g"], &["tmp", "tmp/f", "tmp/g"]);
}

#[test]
fn a_walk_follows_no_link() {
    check_paths(
        "ln -s / root; ln -s /tmp out; touch /tmp/secret",
        &["out", "root/tmp/secret", "out/*"],
        &["out"],
    );
}

#[test]
fn what_matches_nothing_is_told() {
    let mut sandbox = Sandbox::attested();
    sandbox.run("touch f");
    let collected =
        collect(&mut sandbox, orders(&["absent", "f", "*.xml", "../up", "[", "f/below", "absent/*"]));
    assert_eq!(collected.paths(), ["f"]);
    assert_eq!(collected.done.unmatched, [0, 2, 3, 4, 5, 6]);
}

#[test]
fn what_is_no_file_is_dropped_and_blocks_nothing() {
    let script =
        "mkdir o; mkfifo o/fifo; python3 -c 'import socket as s; s.socket(1).bind(\"o/socket\")'; touch o/z";
    let expected = [("o/fifo", DropReason::NotAFile), ("o/socket", DropReason::NotAFile)];
    check_dropped(script, orders(&["o"]), &expected);
}

#[test]
fn files_of_the_kernel_and_the_engine_are_dropped() {
    let patterns = ["/proc", "/dev", "/.aegis", "/proc/self/status", "/sys"];
    let expected = [".aegis", "dev", "proc"].map(|it| (it, DropReason::Foreign));
    check_dropped("true", orders(&patterns), &expected);
}

#[test]
fn limits_hold() {
    let script = "mkdir -p o/1/2/3; for i in 1 2 3; do echo $i >o/f$i; done; truncate -s 4T o/sparse";
    let bytes = Collect { bytes_max: 4, ..orders(&["o"]) };
    check_dropped(script, bytes, &[("o/f3", DropReason::ByteLimit), ("o/sparse", DropReason::ByteLimit)]);
    let entries = Collect { entries_max: 4, ..orders(&["o/f*", "o/1"]) };
    check_dropped(
        script,
        entries,
        &[
            ("o/f1", DropReason::EntryLimit),
            ("o/f2", DropReason::EntryLimit),
            ("o/f3", DropReason::EntryLimit),
        ],
    );
    let depth = Collect { depth_max: 1, ..orders(&["o"]) };
    check_dropped(script, depth, &[("o/1/2", DropReason::DepthLimit), ("o/sparse", DropReason::ByteLimit)]);
    let time = Collect { timeout_ms: 0, ..orders(&["o"]) };
    check_dropped(script, time, &[("/workspace", DropReason::TimeLimit)]);
}

#[test]
fn a_tree_without_end_is_cut() {
    let script = "python3 -c 'import os\nfor i in range(1500): os.mkdir(\"d\"); os.chdir(\"d\")'";
    let mut sandbox = Sandbox::attested();
    assert_eq!(sandbox.run(script).error, "");
    let collected = collect(&mut sandbox, Collect { depth_max: u32::MAX, ..orders(&["d"]) });
    assert_eq!(collected.paths().len(), 256);
    assert_eq!(collected.done.dropped_count, 1);
}

#[test]
fn links_with_long_targets_fit_their_frames() {
    let mut sandbox = Sandbox::attested();
    let script = "import os\nos.mkdir('o')\nfor i in range(2000): os.symlink('x' * 4000, 'o/%d' % i)";
    assert_eq!(sandbox.run(&format!("python3 -c \"{script}\"")).error, "");
    assert_eq!(collect(&mut sandbox, orders(&["o"])).entries.len(), 2_001);
}

#[test]
fn an_unreadable_file_is_dropped_alone() {
    let script = "mkdir o; echo x >o/a; echo y >o/b; chmod 0 o/a";
    check_dropped(script, orders(&["o"]), &[("o/a", DropReason::Unreadable)]);
}

#[test]
fn many_drops_are_counted_and_some_are_named() {
    let mut sandbox = Sandbox::attested();
    sandbox.run("mkdir o; cd o; python3 -c 'import os\nfor i in range(1500): os.mkfifo(str(i))'");
    let collected = collect(&mut sandbox, orders(&["o"]));
    assert_eq!((collected.done.dropped.len(), collected.done.dropped_count), (1_000, 1_500));
}

#[test]
fn a_collection_kills_what_runs_first() {
    let mut sandbox = Sandbox::attested();
    let mut running = sandbox.shell("setsid sh -c 'while :; do echo x >>f; done' & echo on; wait");
    running.await_output("on\n");
    let collected = collect(&mut sandbox, orders(&["*"]));
    assert_eq!(sandbox.processes(), Vec::<String>::new());
    assert!(collected.done.dropped.is_empty());
}

#[test]
fn a_collection_goes_on_while_the_lease_is_renewed() {
    let mut sandbox = Sandbox::attested();
    sandbox.run("mkdir o; head -c 30M /dev/urandom >o/large");
    sandbox.request(&Request::Lease { remaining_ms: 500 });
    sandbox.request(&Request::Collect(orders(&["o"])));
    for _ in 0..4 {
        std::thread::sleep(std::time::Duration::from_millis(250));
        sandbox.request(&Request::Lease { remaining_ms: 500 });
    }
    sandbox.request(&Request::Lease { remaining_ms: 60_000 });
    let mut bytes = 0;
    loop {
        match sandbox.reply() {
            Reply::Out(_) => bytes += CHUNK_BYTES_MAX,
            Reply::OutChunk(chunk) => bytes += chunk.len(),
            Reply::OutDone(done) => break assert_eq!(done, OutDone::default()),
            other => panic!("not collected but {other:?}"),
        }
    }
    assert!(bytes > 30 << 20);
}

#[test]
fn a_host_that_does_not_read_its_outputs_is_not_waited_for() {
    let mut sandbox = Sandbox::attested();
    sandbox.run("mkdir o; head -c 30M /dev/zero >o/large");
    sandbox.request(&Request::Lease { remaining_ms: 300 });
    sandbox.request(&Request::Collect(orders(&["o"])));
    assert_eq!(sandbox.exit_status(), 76);
}
