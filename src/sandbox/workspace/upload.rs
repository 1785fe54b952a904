//! A workspace as a client sent it: the messages that carry content, compressed. Each is decoded and bounded before the
//! first is passed on, and only those that carry content are.

pub mod listing;

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use aegis_init::frame::{self, FrameError, HEADER_BYTES};
use aegis_init::wire::{CHUNK_BYTES_MAX, Entry, EntryKind, PATH_BYTES_MAX, Request};

use crate::sandbox::workspace::Limits;
use crate::sandbox::workspace::snapshot::Messages;
use crate::sandbox::workspace::upload::listing::Listing;

/// Uploads below the state directory: `uploads/sha256-…`.
pub const DIRECTORY: &str = "uploads";
/// Hexadecimal digits of a digest.
const DIGITS: usize = 64;
/// What a message takes besides content and paths, for each entry.
const ENTRY_BYTES: u64 = 128;
/// Bytes that are gathered for one write.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Why an upload is not used.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Nothing has this digest.
    #[error("no workspace `{digest}` was uploaded, or it is kept no more: upload it again")]
    Unknown {
        /// The digest.
        digest: String,
    },
    /// It cannot be read.
    #[error("the uploaded workspace cannot be read")]
    Read(#[source] io::Error),
    /// It cannot be laid out.
    #[error("the uploaded workspace cannot be laid out below the state directory")]
    Write(#[source] io::Error),
    /// A frame is none.
    #[error("the uploaded workspace has bytes that are no message")]
    Frame(#[from] FrameError),
    /// A message that carries no content.
    #[error(
        "the uploaded workspace has a message that carries no content: only files, directories and links may be sent"
    )]
    NotContent,
    /// It goes on after its end, or has none.
    #[error("the uploaded workspace does not end with its end: send it whole, and nothing after it")]
    End,
    /// Too much of it.
    #[error(
        "the uploaded workspace has more than {what} that policy grants: leave something out, or ask for more"
    )]
    TooLarge {
        /// The bound, in words.
        what: String,
    },
}

/// Where the upload with this digest (`sha256:…`) lies; `None` for what is no digest.
pub fn path(state: &Path, digest: &str) -> Option<PathBuf> {
    let digits = digest.strip_prefix("sha256:")?;
    let is_digest =
        digits.len() == DIGITS && digits.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    is_digest.then(|| state.join(DIRECTORY).join(format!("sha256-{digits}")))
}

/// Checks an upload whole, and gives its messages as they are sent: a file without a name, gone with the last who has it.
/// What it brings is listed where somebody wants to know.
pub fn open(
    state: &Path,
    digest: &str,
    limits: Limits,
    listing: Option<&mut Listing>,
) -> Result<Messages, UploadError> {
    let unknown = || UploadError::Unknown { digest: digest.chars().take(DIGITS + 7).collect() };
    let path = path(state, digest).ok_or_else(unknown)?;
    let compressed = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(unknown()),
        Err(error) => return Err(UploadError::Read(error)),
    };
    open_file(compressed, state, limits, listing)
}

/// The same for one that lies somewhere else, from its beginning; who gives it knows whose digest it has.
pub fn open_file(
    compressed: File,
    state: &Path,
    limits: Limits,
    listing: Option<&mut Listing>,
) -> Result<Messages, UploadError> {
    let content = zstd::Decoder::new(compressed).map_err(UploadError::Read)?;
    let file = tempfile::tempfile_in(state.join(DIRECTORY)).map_err(UploadError::Write)?;
    let mut into = BufWriter::with_capacity(BUFFER_BYTES, file);
    let bytes = check(content, &mut into, limits, listing)?;
    let file = into.into_inner().map_err(|it| UploadError::Write(it.into_error()))?;
    Ok(Messages { file, bytes })
}

/// Passes on what is content within bounds. Gives how many bytes that are.
pub fn check(
    mut from: impl Read,
    into: &mut impl Write,
    limits: Limits,
    mut listing: Option<&mut Listing>,
) -> Result<u64, UploadError> {
    let mut seen = Seen::new(limits);
    let mut payload = Vec::new();
    loop {
        let mut header = [0; HEADER_BYTES];
        if !read_whole(&mut from, &mut header)? {
            return if seen.ended { Ok(seen.bytes) } else { Err(UploadError::End) };
        }
        if seen.ended {
            return Err(UploadError::End);
        }
        let parsed = frame::parse_header(header, frame::REQUEST_BYTES_MAX)?;
        if parsed.descriptors > 0 {
            return Err(UploadError::NotContent);
        }
        let at = seen.bytes;
        seen.frame((HEADER_BYTES + parsed.length) as u64)?;
        payload.resize(parsed.length, 0);
        from.read_exact(&mut payload).map_err(UploadError::Read)?;
        let request = frame::decode(&payload)?;
        seen.request(&request)?;
        if let Some(listing) = &mut listing {
            listing.note(at, &request);
        }
        into.write_all(&header).and_then(|()| into.write_all(&payload)).map_err(UploadError::Write)?;
    }
}

/// Fills the buffer; false if there was nothing at all.
fn read_whole(from: &mut impl Read, buffer: &mut [u8]) -> Result<bool, UploadError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(UploadError::Read(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(UploadError::Read(error)),
        }
    }
    Ok(true)
}

/// What has passed.
struct Seen {
    limits: Limits,
    /// Of frames, headers included.
    bytes: u64,
    bytes_max: u64,
    entries: u64,
    content: u64,
    ended: bool,
}

impl Seen {
    fn new(limits: Limits) -> Self {
        let for_each = 2 * PATH_BYTES_MAX as u64 + ENTRY_BYTES;
        let bytes_max =
            limits.bytes.saturating_add(limits.files.saturating_mul(for_each)).saturating_add(ENTRY_BYTES);
        Self { limits, bytes: 0, bytes_max, entries: 0, content: 0, ended: false }
    }

    fn frame(&mut self, bytes: u64) -> Result<(), UploadError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.bytes_max { Err(self.too_many_bytes()) } else { Ok(()) }
    }

    fn request(&mut self, request: &Request) -> Result<(), UploadError> {
        match request {
            Request::Put(entries) => entries.iter().try_for_each(|it| self.entry(it)),
            Request::PutChunk(data) => self.content(data.len()),
            Request::Remove(gone) => {
                self.count(gone.len() as u64)?;
                let fits = gone.iter().all(|it| it.path.len() <= PATH_BYTES_MAX);
                if fits { Ok(()) } else { Err(UploadError::NotContent) }
            }
            Request::PutEnd => {
                self.ended = true;
                Ok(())
            }
            Request::Attest(_)
            | Request::Exec(_)
            | Request::Signal { .. }
            | Request::Stop { .. }
            | Request::Read { .. }
            | Request::Write { .. }
            | Request::Lease { .. }
            | Request::Collect(_)
            | Request::End
            | Request::Compare(_)
            | Request::Fetch(_)
            | Request::Listen(_)
            | Request::Dial { .. }
            | Request::Begin { .. } => Err(UploadError::NotContent),
        }
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), UploadError> {
        self.count(1)?;
        let target = match &entry.kind {
            EntryKind::Dir => 0,
            EntryKind::File { size, data } => {
                if *size > self.limits.bytes {
                    return Err(self.too_many_bytes());
                }
                self.content(data.len())?;
                0
            }
            EntryKind::Symlink(target) | EntryKind::Hardlink(target) => target.len(),
        };
        if entry.path.len() > PATH_BYTES_MAX || target > PATH_BYTES_MAX {
            return Err(UploadError::NotContent);
        }
        Ok(())
    }

    fn content(&mut self, bytes: usize) -> Result<(), UploadError> {
        if bytes > CHUNK_BYTES_MAX {
            return Err(UploadError::NotContent);
        }
        self.content = self.content.saturating_add(bytes as u64);
        if self.content > self.limits.bytes { Err(self.too_many_bytes()) } else { Ok(()) }
    }

    fn count(&mut self, entries: u64) -> Result<(), UploadError> {
        self.entries = self.entries.saturating_add(entries);
        if self.entries > self.limits.files {
            return Err(UploadError::TooLarge { what: format!("the {} files", self.limits.files) });
        }
        Ok(())
    }

    fn too_many_bytes(&self) -> UploadError {
        UploadError::TooLarge { what: format!("the {} bytes", self.limits.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use aegis_init::wire::Exec;
    use serde_bytes::ByteBuf;

    use super::*;

    const LIMITS: Limits = Limits { bytes: 1_000, files: 3 };

    fn frames(requests: &[Request]) -> Vec<u8> {
        let encode = |it: &Request| frame::encode(it, 0, frame::REQUEST_BYTES_MAX).expect("it fits");
        requests.iter().flat_map(encode).collect()
    }

    fn file(path: &str, size: u64, data: &str) -> Request {
        let kind = EntryKind::File { size, data: ByteBuf::from(data) };
        Request::Put(vec![Entry { path: ByteBuf::from(path), mode: 0o644, mtime_s: 0, mtime_ns: 0, kind }])
    }

    fn exec() -> Request {
        Request::Exec(Exec {
            id: 0,
            argv: vec![ByteBuf::from("sh")],
            env: Vec::new(),
            cwd: ByteBuf::new(),
            stdio: aegis_init::wire::Stdio::Pipes,
            timeout_ms: None,
            grace_ms: 0,
        })
    }

    fn check_bytes(bytes: &[u8], expected: &str) {
        let mut into = Vec::new();
        let told = match check(bytes, &mut into, LIMITS, None) {
            Ok(count) => {
                assert_eq!((count, into.as_slice()), (bytes.len() as u64, bytes));
                "whole".to_owned()
            }
            Err(error) => error.to_string(),
        };
        assert!(told.contains(expected), "{told}");
    }

    #[test]
    fn content_with_its_end_passes_as_it_is() {
        check_bytes(
            &frames(&[file("a", 2, "1"), Request::PutChunk(ByteBuf::from("2")), Request::PutEnd]),
            "whole",
        );
    }

    #[test]
    fn nothing_but_content_passes() {
        for request in
            [exec(), Request::End, Request::Lease { remaining_ms: 1 }, Request::Begin { lifetime_ms: 1 }]
        {
            check_bytes(&frames(&[request, Request::PutEnd]), "carries no content");
        }
    }

    #[test]
    fn what_has_no_end_or_goes_on_after_it_is_refused() {
        check_bytes(&frames(&[file("a", 1, "1")]), "does not end");
        check_bytes(&frames(&[Request::PutEnd, file("a", 1, "1")]), "does not end");
        check_bytes(&[], "does not end");
    }

    #[test]
    fn more_than_policy_grants_is_refused() {
        let many: Vec<Request> = (0..4).map(|it| file(&it.to_string(), 1, "1")).collect();
        check_bytes(&frames(&many), "the 3 files");
        check_bytes(&frames(&[file("a", 1_001, "")]), "the 1000 bytes");
        check_bytes(&frames(&[Request::PutChunk(ByteBuf::from(vec![0; 1_001]))]), "the 1000 bytes");
    }

    #[test]
    fn endless_empty_messages_are_bounded() {
        let empty = frames(&[Request::Put(Vec::new())]);
        check_bytes(&empty.repeat(10_000), "the 1000 bytes");
    }

    #[test]
    fn a_frame_out_of_bounds_is_refused_before_it_is_read() {
        check_bytes(&[255, 255, 255, 127, 0, 0, 0, 0], "no message");
        check_bytes(&[1, 0, 0, 0, 1, 0, 0, 0, 4], "carries no content");
    }

    #[test]
    fn only_a_digest_has_a_path() {
        let state = Path::new("/state");
        assert_eq!(path(state, "sha256:../../etc/passwd"), None);
        assert_eq!(path(state, &format!("sha256:{}", "A".repeat(64))), None);
        let digits = "0a".repeat(32);
        let expected = PathBuf::from(format!("/state/uploads/sha256-{digits}"));
        assert_eq!(path(state, &format!("sha256:{digits}")), Some(expected));
    }
}
