//! Files of a git directory as they go in: configurations and logs of references without logins.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::sandbox::workspace::Meta;
use crate::sandbox::workspace::git::config::{self, Cleaned};
use crate::sandbox::workspace::git::parts::Part;
use crate::sandbox::workspace::git::{SMALL_BYTES_MAX, read_up_to, url};

/// Bytes of one log of a reference at the most.
const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What becomes of a file.
pub enum Clean {
    /// Nothing: it may be sent from the disk.
    AsItIs,
    /// This text goes in.
    Text(Meta, Vec<u8>),
    /// It cannot be told whether a login is in it.
    Unclear(String),
}

/// Reads and cleans the file `name` in `directory`; `added` is appended.
pub fn clean(
    directory: BorrowedFd<'_>,
    name: &[u8],
    part: Part,
    added: Option<&[u8]>,
) -> Result<Clean, Errno> {
    let bytes_max = match part {
        Part::Whole | Part::Outside => return Ok(Clean::AsItIs),
        Part::Config => SMALL_BYTES_MAX,
        Part::Log => LOG_BYTES_MAX,
    };
    let (meta, content) = match read_up_to(directory, name, bytes_max) {
        Ok(read) => read,
        Err(Errno::FBIG) => return Ok(Clean::Unclear(format!("it is longer than {bytes_max} bytes"))),
        Err(cause) => return Err(cause),
    };
    // The text is kept even where nothing changed: what is sent is what was looked at.
    let mut cleaned = match part {
        Part::Config => match config::clean(&content) {
            Ok(Cleaned::Same) => content,
            Ok(Cleaned::Changed(cleaned)) => cleaned,
            Err(config::NoConfig { line }) => {
                return Ok(Clean::Unclear(format!("line {line} is no configuration that git could read")));
            }
        },
        Part::Whole | Part::Outside | Part::Log => url::without_login(&content).unwrap_or(content),
    };
    cleaned.extend_from_slice(added.unwrap_or_default());
    Ok(Clean::Text(meta, cleaned))
}
