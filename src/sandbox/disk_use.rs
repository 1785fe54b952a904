//! How much a sandbox has written to its workspace on disk: a walk of its upper layer by name, never through a link, while
//! the task changes it. What is in the way of the walk is passed over; the next walk sees it.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, statat};

use crate::sandbox::beneath;

/// Bytes of the host's disk that stay free: below this every task that could write there is ended.
pub const RESERVE_BYTES: u64 = 1024 * 1024 * 1024;
/// Bytes in one unit of `st_blocks`.
pub(super) const BLOCK_BYTES: u64 = 512;
/// What a directory, a link or another small thing takes.
const ENTRY_BYTES: u64 = 4096;

/// Bytes and entries of a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Bytes on disk.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

impl Amounts {
    /// Whether either is above its limit.
    pub fn exceed(self, limit: Self) -> bool {
        self.bytes > limit.bytes || self.entries > limit.entries
    }
}

/// Measures the tree; ends early where the limit is passed, so that its time is bounded by the limit.
pub fn measure(root: &Path, limit: Amounts) -> io::Result<Amounts> {
    let root = OwnedFd::from(std::fs::File::open(root)?);
    let mut sum = Amounts::default();
    let mut several_names = HashSet::new();
    let mut pending = VecDeque::from([Vec::new()]);
    while let Some(path) = pending.pop_front() {
        let Some(directory) = open(root.as_fd(), &path) else { continue };
        let Ok(entries) = Dir::read_from(&directory) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            sum.entries += 1;
            match entry.file_type() {
                FileType::Directory => {
                    sum.bytes += ENTRY_BYTES;
                    pending.push_back(beneath::join(&path, name.to_bytes()));
                }
                FileType::RegularFile => {
                    let Ok(stat) = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
                    if stat.st_nlink == 1 || several_names.insert(stat.st_ino) {
                        sum.bytes += u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK_BYTES);
                    }
                }
                FileType::Symlink
                | FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown => {}
            }
            if sum.exceed(limit) {
                return Ok(sum);
            }
        }
    }
    Ok(sum)
}

/// Bytes that are left for us on the file system of this directory.
pub fn left_bytes(directory: &Path) -> io::Result<u64> {
    let numbers = rustix::fs::statvfs(directory)?;
    Ok(numbers.f_bavail.saturating_mul(numbers.f_frsize))
}

/// One call for the usual path; one for each component where it is longer than a path may be.
fn open(root: BorrowedFd<'_>, path: &[u8]) -> Option<OwnedFd> {
    if path.is_empty() {
        return beneath::directory(root, b"").ok();
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(opened) => Some(opened),
        Err(rustix::io::Errno::NAMETOOLONG | rustix::io::Errno::NOSYS) => beneath::directory(root, path).ok(),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;
    const AMPLE: Amounts = Amounts { bytes: 100 * MIB, entries: 1000 };

    #[test]
    fn content_counts_once_and_holes_do_not_count() {
        let tree = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(tree.path().join("d")).expect("made");
        std::fs::write(tree.path().join("d/file"), vec![1; MIB as usize]).expect("written");
        std::fs::hard_link(tree.path().join("d/file"), tree.path().join("again")).expect("linked");
        std::fs::File::create(tree.path().join("hole")).and_then(|it| it.set_len(1 << 40)).expect("made");
        std::os::unix::fs::symlink("/", tree.path().join("link")).expect("linked");
        let seen = measure(tree.path(), AMPLE).expect("measured");
        assert_eq!(seen.entries, 5);
        assert!((MIB..MIB + 64 * 1024).contains(&seen.bytes), "{seen:?}");
    }

    #[test]
    fn a_walk_ends_where_the_limit_is_passed() {
        let tree = tempfile::tempdir().expect("a directory");
        for index in 0..50 {
            std::fs::write(tree.path().join(index.to_string()), "x").expect("written");
        }
        let seen = measure(tree.path(), Amounts { bytes: MIB, entries: 10 }).expect("measured");
        assert_eq!(seen.entries, 11);
    }
}
