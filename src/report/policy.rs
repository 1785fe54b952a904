//! A policy with its origins, as the record keeps it.

use serde_json::{Value, json};

use crate::policy::{Origin, Resolved};

/// What was asked for explicitly: the fields that a flag or a file set.
pub fn asked(resolved: &Resolved) -> String {
    let asked = |origin: &Origin| matches!(origin, Origin::File { .. } | Origin::Flag(_));
    fields(resolved, asked).to_string()
}

/// What policy and flags came to, before the ceiling: every field with who set it.
pub fn resolved(resolved: &Resolved) -> String {
    fields(resolved, |_| true).to_string()
}

/// What is enforced.
pub fn effective(resolved: &Resolved) -> String {
    fields(resolved, |_| true).to_string()
}

fn fields(resolved: &Resolved, kept: impl Fn(&Origin) -> bool) -> Value {
    let fields = resolved.origins.iter().filter(|it| kept(&it.origin));
    Value::Array(
        fields
            .map(|it| json!({"field": it.field.key().path, "value": it.value, "origin": it.origin.to_string()}))
            .collect(),
    )
}
