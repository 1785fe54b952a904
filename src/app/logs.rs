//! The log of a run as the tap of its streams.

use std::sync::Arc;

use crate::app::AppError;
use crate::config::Directories;
use crate::executor::{OutputTap, Stream};
use crate::task::RunId;

/// Writes the log of a run.
pub fn writer(_run: RunId, _directories: &Directories) -> Result<Arc<dyn OutputTap>, AppError> {
    struct Nobody;
    impl OutputTap for Nobody {
        fn saw(&self, _stream: Stream, _bytes: &[u8]) {}
    }
    Ok(Arc::new(Nobody))
}
