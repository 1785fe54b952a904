//! A project: the directory that is copied in, its `aegis.toml`, and what a look at its root says. Everything is read
//! once, through one handle of the directory: the bytes that are judged are the bytes that are used.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, open as open_at, statat};
use rustix::io::Errno;

use crate::app::RunOrder;
use crate::config::trust::{Grant, TrustError, TrustStore, digest};
use crate::intake::look::{self, Look};
use crate::policy::document::DocumentError;
use crate::policy::document::guard::DOCUMENT_BYTES_MAX;
use crate::policy::document::project::{FILE_NAME, ProjectFile, parse};
use crate::policy::{ChoiceError, request};
use crate::report::changed;
use crate::sandbox::beneath;

/// What becomes of a project's `aegis.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileUse {
    /// It is read, and counts as far as it may.
    Read,
    /// It is left aside, unread.
    Ignore,
}

/// A project, looked at once.
#[derive(Debug)]
pub struct Project {
    /// Its directory, canonical.
    pub root: PathBuf,
    /// What it is made with.
    pub look: Look,
    /// Its file, where it has one.
    pub file: Option<Opened>,
    handle: OwnedFd,
}

/// A project's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What it says.
    pub said: ProjectFile,
    /// Its text.
    pub text: String,
    /// SHA-256 of its text, in hexadecimal.
    pub digest: String,
}

/// What the user has agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Nothing has to be agreed to.
    Unneeded,
    /// This very file in this very directory.
    Given,
    /// Nothing.
    Never,
    /// An earlier file.
    Changed(Grant),
}

/// A project that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// The file has mistakes.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// What it asks of the policy cannot be had.
    #[error(transparent)]
    Policy(#[from] ChoiceError),
    /// It cannot be read.
    #[error("`{}` cannot be read: make it readable, or run with `--no-project-file`", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a link, a directory or something else.
    #[error("`{}` is not a regular file: put one in its place, or run with `--no-project-file`", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// It is there already.
    #[error("`{}` is there already: change it by hand, or see what a new one would say with `aegis init --print`", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing to run.
    #[error(
        "there is no command: give one after `--`, or write `command = [\"make\", \"test\"]` into {FILE_NAME}"
    )]
    NoCommand,
    /// The record of what the user agreed to cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Looks at a directory, which is canonical.
pub fn open(root: &Path, file_use: FileUse) -> Result<Project, ProjectError> {
    let failed = |errno: Errno| ProjectError::Read { path: root.to_owned(), source: errno.into() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = open_at(root, flags, Mode::empty()).map_err(failed)?;
    let file = match file_use {
        FileUse::Read => read_file(root, &handle)?,
        FileUse::Ignore => None,
    };
    let look = look::look(|name| is_file(&handle, name));
    Ok(Project { root: root.to_owned(), look, file, handle })
}

impl Project {
    /// What a file at the root says, where it is a regular file and small.
    pub fn read_small(&self, name: &str) -> Option<String> {
        let file = File::from(beneath::file(self.handle.as_fd(), name.as_bytes()).ok()?);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut text = String::new();
        let read = file.take(look::READ_BYTES_MAX + 1).read_to_string(&mut text).ok()?;
        (read as u64 <= look::READ_BYTES_MAX).then_some(text)
    }

    /// The path of its file.
    pub fn file_path(&self) -> PathBuf {
        self.root.join(FILE_NAME)
    }

    /// Whether the file asks for more than an order would get without it.
    pub fn asks_for_more(&self, order: &RunOrder) -> Result<bool, ProjectError> {
        let Some(file) = &self.file else {
            return Ok(false);
        };
        let image = file.said.image.as_ref().filter(|_| order.image.is_none());
        if image.is_some_and(|it| request::is_another_image(&it.value, self.look.image())) {
            return Ok(true);
        }
        if order.policy.is_some() {
            return Ok(false);
        }
        let requested = request::requested(&file.said.policy)?;
        Ok(!request::wider(&requested, &order.overrides)?.is_empty())
    }

    /// What the user has agreed to. The store is asked only where that matters.
    pub fn trust(&self, order: &RunOrder, store: &TrustStore) -> Result<Trust, ProjectError> {
        match &self.file {
            Some(file) if self.asks_for_more(order)? => self.agreed(file, store),
            Some(_) | None => Ok(Trust::Unneeded),
        }
    }

    /// What the user has agreed to for a file of this directory.
    pub fn agreed(&self, file: &Opened, store: &TrustStore) -> Result<Trust, ProjectError> {
        Ok(match store.find(&self.root)? {
            Some(grant) if grant.digest == file.digest => Trust::Given,
            Some(grant) => Trust::Changed(grant),
            None => Trust::Never,
        })
    }

    /// What the user can do about a file that is not trusted.
    pub fn way_out(&self, trust: &Trust) -> String {
        let others = "a flag takes the place of a key, and `--no-project-file` that of the file";
        match (trust, &self.file) {
            (Trust::Changed(grant), Some(file)) => {
                let mut lines = changed::lines(&grant.text, &file.text);
                lines.insert(
                    0,
                    format!(
                        "{FILE_NAME} changed since you trusted it, as below; `aegis trust` lets you agree again; {others}"
                    ),
                );
                lines.join("\n  ")
            }
            (Trust::Changed(_) | Trust::Never | Trust::Given | Trust::Unneeded, _) => {
                format!("`aegis trust` shows what the file asks for and lets you agree; {others}")
            }
        }
    }
}

fn is_file(directory: &OwnedFd, name: &str) -> bool {
    statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|it| FileType::from_raw_mode(it.st_mode) == FileType::RegularFile)
}

fn read_file(root: &Path, directory: &OwnedFd) -> Result<Option<Opened>, ProjectError> {
    let path = root.join(FILE_NAME);
    let failed = |source: io::Error| ProjectError::Read { path: path.clone(), source };
    let opened = match beneath::file(directory.as_fd(), FILE_NAME.as_bytes()) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::NXIO) => return Err(ProjectError::NotAFile { path }),
        Err(errno) => return Err(failed(errno.into())),
    };
    let stat = fstat(&opened).map_err(|errno| failed(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(ProjectError::NotAFile { path });
    }
    let mut bytes = Vec::new();
    let bytes_max = DOCUMENT_BYTES_MAX as u64;
    File::from(opened).take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    let said =
        parse(FILE_NAME, &bytes).map_err(|err| DocumentError { file: path.display().to_string(), ..err })?;
    let digest = digest(&bytes);
    // The reader has found it to be UTF-8.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Some(Opened { said, text, digest }))
}
