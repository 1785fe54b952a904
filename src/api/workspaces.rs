//! Uploaded workspaces: files named by the digest of what was sent, written beside their place and renamed when whole. What
//! they say is checked by whoever sends it on. A project has those that somebody uploaded for it: who only knows a digest
//! has nothing.
//!
//! ```text
//! <uploads>/sha256-…              the bytes
//! <uploads>/projects/<p>/sha256-… the same file, where project `p` has it
//! ```

use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::api::Shared;
use crate::api::body::Asked;
use crate::api::caller::Caller;
use crate::api::problem::Problem;
use crate::api::services::Limits;
use crate::api::wire::UploadJson;
use crate::api::wire::run::ProjectQuery;
use crate::task::causes::told;

const CONTENT_TYPE: &str = "application/octet-stream";
const HEX_DIGITS: usize = 64;

/// Where the bytes of a digest lie.
pub fn upload_path(uploads: &Path, digest: &str) -> Option<PathBuf> {
    Some(uploads.join(format!("sha256-{}", hex_of(digest).ok()?)))
}

/// The digits of `sha256:…`.
pub(super) fn hex_of(digest: &str) -> Result<&str, Problem> {
    let lower = |it: u8| it.is_ascii_digit() || (b'a'..=b'f').contains(&it);
    match digest.strip_prefix("sha256:") {
        Some(hex) if hex.len() == HEX_DIGITS && hex.bytes().all(lower) => Ok(hex),
        Some(_) | None => {
            Err(Problem::field("workspace", "write sha256: and 64 lower-case hexadecimal digits"))
        }
    }
}

/// Whether a project has it. That it was asked for is noted under both names: what is used stays, whoever uses it.
pub(super) async fn is_there(uploads: &Path, project: &str, digest: &str) -> bool {
    let Ok(hex) = hex_of(digest) else { return false };
    let name = format!("sha256-{hex}");
    let (place, of_project) = (uploads.join(&name), of_project(uploads, project).join(&name));
    let noted = tokio::task::spawn_blocking(move || touch(&of_project).and_then(|()| touch(&place)));
    noted.await.is_ok_and(|it| it.is_ok())
}

fn touch(path: &Path) -> io::Result<()> {
    std::fs::File::open(path)?.set_modified(std::time::SystemTime::now())
}

fn of_project(uploads: &Path, project: &str) -> PathBuf {
    uploads.join("projects").join(project)
}

/// Whether a workspace is there already.
#[utoipa::path(head, path = "/api/v1/workspaces/{digest}", tag = "workspaces",
    params(("digest" = String, Path, description = "sha256:…"), ProjectQuery),
    responses((status = 200), (status = 404)))]
pub(super) async fn look(
    State(api): State<Shared>,
    caller: Caller,
    digest: axum::extract::Path<String>,
    Asked(query): Asked<ProjectQuery>,
) -> Result<StatusCode, Problem> {
    hex_of(&digest)?;
    let project = caller.project_for(query.project.as_deref())?;
    match is_there(&api.services.uploads, &project, &digest).await {
        true => Ok(StatusCode::OK),
        false => Err(Problem::not_found("workspace")),
    }
}

/// Upload a workspace: the messages that carry its content, compressed with zstd, under the digest of these very bytes.
#[utoipa::path(put, path = "/api/v1/workspaces/{digest}", tag = "workspaces",
    params(("digest" = String, Path, description = "sha256:… of the body"), ProjectQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, body = UploadJson)))]
pub(super) async fn put(
    State(api): State<Shared>,
    caller: Caller,
    digest: axum::extract::Path<String>,
    Asked(query): Asked<ProjectQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let hex = hex_of(&digest)?.to_owned();
    let project = caller.project_for(query.project.as_deref())?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    if kind != Some(CONTENT_TYPE) || headers.contains_key(header::CONTENT_ENCODING) {
        let message = format!("send `content-type: {CONTENT_TYPE}`");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
    }
    let _place = api.meter.stream(&caller.name).ok_or_else(|| {
        Problem::too_many("too many streams are open: close one", std::time::Duration::from_secs(5))
    })?;
    let uploads = api.services.uploads.clone();
    let draft = Draft::begin(&uploads).await?;
    let bytes = draft.fill(body, &hex, api.services.limits).await?;
    tokio::task::spawn_blocking(move || draft.keep(&uploads, &project, &hex))
        .await
        .map_err(|error| Problem::internal(error.to_string()))?
        .map_err(|error| failed(&error))?;
    Ok((StatusCode::CREATED, Json(UploadJson { digest: digest.0, bytes })).into_response())
}

/// A file that is being written; dropped, it is gone.
struct Draft {
    file: tokio::fs::File,
    path: tempfile::TempPath,
}

impl Draft {
    async fn begin(uploads: &Path) -> Result<Self, Problem> {
        let uploads = uploads.to_owned();
        let made = tokio::task::spawn_blocking(move || {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&uploads)?;
            let path = uploads.join(format!("draft-{}", uuid::Uuid::now_v7().simple()));
            let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path)?;
            Ok::<_, io::Error>((file, tempfile::TempPath::try_from_path(path)?))
        });
        let (file, path) = made
            .await
            .map_err(|error| Problem::internal(error.to_string()))?
            .map_err(|error| failed(&error))?;
        Ok(Self { file: tokio::fs::File::from_std(file), path })
    }

    /// Writes the body and holds it to its digest. Each piece has its own deadline; a trickle ends with the first that is
    /// late.
    async fn fill(&self, body: Body, hex: &str, limits: Limits) -> Result<u64, Problem> {
        let mut file = self.file.try_clone().await.map_err(|error| failed(&error))?;
        let (mut pieces, mut digest, mut bytes) = (body.into_data_stream(), Sha256::new(), 0_u64);
        let stalled = |_| Problem::of_status(StatusCode::REQUEST_TIMEOUT);
        while let Some(piece) =
            tokio::time::timeout(limits.stall_time, pieces.next()).await.map_err(stalled)?
        {
            let piece = piece.map_err(|_| Problem::of_status(StatusCode::BAD_REQUEST))?;
            bytes += piece.len() as u64;
            if bytes > limits.upload_bytes {
                return Err(Problem::of_status(StatusCode::PAYLOAD_TOO_LARGE));
            }
            digest.update(&piece);
            file.write_all(&piece).await.map_err(|error| failed(&error))?;
        }
        file.sync_all().await.map_err(|error| failed(&error))?;
        if hex::encode(digest.finalize()) != hex {
            let message = "the body has another digest than its path says";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "digest_mismatch", message));
        }
        Ok(bytes)
    }

    /// Puts it in its place, unless it is there already, and gives the project its name for it. What another project uses is
    /// one file with this.
    fn keep(self, uploads: &Path, project: &str, hex: &str) -> io::Result<()> {
        let name = format!("sha256-{hex}");
        let place = uploads.join(&name);
        match self.path.persist_noclobber(&place) {
            Ok(()) => {}
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => touch(&place)?,
            Err(error) => return Err(error.error),
        }
        let directory = of_project(uploads, project);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        match std::fs::hard_link(&place, directory.join(&name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => std::fs::File::open(uploads)?.sync_all(),
        }
    }
}

fn failed(error: &io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, "no_space", "the server has no space left")
        }
        _ => Problem::internal(format!("an upload cannot be kept: {}", told(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn projects_share_one_file_and_both_uses_are_seen() {
        let uploads = tempfile::tempdir().expect("a directory");
        let hex = "ab".repeat(32);
        let digest = format!("sha256:{hex}");
        let place = upload_path(uploads.path(), &digest).expect("a digest");
        for project in ["a", "b"] {
            assert!(!is_there(uploads.path(), project, &digest).await);
            let draft = Draft::begin(uploads.path()).await.expect("begun");
            draft.keep(uploads.path(), project, &hex).expect("kept");
            let long_ago = std::time::SystemTime::UNIX_EPOCH;
            std::fs::File::open(&place).and_then(|it| it.set_modified(long_ago)).expect("set");
            assert!(is_there(uploads.path(), project, &digest).await);
            assert_ne!(std::fs::metadata(&place).and_then(|it| it.modified()).expect("there"), long_ago);
        }
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&std::fs::metadata(&place).expect("there")), 3);
        std::fs::remove_file(&place).expect("removed");
        assert!(!is_there(uploads.path(), "a", &digest).await, "its name alone is nothing to run with");
    }

    #[test]
    fn a_digest_is_digits_and_no_path() {
        let hex = "0123456789abcdef".repeat(4);
        assert!(hex_of(&format!("sha256:{hex}")).is_ok());
        for text in
            [hex.clone(), format!("sha256:{}", hex.to_uppercase()), "sha256:../../x".into(), "sha256:".into()]
        {
            assert!(hex_of(&text).is_err(), "{text}");
        }
    }
}
