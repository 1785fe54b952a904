//! Ports, of hosts and of the task.

use std::fmt;

use crate::policy::network::union::Shape;

/// Plain HTTP. Without `opaque` it is read as requests: nothing else in plain text says whom the bytes are for.
pub const HTTP: u16 = 80;
/// HTTP over TLS, and what a rule without ports names.
pub const HTTPS: u16 = 443;

/// One port or all of them. `One` is never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortPattern {
    /// This one.
    One(u16),
    /// Each of them; only a ceiling says so.
    Any,
}

impl PortPattern {
    /// The port, where it is one.
    pub fn one(self) -> Option<u16> {
        match self {
            Self::One(port) => Some(port),
            Self::Any => None,
        }
    }

    /// Whether it means this port.
    pub fn matches(self, port: u16) -> bool {
        self == Self::Any || self == Self::One(port)
    }
}

impl Shape for PortPattern {
    fn covers(&self, other: &Self) -> bool {
        *self == Self::Any || self == other
    }

    fn meet(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, both) | (both, Self::Any) => Some(*both),
            (Self::One(left), Self::One(right)) => (left == right).then_some(*self),
        }
    }
}

impl fmt::Display for PortPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(port) => write!(out, "{port}"),
            Self::Any => out.write_str("*"),
        }
    }
}
