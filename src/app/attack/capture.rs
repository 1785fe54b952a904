//! Standard output of a run, kept in memory up to a bound; the whole stands in the run's log.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use crate::executor::{OutputTap, Sinks};

/// Bytes that are kept.
const BYTES_MAX: usize = 1024 * 1024;

/// Standard output of a run.
#[derive(Debug, Clone)]
pub struct Capture(Arc<Mutex<Vec<u8>>>);

impl Capture {
    /// Nothing yet.
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// The sinks of a run.
    pub fn sinks(&self, tap: Arc<dyn OutputTap>) -> Sinks {
        Sinks { stdout: Box::new(self.clone()), stderr: Box::new(std::io::sink()), stdin: None, tap }
    }

    /// What was printed to standard output.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Default for Capture {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Capture {
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
