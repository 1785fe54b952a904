//! The engine of this machine. Missing, a test says so and passes, or fails where `AEGIS_TEST_REQUIRE` names it.

use std::path::Path;
use std::process::{Command, Output};

use aegis::docker::DockerEngine;
use aegis::docker::address::socket_path;

/// Whether a missing backend is a failure.
pub fn required(backend: &str) -> bool {
    std::env::var("AEGIS_TEST_REQUIRE").is_ok_and(|it| it.split(',').any(|it| it.trim() == backend))
}

/// The engine, or `None` where none answers and none is required.
pub async fn engine() -> Option<DockerEngine> {
    let host = std::env::var("DOCKER_HOST").ok();
    let runtime_dir = std::env::var("XDG_RUNTIME_DIR").ok();
    let socket = socket_path(host.as_deref(), runtime_dir.as_deref()).unwrap();
    match DockerEngine::connect(&socket, None).await {
        Ok(engine) => Some(engine),
        Err(error) if required("docker") => panic!("AEGIS_TEST_REQUIRE names docker: {error}"),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// Runs the engine's own command line with a configuration directory of its own.
pub fn docker(config: &Path, arguments: &[&str]) -> Output {
    Command::new("docker").arg("--config").arg(config).args(arguments).output().unwrap()
}

/// Runs it and expects success; gives what it printed.
#[track_caller]
pub fn docker_ok(config: &Path, arguments: &[&str]) -> String {
    let output = docker(config, arguments);
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
