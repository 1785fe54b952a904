//! The first `aegis.toml` of a project, written after a look; an existing one is never touched.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::app::project::{self, FileUse};
use crate::app::{AppError, WorkspaceChoice, prepare};
use crate::intake::look::starter;

/// Who may read a new file: everybody, as with any source file.
const MODE: u32 = 0o644;

/// The text for a directory, and where it belongs.
pub fn text(directory: &Path) -> Result<(PathBuf, String), AppError> {
    let choice = WorkspaceChoice::Directory(directory.to_owned());
    let root = prepare::workspace_root(&choice)?.unwrap_or_else(|| directory.to_owned());
    let project = project::open(&root, FileUse::Ignore)?;
    let command = project.look.command(|name| project.read_small(name));
    Ok((project.file_path(), starter::text(&project.look, command.as_deref())))
}

/// Writes the file whole, or not at all.
pub fn write(path: &Path, text: &str) -> Result<(), AppError> {
    let failed = |source| AppError::Use { what: "the file", path: path.to_owned(), source };
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut draft = tempfile::Builder::new()
        .prefix(".aegis-init-")
        .permissions(std::fs::Permissions::from_mode(MODE))
        .tempfile_in(directory)
        .map_err(failed)?;
    draft.write_all(text.as_bytes()).map_err(failed)?;
    match draft.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(refused) if refused.error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(project::ProjectError::Exists { path: path.to_owned() }.into())
        }
        Err(refused) => Err(failed(refused.error)),
    }
}
