//! What comes of a ledger, and that it lets the same traffic pass.

use proptest::prelude::*;

use super::*;
use crate::policy::Chosen;
use crate::record::egress::RequestEntry;

fn entry(name: &str, port: Option<u16>, verdict: Verdict) -> Entry {
    Entry {
        at_ms: 0,
        name: name.to_owned(),
        port,
        address: None,
        rule: None,
        verdict,
        bytes_up: 0,
        bytes_down: 0,
        duration_ms: 0,
        request: None,
    }
}

fn request(name: &str, method: &str, path: &str, verdict: Verdict) -> Entry {
    let request = RequestEntry {
        method: method.to_owned(),
        path: path.to_owned(),
        status: Some(403),
        credential: None,
    };
    Entry { request: Some(request), ..entry(name, Some(443), verdict) }
}

#[track_caller]
fn check(entries: &[Entry], rules: &[&str], remarks: &[&str]) {
    let suggestion = suggest(entries);
    assert_eq!(suggestion.allow.entries(), rules);
    assert_eq!(suggestion.remarks, remarks);
}

#[test]
fn what_passed_under_audit_has_a_rule_each() {
    check(
        &[
            entry("files.example.org", Some(443), Verdict::Allowed),
            entry("files.example.org", Some(443), Verdict::Allowed),
            entry("files.example.org", Some(80), Verdict::Failed(Failure::Timeout)),
            entry("a.example.org", Some(443), Verdict::Allowed),
        ],
        &[
            "{ host = \"a.example.org\", ports = [443] }",
            "{ host = \"files.example.org\", ports = [80, 443] }",
        ],
        &[],
    );
}

#[test]
fn requests_that_were_read_have_their_methods_and_paths() {
    let denied = Verdict::Denied(Reason::Request);
    check(
        &[
            request("api.example.org", "POST", "/v1/messages?x=1", denied),
            request("api.example.org", "GET", "/v1/messages/7", Verdict::Allowed),
            request("api.example.org", "BREW", "/pot", denied),
        ],
        &[
            "{ host = \"api.example.org\", ports = [443], methods = [\"GET\"], paths = [\"/v1/messages/7\"] }",
            "{ host = \"api.example.org\", ports = [443], methods = [\"POST\"], paths = [\"/v1/messages\"] }",
            "{ host = \"api.example.org\", ports = [443], paths = [\"/pot\"] }",
        ],
        &["api.example.org: a method was sent that rules do not name, so that the rule for it names none"],
    );
}

#[test]
fn credentials_upgrades_and_private_addresses_are_kept() {
    let mut sent = request("api.example.org", "GET", "/live", Verdict::Allowed);
    if let Some(request) = &mut sent.request {
        request.credential = Some("model".to_owned());
        request.status = Some(101);
    }
    let private = Entry {
        address: Some([10, 0, 0, 1].into()),
        ..entry("db.example.org", Some(5432), Verdict::Allowed)
    };
    let opaque = entry("db.example.org", Some(5432), Verdict::Denied(Reason::NotTls));
    check(
        &[sent, private, opaque, entry("x.example.org", Some(1), Verdict::Denied(Reason::PrivateAddress))],
        &[
            "{ host = \"api.example.org\", ports = [443], methods = [\"GET\"], paths = [\"/live\"], \
             credential = \"model\", upgrade = true }",
            "{ host = \"db.example.org\", ports = [5432], opaque = true, private = true }",
            "{ host = \"x.example.org\", ports = [1], private = true }",
        ],
        &[],
    );
}

#[test]
fn a_name_that_was_refused_before_a_port_is_guessed_for_and_says_so() {
    let denied = Verdict::Denied(Reason::Name);
    check(
        &[
            entry("new.example.org", None, denied),
            entry("old.example.org", None, denied),
            entry("old.example.org", Some(22), Verdict::Allowed),
        ],
        &["{ host = \"new.example.org\", ports = [443] }", "{ host = \"old.example.org\", ports = [22] }"],
        &["new.example.org: it was refused before a port was reached, and 443 is a guess"],
    );
}

#[test]
fn what_no_rule_should_allow_is_told_and_not_suggested() {
    check(
        &[
            entry("a.example.org", Some(443), Verdict::Denied(Reason::ServerNameDiffers)),
            entry("b.example.org", Some(443), Verdict::Denied(Reason::Credential)),
            entry("c.example.org", Some(443), Verdict::Failed(Failure::Resolution)),
            entry("127.0.0.1", None, Verdict::Denied(Reason::Name)),
            entry("\x1b[2J", None, Verdict::Denied(Reason::Name)),
        ],
        &[],
        &[
            "a name that is no host's was asked for: no rule can name it",
            "a.example.org:443: its TLS does not say that it is for this name; only `opaque = true` passes that",
            "b.example.org:443: the task sent a credential of the operator's, which no rule allows",
        ],
    );
}

#[test]
fn more_paths_than_a_rule_has_are_cut_at_their_first_segments() {
    let entries: Vec<Entry> = (0..200)
        .map(|it| request("a.example.org", "GET", &format!("/v1/items/{it}"), Verdict::Allowed))
        .collect();
    check(
        &entries,
        &["{ host = \"a.example.org\", ports = [443], methods = [\"GET\"], paths = [\"/v1/items\"] }"],
        &[],
    );
}

#[test]
fn of_two_credentials_that_cut_paths_bring_together_one_is_left_out() {
    let entry = |at: usize, credential: &str| {
        let path = format!("/v1/{at}/{credential}");
        let mut sent = request("a.example.org", "GET", &path, Verdict::Allowed);
        if let Some(request) = &mut sent.request {
            request.credential = Some(credential.to_owned());
        }
        sent
    };
    let entries: Vec<Entry> = (0..200).flat_map(|at| [entry(at, "one"), entry(at, "two")]).collect();
    check(
        &entries,
        &[
            "{ host = \"a.example.org\", ports = [443], methods = [\"GET\"], paths = [\"/v1\"], credential = \"one\" }",
        ],
        &[
            "a.example.org: its rules cannot tell which requests get the credential `two` and which another, so that they do \
            not name it",
        ],
    );
}

#[test]
fn a_suggestion_is_a_policy_file() {
    let entries = [
        entry("files.example.org", Some(443), Verdict::Allowed),
        request("api.example.org", "GET", "/v1", Verdict::Allowed),
        entry("new.example.org", None, Verdict::Denied(Reason::Name)),
    ];
    insta::assert_snapshot!(policy_file(&suggest(&entries), "ci"), @r#"
    # new.example.org: it was refused before a port was reached, and 443 is a guess
    extends = "ci"

    [network]
    egress = "rules"
    allow = [
        { host = "api.example.org", ports = [443], methods = ["GET"], paths = ["/v1"] },
        { host = "files.example.org", ports = [443] },
        { host = "new.example.org", ports = [443] },
    ]
    "#);
    let nothing = policy_file(&suggest(&[]), "./p.toml");
    assert!(Chosen::from_file("p", nothing.as_bytes()).is_ok(), "{nothing}");
}

#[test]
fn each_denial_is_told_once_with_its_smallest_rule() {
    let denied = Verdict::Denied(Reason::Name);
    let entries = [
        entry("a.example.org", None, denied),
        request("b.example.org", "POST", "/v1/x?q", Verdict::Denied(Reason::Request)),
        entry("a.example.org", None, denied),
        entry("c.example.org", Some(443), Verdict::Denied(Reason::ServerNameAbsent)),
        entry("d.example.org", Some(443), Verdict::Allowed),
    ];
    let told: Vec<_> = denials(&entries)
        .into_iter()
        .map(|it| (it.host, it.request.unwrap_or_default(), it.count, it.rule.unwrap_or_default()))
        .collect();
    let expected = [
        ("a.example.org", "", 2, "{ host = \"a.example.org\", ports = [443] }"),
        (
            "b.example.org:443",
            "POST /v1/x?q",
            1,
            "{ host = \"b.example.org\", ports = [443], methods = [\"POST\"], paths = [\"/v1/x\"] }",
        ),
        ("c.example.org:443", "", 1, ""),
    ]
    .map(|(host, request, count, rule)| (host.to_owned(), request.to_owned(), count, rule.to_owned()));
    assert_eq!(told, expected);
}

#[test]
fn denials_are_told_as_lines_that_a_terminal_shows_as_they_are() {
    let denied = Verdict::Denied(Reason::Name);
    let told = lines(&denials(&[
        entry("a.example.org", None, denied),
        entry("a.example.org", None, denied),
        request("b.example.org", "GET", "/\x1b[2J", Verdict::Denied(Reason::Malformed)),
    ]));
    let expected = [
        "refused 2 times: a.example.org: no rule names it",
        "hint: `network.allow` lets it pass with { host = \"a.example.org\", ports = [443] }",
        "refused: b.example.org:443 GET /\\x1b[2J: the request has no form that could be judged",
    ];
    assert_eq!(told, expected);
    let many: Vec<Entry> = (0..30).map(|it| entry(&format!("h{it}.test"), None, denied)).collect();
    assert_eq!(
        lines(&denials(&many)).last().map(String::as_str),
        Some("more was refused: `aegis egress` lists it")
    );
}

proptest! {
    #[test]
    fn what_is_suggested_lets_the_same_pass_and_nothing_beside(
        seen in prop::collection::vec(("[a-c]\\.example\\.org", 1..4_u16, prop::option::of(("GET|PUT|NEW", "(/[ab]){1,3}", prop::option::of("one|two")))), 0..12),
    ) {
        let entries: Vec<Entry> = seen.iter().map(|(name, port, sent)| {
            let request = sent.as_ref().map(|(method, path, credential)| RequestEntry {
                method: method.clone(), path: path.clone(), status: Some(200), credential: credential.clone(),
            });
            Entry { request, ..entry(name, Some(*port), Verdict::Allowed) }
        }).collect();
        let text = policy_file(&suggest(&entries), "strict");
        let policy = Chosen::from_file("p", text.as_bytes()).expect("a policy").policy;
        for (name, port, sent) in &seen {
            let parsed = Name::parse(name).expect("a name");
            prop_assert!(policy.network.ports(&parsed).contains(port));
            if let Some((method, path, _)) = sent {
                let verdict = policy.network.request(&parsed, *port, method, path);
                let passes = matches!(verdict, crate::policy::network::Request::Allowed { .. });
                prop_assert!(passes, "{method} {path} under\n{text}");
            }
        }
        for name in ["a", "b", "c"].map(|it| format!("{it}.example.org")) {
            let parsed = Name::parse(&name).expect("a name");
            for port in policy.network.ports(&parsed) {
                prop_assert!(seen.iter().any(|(known, at, _)| *known == name && *at == port));
            }
        }
    }
}
