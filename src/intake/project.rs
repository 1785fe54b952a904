//! Which directory is the project: the nearest one upwards that carries a mark. Pure; the caller looks at the disk.

use std::fmt;
use std::path::{Path, PathBuf};

/// Names that mark a directory as the root of a project. `.git` is a directory, or a file in worktrees and submodules.
pub const MARKS: [&str; 2] = ["aegis.toml", ".git"];

/// Why a directory is not taken as a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is `/`.
    Root,
    /// It is the home directory.
    Home,
    /// The home directory lies in it.
    AboveHome,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Root => "it is the root of the file system",
            Self::Home => "it is your home directory",
            Self::AboveHome => "your home directory lies in it",
        })
    }
}

/// The nearest of `from` and its ancestors that is marked. `from` is absolute and free of links.
pub fn nearest(from: &Path, mut marked: impl FnMut(&Path) -> bool) -> Option<PathBuf> {
    from.ancestors().find(|it| marked(it)).map(Path::to_path_buf)
}

/// Whether a directory must not be copied whole: keys and histories of everything else lie in it. Both paths are
/// absolute and free of links.
pub fn refusal(directory: &Path, home: Option<&Path>) -> Option<Refusal> {
    if directory.parent().is_none() {
        return Some(Refusal::Root);
    }
    let home = home?;
    if directory == home {
        return Some(Refusal::Home);
    }
    home.starts_with(directory).then_some(Refusal::AboveHome)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_nearest(from: &str, marked: &[&str], expected: Option<&str>) {
        let found = nearest(Path::new(from), |it| marked.contains(&it.to_str().unwrap_or_default()));
        assert_eq!(found.as_deref(), expected.map(Path::new));
    }

    fn check_refusal(directory: &str, expected: Option<Refusal>) {
        assert_eq!(refusal(Path::new(directory), Some(Path::new("/home/ada"))), expected);
    }

    #[test]
    fn the_nearest_mark_wins() {
        check_nearest("/a/b/c", &["/a", "/a/b"], Some("/a/b"));
    }

    #[test]
    fn the_directory_itself_counts() {
        check_nearest("/a/b", &["/a/b", "/a"], Some("/a/b"));
    }

    #[test]
    fn without_a_mark_there_is_no_project() {
        check_nearest("/a/b", &["/c"], None);
    }

    #[test]
    fn a_marked_root_is_found_and_then_refused() {
        check_nearest("/a", &["/"], Some("/"));
        check_refusal("/", Some(Refusal::Root));
    }

    #[test]
    fn the_home_directory_and_what_holds_it_are_refused() {
        check_refusal("/home/ada", Some(Refusal::Home));
        check_refusal("/home", Some(Refusal::AboveHome));
    }

    #[test]
    fn a_project_at_home_is_taken() {
        check_refusal("/home/ada/project", None);
        check_refusal("/home/adam", None);
    }
}
