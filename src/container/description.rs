//! What an engine says of itself to a person who looks into its health: more than a run depends on.

use crate::container::EngineFacts;

/// An engine, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineDescription {
    /// What a run depends on.
    pub facts: EngineFacts,
    /// The programs that it is made of.
    pub components: Vec<Component>,
    /// How it keeps layers: `overlay2`, `vfs`, ….
    pub storage_driver: String,
    /// Where it keeps images and containers, on its own host.
    pub root_directory: String,
    /// The runtime of a container that names none.
    pub default_runtime: String,
    /// Whether containers outlive a restart of the engine; `None` where it does not tell.
    pub live_restore: Option<bool>,
    /// What it warns of, in its own words.
    pub warnings: Vec<String>,
    /// The kernel under it.
    pub kernel_version: String,
}

/// A program of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// `Engine`, `containerd`, `runc`, ….
    pub name: String,
    /// As it tells its version.
    pub version: String,
    /// The commit or, from a distribution, the package's version.
    pub build: String,
}
