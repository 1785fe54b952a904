//! The databases' result codes, told apart by what the caller can do.

use std::path::Path;

use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

use crate::record::RecordError;
use crate::store::open::{BUSY_TIMEOUT, OpenError};

// https://sqlite.org/rescode.html: the low byte of an extended code is its primary code.
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const NOTADB: i32 = 26;
/// The index of the write-ahead log cannot grow: there is no room.
const IOERR_SHMSIZE: i32 = 4874;

// https://www.postgresql.org/docs/current/errcodes-appendix.html
const DISK_FULL: &str = "53100";
const READ_ONLY: &str = "25006";
const LOCK_NOT_AVAILABLE: &str = "55P03";
const DEADLOCK: &str = "40P01";
const DATA_CORRUPTED: &str = "XX001";
const INDEX_CORRUPTED: &str = "XX002";

/// What a failed statement means for the records at `place`.
pub(crate) fn of(place: &Path, err: sqlx::Error) -> RecordError {
    let place = place.to_owned();
    if code(&err) == Some(IOERR_SHMSIZE) {
        return RecordError::Full { place };
    }
    match state(&err) {
        Some(DISK_FULL) => return RecordError::Full { place },
        Some(READ_ONLY) => return RecordError::ReadOnly { place },
        Some(LOCK_NOT_AVAILABLE | DEADLOCK) => {
            return RecordError::Busy { place, waited_s: BUSY_TIMEOUT.as_secs() };
        }
        Some(DATA_CORRUPTED | INDEX_CORRUPTED) => return RecordError::Damaged { place },
        Some(_) | None => {}
    }
    if is_unreachable(&err) {
        return RecordError::Unreachable { place, source: Box::new(err) };
    }
    match primary_code(&err) {
        Some(BUSY | LOCKED) => RecordError::Busy { place, waited_s: BUSY_TIMEOUT.as_secs() },
        Some(FULL) => RecordError::Full { place },
        Some(READONLY | CANTOPEN) => RecordError::ReadOnly { place },
        Some(CORRUPT | NOTADB) => RecordError::Damaged { place },
        Some(_) | None => RecordError::Unavailable { place, source: Box::new(err) },
    }
}

/// The same while opening.
pub(crate) fn opening(place: &Path, err: sqlx::Error) -> OpenError {
    match primary_code(&err) {
        Some(CORRUPT | NOTADB) => {
            OpenError::Damaged { place: place.to_owned(), what: "its pages do not fit" }
        }
        Some(_) | None => OpenError::Records(of(place, err)),
    }
}

/// SQLite's extended result code; a server's codes are others.
fn code(err: &sqlx::Error) -> Option<i32> {
    let err = err.as_database_error()?;
    err.try_downcast_ref::<SqliteError>()?;
    err.code()?.parse().ok()
}

fn primary_code(err: &sqlx::Error) -> Option<i32> {
    code(err).map(|it| it & 0xff)
}

/// Whether no answer came at all, or only that the server is ending or not ready yet.
fn is_unreachable(err: &sqlx::Error) -> bool {
    match err {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        // https://www.postgresql.org/docs/current/errcodes-appendix.html: connections, and an operator's intervention.
        _ => state(err).is_some_and(|it| it.starts_with("08") || it.starts_with("57P") || it == "53300"),
    }
}

/// The SQLSTATE of a PostgreSQL server.
fn state(err: &sqlx::Error) -> Option<&str> {
    Some(err.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?.code())
}
