//! Requests held against random flags, ceilings and hosts: without trust nothing becomes wider.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::policy::amount::Amount;
use crate::policy::ceiling::tests::HOST;
use crate::policy::document::Kind;
use crate::policy::document::mistake::Place;
use crate::policy::document::project::parse;
use crate::policy::field::FIELDS;
use crate::policy::lattice::tests::policies;
use crate::policy::network::port::PortPattern;
use crate::policy::network::tests::rule;
use crate::policy::network::{Allow, Denied, Rule, Union};
use crate::policy::{Egress, Pull, SecretOutputs};

/// How a field of a request stands to the default policy's.
#[derive(Debug, Clone, Copy)]
enum Step {
    Absent,
    Lower,
    Same,
    Higher,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop::sample::select(vec![Step::Absent, Step::Absent, Step::Lower, Step::Same, Step::Higher]);
    prop::collection::vec(step, FIELDS.len())
}

/// A value of a field that is lower, the same, or higher than the given one, as far as it has such.
fn moved(setting: &Setting, step: Step) -> Option<Setting> {
    let is_higher = matches!(step, Step::Higher);
    if matches!(step, Step::Absent) {
        return None;
    }
    if matches!(step, Step::Same) {
        return Some(setting.clone());
    }
    Some(match setting {
        Setting::Amount(amount, value) => {
            let (min, max) = amount.range();
            let moved = if is_higher { value.saturating_mul(2) } else { value / 2 };
            Setting::Amount(*amount, moved.clamp(min, max))
        }
        Setting::Ptrace(_) => Setting::Ptrace(is_higher),
        Setting::Pull(_) => Setting::Pull(if is_higher { Pull::Always } else { Pull::Never }),
        Setting::Allow(_) => {
            let glob = if is_higher { "evil/*" } else { "aegis/*" };
            Setting::Allow(BTreeSet::from([BTreeSet::from([glob.to_owned()])]))
        }
        Setting::RequireDigest(_) => Setting::RequireDigest(!is_higher),
        Setting::Pins(_) => Setting::Pins(BTreeMap::from([(
            "aegis/base:latest".to_owned(),
            BTreeSet::from(["sha256:1".to_owned()]),
        )])),
        Setting::Runtimes(_) => {
            Setting::Runtimes(if is_higher { BTreeSet::from(["*".to_owned()]) } else { BTreeSet::new() })
        }
        Setting::IncludeSecrets(_) => Setting::IncludeSecrets(if is_higher {
            BTreeSet::from([".env".to_owned()])
        } else {
            BTreeSet::new()
        }),
        Setting::Egress(_) => Setting::Egress(if is_higher { Egress::Public } else { Egress::None }),
        Setting::EgressPorts(_) if is_higher => Setting::EgressPorts(BTreeSet::from([80, 443, 8080])),
        Setting::EgressPorts(_) => Setting::EgressPorts(BTreeSet::new()),
        Setting::NetworkAllow(_) if is_higher => Setting::NetworkAllow(Allow::of(&[rule("evil.test")])),
        Setting::NetworkAllow(_) => Setting::NetworkAllow(Allow::NOTHING),
        Setting::NetworkDeny(_) => Setting::NetworkDeny(Union::of([Denied {
            host: rule("denied.test").host,
            port: PortPattern::Any,
        }])),
        Setting::EgressAudit(_) => Setting::EgressAudit(is_higher),
        Setting::Publish(_) if is_higher => Setting::Publish(Union::of([PortPattern::One(8080)])),
        Setting::Publish(_) => Setting::Publish(Union::EMPTY),
        Setting::SecretFiles(_) => Setting::SecretFiles(granted(is_higher)),
        Setting::SecretEnvironment(_) => Setting::SecretEnvironment(granted(is_higher)),
        Setting::SecretOutputs(_) => Setting::SecretOutputs(match is_higher {
            true => SecretOutputs::Report,
            false => SecretOutputs::Block,
        }),
        Setting::Workspace(_) => setting.clone(),
    })
}

fn granted(is_any: bool) -> BTreeSet<String> {
    if is_any { BTreeSet::from(["KEY".to_owned()]) } else { BTreeSet::new() }
}

fn request(steps: &[Step]) -> Document {
    let default = default_policy().expect("strict").policy;
    let place = Place { line: 3, column: 1 };
    let settings = default.settings().into_iter().zip(steps).filter_map(|(it, step)| moved(&it, *step));
    let settings: BTreeMap<_, _> = settings.map(|it| (it.field(), (it, place))).collect();
    Document { file: FILE_NAME.to_owned(), extends: None, settings }
}

/// Flags as a user could give them.
fn flags() -> impl Strategy<Value = Overrides> {
    let amount = || prop::option::of(prop::sample::select(vec![64_u64 << 20, 512 << 20, 2 << 30, 8 << 30]));
    let pull = prop::option::of(prop::sample::select(Pull::ALL.to_vec()));
    (amount(), amount(), amount(), pull, prop::option::of(2..1000_u64)).prop_map(
        |(memory_bytes, tmp_bytes, workspace_bytes, pull, pids)| Overrides {
            memory_bytes,
            tmp_bytes,
            workspace_bytes,
            pull,
            pids,
            ..Overrides::NONE
        },
    )
}

/// Ceilings above and below the default policy, field by field.
fn ceilings() -> impl Strategy<Value = Ceiling> {
    (steps(), policies(), any::<bool>()).prop_map(|(steps, odd, is_odd)| {
        let mut policy = if is_odd { odd } else { Ceiling::of_host(&HOST).policy };
        let default = default_policy().expect("strict").policy;
        for (setting, step) in default.settings().iter().zip(steps) {
            if let Some(moved) = moved(setting, step) {
                moved.apply(&mut policy);
            }
        }
        Ceiling { policy, file: None }
    })
}

const MISSING: Consent<'_> = Consent::Missing { hint: "h" };

proptest! {
    #[test]
    fn without_trust_nothing_is_wider(steps in steps(), flags in flags(), ceiling in ceilings()) {
        let document = request(&steps);
        // A request may contradict itself, and is then refused whole.
        if let Ok(with) = resolve_request(&document, MISSING, &flags, &ceiling, &HOST) {
            let without = resolve(&default_policy().expect("strict"), &flags, &ceiling, &HOST);
            prop_assert!(le(&with.policy, &without.policy));
        }
    }

    #[test]
    fn without_trust_what_asks_for_more_is_denied(steps in steps(), flags in flags(), ceiling in ceilings()) {
        let document = request(&steps);
        if let Ok(requested) = requested(&document) {
            let default = default_policy().expect("strict").policy;
            let is_wider = !le(&flagged(&requested.policy, &flags), &flagged(&default, &flags));
            let with = resolve_request(&document, MISSING, &flags, &ceiling, &HOST).expect("resolved");
            let denied = with.denials.iter().any(|it| it.hint == "h");
            prop_assert_eq!(is_wider, denied);
        }
    }

    #[test]
    fn trust_does_not_pass_the_ceiling(steps in steps(), flags in flags(), ceiling in ceilings()) {
        if let Ok(with) = resolve_request(&request(&steps), Consent::Given, &flags, &ceiling, &HOST) {
            prop_assert!(le(&with.policy, &ceiling.policy));
        }
    }
}

/// The fields that a `[policy]` widens, as they are denied.
#[track_caller]
fn check(policy: &str, expected: &[&str]) {
    let said = parse(FILE_NAME, format!("[policy]\n{policy}").as_bytes()).expect("no mistakes");
    let ceiling = Ceiling::of_host(&HOST);
    let resolved =
        resolve_request(&said.policy, MISSING, &Overrides::NONE, &ceiling, &HOST).expect("resolved");
    let denied: Vec<String> = resolved.denials.iter().map(ToString::to_string).collect();
    assert_eq!(denied, expected);
}

#[test]
fn each_wider_field_is_named_with_both_values() {
    check(
        "resources.memory = \"4GiB\"\nresources.pids = 10\nprocess.ptrace = true\n",
        &[
            "aegis.toml:4 asks for true, and without trust the run gets false",
            "aegis.toml:2 asks for \"4GiB\", and without trust the run gets \"1GiB\"",
        ],
    );
}

#[test]
fn a_shipped_policy_that_is_weaker_than_the_default_is_wider() {
    let default = default_policy().expect("strict").policy;
    for name in crate::policy::shipped::NAMES {
        let said = parse(FILE_NAME, format!("[policy]\nsandbox = \"{name}\"\n").as_bytes()).expect(name);
        let requested = requested(&said.policy).expect(name);
        let is_wider = !wider(&requested, &Overrides::NONE).expect("compared").is_empty();
        assert_eq!(is_wider, !le(&requested.policy, &default), "{name}");
    }
}

#[test]
fn what_tightens_is_taken() {
    check("resources.memory = \"512MiB\"\nimages.allow = [\"aegis/*\"]\nruntimes = [\"runc\"]\n", &[]);
    check("filesystem.workspace = \"none\"\nimages.require_digest = true\n", &[]);
}

#[test]
fn globs_of_a_request_are_added_to_those_that_hold() {
    let said = parse(FILE_NAME, b"[policy]\nimages.allow = [\"aegis/*\"]\n").expect("no mistakes");
    let allow = requested(&said.policy).expect("a policy").policy.images.allow;
    assert_eq!(allow.len(), 2, "{allow:?}");
}

#[test]
fn a_users_flag_counts_on_both_sides() {
    let said = parse(FILE_NAME, b"[policy]\nresources.memory = \"4GiB\"\n").expect("no mistakes");
    let requested = requested(&said.policy).expect("a policy");
    let flags = |bytes| Overrides { memory_bytes: Some(bytes), ..Overrides::NONE };
    for bytes in [1 << 20, 8 << 30] {
        assert_eq!(wider(&requested, &flags(bytes)), Ok(Vec::new()));
    }
    assert_eq!(wider(&requested, &Overrides::NONE).expect("compared").len(), 1);
}

#[test]
fn origins_name_the_file_and_the_line() {
    let said = parse(FILE_NAME, b"[policy]\nresources.memory = \"512MiB\"\n").expect("no mistakes");
    let ceiling = Ceiling::of_host(&HOST);
    let resolved =
        resolve_request(&said.policy, MISSING, &Overrides::NONE, &ceiling, &HOST).expect("resolved");
    let origin = |field| resolved.origins.iter().find(|it| it.field == field).map(|it| it.origin.to_string());
    assert_eq!(origin(Field::Amount(Amount::Memory)).as_deref(), Some("aegis.toml:2"));
    assert_eq!(origin(Field::Amount(Amount::Pids)).as_deref(), Some("default (strict)"));
    assert_eq!(resolved.policy_name, "strict");
}

#[test]
fn a_file_that_is_no_request_is_no_policy_of_a_request() {
    // `sandbox` belongs to requests, `extends` to policies: each is unknown to the other.
    let as_policy = crate::policy::document::parse("p", b"sandbox = \"strict\"\n", Kind::Policy);
    assert!(as_policy.expect_err("refused").to_string().contains("unknown key `sandbox`"));
}

#[test]
fn another_image_is_told_by_its_meaning() {
    for (asked, otherwise, expected) in [
        ("aegis/node", "aegis/node", false),
        ("docker.io/aegis/node:latest", "aegis/node", false),
        ("aegis/node:2", "aegis/node", true),
        ("evil/aegis/node", "aegis/node", true),
        ("aegis/rust", "aegis/node", true),
    ] {
        assert_eq!(is_another_image(asked, otherwise), expected, "{asked}");
    }
}

#[test]
fn a_project_cannot_open_the_way_out_for_itself() {
    let rules = "network.egress = \"rules\"\n[[policy.network.allow]]\nhost = \"evil.test\"\n";
    check(
        rules,
        &[
            "aegis.toml:2 asks for \"rules\", and without trust the run gets \"none\"",
            "aegis.toml:3 asks for [{ host = \"evil.test\", ports = [443] }], and without trust the run gets []",
        ],
    );
    let said = parse(FILE_NAME, format!("[policy]\n{rules}").as_bytes()).expect("no mistakes");
    let rule = Rule::of_flag("mine.test").expect("a rule");
    let flags = Overrides { allow_net: vec![rule], ..Overrides::NONE };
    let wider = wider(&requested(&said.policy).expect("a policy"), &flags).expect("compared");
    assert_eq!(wider.len(), 1, "the user's own rule is the user's: {wider:?}");
    check("network.publish = [8080]\n", &["aegis.toml:2 asks for [8080], and without trust the run gets []"]);
}

#[test]
fn a_project_may_deny_what_the_user_allows() {
    let said = parse(FILE_NAME, b"[[policy.network.deny]]\nhost = \"a.org\"\n").expect("no mistakes");
    let flags = Overrides { allow_net: vec![Rule::of_flag("a.org").expect("a rule")], ..Overrides::NONE };
    let ceiling = Ceiling::of_host(&HOST);
    let resolved = resolve_request(&said.policy, MISSING, &flags, &ceiling, &HOST).expect("resolved");
    let told: Vec<&str> = resolved.denials.iter().map(|it| it.message.as_str()).collect();
    let message = "flag `--allow-net` asks for `a.org:443`, which `network.deny` of aegis.toml:1 denies with [{ host = \"a.org\" }]";
    assert_eq!(told, [message]);
    assert!(resolved.policy.network.exact_names().is_empty());
}
