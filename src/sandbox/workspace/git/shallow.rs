//! `--git shallow`: the repository as a clone of depth one has it. One pack with the commit at HEAD, its trees and files
//! and what is staged, made here without git; one branch, and no other history.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crate::sandbox::beneath;
use crate::sandbox::workspace::git::index::{self, INDEX_BYTES_MAX};
use crate::sandbox::workspace::git::objects::{Kind, Object, ObjectError, Objects, Oid};
use crate::sandbox::workspace::git::pack::{Pack, PackWriter};
use crate::sandbox::workspace::git::{GIT, open, read_up_to};
use crate::sandbox::workspace::scan::Walk;
use crate::sandbox::workspace::{Directory, Item, Meta, What, WorkspaceError};

/// Bytes of `HEAD` or a reference.
const REFERENCE_BYTES_MAX: u64 = 4096;
/// Bytes of `packed-refs`.
const PACKED_REFS_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// References that lead from one to the next.
const REFERENCES_MAX: usize = 5;

/// What stands at HEAD.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    /// The branch, where it is one.
    branch: Option<Vec<u8>>,
    /// The commit, where there is one.
    commit: Option<Oid>,
}

/// Gives the planned `.git` its objects; `own` is the working tree's git directory, `common` what it shares with others.
pub fn fill(walk: &mut Walk, own: &Path, common: &Path) -> Result<(), WorkspaceError> {
    let Some(at) = walk.plan.directories.iter().position(|it| it.to == GIT) else { return Ok(()) };
    let (own, common) = (open(own)?, open(common)?);
    if beneath::directory(common.as_fd(), b"reftable").is_ok() {
        return Err(refused("it keeps its references in a reftable"));
    }
    let head = head(own.as_fd(), common.as_fd())?;
    let bytes_max = walk.plan.limits.bytes;
    let objects = beneath::directory(common.as_fd(), b"objects").map_err(|_| refused("it has no objects"))?;
    let objects = Objects::open(objects, bytes_max);
    let mut taken = Taken { objects, pack: PackWriter::new(), known: HashSet::new(), inflated: 0, bytes_max };
    let has_parents = match head.commit {
        Some(commit) => taken.commit(commit)?,
        None => false,
    };
    taken.staged(own.as_fd())?;
    lay_down(walk, at, &head, has_parents, taken.pack.finish());
    Ok(())
}

/// The objects that were taken so far.
struct Taken {
    objects: Objects,
    pack: PackWriter,
    known: HashSet<Oid>,
    inflated: u64,
    bytes_max: u64,
}

impl Taken {
    /// Takes a commit with its trees and files; whether it has parents.
    fn commit(&mut self, oid: Oid) -> Result<bool, WorkspaceError> {
        let (kind, data) = self.take(oid)?;
        let tree = data.strip_prefix(b"tree ").and_then(|it| it.get(..40)).and_then(oid_of);
        let Some(tree) = tree.filter(|_| kind == Kind::Commit) else {
            return Err(refused("what HEAD names is no commit"));
        };
        let mut pending = vec![tree];
        self.known.insert(tree);
        while let Some(next) = pending.pop() {
            let (kind, data) = self.take(next)?;
            if kind != Kind::Tree {
                continue;
            }
            for entry in entries(&data) {
                let (is_module, child) = entry.ok_or_else(|| failed(&ObjectError::Damaged(next)))?;
                // The commit of a submodule is another repository's.
                if !is_module && self.known.insert(child) {
                    pending.push(child);
                }
            }
        }
        let header = data.split(|it| *it == b'\n').take_while(|it| !it.is_empty());
        Ok(header.into_iter().any(|it| it.starts_with(b"parent ")))
    }

    /// Takes files that are staged and not in the commit.
    fn staged(&mut self, own: BorrowedFd<'_>) -> Result<(), WorkspaceError> {
        let Ok((_, bytes)) = read_up_to(own, b"index", INDEX_BYTES_MAX) else { return Ok(()) };
        let mut staged = Vec::new();
        // An index that cannot be read is git's to complain of; what is in it only is not taken.
        let _ = index::staged(&bytes, |oid| staged.push(oid));
        for oid in staged {
            if !self.known.insert(oid) {
                continue;
            }
            match self.objects.read(&oid) {
                // A file that was announced with `git add -N` has no object yet.
                Err(ObjectError::Missing(_)) => {}
                Err(error) => return Err(failed(&error)),
                Ok(object) => self.keep(oid, object).map(drop)?,
            }
        }
        Ok(())
    }

    fn take(&mut self, oid: Oid) -> Result<(Kind, Vec<u8>), WorkspaceError> {
        let object = self.objects.read(&oid).map_err(|it| failed(&it))?;
        self.keep(oid, object)
    }

    fn keep(&mut self, oid: Oid, object: Object) -> Result<(Kind, Vec<u8>), WorkspaceError> {
        self.inflated = self.inflated.saturating_add(object.data.len() as u64);
        if self.inflated > self.bytes_max || self.pack.length() > self.bytes_max {
            return Err(refused("the files of its last commit are more than the workspace may hold"));
        }
        self.pack.add(oid, &object).map_err(|it| refused(&it.to_string()))?;
        Ok((object.kind, object.data))
    }
}

/// Puts the pack, the branch and the edge of the history into the plan, below the directory at `at`.
fn lay_down(walk: &mut Walk, at: usize, head: &Head, has_parents: bool, pack: Option<Pack>) {
    let git = &mut walk.plan.directories[at];
    let meta = git.made.unwrap_or(Meta { mode: 0o755, mtime_s: 0, mtime_ns: 0 });
    let text = |name: &str, content: Vec<u8>| Item {
        name: name.as_bytes().to_vec(),
        what: What::Text(Box::new((Meta { mode: 0o644, ..meta }, content))),
    };
    let mut added = Vec::new();
    if let Some(commit) = head.commit {
        let commit = hex::encode(commit).into_bytes();
        if let Some(branch) = &head.branch {
            added.push(text("packed-refs", [commit.as_slice(), b" ", branch, b"\n"].concat()));
        }
        if has_parents {
            added.push(text("shallow", [commit.as_slice(), b"\n"].concat()));
        }
    }
    let mut packed = Vec::new();
    if let Some(Pack { name, content, index }) = pack {
        packed = vec![text(&format!("{name}.pack"), content), text(&format!("{name}.idx"), index)];
    }
    let (source, from) = (git.source, git.from.clone());
    git.items.extend(added);
    for (to, items) in
        [(".git/refs", Vec::new()), (".git/objects", Vec::new()), (".git/objects/pack", packed)]
    {
        walk.add(Directory {
            source,
            from: from.clone(),
            to: to.as_bytes().to_vec(),
            made: Some(meta),
            items,
        });
    }
}

/// Follows HEAD to a commit; an unborn branch has none.
fn head(own: BorrowedFd<'_>, common: BorrowedFd<'_>) -> Result<Head, WorkspaceError> {
    let (_, text) =
        read_up_to(own, b"HEAD", REFERENCE_BYTES_MAX).map_err(|_| refused("its HEAD cannot be read"))?;
    let mut text = text.trim_ascii().to_vec();
    let mut branch: Option<Vec<u8>> = None;
    for _ in 0..REFERENCES_MAX {
        let Some(name) = text.strip_prefix(b"ref:").map(<[u8]>::trim_ascii) else {
            let commit = oid_of(&text).ok_or_else(|| refused("its objects are not named by SHA-1"))?;
            return Ok(Head { branch, commit: Some(commit) });
        };
        let name = name.to_vec();
        if !name.starts_with(b"refs/") {
            return Err(refused("its HEAD names no branch"));
        }
        let found = reference(common, &name);
        branch.get_or_insert(name);
        match found {
            Some(next) => text = next,
            None => return Ok(Head { branch, commit: None }),
        }
    }
    Err(refused("its HEAD leads from reference to reference"))
}

fn reference(common: BorrowedFd<'_>, name: &[u8]) -> Option<Vec<u8>> {
    let slash = name.iter().rposition(|it| *it == b'/')?;
    let loose = beneath::directory(common, &name[..slash])
        .and_then(|it| read_up_to(it.as_fd(), &name[slash + 1..], REFERENCE_BYTES_MAX));
    if let Ok((_, text)) = loose {
        return Some(text.trim_ascii().to_vec());
    }
    let mut packed = Vec::new();
    let opened = beneath::file(common, b"packed-refs").ok()?;
    File::from(opened).take(PACKED_REFS_BYTES_MAX).read_to_end(&mut packed).ok()?;
    let line = packed.split(|it| *it == b'\n').find(|it| it.get(41..) == Some(name))?;
    Some(line[..40].to_vec())
}

/// Whether each entry of a tree is a submodule, and its object; `None` for what is no entry.
fn entries(tree: &[u8]) -> impl Iterator<Item = Option<(bool, Oid)>> {
    let mut rest = tree;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let entry = memchr::memchr(0, rest).and_then(|end| {
            let oid: Oid = rest.get(end + 1..end + 21)?.try_into().ok()?;
            let is_module = rest.starts_with(b"160000 ");
            rest = &rest[end + 21..];
            Some((is_module, oid))
        });
        if entry.is_none() {
            rest = &[];
        }
        Some(entry)
    })
}

fn oid_of(hex_text: &[u8]) -> Option<Oid> {
    let mut oid = Oid::default();
    hex::decode_to_slice(hex_text, &mut oid).ok()?;
    Some(oid)
}

fn failed(error: &ObjectError) -> WorkspaceError {
    refused(&error.to_string())
}

fn refused(reason: &str) -> WorkspaceError {
    WorkspaceError::Shallow { reason: reason.to_owned() }
}
