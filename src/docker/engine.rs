//! The verbs of the port, each one call with a deadline.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, SystemInfo, SystemVersion};
use bollard::query_parameters::{
    CreateContainerOptions, EventsOptions, ListContainersOptions, RemoveContainerOptions,
};
use bollard::{ClientVersion, Docker};
use futures_util::StreamExt;
use serde_json::Value;

use crate::container::{
    ContainerSpec, Engine, EngineError, EngineFacts, ImageFacts, InspectedContainer, ListedContainer,
};
use crate::docker::greeting::greeting;
use crate::docker::{create, failure, image_facts};

/// Seconds that one call may take. Creating a container on a cold disk is the slowest of them.
pub(super) const CALL_SECONDS_MAX: u64 = 60;
/// The oldest API that has every field of the create request.
const API_VERSION_MIN: (u32, u32) = (1, 41);
/// Tries to remove one container, and the pause between two.
const REMOVE_TRIES_MAX: u32 = 5;
const REMOVE_PAUSE: Duration = Duration::from_millis(200);
/// Containers of one listing at the most.
const LISTED_MAX: usize = 100_000;

/// A connected engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DockerEngine {
    docker: Docker,
    address: String,
    version: SystemVersion,
    // As it described itself when the connection was made; `None` where it would not then.
    info: Option<SystemInfo>,
    // The image that was asked for then, by its reference.
    image: Option<(String, ImageFacts)>,
}

impl DockerEngine {
    /// Connects to the engine at a socket, and refuses by name what is none that Aegis can use. Where an image is named, what
    /// the engine knows of it then is kept: one wait is enough for all three answers.
    pub async fn connect(socket: &Path, image: Option<&str>) -> Result<Self, EngineError> {
        let address = socket.display().to_string();
        let oldest = ClientVersion {
            major_version: API_VERSION_MIN.0 as usize,
            minor_version: API_VERSION_MIN.1 as usize,
        };
        let docker = Docker::connect_with_unix(&address, CALL_SECONDS_MAX, &oldest)
            .map_err(|it| failure::told(it, "connect", &address))?;
        // The description takes the engine ten milliseconds, since it starts programs to give it: all is asked at once.
        let looked_up = async {
            let reference = image?;
            let found = image_facts::inspect(&docker, reference, &address).await.ok()?;
            Some((reference.to_owned(), found))
        };
        let (greeting, info, image) = tokio::join!(greeting(socket), docker.info(), looked_up);
        let is_spoken = !matches!(&info, Err(error) if failure::status_of(error) == Some(400));
        let version = match greeting.filter(|_| is_spoken) {
            Some(version) => Ok(version),
            None => docker.version().await,
        };
        let (docker, version) = match version {
            Ok(version) => (docker, version),
            // An engine too new for the oldest API that we speak, or too old for it: agree on another.
            Err(error) if failure::status_of(&error) == Some(400) => {
                let docker =
                    docker.negotiate_version().await.map_err(|it| failure::told(it, "connect", &address))?;
                let version =
                    docker.version().await.map_err(|it| failure::told(it, "tell its version", &address))?;
                (docker, version)
            }
            Err(error) => return Err(failure::told(error, "tell its version", &address)),
        };
        refuse_other_engines(&version, &address)?;
        Ok(Self { docker, address, version, info: info.ok(), image })
    }

    /// The client itself, for the other adapters of this floor.
    pub(super) fn client(&self) -> &Docker {
        &self.docker
    }

    /// Where the engine is, for messages.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn told(&self, error: bollard::errors::Error, verb: &'static str) -> EngineError {
        failure::told(error, verb, &self.address)
    }

    fn told_of_container(
        &self,
        error: bollard::errors::Error,
        verb: &'static str,
        container: &str,
    ) -> EngineError {
        if failure::status_of(&error) == Some(404) {
            return EngineError::ContainerNotFound { container: container.to_owned() };
        }
        self.told(error, verb)
    }
}

/// Podman's service speaks the same API and enforces something else; too old an engine lacks fields.
fn refuse_other_engines(version: &SystemVersion, address: &str) -> Result<(), EngineError> {
    let components = version.components.as_deref().unwrap_or_default();
    if components.iter().any(|it| it.name.to_ascii_lowercase().contains("podman")) {
        return Err(EngineError::Unsupported {
            address: address.to_owned(),
            reason: "it is Podman's Docker-compatible service, which takes the inline seccomp profile for a path, \
                     refuses `uid=` of a tmpfs and ignores DNS settings without a network: `strict` cannot be had \
                     there. Point DOCKER_HOST at a Docker engine"
                .to_owned(),
        });
    }
    let spoken = api_version(version);
    if spoken < API_VERSION_MIN {
        return Err(EngineError::Unsupported {
            address: address.to_owned(),
            reason: format!(
                "it is too old: it speaks API {}.{}, and {}.{} (Docker 20.10) is the oldest that Aegis uses. Update \
                 the engine",
                spoken.0, spoken.1, API_VERSION_MIN.0, API_VERSION_MIN.1
            ),
        });
    }
    Ok(())
}

fn api_version(version: &SystemVersion) -> (u32, u32) {
    let text = version.api_version.as_deref().unwrap_or_default();
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    (major.parse().unwrap_or(0), minor.parse().unwrap_or(0))
}

impl Engine for DockerEngine {
    async fn ping(&self) -> Result<(), EngineError> {
        self.docker.ping().await.map(|_| ()).map_err(|it| self.told(it, "answer"))
    }

    async fn facts(&self) -> Result<EngineFacts, EngineError> {
        if let Some(info) = &self.info {
            return Ok(facts_of(info, &self.version));
        }
        let info = self.docker.info().await.map_err(|it| self.told(it, "describe itself"))?;
        Ok(facts_of(&info, &self.version))
    }

    fn settings(&self, spec: &ContainerSpec) -> BTreeMap<String, String> {
        create::settings(&create::body(spec))
    }

    async fn image(&self, reference: &str) -> Result<ImageFacts, EngineError> {
        if let Some((_, found)) = self.image.as_ref().filter(|it| it.0 == reference) {
            return Ok(found.clone());
        }
        image_facts::inspect(&self.docker, reference, &self.address).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        let options = CreateContainerOptions { name: Some(spec.name.clone()), ..Default::default() };
        match self.docker.create_container(Some(options), create::body(spec)).await {
            Ok(created) => Ok(created.id),
            Err(error) if failure::status_of(&error) == Some(404) => {
                Err(EngineError::ImageNotFound { image: spec.image_id.clone() })
            }
            Err(error) => Err(self.refused_mount(self.told(error, "create the sandbox's container"))),
        }
    }

    async fn start(&self, container: &str) -> Result<(), EngineError> {
        let started = self.docker.start_container(container, None).await;
        started.map_err(|it| self.refused_mount(self.told(it, "start the sandbox's container")))
    }

    async fn inspect(&self, container: &str) -> Result<InspectedContainer, EngineError> {
        let inspected = self.docker.inspect_container(container, None).await;
        let inspected =
            inspected.map_err(|it| self.told_of_container(it, "inspect a container", container))?;
        Ok(inspected_of(inspected))
    }

    async fn destroy(&self, container: &str) -> Result<(), EngineError> {
        let mut tries_left = REMOVE_TRIES_MAX;
        loop {
            let options = RemoveContainerOptions { force: true, v: true, link: false };
            let Err(error) = self.docker.remove_container(container, Some(options)).await else {
                return Ok(());
            };
            tries_left -= 1;
            match failure::status_of(&error) {
                // 404: gone. 409: the engine is removing it already, because it has ended.
                Some(404 | 409) => return Ok(()),
                // Two removals at once, ours and the engine's own, can make each other stumble over half-removed files
                // (seen with 20.10); the container is then dead and stays until it is removed once more.
                Some(500) if tries_left > 0 => tokio::time::sleep(REMOVE_PAUSE).await,
                Some(_) | None => return Err(self.told(error, "remove a container")),
            }
        }
    }

    async fn list(&self, label: &str) -> Result<Vec<ListedContainer>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let listed = self.docker.list_containers(Some(options)).await;
        let listed = listed.map_err(|it| self.told(it, "list containers"))?;
        Ok(listed
            .into_iter()
            .take(LISTED_MAX)
            .map(|it| ListedContainer {
                id: it.id.unwrap_or_default(),
                labels: it.labels.unwrap_or_default().into_iter().collect(),
                state: it.state.map(|state| state.to_string()).unwrap_or_default(),
                created_s: it.created.unwrap_or_default(),
            })
            .collect())
    }

    async fn out_of_memory_seen(&self, container: &str) -> Result<bool, EngineError> {
        let now = jiff::Timestamp::now().as_second();
        let filters = HashMap::from([
            ("container".to_owned(), vec![container.to_owned()]),
            ("event".to_owned(), vec!["oom".to_owned()]),
        ]);
        let options = EventsOptions {
            since: Some((now - 60).to_string()),
            until: Some((now + 1).to_string()),
            filters: Some(filters),
        };
        let mut events = std::pin::pin!(self.docker.events(Some(options)));
        let first = tokio::time::timeout(Duration::from_secs(5), events.next()).await;
        Ok(matches!(first, Ok(Some(Ok(_)))))
    }
}

impl DockerEngine {
    /// An engine that cannot see our directories runs elsewhere: say that, not which mount failed.
    fn refused_mount(&self, error: EngineError) -> EngineError {
        let EngineError::Refused { verb, message } = error else {
            return error;
        };
        if message.contains("bind source path does not exist") {
            return EngineError::Unsupported {
                address: self.address.clone(),
                reason: "it does not share this host's filesystem (an engine in a virtual machine or container, or \
                         Aegis itself in one with the host's socket): a sandbox could not reach its owner. Run \
                         Aegis on the engine's own host"
                    .to_owned(),
            };
        }
        EngineError::Refused { verb, message }
    }
}

fn facts_of(info: &SystemInfo, version: &SystemVersion) -> EngineFacts {
    let mut runtimes: Vec<String> = info.runtimes.iter().flatten().map(|it| it.0.clone()).collect();
    runtimes.sort();
    EngineFacts {
        description: format!("Docker {}", version.version.as_deref().unwrap_or("of unknown version")),
        api_version: api_version(version),
        cgroup_version: info.cgroup_version.map(|it| it.to_string()).unwrap_or_default(),
        security_options: info.security_options.clone().unwrap_or_default(),
        runtimes,
        limits_pids: info.pids_limit.unwrap_or(false),
        limits_memory: info.memory_limit.unwrap_or(false),
        limits_swap: info.swap_limit.unwrap_or(false),
        limits_cpu: info.cpu_cfs_quota.unwrap_or(false),
    }
}

fn inspected_of(inspected: ContainerInspectResponse) -> InspectedContainer {
    let mut settings = BTreeMap::new();
    if let Ok(Value::Object(host)) = serde_json::to_value(&inspected.host_config) {
        create::gather(&mut settings, "HostConfig", host);
    }
    if let Ok(Value::Object(mut config)) = serde_json::to_value(&inspected.config) {
        config.retain(|name, _| create::COMPARED_CONFIG.contains(&name.as_str()));
        create::gather(&mut settings, "Config", config);
    }
    InspectedContainer {
        id: inspected.id.unwrap_or_default(),
        image_id: inspected.image.unwrap_or_default(),
        pid: inspected.state.and_then(|it| it.pid).unwrap_or(0),
        settings,
    }
}
