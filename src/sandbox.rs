//! Floor 3: what a sandbox is and how it is proven. Deciding and comparing are pure here; the engine is behind a port.

pub mod attestation;
pub mod masks;
pub mod seccomp;
