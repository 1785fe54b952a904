//! Files of the workspace for the host, by path. Links are not followed, and nothing but regular files is opened.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstatat};
use serde_bytes::ByteBuf;

use aegis_init::wire::{DropReason, Entry, EntryKind, Fetch};

use crate::beneath::{Beneath, split};
use crate::clock::Moment;
use crate::collect::Progress;
use crate::collect::outbox::Outbox;
use crate::compare::limits;
use crate::compare::walk::SEARCHABLE;

const FILES_PER_TURN: usize = 100;
const FILE: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);

/// Files on their way.
pub struct Fetching {
    paths: std::vec::IntoIter<ByteBuf>,
    workspace: Vec<u8>,
    root: Option<Beneath>,
    outbox: Outbox,
    deadline: Moment,
}

impl Fetching {
    /// Begins below the workspace.
    pub fn new(fetch: Fetch, workspace: &[u8], now: Moment) -> Self {
        Self {
            paths: fetch.paths.into_iter(),
            workspace: workspace.to_vec(),
            root: Beneath::new(workspace).ok(),
            outbox: Outbox::new(&limits(u64::MAX, u32::MAX), false),
            deadline: now.after_ms(fetch.timeout_ms),
        }
    }

    /// Works until there is an answer or the turn is over.
    pub fn turn(&mut self) -> Progress {
        for _ in 0..FILES_PER_TURN {
            if let Some(reply) = self.outbox.reply() {
                return Progress::Reply(reply);
            }
            let Some(path) = self.paths.next() else {
                if self.outbox.flush() {
                    continue;
                }
                return Progress::Done(self.outbox.done(Vec::new()));
            };
            if Moment::now() >= self.deadline {
                self.outbox.drop_entry(&path, DropReason::TimeLimit);
            } else if self.send(&path).is_err() {
                self.outbox.drop_entry(&path, DropReason::Unreadable);
            }
        }
        Progress::Working
    }

    fn send(&mut self, path: &[u8]) -> nix::Result<()> {
        let (parent, name) = split(path)?;
        let root = self.root.as_mut().ok_or(Errno::ENOENT)?;
        let stat = match look(root, parent, name) {
            Err(Errno::EACCES) => {
                open_way(root, &self.workspace, parent)?;
                look(root, parent, name)?
            }
            found => found?,
        };
        let directory = root.directory(parent)?;
        if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
            return Err(Errno::EINVAL);
        }
        if stat.st_mode & 0o400 == 0 {
            // The task closed it to itself; its mode was told before.
            let mode = Mode::from_bits_truncate(stat.st_mode | 0o400);
            fchmodat(directory, name, mode, FchmodatFlags::FollowSymlink)?;
        }
        let file = File::from(openat(directory, name, FILE, Mode::empty())?);
        let entry = Entry {
            path: ByteBuf::from(path),
            mode: stat.st_mode & 0o7777,
            mtime_s: stat.st_mtime,
            mtime_ns: stat.st_mtime_nsec.clamp(0, 999_999_999) as u32,
            kind: EntryKind::Dir,
        };
        self.outbox.send_file(entry, file, stat.st_size.unsigned_abs());
        Ok(())
    }
}

fn look(root: &mut Beneath, parent: &[u8], name: &OsStr) -> nix::Result<FileStat> {
    fstatat(root.directory(parent)?, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// Opens directories that the task closed to itself; their modes were told before.
fn open_way(root: &mut Beneath, workspace: &[u8], path: &[u8]) -> nix::Result<()> {
    let follow = FchmodatFlags::FollowSymlink;
    // Fails where that is not needed.
    let _ = fchmodat(AT_FDCWD, OsStr::from_bytes(workspace), Mode::from_bits_truncate(0o700), follow);
    let ends = (1..=path.len()).filter(|at| path.get(*at).is_none_or(|byte| *byte == b'/'));
    for end in ends {
        let (parent, name) = split(&path[..end])?;
        let stat = look(root, parent, name)?;
        if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFDIR.bits() {
            return Err(Errno::ENOTDIR);
        }
        if stat.st_mode & SEARCHABLE != SEARCHABLE {
            let mode = Mode::from_bits_truncate(stat.st_mode | SEARCHABLE);
            fchmodat(root.directory(parent)?, name, mode, follow)?;
        }
    }
    Ok(())
}
