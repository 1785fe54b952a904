//! docker.
