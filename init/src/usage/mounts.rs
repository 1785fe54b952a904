//! Fullness of the writable mounts. A task that fills one and cleans up before it ends still leaves a trace.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statvfs::fstatvfs;
use serde_bytes::ByteBuf;

/// A mount with less than this is full: a write of a usual buffer fails.
const FULL_BYTES: u64 = 64 * 1024;
/// Mounts that can be watched, a bit each.
const MOUNTS_MAX: usize = 64;

/// The watched mounts.
pub struct Mounts {
    watched: Vec<Watched>,
    full: u64,
    filling: bool,
}

struct Watched {
    bit: u64,
    root: OwnedFd,
    used_bytes_peak: u64,
}

impl Mounts {
    /// Opens the mounts; the descriptor keeps naming the mount, whatever a task does to paths.
    pub fn open(paths: &[ByteBuf]) -> Self {
        let mut watched = Vec::new();
        for (index, path) in paths.iter().take(MOUNTS_MAX).enumerate() {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            if let Ok(root) = open(OsStr::from_bytes(path), flags, Mode::empty()) {
                watched.push(Watched { bit: 1 << index, root, used_bytes_peak: 0 });
            }
        }
        Self { watched, full: 0, filling: false }
    }

    /// Looks at each.
    pub fn sample(&mut self) {
        self.filling = false;
        for mount in &mut self.watched {
            let Ok(numbers) = fstatvfs(&mount.root) else { continue };
            let size = numbers.fragment_size();
            let level = Level {
                bytes: numbers.blocks().saturating_mul(size),
                bytes_free: numbers.blocks_available().saturating_mul(size),
                inodes: numbers.files(),
                inodes_free: numbers.files_available(),
            };
            mount.used_bytes_peak = mount.used_bytes_peak.max(level.used_bytes());
            self.filling |= level.filling();
            if level.full() {
                self.full |= mount.bit;
            }
        }
    }

    /// The sum of each mount's highest.
    pub fn used_bytes_peak(&self) -> u64 {
        self.watched.iter().map(|mount| mount.used_bytes_peak).sum()
    }

    /// A bit for each mount that was ever seen full.
    pub fn full(&self) -> u64 {
        self.full
    }

    /// Whether one was more than half full at the last look.
    pub fn filling(&self) -> bool {
        self.filling
    }
}

#[derive(Debug, Clone, Copy)]
struct Level {
    bytes: u64,
    bytes_free: u64,
    inodes: u64,
    inodes_free: u64,
}

impl Level {
    fn used_bytes(self) -> u64 {
        self.bytes.saturating_sub(self.bytes_free)
    }

    /// Some filesystems count no inodes; they say zero of zero.
    fn full(self) -> bool {
        self.bytes_free < FULL_BYTES || (self.inodes > 0 && self.inodes_free == 0)
    }

    fn filling(self) -> bool {
        self.bytes_free < self.bytes / 2 || self.inodes_free < self.inodes / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn check(level: Level, filling: bool, full: bool) {
        assert_eq!((level.filling(), level.full()), (filling, full), "{level:?}");
    }

    #[test]
    fn an_empty_mount_is_neither() {
        check(Level { bytes: 64 * MIB, bytes_free: 64 * MIB, inodes: 100, inodes_free: 99 }, false, false);
    }

    #[test]
    fn a_mount_beyond_half_is_filling() {
        check(Level { bytes: 64 * MIB, bytes_free: 31 * MIB, inodes: 100, inodes_free: 99 }, true, false);
    }

    #[test]
    fn a_mount_with_some_kilobytes_left_is_full() {
        check(Level { bytes: 64 * MIB, bytes_free: 60 * 1024, inodes: 100, inodes_free: 99 }, true, true);
    }

    #[test]
    fn a_mount_without_inodes_is_full() {
        check(Level { bytes: 64 * MIB, bytes_free: 64 * MIB, inodes: 100, inodes_free: 0 }, true, true);
    }

    #[test]
    fn a_filesystem_that_counts_no_inodes_is_not_full() {
        check(Level { bytes: 64 * MIB, bytes_free: 64 * MIB, inodes: 0, inodes_free: 0 }, false, false);
    }
}
