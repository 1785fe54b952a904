//! What lies in the upper layer of a workspace on disk: everything that is not as the snapshot below has it, and nothing
//! else. The host looks at it while nothing of the task runs, so that finding changes costs what changed, not what is there.

mod walk;

use std::io;
use std::path::Path;
use std::time::Instant;

use aegis_init::wire::DropReason;
use rustix::fs::{Stat, XattrFlags, fgetxattr, fsetxattr};

use crate::task::escape::escape;

pub use walk::Walk;

/// A mark of ours, of the kind that only root sets and sees.
const SEEN: &str = "trusted.aegis";

/// A path that is not as the snapshot has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Laid {
    /// Relative to the workspace.
    pub path: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// What is there.
    pub what: What,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Nothing, whatever the snapshot has.
    Nothing,
    /// A directory.
    Directory {
        /// Whether it hides what the snapshot has at its path.
        hides: bool,
    },
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// Which one, and when it was changed.
        stamp: Stamp,
    },
    /// A link.
    Symlink {
        /// Where it leads to.
        target: Vec<u8>,
        /// Which one, and when it was changed.
        stamp: Stamp,
    },
}

/// The number of an inode and its change time, which no task can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    changed: (i64, i64),
}

impl Stamp {
    // The widths of these fields differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    fn of(stat: &Stat) -> Self {
        Self { inode: stat.st_ino as u64, changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64) }
    }
}

/// What a walk meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Met {
    /// A path that is told.
    Laid(Laid),
    /// A path that is not told, and why.
    Dropped(Vec<u8>, DropReason),
}

/// Everything in a layer that only holds what was put there.
pub fn given(upper: &Path, lower: &Path, depth_max: u64, deadline: Instant) -> io::Result<Vec<Laid>> {
    let mut given = Vec::new();
    for met in Walk::new(upper, lower, depth_max, deadline)? {
        match met {
            Met::Laid(laid) => given.push(laid),
            Met::Dropped(path, reason) => {
                return Err(io::Error::other(format!("`{}`: {reason:?}", escape(&path))));
            }
        }
    }
    Ok(given)
}

/// Whether this process sees the marks by which the kernel says what a layer hides and what was renamed in it. Without
/// them nobody could tell what a task changed. `file` is one that layers lie beside.
pub fn sees_marks(file: impl std::os::fd::AsFd) -> bool {
    fgetxattr(&file, SEEN, &mut [0; 1]).is_ok() || fsetxattr(&file, SEEN, b"y", XattrFlags::empty()).is_ok()
}
