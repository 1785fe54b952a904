//! Takes what init tells about a workspace after the end and makes a change set of it. Everything told is taken for
//! hostile: paths are parsed, numbers bounded, the shape of the tree is checked, and whether a file differs is decided by
//! its content.

mod caller;
mod layered;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;

use aegis_init::path_key::PathKey;
use aegis_init::wire::{DropReason, Entry, EntryKind, FETCH_PATHS_MAX, OutDone, PATH_BYTES_MAX};

use crate::sandbox::changes::gather::caller::Caller;
use crate::sandbox::changes::guard::{Guard, guard};
use crate::sandbox::changes::kept::{Content, Draft, Kept};
use crate::sandbox::changes::{
    After, AfterKind, Before, BeforeKind, Change, ChangeSet, Limit, Root, Skipped, Verb, Why,
};
use crate::sandbox::outputs::OutputLimits;
use crate::sandbox::outputs::path::SafePath;
use crate::sandbox::workspace::base::{ByPath, Given, Kind};
use crate::sandbox::workspace::{Base, LeftOut};
use crate::task::RunId;

pub use caller::{Originals, RootError, open_root};
pub use layered::Layered;

/// Entries that init is asked for: more than any limit keeps, because those in caches are only counted.
pub const LISTED_MAX: u64 = 2_000_000;
/// Entries beyond it after which the sender is given up.
const ENTRIES_SLACK: u64 = 1_000;
/// Bytes of paths and link targets that are held.
const NAMES_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Skipped entries that are named.
const SKIPPED_NAMED_MAX: usize = 1_000;
/// Content bytes beyond what was asked for after which the sender is given up.
const BYTES_SLACK: u64 = 16 * 1024 * 1024;
/// Directories that a task makes and nobody wants back: what is installed there can be installed again.
const INSTALLED: [&[u8]; 3] = [b"node_modules", b".venv", b".nox"];

/// Why a change set could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The sandbox sends on and on, or what nobody asked for.
    #[error("the sandbox sent more about its changes than any workspace can have")]
    Flood,
    /// This host could not keep it.
    #[error("the changes could not be kept on this host")]
    Io(#[from] io::Error),
}

/// What a gatherer begins with.
#[derive(Debug)]
pub struct Start {
    /// The workspace's directory.
    pub root: Root,
    /// Where what was given can be read again.
    pub originals: Originals,
    /// Which paths the workspace leaves out.
    pub left_out: LeftOut,
    /// Bounds.
    pub limits: OutputLimits,
    /// Where it is kept.
    pub kept: Kept,
    /// The run.
    pub run: RunId,
}

/// A change set in the making.
pub struct Gatherer {
    root: Root,
    caller: Caller,
    base: ByPath,
    left_out: LeftOut,
    limits: OutputLimits,
    draft: Draft,
    found: BTreeMap<Vec<u8>, Change>,
    names_bytes: usize,
    /// How many of them are there; what is gone costs nothing to keep.
    present: u64,
    entries: u64,
    key: PathKey,
    met: HashSet<u64>,
    reached: BTreeSet<Limit>,
    left_out_count: u64,
    git_count: u64,
    skipped: Vec<Skipped>,
    skipped_count: u64,
    /// Content that is on its way.
    current: Option<Writing>,
    asked: BTreeSet<Vec<u8>>,
    received_bytes: u64,
    asked_bytes: u64,
}

/// A file whose content arrives.
struct Writing {
    path: Vec<u8>,
    left: u64,
    /// `None` for a file that nobody asked for, or whose size is another.
    content: Option<Content>,
}

impl Gatherer {
    /// Begins with what the task was given. Paths that are there come as hashes under the key.
    pub fn new(start: Start, base: Base, key: PathKey) -> Result<Self, GatherError> {
        let Start { root, originals, left_out, limits, kept, run } = start;
        Ok(Self {
            root,
            caller: Caller::new(originals),
            base: base.by_path(),
            left_out,
            limits,
            draft: kept.begin(run)?,
            found: BTreeMap::new(),
            names_bytes: 0,
            present: 0,
            entries: 0,
            key,
            met: HashSet::new(),
            reached: BTreeSet::new(),
            left_out_count: 0,
            git_count: 0,
            skipped: Vec::new(),
            skipped_count: 0,
            current: None,
            asked: BTreeSet::new(),
            received_bytes: 0,
            asked_bytes: 0,
        })
    }

    /// Takes entries that are new or not what was given, without their content.
    pub fn listed(&mut self, entries: Vec<Entry>) -> Result<(), GatherError> {
        for entry in entries {
            self.entries += 1;
            if self.entries > LISTED_MAX + ENTRIES_SLACK {
                return Err(GatherError::Flood);
            }
            self.list(entry);
        }
        Ok(())
    }

    /// Takes hashes of paths that are there.
    pub fn met(&mut self, hashes: &[u64]) -> Result<(), GatherError> {
        if (self.met.len() + hashes.len()) as u64 > LISTED_MAX + ENTRIES_SLACK {
            return Err(GatherError::Flood);
        }
        self.met.extend(hashes);
        Ok(())
    }

    /// Takes the end of the listing.
    pub fn compared(&mut self, done: &OutDone, complete: bool) {
        for (path, reason) in &done.dropped {
            self.dropped(path, *reason);
        }
        let unnamed = done.dropped_count.saturating_sub(done.dropped.len() as u64);
        self.skipped_count = self.skipped_count.saturating_add(unnamed);
        if complete {
            self.look_for_gone();
        } else {
            self.incomplete();
        }
    }

    fn dropped(&mut self, path: &[u8], reason: DropReason) {
        let reached = match reason {
            DropReason::NotAFile => None,
            DropReason::EntryLimit => Some(Limit::Entries),
            DropReason::ByteLimit => Some(Limit::Bytes),
            DropReason::DepthLimit => Some(Limit::Depth),
            DropReason::TimeLimit => Some(Limit::Time),
            DropReason::Unreadable | DropReason::Foreign => Some(Limit::Unreadable),
        };
        // What nobody would have kept is not missed.
        let kept = path.is_empty() || self.is_kept(path, false, 0);
        if let Some(limit) = reached.filter(|_| kept) {
            self.reached.insert(limit);
        }
        if kept {
            self.skip(path, if reached.is_none() { Why::NotAFile } else { Why::Limit });
        }
    }

    fn incomplete(&mut self) {
        if self.reached.is_empty() {
            self.reached.insert(Limit::Unreadable);
        }
    }

    /// What was given and was not met is gone.
    fn look_for_gone(&mut self) {
        let (base, met, key) = (std::mem::take(&mut self.base), std::mem::take(&mut self.met), self.key);
        // Mostly everything was met, and then no order is needed.
        if base.unordered().all(|it| met.contains(&key.hash(&it.path))) {
            self.base = base;
            return;
        }
        for given in base.iter().filter(|it| !met.contains(&key.hash(&it.path))) {
            self.gone(given);
        }
        self.base = base;
    }

    fn gone(&mut self, given: &Given) {
        if guard(&given.path) == Some(Guard::Git) {
            self.git_count += 1;
            return;
        }
        self.names_bytes += given.path.len();
        if self.names_bytes > NAMES_BYTES_MAX {
            self.reached.insert(Limit::Entries);
            self.skipped_count += 1;
            return;
        }
        if self.found.contains_key(&given.path) {
            return self.skip(&given.path, Why::Duplicate);
        }
        let change = Change { path: given.path.clone(), before: Some(before(given)), after: None };
        self.found.insert(given.path.clone(), change);
    }

    /// The next files whose content is wanted; empty when there are none left.
    pub fn wanted(&mut self) -> Vec<Vec<u8>> {
        if self.asked_bytes == 0 && self.asked.is_empty() {
            self.check_shape();
        }
        let mut wanted = Vec::new();
        for (path, change) in &mut self.found {
            if wanted.len() == FETCH_PATHS_MAX {
                break;
            }
            let Some(After { kind: AfterKind::File { size, sha256: None }, .. }) = &change.after else {
                continue;
            };
            if self.asked.contains(path) {
                continue;
            }
            self.asked.insert(path.clone());
            if *size > self.limits.bytes.saturating_sub(self.asked_bytes) {
                self.reached.insert(Limit::Bytes);
                continue;
            }
            self.asked_bytes += size;
            wanted.push(path.clone());
        }
        wanted
    }

    /// Takes entries with content that was asked for.
    pub fn content(&mut self, entries: Vec<Entry>) -> Result<(), GatherError> {
        for entry in entries {
            self.end_file()?;
            let EntryKind::File { size, data } = &entry.kind else { return Err(GatherError::Flood) };
            self.count(data)?;
            let asked = self.found.get(entry.path.as_slice()).and_then(|it| it.after.as_ref());
            let fits = self.asked.contains(entry.path.as_slice())
                && matches!(&asked, Some(After { kind: AfterKind::File { size: told, sha256: None }, .. }) if told == size);
            let mut content = if fits { Some(self.draft.content()?) } else { None };
            if data.len() as u64 > *size {
                return Err(GatherError::Flood);
            }
            if let Some(content) = &mut content {
                content.write(data)?;
            }
            self.current =
                Some(Writing { path: entry.path.into_vec(), left: size - data.len() as u64, content });
        }
        Ok(())
    }

    /// Takes the next bytes of the last file.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), GatherError> {
        self.count(bytes)?;
        let Some(writing) = &mut self.current else { return Err(GatherError::Flood) };
        let Some(left) = writing.left.checked_sub(bytes.len() as u64) else { return Err(GatherError::Flood) };
        writing.left = left;
        if let Some(content) = &mut writing.content {
            content.write(bytes)?;
        }
        Ok(())
    }

    /// Ends one answer.
    pub fn fetched(&mut self) -> Result<(), GatherError> {
        self.end_file()
    }

    /// Ends the whole: what is kept, and the counts of it.
    pub fn finish(mut self) -> Result<ChangeSet, GatherError> {
        self.end_file()?;
        self.look_at_deleted();
        if self
            .found
            .values()
            .any(|it| matches!(&it.after, Some(After { kind: AfterKind::File { sha256: None, .. }, .. })))
            && self.reached.is_empty()
        {
            self.reached.insert(Limit::Unreadable);
        }
        let set = ChangeSet {
            root: self.root,
            changes: self.found.into_values().collect(),
            limits: self.reached.into_iter().collect(),
            left_out: self.left_out_count,
            git: self.git_count,
            skipped: self.skipped,
            skipped_count: self.skipped_count,
        };
        self.draft.finish(&set)?;
        Ok(set)
    }

    /// Gives the whole up, and leaves nothing of it.
    pub fn discard(self) {
        self.draft.discard();
    }

    fn list(&mut self, entry: Entry) {
        let Entry { path, mode, kind, .. } = entry;
        let path = path.into_vec();
        if SafePath::parse(&path).is_err() {
            self.reached.insert(Limit::Unreadable);
            return self.skip(&path, Why::Path);
        }
        let target_bytes = match &kind {
            EntryKind::Symlink(target) => target.len(),
            EntryKind::Dir | EntryKind::File { .. } | EntryKind::Hardlink(_) => 0,
        };
        if !self.is_kept(&path, matches!(kind, EntryKind::Dir), target_bytes) {
            return;
        }
        if self.found.contains_key(&path) {
            self.reached.insert(Limit::Unreadable);
            return self.skip(&path, Why::Duplicate);
        }
        let kind = match kind {
            EntryKind::Dir => AfterKind::Directory,
            EntryKind::File { size, .. } => AfterKind::File { size, sha256: None },
            EntryKind::Symlink(target)
                if !target.is_empty() && target.len() <= PATH_BYTES_MAX && !target.contains(&0) =>
            {
                AfterKind::Symlink(target.into_vec())
            }
            EntryKind::Symlink(_) | EntryKind::Hardlink(_) => {
                self.reached.insert(Limit::Unreadable);
                return self.skip(&path, Why::NotAFile);
            }
        };
        let given = self.base.find(&path);
        let after = After { mode: mode & 0o777, kind };
        if given.is_some_and(|it| is_same(it, &after)) {
            return;
        }
        let change = Change { path: path.clone(), before: given.map(before), after: Some(after) };
        self.present += 1;
        self.found.insert(path, change);
    }

    /// Whether a change at this path is one that is kept. What is not is counted.
    fn is_kept(&mut self, path: &[u8], is_dir: bool, bytes: usize) -> bool {
        if guard(path) == Some(Guard::Git) {
            self.git_count += 1;
            return false;
        }
        let (base, found) = (&self.base, &self.found);
        let exists = |it: &[u8]| base.find(it).is_some() || found.contains_key(it);
        if base.find(path).is_none() && (self.left_out.says(path, is_dir, exists) || is_installed(path, base))
        {
            self.left_out_count += 1;
            return false;
        }
        self.names_bytes += path.len() + bytes;
        if self.present >= self.limits.entries || self.names_bytes > NAMES_BYTES_MAX {
            self.reached.insert(Limit::Entries);
            self.skipped_count += 1;
            return false;
        }
        if path.iter().filter(|it| **it == b'/').count() as u64 > self.limits.depth {
            self.reached.insert(Limit::Depth);
            self.skip(path, Why::Limit);
            return false;
        }
        true
    }

    fn skip(&mut self, path: &[u8], why: Why) {
        self.skipped_count = self.skipped_count.saturating_add(1);
        if self.skipped.len() < SKIPPED_NAMED_MAX {
            self.skipped.push(Skipped { path: path[..path.len().min(PATH_BYTES_MAX)].to_vec(), why });
        }
    }

    /// Takes out what lies below anything but a directory. Parents come before what is in them.
    fn check_shape(&mut self) {
        let mut orphans = BTreeSet::new();
        for (path, change) in &self.found {
            if change.after.is_none() {
                continue;
            }
            let Some(slash) = path.iter().rposition(|it| *it == b'/') else { continue };
            let parent = &path[..slash];
            let stands = match self.found.get(parent) {
                Some(change) => {
                    matches!(change.after, Some(After { kind: AfterKind::Directory, .. }))
                        && !orphans.contains(parent)
                }
                None => matches!(self.base.find(parent), Some(Given { kind: Kind::Directory, .. })),
            };
            if !stands {
                orphans.insert(path.clone());
            }
        }
        for path in orphans {
            self.found.remove(&path);
            self.skip(&path, Why::Parent);
            self.reached.insert(Limit::Unreadable);
        }
    }

    fn count(&mut self, bytes: &[u8]) -> Result<(), GatherError> {
        self.received_bytes = self.received_bytes.saturating_add(bytes.len() as u64);
        if self.received_bytes > self.asked_bytes.saturating_add(BYTES_SLACK) {
            return Err(GatherError::Flood);
        }
        Ok(())
    }

    /// The last file is whole, or is none: it differs from what was given, or it is no change.
    fn end_file(&mut self) -> Result<(), GatherError> {
        let Some(Writing { path, left, content }) = self.current.take() else { return Ok(()) };
        let Some(content) = content.filter(|_| left == 0) else { return Ok(()) };
        let digest = content.digest();
        let Some(change) = self.found.get_mut(&path) else { return Ok(()) };
        let (size, mode) = (content.bytes(), change.after.as_ref().map_or(0, |it| it.mode));
        if let Some(Before { mode: mode_before, kind: BeforeKind::File { identity, sha256, kept } }) =
            &mut change.before
        {
            let mode_same = *mode_before == mode;
            // Another size is another content; it is read all the same where a copy of the old one is worth keeping.
            if let Some(read) = self.caller.content(&path, identity.as_ref(), &self.draft)? {
                if read.sha256 == digest && mode_same && read.bytes == size {
                    self.found.remove(&path);
                    return Ok(());
                }
                (*sha256, *kept) = (Some(read.sha256), read.kept);
            }
        }
        self.draft.keep(content)?;
        if let Some(After { kind: AfterKind::File { sha256, .. }, .. }) = &mut change.after {
            *sha256 = Some(digest);
        }
        Ok(())
    }

    /// Contents that are gone: for showing them, and for telling a rename from a deletion.
    fn look_at_deleted(&mut self) {
        for (path, change) in &mut self.found {
            let is_file = matches!(&change.after, Some(After { kind: AfterKind::File { .. }, .. }));
            if let Some(Before { kind: BeforeKind::File { identity, sha256, kept }, .. }) = &mut change.before
                && !is_file
                && let Ok(Some(read)) = self.caller.content(path, identity.as_ref(), &self.draft)
            {
                (*sha256, *kept) = (Some(read.sha256), read.kept);
            }
        }
    }
}

/// Whether an entry is what was given as far as can be told without its content: only directories and links.
fn is_same(given: &Given, after: &After) -> bool {
    match (&given.kind, &after.kind) {
        (Kind::Directory, AfterKind::Directory) => given.mode & 0o777 == after.mode,
        (Kind::Symlink(before), AfterKind::Symlink(after)) => before == after,
        _ => false,
    }
}

fn before(given: &Given) -> Before {
    let kind = match &given.kind {
        Kind::Directory => BeforeKind::Directory,
        Kind::File { identity } => BeforeKind::File { identity: *identity, sha256: None, kept: false },
        Kind::Symlink(target) => BeforeKind::Symlink(target.clone()),
    };
    Before { mode: given.mode & 0o777, kind }
}

/// Whether the path lies in a directory of installed things that the task made itself.
fn is_installed(path: &[u8], base: &ByPath) -> bool {
    let mut start = 0;
    while start < path.len() {
        let length = path[start..].iter().position(|it| *it == b'/').unwrap_or(path.len() - start);
        if INSTALLED.contains(&&path[start..start + length]) && base.find(&path[..start + length]).is_none() {
            return true;
        }
        start += length + 1;
    }
    false
}

/// How many changes there are of each kind: added, modified, deleted.
pub fn counts(set: &ChangeSet) -> (u64, u64, u64) {
    let (mut added, mut modified, mut deleted) = (0, 0, 0);
    for change in &set.changes {
        match change.verb() {
            Verb::Added => added += 1,
            Verb::Modified => modified += 1,
            Verb::Deleted => deleted += 1,
        }
    }
    (added, modified, deleted)
}
