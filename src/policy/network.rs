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

use crate::policy::network::host::HostPattern;
use crate::policy::network::method::{Method, MethodPattern, NEVER};
use crate::policy::network::path::{Path, PathError};
use crate::policy::network::port::{HTTP, PortPattern};
use crate::policy::network::reach::{Access, CredentialPattern};

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

/// A connection that may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// How it is treated.
    pub transport: Transport,
    /// Whether the name may lead to a private address.
    pub private: bool,
    /// What allows it, for the ledger.
    pub rule: String,
}

/// The verdict on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// It passes.
    Allowed {
        /// What allows it, for the ledger.
        rule: String,
        /// The credential that is added.
        credential: Option<String>,
        /// Whether the connection may become another protocol.
        upgrade: bool,
    },
    /// No rule allows it.
    Denied {
        /// The rule that would, as an entry of `network.allow`.
        missing: String,
    },
    /// It has no form that could be judged.
    Malformed {
        /// Why.
        reason: String,
    },
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

    /// Whether there is a way out at all.
    pub fn has_egress(&self) -> bool {
        self.egress != Egress::None
    }

    /// Whether TLS is ended for some host, so that the sandbox needs the authority that does it.
    pub fn inspects_tls(&self) -> bool {
        let inspected =
            |it: &Reach| it.access.transport() == Transport::Inspected && it.port != PortPattern::One(HTTP);
        self.has_egress() && self.allow.reach.iter().any(inspected)
    }

    /// The names that rules write out, denied ones left out.
    pub fn exact_names(&self) -> BTreeSet<Name> {
        let mut names = BTreeSet::new();
        for reach in self.allow.reach.iter() {
            if let HostPattern::Exact(name) = &reach.host {
                names.insert(name.clone());
            }
        }
        names.retain(|it| !self.ports(it).is_empty());
        names
    }

    /// The credentials that rules name.
    pub fn credentials(&self) -> BTreeSet<String> {
        let named = self.allow.grants.iter().filter_map(|it| match &it.credential {
            CredentialPattern::Named(name) => Some(name.clone()),
            CredentialPattern::Any => None,
        });
        if self.has_egress() { named.collect() } else { BTreeSet::new() }
    }

    /// Whether only a wildcard, `public` or `audit` lets this name exist, so that it counts against the bounds on such
    /// names.
    pub fn is_under_wildcard(&self, name: &Name) -> bool {
        let is_named = |it: &Reach| matches!(&it.host, HostPattern::Exact(one) if one == name);
        !self.allow.reach.iter().any(is_named)
    }

    /// The ports at which a name may be reached; none: the name does not exist.
    pub fn ports(&self, name: &Name) -> Vec<u16> {
        let mut ports = BTreeSet::new();
        for reach in self.allow.reach.iter() {
            if let PortPattern::One(port) = reach.port
                && reach.host.matches(name)
            {
                ports.insert(port);
            }
        }
        if self.passes_any() {
            ports.extend(&self.ports);
        }
        ports.retain(|it| self.connection(name, *it).is_some());
        ports.into_iter().collect()
    }

    /// Whether and how a connection to a name may be made.
    pub fn connection(&self, name: &Name, port: u16) -> Option<Connection> {
        if !self.has_egress() || self.denies(name, port) {
            return None;
        }
        let widest = self.reaches(name, port).max_by_key(|it| it.access.transport());
        let (transport, rule) = match widest {
            Some(reach) => (reach.access.transport(), connection_rule(reach)),
            None if self.passes(port) => (Transport::PassThrough, self.passing().to_owned()),
            None => return None,
        };
        let transport = match (transport, port) {
            (Transport::PassThrough, HTTP) => Transport::Inspected,
            (transport, _) => transport,
        };
        let private = self.allow.private.iter().any(|it| it.port.matches(port) && it.host.matches(name));
        Some(Connection { transport, private, rule })
    }

    /// Whether a request passes, on a connection whose requests are read. `path` may have a query, which is not judged.
    pub fn request(&self, name: &Name, port: u16, method: &str, path: &str) -> Request {
        if NEVER.contains(&method) {
            return Request::Malformed { reason: format!("the method {method} is never passed on") };
        }
        let path = match Path::parse(path) {
            Ok(path) => path,
            Err(err) => return Request::Malformed { reason: format!("the path cannot be judged: {err}") },
        };
        if !self.has_egress() || self.denies(name, port) {
            return Request::Denied { missing: missing(name, port, method, &path) };
        }
        let mut allowed: Option<(&Reach, bool)> = None;
        for reach in self.reaches(name, port).filter(|it| it.access.passes(method, &path)) {
            let upgrade = reach.access.upgrades();
            if allowed.is_none_or(|(_, known)| upgrade && !known) {
                allowed = Some((reach, upgrade));
            }
        }
        match allowed {
            Some((reach, upgrade)) => {
                let credential = self.credential(name, port, method, &path);
                Request::Allowed { rule: reach.to_string(), credential, upgrade }
            }
            None if self.passes(port) && self.reaches(name, port).next().is_none() => {
                Request::Allowed { rule: self.passing().to_owned(), credential: None, upgrade: true }
            }
            None if path.has_escaped_slash() => {
                let reason = format!("the path cannot be judged: {}", PathError::EscapedSlash);
                Request::Malformed { reason }
            }
            None => Request::Denied { missing: missing(name, port, method, &path) },
        }
    }

    /// Whether a port of the task may be reached from the host's loopback.
    pub fn publishes(&self, port: u16) -> bool {
        self.publish.iter().any(|it| it.matches(port))
    }

    fn reaches(&self, name: &Name, port: u16) -> impl Iterator<Item = &Reach> {
        self.allow.reach.iter().filter(move |it| it.port.matches(port) && it.host.matches(name))
    }

    fn denies(&self, name: &Name, port: u16) -> bool {
        self.deny.iter().any(|it| it.port.matches(port) && it.host.matches_as_text(name))
    }

    /// Whether names pass that no rule allows.
    fn passes_any(&self) -> bool {
        self.egress == Egress::Public || (self.audit && self.has_egress())
    }

    fn passes(&self, port: u16) -> bool {
        self.passes_any() && self.ports.contains(&port)
    }

    fn passing(&self) -> &'static str {
        if self.egress == Egress::Public { "public" } else { "audit" }
    }

    /// The credential of a request; two of them would be a guess, and none is added.
    fn credential(&self, name: &Name, port: u16, method: &str, path: &Path) -> Option<String> {
        let mut found = BTreeSet::new();
        for grant in self.allow.grants.iter() {
            let CredentialPattern::Named(credential) = &grant.credential else {
                continue;
            };
            let here = grant.port.matches(port) && grant.host.matches(name);
            if here && grant.method.matches(method) && grant.path.matches(path) {
                found.insert(credential);
            }
        }
        if found.len() > 1 { None } else { found.pop_first().cloned() }
    }
}

impl Access {
    fn passes(&self, method: &str, path: &Path) -> bool {
        match self {
            Self::Requests { method: methods, path: paths, .. } => {
                methods.matches(method) && paths.matches(path)
            }
            Self::PassThrough | Self::Opaque => true,
        }
    }

    fn upgrades(&self) -> bool {
        match self {
            Self::Requests { upgrade, .. } => *upgrade,
            Self::PassThrough | Self::Opaque => true,
        }
    }
}

/// A connection whose requests are read is allowed by all rules of its host together.
fn connection_rule(reach: &Reach) -> String {
    match reach.access {
        Access::Requests { .. } => format!("{}:{} requests", reach.host, reach.port),
        Access::PassThrough | Access::Opaque => reach.to_string(),
    }
}

/// The smallest entry of `network.allow` that lets a request pass.
fn missing(name: &Name, port: u16, method: &str, path: &Path) -> String {
    let methods = match Method::of_word(method) {
        Some(method) => format!(", methods = [\"{}\"]", MethodPattern::One(method)),
        // A method that rules cannot name passes where they name none.
        None => String::new(),
    };
    format!("{{ host = \"{name}\", ports = [{port}]{methods}, paths = [\"{}\"] }}", path.pattern())
}

#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
pub(crate) mod tests;
