//! Whether the books can be kept now, for those who ask.

use std::sync::{Mutex, PoisonError};

use crate::record::RecordError;
use crate::task::causes::told;

/// What was last heard of the books.
#[derive(Debug, Default)]
pub struct Books {
    away: Mutex<Option<String>>,
}

impl Books {
    /// They answered.
    pub fn answered(&self) {
        let was_away = self.away.lock().unwrap_or_else(PoisonError::into_inner).take();
        if was_away.is_some() {
            tracing::info!("the records answer again");
        }
    }

    /// They did not.
    pub fn failed(&self, error: &RecordError) {
        let reason = told(error);
        let was_away = self.away.lock().unwrap_or_else(PoisonError::into_inner).replace(reason.clone());
        if was_away.is_none() {
            tracing::error!("the records cannot be kept: {reason}");
        }
    }

    /// Why they cannot be kept; `None` when they can.
    pub fn away(&self) -> Option<String> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
