//! What lies at a path of the caller's tree, looked at through open directories.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, fstat, readlinkat, statat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::sandbox::beneath;
use crate::sandbox::changes::Digest;
use crate::sandbox::outputs::path::SafePath;
use crate::sandbox::workspace::base::Identity;

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing, in a directory that is there.
    Nothing,
    /// Nothing, because the directory is not there either.
    NoParent,
    /// Something that is no directory is on the way.
    Blocked,
    /// A regular file with its user and group.
    File { identity: Identity, mode: u32, owner: (u32, u32) },
    /// A directory.
    Directory { mode: u32 },
    /// A link.
    Symlink { identity: Identity, target: Vec<u8> },
    /// A FIFO, socket or device.
    Other,
    /// On another file system.
    OtherDevice,
}

/// Looks at a path below `root`.
pub(super) fn look(root: &OwnedFd, path: &[u8]) -> Result<Seen, Errno> {
    let Ok(path) = SafePath::parse(path) else { return Ok(Seen::Blocked) };
    let (parent, name) = path.split();
    let directory = match beneath::directory(root.as_fd(), parent) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(Seen::NoParent),
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Seen::Blocked),
        Err(cause) => return Err(cause),
    };
    if fstat(&directory)?.st_dev != fstat(root)?.st_dev {
        return Ok(Seen::OtherDevice);
    }
    let stat = match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(Seen::Nothing),
        Err(cause) => return Err(cause),
    };
    let (identity, mode) = (Identity::of(&stat), stat.st_mode & 0o777);
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Seen::File { identity, mode, owner: (stat.st_uid, stat.st_gid) },
        FileType::Directory => Seen::Directory { mode },
        FileType::Symlink => {
            let target = readlinkat(&directory, name, Vec::new())?.into_bytes();
            Seen::Symlink { identity, target }
        }
        _ => Seen::Other,
    })
}

/// The digest of a file of the tree.
pub(super) fn digest(root: &OwnedFd, path: &[u8]) -> Result<Digest, Errno> {
    let (parent, name) = SafePath::parse(path).map_err(|_| Errno::INVAL)?.split();
    let directory = beneath::directory(root.as_fd(), parent)?;
    let opened = beneath::file(directory.as_fd(), name)?;
    if FileType::from_raw_mode(fstat(&opened)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mut file = File::from(opened);
    let mut digest = Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut piece).map_err(|it| Errno::from_io_error(&it).unwrap_or(Errno::IO))?;
        if read == 0 {
            return Ok(digest.finalize().into());
        }
        digest.update(&piece[..read]);
    }
}
