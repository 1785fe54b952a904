//! What a snapshot holds, as it lies beside it: every path with what its original looked like when it was packed.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;

use aegis_init::frame::{self, FrameError, HEADER_BYTES};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::sandbox::workspace::{Identity, Meta, Plan, What};

/// Version of this form. Another one is no manifest, and the snapshot is packed anew.
const VERSION: u32 = 1;
/// Bytes of a manifest at the most.
pub const BYTES_MAX: usize = 1024 * 1024 * 1024;

/// The content of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    version: u32,
    /// The workspace it was packed from.
    pub root: ByteBuf,
    /// The boot in which it was packed: nothing of it was forced to the disk.
    pub boot: String,
    /// When the workspace was looked at, seconds since the epoch.
    pub seen_s: i64,
    /// Bytes that it takes.
    pub bytes: u64,
    /// Every path, parents before children.
    pub entries: Vec<Packed>,
}

/// One path of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packed {
    /// Relative to the workspace.
    pub path: ByteBuf,
    /// What it is.
    pub kind: Kind,
}

/// What a path of a snapshot is, and what its original looked like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Kind {
    /// A directory: permission bits and time.
    Directory(Option<(u32, i64, u32)>),
    /// A file.
    File(Seen),
    /// A symbolic link.
    Symlink(Seen),
    /// Another name of the file at this path.
    Hardlink(ByteBuf, Seen),
    /// A file whose content is ours: it is always sent again.
    Text,
}

/// [`Identity`] as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    device: u64,
    inode: u64,
    size: u64,
    mode: u32,
    mtime_s: i64,
    mtime_ns: u32,
    /// Seconds of the kernel's own time.
    pub ctime_s: i64,
    ctime_ns: u32,
}

impl From<&Identity> for Seen {
    fn from(it: &Identity) -> Self {
        let Identity { device, inode, size, meta: Meta { mode, mtime_s, mtime_ns }, ctime_s, ctime_ns } = *it;
        Self { device, inode, size, mode, mtime_s, mtime_ns, ctime_s, ctime_ns }
    }
}

impl Seen {
    /// Bytes of content.
    pub fn size(self) -> u64 {
        self.size
    }
}

impl Manifest {
    /// Of a plan that was made at `seen_s`.
    pub(super) fn of(plan: &Plan, root: &[u8], boot: &str, seen_s: i64) -> Self {
        let mut entries = Vec::new();
        for directory in &plan.directories {
            if !directory.to.is_empty() && directory.made.is_some() {
                let kind = Kind::Directory(directory.made.map(|it| (it.mode, it.mtime_s, it.mtime_ns)));
                entries.push(Packed { path: directory.to.clone().into(), kind });
            }
            for item in &directory.items {
                let path = crate::sandbox::beneath::join(&directory.to, &item.name).into();
                entries.push(Packed { path, kind: kind(&item.what) });
            }
        }
        let (root, boot) = (ByteBuf::from(root), boot.to_owned());
        Self { version: VERSION, root, boot, seen_s, bytes: plan.bytes(), entries }
    }

    /// As bytes.
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        frame::encode(self, 0, BYTES_MAX)
    }

    /// From bytes; `None` if they are none of this form.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, payload) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let header = frame::parse_header(*header, BYTES_MAX).ok()?;
        if header.length != payload.len() {
            return None;
        }
        frame::decode::<Self>(payload).ok().filter(|it| it.version == VERSION)
    }

    /// The places of paths in the list.
    pub fn places(&self) -> Places<'_> {
        Places { entries: &self.entries, next: Cell::new(0), by_path: OnceCell::new() }
    }
}

/// The places of paths in a manifest. Those that are asked for in its order are found without a table.
pub struct Places<'a> {
    entries: &'a [Packed],
    next: Cell<usize>,
    by_path: OnceCell<HashMap<&'a [u8], usize>>,
}

impl<'a> Places<'a> {
    /// The place of a path.
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        if path.is_empty() {
            return None;
        }
        let next = self.next.get();
        let found = match self.entries.get(next) {
            Some(it) if it.path.as_slice() == path => Some(next),
            Some(_) | None => self.by_path().get(path).copied(),
        };
        self.next.set(found.map_or(next, |it| it + 1));
        found
    }

    fn by_path(&self) -> &HashMap<&'a [u8], usize> {
        let places = || self.entries.iter().enumerate().map(|(index, it)| (it.path.as_slice(), index));
        self.by_path.get_or_init(|| places().collect())
    }
}

/// What an item is, as it is packed.
pub(super) fn kind(what: &What) -> Kind {
    match what {
        What::File(identity) => Kind::File(identity.into()),
        What::Symlink(identity) => Kind::Symlink(identity.into()),
        What::Hardlink(first, identity) => Kind::Hardlink(first.clone().into(), identity.into()),
        What::Text(_) => Kind::Text,
    }
}
