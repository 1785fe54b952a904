//! Data, on stdout.

use std::io::Write;

use crate::cli::failure::Failure;
use crate::cli::known;

/// Prints text with a newline at its end. A reader that left is no failure: it has what it wanted.
pub fn data(text: &str) -> Result<(), Failure> {
    let mut text = text.to_owned();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    bytes(text.as_bytes())
}

/// Prints bytes, free of secrets.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(&known::bytes(bytes)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::of(&error)),
    }
}
