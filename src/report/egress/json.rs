//! An entry of the ledger as scripts read it.

use std::net::IpAddr;

use serde::Serialize;

/// One entry.
#[derive(Debug, Serialize)]
pub struct EntryJson {
    /// When it began, RFC 3339.
    pub at: String,
    /// The name that was asked for.
    pub name: String,
    /// The port; null where only the name was asked for.
    pub port: Option<u16>,
    /// The address that it led to.
    pub address: Option<IpAddr>,
    /// What allowed it.
    pub rule: Option<String>,
    /// What came of it, one word.
    pub verdict: &'static str,
    /// The same for a person; null where it passed.
    pub reason: Option<&'static str>,
    /// Bytes from the task.
    pub bytes_up: u64,
    /// Bytes to the task.
    pub bytes_down: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// The request, where it was read.
    pub request: Option<RequestJson>,
}

/// A request that the gateway read.
#[derive(Debug, Serialize)]
pub struct RequestJson {
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// The status of the answer.
    pub status: Option<u16>,
    /// The name of the credential that was added.
    pub credential: Option<String>,
}
