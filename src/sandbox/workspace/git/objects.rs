//! Reads objects of a repository, loose and packed, without git: a repository may hold settings that make git run
//! programs, and this only reads. Whatever lies there is bounded before it is inflated, and is what its name says.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use flate2::bufread::ZlibDecoder;
use rustix::fs::Dir;
use sha1::{Digest, Sha1};

use crate::sandbox::beneath;
use crate::sandbox::workspace::git::delta;

/// The name of an object.
pub type Oid = [u8; 20];

/// Packs that are opened at the most.
const PACKS_MAX: usize = 4096;
/// Deltas on one object at the most, as in git.
const DELTAS_MAX: usize = 4095;
/// Bytes that are read from a file at once.
const READ_BYTES: usize = 8 * 1024;
/// Bytes of an index of version 2 before its names: a mark, the version, the fan-out table.
const NAMES_AT: u64 = 8 + 256 * 4;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A commit.
    Commit,
    /// A directory.
    Tree,
    /// A file.
    Blob,
    /// An annotated tag.
    Tag,
}

/// An object, whole.
#[derive(Debug)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its content.
    pub data: Vec<u8>,
}

/// Why an object cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// It is not in this repository.
    #[error("the object {} is not there: the repository is a partial one, or borrows objects", hex::encode(.0))]
    Missing(Oid),
    /// It is not what its name says.
    #[error("the object {} is damaged", hex::encode(.0))]
    Damaged(Oid),
    /// It is larger than anything that may go in.
    #[error("the object {} is larger than the workspace may be", hex::encode(.0))]
    TooLarge(Oid),
}

/// The objects of one repository.
pub struct Objects {
    directory: OwnedFd,
    packs: Vec<Pack>,
    bytes_max: u64,
}

struct Pack {
    index: File,
    content: File,
    count: u64,
}

/// Where an object is.
enum Found<'a> {
    Packed(&'a Pack, u64),
    Loose(File),
}

/// The head of a packed object.
struct Entry {
    kind: u8,
    size: u64,
    /// Where what follows the head begins.
    at: u64,
}

impl Kind {
    /// Its word before a loose object.
    pub fn word(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }

    /// Its number in a pack.
    pub fn number(self) -> u8 {
        match self {
            Self::Commit => 1,
            Self::Tree => 2,
            Self::Blob => 3,
            Self::Tag => 4,
        }
    }

    const ALL: [Self; 4] = [Self::Commit, Self::Tree, Self::Blob, Self::Tag];
}

impl Objects {
    /// Opens what lies in an `objects` directory; packs whose index cannot be read hold nothing for us.
    pub fn open(directory: OwnedFd, bytes_max: u64) -> Self {
        let mut packs = Vec::new();
        if let Ok(holder) = beneath::directory(directory.as_fd(), b"pack") {
            for entry in Dir::read_from(&holder).into_iter().flatten().flatten().take(2 * PACKS_MAX) {
                let Some(stem) = entry.file_name().to_bytes().strip_suffix(b".idx") else { continue };
                let open = |ending: &[u8]| beneath::file(holder.as_fd(), &[stem, ending].concat());
                if let (Ok(index), Ok(content)) = (open(b".idx"), open(b".pack")) {
                    packs.extend(Pack::open(index.into(), content.into()));
                }
            }
        }
        Self { directory, packs, bytes_max }
    }

    /// Reads an object and holds it against its name.
    pub fn read(&self, oid: &Oid) -> Result<Object, ObjectError> {
        let object = match self.find(oid).ok_or(ObjectError::Missing(*oid))? {
            Found::Loose(file) => self.loose(oid, file)?,
            Found::Packed(pack, at) => self.packed(oid, pack, at)?,
        };
        if name(object.kind, &object.data) == *oid { Ok(object) } else { Err(ObjectError::Damaged(*oid)) }
    }

    fn find(&self, oid: &Oid) -> Option<Found<'_>> {
        for pack in &self.packs {
            if let Some(at) = pack.offset(oid) {
                return Some(Found::Packed(pack, at));
            }
        }
        let hex = hex::encode(oid);
        let holder = beneath::directory(self.directory.as_fd(), &hex.as_bytes()[..2]).ok()?;
        beneath::file(holder.as_fd(), &hex.as_bytes()[2..]).ok().map(|it| Found::Loose(it.into()))
    }

    fn loose(&self, oid: &Oid, file: File) -> Result<Object, ObjectError> {
        let damaged = |_| ObjectError::Damaged(*oid);
        let mut inflated = Vec::new();
        // A head has at most ten bytes and the digits of a size.
        let bytes_max = self.bytes_max.saturating_add(32);
        let decoder = ZlibDecoder::new(BufReader::with_capacity(READ_BYTES, file));
        decoder.take(bytes_max).read_to_end(&mut inflated).map_err(damaged)?;
        if inflated.len() as u64 >= bytes_max {
            return Err(ObjectError::TooLarge(*oid));
        }
        let end = memchr::memchr(0, &inflated).ok_or(ObjectError::Damaged(*oid))?;
        let data = inflated.split_off(end + 1);
        for kind in Kind::ALL {
            if inflated == format!("{} {}\0", kind.word(), data.len()).as_bytes() {
                return Ok(Object { kind, data });
            }
        }
        Err(ObjectError::Damaged(*oid))
    }

    /// A packed object: the deltas on the way to a whole one, applied backwards.
    fn packed<'a>(&'a self, oid: &Oid, mut pack: &'a Pack, mut at: u64) -> Result<Object, ObjectError> {
        let damaged = || ObjectError::Damaged(*oid);
        let mut deltas: Vec<Vec<u8>> = Vec::new();
        let mut held = 0_u64;
        let mut object = loop {
            let entry = pack.entry(at).ok_or_else(damaged)?;
            held = held.saturating_add(entry.size);
            if held > self.bytes_max {
                return Err(ObjectError::TooLarge(*oid));
            }
            if let Some(kind) = Kind::ALL.into_iter().find(|it| it.number() == entry.kind) {
                break Object { kind, data: pack.inflate(entry.at, entry.size).ok_or_else(damaged)? };
            }
            if deltas.len() == DELTAS_MAX {
                return Err(damaged());
            }
            let (base, data_at) = match entry.kind {
                6 => {
                    let (back, data_at) = pack.back(entry.at).ok_or_else(damaged)?;
                    // A base lies before what is made of it, so this ends.
                    let base = at.checked_sub(back).filter(|it| *it < at).ok_or_else(damaged)?;
                    (Found::Packed(pack, base), data_at)
                }
                7 => {
                    let mut base = Oid::default();
                    pack.content.read_exact_at(&mut base, entry.at).map_err(|_| damaged())?;
                    (self.find(&base).ok_or(ObjectError::Missing(base))?, entry.at + 20)
                }
                _ => return Err(damaged()),
            };
            deltas.push(pack.inflate(data_at, entry.size).ok_or_else(damaged)?);
            match base {
                Found::Packed(other, offset) => (pack, at) = (other, offset),
                Found::Loose(file) => break self.loose(oid, file)?,
            }
        };
        while let Some(patch) = deltas.pop() {
            object.data = delta::apply(&object.data, &patch, self.bytes_max).ok_or_else(damaged)?;
        }
        Ok(object)
    }
}

impl Pack {
    /// `None` if the index is of another version.
    fn open(index: File, content: File) -> Option<Self> {
        let mut head = [0; 8];
        index.read_exact_at(&mut head, 0).ok()?;
        if head != *b"\xfftOc\0\0\0\x02" {
            return None;
        }
        let count = u64::from(four(&index, NAMES_AT - 4)?);
        Some(Self { index, content, count })
    }

    /// Where an object begins, if it is in this pack.
    fn offset(&self, oid: &Oid) -> Option<u64> {
        let first = u64::from(oid[0]);
        let mut low = if first == 0 { 0 } else { u64::from(four(&self.index, 8 + (first - 1) * 4)?) };
        let mut high = u64::from(four(&self.index, 8 + first * 4)?).min(self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut name = Oid::default();
            self.index.read_exact_at(&mut name, NAMES_AT + middle * 20).ok()?;
            match name.cmp(oid) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return self.offset_of(middle),
            }
        }
        None
    }

    fn offset_of(&self, number: u64) -> Option<u64> {
        // After the names come checksums, then offsets; a large one is in a table of its own.
        let offsets = NAMES_AT + self.count * 24;
        let offset = four(&self.index, offsets + number * 4)?;
        if offset & 0x8000_0000 == 0 {
            return Some(offset.into());
        }
        let at = offsets + self.count * 4 + u64::from(offset & 0x7fff_ffff) * 8;
        Some(u64::from(four(&self.index, at)?) << 32 | u64::from(four(&self.index, at + 4)?))
    }

    fn byte(&self, at: u64) -> Option<u8> {
        let mut byte = [0];
        self.content.read_exact_at(&mut byte, at).ok()?;
        Some(byte[0])
    }

    fn entry(&self, mut at: u64) -> Option<Entry> {
        let mut byte = self.byte(at)?;
        let kind = byte >> 4 & 7;
        let mut size = u64::from(byte & 15);
        let mut shift = 4;
        while byte & 0x80 != 0 {
            at += 1;
            byte = self.byte(at)?;
            if shift > 57 {
                return None;
            }
            size |= u64::from(byte & 0x7f) << shift;
            shift += 7;
        }
        Some(Entry { kind, size, at: at + 1 })
    }

    /// How far back a base lies, and where the delta begins.
    fn back(&self, mut at: u64) -> Option<(u64, u64)> {
        let mut byte = self.byte(at)?;
        let mut back = u64::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            at += 1;
            byte = self.byte(at)?;
            back = back.checked_add(1)?.checked_mul(128)? | u64::from(byte & 0x7f);
        }
        Some((back, at + 1))
    }

    /// Exactly `size` bytes, inflated; the caller has bounded them.
    fn inflate(&self, at: u64, size: u64) -> Option<Vec<u8>> {
        let from = From { file: &self.content, at };
        let decoder = ZlibDecoder::new(BufReader::with_capacity(READ_BYTES, from));
        let mut data = Vec::new();
        decoder.take(size.checked_add(1)?).read_to_end(&mut data).ok()?;
        (data.len() as u64 == size).then_some(data)
    }
}

/// A file from an offset on.
struct From<'a> {
    file: &'a File,
    at: u64,
}

impl Read for From<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// The name of an object with this content.
pub fn name(kind: Kind, data: &[u8]) -> Oid {
    let mut hash = Sha1::new();
    hash.update(format!("{} {}\0", kind.word(), data.len()));
    hash.update(data);
    hash.finalize().into()
}

fn four(file: &File, at: u64) -> Option<u32> {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, at).ok()?;
    Some(u32::from_be_bytes(bytes))
}
