//! Rules as a policy file writes them, in one form: what people read, and what the digest is taken of. Ports, methods and
//! paths that go together stand in one entry, and taken apart again the entries are the very shapes.
//!
//! A private host or a credential for a part of what a wider rule reaches has an entry of its own. Two policies can meet in
//! what no rule says: the same where nothing is reached. Such an entry has the key `only`, which no file has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::policy::network::host::HostPattern;
use crate::policy::network::method::MethodPattern;
use crate::policy::network::path::PathPattern;
use crate::policy::network::port::PortPattern;
use crate::policy::network::reach::{Access, CredentialPattern, Denied, Grant, Reach, Target, Transport};
use crate::policy::network::rule::Allow;
use crate::policy::network::union::{Shape, Union};

/// What an entry says beside ports, methods and paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    host: HostPattern,
    only: Option<&'static str>,
    transport: Transport,
    upgrade: bool,
    private: bool,
    credential: Option<CredentialPattern>,
}

type Methods = BTreeSet<MethodPattern>;
type Paths = BTreeSet<PathPattern>;
type Ports = BTreeSet<PortPattern>;

/// The entries of a list of rules, each with the ports, methods and paths that it goes with.
struct Entries(BTreeMap<Head, BTreeSet<(PortPattern, PathPattern, MethodPattern)>>);

impl Entries {
    fn of(allow: &Allow) -> Self {
        let mut entries = Self(BTreeMap::new());
        let (mut private, mut grants) = (BTreeSet::new(), BTreeSet::new());
        for reach in allow.reach.iter() {
            let target = Target { host: reach.host.clone(), port: reach.port };
            let (transport, upgrade, method, path) = parts(reach);
            let grant = grant_of(allow, reach, method, &path);
            let head = Head {
                host: reach.host.clone(),
                only: None,
                transport,
                upgrade,
                private: allow.private.iter().any(|it| *it == target),
                credential: grant.map(|it| it.credential.clone()),
            };
            entries.insert(head, (reach.port, path, method));
            private.insert(target);
            grants.extend(grant);
        }
        for target in allow.private.iter().filter(|it| !private.contains(it)) {
            let (head, method, path) = rest_of_target(allow, target);
            entries.insert(head, (target.port, path, method));
        }
        for grant in allow.grants.iter().filter(|it| !grants.contains(it)) {
            let head = rest_of_grant(allow, grant);
            entries.insert(head, (grant.port, grant.path.clone(), grant.method));
        }
        entries
    }

    fn insert(&mut self, head: Head, shape: (PortPattern, PathPattern, MethodPattern)) {
        self.0.entry(head).or_default().insert(shape);
    }

    /// Every entry: paths with the same methods together, ports with the same of both together.
    fn products(&self) -> Vec<(&Head, Ports, Methods, Paths)> {
        let mut products = Vec::new();
        for (head, shapes) in &self.0 {
            let mut by_port: BTreeMap<PortPattern, BTreeMap<&PathPattern, Methods>> = BTreeMap::new();
            for (port, path, method) in shapes {
                by_port.entry(*port).or_default().entry(path).or_default().insert(*method);
            }
            let mut by_requests: BTreeMap<BTreeMap<Methods, Paths>, Ports> = BTreeMap::new();
            for (port, paths) in by_port {
                let mut by_methods: BTreeMap<Methods, Paths> = BTreeMap::new();
                for (path, methods) in paths {
                    by_methods.entry(methods).or_default().insert(path.clone());
                }
                by_requests.entry(by_methods).or_default().insert(port);
            }
            for (requests, ports) in by_requests {
                let entries =
                    requests.into_iter().map(|(methods, paths)| (head, ports.clone(), methods, paths));
                products.extend(entries);
            }
        }
        products
    }
}

/// A private host that is part of what a wider rule reaches, or of nothing.
fn rest_of_target(allow: &Allow, target: &Target) -> (Head, MethodPattern, PathPattern) {
    let wider = allow.reach.iter().find(|it| it.host.covers(&target.host) && it.port.covers(&target.port));
    let (transport, upgrade, method, path) =
        wider.map_or((Transport::Inspected, false, MethodPattern::Any, PathPattern::ROOT), parts);
    let only = if wider.is_none() { Some("private") } else { None };
    let host = target.host.clone();
    (Head { host, only, transport, upgrade, private: true, credential: None }, method, path)
}

/// A credential for part of what a wider rule reaches, or for nothing.
fn rest_of_grant(allow: &Allow, grant: &Grant) -> Head {
    let access = Access::Requests { method: grant.method, path: grant.path.clone(), upgrade: false };
    let part = Reach { host: grant.host.clone(), port: grant.port, access };
    Head {
        host: grant.host.clone(),
        only: if allow.reach.holds(&part) { None } else { Some("credential") },
        transport: Transport::Inspected,
        upgrade: false,
        private: false,
        credential: Some(grant.credential.clone()),
    }
}

/// What a shape says of connections and of requests.
fn parts(reach: &Reach) -> (Transport, bool, MethodPattern, PathPattern) {
    match &reach.access {
        Access::Requests { method, path, upgrade } => (Transport::Inspected, *upgrade, *method, path.clone()),
        Access::PassThrough => (Transport::PassThrough, false, MethodPattern::Any, PathPattern::ROOT),
        Access::Opaque => (Transport::Opaque, false, MethodPattern::Any, PathPattern::ROOT),
    }
}

/// The credential that goes with exactly what is reached; with several, the first, and the others are a rest.
fn grant_of<'a>(
    allow: &'a Allow,
    reach: &Reach,
    method: MethodPattern,
    path: &PathPattern,
) -> Option<&'a Grant> {
    allow
        .grants
        .iter()
        .find(|it| it.host == reach.host && it.port == reach.port && it.method == method && it.path == *path)
}

impl Allow {
    /// The entries of `network.allow` that come to this.
    pub fn entries(&self) -> Vec<String> {
        let entries = Entries::of(self);
        entries
            .products()
            .iter()
            .map(|(head, ports, methods, paths)| entry(head, ports, methods, paths))
            .collect()
    }
}

impl fmt::Display for Allow {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "[{}]", self.entries().join(", "))
    }
}

impl fmt::Display for Union<Denied> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut by_host: BTreeMap<&HostPattern, Ports> = BTreeMap::new();
        for denied in self.iter() {
            by_host.entry(&denied.host).or_default().insert(denied.port);
        }
        let texts = by_host.iter().map(|(host, ports)| {
            let ports = if ports.contains(&PortPattern::Any) {
                String::new()
            } else {
                format!(", ports = {}", list(ports))
            };
            format!("{{ host = \"{host}\"{ports} }}")
        });
        write!(out, "[{}]", texts.collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for Union<PortPattern> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&list(&self.iter().copied().collect()))
    }
}

fn entry(head: &Head, ports: &Ports, methods: &Methods, paths: &Paths) -> String {
    let mut text = format!("{{ host = \"{}\", ports = {}", head.host, list(ports));
    if let Some(only) = head.only {
        text.push_str(&format!(", only = \"{only}\""));
    }
    let named: Vec<String> = methods
        .iter()
        .filter_map(|it| match it {
            MethodPattern::One(method) => Some(format!("\"{}\"", method.word())),
            MethodPattern::Any => None,
        })
        .collect();
    if !named.is_empty() {
        text.push_str(&format!(", methods = [{}]", named.join(", ")));
    }
    // Written where nothing else would say that requests are read.
    let every = paths.len() == 1 && paths.contains(&PathPattern::ROOT);
    if head.transport == Transport::Inspected && head.only != Some("private") && (!every || named.is_empty())
    {
        let paths: Vec<String> = paths.iter().map(|it| format!("\"{it}\"")).collect();
        text.push_str(&format!(", paths = [{}]", paths.join(", ")));
    }
    match &head.credential {
        Some(CredentialPattern::Named(name)) => text.push_str(&format!(", credential = \"{name}\"")),
        Some(CredentialPattern::Any) => text.push_str(", credential = \"*\""),
        None => {}
    }
    let marks = [
        ("upgrade", head.upgrade),
        ("opaque", head.transport == Transport::Opaque),
        ("private", head.private),
    ];
    for (key, _) in marks.iter().filter(|(_, says)| *says) {
        text.push_str(&format!(", {key} = true"));
    }
    text.push_str(" }");
    text
}

/// Ports as a file writes them.
fn list(ports: &Ports) -> String {
    if ports.contains(&PortPattern::Any) {
        return "\"*\"".to_owned();
    }
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    format!("[{}]", ports.join(", "))
}
