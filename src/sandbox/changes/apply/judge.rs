//! Whether each selected change can be brought in: the tree must still be what the task was given, or be already what
//! the task made of it.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::Dir;
use rustix::io::Errno;

use crate::sandbox::beneath;
use crate::sandbox::changes::apply::look::{Seen, digest, look};
use crate::sandbox::changes::apply::{
    Conflict, ConflictKind, Plan, Step, effective_mode, replaces_directory,
};
use crate::sandbox::changes::{After, AfterKind, Before, BeforeKind, Change};

/// What is to be done about one change.
enum Verdict {
    Do,
    Already,
    Conflict(ConflictKind),
}

/// Judges the changes in path order and fills the plan.
pub(super) fn judge<'a>(selected: &[&'a Change], root: &OwnedFd, plan: &mut Plan<'a>) {
    let deleted: HashSet<&[u8]> =
        selected.iter().filter(|it| it.after.is_none()).map(|it| it.path.as_slice()).collect();
    // Directories that are made by the steps so far, where something else or nothing is now.
    let mut made: HashSet<&[u8]> = HashSet::new();
    // Directories that are gone already, with what lay in them.
    let mut vanished: HashSet<&[u8]> = HashSet::new();
    for change in selected {
        if change.after.is_none() && parent(&change.path).is_some_and(|it| vanished.contains(it)) {
            vanished.insert(&change.path);
            plan.already += 1;
            continue;
        }
        let below_made = parent(&change.path).is_some_and(|it| made.contains(it));
        let looked = if below_made { Ok(Seen::Nothing) } else { look(root, &change.path) };
        let verdict = match &looked {
            Ok(seen) => verdict(change, seen, root, &deleted, plan.umask),
            Err(cause) => Verdict::Conflict(ConflictKind::Unreadable(*cause)),
        };
        match (verdict, looked) {
            (Verdict::Do, Ok(seen)) => {
                let makes = matches!(&change.after, Some(After { kind: AfterKind::Directory, .. }))
                    && !matches!(seen, Seen::Directory { .. });
                if makes {
                    made.insert(&change.path);
                }
                plan.steps.push(Step { change, seen });
            }
            (Verdict::Conflict(why), _) => {
                plan.conflicts.push(Conflict { path: change.path.clone(), why });
            }
            (Verdict::Already | Verdict::Do, _) => {
                if !matches!(&change.after, Some(After { kind: AfterKind::Directory, .. })) {
                    vanished.insert(&change.path);
                }
                plan.already += 1;
            }
        }
    }
}

fn parent(path: &[u8]) -> Option<&[u8]> {
    path.iter().rposition(|it| *it == b'/').map(|slash| &path[..slash])
}

fn verdict(change: &Change, seen: &Seen, root: &OwnedFd, deleted: &HashSet<&[u8]>, umask: u32) -> Verdict {
    match seen {
        Seen::Blocked => return Verdict::Conflict(ConflictKind::Blocked),
        Seen::OtherDevice => return Verdict::Conflict(ConflictKind::OtherDevice),
        Seen::NoParent if change.after.is_some() => {
            return Verdict::Conflict(ConflictKind::NoParent);
        }
        Seen::NoParent => return Verdict::Already,
        _ => {}
    }
    if matches!(&change.after, Some(After { kind: AfterKind::File { sha256: None, .. }, .. })) {
        return Verdict::Conflict(ConflictKind::NoContent);
    }
    let as_given = match is_before(change, seen, root) {
        Ok(as_given) => as_given,
        Err(cause) => return Verdict::Conflict(ConflictKind::Unreadable(cause)),
    };
    if as_given {
        if replaces_directory(change) {
            return match holds_more(root, &change.path, deleted) {
                Ok(false) => Verdict::Do,
                Ok(true) => Verdict::Conflict(ConflictKind::Occupied),
                Err(cause) => Verdict::Conflict(ConflictKind::Unreadable(cause)),
            };
        }
        return Verdict::Do;
    }
    match is_after(change, seen, root, umask) {
        Ok(Likeness::Same) => Verdict::Already,
        Ok(Likeness::ButMode) => Verdict::Do,
        Ok(Likeness::Other) => Verdict::Conflict(match (&change.before, seen) {
            (None, _) => ConflictKind::Taken,
            (Some(_), Seen::Nothing) => ConflictKind::Gone,
            (Some(_), _) => ConflictKind::Changed,
        }),
        Err(cause) => Verdict::Conflict(ConflictKind::Unreadable(cause)),
    }
}

/// Whether the tree still has what the task was given.
fn is_before(change: &Change, seen: &Seen, root: &OwnedFd) -> Result<bool, Errno> {
    let Some(Before { mode, kind }) = &change.before else { return Ok(*seen == Seen::Nothing) };
    match (kind, seen) {
        (BeforeKind::Directory, Seen::Directory { mode: now }) => {
            let sets_mode = matches!(&change.after, Some(After { kind: AfterKind::Directory, .. }));
            Ok(!sets_mode || now == mode)
        }
        (BeforeKind::File { identity, sha256, .. }, Seen::File { identity: now, mode: mode_now, .. }) => {
            if *identity == Some(*now) {
                return Ok(true);
            }
            match sha256 {
                Some(sha256) if mode == mode_now && identity.is_none_or(|it| it.size == now.size) => {
                    Ok(digest(root, &change.path)? == *sha256)
                }
                Some(_) | None => Ok(false),
            }
        }
        (BeforeKind::Symlink(target), Seen::Symlink { target: now, .. }) => Ok(target == now),
        _ => Ok(false),
    }
}

/// How what lies there compares with what the task made.
enum Likeness {
    Same,
    ButMode,
    Other,
}

fn is_after(change: &Change, seen: &Seen, root: &OwnedFd, umask: u32) -> Result<Likeness, Errno> {
    let Some(After { mode, kind }) = &change.after else {
        return Ok(if *seen == Seen::Nothing { Likeness::Same } else { Likeness::Other });
    };
    let reached = |now: u32| effective_mode(*mode, now, umask) == now;
    Ok(match (kind, seen) {
        (AfterKind::Directory, Seen::Directory { mode: now }) if change.before.is_none() || reached(*now) => {
            Likeness::Same
        }
        (AfterKind::File { size, sha256: Some(sha256) }, Seen::File { identity, mode: now, .. })
            if identity.size == *size && digest(root, &change.path)? == *sha256 =>
        {
            if now == mode {
                Likeness::Same
            } else {
                Likeness::ButMode
            }
        }
        (AfterKind::Symlink(target), Seen::Symlink { target: now, .. }) if target == now => Likeness::Same,
        _ => Likeness::Other,
    })
}

/// Whether a directory holds anything, at any depth, that is not deleted with it.
fn holds_more(root: &OwnedFd, path: &[u8], deleted: &HashSet<&[u8]>) -> Result<bool, Errno> {
    let mut waiting = vec![path.to_vec()];
    while let Some(path) = waiting.pop() {
        let directory = match beneath::directory(root.as_fd(), &path) {
            Ok(directory) => directory,
            // A file or link that is deleted.
            Err(Errno::NOTDIR | Errno::LOOP) => continue,
            Err(cause) => return Err(cause),
        };
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let below = beneath::join(&path, name);
            if !deleted.contains(below.as_slice()) {
                return Ok(true);
            }
            waiting.push(below);
        }
    }
    Ok(false)
}
