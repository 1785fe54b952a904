//! Compressing an ended log. A reader finds the plain file or the whole compressed one, never a part.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::record::Stream;
use crate::store::log::{create_private, file_name};

/// Smaller files stay as they are: they fill a disk block either way.
const BYTES_MIN: u64 = 4096;
/// The fastest level: a log waits for it.
const LEVEL: i32 = 1;

/// Compresses the streams of a log.
pub(crate) fn directory(directory: &Path) -> io::Result<()> {
    for stream in [Stream::Stdout, Stream::Stderr] {
        let plain = directory.join(file_name(stream));
        if plain.metadata()?.len() >= BYTES_MIN {
            file(&plain)?;
        }
    }
    Ok(())
}

fn file(plain: &Path) -> io::Result<()> {
    let (whole, part) = (plain.with_extension("zst"), plain.with_extension("part"));
    let made = compress(plain, &part).and_then(|()| std::fs::rename(&part, &whole));
    if made.is_err() {
        // On a full disk the plain file stays.
        let _ = std::fs::remove_file(&part);
        return made;
    }
    std::fs::remove_file(plain)
}

fn compress(plain: &Path, part: &Path) -> io::Result<()> {
    let mut file = create_private(part)?;
    zstd::stream::copy_encode(File::open(plain)?, &mut file, LEVEL)?;
    file.sync_data()
}
