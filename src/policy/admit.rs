//! The last word before anything is made: a task held against its resolved policy. No container is made without an
//! [`Admitted`], and only [`admit`] makes one; at start it is called again, so that a policy tightened meanwhile wins.

use std::collections::BTreeSet;

use crate::intake::shown;
use crate::policy::canonical;
use crate::policy::denial::Denial;
use crate::policy::field::{Field, Setting};
use crate::policy::lattice::{ANY_RUNTIME, accepts_runtime};
use crate::policy::reference::Reference;
use crate::policy::resolve::{Clipped, FieldOrigin, Resolved};
use crate::policy::{Policy, WorkspaceMedium};
use crate::task::{TaskSpec, WorkspaceSource};

/// A task that may run, under exactly this policy, as this image, with this runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    policy: Policy,
    policy_name: String,
    digest: String,
    origins: Vec<FieldOrigin>,
    clipped: Vec<Clipped>,
    image: String,
    image_id: String,
    runtime: String,
}

/// Admits a task, or says everything that stands against it. `image_id` is the id that the engine has for the task's
/// image now, and `runtime` what it would be run with: the flag's, or the engine's default.
pub fn admit(
    task: &TaskSpec,
    resolved: &Resolved,
    image_id: &str,
    runtime: &str,
) -> Result<Admitted, Vec<Denial>> {
    let mut denials = judge(task, resolved, runtime);
    if let Ok(reference) = Reference::parse(&task.image) {
        denials.extend(moved(&reference, resolved, image_id));
    }
    if !denials.is_empty() {
        return Err(denials);
    }
    Ok(Admitted {
        digest: canonical::digest(&resolved.policy),
        policy: resolved.policy.clone(),
        policy_name: resolved.policy_name.clone(),
        origins: resolved.origins.clone(),
        clipped: resolved.clipped.clone(),
        image: task.image.clone(),
        image_id: image_id.to_owned(),
        runtime: runtime.to_owned(),
    })
}

/// Everything that stands against a task before its image is looked at: to be asked before one is fetched.
pub fn judge(task: &TaskSpec, resolved: &Resolved, runtime: &str) -> Vec<Denial> {
    let mut denials = resolved.denials.clone();
    denials.extend(unlisted(&task.image, resolved));
    denials.extend(unaccepted(runtime, resolved));
    let medium = resolved.policy.filesystem.workspace;
    if medium == WorkspaceMedium::None && task.workspace != WorkspaceSource::None {
        let message = format!("a workspace is given, and {} admits none", who(resolved, Field::Workspace));
        let hint = "pass `--no-workspace`".to_owned();
        denials.push(Denial { field: Field::Workspace, message, hint, allowed: None });
    }
    denials
}

fn unlisted(image: &str, resolved: &Resolved) -> Vec<Denial> {
    let denial = |field, message, hint| Denial { field, message, hint, allowed: None };
    let reference = match Reference::parse(image) {
        Ok(reference) => reference,
        Err(err) => {
            let hint = "write a name and a tag, such as `aegis/base:latest`".to_owned();
            return vec![denial(Field::Allow, err.to_string(), hint)];
        }
    };
    let images = &resolved.policy.images;
    let mut denials = Vec::new();
    for globs in images.allow.iter().filter(|globs| !globs.iter().any(|it| reference.matches(it))) {
        let who = set_by(resolved, globs);
        let image = shown(image);
        if globs.is_empty() {
            let message = format!(
                "image `{image}` is not allowed: `images.allow` of {who} is empty, which allows none"
            );
            denials.push(denial(
                Field::Allow,
                message,
                format!("add a glob for it to `images.allow` of {who}"),
            ));
            continue;
        }
        let listed: Vec<String> = globs.iter().map(|it| format!("`{it}`")).collect();
        let listed = listed.join(" or ");
        let message = format!("image `{image}` is not on the allow list of {who}: {listed}");
        denials.push(denial(
            Field::Allow,
            message,
            format!("name an image that matches {listed}, or add a glob for it"),
        ));
    }
    if images.require_digest && !reference.has_digest() {
        let who = who(resolved, Field::RequireDigest);
        let message = format!("image `{}` carries no digest, and {who} requires one", shown(image));
        let hint = format!("name it as `{}@sha256:…`, or by its image id", shown(image));
        denials.push(denial(Field::RequireDigest, message, hint));
    }
    denials
}

fn unaccepted(runtime: &str, resolved: &Resolved) -> Option<Denial> {
    let accepted = &resolved.policy.runtimes;
    let hint = |usable: &BTreeSet<String>| match usable.iter().find(|it| !is_gvisor(it)) {
        Some(name) => format!("pass `--runtime {}`", if name == ANY_RUNTIME { "runc" } else { name }),
        None => format!("add `runc` to `runtimes` of {}", who(resolved, Field::Runtimes)),
    };
    if is_gvisor(runtime) {
        let message =
            "runsc (gVisor) shows no seccomp, limits or masks and cannot take passed descriptors; not \
                       supported until its transport exists"
                .to_owned();
        let flagged = accepted.iter().all(|it| is_gvisor(it));
        let usable = if flagged { &resolved.ceiling.policy.runtimes } else { accepted };
        return Some(Denial { field: Field::Runtimes, message, hint: hint(usable), allowed: None });
    }
    if accepts_runtime(accepted, runtime) {
        return None;
    }
    let listed: Vec<String> = accepted.iter().map(|it| format!("`{it}`")).collect();
    let listed = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
    let message = format!(
        "runtime `{}` is not accepted: `runtimes` of {} has {listed}",
        shown(runtime),
        who(resolved, Field::Runtimes)
    );
    let allowed = (!accepted.is_empty()).then(|| Setting::Runtimes(accepted.clone()));
    Some(Denial { field: Field::Runtimes, message, hint: hint(accepted), allowed })
}

/// Whether this names gVisor: by itself, with a suffix, or as containerd's shim.
fn is_gvisor(runtime: &str) -> bool {
    let lower = runtime.to_ascii_lowercase();
    lower.contains("runsc") || lower.contains("gvisor")
}

fn moved(reference: &Reference, resolved: &Resolved, image_id: &str) -> Vec<Denial> {
    let mut denials = Vec::new();
    for key in reference.pin_keys() {
        let Some(ids) = resolved.policy.images.pins.get(&key) else {
            continue;
        };
        if ids.iter().all(|it| it == image_id) {
            continue;
        }
        let pinned: Vec<&str> = ids.iter().map(String::as_str).collect();
        let who = who(resolved, Field::Pins);
        let message = format!(
            "the tag `{key}` moved: it is pinned to {} and is now {}, says {who}",
            pinned.join(" and "),
            shown(image_id)
        );
        let hint = format!("tag the pinned image again, or change the pin of `{key}` in {who}");
        denials.push(Denial { field: Field::Pins, message, hint, allowed: None });
    }
    denials
}

/// Who set a field's effective value.
fn who(resolved: &Resolved, field: Field) -> String {
    let found = resolved.origins.iter().find(|it| it.field == field);
    found.map_or_else(|| "the policy".to_owned(), |it| it.origin.to_string())
}

/// Who demands this set of globs.
fn set_by(resolved: &Resolved, globs: &BTreeSet<String>) -> String {
    if resolved.ceiling.policy.images.allow.contains(globs) {
        return resolved.ceiling.authority(Field::Allow);
    }
    format!("policy `{}`", shown(&resolved.policy_name))
}

impl Admitted {
    /// The effective policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The name of the policy that was chosen: a shipped name, or a file.
    pub fn policy_name(&self) -> &str {
        &self.policy_name
    }

    /// SHA-256 of the effective policy's canonical text, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Where each field's value came from.
    pub fn origins(&self) -> &[FieldOrigin] {
        &self.origins
    }

    /// What was lowered without having been asked for.
    pub fn clipped(&self) -> &[Clipped] {
        &self.clipped
    }

    /// The image reference as typed.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// The image id that was judged: the only one that may be run.
    pub fn image_id(&self) -> &str {
        &self.image_id
    }

    /// The runtime that was judged.
    pub fn runtime(&self) -> &str {
        &self.runtime
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ceiling::tests::HOST;
    use crate::policy::{Ceiling, Chosen, Overrides, resolve};

    const ID: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    const OTHER: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

    fn task(image: &str) -> TaskSpec {
        TaskSpec {
            name: None,
            labels: Vec::new(),
            command: vec![b"true".to_vec()],
            image: image.to_owned(),
            workspace: WorkspaceSource::Directory("/work".into()),
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
            &[
                "runtime `crun` is not accepted: `runtimes` of policy `strict` has `runc`; pass `--runtime runc`",
            ],
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
}
