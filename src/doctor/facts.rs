//! What was gathered: values only, so that every judgement can be tried on a fixture. `None` is unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::container::description::EngineDescription;

/// Everything that is judged.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The engine, or why there is none.
    pub engine: Result<EngineDescription, String>,
    /// The engine's socket; `None` where there is no such file.
    pub socket: Option<SocketFacts>,
    /// TCP addresses on the command lines of engines that run here, without TLS checks of the client.
    pub open_listeners: Vec<String>,
    /// Who runs Aegis.
    pub account: AccountFacts,
    /// The socket of a broker that works under another account; `None` where there is none.
    pub broker: Option<PathBuf>,
    /// The state directory.
    pub state: DirectoryFacts,
    /// The runtime directory.
    pub runtime: DirectoryFacts,
    /// Free space of the engine's own directory.
    pub engine_space: Option<Space>,
    /// Security modules that the kernel enforces; `None` where it does not tell.
    pub security_modules: Option<Vec<String>>,
    /// The kernel's release.
    pub kernel: String,
    /// Kernel settings by name; an absent one is one that this kernel does not have.
    pub sysctls: BTreeMap<&'static str, String>,
    /// Whether the host has a vsock device.
    pub vsock: bool,
    /// Swap, bytes.
    pub swap_bytes: u64,
    /// Changelogs of distribution packages, by the engine's name of the component.
    pub changelogs: BTreeMap<String, Changelog>,
}

/// A socket file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFacts {
    /// Where.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Owner's uid.
    pub owner: u32,
    /// Name or number of its group.
    pub group: String,
    /// Members of that group; `None` where the account database cannot be read.
    pub members: Option<Vec<String>>,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountFacts {
    /// Its uid.
    pub uid: u32,
    /// Whether it reaches the engine's socket through the socket's group.
    pub in_socket_group: bool,
}

/// A directory of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryFacts {
    /// Where it is or would be; `None` where nothing says so.
    pub path: Option<PathBuf>,
    /// Why it cannot be used.
    pub trouble: Option<String>,
    /// Whether it is there.
    pub exists: bool,
    /// Files in it that other users can read or write, the first few.
    pub exposed: Vec<PathBuf>,
    /// Free space on its disk.
    pub space: Option<Space>,
}

/// What is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes.
    pub bytes: u64,
    /// Inodes; `None` where the file system has no fixed number of them.
    pub inodes: Option<u64>,
}

/// A distribution's changelog of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changelog {
    /// The package.
    pub package: String,
    /// The version of its newest entry.
    pub version: String,
    /// Every CVE that an entry names.
    pub cves: BTreeSet<String>,
}
