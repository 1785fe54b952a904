//! The last word before anything is made: a task held against its resolved policy. No container is made without an
//! [`Admitted`], and only [`admit`] makes one; at start it is called again, so that a policy tightened meanwhile wins.

mod image;
mod publish;
mod runtime;
mod secret;

use crate::policy::canonical;
use crate::policy::denial::Denial;
use crate::policy::field::Field;
use crate::policy::origin::{Clipped, FieldOrigin};
use crate::policy::reference::Reference;
use crate::policy::resolve::Resolved;
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
        denials.extend(image::moved(&reference, resolved, image_id));
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
    denials.extend(image::unlisted(&task.image, resolved));
    denials.extend(runtime::unaccepted(runtime, resolved));
    denials.extend(secret::unnamed(&task.include_secrets, resolved));
    denials.extend(publish::unlisted(&task.publish, resolved));
    denials.extend(secret::ungranted(&task.secrets, resolved));
    let medium = resolved.policy.filesystem.workspace;
    if medium == WorkspaceMedium::None && task.workspace != WorkspaceSource::None {
        let message = format!("a workspace is given, and {} admits none", who(resolved, Field::Workspace));
        let hint = "pass `--no-workspace`".to_owned();
        denials.push(Denial { field: Field::Workspace, message, hint, allowed: None });
    }
    denials
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

/// Who set a field's effective value.
fn who(resolved: &Resolved, field: Field) -> String {
    let found = resolved.origins.iter().find(|it| it.field == field);
    found.map_or_else(|| "the policy".to_owned(), |it| it.origin.to_string())
}

#[cfg(test)]
mod tests;
