//! Files that look like secrets, held against a policy: one goes in only if the policy names it.

use crate::intake::secret_path::permits;
use crate::intake::shown;
use crate::policy::admit::who;
use crate::policy::denial::Denial;
use crate::policy::field::Field;
use crate::policy::resolve::Resolved;

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
