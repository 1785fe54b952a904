//! A policy with its origins, as the record keeps it.

use serde_json::{Value, json};

use crate::policy::{FieldOrigin, Origin, Resolved};

/// What was asked for explicitly: the fields that a flag or a file set.
pub fn asked(resolved: &Resolved) -> String {
    let explicit = |it: &&FieldOrigin| matches!(it.origin, Origin::File { .. } | Origin::Flag(_));
    fields(resolved.asked.iter().filter(explicit))
}

/// What policy and flags came to, before the ceiling and the host: every field with who set it.
pub fn resolved(resolved: &Resolved) -> String {
    fields(resolved.asked.iter())
}

/// What is enforced, and who had the last word.
pub fn effective(resolved: &Resolved) -> String {
    fields(resolved.origins.iter())
}

fn fields<'a>(fields: impl Iterator<Item = &'a FieldOrigin>) -> String {
    let listed = fields
        .map(|it| json!({"field": it.field.key().path, "value": it.value, "origin": it.origin.to_string()}));
    Value::Array(listed.collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Ceiling, HostAmounts, Overrides, default_policy, resolve};

    /// A host with one CPU, where two were asked for by flag.
    fn check(document: fn(&Resolved) -> String, expected: &str) {
        let host = HostAmounts {
            memory_bytes: 16 << 30,
            cpus_milli: 1_000,
            pids: 32_768,
            nofile: 65_536,
            disk_bytes: 100 << 30,
        };
        let flags = Overrides { cpus_milli: Some(2_000), ..Overrides::NONE };
        let policy = default_policy().expect("strict");
        let document = document(&resolve(&policy, &flags, &Ceiling::of_host(&host), &host));
        let fields: Vec<Value> = serde_json::from_str(&document).expect("JSON");
        let cpus: Vec<_> = fields.iter().filter(|it| it["field"] == "resources.cpus").collect();
        let shown = cpus.iter().map(|it| format!("{} {}", it["value"], it["origin"]));
        assert_eq!(shown.collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn what_was_asked_for_stays_as_it_was_asked() {
        check(asked, r#""2" "flag `--cpus`""#);
    }

    #[test]
    fn resolved_is_before_the_host_lowers_it() {
        check(resolved, r#""2" "flag `--cpus`""#);
    }

    #[test]
    fn effective_is_what_is_left() {
        check(effective, r#""1" "host""#);
    }
}
