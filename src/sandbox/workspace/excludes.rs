//! What stays outside without being asked: outputs of earlier runs and caches that a build makes again. A `!` line in
//! `.aegisignore` takes a cache back in, and never outputs: what a task wrote is not what a later one is given unasked.
//! `node_modules` goes in: there is no network inside to make it again.

/// A directory that is left out, with the reason.
#[derive(Debug, Clone, Copy)]
pub struct Exclude {
    /// Its name.
    pub name: &'static str,
    /// Where it must lie.
    pub place: Place,
    /// Why it may be left out.
    pub reason: &'static str,
}

/// Where an excluded directory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Anywhere.
    Anywhere,
    /// Beside a file of this name.
    Beside(&'static str),
}

/// Where a run's outputs go by default, in the directory in which it was begun.
pub const OUTPUTS: &str = crate::sandbox::outputs::destination::DEFAULT_DIRECTORY;

/// Every built-in rule.
pub const EXCLUDES: [Exclude; 8] = [
    Exclude { name: OUTPUTS, place: Place::Anywhere, reason: "outputs of earlier runs" },
    Exclude { name: "target", place: Place::Beside("Cargo.toml"), reason: "cargo builds it again" },
    Exclude { name: "__pycache__", place: Place::Anywhere, reason: "Python compiles it again" },
    Exclude { name: ".pytest_cache", place: Place::Anywhere, reason: "pytest's memory of earlier runs" },
    Exclude { name: ".mypy_cache", place: Place::Anywhere, reason: "mypy checks again" },
    Exclude { name: ".ruff_cache", place: Place::Anywhere, reason: "ruff checks again" },
    Exclude { name: ".tox", place: Place::Anywhere, reason: "environments with absolute paths of this host" },
    Exclude { name: ".gradle", place: Place::Anywhere, reason: "Gradle's caches and locks of this host" },
];

/// The rule that leaves the directory `name` out, if any; `has_sibling` tells whether the directory that it lies in holds
/// an entry of a name.
pub fn excluded(name: &[u8], has_sibling: impl Fn(&[u8]) -> bool) -> Option<&'static Exclude> {
    EXCLUDES.iter().find(|it| {
        it.name.as_bytes() == name
            && match it.place {
                Place::Anywhere => true,
                Place::Beside(sibling) => has_sibling(sibling.as_bytes()),
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, siblings: &[&str], expected: bool) {
        let rule = excluded(name.as_bytes(), |it| siblings.iter().any(|s| s.as_bytes() == it));
        assert_eq!(rule.is_some(), expected);
    }

    #[test]
    fn outputs_stay_outside_wherever_a_run_was_begun() {
        check("aegis-out", &[], true);
    }

    #[test]
    fn a_target_directory_is_a_cache_only_beside_a_manifest() {
        check("target", &["Cargo.toml"], true);
        check("target", &["pom.xml"], false);
    }

    #[test]
    fn caches_of_python_stay_outside_anywhere() {
        check("__pycache__", &[], true);
    }

    #[test]
    fn installed_node_modules_go_in() {
        check("node_modules", &["package.json"], false);
    }
}
