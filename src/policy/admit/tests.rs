//! What is admitted and what is said against a task, case by case.

use super::*;
use crate::policy::ceiling::tests::HOST;
use crate::policy::{Ceiling, Chosen, Overrides, resolve};
use crate::task::{GitHistory, Published};

const ID: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
const OTHER: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

fn task(image: &str) -> TaskSpec {
    TaskSpec {
        name: None,
        labels: Vec::new(),
        command: vec![b"true".to_vec()],
        image: image.to_owned(),
        workspace: WorkspaceSource::Directory("/work".into()),
        git: GitHistory::Full,
        include_secrets: Vec::new(),
        publish: Vec::new(),
        secrets: Vec::new(),
        workdir: None,
        environment: Vec::new(),
        outputs: Vec::new(),
    }
}

fn resolved(policy: &str, ceiling: &str) -> Resolved {
    let chosen = Chosen::from_file("p.toml", format!("extends = \"strict\"\n{policy}").as_bytes());
    let ceiling = match ceiling {
        "" => Ceiling::of_host(&HOST),
        text => Ceiling::from_file("c.toml", text.as_bytes(), &HOST).expect("a ceiling"),
    };
    resolve(&chosen.expect("a policy"), &Overrides::NONE, &ceiling, &HOST)
}

/// Admits an image with `runc` and compares what is said against it, hints included.
fn check(policy: &str, ceiling: &str, image: &str, expected: &[&str]) {
    check_runtime(policy, ceiling, image, "runc", expected);
}

fn check_runtime(policy: &str, ceiling: &str, image: &str, runtime: &str, expected: &[&str]) {
    let denials = admit(&task(image), &resolved(policy, ceiling), ID, runtime).err().unwrap_or_default();
    let said: Vec<String> = denials.iter().map(|it| format!("{it}; {}", it.hint)).collect();
    assert_eq!(said, expected);
}

#[test]
fn strict_admits_any_image_that_is_here() {
    check("", "", "aegis/base", &[]);
    check("", "", "localhost:5000/x:1", &[]);
}

#[test]
fn an_admitted_task_carries_what_was_judged() {
    let resolved = resolved("", "");
    let admitted = admit(&task("aegis/base"), &resolved, ID, "runc").expect("admitted");
    assert_eq!((admitted.image(), admitted.image_id(), admitted.runtime()), ("aegis/base", ID, "runc"));
    assert_eq!(admitted.digest(), canonical::digest(admitted.policy()));
    assert_eq!((admitted.policy_name(), admitted.origins()), ("p.toml", resolved.origins.as_slice()));
}

#[test]
fn an_unlisted_image_is_denied() {
    check(
        "[images]\nallow = [\"aegis/*\", \"debian:12\"]",
        "",
        "evil:1",
        &[
            "image `evil:1` is not on the allow list of policy `p.toml`: `aegis/*` or `debian:12`; name an image that \
           matches `aegis/*` or `debian:12`, or add a glob for it",
        ],
    );
}

#[test]
fn an_image_that_the_ceiling_does_not_list_is_denied_in_its_name() {
    check(
        "",
        "[images]\nallow = [\"aegis/*\"]",
        "evil:1",
        &[
            "image `evil:1` is not on the allow list of the ceiling (c.toml, which the operator of this host writes): \
           `aegis/*`; name an image that matches `aegis/*`, or add a glob for it",
        ],
    );
}

#[test]
fn an_empty_allow_list_allows_none() {
    check(
        "[images]\nallow = []",
        "",
        "aegis/base",
        &[
            "image `aegis/base` is not allowed: `images.allow` of policy `p.toml` is empty, which allows none; add a \
           glob for it to `images.allow` of policy `p.toml`",
        ],
    );
}

#[test]
fn a_text_that_names_no_image_is_denied() {
    check(
        "",
        "",
        "--privileged",
        &[
            "`--privileged` is not an image reference: a name is lower-case letters and digits with single `.`, `_`, \
           `-` between, parts joined by `/`; write a name and a tag, such as `aegis/base:latest`",
        ],
    );
}

#[test]
fn a_digest_is_required_where_policy_says_so() {
    let policy = "[images]\nrequire_digest = true";
    check(
        policy,
        "",
        "aegis/base:1",
        &[
            "image `aegis/base:1` carries no digest, and p.toml:3 requires one; name it as `aegis/base:1@sha256:…`, or \
           by its image id",
        ],
    );
    check(policy, "", &format!("aegis/base:1@{OTHER}"), &[]);
    check(policy, "", ID, &[]);
}

#[test]
fn a_tag_that_moved_names_both_ids() {
    check(
        &format!("[images.pins]\n\"aegis/base\" = \"{OTHER}\""),
        "",
        "docker.io/aegis/base:latest",
        &[&format!(
            "the tag `aegis/base:latest` moved: it is pinned to {OTHER} and is now {ID}, says p.toml:2; tag the \
             pinned image again, or change the pin of `aegis/base:latest` in p.toml:2"
        )],
    );
}

#[test]
fn a_pinned_tag_that_stayed_is_admitted() {
    check(&format!("[images.pins]\n\"aegis/base\" = \"{ID}\""), "", "aegis/base:latest", &[]);
    check(&format!("[images.pins]\n\"aegis/base\" = \"{OTHER}\""), "", "aegis/node", &[]);
}

#[test]
fn pins_that_disagree_admit_nothing() {
    let (policy, ceiling) =
        (format!("[images.pins]\n\"a/b\" = \"{ID}\""), format!("[images.pins]\n\"a/b\" = \"{OTHER}\""));
    let resolved = resolved(&policy, &ceiling);
    assert!([ID, OTHER].iter().all(|id| admit(&task("a/b"), &resolved, id, "runc").is_err()));
}

#[test]
fn gvisor_is_refused_by_name_whatever_accepts_it() {
    let refusal = "runsc (gVisor) shows no seccomp, limits or masks and cannot take passed descriptors; not \
                   supported until its transport exists; pass `--runtime runc`";
    check_runtime("", "", "a", "runsc", &[refusal]);
    check_runtime("runtimes = [\"runsc\"]", "", "a", "runsc", &[refusal]);
    check_runtime("runtimes = [\"*\"]", "", "a", "io.containerd.runsc.v1", &[refusal]);
}

#[test]
fn a_runtime_that_policy_does_not_accept_is_refused() {
    check_runtime(
        "",
        "",
        "a",
        "crun",
        &["runtime `crun` is not accepted: `runtimes` of policy `strict` has `runc`; pass `--runtime runc`"],
    );
}

#[test]
fn a_policy_that_accepts_no_runtime_admits_nothing() {
    check(
        "runtimes = []",
        "",
        "a",
        &[
            "runtime `runc` is not accepted: `runtimes` of p.toml:2 has none; add `runc` to `runtimes` of p.toml:2",
        ],
    );
}

#[test]
fn a_workspace_is_refused_where_there_is_none() {
    check(
        "[filesystem]\nworkspace = \"none\"",
        "",
        "a",
        &["a workspace is given, and p.toml:3 admits none; pass `--no-workspace`"],
    );
    let without = TaskSpec { workspace: WorkspaceSource::None, ..task("a") };
    assert!(admit(&without, &resolved("[filesystem]\nworkspace = \"none\"", ""), ID, "runc").is_ok());
}

#[test]
fn everything_against_a_task_is_said_at_once() {
    let resolved = resolved("[resources]\npids = 500\n[images]\nallow = []", "[resources]\npids = 100");
    let denials = admit(&task("a"), &resolved, ID, "runsc").expect_err("denied");
    let fields: Vec<&str> = denials.iter().map(|it| it.field.key().path).collect();
    assert_eq!(fields, ["resources.pids", "images.allow", "runtimes"]);
}

fn check_secret(policy: &str, ceiling: &str, path: &str, expected: &[&str]) {
    let task = TaskSpec { include_secrets: vec![path.to_owned()], ..task("aegis/base") };
    let denials = admit(&task, &resolved(policy, ceiling), ID, "runc").err().unwrap_or_default();
    let said: Vec<String> = denials.iter().map(|it| format!("{it}; {}", it.hint)).collect();
    assert_eq!(said, expected);
}

#[test]
fn a_secret_goes_in_only_where_the_policy_names_it() {
    let names = "[filesystem]\ninclude_secrets = [\".env\", \"services/*/.env\"]";
    check_secret(names, "", ".env", &[]);
    check_secret(names, "", "services/a/.env", &[]);
    check_secret(
        names,
        "",
        ".npmrc",
        &[
            "flag `--include-secret` asks for `.npmrc`; `filesystem.include_secrets` of p.toml:3 does not name it; \
           write `filesystem.include_secrets = [\".npmrc\"]` into a policy file and pass it with `--sandbox`",
        ],
    );
    check_secret(
        "",
        "",
        ".env",
        &[
            "flag `--include-secret` asks for `.env`; `filesystem.include_secrets` of policy `strict` does not name it; \
           write `filesystem.include_secrets = [\".env\"]` into a policy file and pass it with `--sandbox`",
        ],
    );
}

#[test]
fn a_ceiling_bounds_the_secrets_that_a_policy_may_name() {
    let (names, bound) =
        ("[filesystem]\ninclude_secrets = [\".env\"]", "[filesystem]\ninclude_secrets = [\".npmrc\"]");
    check_secret(names, "[filesystem]\ninclude_secrets = [\".env\", \".npmrc\"]", ".env", &[]);
    let task = TaskSpec { include_secrets: vec![".env".to_owned()], ..task("aegis/base") };
    let denials = admit(&task, &resolved(names, bound), ID, "runc").expect_err("denied");
    assert!(denials.iter().all(|it| it.field == Field::IncludeSecrets), "{denials:?}");
    assert_eq!(denials.len(), 2, "the key and the flag");
}

#[test]
fn a_port_is_published_only_where_the_policy_lists_it() {
    let publish = vec![Published { host_port: 1234, port: 8080 }];
    let task = TaskSpec { publish, ..task("aegis/base") };
    let said = |policy: &str| {
        let chosen = Chosen::from_file("p.toml", policy.as_bytes()).expect("a policy");
        let resolved = resolve(&chosen, &Overrides::NONE, &Ceiling::of_host(&HOST), &HOST);
        let denials = judge(&task, &resolved, "runc");
        denials.iter().map(|it| format!("{it}; {}", it.hint)).collect::<Vec<_>>()
    };
    assert_eq!(said("network.publish = [8080]"), [""; 0]);
    let expected = "flag `--publish` asks for port 8080; `network.publish` of p.toml:1 does not list it; write \
                    `network.publish = [8080]` into a policy file and pass it with `--sandbox`";
    assert_eq!(said("network.publish = [8081]"), [expected]);
}
