//! What an image is, from the engine's inspection.

use bollard::Docker;
use bollard::models::ImageInspect;

use crate::container::{EngineError, ImageFacts};
use crate::docker::failure;

/// Looks an image up by reference or id.
pub(super) async fn inspect(
    docker: &Docker,
    reference: &str,
    address: &str,
) -> Result<ImageFacts, EngineError> {
    match docker.inspect_image(reference).await {
        Ok(image) => Ok(facts(image)),
        Err(error) if failure::status_of(&error) == Some(404) => {
            Err(EngineError::ImageNotFound { image: reference.to_owned() })
        }
        Err(error) => Err(failure::told(error, "inspect the image", address)),
    }
}

fn facts(image: ImageInspect) -> ImageFacts {
    let config = image.config.unwrap_or_default();
    ImageFacts {
        id: image.id.unwrap_or_default(),
        repo_digests: image.repo_digests.unwrap_or_default(),
        repo_tags: image.repo_tags.unwrap_or_default(),
        environment: config.env.unwrap_or_default(),
        volumes: config.volumes.unwrap_or_default(),
        size_bytes: image.size.and_then(|it| u64::try_from(it).ok()).unwrap_or(0),
        architecture: image.architecture.unwrap_or_default(),
        os: image.os.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        created: image.created.map(|it| it.to_string()).unwrap_or_default(),
    }
}
