//! Takes what changed from the layer over a snapshot: what was put there before the task began against what lies there
//! after it. What is in neither is the snapshot's, which nobody changes.

use std::collections::{BTreeMap, HashMap};

use aegis_init::wire::{DropReason, Entry, EntryKind};
use serde_bytes::ByteBuf;

use crate::sandbox::changes::gather::{GatherError, Gatherer};
use crate::sandbox::changes::layer::{Laid, Met, What};

/// A layer that is being compared.
pub struct Layered {
    given: HashMap<Vec<u8>, Laid>,
    /// Paths at and below which the snapshot is not to be seen any more, where it has something that was given.
    hidden: Vec<Vec<u8>>,
    complete: bool,
}

impl Layered {
    /// Begins with what was put there.
    pub fn new(given: Vec<Laid>) -> Self {
        let given = given.into_iter().map(|it| (it.path.clone(), it)).collect();
        Self { given, hidden: Vec::new(), complete: true }
    }

    /// Takes what the walk meets, in its order.
    pub fn take(&mut self, gatherer: &mut Gatherer, met: Vec<Met>) -> Result<(), GatherError> {
        let mut listed = Vec::new();
        for met in met {
            match met {
                Met::Laid(laid) => listed.extend(self.differs(gatherer, laid)),
                Met::Dropped(path, reason) => {
                    // What lies in it was told before it.
                    gatherer.listed(std::mem::take(&mut listed))?;
                    self.complete &= reason == DropReason::NotAFile;
                    gatherer.dropped(&path, reason);
                    self.hide(gatherer, path);
                }
            }
        }
        gatherer.listed(listed)
    }

    /// Takes the end of the walk.
    pub fn end(self, gatherer: &mut Gatherer) {
        if self.complete {
            self.look_for_gone(gatherer);
        } else {
            gatherer.incomplete();
        }
    }

    /// What is to be listed of a path; `None` if it is as it was given, or nothing is there.
    fn differs(&mut self, gatherer: &mut Gatherer, laid: Laid) -> Option<Entry> {
        if laid.what != What::Nothing {
            gatherer.met.insert(gatherer.key.hash(&laid.path));
        }
        if self.given.get(&laid.path) == Some(&laid) {
            return None;
        }
        if laid.what != (What::Directory { hides: false }) {
            self.hide(gatherer, laid.path.clone());
        }
        let kind = match laid.what {
            What::Nothing => return None,
            What::Directory { .. } => EntryKind::Dir,
            What::File { size, .. } => EntryKind::File { size, data: ByteBuf::new() },
            What::Symlink { target, .. } => EntryKind::Symlink(target.into()),
        };
        // Another time is no change.
        Some(Entry { path: laid.path.into(), mode: laid.mode, mtime_s: 0, mtime_ns: 0, kind })
    }

    fn hide(&mut self, gatherer: &Gatherer, path: Vec<u8>) {
        if gatherer.base.within(&path).next().is_some() {
            self.hidden.push(path);
        }
    }

    /// What was given, and is neither in the layer nor to be seen below it.
    fn look_for_gone(self, gatherer: &mut Gatherer) {
        let base = std::mem::take(&mut gatherer.base);
        let is_met = |path: &[u8]| gatherer.met.contains(&gatherer.key.hash(path));
        let mut gone = BTreeMap::new();
        for path in &self.hidden {
            gone.extend(base.within(path).filter(|it| !is_met(&it.path)).map(|it| (&it.path, it)));
        }
        for laid in self.given.values().filter(|it| it.what != What::Nothing && !is_met(&it.path)) {
            gone.extend(base.find(&laid.path).map(|it| (&it.path, it)));
        }
        for given in gone.into_values() {
            gatherer.gone(given);
        }
        gatherer.base = base;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use std::time::{Duration, Instant};

    use aegis_init::path_key::PathKey;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;
    use crate::sandbox::changes::gather::{Originals, Start, open_root};
    use crate::sandbox::changes::kept::Kept;
    use crate::sandbox::changes::layer::{self, Walk};
    use crate::sandbox::changes::{ChangeSet, Limit, Verb};
    use crate::sandbox::outputs::OutputLimits;
    use crate::sandbox::workspace::{self, Choice, Limits};
    use crate::task::RunId;

    const DEPTH_MAX: u64 = 3;

    /// Compares a layer over `a`, `d`, `d/x` and `l` that was `given` and became `now`.
    fn compare(given: impl Fn(&Path), now: impl Fn(&Path)) -> ChangeSet {
        let kept = tempfile::tempdir().expect("a directory");
        let path = |name: &str| fs::canonicalize(kept.path()).expect("a path").join(name);
        let (tree, upper) = (path("tree"), path("upper"));
        for directory in ["tree/d", "upper", "state"] {
            fs::create_dir_all(path(directory)).expect("directories");
        }
        fs::set_permissions(tree.join("d"), fs::Permissions::from_mode(0o755)).expect("set");
        fs::write(tree.join("a"), "1").expect("a file");
        fs::write(tree.join("d/x"), "1").expect("a file");
        symlink("a", tree.join("l")).expect("a link");
        let plan = workspace::scan(&tree, Limits { bytes: 1 << 20, files: 100 }, &Choice::PLAIN);
        let plan = plan.expect("it can be copied");
        let base = workspace::send(&plan, &mut |_| Ok(())).expect("it is sent").base;
        let (directory, root) = open_root(&tree).expect("it opens");
        let limits = OutputLimits { bytes: 1 << 20, entries: 100, depth: DEPTH_MAX };
        let (left_out, kept) = (plan.left_out.clone(), Kept::new(&path("state")));
        let start = Start {
            root,
            originals: Originals::Tree(directory),
            left_out,
            limits,
            kept,
            run: RunId::generate(),
        };
        let mut gatherer = Gatherer::new(start, base, PathKey([7; 16])).expect("it can be kept");

        given(&upper);
        let deadline = Instant::now() + Duration::from_secs(60);
        let laid = layer::given(&upper, &tree, DEPTH_MAX, deadline).expect("it is looked at");
        now(&upper);
        let walk = Walk::new(&upper, &tree, DEPTH_MAX, deadline).expect("it is looked at");
        let mut layered = Layered::new(laid);
        layered.take(&mut gatherer, walk.collect()).expect("within bounds");
        layered.end(&mut gatherer);
        // Contents are not asked for.
        gatherer.check_shape();
        gatherer.finish().expect("it is kept")
    }

    fn nothing(_: &Path) {}

    fn check(given: impl Fn(&Path), now: impl Fn(&Path), expected: &[(&str, Verb)]) {
        let set = compare(given, now);
        let told: Vec<_> =
            set.changes.iter().map(|it| (String::from_utf8_lossy(&it.path), it.verb())).collect();
        let expected: Vec<_> = expected.iter().map(|(path, verb)| ((*path).into(), *verb)).collect();
        assert_eq!(told, expected);
    }

    fn whiteout(upper: &Path, name: &str) {
        let made = mknodat(CWD, upper.join(name), FileType::CharacterDevice, Mode::empty(), 0);
        made.expect("a whiteout");
    }

    #[test]
    fn an_empty_layer_changes_nothing() {
        check(nothing, nothing, &[]);
    }

    #[test]
    fn what_was_given_and_is_as_it_was_is_no_change() {
        let given = |upper: &Path| {
            whiteout(upper, "l");
            fs::create_dir(upper.join("d")).expect("a directory");
            fs::write(upper.join("d/x"), "2").expect("a file");
        };
        check(given, nothing, &[]);
    }

    #[test]
    fn what_was_given_and_is_gone_is_told() {
        let given = |upper: &Path| fs::write(upper.join("a"), "2").expect("a file");
        check(given, |upper| fs::remove_file(upper.join("a")).expect("removed"), &[("a", Verb::Deleted)]);
    }

    #[test]
    fn a_file_with_another_stamp_is_told() {
        let given = |upper: &Path| fs::write(upper.join("a"), "2").expect("a file");
        let now = |upper: &Path| {
            fs::write(upper.join("other"), "2").expect("a file");
            fs::rename(upper.join("other"), upper.join("a")).expect("renamed");
        };
        check(given, now, &[("a", Verb::Modified)]);
    }

    #[test]
    fn what_is_whited_out_is_gone_with_all_that_was_in_it() {
        check(nothing, |upper| whiteout(upper, "d"), &[("d", Verb::Deleted), ("d/x", Verb::Deleted)]);
    }

    #[test]
    fn below_a_file_nothing_is_left() {
        let now = |upper: &Path| fs::write(upper.join("d"), "2").expect("a file");
        check(nothing, now, &[("d", Verb::Modified), ("d/x", Verb::Deleted)]);
    }

    #[test]
    fn a_directory_that_was_only_copied_up_is_no_change_and_its_mode_is_one() {
        let up = |mode: u32| {
            move |upper: &Path| {
                let permissions = fs::Permissions::from_mode(mode);
                fs::create_dir(upper.join("d")).expect("a directory");
                fs::set_permissions(upper.join("d"), permissions).expect("set");
            }
        };
        check(nothing, up(0o755), &[]);
        check(nothing, up(0o700), &[("d", Verb::Modified)]);
    }

    #[test]
    fn a_fifo_is_named_and_nothing_is_missing_for_it() {
        let now = |upper: &Path| {
            mknodat(CWD, upper.join("a"), FileType::Fifo, Mode::RUSR, 0).expect("a FIFO");
            whiteout(upper, "l");
        };
        let set = compare(nothing, now);
        assert_eq!((set.changes.len(), set.skipped_count), (2, 1));
        assert_eq!(set.limits, []);
    }

    #[test]
    fn too_deep_a_layer_is_told_as_far_as_it_may_be_and_nothing_is_taken_for_gone() {
        let now = |upper: &Path| {
            fs::create_dir_all(upper.join("1/2/3/4/5")).expect("directories");
            whiteout(upper, "a");
        };
        let set = compare(nothing, now);
        assert!(set.changes.iter().all(|it| it.verb() == Verb::Added));
        assert_eq!(set.limits, [Limit::Depth]);
    }

    #[test]
    fn a_walk_that_takes_too_long_ends() {
        let kept = tempfile::tempdir().expect("a directory");
        fs::write(kept.path().join("a"), "").expect("a file");
        let walk = Walk::new(kept.path(), kept.path(), DEPTH_MAX, Instant::now()).expect("it is looked at");
        let met: Vec<Met> = walk.collect();
        assert_eq!(met, [Met::Dropped(b"a".to_vec(), DropReason::TimeLimit)]);
    }
}
