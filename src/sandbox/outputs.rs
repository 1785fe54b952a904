//! The way out: what a task made, written below one directory of the host. Everything that init sends is taken for
//! hostile, because the task may have become init: every rule is applied here again, whatever init applied.

pub mod destination;
pub mod extract;
pub mod path;
pub mod wanted;

mod draft;
#[cfg(test)]
mod hostile;
mod place;

use std::fmt;
use std::io;
use std::path::PathBuf;

use aegis_init::wire;
use rustix::io::Errno;

use crate::policy;
use crate::task::escape::escape;

pub use destination::{DEFAULT_DIRECTORY, Destination};
pub use extract::Extractor;
pub use path::PathFault;
pub use wanted::Wanted;

/// Dropped entries that are named; the rest is counted.
pub const DROPS_NAMED_MAX: usize = 1000;

/// Bounds of one collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLimits {
    /// Content bytes, by the size that is announced.
    pub bytes: u64,
    /// Files, directories and links, directories that only lead to them included.
    pub entries: u64,
    /// Directory levels below what a pattern matches.
    pub depth: u64,
}

impl From<&policy::Outputs> for OutputLimits {
    fn from(policy: &policy::Outputs) -> Self {
        let policy::Outputs { bytes, entries, depth, secrets: _ } = *policy;
        Self { bytes, entries, depth }
    }
}

/// A file that came out whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Path below the output directory, bytes as the task chose them.
    pub path: Vec<u8>,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, lower-case hexadecimal.
    pub sha256: String,
    /// Permission bits as asked for, 0 to 0o777; the umask of the caller is applied to the file.
    pub mode: u32,
}

/// An entry that did not come out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Its path, at most 4096 bytes of it.
    pub path: Vec<u8>,
    /// Why.
    pub why: Why,
}

/// Why an entry did not come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Init left it out.
    Inside(wire::DropReason),
    /// Its path is none that may be written.
    Path(PathFault),
    /// No pattern names it.
    NotWanted,
    /// It lies in a `.git` that no pattern names.
    Git,
    /// A link that leads out of the directory, or could.
    LinkLeadsOut,
    /// Another name of a file: there is no way to tell of which.
    HardLink,
    /// The name was written before in this collection.
    Duplicate,
    /// A link, or something else that is no directory, lies on its path.
    PathBlocked,
    /// A directory has its name.
    NameIsDirectory,
    /// The byte limit would be passed.
    ByteLimit,
    /// The entry limit was reached.
    EntryLimit,
    /// Nested too deeply.
    DepthLimit,
    /// Its content was shorter or longer than announced.
    SizeDiffers,
    /// It holds a known secret, and policy keeps such files in.
    Secret,
    /// The name is one that unfinished files have.
    ReservedName,
    /// The host could not write it: the name does not suit its file system, or its disk is full.
    Host(Errno),
}

impl From<Errno> for Why {
    fn from(cause: Errno) -> Self {
        match cause {
            Errno::NOTDIR | Errno::LOOP => Self::PathBlocked,
            _ => Self::Host(cause),
        }
    }
}

impl Why {
    /// The word for it in records and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inside(wire::DropReason::NotAFile) => "not_a_file",
            Self::Inside(wire::DropReason::EntryLimit) | Self::EntryLimit => "entry_limit",
            Self::Inside(wire::DropReason::ByteLimit) | Self::ByteLimit => "byte_limit",
            Self::Inside(wire::DropReason::DepthLimit) | Self::DepthLimit => "depth_limit",
            Self::Inside(wire::DropReason::TimeLimit) => "time_limit",
            Self::Inside(wire::DropReason::Unreadable) => "unreadable",
            Self::Inside(wire::DropReason::Foreign) => "foreign",
            Self::Path(_) => "bad_path",
            Self::NotWanted => "not_wanted",
            Self::Git => "git_directory",
            Self::LinkLeadsOut => "link_leads_out",
            Self::HardLink => "hard_link",
            Self::Duplicate => "duplicate",
            Self::PathBlocked => "path_blocked",
            Self::NameIsDirectory => "name_is_directory",
            Self::SizeDiffers => "size_differs",
            Self::Secret => "secret",
            Self::ReservedName => "reserved_name",
            Self::Host(_) => "host",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Inside(wire::DropReason::NotAFile) => "it is a FIFO, socket or device",
            Self::Inside(wire::DropReason::EntryLimit) | Self::EntryLimit => {
                "the limit of entries was reached"
            }
            Self::Inside(wire::DropReason::ByteLimit) | Self::ByteLimit => {
                "the limit of bytes would be passed"
            }
            Self::Inside(wire::DropReason::DepthLimit) | Self::DepthLimit => "it is nested too deeply",
            Self::Inside(wire::DropReason::TimeLimit) => "the time for outputs was over",
            Self::Inside(wire::DropReason::Unreadable) => "it could not be read",
            Self::Inside(wire::DropReason::Foreign) => "it belongs to the kernel or the engine",
            Self::Path(fault) => return fault.fmt(out),
            Self::NotWanted => "no output pattern names it",
            Self::Git => "a `.git` can run code for whoever enters it; name it in the pattern to get it",
            Self::LinkLeadsOut => "it is a link that could lead out of the output directory",
            Self::HardLink => "hard links do not come out",
            Self::Duplicate => "its name was taken by an earlier entry",
            Self::PathBlocked => "something that is no directory lies on its path",
            Self::NameIsDirectory => "a directory has its name",
            Self::SizeDiffers => "its content was not of the announced size",
            Self::Secret => "it holds a known secret, and `outputs.secrets` is \"block\"",
            Self::ReservedName => "its name is reserved for unfinished files",
            Self::Host(cause) => {
                return write!(out, "the host could not write it: {}", io::Error::from(*cause));
            }
        })
    }
}

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Where it lies; `None` if nothing came out and the directory is gone again.
    pub directory: Option<PathBuf>,
    /// Files, in the order in which they came.
    pub artifacts: Vec<Artifact>,
    /// Directories made.
    pub directories: u64,
    /// Links made.
    pub symlinks: u64,
    /// Content bytes of the artifacts.
    pub bytes: u64,
    /// What did not come out, at most [`DROPS_NAMED_MAX`].
    pub dropped: Vec<Dropped>,
    /// How many did not come out.
    pub dropped_count: u64,
    /// Patterns that matched nothing, by index, in order.
    pub unmatched: Vec<usize>,
    /// Whether init said that the collection is over.
    pub complete: bool,
}

/// Why Aegis could not keep what came out. What a task did wrong is a [`Why`].
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The directory cannot be made or written.
    #[error("the output directory `{}` cannot be used; name another with `--output-dir`", shown(.path))]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Something that is no directory is in its place.
    #[error("`{}` is not a directory (links are not followed there); move it away, or name another with `--output-dir`", shown(.path))]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// A pattern that nothing can match.
    #[error("`{pattern}` is not an output pattern: {reason}")]
    Pattern {
        /// As typed, escaped.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The sandbox sends on and on.
    #[error("the sandbox sent more output than any collection may hold")]
    Flood,
}

fn shown(path: &std::path::Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    escape(path.as_os_str().as_bytes())
}
