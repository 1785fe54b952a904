//! What is read and written over HTTP. Every type that is read refuses fields that it does not know.

pub mod artifact;
pub mod attach;
pub mod object;
pub mod problem;
pub mod project;
pub mod run;
pub mod submit;
pub mod token;
pub mod work;
pub mod worker;

use serde::Serialize;
use utoipa::ToSchema;

/// Who asks.
#[derive(Debug, Clone, Serialize, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhoamiJson {
    /// `uid:1000` or `token:NAME`.
    pub name: String,
    /// `submit`, `read`, `approve`, `admin` or `worker`.
    pub role: String,
    /// The one project that is open; `null` is every one.
    pub project: Option<String>,
}

/// A policy that runs may name.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PolicyNameJson {
    /// What a submission names.
    pub name: String,
    /// Whether a run that names none gets it.
    pub default: bool,
}

/// The policies that runs may name.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PoliciesJson {
    /// Strictest first.
    pub policies: Vec<PolicyNameJson>,
}

/// Whether the server can do its work.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReadyJson {
    /// It can.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

/// An uploaded workspace.
#[derive(Debug, Clone, Serialize, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadJson {
    /// `sha256:…` of the bytes that were sent.
    pub digest: String,
    /// How many they were.
    pub bytes: u64,
}
