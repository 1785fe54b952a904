//! The engine's errors, told as ours: bounded, escaped, with what was being asked.

use std::io::ErrorKind;

use bollard::errors::Error;

use crate::container::EngineError;

/// Characters of an engine's message that are kept.
const MESSAGE_CHARS_MAX: usize = 600;

/// What an error of bollard means to the caller of `verb`.
pub(super) fn told(error: Error, verb: &'static str, address: &str) -> EngineError {
    match error {
        Error::DockerResponseServerError { message, .. } => {
            EngineError::Refused { verb, message: bounded(&message) }
        }
        Error::RequestTimeoutError => {
            EngineError::TimedOut { verb, seconds: super::engine::CALL_SECONDS_MAX }
        }
        Error::SocketNotFoundError(_) => {
            EngineError::NotRunning { address: address.to_owned(), source: None }
        }
        other => match kind_of(&other) {
            Some(ErrorKind::PermissionDenied) => {
                EngineError::PermissionDenied { address: address.to_owned() }
            }
            Some(ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
                EngineError::NotRunning { address: address.to_owned(), source: Some(Box::new(other)) }
            }
            _ => EngineError::Refused { verb, message: bounded(&other.to_string()) },
        },
    }
}

/// The HTTP status of an error, where it has one.
pub(super) fn status_of(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

fn kind_of(error: &Error) -> Option<ErrorKind> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(io) = current.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        cause = current.source();
    }
    None
}

/// An engine refusal in its own words.
pub(super) fn refused(verb: &'static str, message: &str) -> EngineError {
    EngineError::Refused { verb, message: bounded(message) }
}

/// Text of an engine, kept short and on one line.
pub(super) fn bounded(message: &str) -> String {
    let mut kept = String::new();
    for character in message.trim().chars().take(MESSAGE_CHARS_MAX) {
        if character.is_control() { kept.push(' ') } else { kept.push(character) }
    }
    kept
}
