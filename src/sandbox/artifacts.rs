//! Outputs of submitted runs in the state directory, each attempt's in a directory of its own, and how a file of one is
//! opened: by its recorded path, below one directory, through no link. What lies there is a task's.
//!
//! ```text
//! <state>/artifacts/<run>/<attempt>/…
//! ```

pub mod parcel;

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;

use crate::sandbox::beneath;
use crate::sandbox::by_run::ByRun;
use crate::sandbox::outputs::path::SafePath;
use crate::task::RunId;

/// The directory below the state directory.
const DIRECTORY: &str = "artifacts";
/// Attempts of one run that are looked at.
const ATTEMPTS_MAX: usize = 10_000;

/// The outputs of one state directory.
#[derive(Debug, Clone)]
pub struct Artifacts {
    by_run: ByRun,
}

impl Artifacts {
    /// Those below `state_dir`. Nothing is made yet.
    pub fn new(state_dir: &Path) -> Self {
        Self { by_run: ByRun::new(state_dir.join(DIRECTORY)) }
    }

    /// The directory of each run.
    pub fn by_run(&self) -> &ByRun {
        &self.by_run
    }

    /// Where an attempt's outputs go. The run's directory is made, the attempt's is not: a later attempt finds nothing of
    /// an earlier one's.
    pub fn begin(&self, run: RunId, attempt: u32) -> io::Result<PathBuf> {
        let of_run = self.by_run.of(run);
        DirBuilder::new().recursive(true).mode(0o700).create(&of_run)?;
        Ok(of_run.join(attempt.to_string()))
    }

    /// The attempts of a run that have a directory, in no order.
    pub fn attempts(&self, run: RunId) -> io::Result<Vec<u32>> {
        let entries = match std::fs::read_dir(self.by_run.of(run)) {
            Ok(entries) => entries,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(err) => return Err(err),
        };
        let mut attempts = Vec::new();
        for entry in entries.take(ATTEMPTS_MAX) {
            attempts.extend(entry?.file_name().to_str().and_then(|it| it.parse::<u32>().ok()));
        }
        Ok(attempts)
    }

    /// Removes what one attempt left.
    pub fn remove(&self, run: RunId, attempt: u32) -> io::Result<()> {
        match std::fs::remove_dir_all(self.by_run.of(run).join(attempt.to_string())) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Opens a file that an attempt left.
    pub fn open(&self, run: RunId, attempt: u32, path: &[u8]) -> io::Result<File> {
        open_below(&self.directory(run, attempt)?, path)
    }

    /// Opens the directory of what an attempt left.
    pub fn directory(&self, run: RunId, attempt: u32) -> io::Result<File> {
        let directory = self.by_run.of(run).join(attempt.to_string());
        let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits() as i32;
        File::options().read(true).custom_flags(flags).open(directory)
    }
}

/// Opens the regular file at `path` below an open directory. A path that could lead elsewhere is `InvalidInput`, a link
/// or anything else that is no file `NotFound`.
pub fn open_below(directory: &File, path: &[u8]) -> io::Result<File> {
    let path =
        SafePath::parse(path).map_err(|it| io::Error::new(io::ErrorKind::InvalidInput, it.to_string()))?;
    let (parent, name) = path.split();
    let parent = beneath::directory(directory.as_fd(), parent);
    let opened = match parent.and_then(|parent| beneath::file(parent.as_fd(), name)) {
        Ok(opened) => opened,
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(io::ErrorKind::NotFound.into()),
        Err(err) => return Err(err.into()),
    };
    if FileType::from_raw_mode(fstat(&opened)?.st_mode) != FileType::RegularFile {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(opened.into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn check(path: &[u8], expected: Result<(), io::ErrorKind>) {
        let state = tempfile::tempdir().expect("a directory");
        let (artifacts, run) = (Artifacts::new(state.path()), RunId::generate());
        let place = artifacts.begin(run, 2).expect("made");
        fs::create_dir_all(place.join("a")).expect("made");
        fs::write(place.join("a/file"), "content").expect("written");
        fs::write(artifacts.by_run().of(run).join("outside"), "secret").expect("written");
        symlink("../outside", place.join("link")).expect("a link");
        symlink("..", place.join("up")).expect("a link");
        let opened = artifacts.open(run, 2, path).map(drop).map_err(|it| it.kind());
        assert_eq!(opened, expected, "{}", String::from_utf8_lossy(path));
    }

    #[test]
    fn a_file_is_opened_by_its_path() {
        check(b"a/file", Ok(()));
        check(b"a/none", Err(io::ErrorKind::NotFound));
    }

    #[test]
    fn no_path_leads_out() {
        for path in [&b"../outside"[..], b"/etc/passwd", b"a/../../outside", b"a\0", b"", b"a//file"] {
            check(path, Err(io::ErrorKind::InvalidInput));
        }
        for path in [&b"link"[..], b"up/outside", b"a", b"..\\outside"] {
            check(path, Err(io::ErrorKind::NotFound));
        }
    }

    #[test]
    fn an_attempt_is_listed_and_removed_by_itself() {
        let state = tempfile::tempdir().expect("a directory");
        let (artifacts, run) = (Artifacts::new(state.path()), RunId::generate());
        for attempt in [1, 2] {
            fs::create_dir(artifacts.begin(run, attempt).expect("made")).expect("made");
        }
        artifacts.remove(run, 1).expect("removed");
        assert_eq!(artifacts.attempts(run).expect("listed"), [2]);
    }
}
