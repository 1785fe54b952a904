//! Random networks, and a model of them that takes rules one by one and texts letter by letter: what the shapes decide is
//! what the rules say, and two policies together permit what both do.

use std::collections::BTreeSet;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::policy::network::host::{HostPattern, Standing};
use crate::policy::network::method::Method;
use crate::policy::network::path::{Path, PathPattern};
use crate::policy::network::reach::{Access, CredentialPattern};

const HOSTS: [&str; 6] =
    ["a.example.org", "b.a.example.org", "*.example.org", "*.a.example.org", "*", "other.test"];
/// Names that rules write, and for each wildcard one that nobody writes.
const NAMES: [&str; 8] = [
    "a.example.org",
    "b.a.example.org",
    "new.example.org",
    "new.a.example.org",
    "example.org",
    "other.test",
    "new.test",
    "aexample.org",
];
const PORTS: [u16; 3] = [80, 443, 9];
const PATTERNS: [&str; 6] = ["/", "/a", "/a/b", "/*/b", "/a/*", "/*"];
const PATHS: [&str; 8] = ["/", "/a", "/b", "/a/b", "/new/b", "/a/new", "/new/other", "/a%2Fb"];
const METHODS: [&str; 3] = ["GET", "POST", "NEW"];

fn rules(credentials: Vec<Option<CredentialPattern>>) -> impl Strategy<Value = Vec<Rule>> {
    let methods = subsequence(vec![Method::Get, Method::Post], 0..=2);
    let paths = subsequence(PATTERNS.to_vec(), 0..=2);
    let ports = prop_oneof![
        Just(vec![PortPattern::Any]),
        subsequence(vec![PortPattern::One(80), PortPattern::One(443)], 1..=2),
    ];
    let rule = (
        select(HOSTS.to_vec()),
        ports,
        select(Transport::ALL.to_vec()),
        methods,
        paths,
        any::<(bool, bool)>(),
        select(credentials),
    );
    vec(rule.prop_map(build), 0..4)
}

type Parts = (
    &'static str,
    Vec<PortPattern>,
    Transport,
    Vec<Method>,
    Vec<&'static str>,
    (bool, bool),
    Option<CredentialPattern>,
);

fn build((host, ports, transport, methods, paths, (upgrade, private), credential): Parts) -> Rule {
    let host = HostPattern::parse(host, Standing::Ceiling).expect("a host");
    let is_read = transport == Transport::Inspected;
    let paths = paths.iter().map(|it| PathPattern::parse(it).expect("a path"));
    Rule {
        host,
        ports,
        transport,
        methods: if is_read { methods } else { Vec::new() },
        paths: if is_read { paths.collect() } else { Vec::new() },
        upgrade: upgrade && is_read,
        private,
        credential: credential.filter(|_| is_read),
    }
}

fn named(name: &str) -> Option<CredentialPattern> {
    Some(CredentialPattern::Named(name.to_owned()))
}

fn allows() -> impl Strategy<Value = Allow> {
    rules(vec![None, named("x"), named("y"), Some(CredentialPattern::Any)]).prop_map(|it| Allow::of(&it))
}

/// What the rules of one document can come to: none contradicts another.
pub(crate) fn writable() -> impl Strategy<Value = Allow> {
    rules(vec![None, None, named("x"), named("y")]).prop_map(|rules| {
        let mut kept: Vec<Rule> = Vec::new();
        for rule in rules {
            let at_http = rule.credential.is_some() && rule.ports.contains(&PortPattern::One(80));
            let clashes = kept.iter().any(|it| it.contradicts(&rule).is_some() || it.adds_another(&rule));
            if !at_http && !clashes {
                kept.push(rule);
            }
        }
        Allow::of(&kept)
    })
}

/// Networks with few values per field, so that two of them often agree in some.
pub(crate) fn networks() -> impl Strategy<Value = Network> {
    let denied = (select(HOSTS.to_vec()), select(vec![PortPattern::Any, PortPattern::One(443)])).prop_map(
        |(host, port)| Denied { host: HostPattern::parse(host, Standing::Deny).expect("a host"), port },
    );
    let ports = btree_set(select(PORTS.to_vec()), 0..3);
    let publish = vec(select(vec![PortPattern::Any, PortPattern::One(1), PortPattern::One(2)]), 0..3);
    (select(Egress::ALL.to_vec()), ports, allows(), vec(denied, 0..3), any::<bool>(), publish).prop_map(
        |(egress, ports, allow, denied, audit, publish)| Network {
            egress,
            ports,
            allow,
            deny: Union::of(denied),
            audit,
            publish: Union::of(publish),
        },
    )
}

/// Rules alone, as the model and as shapes.
fn under(rules: &[Rule]) -> Network {
    Network { egress: Egress::Rules, allow: Allow::of(rules), ..Network::none() }
}

/// Whether a host's text means a name.
fn host_means(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => name.ends_with(end),
        None => pattern == name,
    }
}

fn path_means(pattern: &str, path: &str) -> bool {
    let segments = |text: &str| -> Vec<String> {
        text.split('/').filter(|it| !it.is_empty()).map(str::to_owned).collect()
    };
    let (pattern, path) = (segments(pattern), segments(path));
    let same = |(left, right): (&String, &String)| left == "*" || left == right;
    let escaped = path.iter().any(|it| it.contains("%2F"));
    pattern.is_empty() || (!escaped && pattern.len() <= path.len() && pattern.iter().zip(&path).all(same))
}

fn meant<'a>(rules: &'a [Rule], name: &str, port: u16) -> impl Iterator<Item = &'a Rule> {
    rules.iter().filter(move |it| {
        let at = it.ports.contains(&PortPattern::Any) || it.ports.contains(&PortPattern::One(port));
        at && host_means(&it.host.to_string(), name)
    })
}

fn request_means(rule: &Rule, method: &str, path: &str) -> bool {
    let by_method = rule.methods.is_empty() || rule.methods.iter().any(|it| it.word() == method);
    by_method && (rule.paths.is_empty() || rule.paths.iter().any(|it| path_means(&it.to_string(), path)))
}

/// A connection by the model: its transport, and whether it may be private.
fn connection_of(rules: &[Rule], name: &str, port: u16) -> Option<(Transport, bool)> {
    let transport = meant(rules, name, port).map(|it| it.transport).max()?;
    let transport =
        if port == 80 && transport == Transport::PassThrough { Transport::Inspected } else { transport };
    Some((transport, meant(rules, name, port).any(|it| it.private)))
}

/// A request by the model: whether it may upgrade, and its credentials.
fn request_of(
    rules: &[Rule],
    name: &str,
    port: u16,
    method: &str,
    path: &str,
) -> Option<(bool, BTreeSet<String>)> {
    let passing: Vec<&Rule> = meant(rules, name, port).filter(|it| request_means(it, method, path)).collect();
    let upgrade = passing.iter().any(|it| it.upgrade || it.transport > Transport::Inspected);
    let credentials = passing.iter().filter_map(|it| match &it.credential {
        Some(CredentialPattern::Named(name)) => Some(name.clone()),
        Some(CredentialPattern::Any) => Some("*".to_owned()),
        None => None,
    });
    (!passing.is_empty()).then(|| (upgrade, credentials.collect()))
}

fn shared(ours: &BTreeSet<String>, theirs: &BTreeSet<String>) -> BTreeSet<String> {
    ours.iter().filter(|it| theirs.contains(*it) || theirs.contains("*")).cloned().collect()
}

/// Every decision of two sides' meet, against the model's of both.
fn compare(ours: &[Rule], theirs: &[Rule]) -> Result<(), TestCaseError> {
    let network = under(ours).meet(&under(theirs));
    for text in NAMES {
        let name = Name::parse(text).expect("a name");
        for port in PORTS {
            let expected = match (connection_of(ours, text, port), connection_of(theirs, text, port)) {
                (Some(left), Some(right)) => Some((left.0.min(right.0), left.1 && right.1)),
                (_, _) => None,
            };
            let found = network.connection(&name, port).map(|it| (it.transport, it.private));
            // Two sides that read disjoint requests may still leave a connection out of which none passes.
            if found.is_some() || expected.is_none_or(|(it, _)| it > Transport::Inspected) {
                prop_assert_eq!(found, expected, "{}:{}", text, port);
            }
            for (method, path) in METHODS.into_iter().flat_map(|it| PATHS.map(|path| (it, path))) {
                let (left, right) = (
                    request_of(ours, text, port, method, path),
                    request_of(theirs, text, port, method, path),
                );
                let expected = match (left, right) {
                    (Some(left), Some(right)) => Some((left.0 && right.0, shared(&left.1, &right.1))),
                    (_, _) => None,
                };
                let found = match network.request(&name, port, method, path) {
                    Request::Allowed { credential, upgrade, .. } => Some((upgrade, credential)),
                    Request::Denied { .. } | Request::Malformed { .. } => None,
                };
                let expected = expected
                    .map(|(upgrade, mut it)| (upgrade, if it.len() > 1 { None } else { it.pop_first() }));
                prop_assert_eq!(found, expected, "{} {} {}:{}", method, path, text, port);
            }
        }
    }
    Ok(())
}

fn everything() -> Rule {
    let host = HostPattern::Any;
    Rule {
        ports: vec![PortPattern::Any],
        transport: Transport::Opaque,
        private: true,
        credential: Some(CredentialPattern::Any),
        ..Rule::pass_through(host, 443)
    }
}

/// Whether a set of shapes has a member of every kind that another has, member by member.
fn reaches(network: &Network) -> BTreeSet<String> {
    let mut members = BTreeSet::new();
    for text in NAMES {
        let name = Name::parse(text).expect("a name");
        for port in PORTS {
            for reach in network.reaches(&name, port) {
                for kind in kinds(&reach.access) {
                    members.insert(format!("{text}:{port} {kind}"));
                }
            }
        }
    }
    members
}

/// The members of what may be said, in a small world.
fn kinds(access: &Access) -> Vec<String> {
    let mut kinds = Vec::new();
    for (method, path) in METHODS.into_iter().flat_map(|it| PATHS.map(|path| (it, path))) {
        if access.passes(method, &Path::parse(path).expect("a path")) {
            kinds.push(format!("{method} {path}"));
            if access.upgrades() {
                kinds.push(format!("{method} {path} upgrade"));
            }
        }
    }
    kinds.extend((access.transport() >= Transport::PassThrough).then(|| "TLS".to_owned()));
    kinds.extend((access.transport() == Transport::Opaque).then(|| "any".to_owned()));
    kinds
}

proptest! {
    #[test]
    fn the_decisions_are_those_of_the_rules(rules in rules(vec![None, named("x"), named("y")])) {
        compare(&rules, &[everything()])?;
    }

    #[test]
    fn what_two_policies_decide_together_is_what_both_decide(
        ours in rules(vec![None, named("x"), named("y")]),
        theirs in rules(vec![None, named("x"), Some(CredentialPattern::Any)]),
    ) {
        compare(&ours, &theirs)?;
        compare(&theirs, &[])?;
    }

    #[test]
    fn one_is_below_another_where_each_member_is(a in allows(), b in allows()) {
        let network = |allow: &Allow| Network { egress: Egress::Rules, allow: allow.clone(), ..Network::none() };
        let is_below = reaches(&network(&a)).is_subset(&reaches(&network(&b)));
        prop_assert_eq!(a.reach.le(&b.reach), is_below);
    }

    #[test]
    fn equal_sets_have_one_form(a in allows(), b in allows()) {
        let joined = a.join(&b);
        prop_assert_eq!(&joined, &b.join(&a));
        prop_assert_eq!(&joined.join(&a), &joined);
        prop_assert!(a.le(&joined) && b.le(&joined));
        prop_assert_eq!(joined.meet(&a), a);
    }

    #[test]
    fn what_is_denied_is_denied_by_both_sides_together(
        a in networks(), b in networks(), name in select(NAMES.to_vec()), port in select(PORTS.to_vec()),
    ) {
        let name = Name::parse(name).expect("a name");
        prop_assert_eq!(a.meet(&b).denies(&name, port), a.denies(&name, port) || b.denies(&name, port));
        if a.denies(&name, port) {
            prop_assert_eq!(a.connection(&name, port), None);
        }
    }

    #[test]
    fn a_name_exists_where_a_connection_does(network in networks(), name in select(NAMES.to_vec())) {
        let name = Name::parse(name).expect("a name");
        for port in PORTS {
            let open = network.ports(&name).contains(&port);
            // Every port of a ceiling's rule cannot be listened at.
            let is_listed = (network.passes_any() && network.ports.contains(&port))
                || network.reaches(&name, port).any(|it| it.port == PortPattern::One(port));
            prop_assert_eq!(open, network.connection(&name, port).is_some() && is_listed);
        }
    }
}
