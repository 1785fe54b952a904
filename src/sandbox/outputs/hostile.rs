//! What an init that was taken over may send, and what must not come of it. A canary tree lies around the output
//! directory and is compared byte for byte after each sequence.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use aegis_init::wire::{CHUNK_BYTES_MAX, DropReason, Entry, EntryKind, OutDone};
use proptest::prelude::*;
use rustix::io::Errno;

use crate::sandbox::outputs::path::{PathFault, SafePath};
use crate::sandbox::outputs::{Collected, Destination, Extractor, OutputError, OutputLimits, Wanted, Why};
use crate::task::RunId;

const LIMITS: OutputLimits = OutputLimits { bytes: 1000, entries: 50, depth: 5 };

/// One message from init.
#[derive(Debug, Clone)]
enum Sent {
    Out(Vec<Entry>),
    Chunk(Vec<u8>),
}

fn entry(path: &[u8], kind: EntryKind) -> Entry {
    Entry { path: path.to_vec().into(), mode: 0o644, mtime_s: 1_700_000_000, mtime_ns: 5, kind }
}

fn file(path: &str, content: &str) -> Entry {
    sized(path, content.len() as u64, content)
}

fn sized(path: &str, size: u64, content: &str) -> Entry {
    entry(path.as_bytes(), EntryKind::File { size, data: content.as_bytes().to_vec().into() })
}

fn dir(path: &str) -> Entry {
    entry(path.as_bytes(), EntryKind::Dir)
}

fn link(path: &str, target: &str) -> Entry {
    entry(path.as_bytes(), EntryKind::Symlink(target.as_bytes().to_vec().into()))
}

/// A directory with canaries, and a place for outputs in it.
struct Place {
    kept: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let kept = tempfile::tempdir().expect("a directory");
        fs::write(kept.path().join("canary"), "untouched").expect("a canary");
        fs::create_dir(kept.path().join("beside")).expect("a directory");
        fs::write(kept.path().join("beside/canary"), "untouched").expect("a canary");
        Self { kept }
    }

    fn out(&self) -> PathBuf {
        self.kept.path().join("out")
    }

    fn extract(
        &self,
        sent: &[Sent],
        limits: OutputLimits,
        patterns: &[&str],
    ) -> Result<Collected, OutputError> {
        let patterns: Vec<String> = patterns.iter().map(|it| (*it).to_owned()).collect();
        let wanted = Wanted::parse(&patterns, "/workspace")?;
        let mut extractor = Extractor::new(&Destination::Named(self.out()), wanted, limits)?;
        for message in sent {
            match message {
                Sent::Out(entries) => extractor.entries(entries.clone())?,
                Sent::Chunk(bytes) => extractor.chunk(bytes)?,
            }
        }
        Ok(extractor.finish(Some(OutDone::default())))
    }

    fn assert_untouched(&self) {
        assert_eq!(fs::read_to_string(self.kept.path().join("canary")).expect("it is there"), "untouched");
        assert_eq!(
            fs::read_to_string(self.kept.path().join("beside/canary")).expect("it is there"),
            "untouched"
        );
        let mut names: Vec<_> = fs::read_dir(self.kept.path())
            .expect("a directory")
            .map(|it| it.expect("an entry").file_name())
            .collect();
        names.retain(|it| it != "out");
        names.sort();
        assert_eq!(names, ["beside", "canary"]);
        assert_eq!(fs::read_dir(self.kept.path().join("beside")).expect("a directory").count(), 1);
    }
}

/// Sends entries in one message; tells what is in the directory and what was dropped.
fn check(entries: Vec<Entry>, expected: &[&str], dropped: &[(&str, Why)]) {
    check_messages(vec![Sent::Out(entries)], expected, dropped);
}

fn check_messages(sent: Vec<Sent>, expected: &[&str], dropped: &[(&str, Why)]) {
    let place = Place::new();
    let collected = place.extract(&sent, LIMITS, &["."]).expect("the host can write");
    let found: Vec<String> = tree(&place.out()).into_keys().collect();
    assert_eq!(found, expected);
    let why: Vec<(String, Why)> =
        collected.dropped.iter().map(|it| (String::from_utf8_lossy(&it.path).into_owned(), it.why)).collect();
    let dropped: Vec<(String, Why)> = dropped.iter().map(|(path, why)| ((*path).to_owned(), *why)).collect();
    assert_eq!(why, dropped);
    place.assert_untouched();
}

/// Everything below a directory, links not followed: path with a mark of its kind, and content or target.
fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
            let meta = fs::symlink_metadata(&path).expect("it is there");
            if meta.is_dir() {
                found.insert(format!("{name}/"), Vec::new());
                pending.push(path);
            } else if meta.is_symlink() {
                let target = fs::read_link(&path).expect("a link");
                found.insert(format!("{name}@"), target.into_os_string().into_encoded_bytes());
            } else {
                found.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

#[test]
fn files_come_out_with_their_parents() {
    check(vec![dir("a"), file("a/b", "x"), file("c/d", "y")], &["a/", "a/b", "c/", "c/d"], &[]);
}

#[test]
fn ar_03_paths_that_lead_out_are_dropped() {
    check(
        vec![file("../x", ""), file("/abs", ""), file("a/../../x", ""), file("C:\\x", ""), dir("..")],
        &["C:\\x"],
        &[
            ("../x", Why::Path(PathFault::Dots)),
            ("/abs", Why::Path(PathFault::Absolute)),
            ("a/../../x", Why::Path(PathFault::Dots)),
            ("..", Why::Path(PathFault::Dots)),
        ],
    );
}

#[test]
fn ar_01_links_that_lead_out_are_dropped_and_others_stay_links() {
    check(
        vec![link("a", "/etc/passwd"), link("c", "../../.."), link("loop", "a"), link("loop2", "loop")],
        &["loop2@", "loop@"],
        &[("a", Why::LinkLeadsOut), ("c", Why::LinkLeadsOut)],
    );
}

#[test]
fn ar_03_nothing_is_written_through_a_link() {
    check(
        vec![link("a", "b"), dir("b"), file("a/x", "evil"), dir("a/d"), file("a", "evil"), dir("a")],
        &["a@", "b/"],
        &[("a/x", Why::PathBlocked), ("a/d", Why::PathBlocked), ("a", Why::Duplicate), ("a", Why::Duplicate)],
    );
}

#[test]
fn ar_03_a_second_file_of_a_name_is_dropped() {
    check(vec![file("a", "first"), file("a", "second")], &["a"], &[("a", Why::Duplicate)]);
}

#[test]
fn a_file_is_no_directory_and_a_directory_no_file() {
    check(
        vec![file("a", ""), file("a/b", ""), dir("d"), file("d", ""), link("d", "a")],
        &["a", "d/"],
        &[("a/b", Why::PathBlocked), ("d", Why::NameIsDirectory), ("d", Why::NameIsDirectory)],
    );
}

#[test]
fn ar_03_hard_links_are_dropped() {
    let hard = |target: &[u8]| EntryKind::Hardlink(target.to_vec().into());
    check(
        vec![file("a", ""), entry(b"b", hard(b"a")), entry(b"c", hard(b"/etc/passwd"))],
        &["a"],
        &[("b", Why::HardLink), ("c", Why::HardLink)],
    );
}

#[test]
fn ar_05_a_file_beyond_the_limit_is_dropped_by_its_announced_size() {
    check(
        vec![sized("sparse", 1 << 40, ""), file("small", "x"), sized("max", u64::MAX, "")],
        &["small"],
        &[("sparse", Why::ByteLimit), ("max", Why::ByteLimit)],
    );
}

#[test]
fn ar_05_the_byte_limit_is_for_all_files_together() {
    let half = "x".repeat(501);
    check(vec![file("a", &half), file("b", &half), file("c", "y")], &["a", "c"], &[("b", Why::ByteLimit)]);
}

#[test]
fn ar_06_nesting_beyond_the_limit_is_dropped() {
    check(
        vec![dir("1/2/3/4/5"), dir("1/2/3/4/5/6"), file("1/2/3/4/5/f", "")],
        &["1/", "1/2/", "1/2/3/", "1/2/3/4/", "1/2/3/4/5/", "1/2/3/4/5/f"],
        &[("1/2/3/4/5/6", Why::DepthLimit)],
    );
}

#[test]
fn ar_06_entries_beyond_the_limit_are_counted_and_a_flood_is_ended() {
    let place = Place::new();
    let many: Vec<Entry> = (0..LIMITS.entries + 5_000).map(|it| file(&format!("f{it}"), "")).collect();
    let collected = place.extract(&[Sent::Out(many.clone())], LIMITS, &["."]).expect("the host can write");
    assert_eq!((collected.artifacts.len() as u64, collected.dropped_count), (LIMITS.entries, 5_000));
    assert_eq!(collected.dropped.len(), super::DROPS_NAMED_MAX);
    let flood =
        place.extract(&[Sent::Out(many.clone()), Sent::Out(many.clone()), Sent::Out(many)], LIMITS, &["."]);
    assert!(matches!(flood, Err(OutputError::Flood)));
}

#[test]
fn ar_06_parents_count_as_entries() {
    let place = Place::new();
    let deep: Vec<Entry> = (0..30).map(|it| file(&format!("{it}/a/b/c"), "")).collect();
    let collected = place.extract(&[Sent::Out(deep)], LIMITS, &["."]).expect("the host can write");
    assert!(tree(&place.out()).len() as u64 <= LIMITS.entries);
    assert!(collected.dropped.iter().all(|it| it.why == Why::EntryLimit));
}

#[test]
fn content_that_never_ends_is_a_flood() {
    let place = Place::new();
    let chunks = vec![Sent::Chunk(vec![0; CHUNK_BYTES_MAX]); 65];
    assert!(matches!(place.extract(&chunks, LIMITS, &["."]), Err(OutputError::Flood)));
}

#[test]
fn content_comes_in_chunks() {
    check_messages(
        vec![Sent::Out(vec![sized("a", 6, "ab")]), Sent::Chunk(b"cd".to_vec()), Sent::Chunk(b"ef".to_vec())],
        &["a"],
        &[],
    );
}

#[test]
fn a_file_shorter_than_announced_is_dropped() {
    check_messages(
        vec![
            Sent::Out(vec![sized("a", 6, "ab")]),
            Sent::Chunk(b"cd".to_vec()),
            Sent::Out(vec![file("b", "")]),
        ],
        &["b"],
        &[("a", Why::SizeDiffers)],
    );
}

#[test]
fn a_file_longer_than_announced_is_dropped_whole() {
    check_messages(
        vec![Sent::Out(vec![sized("a", 3, "ab")]), Sent::Chunk(b"c".to_vec()), Sent::Chunk(b"d".to_vec())],
        &[],
        &[("a", Why::SizeDiffers)],
    );
}

#[test]
fn content_without_a_file_is_told() {
    check_messages(vec![Sent::Chunk(b"x".to_vec())], &[], &[("", Why::SizeDiffers)]);
}

#[test]
fn chunks_of_a_dropped_file_go_nowhere() {
    check_messages(
        vec![Sent::Out(vec![file("b", "x"), sized("../a", 2, "")]), Sent::Chunk(b"yz".to_vec())],
        &["b"],
        &[("../a", Why::Path(PathFault::Dots))],
    );
}

#[test]
fn the_names_of_unfinished_files_are_reserved() {
    check(vec![file(".aegis-part-1", "")], &[], &[(".aegis-part-1", Why::ReservedName)]);
}

#[test]
fn a_git_directory_comes_out_only_by_name() {
    check(vec![file("a/.git/config", "")], &[], &[("a/.git/config", Why::Git)]);
    let place = Place::new();
    let sent = [Sent::Out(vec![file("a/.git/config", "")])];
    assert_eq!(place.extract(&sent, LIMITS, &["a/.git"]).expect("it can write").artifacts.len(), 1);
}

#[test]
fn what_no_pattern_names_does_not_come_out() {
    let place = Place::new();
    let sent = [Sent::Out(vec![file("out/a", ""), file("bin/b", ""), link("x", "y")])];
    let collected = place.extract(&sent, LIMITS, &["out"]).expect("the host can write");
    assert_eq!(collected.artifacts.len(), 1);
    assert!(collected.dropped.iter().all(|it| it.why == Why::NotWanted));
}

#[test]
fn ar_07_every_name_comes_out_as_its_bytes() {
    let names: [&[u8]; 9] = [
        b"a\nb",
        b"\x1b[31m",
        b"q\"u;o",
        b"c\r\nd",
        b"\xff\xfe",
        b"-rf",
        b"dot.",
        "e\u{301}".as_bytes(),
        b"...",
    ];
    let place = Place::new();
    let entries = names.map(|it| entry(it, EntryKind::File { size: 0, data: Vec::new().into() })).to_vec();
    let collected = place.extract(&[Sent::Out(entries)], LIMITS, &["."]).expect("the host can write");
    let listed: Vec<&[u8]> = collected.artifacts.iter().map(|it| it.path.as_slice()).collect();
    assert_eq!(listed, names);
    assert_eq!(fs::read_dir(place.out()).expect("a directory").count(), names.len());
}

fn check_meta(mode: u32, mtime: (i64, u32), expected_mode: u32, expected_mtime: (i64, i64)) {
    let place = Place::new();
    for kind in [EntryKind::File { size: 0, data: Vec::new().into() }, EntryKind::Dir] {
        let is_dir = kind == EntryKind::Dir;
        let (mtime_s, mtime_ns) = mtime;
        let path = if is_dir { "d" } else { "f" };
        let sent = Entry { path: path.as_bytes().to_vec().into(), mode, mtime_s, mtime_ns, kind };
        place.extract(&[Sent::Out(vec![sent])], LIMITS, &["."]).expect("the host can write");
        let meta = fs::symlink_metadata(place.out().join(path)).expect("it is there");
        let execute = if is_dir { 0o100 } else { 0 };
        let umask = 0o022;
        assert_eq!(meta.permissions().mode() & 0o7777 & !umask, (expected_mode | execute) & !umask);
        assert_eq!((meta.mtime(), meta.mtime_nsec()), expected_mtime);
    }
}

#[test]
fn ar_08_setuid_and_sticky_bits_are_dropped() {
    check_meta(0o7755, (1, 0), 0o755, (1, 0));
}

#[test]
fn ar_08_the_owner_can_always_read_and_write() {
    check_meta(0, (1, 0), 0o600, (1, 0));
}

#[test]
fn ar_08_odd_times_are_moved_into_bounds() {
    check_meta(0o644, (99_999_999_999, 3), 0o644, (4_294_967_295, 0));
    check_meta(0o644, (-1, 999_999_999), 0o644, (0, 0));
    check_meta(0o644, (i64::MIN, u32::MAX), 0o644, (0, 0));
    check_meta(0o644, (77, u32::MAX), 0o644, (77, 0));
    check_meta(0o644, (77, 999_999_999), 0o644, (77, 999_999_999));
}

#[test]
fn an_artifact_is_told_with_size_and_digest() {
    let place = Place::new();
    let collected =
        place.extract(&[Sent::Out(vec![file("a", "abc")])], LIMITS, &["."]).expect("the host can write");
    assert_eq!(collected.artifacts[0].bytes, 3);
    assert_eq!(
        collected.artifacts[0].sha256,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[test]
fn files_of_an_earlier_run_are_replaced_and_never_written_through() {
    let place = Place::new();
    fs::create_dir(place.out()).expect("a directory");
    fs::create_dir(place.out().join("dir")).expect("a directory");
    fs::write(place.out().join("old"), "old content").expect("a file");
    fs::hard_link(place.kept.path().join("canary"), place.out().join("hard")).expect("a hard link");
    symlink("../canary", place.out().join("link")).expect("a link");
    symlink("../beside", place.out().join("linked")).expect("a link");
    let entries = vec![
        file("old", "new"),
        file("hard", "new"),
        file("link", "new"),
        file("linked/x", "evil"),
        file("dir", "x"),
        file("dir/x", "y"),
        link("old2", "old"),
    ];
    let collected = place.extract(&[Sent::Out(entries)], LIMITS, &["."]).expect("the host can write");
    let dropped: Vec<Why> = collected.dropped.iter().map(|it| it.why).collect();
    assert_eq!(dropped, [Why::PathBlocked, Why::NameIsDirectory]);
    let found = tree(&place.out());
    assert_eq!(found["old"], b"new");
    assert_eq!(found["link"], b"new");
    assert_eq!(found["dir/x"], b"y");
    place.assert_untouched();
}

#[test]
fn the_default_directory_is_new_and_keeps_out_of_the_history() {
    let project = tempfile::tempdir().expect("a directory");
    let run = RunId::generate();
    let destination = Destination::Run { base: project.path().to_path_buf(), run };
    let wanted = Wanted::parse(&["a".to_owned()], "").expect("it parses");
    let mut extractor = Extractor::new(&destination, wanted.clone(), LIMITS).expect("it can be made");
    extractor.entries(vec![file("a", "x")]).expect("it is written");
    let collected = extractor.finish(None);
    assert!(!collected.complete);
    assert_eq!(collected.directory, Some(project.path().join("aegis-out").join(run.short())));
    assert_eq!(fs::read_to_string(project.path().join("aegis-out/.gitignore")).expect("it is there"), "*\n");
    assert!(matches!(Extractor::new(&destination, wanted, LIMITS), Err(OutputError::Directory { .. })));
}

#[test]
fn a_default_directory_without_outputs_is_removed() {
    let project = tempfile::tempdir().expect("a directory");
    let run = RunId::generate();
    let destination = Destination::Run { base: project.path().to_path_buf(), run };
    let wanted = Wanted::parse(&["a".to_owned(), "b".to_owned()], "").expect("it parses");
    let extractor = Extractor::new(&destination, wanted, LIMITS).expect("it can be made");
    let done = OutDone {
        unmatched: vec![1, 7, 0, 1],
        dropped: vec![(b"p".to_vec().into(), DropReason::NotAFile)],
        dropped_count: u64::MAX,
    };
    let collected = extractor.finish(Some(done));
    assert_eq!(collected.unmatched, [0, 1]);
    assert_eq!(collected.dropped[0].why, Why::Inside(DropReason::NotAFile));
    assert_eq!(collected.dropped_count, u64::MAX);
    assert_eq!(collected.directory, None);
    assert!(!project.path().join("aegis-out").join(run.short()).exists());
}

#[test]
fn a_planted_link_in_place_of_the_default_directory_is_refused() {
    let project = tempfile::tempdir().expect("a directory");
    let elsewhere = tempfile::tempdir().expect("a directory");
    symlink(elsewhere.path(), project.path().join("aegis-out")).expect("a link");
    let destination = Destination::Run { base: project.path().to_path_buf(), run: RunId::generate() };
    let wanted = Wanted::parse(&["a".to_owned()], "").expect("it parses");
    assert!(matches!(Extractor::new(&destination, wanted, LIMITS), Err(OutputError::NotADirectory { .. })));
    assert_eq!(fs::read_dir(elsewhere.path()).expect("a directory").count(), 0);
}

#[test]
fn ar_13_no_unfinished_file_has_a_name_and_leftovers_are_removed() {
    let place = Place::new();
    fs::create_dir(place.out()).expect("a directory");
    fs::write(place.out().join(".aegis-part-old"), "half").expect("a leftover");
    let wanted = Wanted::parse(&[".".to_owned()], "").expect("it parses");
    let mut extractor =
        Extractor::new(&Destination::Named(place.out()), wanted, LIMITS).expect("it can be opened");
    extractor.entries(vec![sized("big", 900, "half")]).expect("it is begun");
    assert_eq!(tree(&place.out()).len(), 0);
    drop(extractor);
    assert_eq!(tree(&place.out()).len(), 0);
}

#[test]
fn where_nameless_files_cannot_be_had_a_stand_in_is_used() {
    use crate::sandbox::outputs::destination::Fresh;
    use crate::sandbox::outputs::draft::{Draft, Published};
    let place = Place::new();
    fs::create_dir(place.out()).expect("a directory");
    let top = fs::File::open(place.out()).expect("it opens");
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
        last_modification: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
    };
    use std::os::fd::AsFd;
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    for (fresh, expected) in
        [(Fresh::New, Published::Yes), (Fresh::New, Published::Taken), (Fresh::Existing, Published::Yes)]
    {
        let mut draft = Draft::named(top.as_fd(), mode).expect("it is made");
        draft.write(b"x").expect("it is written");
        assert!(tree(&place.out()).keys().any(|it| it.starts_with(".aegis-part-")));
        assert_eq!(draft.publish(top.as_fd(), b"a", &times, fresh), Ok(expected));
        assert_eq!(tree(&place.out()).into_keys().collect::<Vec<_>>(), ["a"]);
    }
}

#[test]
fn an_unusable_directory_is_named() {
    let place = Place::new();
    let wanted = Wanted::parse(&["a".to_owned()], "").expect("it parses");
    let refusal = Extractor::new(&Destination::Named(place.kept.path().join("canary")), wanted, LIMITS);
    assert!(refusal.err().expect("a refusal").to_string().contains("is not a directory"));
}

#[test]
fn a_host_failure_is_told_by_its_cause() {
    assert!(Why::from(Errno::NOSPC).to_string().starts_with("the host could not write it: No space left"));
}

/// Paths made of a few components, most of them bad, so that they meet each other often.
fn nasty_path() -> impl Strategy<Value = Vec<u8>> {
    let component = prop_oneof![
        4 => Just(b"a".to_vec()),
        4 => Just(b"b".to_vec()),
        2 => Just(b"c".to_vec()),
        1 => Just(b"..".to_vec()),
        1 => Just(b".".to_vec()),
        1 => Just(Vec::new()),
        1 => Just(b"canary".to_vec()),
        1 => Just(b"beside".to_vec()),
        1 => Just(b".git".to_vec()),
        1 => Just(vec![b'l'; 256]),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(component, 0..5).prop_map(|it| it.join(&b'/'))
}

fn nasty_entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        2 => Just(EntryKind::Dir),
        4 => (prop_oneof![0..40u64, Just(u64::MAX)], proptest::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(size, data)| EntryKind::File { size, data: data.into() }),
        4 => proptest::collection::vec(any::<u8>(), 0..30)
            .prop_map(|data| EntryKind::File { size: data.len() as u64, data: data.into() }),
        4 => nasty_path().prop_map(|it| EntryKind::Symlink(it.into())),
        1 => nasty_path().prop_map(|it| EntryKind::Hardlink(it.into())),
    ];
    (nasty_path(), any::<u32>(), any::<i64>(), any::<u32>(), kind).prop_map(
        |(path, mode, mtime_s, mtime_ns, kind)| Entry { path: path.into(), mode, mtime_s, mtime_ns, kind },
    )
}

fn nasty_message() -> impl Strategy<Value = Sent> {
    prop_oneof![
        3 => proptest::collection::vec(nasty_entry(), 0..6).prop_map(Sent::Out),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Sent::Chunk),
    ]
}

/// What must be there in the end, by a model that knows nothing of directories and descriptors.
#[derive(Default)]
struct Model {
    names: BTreeMap<Vec<u8>, Kind>,
    open: Option<(Vec<u8>, u64, Vec<u8>)>,
    announced: u64,
}

#[derive(Clone, PartialEq)]
enum Kind {
    Made,
    Sent,
    File(Vec<u8>),
    Link(Vec<u8>),
}

impl Model {
    fn take(&mut self, message: &Sent) {
        match message {
            Sent::Chunk(bytes) => {
                if let Some((_, _, content)) = &mut self.open {
                    content.extend_from_slice(bytes);
                }
            }
            Sent::Out(entries) => entries.iter().for_each(|it| self.entry(it)),
        }
    }

    fn end(&mut self) {
        if let Some((path, size, content)) = self.open.take()
            && content.len() as u64 == size
        {
            self.names.insert(path, Kind::File(content));
        }
    }

    /// Makes the parents as far as they can be made; whether all are there.
    fn parents(&mut self, path: &[u8]) -> bool {
        for (index, _) in path.iter().enumerate().filter(|(_, it)| **it == b'/') {
            match self.names.get(&path[..index]) {
                Some(Kind::Made | Kind::Sent) => {}
                Some(Kind::File(_) | Kind::Link(_)) => return false,
                None if self.names.len() as u64 >= LIMITS.entries => return false,
                None => drop(self.names.insert(path[..index].to_vec(), Kind::Made)),
            }
        }
        true
    }

    fn entry(&mut self, entry: &Entry) {
        self.end();
        let Ok(path) = SafePath::parse(&entry.path) else { return };
        let level = path.depth() as u64 + u64::from(entry.kind == EntryKind::Dir);
        if level > LIMITS.depth || path.bytes().split(|it| *it == b'/').any(|it| it == b".git") {
            return;
        }
        let path_bytes = path.bytes().to_vec();
        let known = self.names.get(&path_bytes).cloned();
        let (kind, size) = match &entry.kind {
            EntryKind::Hardlink(_) => return,
            EntryKind::Dir if known == Some(Kind::Made) => (Kind::Sent, None),
            _ if known.is_some() => return,
            EntryKind::Dir => (Kind::Sent, None),
            EntryKind::Symlink(target) if !path.may_link_to(target) => return,
            EntryKind::Symlink(target) => (Kind::Link(target.to_vec()), None),
            EntryKind::File { size, .. } if *size > LIMITS.bytes - self.announced => return,
            EntryKind::File { size, data } => (Kind::File(data.to_vec()), Some(*size)),
        };
        let room = |model: &Self| known.is_some() || (model.names.len() as u64) < LIMITS.entries;
        if !self.parents(&path_bytes) || !room(self) {
            return;
        }
        match (kind, size) {
            (Kind::File(data), Some(size)) => {
                self.announced += size;
                self.open = Some((path_bytes, size, data));
            }
            (kind, _) => drop(self.names.insert(path_bytes, kind)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_sent_only_the_model_comes_out(sent in proptest::collection::vec(nasty_message(), 0..12)) {
        let place = Place::new();
        let collected = place.extract(&sent, LIMITS, &["."]).expect("the host can write");
        place.assert_untouched();

        let mut model = Model::default();
        sent.iter().for_each(|it| model.take(it));
        model.end();
        let expected: BTreeMap<String, Vec<u8>> = model.names.iter().map(|(path, kind)| {
            let name = String::from_utf8_lossy(path);
            match kind {
                Kind::Made | Kind::Sent => (format!("{name}/"), Vec::new()),
                Kind::File(content) => (name.into_owned(), content.clone()),
                Kind::Link(target) => (format!("{name}@"), target.clone()),
            }
        }).collect();
        prop_assert_eq!(tree(&place.out()), expected);
        prop_assert!(collected.bytes <= LIMITS.bytes);

        // Every link that came out resolves inside, or nowhere.
        let top = fs::canonicalize(place.kept.path()).expect("its path").join("out");
        for (name, _) in tree(&place.out()).iter().filter(|(name, _)| name.ends_with('@')) {
            if let Ok(resolved) = fs::canonicalize(top.join(name.trim_end_matches('@'))) {
                prop_assert!(resolved.starts_with(&top));
            }
        }
    }
}
