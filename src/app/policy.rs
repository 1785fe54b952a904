//! A policy by itself: what it says, and whether a run under it would be allowed on this host.

use crate::app::prepare::{choose, resolved};
use crate::app::project::Trust;
use crate::app::{AppError, host};
use crate::config::Directories;
use crate::policy::{Overrides, Policy, canonical};

/// A policy as a file writes it: every key, in order.
pub fn text(name: &str) -> Result<String, AppError> {
    let policy: Policy = choose(Some(name))?.policy;
    // The first line names the form that the digest is taken of, and is no key.
    let text = canonical::render(&policy);
    Ok(text.split_once('\n').map_or(String::new(), |(_, keys)| keys.to_owned()))
}

/// Holds a policy against the ceiling. What is not allowed is an error; what would be lowered is told.
pub fn check(name: &str) -> Result<Vec<String>, AppError> {
    let directories = Directories::of_this_user()?;
    let asked = (Some(name), &Overrides::NONE);
    let resolved = resolved(asked, None, &Trust::Unneeded, &host::amounts(&directories.state))?;
    if !resolved.denials.is_empty() {
        return Err(AppError::Denied(resolved.denials));
    }
    Ok(resolved.clipped.iter().map(ToString::to_string).collect())
}
