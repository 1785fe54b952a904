//! What a run changed in its workspace, as one archive: who asked for the run brings it into their tree themselves.

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;

use crate::api::Shared;
use crate::api::problem::Problem;
use crate::api::scope::Scoped;
use crate::api::sse::Reader;
use crate::sandbox::changes::parcel;

/// Bytes that are sent at once, and pieces that wait for the reader.
const PIECE_BYTES: usize = 128 * 1024;
const PIECES_MAX: usize = 8;
/// How long the first piece may take.
const FIRST_TIME_MAX: Duration = Duration::from_secs(20);

/// What a run changed in its workspace: a tar archive of `manifest.json` and `content/<sha256>`.
#[utoipa::path(get, path = "/api/v1/runs/{id}/changes", tag = "runs",
    params(("id" = String, Path, description = "the whole id or its last 12 digits")),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 404, description = "no such run, or nothing of its changes is kept"),
        (status = 409, description = "the run has not ended"),
        (status = 429, description = "too many read changes at this moment")))]
pub(super) async fn get(State(api): State<Shared>, scoped: Scoped) -> Result<Response, Problem> {
    let Some(end) = &scoped.run.end else {
        let message = "the run has not ended: its changes are known when it has";
        return Err(Problem::new(StatusCode::CONFLICT, "going_on", message));
    };
    if end.changes.as_ref().is_none_or(|it| it.failure.is_some()) {
        return Err(not_kept());
    }
    let (kept, run) = (api.services.changes.clone(), scoped.run.id);
    let busy = |_| Problem::too_many("too many read changes at this moment", Duration::from_secs(5));
    let permit = api.packings.clone().try_acquire_owned().map_err(busy)?;
    let (pieces, mut packed) = mpsc::channel(PIECES_MAX);
    let reader = Reader::new(api, scoped.caller)?;
    // It ends with its reader: a piece that nobody takes is an error to it.
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut into = BufWriter::with_capacity(PIECE_BYTES, Pieces(pieces.clone()));
        let written = parcel::pack(&kept, run, &mut into).and_then(|any| into.flush().map(|()| any));
        if let Err(error) = written {
            // It cuts the answer, so that it does not look whole.
            let _ = pieces.blocking_send(Err(error));
        }
    });
    let first = match tokio::time::timeout(FIRST_TIME_MAX, packed.recv()).await {
        Ok(Some(Ok(first))) => first,
        Ok(None) => return Err(not_kept()),
        Ok(Some(Err(error))) => return Err(Problem::internal(format!("changes cannot be read: {error}"))),
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
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{}.changes.tar\"", run.short())),
    ];
    Ok((headers, body).into_response())
}

fn not_kept() -> Problem {
    let message = "no changes of this run are kept: it was not asked for, it ran on another host, or it is too long ago";
    Problem::new(StatusCode::NOT_FOUND, "not_kept", message)
}

/// Writes into a channel.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

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
