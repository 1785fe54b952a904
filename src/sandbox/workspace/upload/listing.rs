//! What an upload brings, entry by entry: what the changes of its run are held against. Contents are found again in the
//! messages themselves, and held against the digest that was taken when they were checked.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use aegis_init::frame::{self, HEADER_BYTES};
use aegis_init::wire::{Entry, EntryKind, Request};
use sha2::{Digest, Sha256};

use crate::sandbox::workspace::Base;

/// Everything that an upload brings.
#[derive(Debug, Default)]
pub struct Listing {
    /// The entries, without identities: no file of this host's is behind them.
    pub base: Base,
    files: HashMap<Vec<u8>, Sent>,
    current: Option<(Vec<u8>, Sha256, Sent)>,
}

/// A file as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
    /// Its size.
    pub bytes: u64,
    /// Where the message with its entry begins.
    at: u64,
}

impl Listing {
    /// Notes a message that was found to carry content; `at` is where it begins.
    pub(super) fn note(&mut self, at: u64, request: &Request) {
        match request {
            Request::Put(entries) => {
                for entry in entries {
                    self.end_file();
                    self.base.add(entry, None);
                    self.entry(at, entry);
                }
            }
            Request::PutChunk(data) => {
                if let Some((_, digest, sent)) = &mut self.current {
                    digest.update(data);
                    sent.bytes += data.len() as u64;
                }
            }
            _ => self.end_file(),
        }
    }

    fn entry(&mut self, at: u64, entry: &Entry) {
        match &entry.kind {
            EntryKind::File { data, .. } => {
                let sent = Sent { sha256: [0; 32], bytes: data.len() as u64, at };
                self.current = Some((entry.path.to_vec(), Sha256::new_with_prefix(data), sent));
            }
            EntryKind::Hardlink(target) => {
                if let Some(sent) = self.files.get(target.as_slice()).copied() {
                    self.files.insert(entry.path.to_vec(), sent);
                }
            }
            EntryKind::Dir | EntryKind::Symlink(_) => {}
        }
    }

    fn end_file(&mut self) {
        if let Some((path, digest, sent)) = self.current.take() {
            self.files.insert(path, Sent { sha256: digest.finalize().into(), ..sent });
        }
    }

    /// The file that was sent to this path.
    pub fn file(&self, path: &[u8]) -> Option<&Sent> {
        self.files.get(path)
    }
}

/// The content of a file that was sent, read from the messages; `None` if it is not what was noted.
pub fn content(messages: &File, sent: &Sent) -> io::Result<Option<Vec<u8>>> {
    let (mut at, mut content, mut begun) = (sent.at, Vec::new(), false);
    loop {
        let mut header = [0; HEADER_BYTES];
        messages.read_exact_at(&mut header, at)?;
        let parsed = frame::parse_header(header, frame::REQUEST_BYTES_MAX).map_err(io::Error::other)?;
        let mut payload = vec![0; parsed.length];
        messages.read_exact_at(&mut payload, at + HEADER_BYTES as u64)?;
        at += (HEADER_BYTES + parsed.length) as u64;
        match frame::decode::<Request>(&payload).map_err(io::Error::other)? {
            // Of several files in one message all but the last are whole in it.
            Request::Put(entries) if !begun => {
                begun = true;
                let files = entries.iter().filter_map(|it| match &it.kind {
                    EntryKind::File { data, .. } => Some(data),
                    EntryKind::Dir | EntryKind::Symlink(_) | EntryKind::Hardlink(_) => None,
                });
                for data in files {
                    if data.len() as u64 == sent.bytes && is_content(data, sent) {
                        return Ok(Some(data.to_vec()));
                    }
                    content = data.to_vec();
                }
            }
            Request::PutChunk(data) => content.extend_from_slice(&data),
            _ => return Ok(is_content(&content, sent).then_some(content)),
        }
        if content.len() as u64 >= sent.bytes {
            return Ok(is_content(&content, sent).then_some(content));
        }
    }
}

fn is_content(bytes: &[u8], sent: &Sent) -> bool {
    <[u8; 32]>::from(Sha256::digest(bytes)) == sent.sha256
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use serde_bytes::ByteBuf;

    use super::*;
    use crate::sandbox::workspace::Limits;
    use crate::sandbox::workspace::upload::check;

    fn put(files: &[(&str, u64, &str)]) -> Request {
        let entry = |(path, size, data): &(&str, u64, &str)| Entry {
            path: ByteBuf::from(*path),
            mode: 0o644,
            mtime_s: 0,
            mtime_ns: 0,
            kind: EntryKind::File { size: *size, data: ByteBuf::from(*data) },
        };
        Request::Put(files.iter().map(entry).collect())
    }

    #[test]
    fn each_content_is_found_again() {
        let chunk = |text: &str| Request::PutChunk(ByteBuf::from(text));
        let requests = [
            put(&[("a", 3, "one"), ("b", 3, "two"), ("long", 9, "be")]),
            chunk("gin"),
            chunk(" end"),
            put(&[("empty", 0, "")]),
            Request::PutEnd,
        ];
        let encode = |it: &Request| frame::encode(it, 0, frame::REQUEST_BYTES_MAX).expect("it fits");
        let frames: Vec<u8> = requests.iter().flat_map(encode).collect();
        let mut file = tempfile::tempfile().expect("a file");
        let mut listing = Listing::default();
        let limits = Limits { bytes: 1_000, files: 10 };
        check(frames.as_slice(), &mut file, limits, Some(&mut listing)).expect("it is sound");
        file.flush().and_then(|()| file.rewind()).expect("written");
        for (path, text) in [("a", "one"), ("b", "two"), ("long", "begin end"), ("empty", "")] {
            let sent = listing.file(path.as_bytes()).expect("it is listed");
            let found = content(&file, sent).expect("it is read");
            assert_eq!(found.as_deref(), Some(text.as_bytes()), "{path}");
        }
        let wrong = Sent { sha256: [7; 32], ..*listing.file(b"long").expect("listed") };
        assert_eq!(content(&file, &wrong).expect("it is read"), None);
        assert!(listing.file(b"none").is_none());
    }
}
