//! Paths of files that look like secrets, as a flag names them and as the globs of a policy permit them: relative to the
//! workspace, with one spelling each.

use globset::{GlobBuilder, GlobMatcher};

use crate::intake::shown;

/// The glob that stands for every path.
pub const ANY_SECRET: &str = "**";
/// Bytes of a path or a glob at the most.
const BYTES_MAX: usize = 1024;

/// Text that names no file of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no path in the workspace: {reason}")]
pub struct SecretPathError {
    /// What was given, escaped.
    pub text: String,
    /// What is wrong with it, and what to write.
    pub reason: &'static str,
}

/// The one spelling of a path: without `./` before it.
pub fn parse(text: &str) -> Result<String, SecretPathError> {
    let refused = |reason| SecretPathError { text: shown(text), reason };
    let path = text.strip_prefix("./").unwrap_or(text);
    if path.len() > BYTES_MAX {
        return Err(refused("it is longer than 1024 bytes"));
    }
    if path.starts_with('/') {
        return Err(refused("it begins with `/`; write it from the workspace's root, as `config/.env`"));
    }
    if path.ends_with('/') {
        return Err(refused("it ends with `/`; name one file"));
    }
    if path.contains('\0') || path.split('/').any(|it| matches!(it, "" | "." | "..")) {
        return Err(refused(
            "it has an empty part, `.` or `..`; write it from the workspace's root, as `config/.env`",
        ));
    }
    Ok(path.to_owned())
}

/// Compiles a glob, which shows that it is one: `*` and `?` stay within one name, `**` does not.
pub fn matcher(glob: &str) -> Result<GlobMatcher, SecretPathError> {
    parse(glob)?;
    let built = GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).build();
    let refused = || SecretPathError {
        text: shown(glob),
        reason: "as a glob it has a mistake; close every `[` and `{`",
    };
    built.map(|it| it.compile_matcher()).map_err(|_| refused())
}

/// Whether a set of globs permits a path. A text that is no glob permits nothing.
pub fn permits<'a>(globs: impl IntoIterator<Item = &'a String>, path: &str) -> bool {
    globs.into_iter().any(|it| it == ANY_SECRET || matcher(it).is_ok_and(|glob| glob.is_match(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for (text, expected) in [(".env", ".env"), ("./a/.env", "a/.env"), ("a b/*", "a b/*")] {
            assert_eq!(parse(text), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn what_is_no_path_in_the_workspace_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "an empty part"),
            ("/etc/passwd", "begins with `/`"),
            ("a/../b", "`..`"),
            ("a//b", "an empty part"),
            (".ssh/", "ends with `/`"),
            (".", "`.`"),
            (&"x".repeat(2000), "longer than 1024"),
        ] {
            let refusal = parse(text).expect_err("a refusal").to_string();
            assert!(refusal.contains(reason), "{refusal}");
        }
    }

    #[track_caller]
    fn check(glob: &str, path: &str, expected: bool) {
        assert_eq!(permits([&glob.to_owned()], path), expected, "`{glob}` and `{path}`");
    }

    #[test]
    fn a_glob_permits_what_it_matches_as_a_whole() {
        check(".env", ".env", true);
        check(".env", "a/.env", false);
        check("*", "a/.env", false);
        check("services/*/.env", "services/a/.env", true);
        check("services/*/.env", "services/a/b/.env", false);
        check("**/.env", "a/b/.env", true);
        check("**", "a/b", true);
        check("[", "[", false);
    }
}
