//! Which withheld files can be read all the same, because git tracks them and its objects go in.
//!
//! The index says what is tracked now. What was committed once and removed since is in the history too, and is not found
//! here: finding it would mean reading every tree.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use crate::sandbox::beneath;
use crate::sandbox::workspace::Plan;
use crate::sandbox::workspace::git::index::{self, INDEX_BYTES_MAX, NoIndex};

const INDEX: &[u8] = b"index";

/// Marks what is tracked; `trees` are working trees whose `.git` is a file, with their git directories.
pub fn mark(plan: &mut Plan, trees: &[(Vec<u8>, Vec<u8>)]) {
    if plan.summary.withheld.is_empty() {
        return;
    }
    let mut tracked = Vec::new();
    for (at, directory) in plan.directories.iter().enumerate() {
        if !directory.items.iter().any(|it| it.name == INDEX) {
            continue;
        }
        let tree = match trees.iter().find(|(_, git)| *git == directory.to) {
            Some((tree, _)) => tree.as_slice(),
            None => match directory.to.strip_suffix(b".git") {
                Some(parent) => parent.strip_suffix(b"/").unwrap_or(parent),
                None => continue,
            },
        };
        tracked.extend(tracked_below(plan, at, tree));
    }
    for at in tracked {
        plan.summary.withheld[at].in_history = true;
    }
}

/// Which entries of the list lie in this working tree and are tracked in the index of the directory `at` of the plan.
fn tracked_below(plan: &Plan, at: usize, tree: &[u8]) -> Vec<usize> {
    let mut wanted: HashMap<&[u8], usize> = HashMap::new();
    for (number, it) in plan.summary.withheld.iter().enumerate() {
        let relative = if tree.is_empty() {
            Some(it.path.as_slice())
        } else {
            it.path.strip_prefix(tree).and_then(|rest| rest.strip_prefix(b"/"))
        };
        if let Some(relative) = relative {
            wanted.insert(relative, number);
        }
    }
    if wanted.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let read = read_index(plan, at).and_then(|bytes| {
        index::tracked(&bytes, |path| {
            if let Some(below) = path.strip_suffix(b"/") {
                // A sparse index names a directory for all that is in it.
                let inside = |it: &&[u8]| it.strip_prefix(below).is_some_and(|rest| rest.starts_with(b"/"));
                found.extend(wanted.iter().filter(|(it, _)| inside(it)).map(|(_, number)| *number));
            }
            let mut path = Some(path);
            while let Some(here) = path {
                found.extend(wanted.get(here));
                path = here.iter().rposition(|it| *it == b'/').map(|slash| &here[..slash]);
            }
        })
    });
    match read {
        Ok(()) => found,
        // What cannot be told is told as the worse of both.
        Err(NoIndex) => wanted.into_values().collect(),
    }
}

fn read_index(plan: &Plan, at: usize) -> Result<Vec<u8>, NoIndex> {
    let directory = &plan.directories[at];
    let source = plan.sources[directory.source].as_fd();
    let opened = beneath::directory(source, &directory.from).map_err(|_| NoIndex)?;
    let opened = beneath::file(opened.as_fd(), INDEX).map_err(|_| NoIndex)?;
    let mut bytes = Vec::new();
    File::from(opened).take(INDEX_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|_| NoIndex)?;
    if bytes.len() as u64 > INDEX_BYTES_MAX { Err(NoIndex) } else { Ok(bytes) }
}
