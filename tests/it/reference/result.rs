//! The page of the result object, from its schema: a table for each kind of object.

use std::fmt::Write;

use aegis::report::json::RunJson;
use serde_json::{Map, Value};

use super::check;

#[test]
fn the_result_object_is_as_its_schema_has_it() {
    let schema = schemars::schema_for!(RunJson);
    let whole = schema.as_value();
    let mut page = "# The result object\n\nGenerated from the program. `--result FILE` and `aegis show RUN --json` give this object; \
                    its schema is `docs/schemas/result-1.json`.\nA field that may be `null` may also be absent.\n\n## run\n"
        .to_owned();
    writeln!(page, "{}\n", words(whole)).expect("a string");
    fields(whole, &mut page);
    for (name, object) in whole["$defs"].as_object().expect("definitions") {
        writeln!(page, "\n## {}\n{}\n", title(name), words(object)).expect("a string");
        match object.get("oneOf").and_then(Value::as_array) {
            Some(kinds) => variants(kinds, &mut page),
            None => fields(object, &mut page),
        }
    }
    check("result.md", &page);
}

/// A description in one line.
fn words(object: &Value) -> String {
    object["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}

/// `OutcomeJson` as a heading.
fn title(name: &str) -> String {
    name.trim_end_matches("Json").to_lowercase()
}

fn properties(object: &Value) -> &Map<String, Value> {
    object["properties"].as_object().expect("an object")
}

fn fields(object: &Value, page: &mut String) {
    page.push_str("| field | type | what it is |\n|---|---|---|\n");
    for (name, field) in properties(object) {
        writeln!(page, "| `{name}` | {} | {} |", kind(field), words(field)).expect("a string");
    }
}

/// An object that is one of several, told apart by `kind`.
fn variants(kinds: &[Value], page: &mut String) {
    page.push_str("| `kind` | other fields | what it is |\n|---|---|---|\n");
    for object in kinds {
        let name = object["properties"]["kind"]["const"].as_str().expect("a kind");
        let mut others = Vec::new();
        for (name, field) in properties(object).iter().filter(|(name, _)| *name != "kind") {
            others.push(format!("`{name}`, {}: {}", kind(field), words(field)));
        }
        writeln!(page, "| `{name}` | {} | {} |", others.join("<br>"), words(object)).expect("a string");
    }
}

/// A type in words, with a link where it is another table.
fn kind(field: &Value) -> String {
    if let Some(reference) = field["$ref"].as_str() {
        let name = title(reference.rsplit('/').next().expect("a name"));
        return format!("[{name}](#{name})");
    }
    if let Some(either) = field["anyOf"].as_array() {
        return either.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    match &field["type"] {
        Value::String(it) if it == "array" => format!("array of {}", kind(&field["items"])),
        Value::String(it) => it.clone(),
        Value::Array(either) => either.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "any".to_owned(),
    }
}
