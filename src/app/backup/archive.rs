//! The archive of a backup, written: regular files and directories, by path below the state directory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use tar::{Builder, EntryType, Header};

use crate::app::backup::Counts;
use crate::record::now_ms;

/// The first entry.
pub const HEAD: &str = "backup.json";
/// What it says this is.
pub const SCHEMA: &str = "aegis.backup/1";
/// Directory levels at the most: ours have three.
const DEPTH_MAX: u32 = 16;
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// An archive that is being written.
pub struct Writer<W: Write> {
    builder: Builder<W>,
    counts: Counts,
}

impl<W: Write> Writer<W> {
    /// Begins with what this is.
    pub fn begin(out: W) -> io::Result<Self> {
        let mut writer = Self { builder: Builder::new(out), counts: Counts::default() };
        let made_ms = now_ms();
        let head = serde_json::json!({
            "schema": SCHEMA, "aegis": env!("CARGO_PKG_VERSION"), "made_ms": made_ms,
        });
        let text = head.to_string();
        let mut header = header(EntryType::Regular, FILE_MODE, text.len() as u64);
        writer.builder.append_data(&mut header, HEAD, text.as_bytes())?;
        Ok(writer)
    }

    /// Appends a file as long as it is now; what is appended to it meanwhile stays out.
    pub fn file(&mut self, path: &Path, file: &mut File) -> io::Result<()> {
        let bytes = file.metadata()?.len();
        let mut header = header(EntryType::Regular, FILE_MODE, bytes);
        // One that became shorter would shift all that follows.
        self.builder.append_data(&mut header, path, Exactly { file, left: bytes })?;
        self.counts.files += 1;
        self.counts.bytes += bytes;
        Ok(())
    }

    /// Appends a file, or a directory with all that is in it. What is gone by then, and what is neither, stays out.
    pub fn tree(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.below(from, to, 0)
    }

    fn below(&mut self, from: &Path, to: &Path, depth: u32) -> io::Result<()> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
        let mut file = match File::options().read(true).custom_flags(flags).open(from) {
            Ok(file) => file,
            Err(error) if is_passed_over(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        if metadata.is_file() {
            return self.file(to, &mut file);
        }
        if !metadata.is_dir() {
            return Ok(());
        }
        if depth == DEPTH_MAX {
            return Err(io::Error::other(format!("`{}` lies too deep", from.display())));
        }
        let mut header = header(EntryType::Directory, DIRECTORY_MODE, 0);
        self.builder.append_data(&mut header, to, io::empty())?;
        let entries = match std::fs::read_dir(from) {
            Ok(entries) => entries,
            Err(error) if is_passed_over(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let name = entry?.file_name();
            self.below(&from.join(&name), &to.join(&name), depth + 1)?;
        }
        Ok(())
    }

    /// Writes the end and gives back what was written to.
    pub fn end(self) -> io::Result<(W, Counts)> {
        Ok((self.builder.into_inner()?, self.counts))
    }
}

/// Removed since it was listed, or a link, which none of ours is.
fn is_passed_over(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
        || error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
}

fn header(kind: EntryType, mode: u32, bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes);
    header.set_mtime(0);
    header
}

/// So many bytes of a file, or an error.
struct Exactly<'a> {
    file: &'a mut File,
    left: u64,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..wanted])?;
        if read == 0 && wanted > 0 {
            return Err(io::Error::other(format!("a file became {} bytes shorter", self.left)));
        }
        self.left -= read as u64;
        Ok(read)
    }
}
