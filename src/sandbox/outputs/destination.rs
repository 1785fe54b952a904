//! The directory that outputs go to: a new one for the run, or one that somebody named.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::sandbox::beneath;
use crate::sandbox::outputs::OutputError;
use crate::sandbox::outputs::draft::RESERVED_PREFIX;
use crate::task::RunId;

/// Where outputs go by default, with a directory for each run. The workspace leaves it out.
pub const DEFAULT_DIRECTORY: &str = "aegis-out";

/// Where outputs go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// `aegis-out/<run>` in `base`: new, removed again if nothing comes out.
    Run {
        /// An existing directory.
        base: PathBuf,
        /// Its short form names the directory.
        run: RunId,
    },
    /// The directory that somebody named; what is in it and not written again stays.
    Named(PathBuf),
}

/// An open output directory.
#[derive(Debug)]
pub(super) struct Opened {
    pub fd: OwnedFd,
    pub path: PathBuf,
    pub fresh: Fresh,
}

/// Whether what lies in the directory is all ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fresh {
    /// Made here.
    New,
    /// It was there; files of its own may be replaced.
    Existing,
}

impl Destination {
    pub(super) fn open(&self) -> Result<Opened, OutputError> {
        match self {
            Self::Run { base, run } => open_run(base, &run.short()),
            Self::Named(path) => open_named(path),
        }
    }
}

/// The project may hold a link named `aegis-out` that leads elsewhere, so no link is followed below `base`.
fn open_run(base: &Path, run: &str) -> Result<Opened, OutputError> {
    let parent = base.join(DEFAULT_DIRECTORY);
    let path = parent.join(run);
    let failed = |path: &Path, cause: io::Error| OutputError::Directory { path: path.to_path_buf(), cause };

    let base = File::open(base).map_err(|cause| failed(base, cause))?;
    match mkdirat(&base, DEFAULT_DIRECTORY, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(cause) => return Err(failed(&parent, cause.into())),
    }
    let holder =
        beneath::directory(base.as_fd(), DEFAULT_DIRECTORY.as_bytes()).map_err(|cause| match cause {
            Errno::NOTDIR | Errno::LOOP => OutputError::NotADirectory { path: parent.clone() },
            _ => failed(&parent, cause.into()),
        })?;
    write_gitignore(&holder).map_err(|cause| failed(&parent, cause))?;
    mkdirat(&holder, run, Mode::from_raw_mode(0o755)).map_err(|cause| failed(&path, cause.into()))?;
    let fd =
        beneath::directory(holder.as_fd(), run.as_bytes()).map_err(|cause| failed(&path, cause.into()))?;
    Ok(Opened { fd, path, fresh: Fresh::New })
}

/// Keeps outputs out of the project's history; a file that is there already says what its owner wants.
fn write_gitignore(holder: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(holder, ".gitignore", flags, Mode::from_raw_mode(0o644)) {
        Ok(opened) => File::from(opened).write_all(b"*\n"),
        Err(Errno::EXIST) => Ok(()),
        Err(cause) => Err(cause.into()),
    }
}

/// Its owner chose the path, links in it included.
fn open_named(path: &Path) -> Result<Opened, OutputError> {
    let failed = |cause| OutputError::Directory { path: path.to_path_buf(), cause };
    let fresh = if fs::symlink_metadata(path).is_ok() { Fresh::Existing } else { Fresh::New };
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(|cause| match cause.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
            OutputError::NotADirectory { path: path.to_path_buf() }
        }
        _ => failed(cause),
    })?;
    let opened = OpenOptions::new().read(true).open(path).map_err(failed)?;
    rustix::fs::accessat(
        &opened,
        ".",
        rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
        AtFlags::EACCESS,
    )
    .map_err(|cause| failed(cause.into()))?;
    let opened = Opened { fd: opened.into(), path: path.to_path_buf(), fresh };
    remove_leftovers(&opened.fd).map_err(|cause| failed(cause.into()))?;
    Ok(opened)
}

/// Unfinished files of a collection that was killed.
fn remove_leftovers(directory: &OwnedFd) -> Result<(), Errno> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_bytes().starts_with(RESERVED_PREFIX) {
            continue;
        }
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            unlinkat(directory, name, AtFlags::empty())?;
        }
    }
    Ok(())
}
