//! The decisions, one by one.

use super::*;
use crate::policy::network::host::{HostPattern, Standing};
use crate::policy::network::method::Method;
use crate::policy::network::path::PathPattern;
use crate::policy::network::reach::CredentialPattern;
use crate::policy::network::rule::default_ports;

pub(crate) fn rule(host: &str) -> Rule {
    let host = HostPattern::parse(host, Standing::Ceiling).expect("a host");
    Rule { ports: default_ports(), ..Rule::pass_through(host, 443) }
}

fn inspected(host: &str, methods: &[Method], paths: &[&str]) -> Rule {
    let paths = paths.iter().map(|it| PathPattern::parse(it).expect("a path")).collect();
    Rule { transport: Transport::Inspected, methods: methods.to_vec(), paths, ..rule(host) }
}

fn on(mut rule: Rule, ports: &[u16]) -> Rule {
    rule.ports = ports.iter().copied().map(PortPattern::One).collect();
    rule
}

fn with(rules: &[Rule]) -> Network {
    Network { egress: Egress::Rules, allow: Allow::of(rules), ..Network::none() }
}

fn denying(mut network: Network, host: &str, port: PortPattern) -> Network {
    let host = HostPattern::parse(host, Standing::Deny).expect("a host");
    network.deny.insert(Denied { host, port });
    network
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn transport(network: &Network, host: &str, port: u16) -> Option<Transport> {
    network.connection(&name(host), port).map(|it| it.transport)
}

fn request(network: &Network, method: &str, path: &str) -> String {
    match network.request(&name("api.example.org"), 443, method, path) {
        Request::Allowed { rule, credential, upgrade } => {
            let upgrade = if upgrade { " (upgrade)" } else { "" };
            format!("{rule}{}{upgrade}", credential.map(|it| format!(" with {it}")).unwrap_or_default())
        }
        Request::Denied { missing } => format!("missing {missing}"),
        Request::Malformed { reason } => reason,
    }
}

#[test]
fn what_no_rule_names_does_not_exist() {
    let network = with(&[rule("api.example.org"), on(rule("*.db.example.org"), &[5432, 5433])]);
    assert_eq!(network.ports(&name("api.example.org")), [443]);
    assert_eq!(network.ports(&name("a.b.db.example.org")), [5432, 5433]);
    for other in ["db.example.org", "www.example.org", "evilapi.example.org", "api.example.org.evil.test"] {
        assert_eq!(network.ports(&name(other)), [0_u16; 0], "{other}");
    }
    assert_eq!(transport(&network, "api.example.org", 443), Some(Transport::PassThrough));
    assert_eq!(transport(&network, "api.example.org", 80), None);
}

#[test]
fn without_egress_rules_say_nothing() {
    let network = Network { egress: Egress::None, audit: true, ..with(&[rule("api.example.org")]) };
    assert_eq!(network.ports(&name("api.example.org")), [0_u16; 0]);
    assert!(network.exact_names().is_empty() && !network.inspects_tls());
    assert!(matches!(network.request(&name("api.example.org"), 443, "GET", "/"), Request::Denied { .. }));
}

#[test]
fn what_is_denied_stays_out_whatever_allows_it() {
    let both = with(&[rule("*.example.org"), on(rule("api.example.org"), &[443, 8443])]);
    let network = denying(both.clone(), "api.example.org", PortPattern::One(443));
    assert_eq!(network.ports(&name("api.example.org")), [8443]);
    assert_eq!(network.ports(&name("www.example.org")), [443]);
    let network = denying(both, "*.org", PortPattern::Any);
    assert!(network.ports(&name("api.example.org")).is_empty() && network.exact_names().is_empty());
}

#[test]
fn what_is_denied_by_suffix_is_denied_across_shared_hosting() {
    let network = with(&[rule("mine.s3.amazonaws.com")]);
    assert_eq!(network.ports(&name("mine.s3.amazonaws.com")), [443]);
    let network = denying(network, "*.amazonaws.com", PortPattern::Any);
    assert!(network.ports(&name("mine.s3.amazonaws.com")).is_empty());
}

#[test]
fn requests_are_judged_by_method_and_path() {
    let network = with(&[
        inspected("api.example.org", &[Method::Get, Method::Post], &["/v1/messages", "/v1/*/items"]),
        inspected("api.example.org", &[Method::Delete], &["/v1/files"]),
    ]);
    assert_eq!(transport(&network, "api.example.org", 443), Some(Transport::Inspected));
    let check =
        |method: &str, path: &str, expected: &str| assert_eq!(request(&network, method, path), expected);
    check("GET", "/v1/messages/7?x=1", "api.example.org:443 GET /v1/messages");
    check("POST", "/v1/%61/items", "api.example.org:443 POST /v1/*/items");
    check("DELETE", "/v1/files/1", "api.example.org:443 DELETE /v1/files");
    let missing = "missing { host = \"api.example.org\", ports = [443], methods = [\"DELETE\"], paths = [\"/v1/messages\"] }";
    check("DELETE", "/v1/messages", missing);
    let missing = "missing { host = \"api.example.org\", ports = [443], paths = [\"/v1/messages\"] }";
    check("get", "/v1/messages", missing);
    check("GET", "/v1/messages/../x", "the path cannot be judged: it has a `.` or `..` segment");
    check("TRACE", "/v1/messages", "the method TRACE is never passed on");
}

#[test]
fn an_escaped_slash_passes_only_where_every_path_does() {
    let every = with(&[inspected("api.example.org", &[Method::Get], &[])]);
    assert_eq!(request(&every, "GET", "/@a%2fb"), "api.example.org:443 GET /");
    let some = with(&[inspected("api.example.org", &[Method::Get], &["/@a"])]);
    let reason =
        "the path cannot be judged: it has an escaped slash (`%2F`), which only a rule for every path passes";
    assert_eq!(request(&some, "GET", "/@a%2fb"), reason);
}

#[test]
fn plain_http_is_read_and_every_request_to_the_name_passes() {
    let network = with(&[on(rule("api.example.org"), &[80])]);
    assert_eq!(transport(&network, "api.example.org", 80), Some(Transport::Inspected));
    assert!(!network.inspects_tls());
    let verdict = network.request(&name("api.example.org"), 80, "BREW", "/any?x");
    let by = "api.example.org:80".to_owned();
    assert_eq!(verdict, Request::Allowed { rule: by, credential: None, upgrade: true });
    let opaque = Rule { transport: Transport::Opaque, ..on(rule("api.example.org"), &[80]) };
    assert_eq!(transport(&with(&[opaque]), "api.example.org", 80), Some(Transport::Opaque));
}

#[test]
fn a_credential_goes_with_the_requests_of_its_rule_alone() {
    let credential = Some(CredentialPattern::Named("model".to_owned()));
    let network = with(&[
        Rule { credential, ..inspected("api.example.org", &[Method::Post], &["/v1"]) },
        inspected("api.example.org", &[Method::Get], &["/v1"]),
    ]);
    assert_eq!(request(&network, "POST", "/v1/x"), "api.example.org:443 POST /v1 with model");
    assert_eq!(request(&network, "GET", "/v1/x"), "api.example.org:443 GET /v1");
    assert_eq!(network.credentials(), BTreeSet::from(["model".to_owned()]));
    assert!(network.inspects_tls());
}

#[test]
fn a_ceiling_that_permits_any_credential_names_none() {
    let credential = Some(CredentialPattern::Any);
    let network = with(&[Rule { credential, ..inspected("api.example.org", &[], &[]) }]);
    assert_eq!(request(&network, "GET", "/"), "api.example.org:443 * /");
    assert!(network.credentials().is_empty());
}

#[test]
fn an_upgrade_needs_a_rule_that_says_so() {
    let network = with(&[
        inspected("api.example.org", &[], &["/v1"]),
        Rule { upgrade: true, ..inspected("api.example.org", &[Method::Get], &["/v1/live"]) },
    ]);
    assert_eq!(request(&network, "GET", "/v1/live"), "api.example.org:443 GET /v1/live upgrade (upgrade)");
    assert_eq!(request(&network, "POST", "/v1/live"), "api.example.org:443 * /v1");
}

#[test]
fn a_private_address_needs_a_rule_that_says_so() {
    let network =
        with(&[rule("*.example.org"), Rule { private: true, ..on(rule("db.example.org"), &[443, 5432]) }]);
    let private = |host: &str, port| network.connection(&name(host), port).map(|it| it.private);
    assert_eq!(private("db.example.org", 5432), Some(true));
    assert_eq!(private("db.example.org", 443), Some(true));
    assert_eq!(private("www.example.org", 443), Some(false));
}

#[test]
fn public_is_every_name_at_its_ports_and_rules_go_before_it() {
    let rules =
        with(&[inspected("api.example.org", &[Method::Get], &["/v1"]), on(rule("db.example.org"), &[5432])]);
    let network = Network { egress: Egress::Public, ports: BTreeSet::from([80, 443]), ..rules.clone() };
    assert_eq!(network.ports(&name("anything.test")), [80, 443]);
    assert_eq!(transport(&network, "anything.test", 443), Some(Transport::PassThrough));
    assert_eq!(transport(&network, "anything.test", 80), Some(Transport::Inspected));
    assert_eq!(transport(&network, "anything.test", 22), None);
    assert_eq!(network.ports(&name("db.example.org")), [80, 443, 5432]);
    assert_eq!(transport(&network, "api.example.org", 443), Some(Transport::Inspected));
    assert!(request(&network, "POST", "/v1").starts_with("missing"));
    assert!(network.is_under_wildcard(&name("anything.test")));
    assert!(!network.is_under_wildcard(&name("db.example.org")));
    let audited = Network { audit: true, egress: Egress::Rules, ..network };
    assert_eq!(audited.connection(&name("anything.test"), 443).map(|it| it.rule).as_deref(), Some("audit"));
}

#[test]
fn public_and_audit_leave_nothing_behind_where_they_are_not_granted() {
    let any = Rule { transport: Transport::Opaque, ports: vec![PortPattern::Any], ..rule("*") };
    let ceiling = Network { ports: BTreeSet::from([80, 443]), ..with(&[any]) };
    let asked = Network {
        egress: Egress::Public,
        ports: BTreeSet::from([443]),
        audit: true,
        ..with(&[rule("api.example.org")])
    };
    let effective = asked.meet(&ceiling);
    assert_eq!(effective.ports(&name("anything.test")), [0_u16; 0]);
    assert_eq!(effective.ports(&name("api.example.org")), [443]);
}

#[test]
fn rules_that_treat_one_connection_in_two_ways_contradict() {
    let shared = |left: &Rule, right: &Rule| (left.contradicts(right), right.contradicts(left));
    let read = inspected("api.example.org", &[Method::Get], &[]);
    let port = Some(PortPattern::One(443));
    assert_eq!(shared(&read, &rule("*.example.org")), (port, port));
    assert_eq!(shared(&read, &on(rule("*.example.org"), &[8443])), (None, None));
    assert_eq!(shared(&read, &rule("www.example.org")), (None, None));
    assert_eq!(shared(&read, &inspected("*.example.org", &[], &["/v1"])), (None, None));
}

#[test]
fn rules_that_add_two_credentials_to_one_request_are_seen() {
    let adding = |credential: &str, methods: &[Method], paths: &[&str]| Rule {
        credential: Some(CredentialPattern::Named(credential.to_owned())),
        ..inspected("api.example.org", methods, paths)
    };
    let one = adding("one", &[Method::Get], &["/v1/*"]);
    assert!(one.adds_another(&adding("two", &[], &["/v1"])));
    assert!(!one.adds_another(&adding("one", &[], &["/v1"])));
    assert!(!one.adds_another(&adding("two", &[Method::Post], &["/v1"])));
    assert!(!one.adds_another(&adding("two", &[], &["/v2"])));
}

#[test]
fn a_port_may_be_published_where_the_policy_lists_it() {
    let network = Network { publish: Union::of([PortPattern::One(8080)]), ..Network::none() };
    assert!(network.publishes(8080) && !network.publishes(8081));
    assert!(Network { publish: Union::of([PortPattern::Any]), ..network }.publishes(1));
}
