//! What a task was given, entry by entry: what its changes are held against. Contents are not kept: a file of the
//! caller's that still has its identity still has its content.

use std::cell::OnceCell;
use std::os::fd::AsFd;

use aegis_init::wire::{Entry, EntryKind};
use rustix::fs::{AtFlags, Stat, readlinkat, statat};

use crate::sandbox::beneath;
use crate::sandbox::workspace::{self, Directory, Plan, What, WorkspaceError, changed};

/// Everything that was given; of two entries with one path the later one counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Base {
    given: Vec<Given>,
}

/// An entry that was given.
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

impl From<&workspace::Identity> for Identity {
    fn from(it: &workspace::Identity) -> Self {
        Self {
            device: it.device,
            inode: it.inode,
            size: it.size,
            modified: (it.meta.mtime_s, it.meta.mtime_ns.into()),
            changed: (it.ctime_s, it.ctime_ns.into()),
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

    /// What a plan comes to, however it gets there: what was not sent lay there already.
    pub fn of_plan(plan: &Plan) -> Result<Self, WorkspaceError> {
        let mut base = Self::default();
        for directory in &plan.directories {
            if let Some(meta) = directory.made {
                base.given.push(Given { path: directory.to.clone(), mode: meta.mode, kind: Kind::Directory });
            }
            base.add_items(plan, directory)?;
        }
        Ok(base)
    }

    fn add_items(&mut self, plan: &Plan, directory: &Directory) -> Result<(), WorkspaceError> {
        let mut opened = None;
        for item in &directory.items {
            let path = beneath::join(&directory.to, &item.name);
            let (mode, kind) = match &item.what {
                What::File(seen) | What::Hardlink(_, seen) => {
                    (seen.meta.mode, Kind::File { identity: Some(seen.into()) })
                }
                What::Text(text) => (text.0.mode, Kind::File { identity: None }),
                What::Symlink(seen) => {
                    let source = plan.sources[directory.source].as_fd();
                    let opened = match &mut opened {
                        Some(opened) => opened,
                        None => opened.insert(
                            beneath::directory(source, &directory.from)
                                .map_err(|_| changed(&directory.to))?,
                        ),
                    };
                    let target = readlinkat(&*opened, &item.name, Vec::new()).map_err(|_| changed(&path))?;
                    let stat = statat(&*opened, &item.name, AtFlags::SYMLINK_NOFOLLOW);
                    if stat.map(|it| workspace::Identity::of(&it)) != Ok(*seen) {
                        return Err(changed(&path));
                    }
                    (seen.meta.mode, Kind::Symlink(target.into_bytes()))
                }
            };
            self.given.push(Given { path, mode, kind });
        }
        Ok(())
    }

    /// Sets what was sent in the place of what was planned: it is what was read.
    pub fn set(&mut self, sent: Self) {
        // Directories are sent also where they are opened to be removed.
        self.given.extend(sent.given.into_iter().filter(|it| it.kind != Kind::Directory));
    }

    /// The same, to be asked by path.
    pub fn by_path(self) -> ByPath {
        ByPath { base: self, order: OnceCell::new() }
    }
}

/// A base that is asked by path.
#[derive(Debug, Default)]
pub struct ByPath {
    base: Base,
    /// Places by path; where nothing changed, nobody asks.
    order: OnceCell<Vec<u32>>,
}

impl ByPath {
    /// What was given at this path.
    pub fn find(&self, path: &[u8]) -> Option<&Given> {
        let (given, order) = (&self.base.given, self.order());
        let found = order.binary_search_by(|it| given[*it as usize].path.as_slice().cmp(path));
        found.ok().map(|at| &given[order[at] as usize])
    }

    /// What was given at this path and below it.
    pub fn within(&self, path: &[u8]) -> impl Iterator<Item = &Given> {
        let (given, order) = (&self.base.given, self.order());
        let below = [path, b"/"].concat();
        let start = order.partition_point(|it| given[*it as usize].path < below);
        let inside = order[start..].iter().map(|it| &given[*it as usize]);
        self.find(path).into_iter().chain(inside.take_while(move |it| it.path.starts_with(&below)))
    }

    /// Everything that was given, in no order; of a path that was given twice both.
    pub fn unordered(&self) -> impl Iterator<Item = &Given> {
        self.base.given.iter()
    }

    /// Everything that was given, by path.
    pub fn iter(&self) -> impl Iterator<Item = &Given> {
        self.order().iter().map(|it| &self.base.given[*it as usize])
    }

    /// The last entry of each path.
    fn order(&self) -> &[u32] {
        let given = &self.base.given;
        self.order.get_or_init(|| {
            let mut order: Vec<u32> = (0..given.len() as u32).rev().collect();
            order.sort_by(|one, other| given[*one as usize].path.cmp(&given[*other as usize].path));
            order.dedup_by(|one, other| given[*one as usize].path == given[*other as usize].path);
            order
        })
    }
}
