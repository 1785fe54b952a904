//! Where change sets are kept: a directory for each run, with a manifest and contents by digest. The manifest comes last:
//! a directory without one is what a killed process left, and is no change set.
//!
//! ```text
//! <state>/changes/<run>/manifest.json
//! <state>/changes/<run>/content/<sha256>
//! ```

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use crate::sandbox::by_run::ByRun;
use crate::sandbox::changes::manifest;
use crate::sandbox::changes::{ChangeSet, Digest};
use crate::task::RunId;

/// The directory below the state directory.
const DIRECTORY: &str = "changes";
const MANIFEST: &str = "manifest.json";
const CONTENT: &str = "content";
/// Bytes of a manifest at the most: every entry that policy may allow, with long paths.
pub(super) const MANIFEST_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The change sets of one state directory.
#[derive(Debug, Clone)]
pub struct Kept {
    by_run: ByRun,
}

/// A change set that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// It is not there, or cannot be opened.
    #[error("the kept changes `{}` cannot be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It is not what was written.
    #[error("the kept changes `{}` are damaged ({what}); run the task again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Kept {
    /// Those below `state_dir`. Nothing is made yet.
    pub fn new(state_dir: &Path) -> Self {
        Self { by_run: ByRun::new(state_dir.join(DIRECTORY)) }
    }

    /// The directory of each.
    pub fn by_run(&self) -> &ByRun {
        &self.by_run
    }

    /// Begins the change set of a run.
    pub fn begin(&self, run: RunId) -> io::Result<Draft> {
        let directory = self.by_run.of(run);
        DirBuilder::new().recursive(true).mode(0o700).create(directory.join(CONTENT))?;
        Ok(Draft { directory })
    }

    /// The change set of a run; `None` if none was kept.
    pub fn load(&self, run: RunId) -> Result<Option<ChangeSet>, KeptError> {
        let path = self.by_run.of(run).join(MANIFEST);
        let bytes = match read_bounded(&path, MANIFEST_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(KeptError::Io { path, cause }),
        };
        match manifest::decode(&bytes) {
            Ok(set) => Ok(Some(set)),
            Err(what) => Err(KeptError::Damaged { path, what }),
        }
    }

    /// The manifest of a run as it lies there; `None` if nothing was kept.
    pub(super) fn open_manifest(&self, run: RunId) -> io::Result<Option<File>> {
        match File::open(self.by_run.of(run).join(MANIFEST)) {
            Ok(file) => Ok(Some(file)),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// The digests of the contents that are kept of a run, in no order.
    pub(super) fn contents(&self, run: RunId) -> io::Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for entry in std::fs::read_dir(self.by_run.of(run).join(CONTENT))? {
            let mut digest = [0; 32];
            if hex::decode_to_slice(entry?.file_name().as_encoded_bytes(), &mut digest).is_ok() {
                digests.push(digest);
            }
        }
        Ok(digests)
    }

    /// A manifest that somebody else wrote, or what is wrong with it.
    pub(super) fn read_manifest(bytes: &[u8]) -> Result<ChangeSet, &'static str> {
        manifest::decode(bytes)
    }

    /// The content of this digest.
    pub fn open(&self, run: RunId, digest: &Digest) -> Result<File, KeptError> {
        let path = self.content(run, digest);
        File::open(&path).map_err(|cause| KeptError::Io { path, cause })
    }

    /// The content of this digest whole, held against it; `None` if it is longer than `bytes_max`.
    pub fn read(&self, run: RunId, digest: &Digest, bytes_max: u64) -> Result<Option<Vec<u8>>, KeptError> {
        let path = self.content(run, digest);
        let length = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(cause) => return Err(KeptError::Io { path, cause }),
        };
        if length > bytes_max {
            return Ok(None);
        }
        let bytes =
            read_bounded(&path, bytes_max).map_err(|cause| KeptError::Io { path: path.clone(), cause })?;
        if Digest::from(sha2::Sha256::digest(&bytes)) != *digest {
            return Err(KeptError::Damaged { path, what: "a content does not have its digest" });
        }
        Ok(Some(bytes))
    }

    fn content(&self, run: RunId, digest: &Digest) -> PathBuf {
        self.by_run.of(run).join(CONTENT).join(hex::encode(digest))
    }
}

/// A change set in the making.
#[derive(Debug)]
pub struct Draft {
    directory: PathBuf,
}

impl Draft {
    /// Begins a content.
    pub fn content(&self) -> io::Result<Content> {
        let file = tempfile::NamedTempFile::new_in(&self.directory)?;
        Ok(Content { file, digest: sha2::Sha256::new(), bytes: 0 })
    }

    /// Keeps a content under its digest.
    pub fn keep(&self, content: Content) -> io::Result<Digest> {
        let digest = content.digest();
        let path = self.directory.join(CONTENT).join(hex::encode(digest));
        content.file.persist(path).map_err(|it| it.error)?;
        Ok(digest)
    }

    /// Writes the manifest: from here on there is a change set.
    pub fn finish(self, set: &ChangeSet) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(&manifest::encode(set)?)?;
        file.persist(self.directory.join(MANIFEST)).map_err(|it| it.error)?;
        Ok(())
    }

    /// Leaves nothing.
    pub fn discard(self) {
        // What cannot be removed now is removed by a sweep.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A content in the making. Dropped, it is gone.
#[derive(Debug)]
pub struct Content {
    file: tempfile::NamedTempFile,
    digest: sha2::Sha256,
    bytes: u64,
}

impl Content {
    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// The digest of what was written.
    pub fn digest(&self) -> Digest {
        self.digest.clone().finalize().into()
    }

    /// How much was written.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;

    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other("it is longer than anything that was written"));
    }
    Ok(bytes)
}
