//! Tokens, as administrators handle them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A token that is to be made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTokenJson {
    /// Its name, unique.
    pub name: String,
    /// `submit`, `read`, `approve`, `admin` or `worker`.
    pub role: String,
    /// The one project that it opens; without it every one.
    #[serde(default)]
    pub project: Option<String>,
    /// How long it is valid, as `30d`; without it until it is revoked.
    #[serde(default)]
    pub expires_in: Option<String>,
}

/// A token that was made. The secret is never shown again.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenMadeJson {
    /// Its name.
    pub name: String,
    /// What a request carries: `Authorization: Bearer …`.
    pub secret: String,
}

/// A token.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenJson {
    /// Its name.
    pub name: String,
    /// `submit`, `read`, `approve`, `admin` or `worker`.
    pub role: String,
    /// The one project that it opens; `null` is every one.
    pub project: Option<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it ends.
    pub expires_at: Option<String>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<String>,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// Every token.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokensJson {
    /// The tokens.
    pub tokens: Vec<TokenJson>,
}
