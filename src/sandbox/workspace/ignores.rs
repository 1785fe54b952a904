//! `.aegisignore`: patterns as in `.gitignore`, one file per directory, the deepest that matches decides. A file that
//! cannot be used is an error: what its owner wanted to keep outside must not go in for a typing mistake.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{FileType, fstat};

use crate::sandbox::beneath;
use crate::sandbox::workspace::{WorkspaceError, unreadable};
use crate::task::escape::escape;

/// The name of the files with patterns.
pub const FILE_NAME: &str = ".aegisignore";
/// Bytes of one such file at the most.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// The patterns in force in a directory: its own, then those of the directories above it.
#[derive(Debug)]
pub struct Ignores {
    own: Gitignore,
    above: Option<Arc<Ignores>>,
}

/// What the patterns say of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Nothing.
    Nothing,
    /// It stays outside.
    Out,
    /// A `!` line takes it in.
    In,
}

impl Ignores {
    /// Reads the `.aegisignore` in `directory`, whose path in the workspace is `path`.
    pub fn read(
        directory: BorrowedFd<'_>,
        path: &[u8],
        above: Option<Arc<Self>>,
    ) -> Result<Arc<Self>, WorkspaceError> {
        let name = beneath::join(path, FILE_NAME.as_bytes());
        let refused = |line, reason: String| WorkspaceError::Ignore { path: escape(&name), line, reason };

        let opened = match beneath::file(directory, FILE_NAME.as_bytes()) {
            Ok(opened) => opened,
            Err(rustix::io::Errno::LOOP) => {
                return Err(refused(1, "it is a link; make it a regular file".to_owned()));
            }
            Err(cause) => return Err(unreadable(&name, cause)),
        };
        let stat = fstat(&opened).map_err(|cause| unreadable(&name, cause))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(refused(1, "it is not a regular file".to_owned()));
        }
        let mut bytes = Vec::new();
        File::from(opened).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|cause| {
            WorkspaceError::Unreadable { path: escape(&name), line: format!("/{FILE_NAME}"), cause }
        })?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(refused(1, format!("it is longer than {FILE_BYTES_MAX} bytes")));
        }

        let mut builder = GitignoreBuilder::new(rooted(path));
        for (index, line) in bytes.split(|it| *it == b'\n').enumerate() {
            let Ok(line) = std::str::from_utf8(line) else {
                return Err(refused(
                    index + 1,
                    "it is not UTF-8; match other names with `?` or `*`".to_owned(),
                ));
            };
            let line = if index == 0 { line.trim_start_matches('\u{feff}') } else { line };
            if let Err(cause) = builder.add_line(None, line) {
                return Err(refused(index + 1, escape(cause.to_string().as_bytes())));
            }
        }
        let own = builder.build().map_err(|cause| refused(1, escape(cause.to_string().as_bytes())))?;
        Ok(Arc::new(Self { own, above }))
    }

    /// Patterns that a file gives as a list, each with its line.
    pub fn listed<'a>(
        file: &str,
        patterns: impl IntoIterator<Item = (usize, &'a str)>,
    ) -> Result<Arc<Self>, WorkspaceError> {
        let refused = |line, cause: ignore::Error| WorkspaceError::Ignore {
            path: file.to_owned(),
            line,
            reason: escape(cause.to_string().as_bytes()),
        };
        let mut builder = GitignoreBuilder::new(rooted(b""));
        for (line, pattern) in patterns {
            builder.add_line(None, pattern).map_err(|cause| refused(line, cause))?;
        }
        let own = builder.build().map_err(|cause| refused(1, cause))?;
        Ok(Arc::new(Self { own, above: None }))
    }

    /// What is said of `path`. Inside a `.git` only patterns that name it count: a line `build/` means no branch.
    pub fn say(&self, path: &[u8], is_dir: bool, inside_git: bool) -> Said {
        let path = rooted(path);
        let mut next = Some(self);
        while let Some(ignores) = next {
            match ignores.own.matched(&path, is_dir) {
                Match::Ignore(glob) if !inside_git || glob.original().contains(".git") => return Said::Out,
                Match::Whitelist(_) => return Said::In,
                Match::Ignore(_) | Match::None => next = ignores.above.as_deref(),
            }
        }
        Said::Nothing
    }
}

/// A path in the workspace as if the workspace were `/`: the matcher wants one root for all.
fn rooted(path: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(&[b"/", path].concat()))
}
