//! What the gateway took for a run, and what it refused: one entry per connection, per request that it read, and per name
//! that was asked for and does not exist.

use core::net::IpAddr;

/// Entries that are kept of a run; what is beyond is counted.
pub const ENTRIES_MAX: usize = 10_000;

/// One entry of a run's ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it began, milliseconds since the epoch.
    pub at_ms: i64,
    /// The name that was asked for, as the task wrote it where it is no name: escaped and cut by whoever shows it.
    pub name: String,
    /// The port; `None` where only the name was asked for.
    pub port: Option<u16>,
    /// The address that it led to.
    pub address: Option<IpAddr>,
    /// What allowed it.
    pub rule: Option<String>,
    /// What came of it.
    pub verdict: Verdict,
    /// Bytes from the task.
    pub bytes_up: u64,
    /// Bytes to the task.
    pub bytes_down: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// The request, where it was read.
    pub request: Option<RequestEntry>,
}

/// A request that the gateway read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestEntry {
    /// Its method, as sent.
    pub method: String,
    /// Its path without the query, as sent.
    pub path: String,
    /// The status of the answer, the host's or the gateway's own.
    pub status: Option<u16>,
    /// The name of the credential that was added.
    pub credential: Option<String>,
}

/// What came of a connection, a request or a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Allowed,
    /// It was refused.
    Denied(Reason),
    /// It was allowed and did not come about.
    Failed(Failure),
}

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No rule names the host.
    Name,
    /// The host may lie at a public address only, and its name led to another.
    PrivateAddress,
    /// What came is not TLS, and no rule says `opaque`.
    NotTls,
    /// The TLS server name is absent.
    ServerNameAbsent,
    /// The TLS server name is another one.
    ServerNameDiffers,
    /// The TLS server name is hidden.
    ServerNameHidden,
    /// What came is no TLS greeting that could be read.
    Greeting,
    /// No rule allows the request.
    Request,
    /// The request has no form that could be judged.
    Malformed,
    /// `Host` is another name.
    HostDiffers,
    /// The task sent a credential that the operator knows.
    Credential,
    /// A bound of the gateway's.
    Bound,
}

/// Why something that was allowed did not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The name does not resolve.
    Resolution,
    /// The host was not reached.
    Connection,
    /// The host did not prove who it is.
    Certificate,
    /// Nothing came for too long.
    Timeout,
    /// One side broke it off.
    Broken,
    /// The gateway ended.
    Gateway,
}
