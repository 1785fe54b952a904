//! The logs of runs: files, never rows.
//!
//! ```text
//! <state>/logs/<run>/stdout      the bytes of one stream, as they came (`stdout.zst` once the run has ended)
//! <state>/logs/<run>/stderr      the same
//! <state>/logs/<run>/index       which bytes came when, in fixed entries; ends with a mark
//! ```
//!
//! A log can be read while it is written, and after its writer was killed at any moment. Order within a stream is
//! exact; between the streams it is that of the writes, and for a log of very many changes that of 40 ms.

mod compress;
mod format;
mod reader;
mod writer;

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::record::Stream;
use crate::task::RunId;

pub use reader::{Chunk, LogReader, Look, Position};
pub use writer::{LogEnd, LogWriter};

/// The logs' directory below the state directory.
const DIRECTORY: &str = "logs";
const INDEX: &str = "index";
/// Entries that a sweep looks at.
const RUNS_MAX: usize = 1_000_000;

/// The logs of one state directory.
#[derive(Debug, Clone)]
pub struct Logs {
    directory: PathBuf,
}

impl Logs {
    /// The logs below `state_dir`. Nothing is made yet.
    pub fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join(DIRECTORY) }
    }

    /// Begins the log of a run, which keeps at most `bytes_max` of both streams together.
    pub fn writer(&self, run: RunId, bytes_max: u64) -> io::Result<LogWriter> {
        let directory = self.of(run);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        LogWriter::create(directory, bytes_max)
    }

    /// The log of a run; `None` if none was written.
    pub fn reader(&self, run: RunId) -> io::Result<Option<LogReader>> {
        match LogReader::open(&self.of(run)) {
            Ok(reader) => Ok(Some(reader)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Bytes that the log of a run uses.
    pub fn bytes(&self, run: RunId) -> io::Result<u64> {
        let mut bytes = 0;
        let entries = match std::fs::read_dir(self.of(run)) {
            Ok(entries) => entries,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(err) => return Err(err),
        };
        for entry in entries {
            bytes += entry?.metadata()?.len();
        }
        Ok(bytes)
    }

    /// Removes the log of a run and says how many bytes that freed.
    pub fn remove(&self, run: RunId) -> io::Result<u64> {
        let bytes = self.bytes(run)?;
        match std::fs::remove_dir_all(self.of(run)) {
            Ok(()) => Ok(bytes),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(err) => Err(err),
        }
    }

    /// Every run that has a log, in no order.
    pub fn runs(&self) -> io::Result<Vec<RunId>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(err) => return Err(err),
        };
        let mut runs = Vec::new();
        for entry in entries.take(RUNS_MAX) {
            if let Some(run) = entry?.file_name().to_str().and_then(|it| it.parse().ok()) {
                runs.push(run);
            }
        }
        Ok(runs)
    }

    fn of(&self, run: RunId) -> PathBuf {
        self.directory.join(run.to_string())
    }
}

fn file_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

fn create_private(path: &Path) -> io::Result<std::fs::File> {
    OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests;
