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
mod copy;
mod format;
mod reader;
mod writer;

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::record::Stream;
use crate::sandbox::by_run::ByRun;
use crate::task::RunId;

pub use copy::{Append, Copied, Piece};
pub use reader::{Chunk, LogReader, Look, Position};
pub use writer::{LogEnd, LogWriter};

/// The logs' directory below the state directory.
const DIRECTORY: &str = "logs";
const INDEX: &str = "index";

/// The logs of one state directory.
#[derive(Debug, Clone)]
pub struct Logs {
    by_run: ByRun,
}

impl Logs {
    /// The logs below `state_dir`. Nothing is made yet.
    pub fn new(state_dir: &Path) -> Self {
        Self { by_run: ByRun::new(state_dir.join(DIRECTORY)) }
    }

    /// The directory of each.
    pub fn by_run(&self) -> &ByRun {
        &self.by_run
    }

    /// Begins the log of a run, which keeps at most `bytes_max` of both streams together.
    pub fn writer(&self, run: RunId, bytes_max: u64) -> io::Result<LogWriter> {
        let directory = self.by_run.of(run);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        LogWriter::create(directory, bytes_max)
    }

    /// The log of a run; `None` if none was written.
    pub fn reader(&self, run: RunId) -> io::Result<Option<LogReader>> {
        match LogReader::open(&self.by_run.of(run)) {
            Ok(reader) => Ok(Some(reader)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
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
