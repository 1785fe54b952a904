//! New contents on their way: made whole in a directory of their own at the top of the caller's tree, which also takes
//! what they replace until all is done. Its journal says which number belongs to which path.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, fchmod, fchown, mkdirat, openat, symlinkat, unlinkat};
use rustix::process::{Gid, Uid};
use sha2::{Digest as _, Sha256};

use crate::sandbox::beneath;
use crate::sandbox::changes::apply::look::Seen;
use crate::sandbox::changes::apply::{ApplyError, Plan, STAGING_PREFIX, effective_mode};
use crate::sandbox::changes::kept::Kept;
use crate::sandbox::changes::{After, AfterKind, Digest};
use crate::task::RunId;
use crate::task::escape::escape;

/// The directory that contents are on their way in.
pub(super) struct Staging {
    root: OwnedFd,
    /// It, open.
    pub directory: OwnedFd,
    /// Its name in the tree.
    pub name: String,
}

impl Staging {
    /// Makes it.
    pub fn make(root: &OwnedFd) -> Result<Self, ApplyError> {
        let name = format!("{STAGING_PREFIX}{}", uuid::Uuid::now_v7().simple());
        let failed = |cause: io::Error| ApplyError::Failed { path: name.clone(), cause };
        let root = root.try_clone().map_err(failed)?;
        mkdirat(&root, &name, Mode::from_raw_mode(0o700)).map_err(|it| failed(it.into()))?;
        let directory = beneath::directory(root.as_fd(), name.as_bytes()).map_err(|it| failed(it.into()))?;
        Ok(Self { root, directory, name })
    }

    /// Removes it with all that is in it: files and links only.
    pub fn remove(&self) {
        let Ok(listing) = rustix::fs::Dir::read_from(&self.directory) else { return };
        for entry in listing.flatten() {
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                // What cannot be removed stays in a directory that says what it is.
                let _ = unlinkat(&self.directory, name, AtFlags::empty());
            }
        }
        let _ = unlinkat(&self.root, &self.name, AtFlags::REMOVEDIR);
    }
}

/// Makes every new content, and the journal.
pub(super) fn stage(plan: &Plan<'_>, staging: &Staging, kept: &Kept, run: RunId) -> Result<(), ApplyError> {
    let mut journal: Vec<u8> = Vec::new();
    for (number, step) in plan.steps.iter().enumerate() {
        let path = escape(&step.change.path);
        journal.extend(format!("{number} {path}\n").into_bytes());
        let failed = |cause: io::Error| ApplyError::Failed { path: path.clone(), cause };
        match &step.change.after {
            Some(After { mode, kind: AfterKind::File { sha256: Some(sha256), .. } }) => {
                let content = kept.open(run, sha256)?;
                let mode = effective_mode(*mode, mode_of(&step.seen), plan.umask);
                copy(content, staging, number, sha256, mode, &step.seen).map_err(failed)?;
            }
            Some(After { kind: AfterKind::Symlink(target), .. }) => {
                symlinkat(target.as_slice(), &staging.directory, number.to_string())
                    .map_err(|it| failed(it.into()))?;
            }
            Some(After { kind: AfterKind::Directory | AfterKind::File { sha256: None, .. }, .. }) | None => {}
        }
    }
    let failed = |cause: io::Error| ApplyError::Failed { path: staging.name.clone(), cause };
    let mut file = create(staging, "journal").map_err(failed)?;
    file.write_all(&journal).map_err(failed)
}

fn copy(
    mut content: File,
    staging: &Staging,
    number: usize,
    sha256: &Digest,
    mode: u32,
    seen: &Seen,
) -> io::Result<()> {
    let mut file = create(staging, &number.to_string())?;
    let mut digest = Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    loop {
        let read = content.read(&mut piece)?;
        if read == 0 {
            break;
        }
        digest.update(&piece[..read]);
        file.write_all(&piece[..read])?;
    }
    if Digest::from(digest.finalize()) != *sha256 {
        return Err(io::Error::other("its kept content is damaged"));
    }
    if let Seen::File { owner: (user, group), .. } = seen {
        // Whose file it was stays so where the caller may do that; otherwise the file is the caller's.
        let (user, group) = (Uid::from_raw(*user), Gid::from_raw(*group));
        let _ = fchown(&file, Some(user), Some(group));
    }
    fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(())
}

fn create(staging: &Staging, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(&staging.directory, name, flags, Mode::from_raw_mode(0o600))?.into())
}

/// The bits that what is there has.
pub(super) fn mode_of(seen: &Seen) -> u32 {
    match seen {
        Seen::File { mode, .. } | Seen::Directory { mode } => *mode,
        _ => 0,
    }
}
