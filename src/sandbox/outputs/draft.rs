//! A file in the making: without a name until it is whole, so that no half of it is ever seen under one. The kernel
//! frees a nameless file when its owner dies; where the file system has none, a reserved name stands in.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, Timestamps, futimens, linkat, openat, renameat_with, unlinkat,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::sandbox::outputs::destination::Fresh;

/// How names of unfinished files begin, at the top of an output directory.
pub const RESERVED_PREFIX: &[u8] = b".aegis-part-";

/// An unfinished file with its digest so far.
pub struct Draft {
    file: File,
    digest: Sha256,
    /// The stand-in name and the directory that holds it, where nameless files cannot be had.
    stand_in: Option<(OwnedFd, String)>,
}

/// What became of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It has its name.
    Yes,
    /// The name is taken by a file that must stay.
    Taken,
    /// The name is a directory's.
    Directory,
}

impl Draft {
    /// A new file of this mode less the umask, to be published in `directory`. `top` is where stand-ins lie.
    pub fn create(directory: BorrowedFd<'_>, top: BorrowedFd<'_>, mode: u32) -> Result<Self, Errno> {
        let mode = Mode::from_raw_mode(mode);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        match openat(directory, ".", flags | OFlags::TMPFILE, mode) {
            Ok(opened) => Ok(Self { file: opened.into(), digest: Sha256::new(), stand_in: None }),
            // File systems and kernels without nameless files say one of these.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Self::named(top, mode),
            Err(cause) => Err(cause),
        }
    }

    /// The same under a stand-in name.
    pub(super) fn named(top: BorrowedFd<'_>, mode: Mode) -> Result<Self, Errno> {
        let name = format!("{}{}", String::from_utf8_lossy(RESERVED_PREFIX), uuid::Uuid::now_v7().simple());
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let opened = openat(top, &name, flags, mode)?;
        let top =
            top.try_clone_to_owned().map_err(|cause| Errno::from_io_error(&cause).unwrap_or(Errno::IO))?;
        Ok(Self { file: opened.into(), digest: Sha256::new(), stand_in: Some((top, name)) })
    }

    /// Appends content.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.file.write_all(bytes)
    }

    /// The digest of what was written, lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        hex::encode(self.digest.clone().finalize())
    }

    /// Gives the file its time and its name. A file or link that has the name is replaced where `fresh` allows it,
    /// and never written through.
    pub fn publish(
        mut self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        times: &Timestamps,
        fresh: Fresh,
    ) -> Result<Published, Errno> {
        futimens(&self.file, times)?;
        match self.name(directory, name) {
            Err(Errno::EXIST) => {}
            other => return other.map(|()| Published::Yes),
        }
        if fresh == Fresh::New {
            return Ok(Published::Taken);
        }
        match unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => return Ok(Published::Directory),
            Err(cause) => return Err(cause),
        }
        match self.name(directory, name) {
            Ok(()) => Ok(Published::Yes),
            Err(Errno::EXIST) => Ok(Published::Taken),
            Err(cause) => Err(cause),
        }
    }

    /// Names the file unless the name is taken (`EEXIST`).
    fn name(&mut self, directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        let Some((top, stand_in)) = self.stand_in.take() else {
            let link = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            return linkat(CWD, link, directory, name, AtFlags::SYMLINK_FOLLOW);
        };
        let mut renamed = renameat_with(&top, &stand_in, directory, name, RenameFlags::NOREPLACE);
        if renamed == Err(Errno::INVAL) {
            // Network file systems cannot rename this way; a second name does the same in two steps.
            renamed = linkat(&top, &stand_in, directory, name, AtFlags::empty());
            if renamed.is_ok() {
                return unlinkat(&top, &stand_in, AtFlags::empty());
            }
        }
        if renamed.is_err() {
            self.stand_in = Some((top, stand_in));
        }
        renamed
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some((top, stand_in)) = &self.stand_in {
            // What cannot be removed now is removed when the directory is next used.
            let _ = unlinkat(top.as_fd(), stand_in, AtFlags::empty());
        }
    }
}
