//! An image held against a policy: its globs, its digest, its pins.

use std::collections::BTreeSet;

use crate::intake::shown;
use crate::policy::admit::who;
use crate::policy::denial::Denial;
use crate::policy::field::Field;
use crate::policy::reference::Reference;
use crate::policy::resolve::Resolved;

/// What stands against a reference as it is typed.
pub fn unlisted(image: &str, resolved: &Resolved) -> Vec<Denial> {
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

/// What stands against the image that the reference names now.
pub fn moved(reference: &Reference, resolved: &Resolved, image_id: &str) -> Vec<Denial> {
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

/// Who demands this set of globs.
fn set_by(resolved: &Resolved, globs: &BTreeSet<String>) -> String {
    if resolved.ceiling.policy.images.allow.contains(globs) {
        return resolved.ceiling.authority(Field::Allow);
    }
    format!("policy `{}`", shown(&resolved.policy_name))
}
