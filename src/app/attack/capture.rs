//! What a run prints, kept in memory up to a bound; the whole stands in the run's log.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use crate::executor::{OutputTap, Sinks};

/// Bytes that are kept.
const BYTES_MAX: usize = 1024 * 1024;

/// The two streams of a run.
#[derive(Debug, Clone, Default)]
pub struct Capture {
    stdout: Kept,
    stderr: Kept,
}

/// One stream.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Capture {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sinks of a run.
    pub fn sinks(&self, tap: Arc<dyn OutputTap>) -> Sinks {
        Sinks {
            stdout: Box::new(self.stdout.clone()),
            stderr: Box::new(self.stderr.clone()),
            tap,
            ..Sinks::nowhere()
        }
    }

    /// What was printed to standard output.
    pub fn text(&self) -> String {
        self.stdout.text()
    }

    /// Whether either stream holds this.
    pub fn holds(&self, word: &str) -> bool {
        self.stdout.text().contains(word) || self.stderr.text().contains(word)
    }
}

impl Kept {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = BYTES_MAX.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
