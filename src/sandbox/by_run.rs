//! Directories named after runs: what is kept of them in files, beside their records. Each holds files, and directories
//! of files.

use std::io;
use std::path::{Path, PathBuf};

use crate::task::RunId;

/// Entries that are looked at.
const RUNS_MAX: usize = 1_000_000;

/// Marks the directory of a run whose record is a server's.
const FOREIGN: &str = "of-a-server";

/// The directories of runs in one place.
#[derive(Debug, Clone)]
pub struct ByRun {
    place: PathBuf,
}

impl ByRun {
    /// Those in `place`. Nothing is made yet.
    pub fn new(place: PathBuf) -> Self {
        Self { place }
    }

    /// Where they are.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// The one of a run.
    pub fn of(&self, run: RunId) -> PathBuf {
        self.place.join(run.to_string())
    }

    /// Marks what is kept of a run as that of a server's, so that it is kept without a record here.
    pub fn mark_foreign(&self, run: RunId) -> io::Result<()> {
        std::fs::write(self.of(run).join(FOREIGN), b"")
    }

    /// Whether the run is a server's.
    pub fn is_foreign(&self, run: RunId) -> bool {
        self.of(run).join(FOREIGN).exists()
    }

    /// Every run that has one, in no order.
    pub fn runs(&self) -> io::Result<Vec<RunId>> {
        let entries = match std::fs::read_dir(&self.place) {
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

    /// Bytes that a run uses here.
    pub fn bytes(&self, run: RunId) -> io::Result<u64> {
        let mut bytes = 0;
        let mut waiting = vec![self.of(run)];
        while let Some(directory) = waiting.pop() {
            let entries = match std::fs::read_dir(directory) {
                Ok(entries) => entries,
                Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
                Err(err) => return Err(err),
            };
            for entry in entries {
                let entry = entry?;
                let metadata = entry.metadata()?;
                if metadata.is_dir() {
                    waiting.push(entry.path());
                } else {
                    bytes += metadata.len();
                }
            }
        }
        Ok(bytes)
    }

    /// Removes what a run has here.
    pub fn remove(&self, run: RunId) -> io::Result<()> {
        match std::fs::remove_dir_all(self.of(run)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_keep_is_listed_measured_and_removed() {
        let place = tempfile::tempdir().expect("a directory");
        let kept = ByRun::new(place.path().join("kept"));
        assert_eq!(kept.runs().expect("nothing"), []);
        let run = RunId::generate();
        std::fs::create_dir_all(kept.of(run).join("content")).expect("directories");
        std::fs::write(kept.of(run).join("a"), "12").expect("written");
        std::fs::write(kept.of(run).join("content/b"), "345").expect("written");
        std::fs::write(kept.place().join("stranger"), "").expect("written");
        assert_eq!((kept.runs().expect("listed"), kept.bytes(run).expect("measured")), (vec![run], 5));
        kept.remove(run).expect("removed");
        kept.remove(run).expect("already gone");
        assert_eq!((kept.runs().expect("listed"), kept.bytes(run).expect("measured")), (vec![], 0));
    }
}
