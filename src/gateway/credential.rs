//! Credentials that the gateway adds to a task's requests, and that the task never has.
//!
//! A policy names one; the operator says where it may ever go, and that is asked again here, for every request. What the
//! task put in the credential's place is removed. A request that carries a secret that the operator knows is refused,
//! and every answer of a host that may get one is scrubbed. A redirect is a request like any other: nothing is remembered.

mod place;

use std::collections::{BTreeMap, BTreeSet};

use http::request::Parts;
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::policy::network::Name;
use crate::policy::network::method::Method;
use crate::policy::network::path::{Path, PathPattern};
use crate::redact::{Known, Redactor};

pub use place::How;

/// A credential, with everything that the operator says of it.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Its name, which policies use.
    pub name: String,
    /// The only hosts that it may go to.
    pub hosts: BTreeSet<Name>,
    /// At these ports.
    pub ports: BTreeSet<u16>,
    /// With these methods; none is any.
    pub methods: BTreeSet<Method>,
    /// On these paths; none is any.
    pub paths: Vec<PathPattern>,
    /// How it is sent.
    pub how: How,
    /// Its value.
    pub value: Value,
}

/// A credential's value: not shown, and overwritten when it is dropped.
#[derive(Clone)]
pub struct Value(Zeroizing<String>);

/// Why a credential is not added. The request does not go without it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdded {
    /// The operator has none of this name.
    #[error("the operator's configuration has no credential `{name}`: add `[credentials.{name}]` there")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// The line would carry it in the clear.
    #[error("the credential `{name}` is never sent without TLS: reach the host by https")]
    WithoutTls {
        /// Its name.
        name: String,
    },
    /// Its scope is narrower than the rule.
    #[error(
        "the operator's configuration does not let the credential `{name}` go there: see `[credentials.{name}]`"
    )]
    OutOfScope {
        /// Its name.
        name: String,
    },
    /// Its value does not fit where it is to stand.
    #[error("the value of the credential `{name}` has characters that its place in a request cannot have")]
    Unfit {
        /// Its name.
        name: String,
    },
}

/// Where a request goes, as far as a credential depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// The host.
    pub name: &'a Name,
    /// Its port.
    pub port: u16,
    /// Whether the host proves itself by TLS.
    pub tls: bool,
}

/// The credentials of a run, and every secret that must not pass.
#[derive(Debug, Clone)]
pub struct Vault {
    credentials: BTreeMap<String, Credential>,
    redactor: Redactor,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("(hidden)")
    }
}

impl Credential {
    /// Its value. Whoever borrows it, keeps it out of every text.
    pub fn value(&self) -> &str {
        &self.value.0
    }

    /// The same, ready to be found; `None` where it cannot be told from other text.
    pub fn known(&self) -> Option<Known> {
        Known::new(&self.name, self.value().as_bytes()).ok()
    }

    /// Whether the operator lets it go with this request.
    fn permits(&self, to: Destination<'_>, head: &Parts) -> bool {
        let method = Method::of_word(head.method.as_str());
        let method = self.methods.is_empty() || method.is_some_and(|it| self.methods.contains(&it));
        let path = Path::parse(head.uri.path());
        let path =
            path.is_ok_and(|path| self.paths.is_empty() || self.paths.iter().any(|it| it.matches(&path)));
        self.hosts.contains(to.name) && self.ports.contains(&to.port) && method && path
    }
}

impl Vault {
    /// Holds credentials, and other secrets of the operator's or the run's that no request may carry. A value that is too
    /// short or plain to be told from other text is added where it belongs, and not looked for.
    pub fn new(credentials: Vec<Credential>, others: &[Known]) -> Self {
        let mut known: Vec<Known> = credentials.iter().filter_map(Credential::known).collect();
        known.extend(others.iter().cloned());
        let credentials = credentials.into_iter().map(|it| (it.name.clone(), it)).collect();
        Self { credentials, redactor: Redactor::new(&known) }
    }

    /// Adds the credential of this name to a request, in place of whatever the task put there.
    pub fn add(&self, name: &str, to: Destination<'_>, head: &mut Parts) -> Result<(), NotAdded> {
        let name = name.to_owned();
        let Some(credential) = self.credentials.get(&name) else {
            return Err(NotAdded::Unknown { name });
        };
        if !to.tls {
            return Err(NotAdded::WithoutTls { name });
        }
        if !credential.permits(to, head) {
            return Err(NotAdded::OutOfScope { name });
        }
        match credential.how.put(credential.value(), head) {
            Some(()) => Ok(()),
            None => Err(NotAdded::Unfit { name }),
        }
    }

    /// The name of a known secret that a request carries in its target or its fields, in any form that is looked for.
    pub fn carried(&self, head: &Parts) -> Option<String> {
        if self.redactor.is_empty() {
            return None;
        }
        let target = head.uri.path_and_query().map_or("", |it| it.as_str());
        // Any byte of a target may be escaped, not only those that a program would.
        let decoded: Vec<u8> = percent_decode_str(target).collect();
        let values =
            head.headers.iter().flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]);
        for text in [target.as_bytes(), decoded.as_slice()].into_iter().chain(values) {
            if let Some((name, _)) = self.redactor.bytes(text).1.pop_first() {
                return Some(name);
            }
        }
        None
    }

    /// What scrubs the answers of a host, where a credential may ever go to it.
    pub fn scrubber(&self, name: &Name) -> Option<&Redactor> {
        let goes_there = self.credentials.values().any(|it| it.hosts.contains(name));
        (goes_there && !self.redactor.is_empty()).then_some(&self.redactor)
    }
}

#[cfg(test)]
mod tests;
