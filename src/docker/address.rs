//! Where the engine is, and which kinds of address are refused by name.

use std::path::PathBuf;

use crate::container::EngineError;

/// The system's engine.
const SYSTEM_SOCKET: &str = "/var/run/docker.sock";

/// The path of the engine's socket: `DOCKER_HOST` (`unix:` only), else the system's, else the user's own.
///
/// `docker_host` and `runtime_dir` are the values of `DOCKER_HOST` and `XDG_RUNTIME_DIR`.
pub fn socket_path(docker_host: Option<&str>, runtime_dir: Option<&str>) -> Result<PathBuf, EngineError> {
    let Some(address) = docker_host.filter(|it| !it.is_empty()) else {
        return Ok(default_socket(runtime_dir));
    };
    if let Some(path) = address.strip_prefix("unix://") {
        return Ok(PathBuf::from(path));
    }
    Err(EngineError::Unsupported {
        address: address.escape_default().to_string(),
        reason: "it is remote: a sandbox talks to its owner over a socket file on this host, which an engine \
                 elsewhere cannot see. Unset DOCKER_HOST, or give `unix:///path/to/docker.sock` of an engine on \
                 this host"
            .to_owned(),
    })
}

fn default_socket(runtime_dir: Option<&str>) -> PathBuf {
    let system = PathBuf::from(SYSTEM_SOCKET);
    if system.exists() {
        return system;
    }
    if let Some(directory) = runtime_dir {
        let user = PathBuf::from(directory).join("docker.sock");
        if user.exists() {
            return user;
        }
    }
    system
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_address_is_its_path() {
        let path = socket_path(Some("unix:///tmp/x.sock"), None).expect("it is local");
        assert_eq!(path, PathBuf::from("/tmp/x.sock"));
    }

    #[test]
    fn a_remote_engine_is_refused_by_name() {
        for address in ["tcp://192.0.2.1:2375", "ssh://host.example.org", "http://x", "npipe://x"] {
            let refusal = socket_path(Some(address), None).expect_err("it is remote");
            assert!(refusal.to_string().contains("it is remote"), "{refusal}");
        }
    }
}
