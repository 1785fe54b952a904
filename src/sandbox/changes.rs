//! What a task changed in its workspace: taken out of the sandbox after its end, kept, shown, and brought into the
//! caller's tree when the caller says so. What a sandbox tells is hostile; what lies in the caller's tree is the caller's.

pub mod apply;
pub mod gather;
pub mod guard;
pub mod kept;
pub mod layer;
pub mod manifest;
pub mod parcel;

#[cfg(test)]
mod hostile;

use std::path::PathBuf;

use crate::sandbox::workspace::base::Identity;

/// SHA-256 of a content.
pub type Digest = [u8; 32];

/// Everything that a run changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeSet {
    /// The directory whose copy was the workspace.
    pub root: Root,
    /// By path, in order; no path twice.
    pub changes: Vec<Change>,
    /// Why there is more than this; empty where this is everything.
    pub limits: Vec<Limit>,
    /// Changes in places that the workspace leaves out: caches and ignored paths.
    pub left_out: u64,
    /// Changes inside a `.git`, which are never brought back.
    pub git: u64,
    /// Entries that are no change anybody could apply, the first thousand.
    pub skipped: Vec<Skipped>,
    /// How many there were.
    pub skipped_count: u64,
}

/// A directory of the caller's, by path and by what the path led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Absolute, free of links.
    pub path: PathBuf,
    /// Its device.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
}

/// One path that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Relative, as the task chose it.
    pub path: Vec<u8>,
    /// What was given; `None` for a new entry.
    pub before: Option<Before>,
    /// What it is now; `None` if it is gone.
    pub after: Option<After>,
}

/// An entry that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// Permission bits.
    pub mode: u32,
    /// What it was.
    pub kind: BeforeKind,
}

/// What an entry was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeforeKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Which file of the caller's.
        identity: Option<Identity>,
        /// Its content; `None` where the caller had changed it before it could be looked at.
        sha256: Option<Digest>,
        /// Whether a copy of it is kept.
        kept: bool,
    },
    /// A link with its target.
    Symlink(Vec<u8>),
}

/// An entry as the task left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// Permission bits, at most 0o777.
    pub mode: u32,
    /// What it is.
    pub kind: AfterKind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// Its content; `None` where a limit kept it away.
        sha256: Option<Digest>,
    },
    /// A link with its target.
    Symlink(Vec<u8>),
}

/// What a change is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Nothing was there.
    Added,
    /// It was something else.
    Modified,
    /// It is gone.
    Deleted,
}

impl Change {
    /// What it is, in a word.
    pub fn verb(&self) -> Verb {
        match (&self.before, &self.after) {
            (None, _) => Verb::Added,
            (Some(_), Some(_)) => Verb::Modified,
            (Some(_), None) => Verb::Deleted,
        }
    }
}

/// Why a change set is not everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// `outputs.entries`.
    Entries,
    /// `outputs.size`.
    Bytes,
    /// `outputs.depth`.
    Depth,
    /// The time for outputs.
    Time,
    /// Something could not be read, or was not what a sound sandbox sends.
    Unreadable,
}

impl Limit {
    /// The word for it in manifests and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Bytes => "bytes",
            Self::Depth => "depth",
            Self::Time => "time",
            Self::Unreadable => "unreadable",
        }
    }

    /// The limit of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Entries, Self::Bytes, Self::Depth, Self::Time, Self::Unreadable]
            .into_iter()
            .find(|it| it.name() == name)
    }

    /// What it means, with what to do.
    pub fn explained(self) -> &'static str {
        match self {
            Self::Entries => "more changes than `outputs.entries` of the policy allows",
            Self::Bytes => "more content than `outputs.size` of the policy allows",
            Self::Depth => "directories nested deeper than `outputs.depth` of the policy allows",
            Self::Time => "the time for outputs was over",
            Self::Unreadable => "something could not be read inside the sandbox",
        }
    }
}

/// An entry that is no change anybody could apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its path, at most 4096 bytes of it.
    pub path: Vec<u8>,
    /// Why.
    pub why: Why,
}

/// Why an entry is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A FIFO, socket or device.
    NotAFile,
    /// Its path is none that may be written.
    Path,
    /// What leads to it is no directory, or is not known.
    Parent,
    /// It was told twice.
    Duplicate,
    /// Too deep, too long, too much, too late or unreadable.
    Limit,
}

impl Why {
    /// The word for it in manifests and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotAFile => "not_a_file",
            Self::Path => "bad_path",
            Self::Parent => "no_parent",
            Self::Duplicate => "duplicate",
            Self::Limit => "limit",
        }
    }

    /// The reason of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::NotAFile, Self::Path, Self::Parent, Self::Duplicate, Self::Limit]
            .into_iter()
            .find(|it| it.name() == name)
    }

    /// What it means.
    pub fn explained(self) -> &'static str {
        match self {
            Self::NotAFile => "it is a FIFO, socket or device",
            Self::Path => "its path is none that may be written",
            Self::Parent => "what leads to it is no directory",
            Self::Duplicate => "it was told twice",
            Self::Limit => "a limit was reached, or it could not be read",
        }
    }
}
