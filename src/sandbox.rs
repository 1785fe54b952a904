//! Floor 3: one sandbox. The container's shape, its slot directory, the connection to its init, what the kernel must
//! show, what goes in and what comes out.

pub mod artifacts;
pub mod attestation;
pub mod beneath;
pub mod by_run;
pub mod changes;
pub mod channel;
pub mod container_spec;
pub mod disk_use;
pub mod enforceable;
pub mod environment;
pub mod held_files;
pub mod init_binary;
pub mod layers;
pub mod masks;
pub mod outputs;
pub mod removal;
pub mod seccomp;
pub mod slot;
pub mod trust;
pub mod workspace;
