//! The JSON Schema of `aegis.toml`, for editors: made from the same tables as the reader. Units and ranges are in the
//! descriptions, since a schema cannot say them all; the reader is the judge.

use serde_json::{Map, Value, json};

use crate::policy::amount::Unit;
use crate::policy::document::egress::{DENY_KEYS, RULE_KEYS};
use crate::policy::document::project::{ENTRIES_MAX, KEYS, TEXT_BYTES_MAX};
use crate::policy::field::{FIELDS, Field};
use crate::policy::network::method::Method;
use crate::policy::network::rule::{PORTS_MAX, RULES_MAX};
use crate::policy::{Egress, Pull, SecretOutputs, WorkspaceMedium, shipped};

/// The schema.
pub fn project() -> Value {
    let mut properties = Map::new();
    for (key, doc) in KEYS {
        let mut shape = shape_of(key);
        shape["description"] = Value::String(doc.to_owned());
        properties.insert(key.to_owned(), shape);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "aegis.toml",
        "description": "How a project is run by Aegis. Without trust it may only tighten.",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

fn shape_of(key: &str) -> Value {
    match key {
        "image" => json!({"type": "string", "minLength": 1}),
        "workdir" => text(),
        "command" => {
            json!({"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": ENTRIES_MAX})
        }
        "outputs" => texts(text()),
        "workspace" => {
            let mut pattern = text();
            pattern["not"] = json!({"pattern": "^!"});
            let mut exclude = texts(pattern);
            exclude["description"] =
                json!("Patterns of what is left out, in the syntax of `.gitignore`, without `!`.");
            table(Map::from_iter([("exclude".to_owned(), exclude)]))
        }
        "environment" => json!({
            "type": "object",
            "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            "additionalProperties": {"type": "string"},
        }),
        _ => policy(),
    }
}

/// The keys of a policy file, in their tables.
fn policy() -> Value {
    let mut top = Map::new();
    top.insert(
        "sandbox".to_owned(),
        json!({"enum": shipped::NAMES, "description": "The shipped policy that this one begins from."}),
    );
    for field in FIELDS {
        let path = field.key().path;
        match path.split_once('.') {
            None => {
                top.insert(path.to_owned(), setting(field));
            }
            Some((above, leaf)) => {
                let entry = top.entry(above).or_insert_with(|| table(Map::new()));
                entry["properties"][leaf] = setting(field);
            }
        }
    }
    table(top)
}

fn setting(field: Field) -> Value {
    let mut shape = match field {
        Field::Amount(amount) => match amount.unit() {
            Unit::Bytes | Unit::Time => json!({"type": "string"}),
            Unit::Cpus => json!({"type": "number"}),
            Unit::Count => {
                let (min, max) = amount.range();
                json!({"type": "integer", "minimum": min, "maximum": max})
            }
        },
        Field::Ptrace | Field::EgressAudit | Field::RequireDigest => json!({"type": "boolean"}),
        Field::Workspace => json!({"enum": WorkspaceMedium::ALL.map(WorkspaceMedium::word)}),
        Field::Egress => json!({"enum": Egress::ALL.map(Egress::word)}),
        Field::EgressPorts | Field::Publish => ports(),
        Field::NetworkAllow => rules(&RULE_KEYS),
        Field::NetworkDeny => rules(&DENY_KEYS),
        Field::Pull => json!({"enum": Pull::ALL.map(Pull::word)}),
        Field::SecretOutputs => json!({"enum": SecretOutputs::ALL.map(SecretOutputs::word)}),
        Field::Allow
        | Field::Runtimes
        | Field::IncludeSecrets
        | Field::SecretFiles
        | Field::SecretEnvironment => texts(json!({"type": "string", "minLength": 1})),
        Field::Pins => json!({
            "type": "object",
            "additionalProperties": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
        }),
    };
    shape["description"] = Value::String(format!("{} {}.", field.key().doc, field.values()));
    shape
}

/// A list of rules with these keys.
fn rules(keys: &[(&str, &str)]) -> Value {
    let mut properties = Map::new();
    for (key, doc) in keys {
        let mut shape = match *key {
            "ports" => ports(),
            "methods" => texts(json!({"enum": Method::ALL.map(Method::word)})),
            "paths" => texts(json!({"type": "string", "pattern": "^/"})),
            "upgrade" | "opaque" | "private" => json!({"type": "boolean"}),
            _ => json!({"type": "string", "minLength": 1}),
        };
        shape["description"] = Value::String((*doc).to_owned());
        properties.insert((*key).to_owned(), shape);
    }
    let mut rule = table(properties);
    rule["required"] = json!(["host"]);
    json!({"type": "array", "items": rule, "maxItems": RULES_MAX})
}

fn ports() -> Value {
    json!({
        "type": "array",
        "items": {"type": "integer", "minimum": 1, "maximum": 65_535},
        "maxItems": PORTS_MAX,
        "uniqueItems": true,
    })
}

fn table(properties: Map<String, Value>) -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

fn text() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": TEXT_BYTES_MAX})
}

fn texts(item: Value) -> Value {
    json!({"type": "array", "items": item, "maxItems": ENTRIES_MAX})
}
