//! The state directory: records and logs, for its owner alone; and the instance id that lies in it.

use std::fs::{DirBuilder, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;

use crate::config::surroundings::{Account, Surroundings};

/// Digits of an instance id.
const INSTANCE_DIGITS: usize = 8;
const INSTANCE_FILE: &str = "instance";

/// A directory of ours that cannot be used. Each variant says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Nothing says where it is.
    #[error("there is no place for records: set HOME, or AEGIS_STATE_DIR to a directory of yours")]
    NoHome,
    /// A file is in its place.
    #[error("`{}` is not a directory: move it away, or set {variable} to a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
        /// The variable that chooses it.
        variable: &'static str,
    },
    /// Somebody else owns it.
    #[error("`{}` belongs to user {owner}, not to you: set {variable} to a directory of yours", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// The owner's uid.
        owner: u32,
        /// The variable that chooses it.
        variable: &'static str,
    },
    /// Others can look into it.
    #[error("`{}` is open to other users (mode {mode:03o}): run `chmod 700 {}`", path.display(), path.display())]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It cannot be written.
    #[error("`{}` is not writable: check its mode and whether its disk is mounted read-only, or set {variable}", path.display())]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// The variable that chooses it.
        variable: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No space is left.
    #[error("`{}` is on a full disk: free some space, or set {variable} to a place that has some", path.display())]
    Full {
        /// The directory.
        path: PathBuf,
        /// The variable that chooses it.
        variable: &'static str,
    },
    /// The instance id is not one.
    #[error("`{}` does not hold an instance id of {INSTANCE_DIGITS} digits: remove it while no run is active", path.display())]
    Garbled {
        /// The file.
        path: PathBuf,
    },
    /// A user without a runtime directory.
    #[error(
        "XDG_RUNTIME_DIR is not set: log in through a session, run `loginctl enable-linger`, or set it to a directory of yours with mode 0700"
    )]
    NoRuntimeDirectory,
    /// A runtime directory that the sandboxes would tell about.
    #[error("`{}` lies below `{}`, and sandboxes can read that path: set XDG_RUNTIME_DIR to a directory such as `/run/user/{uid}`", path.display(), below.display())]
    Telling {
        /// The directory.
        path: PathBuf,
        /// What it lies below.
        below: PathBuf,
        /// The user.
        uid: u32,
    },
    /// A work directory that the sandboxes would tell about.
    #[error("`{}` lies below `{}`, and sandboxes can read that path: set AEGIS_WORK_DIR to a directory such as `/var/lib/sandbox-work`", path.display(), below.display())]
    TellingWork {
        /// The directory.
        path: PathBuf,
        /// What it lies below.
        below: PathBuf,
    },
    /// A work directory that cannot be said to the engine.
    #[error("`{}` is no plain path: set AEGIS_WORK_DIR to an absolute path of letters, digits, `.`, `_` and `-`", path.display())]
    NotPlain {
        /// The directory.
        path: PathBuf,
    },
    /// A socket would not fit.
    #[error("`{}` is {bytes} bytes long, and a socket below it may have {bytes_max}: set XDG_RUNTIME_DIR to a shorter path", path.display())]
    TooLong {
        /// The directory.
        path: PathBuf,
        /// Its length.
        bytes: usize,
        /// What is left for it.
        bytes_max: usize,
    },
    /// Something else.
    #[error("the directory `{}` cannot be used", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Where the state directory is.
pub fn choose(surroundings: &Surroundings) -> Result<PathBuf, DirectoryError> {
    if let Some(path) = &surroundings.state_dir {
        return std::path::absolute(path)
            .map_err(|source| DirectoryError::Unusable { path: path.clone(), source });
    }
    if surroundings.account == Account::System {
        return Ok(PathBuf::from("/var/lib/aegis"));
    }
    // The specification has relative paths ignored.
    if let Some(path) = surroundings.xdg_state_home.as_ref().filter(|it| it.is_absolute()) {
        return Ok(path.join("aegis"));
    }
    match surroundings.home.as_ref().filter(|it| it.is_absolute()) {
        Some(home) => Ok(home.join(".local/state/aegis")),
        None => Err(DirectoryError::NoHome),
    }
}

/// Makes the state directory if it is not there, and holds it to what a private directory is.
pub fn ensure(path: &Path, uid: u32) -> Result<(), DirectoryError> {
    ensure_private(path, uid, "AEGIS_STATE_DIR")
}

/// What `ensure` would say of it as it is, without making it: an absent one is well.
pub fn inspect(path: &Path, uid: u32) -> Result<(), DirectoryError> {
    inspect_private(path, uid, "AEGIS_STATE_DIR")
}

/// The same for any directory of ours.
pub(crate) fn inspect_private(path: &Path, uid: u32, variable: &'static str) -> Result<(), DirectoryError> {
    match std::fs::metadata(path) {
        Ok(metadata) => judge(path, &metadata, uid, variable),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(told(path, variable, err)),
    }
}

/// `ensure` for any directory of ours; `variable` chooses it.
pub(crate) fn ensure_private(path: &Path, uid: u32, variable: &'static str) -> Result<(), DirectoryError> {
    let failed = |source| told(path, variable, source);
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
            std::fs::metadata(path).map_err(failed)?
        }
        Err(err) => return Err(failed(err)),
    };
    judge(path, &metadata, uid, variable)?;
    rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|err| failed(err.into()))
}

fn judge(path: &Path, metadata: &Metadata, uid: u32, variable: &'static str) -> Result<(), DirectoryError> {
    let path = path.to_owned();
    if !metadata.is_dir() {
        return Err(DirectoryError::NotADirectory { path, variable });
    }
    if metadata.uid() != uid {
        return Err(DirectoryError::NotOurs { path, owner: metadata.uid(), variable });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(DirectoryError::Exposed { path, mode: metadata.mode() & 0o777 });
    }
    Ok(())
}

fn told(path: &Path, variable: &'static str, source: io::Error) -> DirectoryError {
    let path = path.to_owned();
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT) => DirectoryError::Full { path, variable },
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
            DirectoryError::NotWritable { path, variable, source }
        }
        Some(Errno::NOTDIR | Errno::EXIST) => DirectoryError::NotADirectory { path, variable },
        Some(_) | None => DirectoryError::Unusable { path, source },
    }
}

/// The instance id of a state directory, drawn if there is none yet.
pub fn instance(state_dir: &Path) -> Result<String, DirectoryError> {
    let path = state_dir.join(INSTANCE_FILE);
    match read_instance(&path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => draw(state_dir, &path)?,
        Err(source) => return Err(DirectoryError::Unusable { path, source }),
        Ok(_) => {}
    }
    // Whoever drew first has named it.
    let text =
        read_instance(&path).map_err(|source| DirectoryError::Unusable { path: path.clone(), source })?;
    if text.len() != INSTANCE_DIGITS
        || !text.bytes().all(|it| it.is_ascii_hexdigit() && !it.is_ascii_uppercase())
    {
        return Err(DirectoryError::Garbled { path });
    }
    Ok(text)
}

fn read_instance(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(INSTANCE_DIGITS as u64 + 2).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
}

fn draw(state_dir: &Path, path: &Path) -> Result<(), DirectoryError> {
    let failed = |source| told(state_dir, "AEGIS_STATE_DIR", source);
    // The tail of a version 7 id is random.
    let id = uuid::Uuid::now_v7().simple().to_string();
    let mut file = tempfile::NamedTempFile::new_in(state_dir).map_err(failed)?;
    file.write_all(&id.as_bytes()[id.len() - INSTANCE_DIGITS..]).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(refused) => Err(failed(refused.error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn person() -> Surroundings {
        Surroundings {
            uid: 1000,
            account: Account::Person,
            state_dir: None,
            xdg_state_home: None,
            xdg_runtime_dir: None,
            config: None,
            xdg_config_home: None,
            work_dir: None,
            home: Some(PathBuf::from("/home/alice")),
            run: PathBuf::from("/run/aegis"),
        }
    }

    fn check_choice(surroundings: Surroundings, expected: &str) {
        let chosen = match choose(&surroundings) {
            Ok(path) => path.display().to_string(),
            Err(err) => err.to_string(),
        };
        assert_eq!(chosen, expected);
    }

    #[test]
    fn the_variable_comes_first() {
        check_choice(
            Surroundings { state_dir: Some("/data/a".into()), account: Account::System, ..person() },
            "/data/a",
        );
    }

    #[test]
    fn the_system_keeps_state_in_var_lib() {
        check_choice(Surroundings { account: Account::System, ..person() }, "/var/lib/aegis");
    }

    #[test]
    fn a_person_keeps_state_where_xdg_says() {
        check_choice(
            Surroundings { xdg_state_home: Some("/home/alice/.s".into()), ..person() },
            "/home/alice/.s/aegis",
        );
    }

    #[test]
    fn a_relative_xdg_path_is_ignored() {
        check_choice(
            Surroundings { xdg_state_home: Some("s".into()), ..person() },
            "/home/alice/.local/state/aegis",
        );
    }

    #[test]
    fn without_a_home_the_message_names_the_variable() {
        check_choice(
            Surroundings { home: None, ..person() },
            "there is no place for records: set HOME, or AEGIS_STATE_DIR to a directory of yours",
        );
    }

    /// Prepares a path and holds the refusal.
    fn check_refused(prepare: impl FnOnce(&Path), uid: u32, message: &str) {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("state");
        prepare(&path);
        let refusal = ensure(&path, uid).expect_err("refused").to_string();
        let expected = message.replace("PATH", &path.display().to_string());
        assert_eq!(refusal, expected);
    }

    fn uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn a_new_directory_is_private_with_its_parents() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("a/b");
        ensure(&path, uid()).expect("made");
        for made in [path.as_path(), &parent.path().join("a")] {
            assert_eq!(made.metadata().expect("read").permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_file_in_its_place_is_refused() {
        check_refused(
            |path| std::fs::write(path, b"").expect("written"),
            uid(),
            "`PATH` is not a directory: move it away, or set AEGIS_STATE_DIR to a directory",
        );
    }

    #[test]
    fn a_directory_that_others_can_read_is_refused_with_the_fix() {
        let open_up = |path: &Path| {
            DirBuilder::new().create(path).expect("made");
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o750)).expect("changed");
        };
        check_refused(open_up, uid(), "`PATH` is open to other users (mode 750): run `chmod 700 PATH`");
    }

    #[test]
    fn somebody_elses_directory_is_refused() {
        let owner = uid();
        let message = format!(
            "`PATH` belongs to user {owner}, not to you: set AEGIS_STATE_DIR to a directory of yours"
        );
        check_refused(|path| DirBuilder::new().mode(0o700).create(path).expect("made"), owner + 1, &message);
    }

    fn check_told(errno: Errno, message: &str) {
        assert_eq!(told(Path::new("/s"), "AEGIS_STATE_DIR", errno.into()).to_string(), message);
    }

    #[test]
    fn a_full_disk_is_told() {
        check_told(
            Errno::NOSPC,
            "`/s` is on a full disk: free some space, or set AEGIS_STATE_DIR to a place that has some",
        );
    }

    #[test]
    fn a_read_only_disk_is_told() {
        check_told(
            Errno::ROFS,
            "`/s` is not writable: check its mode and whether its disk is mounted read-only, or set AEGIS_STATE_DIR",
        );
    }

    #[test]
    fn an_instance_keeps_its_id() {
        let state = tempfile::tempdir().expect("a directory");
        let first = instance(state.path()).expect("drawn");
        assert_eq!(instance(state.path()).expect("read"), first);
        assert_eq!(first.len(), INSTANCE_DIGITS);
    }

    #[test]
    fn a_garbled_instance_id_is_refused() {
        let state = tempfile::tempdir().expect("a directory");
        std::fs::write(state.path().join(INSTANCE_FILE), b"../../etc").expect("written");
        assert!(
            instance(state.path()).expect_err("refused").to_string().contains("does not hold an instance id")
        );
    }
}
