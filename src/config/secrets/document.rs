//! The store's content before it is encrypted.

use std::io;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::config::secrets::{Origin, SECRETS_MAX, Secret};
use crate::intake::secret_name;

const SCHEMA: &str = "aegis.secrets/1";
/// Bytes of one secret beside its value, more or less: what a buffer begins with.
const BYTES_BESIDE: usize = 512;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreDocument {
    schema: String,
    secrets: Vec<SecretDocument>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretDocument {
    name: String,
    origin: OriginDocument,
    set_ms: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum OriginDocument {
    Value(String),
    Variable(String),
    File(PathBuf),
}

/// The text of a store.
pub fn write(secrets: &[Secret]) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut room = BYTES_BESIDE;
    let mut documents = Vec::with_capacity(secrets.len());
    for secret in secrets {
        let origin = match &secret.origin {
            Origin::Stored(value) => {
                let text = STANDARD.encode(value.expose_secret());
                room += text.len();
                OriginDocument::Value(text)
            }
            Origin::Variable(variable) => OriginDocument::Variable(variable.clone()),
            Origin::File(path) => {
                // A path has at most six times its bytes in JSON.
                room += path.as_os_str().len() * 6;
                OriginDocument::File(path.clone())
            }
        };
        room += BYTES_BESIDE;
        documents.push(SecretDocument { name: secret.name.clone(), origin, set_ms: secret.set_ms });
    }
    // Room for all of it: growing would leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    let mut document = StoreDocument { schema: SCHEMA.to_owned(), secrets: documents };
    let written = serde_json::to_writer(&mut *text, &document);
    for secret in &mut document.secrets {
        if let OriginDocument::Value(value) = &mut secret.origin {
            value.zeroize();
        }
    }
    written.map_err(io::Error::from)?;
    Ok(text)
}

/// The store in this text; `None` where it is none.
pub fn read(text: &[u8]) -> Option<Vec<Secret>> {
    let document: StoreDocument = serde_json::from_slice(text).ok()?;
    if document.schema != SCHEMA || document.secrets.len() > SECRETS_MAX {
        return None;
    }
    let mut secrets = Vec::with_capacity(document.secrets.len());
    for SecretDocument { name, origin, set_ms } in document.secrets {
        let origin = match origin {
            OriginDocument::Value(text) => {
                let text = Zeroizing::new(text);
                Origin::Stored(SecretSlice::from(STANDARD.decode(text.as_bytes()).ok()?))
            }
            OriginDocument::Variable(variable) => Origin::Variable(variable),
            OriginDocument::File(path) => Origin::File(path),
        };
        secrets.push(Secret { name: secret_name::parse(&name).ok()?, origin, set_ms });
    }
    Some(secrets)
}
