//! One regular file on its way in: made new, written, and then given its looks.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, fstat, futimens};
use nix::sys::time::TimeSpec;
use serde_bytes::ByteBuf;

use aegis_init::wire::{Entry, EntryKind};

use crate::content::check_looks;
use crate::stamps::Given;

/// What a create call gives and a later write takes away again.
const SET_ID_BITS: u32 = 0o7000;

/// A file whose content is not whole yet.
pub struct OpenFile {
    /// Where it is, for the host.
    pub path: ByteBuf,
    file: File,
    left: u64,
    mode: u32,
    mtime: TimeSpec,
}

impl OpenFile {
    /// Makes the file of an entry, without content; anything that is there already is an error.
    pub fn create(directory: BorrowedFd<'_>, name: &OsStr, entry: &Entry) -> nix::Result<Self> {
        let mtime = check_looks(entry)?;
        let EntryKind::File { size, .. } = &entry.kind else { return Err(Errno::EPROTO) };
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = File::from(openat(directory, name, flags, Mode::from_bits_truncate(entry.mode))?);
        Ok(Self { path: entry.path.clone(), file, left: *size, mode: entry.mode, mtime })
    }

    /// Writes the next bytes. After the last the file gets what writing would change, and this gives what it is then.
    pub fn write(&mut self, data: &[u8]) -> nix::Result<Option<Given>> {
        self.left = self.left.checked_sub(data.len() as u64).ok_or(Errno::EPROTO)?;
        self.file.write_all(data).map_err(|err| Errno::from_raw(err.raw_os_error().unwrap_or(libc::EIO)))?;
        if self.left > 0 {
            return Ok(None);
        }
        if self.mode & SET_ID_BITS != 0 {
            fchmod(&self.file, Mode::from_bits_truncate(self.mode))?;
        }
        futimens(self.file.as_fd(), &TimeSpec::UTIME_OMIT, &self.mtime)?;
        Ok(Some(Given::leaf(&fstat(&self.file)?)))
    }
}
