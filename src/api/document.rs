//! The OpenAPI document, made from the routes themselves, and a page that shows it. Both are made once.

use std::fmt::Write;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::api::{Shared, rights, router};
use crate::report::json::RunJson;

/// The document.
pub fn openapi() -> Value {
    let mut document = serde_json::to_value(router::documented()).unwrap_or_default();
    document["info"] = json!({
        "title": "Aegis",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Runs work that nobody should have to trust. Every error is `application/problem+json`.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    });
    document["security"] = json!([{"token": []}]);
    document["components"]["securitySchemes"] = json!({"token": {"type": "http", "scheme": "bearer"}});
    published(&mut document);
    if let Some(paths) = document["paths"].as_object_mut() {
        *paths =
            std::mem::take(paths).into_iter().map(|(path, item)| (rights::documented(&path), item)).collect();
    }
    each_operation(&mut document, |path, operation| {
        let problem = json!({"$ref": "#/components/schemas/ProblemJson"});
        let content = json!({"application/problem+json": {"schema": problem}});
        operation["responses"]["default"] = json!({"description": "refused or failed", "content": content});
        if ["/livez", "/readyz"].contains(&path) {
            operation["security"] = json!([]);
        }
    });
    document
}

/// The object of a run has a published schema of its own: it is taken over as it is.
fn published(document: &mut Value) {
    let settings = schemars::generate::SchemaSettings::draft2020_12()
        .with(|it| it.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let _ = generator.subschema_for::<RunJson>();
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else { return };
    for (name, schema) in generator.take_definitions(true) {
        schemas.insert(name, schema);
    }
}

fn each_operation(document: &mut Value, mut act: impl FnMut(&str, &mut Value)) {
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for (path, item) in paths {
        for (_, operation) in item.as_object_mut().into_iter().flatten() {
            act(path, operation);
        }
    }
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "server", responses((status = 200, body = Object)))]
pub(super) async fn json(State(api): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], api.document.clone()).into_response()
}

/// This document for people.
#[utoipa::path(get, path = "/api/v1/docs", tag = "server", responses((status = 200, content_type = "text/html", body = String)))]
pub(super) async fn page(State(api): State<Shared>) -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox";
    let headers =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, policy)];
    let document = serde_json::from_str(&api.document).unwrap_or_default();
    (headers, html(&document)).into_response()
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
code{background:#f3f3f3;padding:.1em .3em;border-radius:3px}h2{margin-top:2.5rem;border-bottom:1px solid #ddd}\
table{border-collapse:collapse}td{padding:.2rem 1rem .2rem 0;vertical-align:top}\
@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}code{background:#222}}";

fn html(document: &Value) -> String {
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Aegis API</title><style>{STYLE}</style><h1>Aegis API</h1>"
    );
    page.push_str("<p>Send <code>authorization: Bearer TOKEN</code>; bodies are JSON. <a href=\"openapi.json\">openapi.json</a> has every type.");
    let none = Map::new();
    for (path, item) in document["paths"].as_object().unwrap_or(&none) {
        for (method, operation) in item.as_object().unwrap_or(&none) {
            let _ = write!(page, "<h2><code>{} {}</code></h2>", method.to_uppercase(), escaped(path));
            let words = ["summary", "description"].map(|it| operation[it].as_str().unwrap_or_default());
            let _ = write!(page, "<p>{} {}<table>", escaped(words[0]), escaped(words[1]));
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let [name, place, about] = ["name", "in", "description"]
                    .map(|it| escaped(parameter[it].as_str().unwrap_or_default()));
                let _ = write!(page, "<tr><td><code>{name}</code><td>{place}<td>{about}");
            }
            page.push_str("</table>");
        }
    }
    page.push_str("<h1>Types</h1>");
    for (name, schema) in document["components"]["schemas"].as_object().unwrap_or(&none) {
        let about = escaped(schema["description"].as_str().unwrap_or_default());
        let _ = write!(page, "<h2><code>{}</code></h2><p>{about}<table>", escaped(name));
        for (field, of) in schema["properties"].as_object().unwrap_or(&none) {
            let about = escaped(of["description"].as_str().unwrap_or_default());
            let _ = write!(page, "<tr><td><code>{}</code><td>{about}", escaped(field));
        }
        page.push_str("</table>");
    }
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{RIGHTS, documented};

    /// Every route of the document has its need, and the other way round: none is forgotten, none is left over.
    #[test]
    fn routes_and_needs_are_the_same() {
        let mut found = Vec::new();
        each_operation(&mut openapi(), |_, _| {});
        for (path, item) in openapi()["paths"].as_object().expect("paths") {
            for method in item.as_object().expect("operations").keys() {
                found.push((method.to_uppercase(), path.clone()));
            }
        }
        let mut needs: Vec<_> = RIGHTS.iter().map(|it| (it.0.to_owned(), documented(it.1))).collect();
        found.sort();
        needs.sort();
        assert_eq!(found, needs);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = openapi();
        let text = document.to_string();
        for (at, mark) in text.match_indices("#/components/schemas/") {
            let name = text[at + mark.len()..].split('"').next().expect("a name");
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
        assert!(text.contains("\"openapi\":\"3.1."), "{text:.80}");
    }

    #[test]
    fn the_page_shows_every_path() {
        let page = html(&openapi());
        for (_, path, _) in RIGHTS {
            assert!(page.contains(&documented(path)), "{path}");
        }
    }
}
