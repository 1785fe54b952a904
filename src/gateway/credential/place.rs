//! The place of a credential in a request: a header, basic authentication, or a parameter of the query.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use zeroize::Zeroizing;

/// What needs no escape in a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Stands for the value in a template.
const HOLE: &str = "{}";

/// How a credential is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// In a header.
    Header {
        /// Its name.
        name: HeaderName,
        /// Its value, with `{}` for the credential's.
        template: String,
    },
    /// By basic authentication, the value as password.
    Basic {
        /// The user.
        user: String,
    },
    /// As a parameter of the query.
    Query {
        /// The parameter's name.
        key: String,
    },
}

impl How {
    /// Puts the value in its place, and nothing else there. `None` where it cannot stand there.
    pub(super) fn put(&self, value: &str, head: &mut Parts) -> Option<()> {
        match self {
            Self::Header { name, template } => {
                let text = Zeroizing::new(template.replacen(HOLE, value, 1));
                put_header(&mut head.headers, name, &text)
            }
            Self::Basic { user } => {
                let pair = Zeroizing::new(format!("{user}:{value}"));
                let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
                put_header(&mut head.headers, &AUTHORIZATION, &text)
            }
            Self::Query { key } => put_parameter(&mut head.uri, key, value),
        }
    }
}

/// Servers that hand headers on as variables take an underscore for a hyphen: both spellings are removed.
fn put_header(headers: &mut HeaderMap, name: &HeaderName, text: &str) -> Option<()> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    let plain = name.as_str().replace('_', "-");
    let aliases: Vec<HeaderName> =
        headers.keys().filter(|it| it.as_str().replace('_', "-") == plain).cloned().collect();
    for alias in aliases {
        headers.remove(alias);
    }
    headers.insert(name.clone(), value);
    Some(())
}

fn put_parameter(uri: &mut Uri, key: &str, value: &str) -> Option<()> {
    let query = uri.query().unwrap_or_default();
    // A semicolon separates parameters for some servers.
    let others = query.split(['&', ';']).filter(|it| !it.is_empty() && !is_named(it, key));
    let mut kept = others.fold(Zeroizing::new(String::new()), |mut kept, it| {
        kept.push_str(it);
        kept.push('&');
        kept
    });
    kept.push_str(&utf8_percent_encode(key, ESCAPED).to_string());
    kept.push('=');
    kept.push_str(&utf8_percent_encode(value, ESCAPED).to_string());
    let target = PathAndQuery::try_from(format!("{}?{}", uri.path(), kept.as_str())).ok()?;
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(target);
    *uri = Uri::from_parts(parts).ok()?;
    Some(())
}

/// Whether a parameter has this name, however it is escaped.
fn is_named(parameter: &str, key: &str) -> bool {
    let name = parameter.split('=').next().unwrap_or_default().replace('+', " ");
    let decoded: Vec<u8> = percent_decode_str(&name).collect();
    decoded.eq_ignore_ascii_case(key.as_bytes())
}
