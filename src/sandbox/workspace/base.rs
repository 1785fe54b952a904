//! What a task was given, entry by entry in the order of sending: what its changes are held against. Contents are not
//! kept: a file of the caller's that still has its identity still has its content.

use std::cell::OnceCell;

use aegis_init::wire::{Entry, EntryKind};
use rustix::fs::Stat;

/// Everything that was sent, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Base {
    given: Vec<Given>,
}

/// An entry that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Its path.
    pub path: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
    /// What it was.
    pub kind: Kind,
}

/// What an entry was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file, further names of one file included.
    File {
        /// Which file of the caller's; `None` if the content was ours.
        identity: Option<Identity>,
    },
    /// A link with its target.
    Symlink(Vec<u8>),
}

/// What tells that a file is the same and was not written since. Its change time cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The device.
    pub device: u64,
    /// The number of the inode.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Modification time, seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Change time, seconds and nanoseconds.
    pub changed: (i64, i64),
}

impl Identity {
    /// That of a file as it is now.
    // The widths of these fields differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    pub fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

impl Base {
    /// Adds the next entry.
    pub fn add(&mut self, entry: &Entry, identity: Option<Identity>) {
        let kind = match &entry.kind {
            EntryKind::Dir => Kind::Directory,
            EntryKind::File { .. } | EntryKind::Hardlink(_) => Kind::File { identity },
            EntryKind::Symlink(target) => Kind::Symlink(target.to_vec()),
        };
        self.given.push(Given { path: entry.path.to_vec(), mode: entry.mode, kind });
    }

    /// The entry with this number.
    pub fn get(&self, number: u32) -> Option<&Given> {
        self.given.get(number as usize)
    }

    /// The same, to be asked by path.
    pub fn by_path(self) -> ByPath {
        ByPath { base: self, order: OnceCell::new() }
    }
}

/// A base that is asked by path.
#[derive(Debug)]
pub struct ByPath {
    base: Base,
    /// Numbers by path; where nothing changed, nobody asks.
    order: OnceCell<Vec<u32>>,
}

impl ByPath {
    /// What was given at this path.
    pub fn find(&self, path: &[u8]) -> Option<&Given> {
        let given = &self.base.given;
        let order = self.order.get_or_init(|| {
            let mut order: Vec<u32> = (0..given.len() as u32).collect();
            order.sort_unstable_by(|one, other| given[*one as usize].path.cmp(&given[*other as usize].path));
            order
        });
        let found = order.binary_search_by(|it| given[*it as usize].path.as_slice().cmp(path));
        found.ok().map(|at| &given[order[at] as usize])
    }

    /// The entry with this number.
    pub fn get(&self, number: u32) -> Option<&Given> {
        self.base.get(number)
    }
}
