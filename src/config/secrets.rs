//! The user's secrets: one age-encrypted file below the state directory, for its owner alone. Each has its value, or says
//! where the value is (a variable, a file).
//!
//! A process that opens the store leaves no core dump and cannot be looked into by others of its user.

mod document;
mod key;
mod source;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::process::DumpableBehavior;
use zeroize::Zeroizing;

use crate::config::private_file;
use crate::config::state_dir::{self, DirectoryError};
use crate::redact::Unfit;

use key::Key;
pub use key::KeyPlace;
pub use source::{Origin, Secret};

/// Secrets of one store at the most.
pub const SECRETS_MAX: usize = 1000;
const STORE_FILE: &str = "secrets.age";
const LOCK_FILE: &str = "secrets.lock";
/// Bytes of the file at the most: the most secrets of ordinary size, or ten of the largest. Each byte of a value is there
/// some sixty times while its forms are compiled.
const STORE_BYTES_MAX: u64 = 1024 * 1024;

/// Where secrets are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretStore {
    directory: PathBuf,
    key: KeyPlace,
}

/// Why a secret or the store cannot be used. No text of it has a value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A file of the store.
    #[error("`{}` cannot be used", path.display())]
    Use {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing to decrypt with.
    #[error("{place} is not there: bring it back; without it nobody can read `{}`, and it can only be removed", store.display())]
    KeyMissing {
        /// Where it is looked for.
        place: String,
        /// What it is for.
        store: PathBuf,
    },
    /// No key.
    #[error("{place} holds no key: it must be one line that begins with AGE-SECRET-KEY-1")]
    KeyGarbled {
        /// Where it was read.
        place: String,
    },
    /// A key that others can read.
    #[error("`{}` is open to other users (mode {mode:03o}): run `chmod 600 {}`, and `aegis secret rotate` if others were here", path.display(), path.display())]
    KeyExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another key, or other bytes.
    #[error("`{}` cannot be read with {place}: it was written with another key, or is damaged", store.display())]
    Locked {
        /// The store.
        store: PathBuf,
        /// The key's place.
        place: String,
    },
    /// No such secret.
    #[error(
        "there is no secret `{name}`: `aegis secret set {name}` makes it, `aegis secret ls` lists those that are there"
    )]
    Unknown {
        /// Its name.
        name: String,
    },
    /// Its variable is not set.
    #[error("the secret `{name}` is in the variable `{variable}`, which is not set")]
    NoVariable {
        /// The secret.
        name: String,
        /// The variable.
        variable: String,
    },
    /// Its file cannot be read.
    #[error("the secret `{name}` is in the file `{}`, which cannot be read", path.display())]
    NoFile {
        /// The secret.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A value that cannot be kept out of an output.
    #[error("the value of `{name}` is not taken: {unfit}")]
    Unfit {
        /// The secret.
        name: String,
        /// Why.
        unfit: Unfit,
    },
    /// Too many.
    #[error(
        "the store takes {SECRETS_MAX} secrets and {STORE_BYTES_MAX} bytes at the most: remove some with `aegis secret rm`, or keep \
         large ones in files (`--from-file`)"
    )]
    Full,
    /// A key that is not ours to change.
    #[error(
        "the key is in {place}, which Aegis does not write: put a new key there, and set the secrets anew"
    )]
    ForeignKey {
        /// Where.
        place: String,
    },
}

impl SecretStore {
    /// The store below this state directory, with the key where this process's environment says.
    pub fn of(state: &Path) -> Self {
        Self { directory: state.to_owned(), key: KeyPlace::of_this_process(state) }
    }

    /// Whether there is one: where not, nothing needs a key.
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    /// Every secret, by name; none where there is no store.
    pub fn read(&self) -> Result<Vec<Secret>, SecretError> {
        let path = self.path();
        let bytes = match read_private(&path, STORE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(SecretError::Use { path, source }),
        };
        hide_this_process()?;
        let key = self
            .key
            .read()?
            .ok_or_else(|| SecretError::KeyMissing { place: self.key.to_string(), store: path.clone() })?;
        let locked = || SecretError::Locked { store: path.clone(), place: self.key.to_string() };
        let text = key.decrypt(&bytes).ok_or_else(locked)?;
        document::read(&text).ok_or_else(locked)
    }

    /// The secret of this name.
    pub fn find(&self, name: &str) -> Result<Secret, SecretError> {
        let found = self.read()?.into_iter().find(|it| it.name == name);
        found.ok_or_else(|| SecretError::Unknown { name: name.to_owned() })
    }

    /// Puts a secret in the place of the one of its name; whether there was one.
    pub fn set(&self, secret: Secret) -> Result<bool, SecretError> {
        let lock = self.lock()?;
        let mut secrets = self.read()?;
        let before = secrets.len();
        secrets.retain(|it| it.name != secret.name);
        let replaced = secrets.len() < before;
        if secrets.len() >= SECRETS_MAX {
            return Err(SecretError::Full);
        }
        secrets.push(secret);
        secrets.sort_by(|left, right| left.name.cmp(&right.name));
        self.write(&secrets, &[&self.key.read_or_make()?])?;
        drop(lock);
        Ok(replaced)
    }

    /// Removes secrets; if one of them is not there, none.
    pub fn remove(&self, names: &[String]) -> Result<(), SecretError> {
        let lock = self.lock()?;
        let mut secrets = self.read()?;
        if let Some(name) = names.iter().find(|name| secrets.iter().all(|it| it.name != **name)) {
            return Err(SecretError::Unknown { name: (*name).clone() });
        }
        secrets.retain(|it| !names.contains(&it.name));
        self.write(&secrets, &[&self.key.read_or_make()?])?;
        drop(lock);
        Ok(())
    }

    /// Encrypts everything anew with a new key. Wherever it is interrupted, the key that is in its place reads the store.
    pub fn rotate_key(&self) -> Result<(), SecretError> {
        let lock = self.lock()?;
        let secrets = self.read()?;
        let (old, new) = (self.key.read_or_make()?, Key::generate());
        self.key.check_ours()?;
        self.write(&secrets, &[&old, &new])?;
        self.key.replace(&new)?;
        self.write(&secrets, &[&new])?;
        drop(lock);
        Ok(())
    }

    fn write(&self, secrets: &[Secret], keys: &[&Key]) -> Result<(), SecretError> {
        let path = self.path();
        let failed = |source| SecretError::Use { path: path.clone(), source };
        let text = document::write(secrets).map_err(failed)?;
        let bytes = Key::encrypt(keys, &text).map_err(failed)?;
        if bytes.len() as u64 > STORE_BYTES_MAX {
            return Err(SecretError::Full);
        }
        replace(&path, &bytes).map_err(failed)
    }

    /// One writer at a time. The file that is locked stays; the store itself is replaced.
    fn lock(&self) -> Result<File, SecretError> {
        hide_this_process()?;
        state_dir::ensure(&self.directory, rustix::process::geteuid().as_raw())?;
        let path = self.directory.join(LOCK_FILE);
        let failed = |source| SecretError::Use { path: path.clone(), source };
        let flags = OFlags::NOFOLLOW.bits() as i32;
        let mut options = OpenOptions::new();
        let file =
            options.write(true).create(true).mode(0o600).custom_flags(flags).open(&path).map_err(failed)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|it| failed(it.into()))?;
        Ok(file)
    }

    fn path(&self) -> PathBuf {
        self.directory.join(STORE_FILE)
    }
}

/// This process leaves no core dump from here on, and no other of its user can read its memory.
pub fn hide_this_process() -> Result<(), SecretError> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|it| SecretError::Use { path: PathBuf::from("/proc/self"), source: it.into() })
}

/// Puts a file in its place whole, for its owner alone.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    // Made with mode 0600.
    let mut draft = tempfile::Builder::new().prefix(".aegis-secret-").tempfile_in(directory)?;
    draft.write_all(bytes)?;
    draft.as_file().sync_all()?;
    draft.persist(path).map_err(|it| it.error)?;
    File::open(directory)?.sync_all()
}

/// A regular file of at most so many bytes; links are not followed and nothing is waited for.
fn read_private(path: &Path, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    private_file::read_whole(&OpenOptions::new().read(true).custom_flags(flags).open(path)?, bytes_max)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const VALUE: &[u8] = b"hunter2-hunter2";

    fn store() -> (tempfile::TempDir, SecretStore) {
        let state = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(state.path(), std::fs::Permissions::from_mode(0o700)).expect("a mode");
        let key = KeyPlace::Own(state.path().join("secret.key"));
        let store = SecretStore { directory: state.path().to_owned(), key };
        (state, store)
    }

    fn secret(name: &str) -> Secret {
        Secret::stored(name, VALUE, 7).expect("fit")
    }

    fn names(store: &SecretStore) -> Vec<String> {
        store.read().expect("read").into_iter().map(|it| it.name).collect()
    }

    #[test]
    fn what_was_set_is_read_again_and_removed_again() {
        let (_state, store) = store();
        assert!(!store.exists() && names(&store).is_empty());
        assert!(!store.set(secret("b")).expect("set"));
        assert!(!store.set(secret("a")).expect("set"));
        assert!(store.set(secret("b")).expect("replaced"));
        assert_eq!(names(&store), ["a", "b"]);
        let known = store.find("a").and_then(|it| it.known()).expect("known");
        assert_eq!(known.value(), VALUE);
        let refusal = store.remove(&["a".to_owned(), "c".to_owned()]).expect_err("refused").to_string();
        assert!(refusal.contains("there is no secret `c`"), "{refusal}");
        store.remove(&["a".to_owned()]).expect("removed");
        assert_eq!(names(&store), ["b"]);
    }

    #[test]
    fn its_files_are_for_their_owner_alone_and_hold_no_value() {
        let (state, store) = store();
        store.set(secret("a")).expect("set");
        for file in [STORE_FILE, LOCK_FILE, "secret.key"] {
            let path = state.path().join(file);
            assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600, "{file}");
            let bytes = std::fs::read(path).expect("read");
            assert!(memchr::memmem::find(&bytes, VALUE).is_none(), "{file}");
        }
    }

    #[test]
    fn a_new_key_reads_everything_and_the_old_one_nothing() {
        let (state, store) = store();
        store.set(secret("a")).expect("set");
        let old = std::fs::read(state.path().join("secret.key")).expect("read");
        store.rotate_key().expect("rotated");
        assert_eq!(names(&store), ["a"]);
        std::fs::write(state.path().join("secret.key"), old).expect("written");
        assert!(matches!(store.read(), Err(SecretError::Locked { .. })));
    }

    #[test]
    fn a_rotation_that_was_interrupted_leaves_a_store_that_both_keys_read() {
        let (_state, store) = store();
        store.set(secret("a")).expect("set");
        let (secrets, old, new) =
            (store.read().expect("read"), store.key.read_or_make().expect("a key"), Key::generate());
        store.write(&secrets, &[&old, &new]).expect("written");
        assert_eq!(names(&store), ["a"]);
        store.key.replace(&new).expect("replaced");
        assert_eq!(names(&store), ["a"]);
    }

    #[test]
    fn a_store_without_its_key_is_told() {
        let (state, store) = store();
        store.set(secret("a")).expect("set");
        std::fs::remove_file(state.path().join("secret.key")).expect("removed");
        let refusal = store.read().expect_err("refused").to_string();
        assert!(refusal.contains("is not there: bring it back"), "{refusal}");
        // A new key would make the old store unreadable for good.
        assert!(store.set(secret("b")).is_err());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let (state, store) = store();
        store.set(secret("a")).expect("set");
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(state.path().join("secret.key"), open).expect("a mode");
        assert!(matches!(store.read(), Err(SecretError::KeyExposed { mode: 0o644, .. })));
    }

    #[test]
    fn nothing_that_is_printed_has_a_value() {
        let (_state, store) = store();
        store.set(secret("a")).expect("set");
        assert!(!format!("{:?}{:?}", store, store.read().expect("read")).contains("hunter2"));
    }
}
