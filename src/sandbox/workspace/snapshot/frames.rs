//! A plan as the messages that carry it, in one file: what is unchanged at the next run is sent as it lies there.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aegis_init::frame;
use aegis_init::wire::Request;

use crate::sandbox::workspace::snapshot::PackError;
use crate::sandbox::workspace::{Plan, Stopped, send};

/// Bytes that are gathered for one write.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Writes the file, all messages but the last, which ends the content. An older one may be being sent: it stays what it is.
pub fn write(plan: &Plan, path: &Path) -> Result<(), PackError> {
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(PackError::Write(error)),
        Ok(()) | Err(_) => {}
    }
    let file = File::options().write(true).create_new(true).mode(0o600).open(&fresh);
    let mut file = BufWriter::with_capacity(BUFFER_BYTES, file.map_err(PackError::Write)?);
    let mut failed = None;
    let sent = send(plan, &mut |request| {
        if request == Request::PutEnd {
            return Ok(());
        }
        let frame = frame::encode(&request, 0, frame::REQUEST_BYTES_MAX).map_err(io::Error::other);
        frame.and_then(|it| file.write_all(&it)).map_err(|error| {
            failed = Some(error);
            Stopped
        })
    });
    if let Some(error) = failed {
        return Err(PackError::Write(error));
    }
    sent?;
    file.flush().map_err(PackError::Write)?;
    std::fs::rename(&fresh, path).map_err(PackError::Write)
}
