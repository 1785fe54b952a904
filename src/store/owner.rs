//! Who is alive: an owner holds a lock on a file of its own for as long as its process lives, however it ends. A pid
//! would not do, since it is given out again and means another process in another container.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::record::Owner;

/// The locks' directory below the state directory.
pub(crate) const DIRECTORY: &str = "owners";
const TRIES_MAX: u32 = 8;

/// The lock of this process. It is let go, and its file removed, when this value is dropped.
#[derive(Debug)]
pub struct OwnerLock {
    owner: Owner,
    path: PathBuf,
    /// Held open: the kernel drops the lock with it.
    _file: File,
}

impl OwnerLock {
    /// Takes a lock below `state_dir`.
    pub fn acquire(state_dir: &Path) -> io::Result<Self> {
        let directory = state_dir.join(DIRECTORY);
        match std::fs::DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => {}
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            Err(err) => return Err(err),
        }
        for _ in 0..TRIES_MAX {
            let lock = uuid::Uuid::now_v7().simple().to_string();
            let path = directory.join(&lock);
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            // A sweep may have taken the file for a dead owner's between these two calls; then it is gone.
            if file.try_lock().is_ok() && file.metadata()?.nlink() > 0 {
                return Ok(Self { owner: Owner { pid: std::process::id(), lock }, path, _file: file });
            }
        }
        Err(io::Error::other("a sweep removed every new owner lock"))
    }

    /// The name to put into records.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        // Left behind, it is swept as a dead owner's.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether the owner of this lock lives. What cannot be read counts as alive: a sweep must not end a living run.
pub(crate) fn is_alive(owners: &Path, lock: &str) -> bool {
    if lock.is_empty() || !lock.bytes().all(|it| it.is_ascii_hexdigit()) {
        return false;
    }
    match OpenOptions::new().write(true).open(owners.join(lock)) {
        Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
        Err(err) => err.kind() != io::ErrorKind::NotFound,
    }
}

/// Removes the locks of dead owners. Their runs are orphans with or without the file.
pub fn sweep(state_dir: &Path) -> io::Result<u64> {
    let directory = state_dir.join(DIRECTORY);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(err) => return Err(err),
    };
    let mut removed = 0;
    for entry in entries {
        let path = entry?.path();
        let Ok(file) = OpenOptions::new().write(true).open(&path) else { continue };
        if file.try_lock().is_ok() && std::fs::remove_file(&path).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lock: impl FnOnce(&Path) -> String, alive: bool) {
        let state = tempfile::tempdir().expect("a directory");
        let name = lock(state.path());
        assert_eq!(is_alive(&state.path().join(DIRECTORY), &name), alive);
    }

    #[test]
    fn an_owner_lives_while_it_holds_its_lock() {
        let state = tempfile::tempdir().expect("a directory");
        let lock = OwnerLock::acquire(state.path()).expect("a lock");
        assert!(is_alive(&state.path().join(DIRECTORY), &lock.owner().lock));
        assert_eq!(sweep(state.path()).expect("a sweep"), 0);
    }

    #[test]
    fn a_dropped_lock_is_dead() {
        check(|state| OwnerLock::acquire(state).expect("a lock").owner().lock.clone(), false);
    }

    #[test]
    fn a_file_that_nobody_holds_is_dead() {
        check(
            |state| {
                let lock = OwnerLock::acquire(state).expect("a lock").owner().lock.clone();
                std::fs::write(state.join(DIRECTORY).join(&lock), b"").expect("a file");
                lock
            },
            false,
        );
    }

    #[test]
    fn a_lock_name_never_leaves_the_directory() {
        check(|_| "../aegis.db".to_owned(), false);
    }

    #[test]
    fn a_sweep_removes_only_what_nobody_holds() {
        let state = tempfile::tempdir().expect("a directory");
        let alive = OwnerLock::acquire(state.path()).expect("a lock");
        std::fs::write(state.path().join(DIRECTORY).join("00ff"), b"").expect("a file");
        assert_eq!(sweep(state.path()).expect("a sweep"), 1);
        assert!(is_alive(&state.path().join(DIRECTORY), &alive.owner().lock));
    }
}
