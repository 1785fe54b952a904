//! Images: built from a recipe without a registry, and fetched from a real one with the login of `docker login`.

use std::path::Path;

use aegis::container::{Engine, PullProgress};
use aegis::docker::DockerEngine;
use aegis::docker::images::{BuildError, PullError};

use crate::support::engine::{docker_ok, engine};
use crate::support::registry::{PASSWORD, Registry, USER};

/// Bytes of the one file in the image that is pushed: enough for progress to be told.
const CONTENT_BYTES: usize = 4 * 1024 * 1024;

// Heavy: it replaces an image that other tests use.
#[tokio::test]
async fn heavy_minimal_is_built_from_packages_and_known_by_its_label() {
    let Some(engine) = engine().await else { return };
    let built = engine.build_image("minimal").await.unwrap();
    assert_eq!(engine.image("aegis/minimal").await.unwrap().id, built.id);
    assert_eq!(built.labels["aegis.image"], "minimal");
    assert!(built.repo_digests.is_empty(), "no registry knows it: {:?}", built.repo_digests);
    assert!(engine.images().await.unwrap().iter().any(|it| it.id == built.id));
}

#[tokio::test]
async fn unknown_image_names_those_that_can_be_built() {
    let Some(engine) = engine().await else { return };
    let error = engine.build_image("absent").await.unwrap_err();
    assert!(matches!(error, BuildError::Unknown { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "there is no recipe for an image `absent`; there are: base, go, minimal, node, rust"
    );
}

/// A registry that holds one image, which the engine does not have any more.
struct Pushed {
    registry: Registry,
    image: String,
}

/// Makes a small image, pushes it with the right login and removes it from the engine.
fn push() -> Option<Pushed> {
    let registry = Registry::start()?;
    let image = format!("{}/tool:1", registry.host);
    let config = registry.login("push", "{}");
    let tree = tempfile::tempdir().unwrap();
    std::fs::write(tree.path().join("content"), noise()).unwrap();
    let tar = config.join("tree.tar");
    let packed =
        std::process::Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(tree.path()).arg(".").status();
    assert!(packed.unwrap().success());
    docker_ok(&config, &["import", "--change", "LABEL aegis.test=registry", tar.to_str().unwrap(), &image]);
    docker_ok(&config, &["login", "--username", USER, "--password", PASSWORD, &registry.host]);
    docker_ok(&config, &["push", "--quiet", &image]);
    docker_ok(&config, &["rmi", &image]);
    Some(Pushed { registry, image })
}

/// Bytes that do not compress, the same ones at every call.
fn noise() -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(CONTENT_BYTES);
    while bytes.len() < CONTENT_BYTES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.push(state.to_be_bytes()[0]);
    }
    bytes
}

/// Pulls with the login file of a directory and says what came of it.
async fn pull(
    engine: &DockerEngine,
    image: &str,
    login: &Path,
) -> (Result<String, PullError>, Vec<PullProgress>) {
    let mut told = Vec::new();
    let pulled = engine.pull_image(image, Some(&login.join("config.json")), |it| told.push(it)).await;
    (pulled.map(|it| it.repo_digests.join(" ")), told)
}

#[tokio::test]
async fn pull_uses_the_login_file_and_tells_how_far_it_is() {
    let Some(engine) = engine().await else { return };
    let Some(Pushed { registry, image }) = push() else { return };

    let (pulled, told) = pull(&engine, &image, &registry.login("none", "{}")).await;
    let error = pulled.unwrap_err();
    assert!(matches!(error, PullError::Unauthorized { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("`docker login {}`", registry.host)), "{error}");
    assert!(told.iter().all(|it| it.current_bytes == 0));

    // `builder:wrong`
    let wrong = registry.login("wrong", r#"{"auths": {"HOST": {"auth": "YnVpbGRlcjp3cm9uZw=="}}}"#);
    let (pulled, _) = pull(&engine, &image, &wrong).await;
    let error = pulled.unwrap_err();
    assert!(matches!(error, PullError::Unauthorized { .. }), "{error:?}");
    assert!(!error.to_string().contains("wrong"), "{error}");

    // `builder:open sesame`
    let right = registry.login("right", r#"{"auths": {"HOST": {"auth": "YnVpbGRlcjpvcGVuIHNlc2FtZQ=="}}}"#);
    let (pulled, told) = pull(&engine, &image, &right).await;
    let digests = pulled.unwrap();
    assert!(digests.contains("tool@sha256:"), "{digests}");
    let last = told.iter().max_by_key(|it| it.current_bytes).unwrap();
    assert!(last.total_bytes >= CONTENT_BYTES as u64, "{told:?}");
    assert!(last.current_bytes > 0 && last.current_bytes <= last.total_bytes, "{last:?}");
    docker_ok(&right, &["rmi", &image]);

    let (pulled, _) = pull(&engine, &format!("{}/tool:2", registry.host), &right).await;
    let error = pulled.unwrap_err();
    assert!(matches!(error, PullError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn pull_from_nowhere_says_that_nobody_answers() {
    let Some(engine) = engine().await else { return };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = engine.pull_image(&format!("127.0.0.1:{port}/tool:1"), None, |_| {}).await.unwrap_err();
    let PullError::Engine { source, .. } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains("connection refused"), "{source}");
}
