//! Looks at the disk for the directory that `crate::intake::project` judges.

use std::fs;
use std::path::{Path, PathBuf};

use crate::intake::project::{MARKS, nearest, refusal};
use crate::sandbox::workspace::WorkspaceError;

/// The project around `from`, free of links; `None` if no ancestor is marked.
pub fn find_project(from: &Path, home: Option<&Path>) -> Result<Option<PathBuf>, WorkspaceError> {
    let from = resolved(from)?;
    // A mark that cannot be looked at belongs to a directory that could not be copied either.
    let found = nearest(&from, |directory| {
        MARKS.iter().any(|mark| fs::symlink_metadata(directory.join(mark)).is_ok())
    });
    match found {
        Some(root) => accept(&root, home).map(Some),
        None => Ok(None),
    }
}

/// The directory that somebody named as the workspace, free of links.
pub fn accept(directory: &Path, home: Option<&Path>) -> Result<PathBuf, WorkspaceError> {
    let root = resolved(directory)?;
    if !root.is_dir() {
        return Err(WorkspaceError::NotADirectory { path: directory.to_path_buf() });
    }
    // A home that does not exist cannot be copied by mistake.
    let home = home.and_then(|it| fs::canonicalize(it).ok());
    match refusal(&root, home.as_deref()) {
        Some(refusal) => Err(WorkspaceError::Refused { path: root, refusal }),
        None => Ok(root),
    }
}

fn resolved(path: &Path) -> Result<PathBuf, WorkspaceError> {
    fs::canonicalize(path).map_err(|cause| WorkspaceError::Missing { path: path.to_path_buf(), cause })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A home with a project, a worktree whose `.git` is a file, a bare directory, and a link to the project.
    fn check(from: &str, expected: Result<Option<&str>, &str>) {
        let kept = tempfile::tempdir().expect("a directory");
        let base = fs::canonicalize(kept.path()).expect("its path");
        fs::create_dir_all(base.join("home/project/src/deep")).expect("directories");
        fs::create_dir_all(base.join("home/worktree/src")).expect("directories");
        fs::create_dir_all(base.join("bare")).expect("directories");
        fs::write(base.join("home/project/aegis.toml"), "").expect("a file");
        fs::write(base.join("home/worktree/.git"), "gitdir: elsewhere").expect("a file");
        symlink("home/project/src", base.join("link")).expect("a link");
        let found = find_project(&base.join(from), Some(&base.join("home"))).map_err(|it| it.to_string());
        match expected {
            Ok(root) => assert_eq!(found, Ok(root.map(|it| base.join(it)))),
            Err(part) => assert!(found.expect_err("a refusal").contains(part)),
        }
    }

    #[test]
    fn the_project_is_found_from_below() {
        check("home/project/src/deep", Ok(Some("home/project")));
    }

    #[test]
    fn a_worktree_is_a_project() {
        check("home/worktree/src", Ok(Some("home/worktree")));
    }

    #[test]
    fn links_are_resolved_first() {
        check("link/deep", Ok(Some("home/project")));
    }

    #[test]
    fn without_a_mark_there_is_none() {
        check("bare", Ok(None));
    }

    #[test]
    fn a_missing_directory_is_named() {
        check("absent", Err("absent` cannot be opened"));
    }

    fn check_accept(directory: &Path, home: &Path, expected: &str) {
        let refusal = accept(directory, Some(home)).expect_err("a refusal").to_string();
        assert!(refusal.contains(expected), "{refusal}");
    }

    #[test]
    fn the_root_and_the_home_directory_are_refused_by_name() {
        let home = tempfile::tempdir().expect("a directory");
        let link = home.path().join("link");
        symlink(home.path(), &link).expect("a link");
        check_accept(Path::new("/"), home.path(), "it is the root of the file system");
        check_accept(home.path(), home.path(), "it is your home directory");
        check_accept(&link, home.path(), "it is your home directory");
        check_accept(home.path().parent().expect("a parent"), home.path(), "your home directory lies in it");
    }

    #[test]
    fn a_file_is_not_a_workspace() {
        let home = tempfile::tempdir().expect("a directory");
        fs::write(home.path().join("file"), "").expect("a file");
        check_accept(&home.path().join("file"), home.path(), "is not a directory");
    }
}
