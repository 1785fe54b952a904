//! The directories of one sandbox's workspace on disk.
//!
//! ```text
//! <work>/runs/<slot>.<moment>/        0700
//! <work>/runs/<slot>.<moment>/lower/  nothing, unless a snapshot lies below
//! <work>/runs/<slot>.<moment>/upper/  what is written inside; it belongs to the sandbox's user
//! <work>/runs/<slot>.<moment>/work/   the kernel's own
//! ```
//!
//! They are made for one sandbox and removed with it. Two locks guard them, which the kernel gives back when their owner ends:
//! that of the slot, and one of their own, since a slot's number may be another owner's by the time they are swept.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::container::WorkspaceVolume;
use crate::sandbox::container_spec::WORKSPACE;
use crate::sandbox::{removal, slot};

/// Entries of the directory of layers that a sweep looks at.
const LISTED_MAX: usize = 65_536;

/// Layers that this process owns. Dropping them removes them.
#[derive(Debug)]
pub struct Layers {
    directory: PathBuf,
    lower: PathBuf,
    // The kernel gives it back when the process ends, however it ends.
    _lock: OwnedFd,
}

impl Layers {
    /// Makes empty layers for the sandbox of this slot, over `lower` if there is one.
    pub fn make(work: &Path, slot: u32, uid: u32, lower: Option<&Path>) -> io::Result<Self> {
        let runs = work.join("runs");
        slot::make_private(&runs)?;
        let moment = jiff::Timestamp::now().as_microsecond();
        let directory = runs.join(format!("{slot}.{moment}"));
        // Under its name it is locked from the first moment on.
        let unnamed = runs.join(format!(".{slot}.{moment}"));
        std::fs::DirBuilder::new().mode(0o700).create(&unnamed)?;
        let lock = open(&unnamed)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        std::fs::rename(&unnamed, &directory)?;
        let lower = lower.map_or_else(|| directory.join("lower"), Path::to_owned);
        let layers = Self { directory, lower, _lock: lock };
        for name in ["lower", "upper", "work"] {
            let path = layers.directory.join(name);
            std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        }
        chown(layers.directory.join("upper"), Some(uid), Some(uid))?;
        Ok(layers)
    }

    /// What the engine is told.
    pub fn volume(&self) -> WorkspaceVolume {
        WorkspaceVolume {
            point: WORKSPACE.to_owned(),
            lower: self.lower.clone(),
            upper: self.upper(),
            work: self.directory.join("work"),
        }
    }

    /// What is written inside.
    pub fn upper(&self) -> PathBuf {
        self.directory.join("upper")
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        if let Err(error) = removal::remove_tree(&self.directory) {
            tracing::warn!(path = %self.directory.display(), %error, "a workspace could not be removed; the next sweep will");
        }
    }
}

/// Layers without an owner.
pub fn dead_layers(work: &Path, runtime_directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(work.join("runs")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut dead = Vec::new();
    for entry in entries.take(LISTED_MAX) {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|it| it.to_str()) else { continue };
        let number = name.trim_start_matches('.').split('.').next().and_then(|it| it.parse().ok());
        let Some(number) = number else { continue };
        let may_be_in_the_making = name.starts_with('.');
        if !slot::is_owned(runtime_directory, number) || (!may_be_in_the_making && is_free(&path)) {
            dead.push(path);
        }
    }
    Ok(dead)
}

fn open(directory: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Whether nobody holds these layers.
fn is_free(directory: &Path) -> bool {
    open(directory).is_ok_and(|it| rustix::fs::flock(&it, FlockOperation::NonBlockingLockExclusive).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_an_owner_before_are_dead_though_their_slots_number_is_taken() {
        let (work, runtime) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        let slot = slot::Slot::make(runtime.path()).expect("a slot");
        let uid = rustix::process::geteuid().as_raw();
        let mine = Layers::make(work.path(), slot.number, uid, None).expect("made");
        let dead = work.path().join("runs").join(format!("{}.1", slot.number));
        let unnamed = work.path().join("runs").join(format!(".{}.2", slot.number));
        std::fs::create_dir(&dead).expect("made");
        std::fs::create_dir(&unnamed).expect("made");
        assert_eq!(dead_layers(work.path(), runtime.path()).expect("read"), vec![dead.clone()]);
        drop(mine);
        drop(slot);
        let mut found = dead_layers(work.path(), runtime.path()).expect("read");
        found.sort();
        assert_eq!(found, vec![unnamed, dead]);
    }
}
