//! What a workspace has become since its snapshot. Pure.

use std::collections::{HashMap, HashSet};

use crate::sandbox::beneath;
use crate::sandbox::workspace::snapshot::manifest::{Kind, Manifest, Places, kind};
use crate::sandbox::workspace::{Meta, Plan, What};

/// A file whose kernel time lies this little before the look is taken for changed: clocks of file systems have ticks of
/// up to two seconds, and within one a change leaves no trace.
const TICK_S: i64 = 2;

/// What its owner needs to change a directory.
const OPEN: u32 = 0o300;

/// How what stays as it is gets into a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    /// It lies below. A file of several names is put above it in any case: what a task writes by one name is then seen by
    /// all of them.
    Tree,
    /// Its messages are sent.
    Messages,
}

/// The way from a snapshot to a plan.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Directories of the snapshot whose entries or looks change, parents first; then those that go and are closed.
    pub(in crate::sandbox::workspace) touched: Vec<(Vec<u8>, Meta)>,
    /// What is in the snapshot and goes, children before parents.
    pub(in crate::sandbox::workspace) gone: Vec<GonePath>,
    /// What comes, in the plan's order.
    pub(in crate::sandbox::workspace) directories: Vec<Come>,
    /// Entries that come or go, but those that always do.
    pub count: u64,
    /// Bytes that come with them.
    pub bytes: u64,
}

/// A path that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sandbox::workspace) struct GonePath {
    pub path: Vec<u8>,
    pub directory: bool,
    /// Whether its content was ours.
    pub text: bool,
}

/// What comes of one directory of a plan.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sandbox::workspace) struct Come {
    /// Its place in the plan.
    pub directory: usize,
    /// Whether it is not in the snapshot.
    pub new: bool,
    /// Places of its items.
    pub items: Vec<usize>,
}

/// Compares.
pub(super) fn compare(manifest: &Manifest, plan: &Plan, medium: Medium) -> Changes {
    let places = manifest.places();
    let always = match medium {
        Medium::Tree => of_several_names(plan),
        Medium::Messages => HashSet::new(),
    };
    let mut changes = Changes::default();
    // For each path of the snapshot whether it stays as it is; a hard link stays only if its first name does.
    let mut kept = vec![false; manifest.entries.len()];
    // Directories that are there, with their places.
    let mut there: HashMap<&[u8], Option<usize>> = HashMap::new();
    for (index, directory) in plan.directories.iter().enumerate() {
        let place = places.find(&directory.to);
        let place = place.filter(|it| matches!(manifest.entries[*it].kind, Kind::Directory(_)));
        let known = place.is_some();
        if let Some(place) = place {
            kept[place] = true;
        }
        if known || directory.to.is_empty() {
            there.insert(&directory.to, place);
        }
        let mut come = Come { directory: index, new: directory.made.is_some() && !known, items: Vec::new() };
        for (number, item) in directory.items.iter().enumerate() {
            let path = beneath::join(&directory.to, &item.name);
            let found = places.find(&path);
            let now = kind(&item.what);
            let same = found.is_some_and(|it| is_same(manifest, &manifest.entries[it].kind, &now))
                && first_is_kept(&now, &places, &kept);
            if always.contains(&path) {
                come.items.push(number);
            } else if let Some(place) = found.filter(|_| same) {
                kept[place] = true;
            } else {
                changes.count += 1;
                changes.bytes += size(&now);
                come.items.push(number);
            }
        }
        if come.new || !come.items.is_empty() {
            changes.count += u64::from(come.new);
            changes.directories.push(come);
        }
    }
    for (packed, _) in manifest.entries.iter().zip(&kept).rev().filter(|(_, kept)| !**kept) {
        let directory = matches!(packed.kind, Kind::Directory(_));
        let text = packed.kind == Kind::Text;
        changes.count += u64::from(!always.contains(packed.path.as_slice()));
        changes.gone.push(GonePath { path: packed.path.to_vec(), directory, text });
    }
    touch(&mut changes, manifest, plan, &there);
    // What is in a directory that goes must be reached, too.
    for (packed, _) in manifest.entries.iter().zip(&kept).filter(|(_, kept)| !**kept) {
        if let Kind::Directory(Some((mode, mtime_s, mtime_ns))) = packed.kind
            && mode & OPEN != OPEN
        {
            changes.touched.push((packed.path.to_vec(), Meta { mode, mtime_s, mtime_ns }));
        }
    }
    changes
}

/// Every name of the files that have several.
fn of_several_names(plan: &Plan) -> HashSet<Vec<u8>> {
    let mut names = HashSet::new();
    for directory in &plan.directories {
        for item in &directory.items {
            if let What::Hardlink(first, _) = &item.what {
                names.insert(first.clone());
                names.insert(beneath::join(&directory.to, &item.name));
            }
        }
    }
    names
}

/// Directories that were changed themselves, in which something changes, or through which no way would lead.
fn touch(changes: &mut Changes, manifest: &Manifest, plan: &Plan, there: &HashMap<&[u8], Option<usize>>) {
    let mut within: HashSet<&[u8]> = HashSet::new();
    let come = changes.directories.iter();
    for come in come.filter(|it| it.new || !it.items.is_empty()) {
        let path = plan.directories[come.directory].to.as_slice();
        within.insert(if come.new { parent(path) } else { path });
        within.insert(path);
    }
    within.extend(changes.gone.iter().map(|it| parent(&it.path)));
    let mut ways: HashSet<&[u8]> = HashSet::new();
    for path in &within {
        let mut path = *path;
        while !path.is_empty() && ways.insert(path) {
            path = parent(path);
        }
    }
    for directory in &plan.directories {
        let path = directory.to.as_slice();
        let (Some(meta), Some(place)) = (directory.made, there.get(path)) else { continue };
        let packed = place.map(|it| &manifest.entries[it].kind);
        let now = Kind::Directory(Some((meta.mode, meta.mtime_s, meta.mtime_ns)));
        let open = matches!(packed, Some(Kind::Directory(Some((mode, ..)))) if mode & OPEN == OPEN);
        if packed != Some(&now) || within.contains(path) || (ways.contains(path) && !open) {
            changes.touched.push((path.to_vec(), meta));
        }
    }
}

/// Whether nothing of the file changed since it was packed, and nothing could have without a trace.
fn is_same(manifest: &Manifest, packed: &Kind, now: &Kind) -> bool {
    let settled = match now {
        Kind::File(seen) | Kind::Symlink(seen) | Kind::Hardlink(_, seen) => {
            seen.ctime_s < manifest.seen_s - TICK_S
        }
        Kind::Directory(_) | Kind::Text => false,
    };
    settled && packed == now
}

fn first_is_kept(now: &Kind, places: &Places<'_>, kept: &[bool]) -> bool {
    match now {
        Kind::Hardlink(first, _) => places.find(first).is_some_and(|it| kept[it]),
        Kind::Directory(_) | Kind::File(_) | Kind::Symlink(_) | Kind::Text => true,
    }
}

fn size(kind: &Kind) -> u64 {
    match kind {
        Kind::File(seen) => seen.size(),
        Kind::Directory(_) | Kind::Symlink(_) | Kind::Hardlink(..) | Kind::Text => 0,
    }
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|it| *it == b'/').map_or(b"", |at| &path[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::workspace::{Choice, Limits, scan};

    /// Packs a tree that `first` made, lets `then` change it, and holds what comes and what goes. `young` is how many
    /// seconds after the first look the manifest says that it was made.
    fn check(
        first: impl Fn(&std::path::Path),
        then: impl Fn(&std::path::Path),
        age_s: i64,
        come: &[&str],
        gone: &[&str],
    ) {
        check_on(Medium::Messages, (first, then), age_s, come, gone);
    }

    fn check_on(
        medium: Medium,
        (first, then): (impl Fn(&std::path::Path), impl Fn(&std::path::Path)),
        age_s: i64,
        come: &[&str],
        gone: &[&str],
    ) {
        let kept = tempfile::tempdir().expect("a directory");
        let limits = Limits { bytes: 1 << 30, files: 1000 };
        first(kept.path());
        let now = jiff::Timestamp::now().as_second();
        let plan = scan(kept.path(), limits, &Choice::PLAIN).expect("a plan");
        let manifest = Manifest::of(&plan, b"root", "boot", now + age_s);
        let manifest = Manifest::decode(&manifest.encode().expect("encoded")).expect("decoded");
        then(kept.path());
        let plan = scan(kept.path(), limits, &Choice::PLAIN).expect("a plan");
        let changes = compare(&manifest, &plan, medium);
        let mut paths = Vec::new();
        for it in &changes.directories {
            let directory = &plan.directories[it.directory];
            paths.extend(it.new.then(|| directory.to.clone()));
            paths.extend(
                it.items.iter().map(|item| beneath::join(&directory.to, &directory.items[*item].name)),
            );
        }
        let text = |paths: Vec<Vec<u8>>| -> Vec<String> {
            paths.into_iter().map(|it| String::from_utf8(it).expect("a name")).collect()
        };
        assert_eq!(text(paths), come);
        assert_eq!(text(changes.gone.into_iter().map(|it| it.path).collect()), gone);
    }

    fn project(root: &std::path::Path) {
        std::fs::create_dir_all(root.join("a/b")).expect("made");
        for name in ["a/one", "a/b/two", "three"] {
            std::fs::write(root.join(name), name).expect("written");
        }
        std::fs::hard_link(root.join("a/one"), root.join("name")).expect("linked");
    }

    const OLD: i64 = 10;

    #[test]
    fn what_is_as_it_was_is_not_sent() {
        check(project, |_| {}, OLD, &[], &[]);
    }

    #[test]
    fn what_is_young_is_sent_again() {
        let all = ["name", "three", "a/one", "a/b/two"];
        check(project, |_| {}, 0, &all, &["a/b/two", "a/one", "three", "name"]);
    }

    #[test]
    fn a_file_of_several_names_goes_and_comes_with_all_of_them() {
        let edit = |root: &std::path::Path| std::fs::write(root.join("name"), "edited").expect("written");
        check(project, edit, OLD, &["name", "a/one"], &["a/one", "name"]);
    }

    #[test]
    fn over_a_tree_a_file_of_several_names_always_comes() {
        let names = ["name", "a/one"];
        check_on(Medium::Tree, (project, |_: &std::path::Path| {}), OLD, &names, &["a/one", "name"]);
    }

    #[test]
    fn a_directory_goes_after_what_is_in_it_and_comes_before() {
        let edit =
            |root: &std::path::Path| std::fs::rename(root.join("a/b"), root.join("a/c")).expect("moved");
        // Its files are the same, at other paths.
        check(project, edit, OLD, &["a/c", "a/c/two"], &["a/b/two", "a/b"]);
    }

    #[test]
    fn a_file_in_the_place_of_a_directory_comes_after_it_went() {
        let edit = |root: &std::path::Path| {
            std::fs::remove_dir_all(root.join("a/b")).expect("removed");
            std::fs::write(root.join("a/b"), "").expect("written");
        };
        check(project, edit, OLD, &["a/b"], &["a/b/two", "a/b"]);
    }
}
