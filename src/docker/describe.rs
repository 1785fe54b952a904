//! An engine's description of itself, for `aegis doctor`.

use bollard::models::{SystemInfo, SystemVersion};

use crate::container::description::{Component, EngineDescription};
use crate::container::{Engine, EngineError};
use crate::docker::{DockerEngine, failure};

/// Entries of any list in an answer that are looked at.
const LISTED_MAX: usize = 100;

impl DockerEngine {
    /// What it says of itself now.
    pub async fn describe(&self) -> Result<EngineDescription, EngineError> {
        let facts = self.facts().await?;
        let (version, info) = tokio::join!(self.client().version(), self.client().info());
        let told = |it| failure::told(it, "describe itself", self.address());
        let (version, info) = (version.map_err(told)?, info.map_err(told)?);
        Ok(EngineDescription {
            facts,
            components: components(&version),
            storage_driver: info.driver.clone().unwrap_or_default(),
            root_directory: info.docker_root_dir.clone().unwrap_or_default(),
            default_runtime: info.default_runtime.clone().unwrap_or_default(),
            live_restore: info.live_restore_enabled,
            warnings: warnings(&info),
            kernel_version: info.kernel_version.unwrap_or_default(),
        })
    }
}

fn components(version: &SystemVersion) -> Vec<Component> {
    let listed = version.components.iter().flatten().take(LISTED_MAX);
    let build = |it: &bollard::models::SystemVersionComponents| {
        it.details.as_ref().and_then(|details| details.get("GitCommit").cloned()).unwrap_or_default()
    };
    listed
        .map(|it| Component { name: it.name.clone(), version: it.version.clone(), build: build(it) })
        .collect()
}

fn warnings(info: &SystemInfo) -> Vec<String> {
    info.warnings.iter().flatten().take(LISTED_MAX).cloned().collect()
}
