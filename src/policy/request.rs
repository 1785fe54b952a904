//! What a project's file asks of the policy, held against what the run would get without it.
//!
//! The file is written by whoever wrote the project, so without the user's trust it may only tighten: each field that
//! would come out wider is a denial, and while there is any the run has the policy that it would have without the file.
//! The user's flags count on both sides: what the user asks for, nobody else has to.

use crate::intake::shown;
use crate::policy::denial::Denial;
use crate::policy::document::Document;
use crate::policy::document::project::{FILE_NAME, Written};
use crate::policy::field::{Field, Setting};
use crate::policy::lattice::{le, meet};
use crate::policy::origin::Origin;
use crate::policy::reference::Reference;
use crate::policy::shipped::Source;
use crate::policy::{
    Ceiling, ChoiceError, Chosen, HostAmounts, Overrides, Policy, Resolved, default_policy, resolve, shipped,
};

/// Whether the user has agreed to this very file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent<'a> {
    /// Yes.
    Given,
    /// No.
    Missing {
        /// What the user can do.
        hint: &'a str,
    },
}

/// A field that comes out wider than it would without the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wider {
    /// The field.
    pub field: Field,
    /// What the file comes to, as a policy file writes it.
    pub asked: String,
    /// Where the file says so.
    pub origin: Origin,
    /// The value without the file.
    pub granted: Setting,
}

/// What the file comes to: the policy that it names, or the default, and its keys over it. Globs, pins and
/// denials are demands, and are added to those that hold already.
pub fn requested(request: &Document) -> Result<Chosen, ChoiceError> {
    let base = match &request.extends {
        Some(name) => shipped(name)?,
        None => default_policy()?,
    };
    let mut policy = request.over(&base.policy)?;
    let Policy { images, network, .. } = meet(&base.policy, &policy);
    policy.images.allow = images.allow;
    policy.images.pins = images.pins;
    policy.network.deny = network.deny;
    Ok(Chosen { base: base.base, policy, source: Source::Project(request.clone()) })
}

/// The fields of a request that are wider than those of the default policy, flags counted on both sides.
pub fn wider(requested: &Chosen, overrides: &Overrides) -> Result<Vec<Wider>, ChoiceError> {
    let without = flagged(&default_policy()?.policy, overrides);
    let with = flagged(&requested.policy, overrides);
    let mut found = Vec::new();
    for (asked, granted) in with.settings().into_iter().zip(without.settings()) {
        let mut alone = without.clone();
        asked.apply(&mut alone);
        if !le(&alone, &without) {
            let field = asked.field();
            let origin = requested.origin(field);
            found.push(Wider { field, asked: asked.to_string(), origin, granted });
        }
    }
    Ok(found)
}

/// What a run would get with the file: [`resolve()`] of the request where it may have it, else of the default policy with
/// a denial for each field that is wider.
pub fn resolve_request(
    request: &Document,
    consent: Consent<'_>,
    overrides: &Overrides,
    ceiling: &Ceiling,
    host: &HostAmounts,
) -> Result<Resolved, ChoiceError> {
    let requested = requested(request)?;
    let Consent::Missing { hint } = consent else {
        return Ok(resolve(&requested, overrides, ceiling, host));
    };
    let wider = wider(&requested, overrides)?;
    if wider.is_empty() {
        return Ok(resolve(&requested, overrides, ceiling, host));
    }
    let mut resolved = resolve(&default_policy()?, overrides, ceiling, host);
    resolved.denials.extend(wider.iter().map(|it| denial(it, hint)));
    Ok(resolved)
}

/// Whether an image of the file is another one than the run would have without it.
pub fn is_another_image(asked: &str, otherwise: &str) -> bool {
    match (Reference::parse(asked), Reference::parse(otherwise)) {
        (Ok(asked), Ok(otherwise)) => asked.normal() != otherwise.normal(),
        (Err(_), _) | (_, Err(_)) => true,
    }
}

/// The denial of another image.
pub fn image_denial(asked: &Written<String>, otherwise: &str, hint: &str) -> Denial {
    let message = format!(
        "{FILE_NAME}:{} asks for the image `{}`, and without trust the run gets `{}`",
        asked.line,
        shown(&asked.value),
        shown(otherwise)
    );
    Denial { field: Field::Allow, message, hint: hint.to_owned(), allowed: None }
}

fn denial(wider: &Wider, hint: &str) -> Denial {
    let (asked, granted) = (shown(&wider.asked), &wider.granted);
    let message = format!("{} asks for {asked}, and without trust the run gets {granted}", wider.origin);
    Denial { field: wider.field, message, hint: hint.to_owned(), allowed: Some(wider.granted.clone()) }
}

/// A policy with the flags over it; a flag out of range asks for nothing, and is denied where flags are resolved.
fn flagged(policy: &Policy, overrides: &Overrides) -> Policy {
    let mut flagged = policy.clone();
    for setting in overrides.settings(policy) {
        setting.apply(&mut flagged);
    }
    flagged
}

#[cfg(test)]
mod tests;
