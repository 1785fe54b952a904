//! The parts of an image reference that a pull depends on. Whether the reference is well formed is the engine's to say.

/// The registry that a reference without one means, as `docker login` writes it into its file.
const DEFAULT_REGISTRY: &str = "https://index.docker.io/v1/";

/// The registry's name, as it stands in the `docker login` file: the first part where it can only be a host.
pub(super) fn registry(reference: &str) -> &str {
    match reference.split_once('/') {
        Some(("docker.io" | "index.docker.io", _)) => DEFAULT_REGISTRY,
        Some((host, _)) if host == "localhost" || host.contains(['.', ':']) => host,
        Some(_) | None => DEFAULT_REGISTRY,
    }
}

/// The tag to ask for, where the reference names neither a tag nor a digest: an engine that is told none fetches all.
pub(super) fn implied_tag(reference: &str) -> Option<String> {
    let name = reference.rsplit_once('/').map_or(reference, |(_, name)| name);
    (!name.contains([':', '@'])).then(|| "latest".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reference: &str, expected_registry: &str, expected_tag: Option<&str>) {
        assert_eq!(registry(reference), expected_registry);
        assert_eq!(implied_tag(reference).as_deref(), expected_tag);
    }

    #[test]
    fn short_name_is_of_the_default_registry() {
        check("debian", DEFAULT_REGISTRY, Some("latest"));
    }

    #[test]
    fn user_is_no_host() {
        check("somebody/tool:2", DEFAULT_REGISTRY, None);
    }

    #[test]
    fn default_registry_by_its_name() {
        check("docker.io/library/debian", DEFAULT_REGISTRY, Some("latest"));
    }

    #[test]
    fn port_is_no_tag() {
        check("127.0.0.1:5000/tool", "127.0.0.1:5000", Some("latest"));
    }

    #[test]
    fn digest_needs_no_tag() {
        check("registry.example/a/b@sha256:00", "registry.example", None);
    }
}
