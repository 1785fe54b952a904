//! What every entry was when it had been put: enough to tell later whether it is still the same, without its content.
//! A task cannot set an inode's change time, and no two inodes of a file system have one number at a time.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use nix::sys::stat::FileStat;
use nix::time::{ClockId, clock_gettime};

const NANOSECONDS: i64 = 1_000_000_000;
/// How long the clock is waited for. It ticks at least every 10 ms; one that was set back is not waited for longer.
const OUTLAST_MS_MAX: u32 = 50;

/// Stamps in the order in which entries were put.
pub struct Stamps {
    /// Paths are kept as hashes under a key that no task knows: 200,000 paths would not fit the memory that init may use.
    hasher: RandomState,
    stamps: Vec<Stamp>,
    /// Later change times of files that got another name.
    relinked: HashMap<u64, i64>,
    latest: i64,
}

struct Stamp {
    path: u64,
    given: Given,
}

/// What an entry was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// A directory: what lies in it has stamps of its own.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A file or link.
    Leaf {
        /// Its number.
        inode: u64,
        /// Its change time in nanoseconds.
        ctime: i64,
    },
    /// A file whose content has not arrived.
    Unfinished,
    /// Nothing any more.
    Removed,
}

impl Given {
    /// A directory with this mode.
    pub fn directory(mode: u32) -> Self {
        Self::Directory { mode: mode & 0o777 }
    }

    /// A file or link as it is now.
    pub fn leaf(stat: &FileStat) -> Self {
        Self::Leaf { inode: stat.st_ino, ctime: ctime(stat) }
    }
}

impl Stamps {
    /// None.
    pub fn new() -> Self {
        Self { hasher: RandomState::new(), stamps: Vec::new(), relinked: HashMap::new(), latest: i64::MIN }
    }

    /// Adds the next entry and gives its number. What was at the path before does not count any more.
    pub fn add(&mut self, path: &[u8], given: Given) -> usize {
        self.stamps.push(Stamp { path: self.hasher.hash_one(path), given });
        self.note(given);
        self.stamps.len() - 1
    }

    /// Adds another name of a file: its other names have a new change time from now on.
    pub fn add_link(&mut self, path: &[u8], stat: &FileStat) {
        self.relinked.insert(stat.st_ino, ctime(stat));
        self.add(path, Given::leaf(stat));
    }

    /// Says what an entry has become.
    pub fn set(&mut self, number: usize, given: Given) {
        if let Some(stamp) = self.stamps.get_mut(number) {
            stamp.given = given;
            self.note(given);
        }
    }

    /// Waits until whatever changes gets a later change time than anything that was put.
    pub fn outlast(&self) {
        for _ in 0..OUTLAST_MS_MAX {
            match clock_gettime(ClockId::CLOCK_REALTIME_COARSE) {
                Ok(now) if nanoseconds(now.tv_sec(), now.tv_nsec()) <= self.latest => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Ready to be asked.
    pub fn index(self) -> Index {
        let mut by_path: Vec<u32> = (0..self.stamps.len() as u32).collect();
        by_path.sort_unstable_by_key(|it| (self.stamps[*it as usize].path, *it));
        Index { by_path, stamps: self }
    }

    fn note(&mut self, given: Given) {
        if let Given::Leaf { ctime, .. } = given {
            self.latest = self.latest.max(ctime);
        }
    }
}

/// Stamps by path.
pub struct Index {
    stamps: Stamps,
    by_path: Vec<u32>,
}

impl Index {
    /// Whether this is what was given at the path.
    pub fn unchanged(&self, path: &[u8], found: Given) -> bool {
        let Stamps { hasher, stamps, relinked, .. } = &self.stamps;
        let wanted = hasher.hash_one(path);
        let after = self.by_path.partition_point(|it| stamps[*it as usize].path <= wanted);
        let last = after.checked_sub(1).map(|it| &stamps[self.by_path[it] as usize]);
        let Some(stamp) = last.filter(|it| it.path == wanted) else { return false };
        match (stamp.given, found) {
            (Given::Removed | Given::Unfinished, _) => false,
            (given, found) if given == found => true,
            (Given::Leaf { inode: given, .. }, Given::Leaf { inode, ctime }) => {
                given == inode && relinked.get(&inode) == Some(&ctime)
            }
            _ => false,
        }
    }
}

fn ctime(stat: &FileStat) -> i64 {
    nanoseconds(stat.st_ctime, stat.st_ctime_nsec)
}

/// Compared for equality and order only: a time beyond the year 2262 wraps, and stays different from its neighbours.
fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.wrapping_mul(NANOSECONDS).wrapping_add(nanoseconds)
}
