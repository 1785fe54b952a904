//! What rules come to: shapes of what may be reached, of where it may lie, of which credential may be added, and of what
//! is denied.

use std::fmt;

use crate::policy::network::host::HostPattern;
use crate::policy::network::method::MethodPattern;
use crate::policy::network::path::PathPattern;
use crate::policy::network::port::PortPattern;
use crate::policy::network::union::Shape;

/// Hosts, ports, and what may be said to them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reach {
    /// The hosts.
    pub host: HostPattern,
    /// The ports.
    pub port: PortPattern,
    /// What may be said.
    pub access: Access,
}

/// What may be said to a host, narrower first: whoever may say anything over TLS may send any request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Requests, which the gateway reads.
    Requests {
        /// The methods.
        method: MethodPattern,
        /// The paths.
        path: PathPattern,
        /// Whether the connection may become another protocol.
        upgrade: bool,
    },
    /// TLS to the host itself, unread.
    PassThrough,
    /// Any bytes.
    Opaque,
}

/// How a connection is treated, narrower first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// Its requests are read and judged.
    Inspected,
    /// It is TLS to the name that was asked for, and passes unread.
    PassThrough,
    /// It may be any protocol.
    Opaque,
}

/// Hosts and ports: where a host may lie in private.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The hosts.
    pub host: HostPattern,
    /// The ports.
    pub port: PortPattern,
}

/// A credential and the requests it may go with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// The credential.
    pub credential: CredentialPattern,
    /// The hosts.
    pub host: HostPattern,
    /// The ports.
    pub port: PortPattern,
    /// The methods.
    pub method: MethodPattern,
    /// The paths.
    pub path: PathPattern,
}

/// One credential, by its name in the operator's configuration, or any.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CredentialPattern {
    /// This one.
    Named(String),
    /// Any; only a ceiling says so.
    Any,
}

/// Hosts and ports that are denied: by their text alone, whoever has the names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Denied {
    /// The hosts.
    pub host: HostPattern,
    /// The ports.
    pub port: PortPattern,
}

impl Access {
    /// How a connection with it is treated.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Requests { .. } => Transport::Inspected,
            Self::PassThrough => Transport::PassThrough,
            Self::Opaque => Transport::Opaque,
        }
    }
}

impl Transport {
    /// Every value, narrower first.
    pub const ALL: [Self; 3] = [Self::Inspected, Self::PassThrough, Self::Opaque];

    /// Its word in a message.
    pub fn word(self) -> &'static str {
        match self {
            Self::Inspected => "inspected",
            Self::PassThrough => "pass-through",
            Self::Opaque => "opaque",
        }
    }
}

impl Shape for Access {
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Requests { method, path, upgrade },
                Self::Requests { method: method_asked, path: path_asked, upgrade: upgrade_asked },
            ) => method.covers(method_asked) && path.covers(path_asked) && *upgrade >= *upgrade_asked,
            (_, _) => self.transport() >= other.transport(),
        }
    }

    fn meet(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (
                Self::Requests { method, path, upgrade },
                Self::Requests { method: method_asked, path: path_asked, upgrade: upgrade_asked },
            ) => Some(Self::Requests {
                method: method.meet(method_asked)?,
                path: path.meet(path_asked)?,
                upgrade: *upgrade && *upgrade_asked,
            }),
            (_, _) if self.transport() <= other.transport() => Some(self.clone()),
            (_, _) => Some(other.clone()),
        }
    }
}

impl Shape for Reach {
    fn covers(&self, other: &Self) -> bool {
        self.port.covers(&other.port) && self.host.covers(&other.host) && self.access.covers(&other.access)
    }

    fn meet(&self, other: &Self) -> Option<Self> {
        Some(Self {
            port: self.port.meet(&other.port)?,
            host: self.host.meet(&other.host)?,
            access: self.access.meet(&other.access)?,
        })
    }
}

impl Shape for Target {
    fn covers(&self, other: &Self) -> bool {
        self.port.covers(&other.port) && self.host.covers(&other.host)
    }

    fn meet(&self, other: &Self) -> Option<Self> {
        Some(Self { port: self.port.meet(&other.port)?, host: self.host.meet(&other.host)? })
    }
}

impl Shape for CredentialPattern {
    fn covers(&self, other: &Self) -> bool {
        *self == Self::Any || self == other
    }

    fn meet(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, both) | (both, Self::Any) => Some(both.clone()),
            (Self::Named(left), Self::Named(right)) => (left == right).then(|| self.clone()),
        }
    }
}

impl Shape for Grant {
    fn covers(&self, other: &Self) -> bool {
        self.port.covers(&other.port)
            && self.credential.covers(&other.credential)
            && self.method.covers(&other.method)
            && self.host.covers(&other.host)
            && self.path.covers(&other.path)
    }

    fn meet(&self, other: &Self) -> Option<Self> {
        Some(Self {
            port: self.port.meet(&other.port)?,
            credential: self.credential.meet(&other.credential)?,
            method: self.method.meet(&other.method)?,
            host: self.host.meet(&other.host)?,
            path: self.path.meet(&other.path)?,
        })
    }
}

impl Shape for Denied {
    fn covers(&self, other: &Self) -> bool {
        self.port.covers(&other.port) && self.host.covers_as_text(&other.host)
    }

    fn meet(&self, other: &Self) -> Option<Self> {
        let host = if self.host.covers_as_text(&other.host) {
            other.host.clone()
        } else if other.host.covers_as_text(&self.host) {
            self.host.clone()
        } else {
            return None;
        };
        Some(Self { port: self.port.meet(&other.port)?, host })
    }
}

/// For the ledger, and for messages.
impl fmt::Display for Reach {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.host, self.port)?;
        match &self.access {
            Access::Requests { method, path, upgrade } => {
                write!(out, " {method} {path}")?;
                if *upgrade { out.write_str(" upgrade") } else { Ok(()) }
            }
            Access::PassThrough => Ok(()),
            Access::Opaque => out.write_str(" opaque"),
        }
    }
}
