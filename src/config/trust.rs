//! Which project files a user has agreed to: the canonical directory, and the very bytes. One small file per directory
//! below the state directory, so that two commands never write the same one. It holds no secret and grants nothing by
//! itself: the bytes that are judged are compared with it each time.

mod document;

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::config::state_dir;
use crate::task::escape::escape;

/// Bytes of one record: the file's 64 KiB, each byte at most six in JSON, and the rest.
const RECORD_BYTES_MAX: u64 = 512 * 1024;
/// Records that a list reads.
const LISTED_MAX: usize = 10_000;

/// What a user has agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The project's directory, canonical, escaped.
    pub directory: String,
    /// SHA-256 of the file, in hexadecimal.
    pub digest: String,
    /// The file itself, so that a change can be shown.
    pub text: String,
    /// When, in milliseconds since 1970.
    pub granted_ms: i64,
}

/// Where grants are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustStore {
    directory: PathBuf,
}

/// A record of trust that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It cannot be read or written.
    #[error("the record of trust `{}` cannot be used", path.display())]
    Use {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is none.
    #[error("`{}` is no record of trust: remove it, then run `aegis trust` again", path.display())]
    Garbled {
        /// The file.
        path: PathBuf,
    },
    /// Its directory cannot be used.
    #[error(transparent)]
    Directory(#[from] state_dir::DirectoryError),
}

/// SHA-256 of a file's bytes, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl TrustStore {
    /// The store of a state directory.
    pub fn of(state: &Path) -> Self {
        Self { directory: state.join("trust") }
    }

    /// What was agreed to for a directory, which is canonical.
    pub fn find(&self, directory: &Path) -> Result<Option<Grant>, TrustError> {
        let path = self.path(directory);
        match read(&path) {
            Ok(bytes) => {
                let grant = document::read(&bytes).filter(|it| it.directory == shown(directory));
                grant.map(Some).ok_or(TrustError::Garbled { path })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(TrustError::Use { path, source }),
        }
    }

    /// Binds the bytes of a file to its directory, which is canonical.
    pub fn grant(&self, directory: &Path, text: &str, now_ms: i64) -> Result<Grant, TrustError> {
        let uid = rustix::process::geteuid().as_raw();
        state_dir::ensure_private(&self.directory, uid, "AEGIS_STATE_DIR")?;
        let grant = Grant {
            directory: shown(directory),
            digest: digest(text.as_bytes()),
            text: text.to_owned(),
            granted_ms: now_ms,
        };
        let path = self.path(directory);
        let failed = |source| TrustError::Use { path: path.clone(), source };
        let mut draft = tempfile::NamedTempFile::new_in(&self.directory).map_err(failed)?;
        draft.write_all(&document::write(&grant).map_err(failed)?).map_err(failed)?;
        draft.as_file().sync_all().map_err(failed)?;
        draft.persist(&path).map_err(|it| failed(it.error))?;
        Ok(grant)
    }

    /// Ends the trust in a directory; whether there was any.
    pub fn revoke(&self, directory: &Path) -> Result<bool, TrustError> {
        let path = self.path(directory);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(TrustError::Use { path, source }),
        }
    }

    /// Every grant, by directory.
    pub fn all(&self) -> Result<Vec<Grant>, TrustError> {
        let failed = |source| TrustError::Use { path: self.directory.clone(), source };
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed(source)),
        };
        let mut grants = Vec::new();
        for entry in entries.take(LISTED_MAX) {
            let path = entry.map_err(failed)?.path();
            // A draft of a command that was killed.
            if path.extension().is_none_or(|it| it != "json") {
                continue;
            }
            let bytes = read(&path).map_err(|source| TrustError::Use { path: path.clone(), source })?;
            grants.push(document::read(&bytes).ok_or(TrustError::Garbled { path })?);
        }
        grants.sort_by(|a, b| a.directory.cmp(&b.directory));
        Ok(grants)
    }

    fn path(&self, directory: &Path) -> PathBuf {
        self.directory.join(format!("{}.json", digest(directory.as_os_str().as_bytes())))
    }
}

fn shown(directory: &Path) -> String {
    escape(directory.as_os_str().as_bytes())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let mut bytes = Vec::new();
    file.take(RECORD_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > RECORD_BYTES_MAX {
        return Err(io::Error::other("it is larger than any record of trust"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn store() -> (tempfile::TempDir, TrustStore) {
        let state = tempfile::tempdir().expect("a directory");
        let store = TrustStore::of(state.path());
        (state, store)
    }

    #[test]
    fn what_was_agreed_to_is_found_again() {
        let (_state, store) = store();
        let grant = store.grant(Path::new("/p/ä"), "image = \"x\"\n", 7).expect("kept");
        assert_eq!(store.find(Path::new("/p/ä")).expect("read"), Some(grant.clone()));
        assert_eq!(store.all().expect("read"), [grant]);
    }

    #[test]
    fn another_directory_is_not_trusted() {
        let (_state, store) = store();
        store.grant(Path::new("/p"), "", 7).expect("kept");
        assert_eq!(store.find(Path::new("/p/q")).expect("read"), None);
    }

    #[test]
    fn trust_is_revoked_once() {
        let (_state, store) = store();
        store.grant(Path::new("/p"), "", 7).expect("kept");
        assert!(store.revoke(Path::new("/p")).expect("removed"));
        assert!(!store.revoke(Path::new("/p")).expect("nothing there"));
        assert_eq!(store.find(Path::new("/p")).expect("read"), None);
    }

    #[test]
    fn a_record_is_for_its_owner_alone() {
        let (_state, store) = store();
        store.grant(Path::new("/p"), "", 7).expect("kept");
        let mode = |path: &Path| path.metadata().expect("read").permissions().mode() & 0o777;
        assert_eq!((mode(&store.directory), mode(&store.path(Path::new("/p")))), (0o700, 0o600));
    }

    /// Puts bytes in the place of a record and holds that they are told, not believed.
    fn check_garbled(bytes: &[u8]) {
        let (_state, store) = store();
        store.grant(Path::new("/p"), "", 7).expect("kept");
        std::fs::write(store.path(Path::new("/p")), bytes).expect("written");
        let refusal = store.find(Path::new("/p")).expect_err("refused").to_string();
        assert!(refusal.contains("is no record of trust: remove it"), "{refusal}");
    }

    #[test]
    fn a_record_that_is_none_is_told() {
        check_garbled(b"");
        check_garbled(b"{\"schema\":\"aegis.trust/1\"}");
    }

    #[test]
    fn a_record_of_another_directory_is_none_of_this() {
        let grant = Grant { directory: "/q".into(), digest: digest(b""), text: String::new(), granted_ms: 7 };
        check_garbled(&document::write(&grant).expect("JSON"));
    }

    #[test]
    fn a_record_whose_text_is_not_its_digests_is_none() {
        let grant =
            Grant { directory: "/p".into(), digest: digest(b"x"), text: String::new(), granted_ms: 7 };
        check_garbled(&document::write(&grant).expect("JSON"));
    }
}
