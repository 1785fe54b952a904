//! Single files for the host while commands run. A task may have planted anything at the path: only regular files
//! are touched, none of the kernel's or the engine's, and nothing blocks.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde_bytes::ByteBuf;

use aegis_init::wire::{FILE_BYTES_MAX, PATH_BYTES_MAX};

use crate::clock::Moment;
use crate::foreign::foreign;

const MODE_MAX: u32 = 0o777;
const PARENT_MODE: u32 = 0o755;
/// Names that are tried for the file before it is renamed.
const TEMPORARY_NAMES_MAX: u32 = 8;

/// Size of the file and at most `length_max` of its bytes from `offset` on.
pub fn read(workspace: &[u8], path: &[u8], offset: u64, length_max: u32) -> nix::Result<(u64, ByteBuf)> {
    let path = absolute(workspace, path)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = File::from(open(OsStr::from_bytes(&path), flags, Mode::empty())?);
    let stat = fstat(&file)?;
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => {}
        SFlag::S_IFDIR => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    if foreign(&file) {
        return Err(Errno::EPERM);
    }
    let size = stat.st_size.unsigned_abs();
    let length = size.saturating_sub(offset).min(u64::from(length_max)).min(FILE_BYTES_MAX as u64);
    let mut bytes = vec![0; length as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(err) => return Err(errno(&err)),
        }
    }
    bytes.truncate(filled);
    Ok((size, ByteBuf::from(bytes)))
}

/// Writes a file beside its place and renames it there, so that nobody sees half of it. Missing parents are made.
pub fn write(workspace: &[u8], path: &[u8], mode: u32, data: &[u8]) -> nix::Result<()> {
    if mode > MODE_MAX || data.len() > FILE_BYTES_MAX {
        return Err(Errno::EPERM);
    }
    let path = absolute(workspace, path)?;
    let mut names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|it| !it.is_empty()).collect();
    if names.iter().any(|name| matches!(*name, b"." | b"..")) || path.ends_with(b"/") {
        return Err(Errno::EINVAL);
    }
    let name = OsStr::from_bytes(names.pop().ok_or(Errno::EISDIR)?);
    let directory = make_parents(&names)?;
    let (temporary, file) = create_temporary(&directory, Mode::from_bits_truncate(mode))?;
    let temporary = temporary.as_str();
    let result = File::from(file)
        .write_all(data)
        .map_err(|err| errno(&err))
        .and_then(|()| renameat(&directory, temporary, &directory, name));
    if result.is_err() {
        let _ = unlinkat(&directory, temporary, UnlinkatFlags::NoRemoveDir);
    }
    result
}

/// The directory at these names below `/`. Links are followed: a task may reach through them whatever it may reach
/// itself, and the kernel's files are refused at the end.
fn make_parents(names: &[&[u8]]) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut directory = open("/", flags, Mode::empty())?;
    for name in names {
        let name = OsStr::from_bytes(name);
        let next = match openat(&directory, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) if !foreign(&directory) => {
                match mkdirat(directory.as_fd(), name, Mode::from_bits_truncate(PARENT_MODE)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(errno),
                }
                openat(&directory, name, flags | OFlag::O_NOFOLLOW, Mode::empty())?
            }
            other => other?,
        };
        directory = next;
    }
    if foreign(&directory) {
        return Err(Errno::EPERM);
    }
    Ok(directory)
}

fn create_temporary(directory: &OwnedFd, mode: Mode) -> nix::Result<(String, OwnedFd)> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    for _ in 0..TEMPORARY_NAMES_MAX {
        let name = format!(".aegis-{:?}", Moment::now().since(Moment::BOOT));
        match openat(directory, name.as_str(), flags, mode) {
            Ok(file) => return Ok((name, file)),
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EEXIST)
}

fn absolute(workspace: &[u8], path: &[u8]) -> nix::Result<Vec<u8>> {
    if path.is_empty() || path.contains(&0) {
        return Err(Errno::EINVAL);
    }
    let whole = if path.starts_with(b"/") { path.to_vec() } else { [workspace, b"/", path].concat() };
    if whole.len() > PATH_BYTES_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok(whole)
}

fn errno(err: &std::io::Error) -> Errno {
    Errno::from_raw(err.raw_os_error().unwrap_or(libc::EIO))
}
