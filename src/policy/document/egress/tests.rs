//! Rules in a file: what is read, and each mistake with its place.

use super::*;
use crate::policy::document;
use crate::policy::field::Setting;

/// The rules of a file in their one form.
fn check(text: &str, expected: &str) {
    check_as(Kind::Policy, text, expected);
}

fn check_as(kind: Kind, text: &str, expected: &str) {
    let read = document::parse("p", text.as_bytes(), kind).unwrap_or_else(|err| panic!("{err}"));
    match &read.settings[&Field::NetworkAllow].0 {
        Setting::NetworkAllow(allow) => assert_eq!(allow.to_string(), expected),
        other => unreachable!("{other}"),
    }
}

fn refused(text: &str, expected: &[&str]) {
    refused_as(Kind::Policy, text, expected);
}

fn refused_as(kind: Kind, text: &str, expected: &[&str]) {
    let refusal = document::parse("p", text.as_bytes(), kind).expect_err("a refusal");
    assert_eq!(refusal.to_string().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn rules_are_read_in_either_spelling() {
    let expected = "[{ host = \"api.example.org\", ports = [443] }]";
    check("[network]\negress = \"rules\"\n[[network.allow]]\nhost = \"API.example.org.\"", expected);
    check("network.allow = [{ host = \"api.example.org\", ports = [0x1bb] }]", expected);
}

#[test]
fn every_key_of_a_rule_is_read() {
    let text = "[[network.allow]]\nhost = \"*.example.org\"\nports = [8443, 443]\nmethods = [\"POST\", \"GET\"]\n\
                paths = [\"/v1/*/items\", \"/%76%32\"]\ncredential = \"model\"\nupgrade = true\nprivate = true";
    let expected = "[{ host = \"*.example.org\", ports = [443, 8443], methods = [\"GET\", \"POST\"], \
                    paths = [\"/v1/*/items\", \"/v2\"], credential = \"model\", upgrade = true, private = true }]";
    check(text, expected);
    check(
        "[[network.allow]]\nhost = \"a\"\nopaque = true",
        "[{ host = \"a\", ports = [443], opaque = true }]",
    );
    let expected = "[{ host = \"a\", ports = [443], paths = [\"/\"], credential = \"model\" }]";
    check("[[network.allow]]\nhost = \"a\"\ncredential = \"model\"", expected);
}

#[test]
fn rules_that_say_the_same_are_one() {
    let text = "network.allow = [{ host = \"a\", methods = [\"GET\"], paths = [\"/x/y\"] }, \
                { host = \"a\", methods = [\"GET\", \"PUT\"], paths = [\"/x\"] }]";
    check(text, "[{ host = \"a\", ports = [443], methods = [\"GET\", \"PUT\"], paths = [\"/x\"] }]");
}

#[test]
fn a_ceiling_may_say_any() {
    let text = "[[network.allow]]\nhost = \"*\"\nports = \"*\"\nopaque = true\ncredential = \"*\"";
    let expected = "[{ host = \"*\", ports = \"*\", credential = \"*\", opaque = true }]";
    check_as(Kind::Ceiling, text, expected);
    refused(
        text,
        &[
            "p:2:8: `network.allow`: `*` is no host: `*` is any host, which only a ceiling may say: name the hosts, or \
             write `egress = \"public\"`",
            "p:3:9: `ports` is a string, and must be a list of ports, such as [443]",
            "p:4:10: `network.allow`: `opaque` lets any bytes pass unread, and `credential` has requests read: leave one \
             out",
            "p:5:14: `network.allow`: `*` is no name of a credential: it has letters, digits, `.`, `_` and `-`, at most \
             64",
        ],
    );
}

#[test]
fn what_is_no_list_of_rules_is_told() {
    refused(
        "network.allow = \"x.test\"",
        &["p:1:17: `network.allow` is a string, and must be a list of rules: write [{ host = \"x.test\" }]"],
    );
    refused(
        "network.allow = [\"\"]",
        &["p:1:18: an entry of `network.allow` is a string, and must be a rule: write { host = \"\" }"],
    );
    refused(
        "[network.allow]\nhost = \"x.test\"",
        &["p:1:1: `network.allow` is one table, and must be a list of them: write [[network.allow]]"],
    );
    refused("network.allow = [1]", &["p:1:18: an entry of `network.allow` is a number, and must be a rule"]);
    refused("[[network.allow]]\nports = [443]", &["p:1:1: `network.allow`: a rule has no `host`"]);
}

#[test]
fn an_unknown_key_is_told_the_nearest() {
    refused(
        "[[network.allow]]\nhost = \"a\"\nmethod = [\"GET\"]",
        &["p:3:1: unknown key `method` of `network.allow`; the nearest is `methods`"],
    );
    refused(
        "[[network.deny]]\nhost = \"a\"\ncredential = \"x\"",
        &["p:3:1: unknown key `credential` of `network.deny`; the keys here are `host`, `ports`"],
    );
}

#[test]
fn ports_methods_and_paths_have_their_form() {
    refused(
        "[[network.allow]]\nhost = \"a\"\nports = [0, 65536, 443, 443, \"1\"]",
        &[
            "p:3:10: `ports` has 0, and a port is 1 to 65535",
            "p:3:13: `ports` has 65536, and a port is 1 to 65535",
            "p:3:25: `ports` has 443 twice",
            "p:3:30: `ports` has a string as an entry, and a port is a number",
        ],
    );
    refused(
        "[[network.allow]]\nhost = \"a\"\nports = []\nmethods = []\npaths = [\"/..\", \"/a\", \"/%61\"]",
        &[
            "p:3:9: `network.allow`: `ports` is empty: name one, or leave the key out",
            "p:4:11: `network.allow`: `methods` is empty: name one, or leave the key out for any",
            "p:5:10: `network.allow`: `/..` is no path of a rule: it has a `.` or `..` segment",
            "p:5:23: `network.allow`: `paths` has an entry twice",
        ],
    );
    refused(
        "[[network.allow]]\nhost = \"a\"\nmethods = [\"get\", \"BREW\"]",
        &[
            "p:3:12: `network.allow`: `get` is no method that a rule can name: GET, HEAD, POST, PUT, PATCH, DELETE, \
             OPTIONS; did you mean \"GET\"?",
            "p:3:19: `network.allow`: `BREW` is no method that a rule can name: GET, HEAD, POST, PUT, PATCH, DELETE, \
             OPTIONS",
        ],
    );
    refused(
        "[[network.allow]]\nhost = \"a\"\nprivate = \"yes\"",
        &["p:3:11: `network.allow`: `private` is a string, and must be true or false"],
    );
}

#[test]
fn a_rule_does_not_contradict_itself() {
    refused(
        "[[network.allow]]\nhost = \"a\"\nopaque = true\nmethods = [\"GET\"]",
        &[
            "p:3:10: `network.allow`: `opaque` lets any bytes pass unread, and `methods` has requests read: leave one out",
        ],
    );
    refused(
        "[[network.allow]]\nhost = \"a\"\nports = [80]\ncredential = \"model\"",
        &["p:4:14: `network.allow`: a credential goes over TLS only, and port 80 is plain"],
    );
}

#[test]
fn two_rules_that_treat_a_connection_in_two_ways_are_told_both_lines() {
    refused(
        "[[network.allow]]\nhost = \"api.example.org\"\nmethods = [\"GET\"]\n[[network.allow]]\nhost = \"*.example.org\"",
        &[
            "p:4:1: `*.example.org:443` is pass-through by this rule and inspected by another for `api.example.org`: one of \
           them must not mean it (the other is on line 1)",
        ],
    );
    refused(
        "[[network.allow]]\nhost = \"a\"\n[[network.allow]]\nhost = \"b\"\n[[network.allow]]\nhost = \"A\"",
        &["p:5:1: the rule for `a` is there already (the other is on line 1)"],
    );
    refused(
        "network.allow = [{ host = \"a\", credential = \"x\" },\n{ host = \"a\", paths = [\"/v1\"], credential = \"y\" }]",
        &[
            "p:2:1: this rule for `a` adds one credential and another rule adds another to the same requests (the other is \
           on line 1)",
        ],
    );
}

#[test]
fn numbers_are_bounded() {
    let ports: Vec<String> = (1..=64).map(|it| it.to_string()).collect();
    let paths: Vec<String> = (1..=64).map(|it| format!("\"/{it}\"")).collect();
    let rule = format!(
        "[[network.allow]]\nhost = \"a\"\nports = [{}]\npaths = [{}]",
        ports.join(","),
        paths.join(",")
    );
    refused(
        &rule,
        &[
            "p:1:1: `network.allow` comes to 4096 combinations of ports, methods and paths, and may come to 2048: leave \
           methods or paths out, or write shorter paths",
        ],
    );
    refused(
        &rule.replace("ports = [1,", "ports = [65,1,"),
        &["p:3:9: `ports` has 65 entries, and may have 64"],
    );
    let rules: Vec<String> = (0..257).map(|it| format!("{{host = \"h{it}\"}}")).collect();
    refused(
        &format!("network.allow = [{}]", rules.join(",")),
        &["p:1:17: `network.allow` has 257 rules, and may have 256"],
    );
}

#[test]
fn what_is_denied_is_read() {
    let text = "[[network.deny]]\nhost = \"*.com\"\n[[network.deny]]\nhost = \"a.org\"\nports = [443, 80]";
    let read = document::parse("p", text.as_bytes(), Kind::Policy).expect("no mistakes");
    let expected = "[{ host = \"a.org\", ports = [80, 443] }, { host = \"*.com\" }]";
    assert_eq!(read.settings[&Field::NetworkDeny].0.to_string(), expected);
}

#[test]
fn ports_of_the_network_are_lists() {
    let text = "[network]\nports = [8080]\npublish = [3000]";
    let read = document::parse("p", text.as_bytes(), Kind::Policy).expect("no mistakes");
    assert_eq!(read.settings[&Field::EgressPorts].0.to_string(), "[8080]");
    assert_eq!(read.settings[&Field::Publish].0.to_string(), "[3000]");
    refused(
        "[network]\nports = \"*\"\npublish = \"*\"",
        &[
            "p:2:9: `network.ports` is a string, and must be a list of ports, such as [443]",
            "p:3:11: `network.publish` is a string, and must be a list of ports, such as [443]",
        ],
    );
}

#[test]
fn rules_without_egress_say_nothing_and_are_refused() {
    let read = document::parse("p", b"[[network.allow]]\nhost = \"a\"", Kind::Policy).expect("no mistakes");
    let refusal = read.over(&crate::policy::lattice::bottom()).expect_err("a refusal");
    let expected = "p:1:1: `network.allow` says nothing where `network.egress` is \"none\": write `egress = \"rules\"` in \
                    [network]";
    assert_eq!(refusal.to_string(), expected);
}

proptest::proptest! {
    #[test]
    fn the_text_of_rules_is_read_back(allow in crate::policy::network::model::writable()) {
        let text = format!("network.allow = {allow}");
        let read = document::parse("p", text.as_bytes(), Kind::Ceiling).expect("no mistakes");
        proptest::prop_assert_eq!(&read.settings[&Field::NetworkAllow].0, &Setting::NetworkAllow(allow));
    }
}
