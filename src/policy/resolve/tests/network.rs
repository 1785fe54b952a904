//! Rules that flags and files ask for, held against the ceiling.

use super::{ceiling, check, check_origin, chosen, with};
use crate::policy::ceiling::tests::HOST;
use crate::policy::network::tests::rule;
use crate::policy::network::{Name, Rule};
use crate::policy::{Overrides, resolve};

const AUTHORITY: &str = "the default ceiling of a local user: public names by rules (its operator can write /etc/aegis/ceiling.toml)";
const OPERATOR: &str = "the ceiling (/etc/aegis/ceiling.toml, which the operator of this host writes)";

fn allowing(hosts: &[&str]) -> Overrides {
    Overrides {
        allow_net: hosts.iter().map(|it| Rule::of_flag(it).expect("a rule")).collect(),
        ..Overrides::NONE
    }
}

/// The ports at which a name is reached in the end, where nothing is denied.
fn ports(policy: &str, overrides: &Overrides, ceiling_text: &str, name: &str) -> Vec<u16> {
    let resolved = resolve(&chosen(policy), overrides, &ceiling(ceiling_text), &HOST);
    assert_eq!(resolved.denials, vec![]);
    resolved.policy.network.ports(&Name::parse(name).expect("a name"))
}

#[test]
fn a_flag_adds_its_host_to_what_the_policy_allows() {
    assert_eq!(ports("", &allowing(&["a.org", "a.org:8443"]), "", "a.org"), [443, 8443]);
    let policy = "[network]\negress = \"rules\"\n[[network.allow]]\nhost = \"b.org\"";
    assert_eq!(ports(policy, &allowing(&["a.org"]), "", "a.org"), [443]);
    assert_eq!(ports(policy, &allowing(&["a.org"]), "", "b.org"), [443]);
    assert_eq!(ports("", &allowing(&["a.org"]), "", "b.org"), [0_u16; 0]);
    let flags = allowing(&["a.org"]);
    check_origin("", &flags, "", "network.egress", "\"rules\" from flag `--allow-net`");
    let rules = "[{ host = \"a.org\", ports = [443] }] from flag `--allow-net`";
    check_origin("", &flags, "", "network.allow", rules);
}

#[test]
fn without_a_flag_or_a_rule_nothing_is_reached() {
    check_origin("", &Overrides::NONE, "", "network.egress", "\"none\" from default (strict)");
    assert_eq!(ports("extends = \"ci\"", &Overrides::NONE, "", "a.org"), [0_u16; 0]);
}

#[test]
fn the_default_ceiling_permits_nothing_private_nothing_public_and_no_audit() {
    let message = format!(
        "p.toml:2:asks in `network.allow` for `db.org:5432` at a private address, which is not allowed by {AUTHORITY}; \
         leave the rule out, or ask the operator of this host"
    );
    check(
        "network.egress = \"rules\"\n[[network.allow]]\nhost = \"db.org\"\nports = [5432]\nprivate = true",
        &Overrides::NONE,
        "",
        &[&message.replace(":asks", " asks")],
    );
    let message = format!(
        "p.toml:1 asks for `network.egress` = \"public\"; \"rules\" is allowed by {AUTHORITY}; write `network.egress = \
         \"rules\"`, or leave the key out"
    );
    check("network.egress = \"public\"", &Overrides::NONE, "", &[&message]);
    let message = format!(
        "flag `--egress-audit` asks for `network.audit` = true; false is allowed by {AUTHORITY}; leave `--egress-audit` \
         out, or ask the operator of this host"
    );
    check("", &with(|it| it.egress_audit = true), "", &[&message]);
}

#[test]
fn an_operator_may_permit_more() {
    let ceiling = "network.audit = true\nnetwork.egress = \"public\"";
    assert_eq!(ports("", &with(|it| it.egress_audit = true), ceiling, "anything.org"), [80, 443]);
    assert_eq!(ports("network.egress = \"public\"", &Overrides::NONE, ceiling, "anything.org"), [80, 443]);
    let private = "[[network.allow]]\nhost = \"*.corp.example.org\"\nprivate = true\nports = \"*\"";
    let policy =
        "network.egress = \"rules\"\n[[network.allow]]\nhost = \"db.corp.example.org\"\nprivate = true";
    assert_eq!(ports(policy, &Overrides::NONE, private, "db.corp.example.org"), [443]);
}

#[test]
fn a_ceiling_that_permits_public_permits_rules_too() {
    let ceiling = "network.egress = \"public\"\n[[network.allow]]\nhost = \"db.example.org\"\nports = [5432]";
    assert_eq!(ports("", &allowing(&["a.org"]), ceiling, "a.org"), [443]);
    assert_eq!(ports("", &allowing(&["db.example.org:5432"]), ceiling, "db.example.org"), [5432]);
}

#[test]
fn what_an_operator_closed_stays_closed() {
    let message = format!(
        "flag `--allow-net` asks for `network.egress` = \"rules\"; \"none\" is allowed by {OPERATOR}; leave \
         `--allow-net` out, or ask the operator of this host"
    );
    check("", &allowing(&["a.org"]), "network.egress = \"none\"", &[&message]);
    let ceiling = "[[network.allow]]\nhost = \"*.example.org\"\nmethods = [\"GET\"]";
    let message = format!(
        "flag `--allow-net` asks in `network.allow` for `a.example.org:443`, `b.example.org:443`, `c.example.org:443` \
         and 1 more, which is not allowed by {OPERATOR}; leave `--allow-net` out for it, or ask the operator of this host"
    );
    let hosts = ["a.example.org", "b.example.org", "c.example.org", "d.example.org"];
    check("", &allowing(&hosts), ceiling, &[&message]);
}

#[test]
fn what_an_operator_denies_is_not_asked_for_in_vain() {
    let ceiling = "[[network.deny]]\nhost = \"*.a.org\"";
    let message = format!(
        "flag `--allow-net` asks in `network.allow` for `x.a.org:443`, which `network.deny` denies by {OPERATOR}; leave \
         the host out, or ask the operator of this host"
    );
    check("", &allowing(&["x.a.org", "a.org"]), ceiling, &[&message]);
    assert_eq!(ports("", &allowing(&["a.org"]), ceiling, "a.org"), [443]);
    let part = "[[network.deny]]\nhost = \"x.a.org\"";
    assert_eq!(ports("", &allowing(&["*.a.org"]), part, "x.a.org"), [0_u16; 0]);
    assert_eq!(ports("", &allowing(&["*.a.org"]), part, "y.a.org"), [443]);
}

#[test]
fn what_the_policy_itself_denies_is_not_asked_for_in_vain() {
    let policy = "[[network.deny]]\nhost = \"*.a.org\"";
    let message = "flag `--allow-net` asks for `x.a.org:443`, which `network.deny` of p.toml:1 denies with \
         [{ host = \"*.a.org\" }]; leave `--allow-net` out for it, or take that denial away";
    check(policy, &allowing(&["b.org", "x.a.org", "a.org"]), "", &[message]);
    assert_eq!(ports(policy, &allowing(&["a.org"]), "", "a.org"), [443]);
    let part = "[[network.deny]]\nhost = \"x.a.org\"";
    assert_eq!(ports(part, &allowing(&["*.a.org"]), "", "x.a.org"), [0_u16; 0]);
    assert_eq!(ports(part, &allowing(&["*.a.org"]), "", "y.a.org"), [443]);
}

#[test]
fn a_flag_does_not_open_what_the_policy_has_read() {
    let policy =
        "network.egress = \"rules\"\n[[network.allow]]\nhost = \"api.example.org\"\nmethods = [\"GET\"]";
    check(
        policy,
        &allowing(&["*.example.org"]),
        "",
        &[
            "flag `--allow-net` asks for `*.example.org` as pass-through, and the policy has `api.example.org:443 GET /` as \
           inspected; leave `--allow-net` out for it: the policy names the host already",
        ],
    );
}

#[test]
fn more_pairs_than_are_compared_are_refused() {
    let rules = |count: usize| {
        let ports: Vec<String> = (1..=64).map(|it| it.to_string()).collect();
        let rule =
            |it: usize| format!("[[network.allow]]\nhost = \"h{it}.org\"\nports = [{}]\n", ports.join(","));
        (0..count).map(rule).collect::<String>()
    };
    let policy = format!("network.egress = \"rules\"\n{}", rules(10));
    let resolved = resolve(&chosen(&policy), &Overrides::NONE, &ceiling(&rules(10)), &HOST);
    let denials: Vec<String> = resolved.denials.iter().map(ToString::to_string).collect();
    let message = "`network.allow` comes to 640 combinations of ports, methods and paths, and the ceiling's to 640: \
                   together they may have 32768 pairs";
    assert_eq!(denials, [message]);
    assert!(resolved.policy.network.allow.is_empty());
}

#[test]
fn a_rule_of_a_flag_passes_unread_at_one_port() {
    assert_eq!(Rule::of_flag("a.org"), Ok(rule("a.org")));
}
