//! The log of a run that another host runs: its entries as they are handed on, and the copy that they make here. A copy
//! grows at its end only, is of one attempt, and is not changed once that has ended.
//!
//! ```text
//! <state>/logs/<run>/copy        the epoch of the attempt that it is a copy of; locked while it is written to
//! ```

use std::ffi::CStr;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use crate::record::{Fence, Stream};
use crate::store::log::format::{ENTRY_BYTES, Entry, HEADER, Mark};
use crate::store::log::{LogReader, Logs, Look, compress, file_name};

/// Bytes of both streams of a copy at the most: what a log holds, and something for what its writer keeps beside it.
const CONTENT_BYTES_MAX: u64 = 80 * 1024 * 1024;
/// Entries of a copy at the most.
const ENTRIES_MAX: u64 = 8 * 1024 * 1024;
/// Digits of an epoch.
const EPOCH_BYTES_MAX: u64 = 20;

/// How far a copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Entries that it has.
    pub entries: u64,
    /// Whether the log is at its end.
    pub complete: bool,
}

/// What became of entries that were to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a copy that stands elsewhere is told here"]
pub enum Append {
    /// They are in the copy.
    Added(Copied),
    /// They do not follow what it has; nothing was written.
    Elsewhere(Copied),
    /// They are no entries, or more than a log holds; nothing was written.
    Malformed,
    /// The copy is of a later attempt.
    Superseded,
}

/// Entries of a log as they are handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The entries, each followed by its bytes.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub entries: u64,
    /// Whether they are the last.
    pub complete: bool,
}

impl Piece {
    /// The next entries of a log, as many as fit into about `bytes_max`; none where its writer has nothing more yet.
    pub fn of(reader: &mut LogReader, bytes_max: usize) -> io::Result<Self> {
        let mut piece = Self { bytes: Vec::new(), entries: 0, complete: false };
        while piece.bytes.len() < bytes_max && !piece.complete {
            match reader.look()? {
                Look::Chunk(chunk) => piece.add(chunk.at_ms, Mark::Content(chunk.stream), &chunk.bytes),
                Look::Pending => break,
                Look::End { truncated } => piece.end(truncated),
            }
        }
        Ok(piece)
    }

    /// What a writer left that was killed, up to about `bytes_max`, and an end that says so.
    pub fn rest_of(reader: &mut LogReader, bytes_max: usize) -> io::Result<Self> {
        let mut piece = Self { bytes: Vec::new(), entries: 0, complete: false };
        while piece.bytes.len() < bytes_max {
            let Some(chunk) = reader.rest()? else { break };
            piece.add(chunk.at_ms, Mark::Content(chunk.stream), &chunk.bytes);
        }
        piece.end(true);
        Ok(piece)
    }

    fn add(&mut self, at_ms: i64, mark: Mark, content: &[u8]) {
        // A chunk is no longer than an entry may say.
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&Entry { at_ms, length, mark }.encode());
        self.bytes.extend_from_slice(content);
        self.entries += 1;
    }

    fn end(&mut self, truncated: bool) {
        self.add(0, if truncated { Mark::Truncated } else { Mark::End }, &[]);
        self.complete = true;
    }
}

impl Logs {
    /// Adds entries to the copy of an attempt's log, which is begun where there is none. `after` is how many it must have.
    pub fn append(&self, fence: Fence, after: u64, bytes: &[u8]) -> io::Result<Append> {
        let Some(added) = parse(bytes) else { return Ok(Append::Malformed) };
        let path = self.by_run.of(fence.run);
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let directory = File::open(&path)?;
        let Some(mut copy) = Copy::open(directory.as_fd(), fence.epoch)? else {
            return Ok(Append::Superseded);
        };
        let had = Copied { entries: copy.entries, complete: copy.complete };
        if had.entries != after || (had.complete && !added.is_empty()) {
            return Ok(Append::Elsewhere(had));
        }
        let more: u64 = added.iter().map(|it| it.1.len() as u64).sum();
        let entries = after + added.len() as u64;
        if copy.content_bytes() + more > CONTENT_BYTES_MAX || entries > ENTRIES_MAX {
            return Ok(Append::Malformed);
        }
        copy.write(&added)?;
        if copy.complete && !had.complete {
            directory.sync_all()?;
            File::open(self.by_run.place())?.sync_all()?;
            // An uncompressed log is as good to read.
            let _ = compress::directory(&path);
        }
        Ok(Append::Added(Copied { entries: copy.entries, complete: copy.complete }))
    }
}

/// Entries with their bytes; `None` for what is none, or goes on after its end.
fn parse(mut bytes: &[u8]) -> Option<Vec<(Entry, &[u8])>> {
    let mut found: Vec<(Entry, &[u8])> = Vec::new();
    while !bytes.is_empty() {
        let (header, rest) = bytes.split_first_chunk::<ENTRY_BYTES>()?;
        let entry = Entry::decode(*header)?;
        let is_content = matches!(entry.mark, Mark::Content(_));
        let follows_end = found.last().is_some_and(|it| !matches!(it.0.mark, Mark::Content(_)));
        if follows_end || (!is_content && entry.length > 0) {
            return None;
        }
        let (content, rest) = rest.split_at_checked(entry.length as usize)?;
        found.push((entry, content));
        bytes = rest;
    }
    Some(found)
}

/// A copy that is open for writing; nobody else writes to it meanwhile.
struct Copy {
    _lock: File,
    index: File,
    stdout: File,
    stderr: File,
    stdout_bytes: u64,
    stderr_bytes: u64,
    /// Entries that carry content.
    entries: u64,
    complete: bool,
}

impl Copy {
    /// `None` where it is of a later attempt. What is there of an earlier one goes; who reads it goes on reading it.
    fn open(directory: BorrowedFd<'_>, epoch: u64) -> io::Result<Option<Self>> {
        let mut lock = at(directory, c"copy", OFlags::RDWR)?;
        lock.lock()?;
        if lock.metadata()?.nlink() == 0 {
            return Err(io::Error::other("the log was removed meanwhile"));
        }
        let mut text = String::new();
        (&lock).take(EPOCH_BYTES_MAX).read_to_string(&mut text)?;
        match text.parse::<u64>() {
            Ok(of) if of > epoch => return Ok(None),
            Ok(of) if of == epoch => {}
            Ok(_) | Err(_) => {
                for name in [c"index", c"stdout", c"stderr", c"stdout.zst", c"stderr.zst"] {
                    let _ = unlinkat(directory, name, AtFlags::empty());
                }
                lock.set_len(0)?;
                lock.seek(SeekFrom::Start(0))?;
                lock.write_all(epoch.to_string().as_bytes())?;
            }
        }
        Self::read(directory, lock).map(Some)
    }

    /// Reads how far it has come, and cuts off what a killed server wrote and did not list.
    fn read(directory: BorrowedFd<'_>, lock: File) -> io::Result<Self> {
        let mut index = at(directory, c"index", OFlags::RDWR)?;
        let mut listed = Vec::new();
        (&index)
            .take(HEADER.len() as u64 + (ENTRIES_MAX + 1) * ENTRY_BYTES as u64)
            .read_to_end(&mut listed)?;
        if listed.len() < HEADER.len() {
            index.set_len(0)?;
            index.seek(SeekFrom::Start(0))?;
            index.write_all(HEADER)?;
            listed = HEADER.to_vec();
        }
        let (mut entries, mut complete, mut stdout_bytes, mut stderr_bytes) = (0, false, 0, 0);
        let garbled = || io::Error::new(io::ErrorKind::InvalidData, "the copy of a log is damaged");
        for bytes in listed[HEADER.len()..].as_chunks::<ENTRY_BYTES>().0 {
            let entry = Entry::decode(*bytes).ok_or_else(garbled)?;
            entries += 1;
            match entry.mark {
                Mark::Content(Stream::Stdout) => stdout_bytes += u64::from(entry.length),
                Mark::Content(Stream::Stderr) => stderr_bytes += u64::from(entry.length),
                Mark::End | Mark::Truncated => complete = true,
            }
        }
        index.set_len(HEADER.len() as u64 + entries * ENTRY_BYTES as u64)?;
        index.seek(SeekFrom::End(0))?;
        let (stdout, stderr) = if complete {
            // They may be compressed by now, and nothing is added to them.
            (index.try_clone()?, index.try_clone()?)
        } else {
            (
                content(directory, Stream::Stdout, stdout_bytes)?,
                content(directory, Stream::Stderr, stderr_bytes)?,
            )
        };
        Ok(Self { _lock: lock, index, stdout, stderr, stdout_bytes, stderr_bytes, entries, complete })
    }

    fn content_bytes(&self) -> u64 {
        self.stdout_bytes + self.stderr_bytes
    }

    /// Content first: a reader never finds an entry whose bytes are not there. A copy that is complete lasts: whoever handed
    /// it in keeps the log no longer.
    fn write(&mut self, added: &[(Entry, &[u8])]) -> io::Result<()> {
        let mut listed = Vec::with_capacity(added.len() * ENTRY_BYTES);
        for (entry, content) in added {
            match entry.mark {
                Mark::Content(Stream::Stdout) => self.stdout.write_all(content)?,
                Mark::Content(Stream::Stderr) => self.stderr.write_all(content)?,
                Mark::End | Mark::Truncated => self.complete = true,
            }
            listed.extend_from_slice(&entry.encode());
        }
        if self.complete {
            self.stdout.sync_data()?;
            self.stderr.sync_data()?;
        }
        self.index.write_all(&listed)?;
        if self.complete {
            self.index.sync_data()?;
        }
        self.entries += added.len() as u64;
        Ok(())
    }
}

/// A stream's file, cut to what is listed of it.
fn content(directory: BorrowedFd<'_>, stream: Stream, bytes: u64) -> io::Result<File> {
    let name = std::ffi::CString::new(file_name(stream))?;
    let mut file = at(directory, &name, OFlags::RDWR)?;
    file.set_len(bytes)?;
    file.seek(SeekFrom::End(0))?;
    Ok(file)
}

fn at(directory: BorrowedFd<'_>, name: &CStr, access: OFlags) -> io::Result<File> {
    let flags = access | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(directory, name, flags, Mode::from_raw_mode(0o600))?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::log::Position;
    use crate::task::RunId;

    const MAX: u64 = 1 << 20;

    struct Hosts {
        worker: Logs,
        server: Logs,
        fence: Fence,
        _state: tempfile::TempDir,
    }

    fn hosts() -> Hosts {
        let state = tempfile::tempdir().expect("a directory");
        let fence = Fence { run: RunId::generate(), attempt: 1, epoch: 1 };
        let of = |name| Logs::new(&state.path().join(name));
        Hosts { worker: of("worker"), server: of("server"), fence, _state: state }
    }

    impl Hosts {
        /// Hands on what the worker has from where the copy stands.
        fn hand_on(&self, after: u64) -> Append {
            let mut reader = self.reader(after);
            let piece = Piece::of(&mut reader, 64 * 1024).expect("read");
            self.server.append(self.fence, after, &piece.bytes).expect("kept")
        }

        fn reader(&self, after: u64) -> LogReader {
            let reader = self.worker.reader(self.fence.run).expect("read").expect("it is there");
            reader.from(Position::after(after)).expect("found")
        }

        /// What a reader of the copy gets: the bytes in order, and how it ends.
        fn copy(&self) -> (String, Look) {
            let mut reader = self.server.reader(self.fence.run).expect("read").expect("it is there");
            let mut text = String::new();
            loop {
                match reader.look().expect("read") {
                    Look::Chunk(chunk) => text.push_str(&String::from_utf8_lossy(&chunk.bytes)),
                    other => return (text, other),
                }
            }
        }
    }

    #[test]
    fn a_copy_has_what_the_log_has_in_its_order() {
        let hosts = hosts();
        let writer = hosts.worker.writer(hosts.fence.run, MAX).expect("begun");
        for round in 0..50 {
            writer.write(Stream::Stdout, format!("out {round}\n").as_bytes(), 1);
            writer.write(Stream::Stderr, "x".repeat(200).as_bytes(), 2);
        }
        writer.finish(3);
        assert!(matches!(hosts.hand_on(0), Append::Added(Copied { complete: true, .. })));
        let (text, end) = hosts.copy();
        assert_eq!(end, Look::End { truncated: false });
        assert_eq!(text.matches("out ").count(), 50);
        assert_eq!(text.len(), 50 * 200 + (0..50).map(|it| format!("out {it}\n").len()).sum::<usize>());
    }

    #[test]
    fn a_copy_grows_at_its_end_only_and_says_where_that_is() {
        let hosts = hosts();
        let writer = hosts.worker.writer(hosts.fence.run, MAX).expect("begun");
        writer.write(Stream::Stdout, b"one ", 1);
        drop(writer);
        let Append::Added(first) = hosts.hand_on(0) else { panic!("it is added") };
        assert_eq!(first, Copied { entries: 1, complete: false });
        assert_eq!(hosts.hand_on(0), Append::Elsewhere(first), "the same again");
        let entry = Entry { at_ms: 1, length: 1, mark: Mark::Content(Stream::Stdout) }.encode();
        let bytes = [&entry[..], b"x"].concat();
        assert_eq!(hosts.server.append(hosts.fence, 7, &bytes).expect("kept"), Append::Elsewhere(first));
        assert_eq!(hosts.copy().0, "one ");
    }

    #[test]
    fn what_a_killed_server_wrote_and_did_not_list_is_written_anew() {
        let hosts = hosts();
        let writer = hosts.worker.writer(hosts.fence.run, MAX).expect("begun");
        writer.write(Stream::Stdout, b"one ", 1);
        drop(writer);
        let Append::Added(first) = hosts.hand_on(0) else { panic!("it is added") };
        let directory = hosts.server.by_run().of(hosts.fence.run);
        let torn = |name| File::options().append(true).open(directory.join(name)).expect("opened");
        torn("stdout").write_all(b"half of t").expect("written");
        torn("index").write_all(&[1, 2, 3]).expect("written");
        let entry = Entry { at_ms: 1, length: 4, mark: Mark::Content(Stream::Stdout) }.encode();
        let bytes = [&entry[..], b"two "].concat();
        let added = hosts.server.append(hosts.fence, first.entries, &bytes).expect("kept");
        assert!(matches!(added, Append::Added(_)));
        assert_eq!(hosts.copy().0, "one two ");
    }

    #[test]
    fn a_later_attempt_begins_anew_and_an_earlier_one_adds_nothing() {
        let mut hosts = hosts();
        let end = Entry { at_ms: 1, length: 0, mark: Mark::End }.encode();
        let of = |text: &str| {
            let length = u32::try_from(text.len()).expect("short");
            let entry = Entry { at_ms: 1, length, mark: Mark::Content(Stream::Stdout) }.encode();
            [&entry[..], text.as_bytes()].concat()
        };
        let first = [of("first"), end.to_vec()].concat();
        assert!(matches!(hosts.server.append(hosts.fence, 0, &first).expect("kept"), Append::Added(_)));
        let early = hosts.fence;
        hosts.fence = Fence { attempt: 2, epoch: 3, ..early };
        let added = hosts.server.append(hosts.fence, 0, &of("second")).expect("kept");
        assert!(matches!(added, Append::Added(Copied { entries: 1, complete: false })));
        assert_eq!(hosts.server.append(early, 0, &of("late")).expect("looked at"), Append::Superseded);
        assert_eq!(hosts.copy().0, "second");
    }

    #[test]
    fn a_log_that_has_ended_is_not_changed() {
        let hosts = hosts();
        let end = Entry { at_ms: 1, length: 0, mark: Mark::End }.encode();
        assert!(matches!(hosts.server.append(hosts.fence, 0, &end).expect("kept"), Append::Added(_)));
        let more = Entry { at_ms: 1, length: 1, mark: Mark::Content(Stream::Stderr) }.encode();
        let bytes = [&more[..], b"x"].concat();
        let answer = hosts.server.append(hosts.fence, 1, &bytes).expect("looked at");
        assert_eq!(answer, Append::Elsewhere(Copied { entries: 1, complete: true }));
    }

    #[test]
    fn what_is_no_entry_is_refused_whole() {
        let hosts = hosts();
        let entry = |length, mark| Entry { at_ms: 1, length, mark }.encode();
        let end = entry(0, Mark::End);
        let good = [&entry(1, Mark::Content(Stream::Stdout))[..], b"x"].concat();
        let cases = [
            vec![0; ENTRY_BYTES],
            good[..ENTRY_BYTES].to_vec(),
            good[..5].to_vec(),
            [&good[..], &[9; ENTRY_BYTES]].concat(),
            [&end[..], &good[..]].concat(),
            [&entry(1, Mark::End)[..], b"x"].concat(),
        ];
        for bytes in cases {
            assert_eq!(hosts.server.append(hosts.fence, 0, &bytes).expect("looked at"), Append::Malformed);
        }
        assert!(hosts.server.reader(hosts.fence.run).expect("read").is_none());
    }

    #[test]
    fn what_a_killed_worker_left_is_handed_on_with_an_end() {
        let hosts = hosts();
        let writer = hosts.worker.writer(hosts.fence.run, MAX).expect("begun");
        writer.write(Stream::Stdout, b"listed ", 1);
        drop(writer);
        let directory = hosts.worker.by_run().of(hosts.fence.run);
        let mut stdout = File::options().append(true).open(directory.join("stdout")).expect("opened");
        stdout.write_all(b"not listed").expect("written");
        let Append::Added(first) = hosts.hand_on(0) else { panic!("it is added") };
        let mut reader = hosts.reader(first.entries);
        let piece = Piece::rest_of(&mut reader, 64 * 1024).expect("read");
        let added = hosts.server.append(hosts.fence, first.entries, &piece.bytes).expect("kept");
        assert!(matches!(added, Append::Added(Copied { complete: true, .. })));
        assert_eq!(hosts.copy(), ("listed not listed".to_owned(), Look::End { truncated: true }));
    }
}
