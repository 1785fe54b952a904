//! Writes a pack of whole objects, and its index.

use std::io::{self, Write};

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use sha1::{Digest, Sha1};

use crate::sandbox::workspace::git::objects::{Object, Oid};

/// A pack in the making, in memory.
pub struct PackWriter {
    bytes: Vec<u8>,
    entries: Vec<(Oid, u32, u32)>,
}

/// A pack and its index.
pub struct Pack {
    /// What both are called, without their endings.
    pub name: String,
    /// The content of the pack.
    pub content: Vec<u8>,
    /// The content of its index.
    pub index: Vec<u8>,
}

impl PackWriter {
    /// An empty one.
    pub fn new() -> Self {
        // The number of objects is written at the end.
        Self { bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(), entries: Vec::new() }
    }

    /// How long it is so far.
    pub fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Adds an object.
    pub fn add(&mut self, oid: Oid, object: &Object) -> io::Result<()> {
        let start = self.bytes.len();
        let offset = u32::try_from(start).ok().filter(|it| *it < 1 << 31);
        let offset = offset.ok_or_else(|| io::Error::other("a pack has at most 2 GiB"))?;
        let mut size = object.data.len() as u64;
        let mut byte = object.kind.number() << 4 | (size & 15) as u8;
        size >>= 4;
        while size > 0 {
            self.bytes.push(byte | 0x80);
            byte = (size & 0x7f) as u8;
            size >>= 7;
        }
        self.bytes.push(byte);
        let mut encoder = ZlibEncoder::new(&mut self.bytes, Compression::fast());
        encoder.write_all(&object.data)?;
        encoder.finish()?;
        let mut crc = Crc::new();
        crc.update(&self.bytes[start..]);
        self.entries.push((oid, crc.sum(), offset));
        Ok(())
    }

    /// The pack; `None` if nothing was added.
    pub fn finish(mut self) -> Option<Pack> {
        let count = u32::try_from(self.entries.len()).ok().filter(|it| *it > 0)?;
        self.bytes[8..12].copy_from_slice(&count.to_be_bytes());
        let checksum: Oid = Sha1::digest(&self.bytes).into();
        self.bytes.extend_from_slice(&checksum);

        self.entries.sort_unstable();
        let mut index = b"\xfftOc\0\0\0\x02".to_vec();
        for first in 0..=255 {
            let until = self.entries.partition_point(|it| it.0[0] <= first) as u32;
            index.extend(until.to_be_bytes());
        }
        self.entries.iter().for_each(|it| index.extend(it.0));
        self.entries.iter().for_each(|it| index.extend(it.1.to_be_bytes()));
        self.entries.iter().for_each(|it| index.extend(it.2.to_be_bytes()));
        index.extend(checksum);
        let checksum_of_index: Oid = Sha1::digest(&index).into();
        index.extend(checksum_of_index);
        Some(Pack { name: format!("pack-{}", hex::encode(checksum)), content: self.bytes, index })
    }
}
