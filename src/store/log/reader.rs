//! Reading a log, whole or while it is written.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::record::Stream;
use crate::store::log::format::{CONTENT_BYTES_MAX, ENTRY_BYTES, Entry, HEADER, Mark};
use crate::store::log::{INDEX, file_name};

/// Entries that are read at once.
const BATCH_ENTRIES: usize = 1024;
/// Memory of the decompressor: 2 to this power. Our own files need far less.
const WINDOW_LOG_MAX: u32 = 24;

/// A place in a log from which it can be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(u64);

impl Position {
    /// The beginning.
    pub const START: Self = Self(0);

    /// The place after this many entries, as [`Position::entries`] told it.
    pub fn after(entries: u64) -> Self {
        Self(entries)
    }

    /// How many entries lie before it.
    pub fn entries(self) -> u64 {
        self.0
    }
}

/// Bytes of one stream that came together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Whose.
    pub stream: Stream,
    /// When the first of them came, milliseconds since the epoch.
    pub at_ms: i64,
    /// The bytes, at most 1 MiB.
    pub bytes: Vec<u8>,
    /// Where to go on.
    pub next: Position,
}

/// What a look at a log gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// The next bytes.
    Chunk(Chunk),
    /// Nothing more yet: its writer goes on, or was killed. Whoever knows which asks again or takes the rest.
    Pending,
    /// The log is complete.
    End {
        /// Whether more was written than is kept.
        truncated: bool,
    },
}

/// A log that is read.
#[derive(Debug)]
pub struct LogReader {
    directory: PathBuf,
    index: File,
    /// Entries read and not yet given, last first.
    batch: Vec<Entry>,
    position: u64,
    only: Option<Stream>,
    stdout: Content,
    stderr: Content,
    last_ms: i64,
}

/// The bytes of one stream.
#[derive(Debug)]
struct Content {
    /// Opened when the first of its bytes is wanted.
    source: Option<Source>,
    /// Where the next entry's bytes begin.
    offset: u64,
}

enum Source {
    Plain(File),
    Compressed { decoder: zstd::Decoder<'static, BufReader<File>>, offset: u64 },
}

impl std::fmt::Debug for Source {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(file) => out.debug_tuple("Plain").field(file).finish(),
            Self::Compressed { offset, .. } => {
                out.debug_struct("Compressed").field("offset", offset).finish()
            }
        }
    }
}

impl LogReader {
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let index = File::open(directory.join(INDEX))?;
        let content = || Content { source: None, offset: 0 };
        Ok(Self {
            directory: directory.to_owned(),
            index,
            batch: Vec::new(),
            position: 0,
            only: None,
            stdout: content(),
            stderr: content(),
            last_ms: 0,
        })
    }

    /// Reads one stream only.
    pub fn only(mut self, stream: Stream) -> Self {
        self.only = Some(stream);
        self
    }

    /// Goes on from a place, without reading what lies before it.
    pub fn from(mut self, position: Position) -> io::Result<Self> {
        while self.position < position.0 {
            let Some(entry) = self.entry()? else { break };
            match entry.mark {
                Mark::Content(stream) => self.content(stream).offset += u64::from(entry.length),
                // It is given again at every look: nothing lies beyond it.
                Mark::End | Mark::Truncated => break,
            }
        }
        Ok(self)
    }

    /// The next bytes, in the order in which they came.
    pub fn look(&mut self) -> io::Result<Look> {
        loop {
            let Some(entry) = self.entry()? else { return Ok(Look::Pending) };
            let stream = match entry.mark {
                Mark::Content(stream) => stream,
                Mark::End => return Ok(Look::End { truncated: false }),
                Mark::Truncated => return Ok(Look::End { truncated: true }),
            };
            self.last_ms = entry.at_ms;
            if self.only.is_some_and(|it| it != stream) {
                self.content(stream).offset += u64::from(entry.length);
                continue;
            }
            let bytes = self.take(stream, entry.length)?;
            if bytes.len() < entry.length as usize {
                // A power cut took content that the index still tells of.
                return Ok(Look::End { truncated: true });
            }
            return Ok(Look::Chunk(Chunk {
                stream,
                at_ms: entry.at_ms,
                bytes,
                next: Position(self.position),
            }));
        }
    }

    /// Bytes that a killed writer kept and did not list any more: call it until it gives nothing.
    pub fn rest(&mut self) -> io::Result<Option<Chunk>> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if self.only.is_some_and(|it| it != stream) {
                continue;
            }
            let bytes = self.take(stream, CONTENT_BYTES_MAX)?;
            if !bytes.is_empty() {
                return Ok(Some(Chunk { stream, at_ms: self.last_ms, bytes, next: Position(self.position) }));
            }
        }
        Ok(None)
    }

    /// The next entry; `None` if no whole one is there.
    fn entry(&mut self) -> io::Result<Option<Entry>> {
        if self.batch.is_empty() {
            self.read_batch()?;
        }
        let entry = self.batch.pop();
        // The last entry says that nothing follows: it is given again at every look.
        match entry {
            Some(Entry { mark: Mark::Content(_), .. }) => self.position += 1,
            Some(Entry { mark: Mark::End | Mark::Truncated, .. }) | None => {}
        }
        Ok(entry)
    }

    fn read_batch(&mut self) -> io::Result<()> {
        if self.position == 0 && !self.header_is_there()? {
            return Ok(());
        }
        let mut bytes = vec![0; BATCH_ENTRIES * ENTRY_BYTES];
        let begin = HEADER.len() as u64 + self.position * ENTRY_BYTES as u64;
        let count = read_up_to(&self.index, &mut bytes, begin)?;
        for entry in bytes[..count].as_chunks::<ENTRY_BYTES>().0 {
            self.batch.push(Entry::decode(*entry).ok_or_else(garbled)?);
        }
        self.batch.reverse();
        Ok(())
    }

    fn header_is_there(&self) -> io::Result<bool> {
        let mut header = [0; HEADER.len()];
        let count = read_up_to(&self.index, &mut header, 0)?;
        if count == header.len() && &header != HEADER {
            return Err(garbled());
        }
        Ok(count == header.len())
    }

    /// At most `length` bytes of a stream from where it stands; fewer at its end.
    fn take(&mut self, stream: Stream, length: u32) -> io::Result<Vec<u8>> {
        let directory = self.directory.clone();
        let content = self.content(stream);
        let offset = content.offset;
        let source = match &mut content.source {
            Some(source) => source,
            None => content.source.insert(Source::open(&directory, stream)?),
        };
        let bytes = source.read(offset, length)?;
        content.offset += bytes.len() as u64;
        Ok(bytes)
    }

    fn content(&mut self, stream: Stream) -> &mut Content {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

impl Source {
    fn open(directory: &Path, stream: Stream) -> io::Result<Self> {
        let plain = directory.join(file_name(stream));
        match File::open(&plain) {
            Ok(file) => Ok(Self::Plain(file)),
            // It was there before the plain file went.
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                let mut decoder = zstd::Decoder::new(File::open(plain.with_extension("zst"))?)?;
                decoder.window_log_max(WINDOW_LOG_MAX)?;
                Ok(Self::Compressed { decoder, offset: 0 })
            }
            Err(err) => Err(err),
        }
    }

    fn read(&mut self, begin: u64, length: u32) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length as usize];
        let count = match self {
            Self::Plain(file) => read_up_to(file, &mut bytes, begin)?,
            Self::Compressed { decoder, offset } => {
                let skipped =
                    io::copy(&mut decoder.by_ref().take(begin.saturating_sub(*offset)), &mut io::sink())?;
                *offset += skipped;
                let mut count = 0;
                while count < bytes.len() {
                    match decoder.read(&mut bytes[count..])? {
                        0 => break,
                        more => count += more,
                    }
                }
                *offset += count as u64;
                count
            }
        };
        bytes.truncate(count);
        Ok(bytes)
    }
}

/// Reads until the buffer is full or the file ends.
fn read_up_to(file: &File, buffer: &mut [u8], begin: u64) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read_at(&mut buffer[count..], begin + count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(count)
}

fn garbled() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the log's index is damaged: its streams can still be read as files",
    )
}
