//! What a task may reach, as it travels to its gateway: the shapes of a [`Network`], each as its text.

use serde::{Deserialize, Serialize};

use crate::policy::network::host::{HostPattern, Standing};
use crate::policy::network::method::{Method, MethodPattern};
use crate::policy::network::path::PathPattern;
use crate::policy::network::port::PortPattern;
use crate::policy::network::reach::{Access, CredentialPattern};
use crate::policy::network::{Allow, Denied, Egress, Grant, Network, Reach, Target, Union};

/// A [`Network`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    egress: String,
    ports: Vec<u16>,
    reach: Vec<ReachRow>,
    private: Vec<Place>,
    grants: Vec<GrantRow>,
    deny: Vec<Place>,
    audit: bool,
    publish: Vec<Option<u16>>,
}

/// Hosts and ports; `None` is every port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    host: String,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReachRow {
    place: Place,
    access: AccessRow,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum AccessRow {
    Requests { method: Option<String>, path: String, upgrade: bool },
    PassThrough,
    Opaque,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantRow {
    credential: Option<String>,
    place: Place,
    method: Option<String>,
    path: String,
}

impl Rules {
    /// As it travels.
    pub fn of(network: &Network) -> Self {
        Self {
            egress: network.egress.word().to_owned(),
            ports: network.ports.iter().copied().collect(),
            reach: network.allow.reach.iter().map(reach_row).collect(),
            private: network.allow.private.iter().map(|it| place(&it.host, it.port)).collect(),
            grants: network.allow.grants.iter().map(grant_row).collect(),
            deny: network.deny.iter().map(|it| place(&it.host, it.port)).collect(),
            audit: network.audit,
            publish: network.publish.iter().map(|it| number(*it)).collect(),
        }
    }

    /// What arrived; `None` if that is nothing that [`Rules::of`] gives.
    pub fn network(&self) -> Option<Network> {
        let allow = Allow {
            reach: union(&self.reach, |it| {
                let (host, port) = unplace(&it.place, Standing::Ceiling)?;
                Some(Reach { host, port, access: access(&it.access)? })
            })?,
            private: union(&self.private, |it| {
                let (host, port) = unplace(it, Standing::Ceiling)?;
                Some(Target { host, port })
            })?,
            grants: union(&self.grants, grant)?,
        };
        let deny = union(&self.deny, |it| {
            let (host, port) = unplace(it, Standing::Deny)?;
            Some(Denied { host, port })
        })?;
        Some(Network {
            egress: Egress::ALL.into_iter().find(|it| it.word() == self.egress)?,
            ports: self.ports.iter().copied().collect(),
            allow,
            deny,
            audit: self.audit,
            publish: Union::of(self.publish.iter().map(|it| port(*it))),
        })
    }
}

fn union<T, S: crate::policy::network::union::Shape>(
    rows: &[T],
    read: impl Fn(&T) -> Option<S>,
) -> Option<Union<S>> {
    let shapes: Option<Vec<S>> = rows.iter().map(read).collect();
    shapes.map(Union::of)
}

fn place(host: &HostPattern, port: PortPattern) -> Place {
    Place { host: host.to_string(), port: number(port) }
}

fn unplace(place: &Place, standing: Standing) -> Option<(HostPattern, PortPattern)> {
    Some((HostPattern::parse(&place.host, standing).ok()?, port(place.port)))
}

fn number(port: PortPattern) -> Option<u16> {
    match port {
        PortPattern::One(one) => Some(one),
        PortPattern::Any => None,
    }
}

fn port(number: Option<u16>) -> PortPattern {
    number.map_or(PortPattern::Any, PortPattern::One)
}

fn method_word(method: MethodPattern) -> Option<String> {
    match method {
        MethodPattern::One(one) => Some(one.word().to_owned()),
        MethodPattern::Any => None,
    }
}

fn method(word: Option<&String>) -> Option<MethodPattern> {
    match word {
        Some(word) => Method::of_word(word).map(MethodPattern::One),
        None => Some(MethodPattern::Any),
    }
}

fn reach_row(reach: &Reach) -> ReachRow {
    let access = match &reach.access {
        Access::Requests { method, path, upgrade } => {
            AccessRow::Requests { method: method_word(*method), path: path.to_string(), upgrade: *upgrade }
        }
        Access::PassThrough => AccessRow::PassThrough,
        Access::Opaque => AccessRow::Opaque,
    };
    ReachRow { place: place(&reach.host, reach.port), access }
}

fn access(row: &AccessRow) -> Option<Access> {
    Some(match row {
        AccessRow::Requests { method: word, path, upgrade } => Access::Requests {
            method: method(word.as_ref())?,
            path: PathPattern::parse(path).ok()?,
            upgrade: *upgrade,
        },
        AccessRow::PassThrough => Access::PassThrough,
        AccessRow::Opaque => Access::Opaque,
    })
}

fn grant_row(grant: &Grant) -> GrantRow {
    let credential = match &grant.credential {
        CredentialPattern::Named(name) => Some(name.clone()),
        CredentialPattern::Any => None,
    };
    GrantRow {
        credential,
        place: place(&grant.host, grant.port),
        method: method_word(grant.method),
        path: grant.path.to_string(),
    }
}

fn grant(row: &GrantRow) -> Option<Grant> {
    let (host, port) = unplace(&row.place, Standing::Ceiling)?;
    let credential = row.credential.clone().map_or(CredentialPattern::Any, CredentialPattern::Named);
    let (method, path) = (method(row.method.as_ref())?, PathPattern::parse(&row.path).ok()?);
    Some(Grant { credential, host, port, method, path })
}
