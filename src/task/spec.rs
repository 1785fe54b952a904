//! What was asked for: one command and everything it needs, before policy has looked at it.

use std::path::PathBuf;

/// A task as its caller wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    /// A name that people gave it, shown in lists.
    pub name: Option<String>,
    /// Labels that people gave it.
    pub labels: Vec<(String, String)>,
    /// Program and arguments, as bytes; at least the program.
    pub command: Vec<Vec<u8>>,
    /// The image reference as typed.
    pub image: String,
    /// Where the workspace's content comes from.
    pub workspace: WorkspaceSource,
    /// What of its repository goes in.
    pub git: GitHistory,
    /// Files that are to go in although they look like secrets: paths from the workspace's root.
    pub include_secrets: Vec<String>,
    /// Ports of the task that are to be reached from the host's loopback.
    pub publish: Vec<Published>,
    /// Working directory inside the sandbox; `None` is the workspace, or the home directory without one.
    pub workdir: Option<String>,
    /// Variables of `-e` and `--env-file`, in order; later ones win.
    pub environment: Vec<(String, String)>,
    /// Secrets of the user's store that are to be put inside, by name.
    pub secrets: Vec<SecretRequest>,
    /// What comes out after the end.
    pub outputs: Vec<OutputRequest>,
}

/// One `--secret`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRequest {
    /// Its name in the store.
    pub name: String,
    /// Where it is put.
    pub place: SecretPlace,
}

/// Where a secret is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlace {
    /// A file of this name below [`SecretPlace::DIRECTORY`].
    File(String),
    /// A variable of the command's environment.
    Variable(String),
}

impl SecretPlace {
    /// Where files of secrets lie inside.
    pub const DIRECTORY: &str = "/run/secrets";

    /// The place as people read it and records keep it: a path, or `env:NAME`.
    pub fn shown(&self) -> String {
        match self {
            Self::File(name) => format!("{}/{name}", Self::DIRECTORY),
            Self::Variable(name) => format!("env:{name}"),
        }
    }
}

/// Where a workspace comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkspaceSource {
    /// No workspace.
    None,
    /// A copy of this directory, absolute.
    Directory(PathBuf),
    /// What a client sent to the server, by its digest: `sha256:…`.
    Uploaded(String),
}

/// What of a repository goes into the workspace with the working tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitHistory {
    /// All of it, without hooks and logins.
    Full,
    /// The commit at HEAD and what is staged, without older ones.
    Shallow,
    /// No `.git` at all.
    None,
}

impl GitHistory {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Full, Self::Shallow, Self::None];

    /// Its word after `--git` and in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Shallow => "shallow",
            Self::None => "none",
        }
    }

    /// The value with this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.word() == word)
    }
}

/// One `--publish`: a port of the task and the port of 127.0.0.1 on the host that leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// On the host.
    pub host_port: u16,
    /// In the sandbox.
    pub port: u16,
}

/// One `--output`: a glob, relative to the workspace or absolute inside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRequest {
    /// The pattern as typed.
    pub pattern: String,
}
