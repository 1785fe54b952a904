//! The server of a worker host, as the host needs it: what runs left behind is handed in there, and what they need is
//! fetched from it. How it is spoken to is the business of who starts this (`cli`).

use std::fs::File;

use crate::api::services::Answer;
use crate::queue::fleet::Proof;

/// How far a copy on the server has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stands {
    /// Entries of a log, bytes of an output.
    pub at: u64,
    /// Whether there is nothing more to come.
    pub complete: bool,
}

/// Why something was not handed in or fetched.
#[derive(Debug, thiserror::Error)]
pub enum Unsent {
    /// The server cannot be had: whatever else is asked waits in vain, too.
    #[error("the server cannot be used: {reason}")]
    Away {
        /// Why.
        reason: String,
    },
    /// The server answers and does not take this now.
    #[error("the server does not take it now: {reason}")]
    NotNow {
        /// Why.
        reason: String,
    },
    /// The run is another's by now, or there is nothing of this name.
    #[error("the server knows nothing of it, or it is another's by now")]
    NotOurs,
    /// The server will never take it.
    #[error("the server does not take it: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// What is here cannot be read or written.
    #[error("it cannot be read or written here")]
    Here(#[source] std::io::Error),
}

/// A server that takes what runs of this host left behind.
pub trait Upstream: Send + Sync {
    /// Hands in entries of a log; `after` is how many the server should have. Gives where it stands then.
    fn log<'a>(
        &'a self,
        proof: &'a Proof,
        after: u64,
        entries: &'a [u8],
    ) -> Answer<'a, Result<Stands, Unsent>>;

    /// How far an output has come.
    fn output_stands<'a>(&'a self, proof: &'a Proof, index: u32) -> Answer<'a, Result<Stands, Unsent>>;

    /// Hands in an output from where it stands, `bytes` of it.
    fn output<'a>(
        &'a self,
        proof: &'a Proof,
        index: u32,
        file: File,
        at: u64,
        bytes: u64,
    ) -> Answer<'a, Result<Stands, Unsent>>;

    /// Fetches the uploaded workspace of a run that is under lease, at most `bytes_max`.
    fn workspace<'a>(
        &'a self,
        proof: &'a Proof,
        into: File,
        bytes_max: u64,
    ) -> Answer<'a, Result<(), Unsent>>;
}
