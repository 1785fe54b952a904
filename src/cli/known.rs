//! The user's secrets, kept out of what this process itself says: its talk, its data, its results. What a task writes is
//! kept free of them where its streams are moved.

use std::sync::OnceLock;

use crate::app::secrets;
use crate::config::Directories;
use crate::redact::{Redactor, Stream};

static KNOWN: OnceLock<Redactor> = OnceLock::new();

/// Reads the store, if there is one. Says why where it cannot be read: what is recorded is free of the secrets that were
/// known then, and is shown as it is.
pub fn learn() -> Option<String> {
    let state = Directories::state_of_this_user().ok()?;
    match secrets::redactor(&state) {
        Ok(redactor) => {
            // Learnt once; a second time has the same in it.
            let _ = KNOWN.set(redactor);
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

/// What is known by now.
pub fn redactor() -> Redactor {
    KNOWN.get().cloned().unwrap_or_else(Redactor::none)
}

/// A text without secrets.
pub fn text(text: &str) -> String {
    KNOWN.get().map_or_else(|| text.to_owned(), |it| it.text(text))
}

/// Bytes without secrets.
pub fn bytes(bytes: &[u8]) -> Vec<u8> {
    KNOWN.get().map_or_else(|| bytes.to_vec(), |it| it.bytes(bytes).0)
}

/// A stream of them; `None` where nothing is known.
pub fn stream() -> Option<Stream> {
    KNOWN.get().filter(|it| !it.is_empty()).map(Redactor::stream)
}
