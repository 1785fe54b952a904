//! What a server asks of its broker, and the answers: JSON, so that a field that is not known is refused by its name. There
//! is none for privileges, namespaces, devices, capabilities, networks, binds or commands; what a request leaves out is the
//! broker's to fill in (`shape`).

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::container::{EngineError, EngineFacts, ImageFacts, InspectedContainer, ListedContainer, Tmpfs};
use crate::sandbox::seccomp::Profile;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Chosen by the server, returned in the answer; never 0.
    pub id: u64,
    /// What is asked.
    pub verb: Verb,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Verb {
    /// The first: whose containers these are. Answered by [`Answered::Done`].
    Begin {
        /// The instance's id.
        instance: String,
    },
    /// Whether the engine answers. Answered by [`Answered::Done`].
    Ping,
    /// What the engine is; the connection to it is made anew. Answered by [`Answered::Facts`].
    Facts,
    /// What an image is. Answered by [`Answered::Image`].
    Image {
        /// Reference or id.
        reference: String,
    },
    /// Fetches an image. Answered by [`Answered::Image`].
    Pull {
        /// Reference.
        reference: String,
    },
    /// Makes a container. Answered by [`Answered::Created`].
    Create(Box<Create>),
    /// Starts one. Answered by [`Answered::Done`].
    Start {
        /// Its id.
        container: String,
    },
    /// What the engine says it made. Answered by [`Answered::Inspected`].
    Inspect {
        /// Its id.
        container: String,
    },
    /// Kills and removes one. Answered by [`Answered::Done`].
    Destroy {
        /// Its id.
        container: String,
    },
    /// The instance's containers. Answered by [`Answered::Listed`].
    List,
    /// Whether memory ran out in one. Answered by [`Answered::Seen`].
    OutOfMemorySeen {
        /// Its id.
        container: String,
    },
}

/// What differs between two containers of the one shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// The slot, whose directory is bound.
    pub slot: u32,
    /// Milliseconds since the epoch, for the name.
    pub moment_ms: u64,
    /// `sha256:…`.
    pub image_id: String,
    /// The policy's digest, for the label.
    pub policy_digest: String,
    /// Variables of the image that init must not see.
    pub blanked_environment: Vec<String>,
    /// User and group id.
    pub uid: u32,
    /// Runtime by name.
    pub runtime: String,
    /// Writable places in memory.
    pub tmpfs: Vec<Place>,
    /// Whether the slot's own authorities are bound.
    pub authorities: bool,
    /// The name of the workspace's layers, where it is on disk.
    pub layers: Option<String>,
    /// Which of the built-in seccomp profiles.
    pub filter: Filter,
    /// Memory with swap, bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// CPUs in thousandths.
    pub cpus_milli: u64,
    /// Open files, soft.
    pub nofile_soft: u64,
    /// Open files, hard.
    pub nofile_hard: u64,
    /// Bytes of one file.
    pub file_bytes: u64,
}

/// A writable place in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Mount point.
    pub point: String,
    /// Bytes.
    pub bytes: u64,
    /// Files, directories and links.
    pub inodes: u64,
    /// Whether programs in it may be executed.
    pub exec: bool,
}

/// What a policy decides about the seccomp profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// See [`Profile::ptrace`].
    pub ptrace: bool,
    /// See [`Profile::netlink_route`].
    pub netlink_route: bool,
    /// See [`Profile::preallocation`].
    pub preallocation: bool,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// That of the request; 0 where none could be read, and then the connection ends.
    pub id: u64,
    /// What came of it.
    pub answered: Answered,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answered {
    /// It is done.
    Done,
    /// The engine.
    Facts(Facts),
    /// An image.
    Image(Box<Image>),
    /// The new container's id.
    Created {
        /// Its id.
        container: String,
    },
    /// A container.
    Inspected(Inspected),
    /// Containers.
    Listed(Vec<Listed>),
    /// Yes or no.
    Seen {
        /// Whether it was seen.
        seen: bool,
    },
    /// It is not done.
    Failed(Failure),
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Failure {
    /// The broker does no such thing.
    NotAllowed {
        /// What stands against it.
        reason: String,
    },
    /// No engine answers.
    NotRunning {
        /// Where it was looked for.
        address: String,
    },
    /// Its socket may not be opened.
    PermissionDenied {
        /// The socket.
        address: String,
    },
    /// It is none that can be used.
    Unsupported {
        /// Where it is.
        address: String,
        /// Why.
        reason: String,
    },
    /// The image is not there.
    ImageNotFound {
        /// The reference or id.
        image: String,
    },
    /// The container is gone.
    ContainerNotFound {
        /// Its id.
        container: String,
    },
    /// The engine took too long.
    TimedOut {
        /// The bound.
        seconds: u64,
    },
    /// The engine said no.
    Refused {
        /// Its words.
        message: String,
    },
    /// The registry has no such image.
    NotInRegistry {
        /// Its words.
        message: String,
    },
    /// The registry wants another login.
    Unauthorized {
        /// The registry.
        registry: String,
        /// Its words.
        message: String,
    },
}

/// [`EngineFacts`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "field by field those of the port's type")]
pub struct Facts {
    pub description: String,
    pub api_version: (u32, u32),
    pub cgroup_version: String,
    pub security_options: Vec<String>,
    pub runtimes: Vec<String>,
    pub limits_pids: bool,
    pub limits_memory: bool,
    pub limits_swap: bool,
    pub limits_cpu: bool,
}

/// [`ImageFacts`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "field by field those of the port's type")]
pub struct Image {
    pub id: String,
    pub repo_digests: Vec<String>,
    pub repo_tags: Vec<String>,
    pub environment: Vec<String>,
    pub volumes: Vec<String>,
    pub size_bytes: u64,
    pub architecture: String,
    pub os: String,
    pub labels: BTreeMap<String, String>,
    pub created: String,
}

/// [`InspectedContainer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "field by field those of the port's type")]
pub struct Inspected {
    pub id: String,
    pub image_id: String,
    pub pid: i64,
    pub settings: BTreeMap<String, String>,
}

/// [`ListedContainer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "field by field those of the port's type")]
pub struct Listed {
    pub id: String,
    pub labels: BTreeMap<String, String>,
    pub state: String,
    pub created_s: i64,
}

impl Verb {
    /// It, as an error tells it.
    pub fn told(&self) -> &'static str {
        match self {
            Self::Begin { .. } => "serve an instance",
            Self::Ping => "answer",
            Self::Facts => "describe itself",
            Self::Image { .. } => "inspect the image",
            Self::Pull { .. } => "pull",
            Self::Create(_) => "create the sandbox's container",
            Self::Start { .. } => "start the sandbox's container",
            Self::Inspect { .. } => "inspect a container",
            Self::Destroy { .. } => "remove a container",
            Self::List => "list containers",
            Self::OutOfMemorySeen { .. } => "tell its events",
        }
    }
}

/// Reads an [`Ask`] or an [`Answer`]; the mistake names the field.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|it| it.to_string())
}

/// One of them as bytes.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).unwrap_or_default()
}

impl Failure {
    /// As the port tells it. `told` is what was asked.
    pub fn engine_error(self, told: &'static str) -> EngineError {
        match self {
            Self::NotAllowed { reason } => {
                EngineError::Refused { verb: told, message: format!("the broker does not do it: {reason}") }
            }
            Self::NotRunning { address } => EngineError::NotRunning { address, source: None },
            Self::PermissionDenied { address } => EngineError::PermissionDenied { address },
            Self::Unsupported { address, reason } => EngineError::Unsupported { address, reason },
            Self::ImageNotFound { image } => EngineError::ImageNotFound { image },
            Self::ContainerNotFound { container } => EngineError::ContainerNotFound { container },
            Self::TimedOut { seconds } => EngineError::TimedOut { verb: told, seconds },
            Self::Refused { message } => EngineError::Refused { verb: told, message },
            Self::NotInRegistry { message } | Self::Unauthorized { message, .. } => {
                EngineError::Refused { verb: told, message }
            }
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NotRunning { address, .. } => Self::NotRunning { address },
            EngineError::PermissionDenied { address } => Self::PermissionDenied { address },
            EngineError::Unsupported { address, reason } => Self::Unsupported { address, reason },
            EngineError::ImageNotFound { image } => Self::ImageNotFound { image },
            EngineError::ContainerNotFound { container } => Self::ContainerNotFound { container },
            EngineError::TimedOut { seconds, .. } => Self::TimedOut { seconds },
            EngineError::Refused { message, .. } => Self::Refused { message },
        }
    }
}

/// The same fields in both.
macro_rules! alike {
    ($port:ident, $wire:ident, $($field:ident),+) => {
        impl From<$port> for $wire {
            fn from(it: $port) -> Self {
                Self { $($field: it.$field),+ }
            }
        }
        impl From<$wire> for $port {
            fn from(it: $wire) -> Self {
                Self { $($field: it.$field),+ }
            }
        }
    };
}

alike!(
    EngineFacts,
    Facts,
    description,
    api_version,
    cgroup_version,
    security_options,
    runtimes,
    limits_pids,
    limits_memory,
    limits_swap,
    limits_cpu
);
alike!(
    ImageFacts,
    Image,
    id,
    repo_digests,
    repo_tags,
    environment,
    volumes,
    size_bytes,
    architecture,
    os,
    labels,
    created
);
alike!(Profile, Filter, ptrace, netlink_route, preallocation);
alike!(Tmpfs, Place, point, bytes, inodes, exec);
alike!(InspectedContainer, Inspected, id, image_id, pid, settings);
alike!(ListedContainer, Listed, id, labels, state, created_s);

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let refused = decode::<Ask>(text.as_bytes()).expect_err("it is none");
        assert!(refused.contains(expected), "{refused}");
    }

    #[test]
    fn a_field_or_verb_that_is_not_known_is_refused_by_name() {
        check(r#"{"id": 1, "verb": {"exec": {"container": "x"}}}"#, "unknown variant `exec`");
        check(r#"{"id": 1, "verb": {"start": {"container": "x", "tty": true}}}"#, "unknown field `tty`");
        check(r#"{"id": 1, "verb": {"create": {"privileged": true}}}"#, "unknown field `privileged`");
        check(r#"{"id": 1, "as": "root", "verb": "ping"}"#, "unknown field `as`");
        check(r#"{"id": 1, "id": 2, "verb": "ping"}"#, "duplicate field `id`");
    }

    #[test]
    fn deep_nesting_ends_in_an_error() {
        let deep = format!("{}{}", r#"{"id":"#, "[".repeat(100_000));
        check(&deep, "");
    }
}
