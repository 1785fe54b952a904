//! What a hostile sandbox may tell of its changes, and what a tree may become between looking and applying: nothing
//! leaves the tree, nothing is half done.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use aegis_init::path_key::PathKey;
use aegis_init::wire::{DropReason, Entry, EntryKind, OutDone};
use proptest::prelude::*;
use serde_bytes::ByteBuf;

use crate::sandbox::changes::apply::{ApplyError, carry_out, plan};
use crate::sandbox::changes::gather::{GatherError, Gatherer, LISTED_MAX, Originals, Start, open_root};
use crate::sandbox::changes::kept::Kept;
use crate::sandbox::changes::{AfterKind, ChangeSet, Limit, Verb, Why};
use crate::sandbox::outputs::OutputLimits;
use crate::sandbox::workspace::{self, Choice, Limits};
use crate::task::RunId;

const LIMITS: OutputLimits = OutputLimits { bytes: 1 << 20, entries: 100, depth: 8 };
const UMASK: u32 = 0o022;
const KEY: PathKey = PathKey([7; 16]);
/// What a task is given.
const GIVEN: [&str; 4] = ["a", "d", "d/x", "l"];

/// A tree that was given to a task, with a neighbour.
struct Place {
    kept: tempfile::TempDir,
    run: RunId,
}

impl Place {
    /// `a`, `d/x` and a link `l`.
    fn new() -> Self {
        let place = Self { kept: tempfile::tempdir().expect("a directory"), run: RunId::generate() };
        fs::create_dir_all(place.tree().join("d")).expect("directories");
        fs::create_dir(place.path("state")).expect("a directory");
        fs::write(place.path("canary"), "canary").expect("a file");
        fs::write(place.tree().join("a"), "1").expect("a file");
        fs::write(place.tree().join("d/x"), "1").expect("a file");
        symlink("a", place.tree().join("l")).expect("a link");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.kept.path()).expect("a path").join(name)
    }

    fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    fn kept(&self) -> Kept {
        Kept::new(&self.path("state"))
    }

    fn gatherer(&self) -> Gatherer {
        let plan = workspace::scan(&self.tree(), Limits { bytes: 1 << 20, files: 100 }, &Choice::PLAIN)
            .expect("it can be copied");
        let base = workspace::send(&plan, &mut |_| Ok(())).expect("it is sent").base;
        let (directory, root) = open_root(&self.tree()).expect("it opens");
        let left_out = plan.left_out.clone();
        let start = Start {
            root,
            originals: Originals::Tree(directory),
            left_out,
            limits: LIMITS,
            kept: self.kept(),
            run: self.run,
        };
        Gatherer::new(start, base, KEY).expect("it can be kept")
    }

    /// Tells what a sandbox tells, and answers what it is asked for.
    fn gather(&self, entries: Vec<(Entry, &[u8])>, gone: &[&str]) -> ChangeSet {
        let mut gatherer = self.gatherer();
        gatherer.listed(entries.iter().map(|(it, _)| it.clone()).collect()).expect("within bounds");
        gatherer.met(&met(gone)).expect("within bounds");
        gatherer.compared(&OutDone::default(), true);
        loop {
            let wanted = gatherer.wanted();
            if wanted.is_empty() {
                return gatherer.finish().expect("it is kept");
            }
            for path in wanted {
                let (entry, content) =
                    entries.iter().find(|(it, _)| it.path.as_slice() == path).expect("it was told");
                let mut entry = entry.clone();
                entry.kind =
                    EntryKind::File { size: content.len() as u64, data: ByteBuf::from(content.to_vec()) };
                gatherer.content(vec![entry]).expect("within bounds");
            }
            gatherer.fetched().expect("it is kept");
        }
    }

    fn apply(&self, set: &ChangeSet) -> Result<(), ApplyError> {
        let (root, _) = open_root(&self.tree()).expect("it opens");
        let plan = plan(set, &[], &root, UMASK)?;
        assert_eq!(plan.conflicts, []);
        carry_out(&plan, &root, &self.kept(), self.run).map(|_| ())
    }

    fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>, u32)> {
        let mut found = Vec::new();
        let mut waiting = vec![self.tree()];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(directory).expect("a directory").flatten() {
                let (path, metadata) = (entry.path(), entry.metadata().expect("metadata"));
                let content = if metadata.is_dir() {
                    waiting.push(path.clone());
                    Vec::new()
                } else if metadata.is_symlink() {
                    fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes()
                } else {
                    fs::read(&path).expect("a file")
                };
                found.push((path, content, metadata.permissions().mode()));
            }
        }
        found.sort();
        found
    }
}

/// The hashes of what was given, but of these.
fn met(gone: &[&str]) -> Vec<u64> {
    GIVEN.iter().filter(|it| !gone.contains(it)).map(|it| KEY.hash(it.as_bytes())).collect()
}

fn entry(path: &[u8], kind: EntryKind) -> Entry {
    Entry { path: ByteBuf::from(path), mode: 0o644, mtime_s: 0, mtime_ns: 0, kind }
}

fn file<'a>(path: &str, content: &'a str) -> (Entry, &'a [u8]) {
    let kind = EntryKind::File { size: content.len() as u64, data: ByteBuf::new() };
    (entry(path.as_bytes(), kind), content.as_bytes())
}

fn link<'a>(path: &str, target: &str) -> (Entry, &'a [u8]) {
    (entry(path.as_bytes(), EntryKind::Symlink(ByteBuf::from(target))), b"")
}

fn directory<'a>(path: &str) -> (Entry, &'a [u8]) {
    (Entry { mode: 0o755, ..entry(path.as_bytes(), EntryKind::Dir) }, b"")
}

/// Holds that of these entries nothing is kept, and that the reason is told.
#[track_caller]
fn check_skipped(entries: Vec<(Entry, &[u8])>, why: Why) {
    let set = Place::new().gather(entries, &[]);
    assert_eq!(set.changes, []);
    assert!(set.skipped.iter().all(|it| it.why == why) && set.skipped_count > 0, "{:?}", set.skipped);
    assert_eq!(set.limits, [Limit::Unreadable]);
}

#[test]
fn paths_that_could_leave_are_skipped() {
    let long = "a/".repeat(3000) + "a";
    for path in ["..", "../x", "d/../../x", "/etc/passwd", "", "d//x", "./x", "d/.", "x\0y", long.as_str()] {
        check_skipped(vec![file(path, "evil")], Why::Path);
    }
}

#[test]
fn a_path_that_is_told_twice_counts_once() {
    let set = Place::new().gather(vec![file("n", "1"), link("n", "/etc/passwd")], &[]);
    assert_eq!(set.changes.len(), 1);
    assert_eq!(set.skipped[0].why, Why::Duplicate);
    assert_eq!(set.limits, [Limit::Unreadable]);
}

#[test]
fn nothing_lies_below_a_link_or_a_file_or_nowhere() {
    let set = Place::new().gather(vec![link("n", "/etc"), file("n/x", "evil"), file("n/y/z", "evil")], &[]);
    assert_eq!(set.changes.len(), 1);
    check_skipped(vec![file("a/x", "evil")], Why::Parent);
    check_skipped(vec![file("nowhere/x", "evil")], Why::Parent);
    check_skipped(vec![directory("nowhere/d"), file("nowhere/d/x", "evil")], Why::Parent);
    // A directory that is gone holds nothing any more.
    let set = Place::new().gather(vec![file("d/new", "evil")], &["d"]);
    assert_eq!(set.changes.len(), 1);
}

#[test]
fn git_is_counted_and_not_kept() {
    let entries =
        vec![file(".git", "gitdir: /x"), directory("d/.GIT"), file("d/.GIT/config", "x"), file("git~1", "x")];
    let set = Place::new().gather(entries, &[]);
    assert_eq!((set.changes.len(), set.git), (0, 4));
}

#[test]
fn a_kind_that_does_not_travel_is_skipped() {
    check_skipped(vec![(entry(b"n", EntryKind::Hardlink(ByteBuf::from("a"))), b"")], Why::NotAFile);
    check_skipped(vec![link("n", "")], Why::NotAFile);
    check_skipped(vec![link("n", "a\0b")], Why::NotAFile);
}

#[test]
fn hashes_without_an_end_end_the_gathering() {
    let mut gatherer = Place::new().gatherer();
    let many: Vec<u64> = (0..LISTED_MAX + 2_000).collect();
    assert!(matches!(gatherer.met(&many), Err(GatherError::Flood)));
}

#[test]
fn what_is_told_and_was_not_met_counts_once() {
    let set = Place::new().gather(vec![file("a", "2")], &["a"]);
    assert_eq!(set.skipped[0].why, Why::Duplicate);
}

#[test]
fn content_that_nobody_asked_for_is_not_kept() {
    let place = Place::new();
    let mut gatherer = place.gatherer();
    gatherer.listed(vec![file("n", "1").0]).expect("within bounds");
    gatherer.met(&met(&[])).expect("within bounds");
    gatherer.compared(&OutDone::default(), true);
    assert_eq!(gatherer.wanted(), [b"n".to_vec()]);
    let unasked = entry(b"other", EntryKind::File { size: 4, data: ByteBuf::from("evil") });
    let longer = entry(b"n", EntryKind::File { size: 4, data: ByteBuf::from("evil") });
    gatherer.content(vec![unasked, longer]).expect("within bounds");
    let set = gatherer.finish().expect("it is kept");
    assert!(matches!(
        set.changes.as_slice(),
        [change] if matches!(change.after.as_ref().map(|it| &it.kind), Some(AfterKind::File { sha256: None, .. }))
    ));
    assert_eq!(set.limits, [Limit::Unreadable]);
    assert_eq!(
        fs::read_dir(place.path("state/changes").join(place.run.to_string()).join("content"))
            .expect("kept")
            .count(),
        0
    );
}

#[test]
fn a_flood_of_content_is_cut_off() {
    let mut gatherer = Place::new().gatherer();
    gatherer.compared(&OutDone::default(), true);
    let mut told = Ok(());
    for _ in 0..100 {
        let flood = entry(b"n", EntryKind::File { size: 1 << 20, data: ByteBuf::from(vec![0; 1 << 18]) });
        told = told.and_then(|()| gatherer.content(vec![flood]));
    }
    assert!(matches!(told, Err(GatherError::Flood)));
    assert!(matches!(gatherer.chunk(&[0; 2 << 20]), Err(GatherError::Flood)));
}

#[test]
fn limits_are_kept_and_told() {
    let many: Vec<_> = (0..150).map(|it| file(&format!("n{it}"), "")).collect();
    let set = Place::new().gather(many, &[]);
    assert_eq!((set.changes.len(), set.limits.as_slice()), (100, [Limit::Entries].as_slice()));
    let mut big = file("n", "").0;
    big.kind = EntryKind::File { size: u64::MAX, data: ByteBuf::new() };
    let set = Place::new().gather(vec![(big, b"")], &[]);
    assert_eq!(set.limits, [Limit::Bytes]);
    let place = Place::new();
    let mut gatherer = place.gatherer();
    let late = OutDone { dropped: vec![(ByteBuf::from("d"), DropReason::TimeLimit)], ..OutDone::default() };
    gatherer.compared(&late, false);
    assert_eq!(gatherer.finish().expect("it is kept").limits, [Limit::Time]);
}

#[test]
fn the_same_content_and_mode_is_no_change() {
    let place = Place::new();
    fs::set_permissions(place.tree().join("a"), fs::Permissions::from_mode(0o644)).expect("a mode");
    assert_eq!(place.gather(vec![file("a", "1"), link("l", "a")], &[]).changes, []);
    let set = place.gather(vec![file("a", "2")], &[]);
    assert_eq!(set.changes[0].verb(), Verb::Modified);
}

#[test]
fn a_manifest_is_read_back_the_same_and_a_damaged_one_is_refused() {
    let place = Place::new();
    let set = place
        .gather(vec![file("a", "2"), link("x\n\u{202e}", "\\"), directory("n"), file("n/z", "3")], &["d/x"]);
    let kept = place.kept();
    assert_eq!(kept.load(place.run).expect("it is read"), Some(set));
    let path = place.path("state/changes").join(place.run.to_string()).join("manifest.json");
    let text = fs::read_to_string(&path).expect("a manifest");
    for (from, to) in [
        ("\"n/z\"", "\"../z\""),
        ("\"version\":1", "\"version\":2"),
        ("\"n/z\"", "\"a\""),
        ("\"mode\":420", "\"mode\":2541"),
        ("{\"version\"", "{\"x\":1,\"version\""),
    ] {
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replace(from, to)).expect("written");
        assert!(kept.load(place.run).is_err(), "{to}");
    }
}

#[test]
fn a_damaged_content_is_not_brought_in() {
    let place = Place::new();
    let set = place.gather(vec![file("a", "2")], &[]);
    let contents = place.path("state/changes").join(place.run.to_string()).join("content");
    for content in fs::read_dir(contents).expect("contents").flatten() {
        fs::write(content.path(), "evil").expect("written");
    }
    let before = place.snapshot();
    assert!(matches!(place.apply(&set), Err(ApplyError::Failed { .. })));
    assert_eq!(place.snapshot(), before);
}

/// Applies a set whose tree is changed after it was judged; holds that all is taken back.
#[track_caller]
fn check_taken_back(entries: Vec<(Entry, &[u8])>, gone: &[&str], meanwhile: impl Fn(&Place)) {
    let place = Place::new();
    let set = place.gather(entries, gone);
    let (root, _) = open_root(&place.tree()).expect("it opens");
    let plan = plan(&set, &[], &root, UMASK).expect("it can be planned");
    assert_eq!(plan.conflicts, []);
    meanwhile(&place);
    let before = place.snapshot();
    let failed = carry_out(&plan, &root, &place.kept(), place.run);
    assert!(matches!(failed, Err(ApplyError::Failed { .. })), "{failed:?}");
    assert_eq!(place.snapshot(), before);
    assert_eq!(fs::read_to_string(place.path("canary")).expect("a file"), "canary");
}

fn everything<'a>() -> Vec<(Entry, &'a [u8])> {
    vec![file("a", "2"), directory("b"), file("b/x", "3"), file("d/x", "4"), link("l", "d"), file("z", "5")]
}

#[test]
fn what_was_written_meanwhile_is_not_lost() {
    check_taken_back(everything(), &[], |place| {
        fs::write(place.tree().join("d/x"), "mine").expect("written")
    });
    check_taken_back(everything(), &[], |place| fs::write(place.tree().join("z"), "mine").expect("written"));
    check_taken_back(everything(), &[], |place| fs::create_dir(place.tree().join("b")).expect("made"));
}

#[test]
fn a_directory_that_became_a_link_meanwhile_is_not_followed() {
    check_taken_back(everything(), &[], |place| {
        fs::rename(place.tree().join("d"), place.path("moved")).expect("moved");
        symlink("..", place.tree().join("d")).expect("a link");
        fs::write(place.path("x"), "1").expect("written");
    });
}

#[test]
fn a_file_that_became_a_link_meanwhile_is_not_written_through() {
    check_taken_back(everything(), &[], |place| {
        fs::remove_file(place.tree().join("a")).expect("removed");
        symlink("../canary", place.tree().join("a")).expect("a link");
    });
}

#[test]
fn an_interrupted_apply_is_seen() {
    let place = Place::new();
    let set = place.gather(everything(), &[]);
    fs::create_dir(place.tree().join(".aegis-apply-x")).expect("made");
    assert!(matches!(place.apply(&set), Err(ApplyError::Interrupted { .. })));
}

fn nasty_path() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        3 => "[abdlx]",
        1 => Just("..".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just(String::new()),
        1 => Just(".git".to_owned()),
        1 => Just("\0".to_owned()),
    ];
    proptest::collection::vec(name, 1..4).prop_map(|names| names.join("/").into_bytes())
}

fn nasty_kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        Just(EntryKind::Dir),
        (0u64..4).prop_map(|size| EntryKind::File { size, data: ByteBuf::new() }),
        "(/|\\.\\./|a|d|\\.){1,4}".prop_map(|it| EntryKind::Symlink(ByteBuf::from(it))),
        nasty_path().prop_map(|it| EntryKind::Hardlink(ByteBuf::from(it))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_is_told_nothing_outside_is_touched(
        told in proptest::collection::vec((nasty_path(), nasty_kind(), 0u32..0o10_0000), 0..12),
        gone in proptest::sample::subsequence(GIVEN.to_vec(), 0..=4),
    ) {
        let place = Place::new();
        let entries: Vec<(Entry, &[u8])> = told
            .into_iter()
            .map(|(path, kind, mode)| {
                let content: &[u8] = match &kind {
                    EntryKind::File { size, .. } => &b"evil"[..*size as usize],
                    _ => b"",
                };
                (Entry { mode, ..entry(&path, kind) }, content)
            })
            .collect();
        // A path that is told twice with two sizes answers with the first.
        let mut gatherer = place.gatherer();
        gatherer.listed(entries.iter().map(|(it, _)| it.clone()).collect()).expect("within bounds");
        gatherer.met(&met(&gone)).expect("within bounds");
        gatherer.compared(&OutDone::default(), true);
        for path in gatherer.wanted() {
            let Some((it, content)) = entries.iter().find(|(it, _)| it.path.as_slice() == path) else { continue };
            let kind = EntryKind::File { size: content.len() as u64, data: ByteBuf::from(content.to_vec()) };
            let _ = gatherer.content(vec![Entry { kind, ..it.clone() }]);
        }
        let mut set = gatherer.finish().expect("it is kept");
        prop_assert_eq!(place.kept().load(place.run).expect("it is read"), Some(set.clone()));
        // Also what a caller would have to name is brought in.
        set.limits.clear();
        let (root, _) = open_root(&place.tree()).expect("it opens");
        let named: Vec<Vec<u8>> = set.changes.iter().map(|it| it.path.clone()).collect();
        let before = place.snapshot();
        if let Ok(plan) = plan(&set, &named, &root, UMASK)
            && plan.conflicts.is_empty()
            && carry_out(&plan, &root, &place.kept(), place.run).is_err()
        {
            prop_assert_eq!(place.snapshot(), before);
        }
        let mut beside: Vec<_> =
            fs::read_dir(place.path("")).expect("a directory").flatten().map(|it| it.file_name()).collect();
        beside.sort();
        prop_assert_eq!(beside, ["canary", "state", "tree"]);
        prop_assert_eq!(fs::read(place.path("canary")).expect("a file"), b"canary");
        prop_assert!(!place.tree().join(".git").exists());
    }
}
