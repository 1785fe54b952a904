//! A rule as somebody writes it, and what it comes to.

use crate::intake::shown;
use crate::policy::network::host::{HostError, HostPattern, Standing};
use crate::policy::network::method::{Method, MethodPattern};
use crate::policy::network::path::PathPattern;
use crate::policy::network::port::{HTTPS, PortPattern};
use crate::policy::network::reach::{Access, CredentialPattern, Grant, Reach, Target, Transport};
use crate::policy::network::union::{Shape, Union};

/// Rules of one document.
pub const RULES_MAX: usize = 256;
/// Ports of one rule.
pub const PORTS_MAX: usize = 64;
/// Paths of one rule.
pub const PATHS_MAX: usize = 64;
/// Shapes that the rules of one document come to: hosts times ports times methods times paths.
pub const SHAPES_MAX: usize = 2048;

/// Bytes of a credential's name.
const CREDENTIAL_BYTES_MAX: usize = 64;

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The hosts.
    pub host: HostPattern,
    /// The ports; at least one.
    pub ports: Vec<PortPattern>,
    /// How a connection is treated.
    pub transport: Transport,
    /// The methods; none is any.
    pub methods: Vec<Method>,
    /// The paths; none is any.
    pub paths: Vec<PathPattern>,
    /// Whether the connection may become another protocol.
    pub upgrade: bool,
    /// Whether the hosts may lie in private.
    pub private: bool,
    /// The credential that is added.
    pub credential: Option<CredentialPattern>,
}

/// Text after `--allow-net` that is no host with or without a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The port.
    #[error("`{text}` has no port that could be: write HOST:PORT with a port of 1 to 65535")]
    Port {
        /// What was given, escaped and cut.
        text: String,
    },
}

/// What rules allow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allow {
    /// What may be reached.
    pub reach: Union<Reach>,
    /// Where it may lie in private.
    pub private: Union<Target>,
    /// Which credentials may be added.
    pub grants: Union<Grant>,
}

impl Rule {
    /// A host and a port, unread.
    pub fn pass_through(host: HostPattern, port: u16) -> Self {
        Self {
            host,
            ports: vec![PortPattern::One(port)],
            transport: Transport::PassThrough,
            methods: Vec::new(),
            paths: Vec::new(),
            upgrade: false,
            private: false,
            credential: None,
        }
    }

    /// The rule of `HOST` or `HOST:PORT`, as a flag has it.
    pub fn of_flag(text: &str) -> Result<Self, FlagError> {
        let (host, port) = match text.rsplit_once(':') {
            // With more than these two parts it is an address or a URL, and is told so.
            Some((host, port)) if !host.contains([':', '/']) && !port.contains('/') => (host, Some(port)),
            Some(_) | None => (text, None),
        };
        let port = match port.map(|it| (it.bytes().all(|it| it.is_ascii_digit()), it.parse())) {
            None => HTTPS,
            Some((true, Ok(port @ 1..))) => port,
            Some((_, _)) => return Err(FlagError::Port { text: shown(text) }),
        };
        Ok(Self::pass_through(HostPattern::parse(host, Standing::Policy)?, port))
    }

    /// How many shapes it comes to.
    pub fn shapes(&self) -> usize {
        self.ports.len() * self.methods.len().max(1) * self.paths.len().max(1)
    }

    /// A port at which both rules mean the same host and treat its connections in different ways. Such a pair is a
    /// mistake: what one of them reads, the other lets pass unread.
    pub fn contradicts(&self, other: &Self) -> Option<PortPattern> {
        if self.transport == other.transport || self.host.meet(&other.host).is_none() {
            return None;
        }
        self.shared_port(other)
    }

    /// Whether both rules add a credential to the same request, and another one.
    pub fn adds_another(&self, other: &Self) -> bool {
        let (Some(left), Some(right)) = (&self.credential, &other.credential) else {
            return false;
        };
        if left == right || self.host.meet(&other.host).is_none() || self.shared_port(other).is_none() {
            return false;
        }
        let (left, right) = (self.requests(), other.requests());
        left.iter().any(|it| right.iter().any(|other| requests_meet(it, other)))
    }

    fn shared_port(&self, other: &Self) -> Option<PortPattern> {
        self.ports.iter().find_map(|left| other.ports.iter().find_map(|right| left.meet(right)))
    }

    fn requests(&self) -> Vec<(MethodPattern, PathPattern)> {
        let methods = match self.methods.as_slice() {
            [] => vec![MethodPattern::Any],
            some => some.iter().copied().map(MethodPattern::One).collect(),
        };
        let paths = if self.paths.is_empty() { vec![PathPattern::ROOT] } else { self.paths.clone() };
        methods.iter().flat_map(|method| paths.iter().map(|path| (*method, path.clone()))).collect()
    }

    fn accesses(&self) -> Vec<Access> {
        match self.transport {
            Transport::Opaque => vec![Access::Opaque],
            Transport::PassThrough => vec![Access::PassThrough],
            Transport::Inspected => self
                .requests()
                .into_iter()
                .map(|(method, path)| Access::Requests { method, path, upgrade: self.upgrade })
                .collect(),
        }
    }

    fn reach(&self) -> Vec<Reach> {
        let mut shapes = Vec::with_capacity(self.shapes());
        for access in self.accesses() {
            for port in &self.ports {
                shapes.push(Reach { host: self.host.clone(), port: *port, access: access.clone() });
            }
        }
        shapes
    }

    fn grants(&self) -> Vec<Grant> {
        let Some(credential) = &self.credential else {
            return Vec::new();
        };
        let mut shapes = Vec::with_capacity(self.shapes());
        for (method, path) in self.requests() {
            for port in &self.ports {
                let (credential, host, path) = (credential.clone(), self.host.clone(), path.clone());
                shapes.push(Grant { credential, host, port: *port, method, path });
            }
        }
        shapes
    }
}

impl Allow {
    /// Nothing.
    pub const NOTHING: Self = Self { reach: Union::EMPTY, private: Union::EMPTY, grants: Union::EMPTY };

    /// What these rules come to.
    pub fn of(rules: &[Rule]) -> Self {
        let private = rules.iter().filter(|it| it.private).flat_map(|it| {
            it.ports.iter().map(|port| Target { host: it.host.clone(), port: *port }).collect::<Vec<_>>()
        });
        Self {
            reach: Union::of(rules.iter().flat_map(Rule::reach)),
            private: Union::of(private),
            grants: Union::of(rules.iter().flat_map(Rule::grants)),
        }
    }

    /// What both allow.
    pub fn meet(&self, other: &Self) -> Self {
        Self {
            reach: self.reach.meet(&other.reach),
            private: self.private.meet(&other.private),
            grants: self.grants.meet(&other.grants),
        }
    }

    /// What either allows.
    pub fn join(&self, other: &Self) -> Self {
        Self {
            reach: self.reach.join(&other.reach),
            private: self.private.join(&other.private),
            grants: self.grants.join(&other.grants),
        }
    }

    /// Whether it allows nothing that the other does not.
    pub fn le(&self, other: &Self) -> bool {
        self.reach.le(&other.reach) && self.private.le(&other.private) && self.grants.le(&other.grants)
    }

    /// How many shapes it takes.
    pub fn len(&self) -> usize {
        self.reach.len() + self.private.len() + self.grants.len()
    }

    /// Whether it allows nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The port that a rule without ports names.
pub fn default_ports() -> Vec<PortPattern> {
    vec![PortPattern::One(HTTPS)]
}

/// Whether a text can name a credential.
pub fn is_credential_name(text: &str) -> bool {
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"._-".contains(&it);
    (1..=CREDENTIAL_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

fn requests_meet(left: &(MethodPattern, PathPattern), right: &(MethodPattern, PathPattern)) -> bool {
    left.0.meet(&right.0).is_some() && left.1.meet(&right.1).is_some()
}
