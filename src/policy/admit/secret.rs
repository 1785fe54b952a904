//! Secrets, held against a policy: a file that looks like one, or one of the user's store, goes in only if the policy
//! names it.

use crate::intake::secret_path::permits;
use crate::intake::shown;
use crate::policy::admit::who;
use crate::policy::denial::Denial;
use crate::policy::field::Field;
use crate::policy::lattice::names_secret;
use crate::policy::resolve::Resolved;
use crate::task::{SecretPlace, SecretRequest};

/// What stands against the files that were asked for.
pub fn unnamed(paths: &[String], resolved: &Resolved) -> Vec<Denial> {
    let named = &resolved.policy.filesystem.include_secrets;
    let mut denials = Vec::new();
    for path in paths.iter().filter(|it| !permits(named, it)) {
        let path = shown(path);
        let who = who(resolved, Field::IncludeSecrets);
        let message = format!(
            "flag `--include-secret` asks for `{path}`; `filesystem.include_secrets` of {who} does not name it"
        );
        let hint = format!(
            "write `filesystem.include_secrets = [\"{path}\"]` into a policy file and pass it with `--sandbox`"
        );
        denials.push(Denial { field: Field::IncludeSecrets, message, hint, allowed: None });
    }
    denials
}

/// What stands against the secrets of the store that were asked for.
pub fn ungranted(requests: &[SecretRequest], resolved: &Resolved) -> Vec<Denial> {
    let granted = &resolved.policy.secrets;
    let mut denials = Vec::new();
    for SecretRequest { name, place } in requests {
        let (field, names) = match place {
            SecretPlace::File(_) => (Field::SecretFiles, &granted.files),
            SecretPlace::Variable(_) => (Field::SecretEnvironment, &granted.environment),
        };
        if names_secret(names, name) {
            continue;
        }
        let (path, who) = (field.key().path, who(resolved, field));
        let message = format!(
            "flag `--secret` asks for `{name}` at `{}`; `{path}` of {who} does not name it",
            place.shown()
        );
        let hint = format!("write `{path} = [\"{name}\"]` into a policy file and pass it with `--sandbox`");
        denials.push(Denial { field, message, hint, allowed: None });
    }
    denials
}
