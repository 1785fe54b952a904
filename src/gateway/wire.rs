//! Messages between a run's owner and its gateway, over one inherited socket. Both ends are this program, of one version;
//! what the gateway says is taken as what a process says that parses hostile bytes: bounded, and never more than asked for.

mod entry;
mod inspect;
mod rules;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

pub use entry::{Entry, RequestEntry};
pub use inspect::Inspect;
pub use rules::Rules;

/// What the owner says. The gateway is told everything it works with: it opens nothing itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// The first message.
    Begin(Box<Begin>),
    /// The sandbox gives sockets now: open the resolver.
    Open,
    /// Answer to [`Tell::Listen`]; the socket travels with it where `errno` is 0.
    Listening {
        /// As asked.
        id: u32,
        /// Why there is none, or 0.
        errno: i32,
    },
    /// The run is over: end every connection and say so.
    End,
}

/// What one run's gateway works with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// What the task may reach.
    pub rules: Rules,
    /// Resolvers that are asked, in order.
    pub resolvers: Vec<SocketAddr>,
    /// What inspected connections need.
    pub inspect: Inspect,
    /// Authorities that upstream servers are verified with (DER).
    pub roots: Vec<ByteBuf>,
    /// The operator's upstream proxy: host and port.
    pub proxy: Option<(String, u16)>,
}

/// What the gateway says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tell {
    /// The resolver answers.
    Ready,
    /// A listening socket of the sandbox is needed.
    Listen {
        /// Chosen by the gateway, returned in the answer.
        id: u32,
        /// Datagrams, else connections.
        datagrams: bool,
        /// The address.
        address: [u8; 4],
        /// The port.
        port: u16,
    },
    /// Something for the ledger.
    Entry(Box<Entry>),
    /// The last message.
    Over {
        /// Queries for names that do not exist, beside those that have an entry.
        refused_again: u64,
    },
}
