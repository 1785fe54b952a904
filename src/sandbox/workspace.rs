//! The way in: which directory is copied, what of it, and the messages that carry it. Nothing of the host is mounted;
//! the task gets a copy that was bounded, counted and found readable before anything started.

pub mod base;
pub mod excludes;
pub mod find;
pub mod left_out;
pub mod scan;
pub mod send;
pub mod snapshot;
pub mod upload;
pub mod withheld;

mod gate;
mod git;
mod ignores;
#[cfg(test)]
mod repositories;
#[cfg(test)]
mod round_trip;
mod weight;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::Stat;

use crate::intake::project::Refusal;
use crate::policy;
use crate::record::{Withheld, WorkspaceRecord};
use crate::task::escape::escape;
use crate::task::{GitHistory, TaskSpec};

pub use base::Base;
pub use find::{accept, find_project};
pub use ignores::Ignores;
pub use left_out::LeftOut;
pub use scan::{scan, scan_excluding};
pub use send::{Sent, Stopped, send, send_changes};

/// What a workspace may be at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that the copy takes, each file rounded up to whole pages as a tmpfs stores it.
    pub bytes: u64,
    /// Files, directories and links.
    pub files: u64,
}

impl From<&policy::Filesystem> for Limits {
    fn from(policy: &policy::Filesystem) -> Self {
        Self { bytes: policy.workspace_bytes, files: policy.workspace_files }
    }
}

/// What a caller chose of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What of the repository goes in.
    pub git: GitHistory,
    /// Paths of files that go in although they are withheld; that policy permits them is judged already.
    pub include_secrets: Vec<String>,
}

impl Choice {
    /// The whole repository, and nothing that is withheld.
    pub const PLAIN: Self = Self { git: GitHistory::Full, include_secrets: Vec::new() };
}

/// What is copied, looked at once and held by open directories; [`send()`] reads the contents.
#[derive(Debug)]
pub struct Plan {
    limits: Limits,
    /// Open directories that the content comes from: the workspace, and a git directory outside of it.
    sources: Vec<OwnedFd>,
    directories: Vec<Directory>,
    /// The rules by which entries were left out.
    pub left_out: LeftOut,
    /// For people and records.
    pub summary: Summary,
}

impl Plan {
    /// What is kept of it in the record of a run.
    pub fn record(&self, task: &TaskSpec) -> WorkspaceRecord {
        WorkspaceRecord {
            git: task.git,
            included: task.include_secrets.clone(),
            withheld: self.summary.withheld.clone(),
            withheld_count: self.summary.withheld_count,
        }
    }

    /// Bytes that the copy takes, each file rounded up to whole pages.
    fn bytes(&self) -> u64 {
        let items = self.directories.iter().flat_map(|it| &it.items);
        let sizes = items.map(|it| match &it.what {
            What::File(identity) => identity.size,
            What::Text(text) => text.1.len() as u64,
            What::Symlink(_) | What::Hardlink(..) => 0,
        });
        sizes.map(|it| it.div_ceil(scan::PAGE_BYTES).saturating_mul(scan::PAGE_BYTES)).sum()
    }
}

/// What a [`Plan`] holds, and what it leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Regular files, further names of one file included.
    pub files: u64,
    /// Directories below the root.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Content bytes, each file once.
    pub bytes: u64,
    /// Entries that a pattern or a built-in rule left out; a directory counts once, with all that is in it.
    pub excluded: u64,
    /// Sockets, FIFOs and devices.
    pub skipped: u64,
    /// What a person should know, one sentence each.
    pub notes: Vec<String>,
    /// What stays outside because it looks like a secret, by path, the first thousand.
    pub withheld: Vec<Withheld>,
    /// How many stay outside in all.
    pub withheld_count: u64,
}

/// One directory of a plan with what lies in it; subdirectories follow as directories of their own.
#[derive(Debug)]
struct Directory {
    /// Index of its source.
    source: usize,
    /// Path below the source.
    from: Vec<u8>,
    /// Path inside the sandbox, relative to the workspace; empty for the workspace itself.
    to: Vec<u8>,
    /// How it is made; `None` if it is there already.
    made: Option<Meta>,
    items: Vec<Item>,
}

#[derive(Debug)]
struct Item {
    name: Vec<u8>,
    what: What,
}

#[derive(Debug)]
enum What {
    File(Identity),
    Symlink(Identity),
    /// Another name of the file at this path inside the sandbox.
    Hardlink(Vec<u8>, Identity),
    /// A file whose content is ours, not the disk's.
    Text(Box<(Meta, Vec<u8>)>),
}

/// Permission bits and modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Meta {
    mode: u32,
    mtime_s: i64,
    mtime_ns: u32,
}

impl Meta {
    // The widths of these fields differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    fn of(stat: &Stat) -> Self {
        Self {
            mode: stat.st_mode & 0o7777,
            mtime_s: stat.st_mtime as i64,
            mtime_ns: stat.st_mtime_nsec as u32,
        }
    }
}

/// What changes whenever a file does: a later look that sees the same saw the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    meta: Meta,
    /// The kernel's own time, which nobody sets.
    ctime_s: i64,
    ctime_ns: u32,
}

impl Identity {
    // The widths of these fields differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            meta: Meta::of(stat),
            ctime_s: stat.st_ctime as i64,
            ctime_ns: stat.st_ctime_nsec as u32,
        }
    }
}

/// Why a directory cannot be the workspace. Every variant is met before a sandbox exists, but [`Self::Changed`] and
/// [`Self::Stopped`].
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// It is not there, or cannot be entered.
    #[error("the workspace `{}` cannot be opened", shown(.path))]
    Missing {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It is a file or something else.
    #[error("the workspace `{}` is not a directory", shown(.path))]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// It must not be copied.
    #[error(
        "`{}` is not taken as the workspace: {refusal}; name a directory below it with `--workspace`, or run with `--no-workspace`",
        shown(.path)
    )]
    Refused {
        /// The directory.
        path: PathBuf,
        /// Why.
        refusal: Refusal,
    },
    /// A file or directory in it cannot be read.
    #[error(
        "`{path}` in the workspace cannot be read; make it readable (`chmod u+r`), or leave it out with the line `{line}` in `.aegisignore`"
    )]
    Unreadable {
        /// Path in the workspace, escaped.
        path: String,
        /// The line for `.aegisignore`.
        line: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Too many bytes or too many files.
    #[error("the workspace `{}` {excess}", shown(.path))]
    TooLarge {
        /// The directory.
        path: PathBuf,
        /// Sizes, limit, largest directories and what to do.
        excess: String,
    },
    /// A path that no kernel call takes.
    #[error(
        "the path `{start}…` in the workspace is longer than 4096 bytes; leave it out with a line in `.aegisignore`"
    )]
    PathTooLong {
        /// Its first 80 characters, escaped.
        start: String,
    },
    /// A line of an `.aegisignore` is no pattern, or the file cannot be used.
    #[error("`{path}` line {line}: {reason}")]
    Ignore {
        /// The `.aegisignore`, relative to the workspace.
        path: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it, and what to write instead.
        reason: String,
    },
    /// A file that was asked for with `--include-secret` cannot be brought in.
    #[error("`--include-secret {path}`: it {reason}")]
    NoSecret {
        /// The path, escaped.
        path: String,
        /// What is wrong with it, and what to do.
        reason: &'static str,
    },
    /// No shallow copy can be made of the repository.
    #[error("`--git shallow` cannot be made of this repository: {reason}; give `--git full` or `--git none`")]
    Shallow {
        /// Why.
        reason: String,
    },
    /// A file is not what it was when it was counted.
    #[error("`{path}` in the workspace changed while it was copied; run again when nothing writes to it")]
    Changed {
        /// Path in the workspace, escaped.
        path: String,
    },
    /// The receiver of the content went away.
    #[error("the sandbox stopped taking the workspace")]
    Stopped,
}

fn shown(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    escape(path.as_os_str().as_bytes())
}

/// The failure of a call on `path`, in the words of its fix.
fn unreadable(path: &[u8], cause: rustix::io::Errno) -> WorkspaceError {
    let path = escape(path);
    WorkspaceError::Unreadable { line: format!("/{path}"), path, cause: cause.into() }
}

fn changed(path: &[u8]) -> WorkspaceError {
    WorkspaceError::Changed { path: escape(path) }
}
