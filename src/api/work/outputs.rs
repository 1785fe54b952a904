//! Outputs of runs that other hosts ran: written beside their place, from where the last try broke off, and put there when
//! they are whole and have the digest that the record of the run names. What the record does not name is not taken.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::api::Shared;
use crate::api::body::Asked;
use crate::api::problem::Problem;
use crate::api::services::Limits;
use crate::api::wire::problem::ProblemJson;
use crate::api::wire::work::{LeaseQuery, OutputStandsJson, PartQuery};
use crate::api::work::{held, proof};
use crate::queue::fleet::{Holding, Proof};
use crate::record::{Artifact, Found};
use crate::task::causes::told;
use crate::task::run_id::RunSelector;

/// Bytes that are hashed at once.
const HASHED_AT_ONCE: usize = 256 * 1024;

/// How far an output has come.
#[utoipa::path(get, path = "/api/v1/work/{id}/outputs/{index}", tag = "workers",
    params(("id" = String, Path, description = "the whole id"),
        ("index" = u32, Path, description = "of the output in the run's record, from 0"), LeaseQuery),
    responses((status = 200, body = OutputStandsJson), (status = 404, body = ProblemJson, content_type = "application/problem+json")))]
pub(in crate::api) async fn look(
    State(api): State<Shared>,
    path: axum::extract::Path<(String, u32)>,
    Asked(lease): Asked<LeaseQuery>,
) -> Result<Json<OutputStandsJson>, Problem> {
    let proof = proof(&path.0.0, lease)?;
    let place = Place::of(&api, &proof, path.0.1).await?;
    Ok(Json(blocking(move || place.stands()).await?))
}

/// Hand in an output, or what is missing of it.
#[utoipa::path(put, path = "/api/v1/work/{id}/outputs/{index}", tag = "workers",
    params(("id" = String, Path, description = "the whole id"),
        ("index" = u32, Path, description = "of the output in the run's record, from 0"), PartQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = OutputStandsJson), (status = 404, body = ProblemJson, content_type = "application/problem+json"),
        (status = 409, body = ProblemJson, content_type = "application/problem+json", description = "it does not follow what the server has")))]
pub(in crate::api) async fn put(
    State(api): State<Shared>,
    path: axum::extract::Path<(String, u32)>,
    Asked(part): Asked<PartQuery>,
    body: Body,
) -> Result<Json<OutputStandsJson>, Problem> {
    let PartQuery { attempt, epoch, owner, offset } = part;
    let proof = proof(&path.0.0, LeaseQuery { attempt, epoch, owner })?;
    let place = Place::of(&api, &proof, path.0.1).await?;
    let opening = place.clone();
    let Some(draft) = blocking(move || opening.draft(offset)).await? else {
        let message =
            "it does not follow what the server has, or another request writes it: look how far it has come";
        return Err(Problem::new(StatusCode::CONFLICT, "elsewhere", message));
    };
    // Its record bounds it, as the policy of the run bounded what was recorded.
    let left = place.artifact.bytes.saturating_sub(offset);
    fill(&draft, body, left, api.services.limits).await?;
    let stands = blocking(move || place.settle(draft)).await?;
    stands.map(Json).ok_or_else(|| {
        let message = "the content has another digest than the record of the run names: it was dropped";
        Problem::new(StatusCode::BAD_REQUEST, "digest_mismatch", message)
    })
}

/// Where an output lies.
#[derive(Debug, Clone)]
struct Place {
    artifact: Artifact,
    /// What runs left, all of them.
    artifacts: PathBuf,
    target: PathBuf,
    draft: PathBuf,
}

impl Place {
    /// The output of this number in the record of a run that ended under this lease.
    async fn of(api: &Shared, proof: &Proof, index: u32) -> Result<Self, Problem> {
        if held(api, proof).await? != Holding::Ended {
            let message = "the run goes on: its outputs are known when it has ended";
            return Err(Problem::new(StatusCode::CONFLICT, "goes_on", message));
        }
        let fence = proof.fence;
        let found = api.services.record.find(&RunSelector::Id(fence.run)).await?;
        let Found::Run(run) = found else { return Err(Problem::not_found("run")) };
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let artifacts = run.end.map(|it| it.artifacts).unwrap_or_default();
        let artifact = artifacts.into_iter().nth(index).ok_or_else(|| Problem::not_found("output"))?;
        let of_run = api.services.artifacts.by_run().of(fence.run);
        let path = Path::new(std::ffi::OsStr::from_bytes(&artifact.path)).to_owned();
        let is_below = path.components().all(|it| matches!(it, Component::Normal(_)));
        if !is_below || path.as_os_str().is_empty() {
            return Err(Problem::not_found("output"));
        }
        Ok(Self {
            artifact,
            artifacts: api.services.artifacts.by_run().place().to_owned(),
            target: of_run.join(fence.attempt.to_string()).join(path),
            draft: of_run.join(format!("incoming-{}-{index}", fence.attempt)),
        })
    }

    fn stands(&self) -> io::Result<OutputStandsJson> {
        if std::fs::symlink_metadata(&self.target).is_ok_and(|it| it.len() == self.artifact.bytes) {
            self.sync_names()?;
            return Ok(OutputStandsJson { bytes: self.artifact.bytes, complete: true });
        }
        match std::fs::symlink_metadata(&self.draft) {
            Ok(metadata) => Ok(OutputStandsJson { bytes: metadata.len(), complete: false }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(OutputStandsJson { bytes: 0, complete: false })
            }
            Err(error) => Err(error),
        }
    }

    /// What is written to, by one request at a time; `None` where it does not stand at `offset`.
    fn draft(&self, offset: u64) -> io::Result<Option<File>> {
        if self.stands()?.complete {
            return Ok(None);
        }
        if let Some(parent) = self.draft.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.draft)?;
        if file.try_lock().is_err() || file.metadata()?.len() != offset {
            return Ok(None);
        }
        file.seek(SeekFrom::End(0))?;
        Ok(Some(file))
    }

    /// Puts a whole one in its place. `None` where it is not what the record names: then it is gone.
    fn settle(&self, mut draft: File) -> io::Result<Option<OutputStandsJson>> {
        let bytes = draft.metadata()?.len();
        if bytes < self.artifact.bytes {
            return Ok(Some(OutputStandsJson { bytes, complete: false }));
        }
        draft.seek(SeekFrom::Start(0))?;
        if digest(&mut draft)? != self.artifact.sha256 {
            std::fs::remove_file(&self.draft)?;
            return Ok(None);
        }
        draft.set_permissions(Permissions::from_mode(self.artifact.mode & 0o777 | 0o600))?;
        draft.sync_all()?;
        if let Some(parent) = self.target.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        std::fs::rename(&self.draft, &self.target)?;
        self.sync_names()?;
        Ok(Some(OutputStandsJson { bytes, complete: true }))
    }

    /// Whoever is told that an output is here keeps it no longer: the names that lead to it last over a power cut.
    fn sync_names(&self) -> io::Result<()> {
        for directory in self.target.ancestors().skip(1) {
            File::open(directory)?.sync_all()?;
            if directory == self.artifacts {
                break;
            }
        }
        Ok(())
    }
}

fn digest(file: &mut File) -> io::Result<[u8; 32]> {
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; HASHED_AT_ONCE]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest.finalize().into()),
            count => digest.update(&buffer[..count]),
        }
    }
}

/// Writes a body of at most `bytes_max`. What came before it broke off stays, to go on from.
async fn fill(draft: &File, body: Body, bytes_max: u64, limits: Limits) -> Result<(), Problem> {
    let mut file = tokio::fs::File::from_std(draft.try_clone().map_err(|error| failed(&error))?);
    let (mut pieces, mut bytes) = (body.into_data_stream(), 0_u64);
    let stalled = |_| Problem::of_status(StatusCode::REQUEST_TIMEOUT);
    while let Some(piece) = tokio::time::timeout(limits.stall_time, pieces.next()).await.map_err(stalled)? {
        let piece = piece.map_err(|_| Problem::of_status(StatusCode::BAD_REQUEST))?;
        bytes += piece.len() as u64;
        if bytes > bytes_max {
            return Err(Problem::of_status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        file.write_all(&piece).await.map_err(|error| failed(&error))?;
        // Else a later piece's failure would be told in the place of this one's.
        file.flush().await.map_err(|error| failed(&error))?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(act).await;
    done.map_err(|error| Problem::internal(error.to_string()))?.map_err(|error| failed(&error))
}

pub(super) fn failed(error: &io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, "no_space", "the server has no space left")
        }
        _ => Problem::internal(format!("what a worker handed in cannot be kept: {}", told(error))),
    }
}
