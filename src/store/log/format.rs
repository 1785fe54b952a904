//! The index: a header, then entries of one size, so that a torn last one is known by the file's length alone.

use crate::record::Stream;

/// The first bytes of every index.
pub(crate) const HEADER: &[u8; 8] = b"aegislg1";
/// Bytes of an entry: time, length, mark, three zeros.
pub(crate) const ENTRY_BYTES: usize = 16;
/// Content bytes of one entry at the most: what a reader holds at once.
pub(crate) const CONTENT_BYTES_MAX: u32 = 1024 * 1024;

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// When its first byte came, milliseconds since the epoch.
    pub(crate) at_ms: i64,
    /// Content bytes that follow the earlier ones of the same stream.
    pub(crate) length: u32,
    /// What it says.
    pub(crate) mark: Mark,
}

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Bytes of a stream.
    Content(Stream),
    /// The log is complete.
    End,
    /// The log is over, and it holds less than was written.
    Truncated,
}

impl Entry {
    pub(crate) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.at_ms.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12] = match self.mark {
            Mark::Content(Stream::Stdout) => 1,
            Mark::Content(Stream::Stderr) => 2,
            Mark::End => 3,
            Mark::Truncated => 4,
        };
        bytes
    }

    /// The entry of these bytes; `None` if no version of ours wrote them.
    pub(crate) fn decode(bytes: [u8; ENTRY_BYTES]) -> Option<Self> {
        let at_ms = i64::from_le_bytes(bytes[..8].try_into().ok()?);
        let length = u32::from_le_bytes(bytes[8..12].try_into().ok()?);
        let mark = match bytes[12] {
            1 => Mark::Content(Stream::Stdout),
            2 => Mark::Content(Stream::Stderr),
            3 => Mark::End,
            4 => Mark::Truncated,
            _ => return None,
        };
        if bytes[13..] != [0, 0, 0] || length > CONTENT_BYTES_MAX {
            return None;
        }
        Some(Self { at_ms, length, mark })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn an_entry_is_what_its_bytes_say(bytes in proptest::array::uniform16(proptest::prelude::any::<u8>())) {
            if let Some(entry) = Entry::decode(bytes) {
                proptest::prop_assert_eq!(entry.encode(), bytes);
            }
        }
    }

    fn check(entry: Entry) {
        assert_eq!(Entry::decode(entry.encode()), Some(entry));
    }

    #[test]
    fn every_mark_is_read_back() {
        for mark in [Mark::Content(Stream::Stdout), Mark::Content(Stream::Stderr), Mark::End, Mark::Truncated]
        {
            check(Entry { at_ms: -5, length: CONTENT_BYTES_MAX, mark });
        }
    }

    #[test]
    fn a_length_above_the_bound_is_refused() {
        let mut bytes = Entry { at_ms: 0, length: CONTENT_BYTES_MAX, mark: Mark::End }.encode();
        bytes[8] = 1;
        assert_eq!(Entry::decode(bytes), None);
    }
}
