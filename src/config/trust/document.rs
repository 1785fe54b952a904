//! A record of trust as it lies on the disk.

use std::io;

use serde::{Deserialize, Serialize};

use crate::config::trust::{Grant, digest};

const SCHEMA: &str = "aegis.trust/1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantDocument {
    schema: String,
    directory: String,
    digest: String,
    granted_ms: i64,
    text: String,
}

/// The bytes of a record.
pub fn write(grant: &Grant) -> io::Result<Vec<u8>> {
    let document = GrantDocument {
        schema: SCHEMA.to_owned(),
        directory: grant.directory.clone(),
        digest: grant.digest.clone(),
        granted_ms: grant.granted_ms,
        text: grant.text.clone(),
    };
    serde_json::to_vec(&document).map_err(io::Error::from)
}

/// The record in these bytes; `None` where they are none, or contradict themselves.
pub fn read(bytes: &[u8]) -> Option<Grant> {
    let document: GrantDocument = serde_json::from_slice(bytes).ok()?;
    let GrantDocument { schema, directory, digest: told, granted_ms, text } = document;
    (schema == SCHEMA && told == digest(text.as_bytes())).then_some(Grant {
        directory,
        digest: told,
        text,
        granted_ms,
    })
}
