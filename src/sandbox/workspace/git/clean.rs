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
    /// This text goes in.
    Text(Meta, Vec<u8>),
    /// It cannot be told whether a login is in it.
    Unclear(String),
}

/// Reads the file `name` in `directory`, at most `room` bytes of it, and takes its logins out.
pub fn clean(directory: BorrowedFd<'_>, name: &[u8], part: Part, room: u64) -> Result<Clean, Errno> {
    let bytes_max = match part {
        Part::Config => SMALL_BYTES_MAX,
        Part::Whole | Part::Outside | Part::Log => LOG_BYTES_MAX,
    };
    let bytes_max = bytes_max.min(room);
    let (meta, content) = match read_up_to(directory, name, bytes_max) {
        Ok(read) => read,
        Err(Errno::FBIG) => {
            return Ok(Clean::Unclear(format!(
                "it is longer than {bytes_max} bytes, so that no login is looked for"
            )));
        }
        Err(cause) => return Err(cause),
    };
    let cleaned = match part {
        Part::Config => match config::clean(&content) {
            Ok(Cleaned::Same) => content,
            Ok(Cleaned::Changed(cleaned)) => cleaned,
            Err(config::NoConfig { line }) => {
                return Ok(Clean::Unclear(format!("line {line} is no configuration that git could read")));
            }
        },
        Part::Whole | Part::Outside | Part::Log => url::without_login(&content).unwrap_or(content),
    };
    Ok(Clean::Text(meta, cleaned))
}
