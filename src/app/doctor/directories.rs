//! The directories of Aegis, looked at as they are: unlike a run, this makes none.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::app::doctor::free;
use crate::config::surroundings::Surroundings;
use crate::config::{DirectoryError, runtime_dir, state_dir};
use crate::doctor::facts::{DirectoryFacts, Space};
use crate::task::causes::told;

/// Files that are looked at, and that are named.
const FILES_MAX: usize = 10_000;
const NAMED_MAX: usize = 5;
/// Levels below the state directory.
const DEPTH_MAX: usize = 4;
/// An instance id's length, for a runtime directory that no instance has yet.
const SOME_INSTANCE: &str = "00000000";

pub fn state(surroundings: &Surroundings) -> DirectoryFacts {
    let chosen = state_dir::choose(surroundings);
    look(chosen, |path| state_dir::inspect(path, surroundings.uid))
}

pub fn runtime(surroundings: &Surroundings) -> DirectoryFacts {
    let instance = state_dir::choose(surroundings).ok().filter(|it| it.join("instance").exists());
    let instance =
        instance.and_then(|it| state_dir::instance(&it).ok()).unwrap_or_else(|| SOME_INSTANCE.to_owned());
    look(runtime_dir::choose(surroundings, &instance), |path| runtime_dir::inspect(path, surroundings))
}

fn look(
    chosen: Result<PathBuf, DirectoryError>,
    inspect: impl FnOnce(&Path) -> Result<(), DirectoryError>,
) -> DirectoryFacts {
    match chosen {
        Ok(path) => DirectoryFacts {
            trouble: inspect(&path).err().map(|it| told(&it)),
            exists: path.exists(),
            exposed: exposed(&path),
            space: free(&path),
            path: Some(path),
        },
        Err(error) => DirectoryFacts {
            path: None,
            trouble: Some(told(&error)),
            exists: false,
            exposed: Vec::new(),
            space: None,
        },
    }
}

/// Free space where a path is; `None` where it is not.
pub fn space(path: &Path) -> Option<Space> {
    path.exists().then(|| free(path)).flatten()
}

/// Files that the group or others may read or write. Sockets of slots are opened on purpose and lie elsewhere.
fn exposed(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![(root.to_owned(), 0)];
    let mut looked_at = 0;
    while let Some((directory, depth)) = left.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(metadata) = std::fs::symlink_metadata(entry.path()) else { continue };
            looked_at += 1;
            if looked_at > FILES_MAX || found.len() == NAMED_MAX {
                return found;
            }
            if metadata.is_dir() && depth < DEPTH_MAX {
                left.push((entry.path(), depth + 1));
            } else if metadata.is_file() && metadata.mode() & 0o077 != 0 {
                found.push(entry.path());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_others_can_read_is_found_and_no_directory_is_made() {
        let root = tempfile::tempdir().expect("a directory");
        let state = root.path().join("state");
        let absent =
            look(Ok(state.clone()), |path| state_dir::inspect(path, rustix::process::geteuid().as_raw()));
        assert!(!state.exists() && absent.trouble.is_none() && absent.space.is_some(), "{absent:?}");
        std::fs::create_dir_all(state.join("logs")).expect("made");
        let file = state.join("logs/run.log");
        std::fs::write(&file, "x").expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("changed");
        assert_eq!(exposed(&state), Vec::<PathBuf>::new());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("changed");
        assert_eq!(exposed(&state), [file]);
    }
}
