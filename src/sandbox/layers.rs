//! The directories of one sandbox's workspace on disk.
//!
//! ```text
//! <work>/runs/<slot>.<moment>/        0700
//! <work>/runs/<slot>.<moment>/lower/  nothing, unless a snapshot lies below
//! <work>/runs/<slot>.<moment>/upper/  what is written inside; it belongs to the sandbox's user
//! <work>/runs/<slot>.<moment>/work/   the kernel's own
//! ```
//!
//! They are made for one sandbox and removed with it. The lock of the slot guards them: a slot without an owner has no
//! layers.

use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

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
}

impl Layers {
    /// Makes empty layers for the sandbox of this slot, over `lower` if there is one.
    pub fn make(work: &Path, slot: u32, uid: u32, lower: Option<&Path>) -> io::Result<Self> {
        let runs = work.join("runs");
        slot::make_private(&runs)?;
        let moment = jiff::Timestamp::now().as_microsecond();
        let directory = runs.join(format!("{slot}.{moment}"));
        std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
        let lower = lower.map_or_else(|| directory.join("lower"), Path::to_owned);
        let layers = Self { directory, lower };
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

/// Layers of slots without an owner.
pub fn dead_layers(work: &Path, runtime_directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(work.join("runs")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut dead = Vec::new();
    for entry in entries.take(LISTED_MAX) {
        let path = entry?.path();
        let slot =
            path.file_name().and_then(|it| it.to_str()).and_then(|it| it.split('.').next()?.parse().ok());
        if slot.is_some_and(|it| !slot::is_owned(runtime_directory, it)) {
            dead.push(path);
        }
    }
    Ok(dead)
}
