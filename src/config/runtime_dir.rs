//! The runtime directory: slots and sockets, lost at a restart. Sandboxes can read its path in their mount table, so it
//! is never below a home or the state directory.

use std::path::{Path, PathBuf};

use crate::config::state_dir::{DirectoryError, ensure_private, inspect_private};
use crate::config::surroundings::{Account, Surroundings};

/// What follows the runtime directory in the longest socket path: `/slots/4095/in/control.sock`.
const SOCKET_BYTES: usize = 27;
/// `sun_path` is 108 bytes with its end; a socket's path stays below this.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// Where the runtime directory of an instance is.
pub fn choose(surroundings: &Surroundings, instance: &str) -> Result<PathBuf, DirectoryError> {
    let path = match surroundings.account {
        Account::System => surroundings.run.join(instance),
        Account::Person => of_a_person(surroundings)?.join("aegis").join(instance),
    };
    let (bytes, bytes_max) = (path.as_os_str().len(), SOCKET_PATH_BYTES_MAX - SOCKET_BYTES - 1);
    if bytes > bytes_max {
        return Err(DirectoryError::TooLong { path, bytes, bytes_max });
    }
    Ok(path)
}

fn of_a_person(surroundings: &Surroundings) -> Result<PathBuf, DirectoryError> {
    let Some(path) = surroundings.xdg_runtime_dir.as_ref().filter(|it| it.is_absolute()) else {
        return Err(DirectoryError::NoRuntimeDirectory);
    };
    for below in surroundings.home.iter().chain(&surroundings.state_dir) {
        if path.starts_with(below) {
            let (path, below) = (path.clone(), below.clone());
            return Err(DirectoryError::Telling { path, below, uid: surroundings.uid });
        }
    }
    Ok(path.clone())
}

/// Makes the directory. A person's own runtime directory must be there and private already.
pub fn ensure(path: &Path, surroundings: &Surroundings) -> Result<(), DirectoryError> {
    match (surroundings.account, &surroundings.xdg_runtime_dir) {
        (Account::Person, Some(outer)) => ensure_outer(outer, surroundings.uid)?,
        (Account::Person, None) => return Err(DirectoryError::NoRuntimeDirectory),
        (Account::System, _) => {}
    }
    ensure_private(path, surroundings.uid, VARIABLE)
}

/// What `ensure` would say of it as it is, without making it.
pub fn inspect(path: &Path, surroundings: &Surroundings) -> Result<(), DirectoryError> {
    match (surroundings.account, &surroundings.xdg_runtime_dir) {
        (Account::Person, Some(outer)) if outer.exists() => {
            inspect_private(outer, surroundings.uid, VARIABLE)?
        }
        (Account::Person, Some(outer)) => {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(DirectoryError::Unusable { path: outer.to_owned(), source });
        }
        (Account::Person, None) => return Err(DirectoryError::NoRuntimeDirectory),
        (Account::System, _) => {}
    }
    inspect_private(path, surroundings.uid, VARIABLE)
}

const VARIABLE: &str = "XDG_RUNTIME_DIR";

/// The session makes this one: absent, it is not made by us in a place that somebody else may control.
fn ensure_outer(outer: &Path, uid: u32) -> Result<(), DirectoryError> {
    if !outer.exists() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(DirectoryError::Unusable { path: outer.to_owned(), source });
    }
    ensure_private(outer, uid, VARIABLE)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn person(runtime: Option<&str>) -> Surroundings {
        Surroundings {
            uid: rustix::process::geteuid().as_raw(),
            account: Account::Person,
            state_dir: None,
            xdg_state_home: None,
            xdg_runtime_dir: runtime.map(PathBuf::from),
            config: None,
            xdg_config_home: None,
            work_dir: None,
            home: Some(PathBuf::from("/home/alice")),
            run: PathBuf::from("/run/aegis"),
        }
    }

    fn check(surroundings: &Surroundings, expected: &str) {
        let chosen = match choose(surroundings, "0badcafe") {
            Ok(path) => path.display().to_string(),
            Err(err) => err.to_string(),
        };
        assert!(chosen.starts_with(expected), "{chosen}");
    }

    #[test]
    fn the_system_runs_below_run() {
        check(&Surroundings { account: Account::System, ..person(None) }, "/run/aegis/0badcafe");
    }

    #[test]
    fn a_person_runs_below_the_sessions_directory() {
        check(&person(Some("/run/user/1000")), "/run/user/1000/aegis/0badcafe");
    }

    #[test]
    fn without_a_session_the_message_says_how_to_get_one() {
        check(&person(None), "XDG_RUNTIME_DIR is not set: log in through a session");
    }

    #[test]
    fn a_directory_below_the_home_is_refused() {
        check(&person(Some("/home/alice/run")), "`/home/alice/run` lies below `/home/alice`");
    }

    #[test]
    fn a_path_without_room_for_a_socket_is_refused() {
        check(&person(Some(&format!("/run/{}", "u".repeat(70)))), "`/run/uuu");
    }

    #[test]
    fn a_sessions_directory_that_others_can_enter_is_refused() {
        let outer = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(outer.path(), std::fs::Permissions::from_mode(0o755)).expect("changed");
        let surroundings = person(outer.path().to_str());
        let path = choose(&surroundings, "0badcafe").expect("chosen");
        let refusal = ensure(&path, &surroundings).expect_err("refused").to_string();
        assert!(refusal.contains("is open to other users (mode 755)"), "{refusal}");
        assert!(!path.exists());
    }

    #[test]
    fn an_absent_sessions_directory_is_not_made() {
        let outer = tempfile::tempdir().expect("a directory");
        let surroundings = person(outer.path().join("gone").to_str());
        let path = choose(&surroundings, "0badcafe").expect("chosen");
        assert!(ensure(&path, &surroundings).is_err());
        assert!(!outer.path().join("gone").exists());
    }
}
