//! Files that hold a key or a passphrase: for their owner alone, small, and read without waiting for anybody.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Why such a file is not read.
#[derive(Debug)]
pub(super) enum Fault {
    /// It cannot be read, or is no regular file of that size.
    Io(io::Error),
    /// Other users can read it; its permission bits.
    Exposed(u32),
}

/// Reads at most so many bytes. Links are followed: a service manager's credentials are some.
pub(super) fn read(path: &Path, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(Fault::Io)?;
    let mode = file.metadata().map_err(Fault::Io)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Fault::Exposed(mode));
    }
    read_whole(&file, bytes_max).map_err(Fault::Io)
}

/// All of an open regular file of at most so many bytes.
pub(super) fn read_whole(file: &File, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.size() > bytes_max {
        return Err(io::Error::other(format!("it is no regular file of at most {bytes_max} bytes")));
    }
    // Room for all of it: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.size() as usize + 1));
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}
