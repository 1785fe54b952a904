//! What a task may reach, and the decisions: by name and port, and by request where requests are read.
//!
//! - What a rule does not allow does not exist for the task; what `deny` names stays out, whatever allows it.
//! - A rule with methods, paths, `upgrade` or a credential has its requests read. Without, TLS to the very name passes
//!   unread; `opaque` lets any bytes pass. Plain HTTP at port 80 is always read, since only its `Host` says whom it is
//!   for: there a rule without methods and paths passes every request to that name.
//! - A path stands for everything beneath it. A credential goes only where the rule of both policy and ceiling names it.
//! - A host that a rule names is treated as the rule says, also where every public name passes.
//! - Two policies meet key by key, so that what both allow is what the meet allows. `public` and `audit` are permissions
//!   of their own and are no rules: where they are not granted, nothing is left of them.

mod decide;
pub mod host;
pub mod method;
pub mod name;
pub mod path;
pub mod port;
pub mod reach;
pub mod rule;
mod text;
pub mod union;

use std::collections::BTreeSet;

use crate::policy::network::port::PortPattern;

pub use decide::{Connection, Request};
pub use name::Name;
pub use reach::{Denied, Grant, Reach, Target, Transport};
pub use rule::{Allow, Rule};
pub use union::Union;

/// Names that a run may ask for under wildcards and `public`: each is a label of the task's choosing that leaves the
/// host.
pub const WILDCARD_NAMES_MAX: usize = 64;
/// Bytes of all of them together.
pub const WILDCARD_NAME_BYTES_MAX: usize = 4096;

/// The way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Which names may be reached.
    pub egress: Egress,
    /// The ports of `public`, and of names that `audit` lets pass.
    pub ports: BTreeSet<u16>,
    /// What rules allow.
    pub allow: Allow,
    /// What is denied whatever allows it.
    pub deny: Union<Denied>,
    /// Whether every public name passes, for the record.
    pub audit: bool,
    /// Ports of the task that may be reached from the host's loopback.
    pub publish: Union<PortPattern>,
}

/// Which names may be reached, stricter first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Egress {
    /// Nothing: loopback only.
    None,
    /// What the rules name.
    Rules,
    /// Every public name at the ports of `ports`, and what the rules name.
    Public,
}

impl Network {
    /// No way out.
    pub fn none() -> Self {
        Self {
            egress: Egress::None,
            ports: BTreeSet::new(),
            allow: Allow::NOTHING,
            deny: Union::EMPTY,
            audit: false,
            publish: Union::EMPTY,
        }
    }

    /// What both permit.
    pub fn meet(&self, other: &Self) -> Self {
        Self {
            egress: self.egress.min(other.egress),
            ports: self.ports.intersection(&other.ports).copied().collect(),
            allow: self.allow.meet(&other.allow),
            deny: self.deny.join(&other.deny),
            audit: self.audit && other.audit,
            publish: self.publish.meet(&other.publish),
        }
    }

    /// Whether it permits nothing that the other does not, key by key.
    pub fn le(&self, other: &Self) -> bool {
        self.egress <= other.egress
            && self.ports.is_subset(&other.ports)
            && self.allow.le(&other.allow)
            && other.deny.le(&self.deny)
            && self.audit <= other.audit
            && self.publish.le(&other.publish)
    }
}

#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
pub(crate) mod tests;
