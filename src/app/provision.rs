//! What every attempt needs of this host and its engine, whoever runs it: the engine, the image, a place for its sandbox.

use std::path::PathBuf;

use crate::app::{AppError, host};
use crate::broker::BrokeredEngine;
use crate::config::Directories;
use crate::container::{Engine, EngineError, EngineFacts, ImageFacts, PullProgress};
use crate::docker::{DockerEngine, address, credentials};
use crate::executor::starting::Place;
use crate::policy::{Admitted, HostAmounts, Pull, WorkspaceMedium};
use crate::sandbox::enforceable;

/// Connects to the engine that the environment names.
pub async fn connect() -> Result<DockerEngine, AppError> {
    connect_for(None).await
}

/// The same; asks it for an image while it says what it is.
pub async fn connect_for(image: Option<&str>) -> Result<DockerEngine, AppError> {
    let docker_host = std::env::var("DOCKER_HOST").ok();
    let runtime_directory = std::env::var("XDG_RUNTIME_DIR").ok();
    let socket = address::socket_path(docker_host.as_deref(), runtime_directory.as_deref())?;
    Ok(DockerEngine::connect(&socket, image).await?)
}

/// The image that a reference stands for now; fetched where policy has it fetched.
pub async fn image(
    engine: &DockerEngine,
    reference: &str,
    pull: Pull,
    progress: &(dyn Fn(PullProgress) + Sync),
) -> Result<ImageFacts, AppError> {
    match present(engine, reference, pull).await? {
        Some(image) => Ok(image),
        None => {
            let home = std::env::var_os("HOME").map(PathBuf::from);
            let login_file =
                credentials::login_file(std::env::var_os("DOCKER_CONFIG").as_deref(), home.as_deref());
            Ok(engine.pull_image(reference, login_file.as_deref(), progress).await?)
        }
    }
}

/// The same through a broker, which has the credentials.
pub async fn brokered_image(
    engine: &BrokeredEngine,
    reference: &str,
    pull: Pull,
) -> Result<ImageFacts, AppError> {
    match present(engine, reference, pull).await? {
        Some(image) => Ok(image),
        None => Ok(engine.pull_image(reference).await?),
    }
}

/// The image that is here; `None` where policy has it fetched.
async fn present<E: Engine>(engine: &E, reference: &str, pull: Pull) -> Result<Option<ImageFacts>, AppError> {
    if pull == Pull::Always {
        return Ok(None);
    }
    match engine.image(reference).await {
        Err(EngineError::ImageNotFound { .. }) if pull == Pull::Missing => Ok(None),
        found => Ok(Some(found?)),
    }
}

/// Refuses an engine, or a host, that cannot raise the walls.
pub fn refuse_unenforceable(facts: &EngineFacts, runtime: &str) -> Result<(), AppError> {
    let missing = enforceable::missing(facts, host::facts(), runtime);
    if missing.is_empty() { Ok(()) } else { Err(AppError::Unenforceable(missing)) }
}

/// Where a workspace on disk lies, if policy has it there. The layers belong to the sandbox's user, and only root gives
/// something to another user.
pub fn work_directory(admitted: &Admitted, directories: &Directories) -> Result<Option<PathBuf>, AppError> {
    if admitted.policy().filesystem.workspace != WorkspaceMedium::Disk {
        return Ok(None);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(AppError::Unenforceable(vec![
            "workspace: on disk it can be had by root only, which gives its directories to the sandbox's user; run as root, \
             or under `strict`"
                .to_owned(),
        ]));
    }
    Ok(Some(directories.ensure_work()?))
}

/// A place for a sandbox that begins with nothing, and has no way out that ends TLS.
pub fn place(
    admitted: &Admitted,
    directories: &Directories,
    host: &HostAmounts,
    facts: &EngineFacts,
) -> Result<Place, AppError> {
    Ok(Place {
        work_directory: work_directory(admitted, directories)?,
        base: None,
        runtime_directory: directories.runtime.clone(),
        instance: directories.instance.clone(),
        nofile_max: host.nofile,
        authorities: None,
        variables: Vec::new(),
        mapped_uid: enforceable::maps_users(facts).then_some(enforceable::MAPPED_UID),
    })
}
