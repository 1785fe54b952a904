//! What the gateway took for a run, and what it refused: one entry per connection, per request that it read, and per name
//! that was asked for and does not exist.

use core::net::IpAddr;

/// Entries that are kept of a run; what is beyond is counted.
pub const ENTRIES_MAX: usize = 10_000;

/// What a run's entries come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections and requests that passed.
    pub allowed: u64,
    /// Names, connections and requests that were refused.
    pub denied: u64,
    /// Connections that were allowed and did not come about.
    pub failed: u64,
    /// Bytes from the task.
    pub bytes_up: u64,
    /// Bytes to the task.
    pub bytes_down: u64,
    /// Entries that are kept.
    pub kept: u64,
    /// Entries beyond [`ENTRIES_MAX`].
    pub unkept: u64,
}

impl Counts {
    /// Counts an entry, but not whether it is kept.
    pub fn add(&mut self, entry: &Entry) {
        let count = match entry.verdict {
            Verdict::Allowed => &mut self.allowed,
            Verdict::Denied(_) => &mut self.denied,
            Verdict::Failed(_) => &mut self.failed,
        };
        *count = count.saturating_add(1);
        self.bytes_up = self.bytes_up.saturating_add(entry.bytes_up);
        self.bytes_down = self.bytes_down.saturating_add(entry.bytes_down);
    }
}

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

impl Verdict {
    /// Every value.
    pub const ALL: [Self; 19] = [
        Self::Allowed,
        Self::Denied(Reason::Name),
        Self::Denied(Reason::PrivateAddress),
        Self::Denied(Reason::NotTls),
        Self::Denied(Reason::ServerNameAbsent),
        Self::Denied(Reason::ServerNameDiffers),
        Self::Denied(Reason::ServerNameHidden),
        Self::Denied(Reason::Greeting),
        Self::Denied(Reason::Request),
        Self::Denied(Reason::Malformed),
        Self::Denied(Reason::HostDiffers),
        Self::Denied(Reason::Credential),
        Self::Denied(Reason::Bound),
        Self::Failed(Failure::Resolution),
        Self::Failed(Failure::Connection),
        Self::Failed(Failure::Certificate),
        Self::Failed(Failure::Timeout),
        Self::Failed(Failure::Broken),
        Self::Failed(Failure::Gateway),
    ];

    /// The word for it in records and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied(reason) => match reason {
                Reason::Name => "denied_name",
                Reason::PrivateAddress => "denied_private_address",
                Reason::NotTls => "denied_not_tls",
                Reason::ServerNameAbsent => "denied_server_name_absent",
                Reason::ServerNameDiffers => "denied_server_name_differs",
                Reason::ServerNameHidden => "denied_server_name_hidden",
                Reason::Greeting => "denied_greeting",
                Reason::Request => "denied_request",
                Reason::Malformed => "denied_malformed",
                Reason::HostDiffers => "denied_host_differs",
                Reason::Credential => "denied_credential",
                Reason::Bound => "denied_bound",
            },
            Self::Failed(failure) => match failure {
                Failure::Resolution => "failed_resolution",
                Failure::Connection => "failed_connection",
                Failure::Certificate => "failed_certificate",
                Failure::Timeout => "failed_timeout",
                Failure::Broken => "failed_broken",
                Failure::Gateway => "failed_gateway",
            },
        }
    }

    /// The value with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.word() == word)
    }

    /// What it means to the person whose task it was; `None` for what passed.
    pub fn told(self) -> Option<&'static str> {
        Some(match self {
            Self::Allowed => return None,
            Self::Denied(reason) => match reason {
                Reason::Name => "no rule names it",
                Reason::PrivateAddress => {
                    "its name leads to an address that is not public, and its rule does not say `private`"
                }
                Reason::NotTls => "the task did not speak TLS, and its rule does not say `opaque`",
                Reason::ServerNameAbsent => "the task's TLS names no server",
                Reason::ServerNameDiffers => "the task's TLS names another server",
                Reason::ServerNameHidden => "the task's TLS hides the server's name",
                Reason::Greeting => "the task's TLS begins with nothing that could be read",
                Reason::Request => "no rule allows the request",
                Reason::Malformed => "the request has no form that could be judged",
                Reason::HostDiffers => "the request names another host",
                Reason::Credential => "the task sent a credential that the operator knows",
                Reason::Bound => "a bound on names or connections is reached",
            },
            Self::Failed(failure) => match failure {
                Failure::Resolution => "the name does not resolve on this host",
                Failure::Connection => "the host did not answer",
                Failure::Certificate => "the host did not prove who it is",
                Failure::Timeout => "nothing came for too long",
                Failure::Broken => "one side broke the connection off",
                Failure::Gateway => "the gateway ended: there is no way out any more",
            },
        })
    }
}
