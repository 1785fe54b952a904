//! What a log promises, held against real files.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;

const MIB: usize = 1024 * 1024;

/// A log in a directory of its own.
struct Place {
    _state: TempDir,
    logs: Logs,
    run: RunId,
    writer: LogWriter,
}

impl Place {
    fn new(bytes_max: u64) -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let logs = Logs::new(state.path());
        let run = RunId::generate();
        let writer = logs.writer(run, bytes_max).expect("a writer");
        Self { _state: state, logs, run, writer }
    }

    fn reader(&self) -> LogReader {
        self.logs.reader(self.run).expect("read").expect("it is there")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.logs.by_run().of(self.run).join(name)
    }
}

/// Everything up to the end, or up to where it pends.
fn drain(reader: &mut LogReader) -> (Vec<(Stream, Vec<u8>)>, Look) {
    let mut chunks: Vec<(Stream, Vec<u8>)> = Vec::new();
    loop {
        match reader.look().expect("read") {
            Look::Chunk(chunk) => match chunks.last_mut() {
                Some((stream, bytes)) if *stream == chunk.stream => bytes.extend(chunk.bytes),
                Some(_) | None => chunks.push((chunk.stream, chunk.bytes)),
            },
            last => return (chunks, last),
        }
    }
}

fn of(stream: Stream, chunks: &[(Stream, Vec<u8>)]) -> Vec<u8> {
    chunks.iter().filter(|it| it.0 == stream).flat_map(|it| it.1.clone()).collect()
}

/// Writes, ends, and holds what is read.
fn check(bytes_max: u64, writes: &[(Stream, &[u8])], expected: &[(Stream, &[u8])], truncated: bool) {
    let place = Place::new(bytes_max);
    for (stream, bytes) in writes {
        place.writer.write(*stream, bytes, 7);
    }
    assert_eq!(place.writer.finish(8).truncated, truncated);
    let (chunks, last) = drain(&mut place.reader());
    assert_eq!(last, Look::End { truncated });
    let expected: Vec<(Stream, Vec<u8>)> =
        expected.iter().map(|(stream, bytes)| (*stream, bytes.to_vec())).collect();
    assert_eq!(chunks, expected);
}

#[test]
fn the_streams_come_back_in_the_order_of_the_writes() {
    let writes: [(Stream, &[u8]); 3] =
        [(Stream::Stdout, b"a\n"), (Stream::Stderr, b"b\xff\n"), (Stream::Stdout, b"c")];
    check(100, &writes, &writes, false);
}

#[test]
fn an_empty_log_is_complete() {
    check(100, &[], &[], false);
}

#[test]
fn what_passes_the_limit_is_cut_and_marked() {
    check(
        3,
        &[(Stream::Stdout, b"ab"), (Stream::Stderr, b"cd")],
        &[(Stream::Stdout, b"ab"), (Stream::Stderr, b"c")],
        true,
    );
}

#[test]
fn a_large_log_is_compressed_and_reads_the_same() {
    let place = Place::new(64 * MIB as u64);
    let content: Vec<u8> = (0..5 * MIB).map(|it| (it / 1000) as u8).collect();
    place.writer.write(Stream::Stderr, b"small", 1);
    for piece in content.chunks(300_000) {
        place.writer.write(Stream::Stdout, piece, 1);
    }
    let mut early = place.reader();
    assert!(matches!(early.look(), Ok(Look::Chunk(_) | Look::Pending)));
    place.writer.finish(2);
    assert!(
        place.file("stdout.zst").exists() && !place.file("stdout").exists() && place.file("stderr").exists()
    );
    assert!(place.logs.by_run().bytes(place.run).expect("read") < MIB as u64);
    let (chunks, last) = drain(&mut place.reader());
    assert_eq!((of(Stream::Stdout, &chunks), last), (content.clone(), Look::End { truncated: false }));
    let (only, _) = drain(&mut place.reader().only(Stream::Stderr));
    assert_eq!(only, [(Stream::Stderr, b"small".to_vec())]);
}

#[test]
fn a_reader_goes_on_from_any_place() {
    let place = Place::new(64 * MIB as u64);
    for number in 0..100_u8 {
        place.writer.write(if number % 3 == 0 { Stream::Stderr } else { Stream::Stdout }, &[number; 100], 1);
    }
    place.writer.finish(2);
    let mut reader = place.reader();
    let mut read = Vec::new();
    let mut position = Position::START;
    while let Look::Chunk(chunk) = reader.look().expect("read") {
        read.extend(chunk.bytes);
        position = chunk.next;
        // A new reader for every chunk.
        reader = place.reader().from(Position::after(position.entries())).expect("read");
    }
    assert_eq!(read, (0..100_u8).flat_map(|it| [it; 100]).collect::<Vec<u8>>());
    assert!(position > Position::START);
}

#[test]
fn a_tail_sees_a_write_soon() {
    let place = Place::new(100);
    let mut reader = place.reader();
    assert_eq!(reader.look().expect("read"), Look::Pending);
    place.writer.write(Stream::Stdout, b"now", 1);
    let begun = Instant::now();
    while reader.look().expect("read") == Look::Pending {
        assert!(begun.elapsed() < Duration::from_secs(5), "the tail saw nothing");
        std::thread::yield_now();
    }
}

#[test]
fn a_tail_follows_through_the_end() {
    let place = Place::new(64 * MIB as u64);
    let mut reader = place.reader();
    std::thread::scope(|scope| {
        let read = scope.spawn(move || {
            let mut read = Vec::new();
            loop {
                match reader.look().expect("read") {
                    Look::Chunk(chunk) => read.extend(chunk.bytes),
                    Look::Pending => std::thread::yield_now(),
                    Look::End { .. } => return read,
                }
            }
        });
        for number in 0..2000_u32 {
            place.writer.write(Stream::Stdout, &number.to_le_bytes().repeat(10), 1);
        }
        place.writer.finish(2);
        let expected: Vec<u8> = (0..2000_u32).flat_map(|it| it.to_le_bytes().repeat(10)).collect();
        assert!(read.join().expect("joined") == expected);
    });
}

#[test]
fn two_threads_keep_the_order_of_each_stream() {
    let place = Place::new(64 * MIB as u64);
    std::thread::scope(|scope| {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let writer = &place.writer;
            scope.spawn(move || (0..20_000_u32).for_each(|it| writer.write(stream, &it.to_le_bytes(), 1)));
        }
    });
    place.writer.finish(2);
    let (chunks, _) = drain(&mut place.reader());
    let expected: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
    for stream in [Stream::Stdout, Stream::Stderr] {
        assert!(of(stream, &chunks) == expected, "{stream:?}");
    }
}

#[test]
fn very_many_changes_keep_the_index_small() {
    let place = Place::new(64 * MIB as u64);
    for number in 0..300_000_u32 {
        place.writer.write(Stream::Stdout, &[number as u8], 1);
        place.writer.write(Stream::Stderr, &[!(number as u8)], 1);
    }
    place.writer.finish(2);
    assert!(place.file("index").metadata().expect("read").len() < 5 * MIB as u64);
    let (chunks, _) = drain(&mut place.reader());
    let expected: Vec<u8> = (0..300_000_u32).map(|it| it as u8).collect();
    assert!(of(Stream::Stdout, &chunks) == expected);
    assert!(of(Stream::Stderr, &chunks) == expected.iter().map(|it| !it).collect::<Vec<u8>>());
}

#[test]
fn a_torn_last_entry_pends_and_the_rest_is_given() {
    let place = Place::new(100);
    place.writer.write(Stream::Stdout, b"listed", 1);
    let mut reader = place.reader();
    while reader.look().expect("read") == Look::Pending {
        std::thread::yield_now();
    }
    // What a writer killed between content and index leaves.
    let mut append = OpenOptions::new();
    append.append(true);
    append.open(place.file("index")).expect("opened").write_all(&[9; 5]).expect("written");
    append.open(place.file("stdout")).expect("opened").write_all(b" not listed").expect("written");
    assert_eq!(reader.look().expect("read"), Look::Pending);
    let rest = reader.rest().expect("read").expect("the rest");
    assert_eq!(rest.bytes, b" not listed");
    assert_eq!(reader.rest().expect("read"), None);
}

#[test]
fn a_foreign_index_is_told_as_damage() {
    let place = Place::new(100);
    std::fs::write(place.file("index"), b"something else").expect("written");
    assert!(place.reader().look().expect_err("refused").to_string().contains("is damaged"));
}

#[test]
fn every_file_is_private() {
    let place = Place::new(64 * MIB as u64);
    place.writer.write(Stream::Stdout, &[1; 100_000], 1);
    place.writer.finish(2);
    for entry in std::fs::read_dir(place.logs.by_run().of(place.run)).expect("read") {
        let mode = entry.expect("read").metadata().expect("read").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_write_after_the_end_is_not_kept() {
    let place = Place::new(100);
    place.writer.finish(1);
    place.writer.write(Stream::Stdout, b"late", 2);
    assert!(place.writer.finish(3).truncated);
    assert_eq!(drain(&mut place.reader()).0, []);
}

#[test]
fn a_place_beyond_the_end_of_a_log_is_its_end() {
    let place = Place::new(MIB as u64);
    place.writer.write(Stream::Stdout, b"all of it", 1);
    place.writer.finish(2);
    for after in [1, 2, 1_000_000, u64::MAX] {
        let mut reader = place.reader().from(Position::after(after)).expect("found");
        assert_eq!(reader.look().expect("read"), Look::End { truncated: false }, "{after}");
    }
}
