//! The user's consent to a project's file: what it asks for beyond what a run gets without it, and the record of a yes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::app::prepare::resolved;
use crate::app::project::{self, FileUse, Opened, Project, Trust};
use crate::app::{AppError, WorkspaceChoice, host, prepare, read_bytes};
use crate::config::Directories;
use crate::config::trust::{Grant, TrustStore, digest};
use crate::policy::document::guard::DOCUMENT_BYTES_MAX;
use crate::policy::document::project::FILE_NAME;
use crate::policy::{Origin, Overrides, request};
use crate::record::now_ms;
use crate::report::changed;

/// One thing that a file asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The field, as a policy file writes it, or `image`.
    pub field: String,
    /// Its value without trust.
    pub granted: String,
    /// Its value with trust.
    pub asked: String,
    /// Where the file says so.
    pub origin: String,
}

/// A project's file, read once for a question and its answer.
#[derive(Debug)]
pub struct Question {
    /// The file.
    pub path: PathBuf,
    /// What needs consent; empty where the file only tightens.
    pub asked: Vec<Asked>,
    /// What the ceiling would lower or refuse all the same.
    pub beyond: Vec<String>,
    /// What was agreed to so far.
    pub trust: Trust,
    /// The lines that changed since then.
    pub changed: Vec<String>,
    root: PathBuf,
    file: Opened,
    store: TrustStore,
}

/// What has become of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantState {
    /// The file is as it was.
    Holds,
    /// The file is another one now.
    Ended,
    /// There is no such file any more.
    Gone,
}

/// Reads the file of a project; `None` where it has none.
pub fn ask(directory: Option<&Path>) -> Result<Option<Question>, AppError> {
    let directories = Directories::of_this_user()?;
    let choice = match directory {
        Some(directory) => WorkspaceChoice::Directory(directory.to_owned()),
        None => WorkspaceChoice::Project,
    };
    let Some(root) = prepare::workspace_root(&choice)? else {
        return Ok(None);
    };
    let project = project::open(&root, FileUse::Read)?;
    let Some(file) = project.file.clone() else {
        return Ok(None);
    };
    let store = TrustStore::of(&directories.state);
    let trust = project.agreed(&file, &store)?;
    let changed = match &trust {
        Trust::Changed(grant) => changed::lines(&grant.text, &file.text),
        Trust::Given | Trust::Never | Trust::Unneeded => Vec::new(),
    };
    Ok(Some(Question {
        path: project.file_path(),
        asked: asked(&project, &file)?,
        beyond: beyond(&project, &directories)?,
        trust,
        changed,
        root,
        file,
        store,
    }))
}

impl Question {
    /// Binds the file that was read, and no other, to its directory.
    pub fn agree(&self) -> Result<Grant, AppError> {
        let granted = self.store.grant(&self.root, &self.file.text, now_ms());
        Ok(granted.map_err(project::ProjectError::from)?)
    }
}

/// Ends the trust in a directory, also in one that is no longer there; whether there was any.
pub fn revoke(directory: Option<&Path>) -> Result<(PathBuf, bool), AppError> {
    let directories = Directories::of_this_user()?;
    let named = directory.unwrap_or(Path::new("."));
    let failed = |source| AppError::Read { what: "the directory", path: named.to_owned(), source };
    let root = match directory {
        None => prepare::workspace_root(&WorkspaceChoice::Project)?,
        Some(directory) => std::fs::canonicalize(directory).ok(),
    };
    let root = match root {
        Some(root) => root,
        None => std::path::absolute(named).map_err(failed)?,
    };
    let store = TrustStore::of(&directories.state);
    let revoked = store.revoke(&root).map_err(project::ProjectError::from)?;
    Ok((root, revoked))
}

/// Everything that was agreed to, and what has become of it.
pub fn list() -> Result<Vec<(Grant, GrantState)>, AppError> {
    let directories = Directories::of_this_user()?;
    let grants = TrustStore::of(&directories.state).all().map_err(project::ProjectError::from)?;
    let with_state = |it: Grant| {
        let state = state(&it);
        (it, state)
    };
    Ok(grants.into_iter().map(with_state).collect())
}

fn state(grant: &Grant) -> GrantState {
    let Some(directory) = crate::task::escape::unescape(&grant.directory) else {
        return GrantState::Gone;
    };
    let path = PathBuf::from(OsString::from_vec(directory)).join(FILE_NAME);
    match read_bytes(&path, DOCUMENT_BYTES_MAX as u64) {
        Ok(bytes) if digest(&bytes) == grant.digest => GrantState::Holds,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => GrantState::Gone,
        Ok(_) | Err(_) => GrantState::Ended,
    }
}

fn asked(project: &Project, file: &Opened) -> Result<Vec<Asked>, AppError> {
    let mut asked = Vec::new();
    let otherwise = project.look.image();
    if let Some(image) = &file.said.image
        && request::is_another_image(&image.value, otherwise)
    {
        asked.push(Asked {
            field: "image".to_owned(),
            granted: otherwise.to_owned(),
            asked: image.value.clone(),
            origin: format!("{FILE_NAME}:{}", image.line),
        });
    }
    let requested = request::requested(&file.said.policy)?;
    for wider in request::wider(&requested, &Overrides::NONE)? {
        asked.push(Asked {
            field: wider.field.key().path.to_owned(),
            granted: wider.granted.to_string(),
            asked: wider.asked,
            origin: wider.origin.to_string(),
        });
    }
    Ok(asked)
}

fn beyond(project: &Project, directories: &Directories) -> Result<Vec<String>, AppError> {
    let nothing = (None, &Overrides::NONE);
    let resolved = resolved(nothing, Some(project), &Trust::Given, &host::amounts(&directories.state))?;
    let denied = resolved.denials.iter().map(ToString::to_string);
    // What the host has less of is no matter of consent.
    let clipped = resolved.clipped.iter().filter(|it| it.by != Origin::Host);
    Ok(denied.chain(clipped.map(ToString::to_string)).collect())
}
