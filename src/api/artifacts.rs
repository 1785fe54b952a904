//! What came out of a run: listed from its record, and handed out as bytes that nobody runs or shows. Only what is on
//! record is there, so that nothing is seen of a collection that was cut; its path is compared, never resolved.

mod range;

use std::fs::File;
use std::io::{self, SeekFrom};
use std::num::NonZeroU64;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{RawPathParams, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::api::artifacts::range::{Part, part};
use crate::api::problem::Problem;
use crate::api::scope::Scoped;
use crate::api::sse::Reader;
use crate::api::wire::artifact::FilesJson;
use crate::api::{Shared, archive};
use crate::record::Artifact;
use crate::report::result;
use crate::sandbox::artifacts::parcel;
use crate::task::escape::escape;

/// Bytes that are read at once.
const PIECE_BYTES: usize = 128 * 1024;
/// Bytes of a name that a download suggests.
const NAME_BYTES_MAX: usize = 200;
/// Why content that is on record cannot be given.
const AWAY: &str = "its content is not on this server: it ran on another host, or is kept no more";
/// What stands in an extended parameter as it is (RFC 8187).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// The files that came out of a run.
#[utoipa::path(get, path = "/api/v1/runs/{id}/artifacts", tag = "runs",
    params(("id" = String, Path, description = "the whole id or its last 12 digits")),
    responses((status = 200, body = FilesJson)))]
pub(super) async fn list(scoped: Scoped) -> Json<FilesJson> {
    let Some(end) = &scoped.run.end else {
        return Json(FilesJson {
            files: Vec::new(),
            unmatched: Vec::new(),
            dropped: Vec::new(),
            dropped_count: 0,
        });
    };
    let told = result::artifacts(end);
    Json(FilesJson {
        files: told.files,
        unmatched: told.unmatched,
        dropped: told.dropped,
        dropped_count: told.dropped_count,
    })
}

/// One file that came out, or the part of it that `range` asks for.
#[utoipa::path(get, path = "/api/v1/runs/{id}/artifacts/{*path}", tag = "runs",
    params(("id" = String, Path, description = "the whole id or its last 12 digits"),
        ("path" = String, Path, description = "the path as the list has it; it may have several parts")),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 206, content_type = "application/octet-stream", body = Vec<u8>, description = "the part that was asked for"),
        (status = 404, description = "no such run or file"),
        (status = 416, description = "the range lies outside of the file")))]
pub(super) async fn get(
    State(api): State<Shared>,
    headers: HeaderMap,
    path: RawPathParams,
    scoped: Scoped,
) -> Result<Response, Problem> {
    let (_, path) = path.iter().find(|(name, _)| *name == "path").unwrap_or_default();
    let files = scoped.run.end.iter().flat_map(|it| &it.artifacts);
    let found = files.into_iter().find(|it| escape(&it.path) == path).cloned();
    let found = found.ok_or_else(|| Problem::not_found("artifact"))?;
    let (run, attempt) = (scoped.run.id, scoped.run.fence.attempt);
    let (artifacts, name) = (api.services.artifacts.clone(), found.path.clone());
    let opened = tokio::task::spawn_blocking(move || artifacts.open(run, attempt, &name));
    let opened = opened.await.map_err(|error| Problem::internal(error.to_string()))?;
    let file = whole(opened, &found)?;
    let tag = format!("\"{}\"", hex::encode(found.sha256));
    let same = headers.get(header::IF_RANGE).is_none_or(|it| it.as_bytes() == tag.as_bytes());
    let range = headers.get(header::RANGE).filter(|_| same).and_then(|it| it.to_str().ok());
    let (status, start, length) = match part(range, found.bytes) {
        Part::Whole => (StatusCode::OK, 0, found.bytes),
        Part::Some { start, length } => (StatusCode::PARTIAL_CONTENT, start, length),
        Part::Outside => {
            let problem = Problem::of_status(StatusCode::RANGE_NOT_SATISFIABLE);
            return Err(Problem { content_bytes: NonZeroU64::new(found.bytes), ..problem });
        }
    };
    let sending = Sending::begin(file, start, length, Reader::new(api, scoped.caller)?).await?;
    let mut response = (status, sending.body()).into_response();
    let told = response.headers_mut();
    told.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    told.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    told.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let range = format!("bytes {start}-{}/{}", (start + length).saturating_sub(1), found.bytes);
    for (name, text) in [
        (header::CONTENT_DISPOSITION, disposition(&found.path)),
        (header::ETAG, tag),
        (header::CONTENT_RANGE, range),
    ] {
        if name != header::CONTENT_RANGE || status == StatusCode::PARTIAL_CONTENT {
            let value = HeaderValue::from_str(&text);
            told.insert(name, value.map_err(|_| Problem::internal("a header of an artifact"))?);
        }
    }
    Ok(response)
}

/// Everything that came out of a run: a tar archive of files, directories and links.
#[utoipa::path(get, path = "/api/v1/runs/{id}/outputs", tag = "runs",
    params(("id" = String, Path, description = "the whole id or its last 12 digits")),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 404, description = "no such run, or nothing that came out of it is here"),
        (status = 409, description = "the run has not ended"),
        (status = 429, description = "too many read archives at this moment")))]
pub(super) async fn all(State(api): State<Shared>, mut scoped: Scoped) -> Result<Response, Problem> {
    let end = scoped.ended("the run has not ended: what comes out is known when it has")?;
    let not_kept = || Problem::new(StatusCode::NOT_FOUND, "not_kept", AWAY);
    if end.output_dir.is_none() {
        return Err(not_kept());
    }
    let (run, attempt) = (scoped.run.id, scoped.run.fence.attempt);
    let (artifacts, name) = (api.services.artifacts.clone(), format!("{}.outputs.tar", run.short()));
    let pack = move |into: &mut archive::Into| match artifacts.directory(run, attempt) {
        Ok(directory) => parcel::pack(&directory, &end.artifacts, into),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    archive::answer(api, scoped.caller, &name, pack).await?.ok_or_else(not_kept)
}

/// A file that is still what came out, by its size: its content was never anybody's to write.
fn whole(opened: io::Result<File>, found: &Artifact) -> Result<File, Problem> {
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Problem::new(StatusCode::NOT_FOUND, "not_kept", AWAY));
        }
        Err(error) => return Err(Problem::internal(format!("an artifact: {error}"))),
    };
    match file.metadata() {
        Ok(metadata) if metadata.len() == found.bytes => Ok(file),
        Ok(_) => Err(Problem::internal("an artifact has another size than its record")),
        Err(error) => Err(Problem::internal(format!("an artifact: {error}"))),
    }
}

/// Always a download. The name is the task's: what a header cannot carry is replaced, and told once more encoded.
fn disposition(path: &[u8]) -> String {
    let name = path.rsplit(|it| *it == b'/').next().unwrap_or_default();
    let name = &name[..name.len().min(NAME_BYTES_MAX)];
    let plain = |it: &u8| it.is_ascii_alphanumeric() || b"-._".contains(it);
    let safe: String = name.iter().map(|it| if plain(it) { char::from(*it) } else { '_' }).collect();
    let encoded = match std::str::from_utf8(name) {
        Ok(text) if !name.iter().all(plain) => {
            format!("; filename*=UTF-8''{}", utf8_percent_encode(text, PLAIN))
        }
        Ok(_) | Err(_) => String::new(),
    };
    format!("attachment; filename=\"{safe}\"{encoded}")
}

/// Bytes on their way to a reader, who must be allowed all the while.
struct Sending {
    file: tokio::fs::File,
    left: u64,
    reader: Reader,
}

impl Sending {
    async fn begin(file: File, start: u64, length: u64, reader: Reader) -> Result<Self, Problem> {
        let mut file = tokio::fs::File::from_std(file);
        let sought = file.seek(SeekFrom::Start(start)).await;
        sought.map_err(|error| Problem::internal(format!("an artifact: {error}")))?;
        Ok(Self { file, left: length, reader })
    }

    fn body(self) -> Body {
        Body::from_stream(futures_util::stream::unfold(self, |mut sending| async {
            if sending.left == 0 {
                return None;
            }
            let piece = sending.next().await;
            if piece.is_err() {
                sending.left = 0;
            }
            Some((piece, sending))
        }))
    }

    async fn next(&mut self) -> io::Result<Bytes> {
        if !self.reader.still().await {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let mut piece = vec![0; room];
        let count = self.file.read(&mut piece).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        piece.truncate(count);
        self.left -= count as u64;
        Ok(piece.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_split_the_header() {
        let told = disposition(b"out/a\r\nx: y\"; b.html");
        assert_eq!(
            told,
            "attachment; filename=\"a__x__y___b.html\"; filename*=UTF-8''a%0D%0Ax%3A%20y%22%3B%20b.html"
        );
        assert_eq!(disposition(b"report.xml"), "attachment; filename=\"report.xml\"");
        assert_eq!(disposition(b"\xff"), "attachment; filename=\"_\"");
    }
}
