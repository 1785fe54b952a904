//! The log of a run as the tap of its streams.

use std::sync::Arc;

use crate::app::AppError;
use crate::config::Directories;
use crate::executor::{Kept, OutputTap};
use crate::record::{Stream, now_ms};
use crate::store::Logs;
use crate::store::log::LogWriter;
use crate::task::RunId;

/// Bytes of one run's log at the most; the stream itself goes on beyond them, up to its own limit.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Begins the log of a run.
pub fn writer(run: RunId, directories: &Directories) -> Result<Arc<dyn OutputTap>, AppError> {
    let writer = Logs::new(&directories.state).writer(run, LOG_BYTES_MAX);
    let writer = writer.map_err(|source| AppError::Use {
        what: "the logs below",
        path: directories.state.clone(),
        source,
    })?;
    Ok(Arc::new(Log(writer)))
}

struct Log(LogWriter);

impl OutputTap for Log {
    fn saw(&self, stream: Stream, bytes: &[u8]) {
        self.0.write(stream, bytes, now_ms());
    }

    fn ended(&self) -> Kept {
        if self.0.finish(now_ms()).truncated { Kept::Truncated } else { Kept::Whole }
    }
}
