//! An archive that is made while it is read: written on a thread of its own, piece by piece, for as long as its reader takes
//! it and may have it.

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;

use crate::api::Shared;
use crate::api::caller::Caller;
use crate::api::problem::Problem;
use crate::api::sse::Reader;

/// Bytes that are sent at once, and pieces that wait for the reader.
const PIECE_BYTES: usize = 128 * 1024;
const PIECES_MAX: usize = 8;
/// How long the first piece may take.
const FIRST_TIME_MAX: Duration = Duration::from_secs(20);

/// What an archive is written into.
pub(super) type Into = BufWriter<Pieces>;

/// The answer with what `pack` writes, under this file name; `None` where it writes nothing.
pub(super) async fn answer(
    api: Shared,
    caller: Caller,
    name: &str,
    pack: impl FnOnce(&mut Into) -> io::Result<()> + Send + 'static,
) -> Result<Option<Response>, Problem> {
    let busy = |_| Problem::too_many("too many read archives at this moment", Duration::from_secs(5));
    let permit = api.packings.clone().try_acquire_owned().map_err(busy)?;
    let (pieces, mut packed) = mpsc::channel(PIECES_MAX);
    let reader = Reader::new(api, caller)?;
    // It ends with its reader: a piece that nobody takes is an error to it.
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut into = BufWriter::with_capacity(PIECE_BYTES, Pieces(pieces.clone()));
        if let Err(error) = pack(&mut into).and_then(|()| into.flush()) {
            // It cuts the answer, so that it does not look whole.
            let _ = pieces.blocking_send(Err(error));
        }
    });
    let first = match tokio::time::timeout(FIRST_TIME_MAX, packed.recv()).await {
        Ok(Some(Ok(first))) => first,
        Ok(None) => return Ok(None),
        Ok(Some(Err(error))) => {
            return Err(Problem::internal(format!("an archive cannot be made: {error}")));
        }
        Err(_) => return Err(Problem::of_status(StatusCode::REQUEST_TIMEOUT)),
    };
    let body = Body::from_stream(futures_util::stream::unfold(
        (Some(first), packed, reader),
        |(first, mut packed, mut reader)| async {
            let piece = match first {
                Some(first) => Ok(first),
                None => packed.recv().await?,
            };
            let piece =
                if reader.still().await { piece } else { Err(io::ErrorKind::ConnectionAborted.into()) };
            if piece.is_err() {
                packed.close();
            }
            Some((piece, (None, packed, reader)))
        },
    ));
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok(Some((headers, body).into_response()))
}

/// Writes into a channel.
pub(super) struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
