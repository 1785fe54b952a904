//! The work directory: what workspaces on disk lie in. Sandboxes can read its path in their mount table, so it is never
//! below a home or the state directory, and its name says nothing of who runs them.

use std::path::{Path, PathBuf};

use crate::config::state_dir::{DirectoryError, ensure_private};
use crate::config::surroundings::{Account, Surroundings};

/// The variable that chooses it.
const VARIABLE: &str = "AEGIS_WORK_DIR";

/// Where the work directory of an instance is.
pub fn choose(surroundings: &Surroundings, instance: &str) -> Result<PathBuf, DirectoryError> {
    let outer = match (&surroundings.work_dir, surroundings.account) {
        (Some(path), _) => path.clone(),
        (None, Account::System) => PathBuf::from("/var/lib/sandbox-work"),
        (None, Account::Person) => PathBuf::from(format!("/var/tmp/sandbox-work-{}", surroundings.uid)),
    };
    let path = outer.join(instance);
    // The engine takes the layers of a workspace as one text of options.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if !path.is_absolute() || !path.as_os_str().as_encoded_bytes().iter().all(|it| plain(*it)) {
        return Err(DirectoryError::NotPlain { path });
    }
    for below in surroundings.home.iter().chain(&surroundings.state_dir) {
        if path.starts_with(below) {
            let below = below.clone();
            return Err(DirectoryError::TellingWork { path, below });
        }
    }
    Ok(path)
}

/// Makes the directory, and the one around it, for this user alone.
pub fn ensure(path: &Path, surroundings: &Surroundings) -> Result<(), DirectoryError> {
    if let Some(outer) = path.parent().filter(|_| surroundings.work_dir.is_none()) {
        ensure_private(outer, surroundings.uid, VARIABLE)?;
    }
    ensure_private(path, surroundings.uid, VARIABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(work_dir: Option<&str>, account: Account, expected: &str) {
        let surroundings = Surroundings {
            uid: 1000,
            account,
            state_dir: Some("/srv/state".into()),
            xdg_state_home: None,
            xdg_runtime_dir: None,
            config: None,
            xdg_config_home: None,
            work_dir: work_dir.map(PathBuf::from),
            home: Some(PathBuf::from("/home/alice")),
            run: PathBuf::from("/run/aegis"),
        };
        let chosen = match choose(&surroundings, "0123abcd") {
            Ok(path) => path.display().to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(chosen, expected);
    }

    #[test]
    fn the_variable_comes_first() {
        check(Some("/data/w"), Account::System, "/data/w/0123abcd");
    }

    #[test]
    fn without_it_the_place_names_nobody() {
        check(None, Account::System, "/var/lib/sandbox-work/0123abcd");
        check(None, Account::Person, "/var/tmp/sandbox-work-1000/0123abcd");
    }

    #[test]
    fn a_path_that_tells_of_a_home_or_the_state_is_refused() {
        let refusal = |path: &str, below: &str| {
            format!(
                "`{path}/0123abcd` lies below `{below}`, and sandboxes can read that path: set AEGIS_WORK_DIR to a \
                 directory such as `/var/lib/sandbox-work`"
            )
        };
        for (path, below) in [("/home/alice/w", "/home/alice"), ("/srv/state/w", "/srv/state")] {
            check(Some(path), Account::Person, &refusal(path, below));
        }
    }

    #[test]
    fn a_path_that_the_engine_would_read_otherwise_is_refused() {
        for path in ["/a,b", "/a:b", "relative", "/a b"] {
            let refusal = format!(
                "`{path}/0123abcd` is no plain path: set AEGIS_WORK_DIR to an absolute path of letters, digits, `.`, `_` \
                 and `-`"
            );
            check(Some(path), Account::Person, &refusal);
        }
    }
}
