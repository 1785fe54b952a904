//! The adapters of the server's ports that are made of what others have: its logs.

use std::io;

use crate::api::services::{HandedIn, LogChunk, LogCopies, LogLook, LogRange, LogSource, LogStands};
use crate::record::Fence;
use crate::store::Logs;
use crate::store::log::{Append, Chunk, Copied, LogReader, Look, Position};
use crate::task::RunId;

/// The logs of a state directory.
#[derive(Debug, Clone)]
pub struct StoredLogs(pub Logs);

impl crate::api::services::Logs for StoredLogs {
    fn open(&self, run: RunId, range: LogRange) -> io::Result<Option<Box<dyn LogSource>>> {
        let Some(mut reader) = self.0.reader(run)? else { return Ok(None) };
        if let Some(stream) = range.only {
            reader = reader.only(stream);
        }
        Ok(Some(Box::new(Source(reader.from(Position::after(range.after))?))))
    }
}

impl LogCopies for StoredLogs {
    fn append(&self, fence: Fence, after: u64, entries: &[u8]) -> io::Result<HandedIn> {
        Ok(match self.0.append(fence, after, entries)? {
            Append::Added(copied) => HandedIn::Added(stands(copied)),
            Append::Elsewhere(copied) => HandedIn::Elsewhere(stands(copied)),
            Append::Malformed => HandedIn::Malformed,
            Append::Superseded => HandedIn::Superseded,
        })
    }
}

fn stands(copied: Copied) -> LogStands {
    LogStands { entries: copied.entries, complete: copied.complete }
}

struct Source(LogReader);

impl LogSource for Source {
    fn look(&mut self) -> io::Result<LogLook> {
        Ok(match self.0.look()? {
            Look::Chunk(it) => LogLook::Chunk(chunk(it)),
            Look::Pending => LogLook::Pending,
            Look::End { truncated } => LogLook::End { truncated },
        })
    }

    fn rest(&mut self) -> io::Result<Option<LogChunk>> {
        Ok(self.0.rest()?.map(chunk))
    }
}

fn chunk(chunk: Chunk) -> LogChunk {
    let Chunk { stream, at_ms, bytes, next } = chunk;
    LogChunk { stream, at_ms, bytes, entries: next.entries() }
}
