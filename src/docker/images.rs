//! The images of an engine: those of ours that it has, building one, fetching one from a registry.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::{CreateImageOptions, ListImagesOptions, RemoveImageOptions};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tokio::process::ChildStdout;
use tokio_util::io::ReaderStream;

use crate::container::{EngineError, ImageFacts, PullProgress};
use crate::docker::credentials::{self, CredentialsError};
use crate::docker::engine::DockerEngine;
use crate::docker::recipe::{self, Recipe, Streams};
use crate::docker::{failure, image_facts, reference};

/// The label by which an image is known to be ours; its value is the recipe's name.
pub const IMAGE_LABEL: &str = "aegis.image";
/// What programs are looked for in; the recipes put them nowhere else.
const IMAGE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Seconds for a whole build: a slow mirror and a slow disk together.
const BUILD_SECONDS_MAX: u64 = 3600;
/// Seconds for a whole pull.
const PULL_SECONDS_MAX: u64 = 3600;
/// Seconds without a word from the engine, after which a pull is given up.
const PULL_SILENCE_SECONDS_MAX: u64 = 300;
/// Layers of one image whose progress is kept.
const LAYERS_MAX: usize = 1000;
/// Bytes of the tar that are read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// Why an image was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no such recipe.
    #[error("there is no recipe for an image `{name}`; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The recipe could not be started.
    #[error("the recipe of `{name}` could not be started")]
    NotStarted {
        /// The image.
        name: String,
        /// Why: no bash, or no room for the script.
        #[source]
        source: io::Error,
    },
    /// The recipe gave up.
    #[error("the recipe of `{name}` failed:\n{words}")]
    Recipe {
        /// The image.
        name: String,
        /// The last that it said.
        words: String,
    },
    /// The engine did not take it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Why an image was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The login file is no help.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The registry does not have it, or does not say so to a stranger.
    #[error("the registry has no image `{image}`: {message}")]
    NotFound {
        /// The reference.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// The registry wants other credentials, or some.
    #[error(
        "the registry refuses `{image}` to this login: {message}; `docker login {registry}` stores another"
    )]
    Unauthorized {
        /// The reference.
        image: String,
        /// The registry, as `docker login` wants it.
        registry: String,
        /// The engine's words.
        message: String,
    },
    /// It went wrong on the way.
    #[error("pulling `{image}` failed")]
    Engine {
        /// The reference.
        image: String,
        /// What went wrong.
        #[source]
        source: EngineError,
    },
}

impl DockerEngine {
    /// The images that recipes of ours made, by tag.
    pub async fn images(&self) -> Result<Vec<ImageFacts>, EngineError> {
        list(self.client(), self.address()).await
    }

    /// Runs a recipe and gives its tree to the engine as `aegis/NAME:latest`. Dropping the future ends the recipe.
    pub async fn build_image(&self, name: &str) -> Result<ImageFacts, BuildError> {
        build(self.client(), name, self.address()).await
    }

    /// Removes an image; false if something uses it. Gone already is success.
    pub async fn remove_image(&self, id: &str) -> Result<bool, EngineError> {
        match self.client().remove_image(id, None::<RemoveImageOptions>, None).await {
            Ok(_) => Ok(true),
            Err(error) => match failure::status_of(&error) {
                Some(404) => Ok(true),
                Some(409) => Ok(false),
                Some(_) | None => Err(failure::told(error, "remove an image", self.address())),
            },
        }
    }

    /// Fetches an image, with the credentials of a `docker login` file where it has some for the registry.
    pub async fn pull_image(
        &self,
        image: &str,
        login_file: Option<&Path>,
        progress: impl FnMut(PullProgress),
    ) -> Result<ImageFacts, PullError> {
        pull(self.client(), image, login_file, progress, self.address()).await
    }
}

async fn list(docker: &Docker, address: &str) -> Result<Vec<ImageFacts>, EngineError> {
    let filters = HashMap::from([("label".to_owned(), vec![IMAGE_LABEL.to_owned()])]);
    let options = ListImagesOptions { filters: Some(filters), ..Default::default() };
    let listed =
        docker.list_images(Some(options)).await.map_err(|it| failure::told(it, "list images", address))?;
    let mut images = Vec::new();
    for image in listed {
        match image_facts::inspect(docker, &image.id, address).await {
            Ok(facts) => images.push(facts),
            // Removed since it was listed.
            Err(EngineError::ImageNotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    images.sort_by(|a, b| a.repo_tags.cmp(&b.repo_tags));
    Ok(images)
}

async fn build(docker: &Docker, name: &str, address: &str) -> Result<ImageFacts, BuildError> {
    let Some(name) = recipe::names().find(|it| *it == name) else {
        let known = recipe::names().collect::<Vec<_>>().join(", ");
        return Err(BuildError::Unknown { name: name.to_owned(), known });
    };
    let not_started = |source| BuildError::NotStarted { name: name.to_owned(), source };
    let (recipe, Streams { tar, talk }) = Recipe::start(name).map_err(not_started)?;
    let before = predecessor(docker, name, address).await?;
    let gave_up = Arc::new(AtomicBool::new(false));
    let imported = import(docker, name, tree(recipe, tar, gave_up.clone()), address);
    let both = async { tokio::join!(imported, recipe::last_words(talk)) };
    let Ok((imported, words)) = tokio::time::timeout(Duration::from_secs(BUILD_SECONDS_MAX), both).await
    else {
        return Err(EngineError::TimedOut { verb: "build an image", seconds: BUILD_SECONDS_MAX }.into());
    };
    match imported {
        Ok(id) => {
            if let Some(before) = before.filter(|it| *it != id) {
                // Still in use, or under another tag: then it stays.
                let _kept = docker.remove_image(&before, None::<RemoveImageOptions>, None).await;
            }
            Ok(image_facts::inspect(docker, &id, address).await?)
        }
        // A recipe that fails breaks the stream to the engine: what it said is the reason, not the broken stream.
        Err(_) if gave_up.load(Ordering::Relaxed) => Err(BuildError::Recipe { name: name.to_owned(), words }),
        Err(error) => Err(error.into()),
    }
}

/// The image that the tag names now; it would stay behind without a name.
async fn predecessor(docker: &Docker, name: &str, address: &str) -> Result<Option<String>, EngineError> {
    match image_facts::inspect(docker, &format!("aegis/{name}:latest"), address).await {
        Ok(facts) => Ok(Some(facts.id)),
        Err(EngineError::ImageNotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The recipe's tar, ended by an error where the recipe fails: the engine must not take half a tree for an image.
fn tree(
    mut recipe: Recipe,
    tar: ChildStdout,
    gave_up: Arc<AtomicBool>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let end = stream::once(async move {
        match recipe.wait().await {
            Ok(status) if status.success() => None,
            Ok(status) => {
                gave_up.store(true, Ordering::Relaxed);
                Some(Err(io::Error::other(format!("the recipe ended with {status}"))))
            }
            Err(error) => Some(Err(error)),
        }
    });
    ReaderStream::with_capacity(tar, CHUNK_BYTES).chain(end.filter_map(std::future::ready))
}

async fn import(
    docker: &Docker,
    name: &str,
    tree: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    address: &str,
) -> Result<String, EngineError> {
    let options = CreateImageOptions {
        from_src: Some("-".to_owned()),
        repo: Some(format!("aegis/{name}")),
        tag: Some("latest".to_owned()),
        changes: vec![format!("ENV PATH={IMAGE_PATH}"), format!("LABEL {IMAGE_LABEL}={name}")],
        ..Default::default()
    };
    // The engine answers only when it has unpacked everything.
    let patient = docker.clone().with_timeout(Duration::from_secs(BUILD_SECONDS_MAX));
    let told = |it| failure::told(it, "import an image", address);
    let answers = patient.create_image(Some(options), Some(bollard::body_try_stream(tree)), None);
    let answers: Vec<CreateImageInfo> = answers.try_collect().await.map_err(told)?;
    match answers.into_iter().filter_map(|it| it.status).next_back() {
        Some(id) if id.starts_with("sha256:") => Ok(id),
        Some(_) | None => Err(EngineError::Refused {
            verb: "import an image",
            message: "it did not tell the id of the new image".to_owned(),
        }),
    }
}

async fn pull(
    docker: &Docker,
    image: &str,
    login_file: Option<&Path>,
    mut progress: impl FnMut(PullProgress),
    address: &str,
) -> Result<ImageFacts, PullError> {
    let registry = reference::registry(image);
    let login = match login_file {
        Some(file) => credentials::find(file, registry).await?,
        None => None,
    };
    let options = CreateImageOptions {
        from_image: Some(image.to_owned()),
        tag: reference::implied_tag(image),
        ..Default::default()
    };
    let mut answers = docker.create_image(Some(options), None, login);
    let failed = |source| PullError::Engine { image: image.to_owned(), source };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(PULL_SECONDS_MAX);
    let mut layers = Layers::default();
    loop {
        let silence = tokio::time::Instant::now() + Duration::from_secs(PULL_SILENCE_SECONDS_MAX);
        match tokio::time::timeout_at(silence.min(deadline), answers.next()).await {
            Ok(Some(Ok(answer))) => progress(layers.take(answer)),
            Ok(Some(Err(error))) => return Err(refused(error, image, registry, address)),
            Ok(None) => break,
            Err(_) if silence < deadline => {
                return Err(failed(EngineError::TimedOut {
                    verb: "go on pulling",
                    seconds: PULL_SILENCE_SECONDS_MAX,
                }));
            }
            Err(_) => return Err(failed(EngineError::TimedOut { verb: "pull", seconds: PULL_SECONDS_MAX })),
        }
    }
    image_facts::inspect(docker, image, address).await.map_err(failed)
}

/// What the engine's refusal of a pull means. It passes on the registry's words, whose form is not specified: these
/// are the ones that registries and engines use.
fn refused(error: Error, image: &str, registry: &str, address: &str) -> PullError {
    let image = image.to_owned();
    let source = match error {
        Error::DockerStreamError { error } => failure::refused("pull", &error),
        other => failure::told(other, "pull", address),
    };
    let EngineError::Refused { message, .. } = &source else {
        return PullError::Engine { image, source };
    };
    let lower = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|it| lower.contains(it));
    if says(&[
        "unauthorized",
        "no basic auth credentials",
        "authentication required",
        "access denied",
        "denied:",
    ]) {
        return PullError::Unauthorized { image, registry: registry.to_owned(), message: message.clone() };
    }
    if says(&["manifest unknown", "not found", "does not exist", "name unknown"]) {
        return PullError::NotFound { image, message: message.clone() };
    }
    PullError::Engine { image, source }
}

/// Bytes of the layers that a pull has told of.
#[derive(Default)]
struct Layers {
    seen: BTreeMap<String, (u64, u64)>,
}

impl Layers {
    fn take(&mut self, answer: CreateImageInfo) -> PullProgress {
        let status = answer.status.unwrap_or_default();
        let detail = answer.progress_detail.unwrap_or_default();
        // Only a download counts: the same bytes are told again while they are unpacked.
        if let (Some(id), "Downloading", Some(current), Some(total)) =
            (answer.id, status.as_str(), detail.current, detail.total)
            && (self.seen.contains_key(&id) || self.seen.len() < LAYERS_MAX)
        {
            self.seen.insert(id, (u64::try_from(current).unwrap_or(0), u64::try_from(total).unwrap_or(0)));
        }
        PullProgress {
            current_bytes: self
                .seen
                .values()
                .map(|(current, _)| current)
                .fold(0, |sum, it| sum.saturating_add(*it)),
            total_bytes: self
                .seen
                .values()
                .map(|(_, total)| total)
                .fold(0, |sum, it| sum.saturating_add(*it)),
            status: failure::bounded(&status),
        }
    }
}
