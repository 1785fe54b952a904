//! Contents that the task was given: of the caller's tree, as long as they are what they were, or of the messages that a
//! client sent.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, fstat};
use sha2::{Digest as _, Sha256};

use crate::sandbox::beneath;
use crate::sandbox::changes::kept::Draft;
use crate::sandbox::changes::{Digest, Root};
use crate::sandbox::outputs::path::SafePath;
use crate::sandbox::workspace::base::Identity;
use crate::sandbox::workspace::upload::listing::{self, Listing};
use crate::task::escape::escape;

/// A file up to this size is kept, so that a difference can be shown later.
pub const KEPT_BYTES_MAX: u64 = 1024 * 1024;
/// All of them together.
const KEPT_TOTAL_MAX: u64 = 64 * 1024 * 1024;
/// Bytes that are read at the most; beyond them files are told apart by their identity alone.
const READ_TOTAL_MAX: u64 = 1024 * 1024 * 1024;
const PIECE_BYTES: usize = 256 * 1024;

/// The workspace's directory is not the one that it was.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It cannot be opened.
    #[error("the workspace `{}` cannot be opened", escape(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())))]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// Opens a directory that is absolute and free of links, and says which one it is.
pub fn open_root(path: &Path) -> Result<(OwnedFd, Root), RootError> {
    let failed = |cause: io::Error| RootError::Unreadable { path: path.to_owned(), cause };
    let flags = rustix::fs::OFlags::RDONLY
        | rustix::fs::OFlags::DIRECTORY
        | rustix::fs::OFlags::NOFOLLOW
        | rustix::fs::OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).map_err(|it| failed(it.into()))?;
    let identity = Identity::of(&fstat(&opened).map_err(|it| failed(it.into()))?);
    Ok((opened, Root { path: path.to_owned(), device: identity.device, inode: identity.inode }))
}

/// Where what was given can be read again.
#[derive(Debug)]
pub enum Originals {
    /// The caller's tree, open.
    Tree(OwnedFd),
    /// What a client sent, with its messages.
    Sent(Box<Listing>, File),
}

/// What was given, with how much of it was read.
pub(super) struct Caller {
    originals: Originals,
    kept_bytes: u64,
    read_bytes: u64,
}

/// A content that was read.
pub(super) struct Known {
    pub sha256: Digest,
    pub bytes: u64,
    pub kept: bool,
}

impl Caller {
    pub fn new(originals: Originals) -> Self {
        Self { originals, kept_bytes: 0, read_bytes: 0 }
    }

    /// The digest of the file at `path`, and a copy of it where it is small; `None` if it is not known any more. Fails only
    /// where the copy cannot be written.
    pub fn content(
        &mut self,
        path: &[u8],
        identity: Option<&Identity>,
        draft: &Draft,
    ) -> io::Result<Option<Known>> {
        match (&self.originals, identity) {
            (Originals::Tree(_), Some(identity)) => self.of_tree(path, identity, draft),
            (Originals::Tree(_), None) => Ok(None),
            (Originals::Sent(..), _) => self.of_sent(path, draft),
        }
    }

    /// The digest is known since it was sent; a content is read for its copy only.
    fn of_sent(&mut self, path: &[u8], draft: &Draft) -> io::Result<Option<Known>> {
        let Originals::Sent(listing, messages) = &self.originals else { return Ok(None) };
        let Some(sent) = listing.file(path) else { return Ok(None) };
        let keeps = sent.bytes <= KEPT_BYTES_MAX.min(KEPT_TOTAL_MAX.saturating_sub(self.kept_bytes));
        let content = if keeps { listing::content(messages, sent)? } else { None };
        if let Some(content) = &content {
            let mut copy = draft.content()?;
            copy.write(content)?;
            draft.keep(copy)?;
            self.kept_bytes += sent.bytes;
        }
        Ok(Some(Known { sha256: sent.sha256, bytes: sent.bytes, kept: content.is_some() }))
    }

    /// While it has this identity.
    fn of_tree(&mut self, path: &[u8], identity: &Identity, draft: &Draft) -> io::Result<Option<Known>> {
        let Some(mut file) = self.open(path, identity) else { return Ok(None) };
        if identity.size > READ_TOTAL_MAX.saturating_sub(self.read_bytes) {
            return Ok(None);
        }
        self.read_bytes += identity.size;
        let keeps = identity.size <= KEPT_BYTES_MAX.min(KEPT_TOTAL_MAX.saturating_sub(self.kept_bytes));
        let mut copy = if keeps { Some(draft.content()?) } else { None };
        let mut digest = Sha256::new();
        let mut piece = vec![0; PIECE_BYTES.min(identity.size as usize + 1)];
        let mut length = 0;
        loop {
            let Ok(read) = file.read(&mut piece) else { return Ok(None) };
            length += read as u64;
            if read == 0 || length > identity.size {
                break;
            }
            digest.update(&piece[..read]);
            if let Some(copy) = &mut copy {
                copy.write(&piece[..read])?;
            }
        }
        // Written to while it was read: looked at again, because only then it is known.
        if length != identity.size || fstat(&file).map(|it| Identity::of(&it)) != Ok(*identity) {
            return Ok(None);
        }
        if let Some(copy) = copy {
            self.kept_bytes += identity.size;
            draft.keep(copy)?;
        }
        Ok(Some(Known { sha256: digest.finalize().into(), bytes: length, kept: keeps }))
    }

    fn open(&self, path: &[u8], identity: &Identity) -> Option<File> {
        let Originals::Tree(root) = &self.originals else { return None };
        let (parent, name) = SafePath::parse(path).ok()?.split();
        let directory = beneath::directory(root.as_fd(), parent).ok()?;
        let file = beneath::file(directory.as_fd(), name).ok()?;
        let stat = fstat(&file).ok()?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        (regular && Identity::of(&stat) == *identity).then(|| file.into())
    }
}
