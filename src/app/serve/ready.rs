//! What an attempt needs before its sandbox: policy judged anew, image, workspace, secrets, way out, places for what comes
//! out. Everything here is read; nothing has started when it fails.

use std::path::PathBuf;

use crate::app::serve::Host;
use crate::app::serve::attempt::Unstarted;
use crate::app::serve::engine_watch::Present;
use crate::app::serve::fetch;
use crate::app::serve::handover::Handover;
use crate::app::submission::{Named, Narrower, Understood, understand_within};
use crate::app::{AppError, egress, logs, provision, secrets};
use crate::container::ImageFacts;
use crate::executor::starting::Place;
use crate::executor::{ChangesOut, Secrets, Sinks};
use crate::gateway::wire::Begin;
use crate::policy::{Admitted, admit};
use crate::queue::Claimed;
use crate::queue::fleet::Proof;
use crate::record::Fence;
use crate::sandbox::artifacts::Artifacts;
use crate::sandbox::changes::Root;
use crate::sandbox::changes::gather::{Originals, Start};
use crate::sandbox::changes::kept::Kept;
use crate::sandbox::container_spec::WORKSPACE;
use crate::sandbox::outputs::{Destination, Extractor, OutputLimits, Wanted};
use crate::sandbox::workspace::snapshot::Messages;
use crate::sandbox::workspace::upload::listing::Listing;
use crate::sandbox::workspace::{LeftOut, Limits, upload};
use crate::store::Logs;
use crate::task::{OutputRequest, TaskSpec};

/// Everything that an attempt is made of.
pub struct Ready {
    /// What is to be run.
    pub task: TaskSpec,
    /// What it may do.
    pub admitted: Admitted,
    /// Its image.
    pub image: ImageFacts,
    /// Where its sandbox is made.
    pub place: Place,
    /// Its workspace.
    pub messages: Option<Messages>,
    /// Its secrets.
    pub secrets: Secrets,
    /// Its way out.
    pub egress: Option<Begin>,
    /// What takes its outputs.
    pub outputs: Option<Extractor>,
    /// What keeps what it changes.
    pub changes: Option<ChangesOut>,
    /// Its log.
    pub sinks: Sinks,
}

impl Ready {
    /// Reads everything. May be dropped at any time.
    pub async fn of(host: &Host, claimed: &Claimed, present: &Present) -> Result<Self, Unstarted> {
        let (fence, state) = (claimed.fence, &host.directories.state);
        let project = host.access.project(&claimed.project).await.map_err(Unstarted::Books)?;
        let narrower = project.as_ref().and_then(Narrower::of);
        let understood =
            understand_within(&claimed.submission, Named::default(), &host.amounts, narrower.as_ref())?;
        let denials = understood.denials();
        if !denials.is_empty() {
            return Err(AppError::Denied(denials).into());
        }
        let Understood { task, resolved, runtime } = understood;
        provision::refuse_unenforceable(&present.facts, &runtime)?;
        let pull = resolved.policy.images.pull;
        let image = provision::brokered_image(&present.engine, &task.image, pull).await?;
        let admitted = admit(&task, &resolved, &image.id, &runtime).map_err(AppError::Denied)?;
        let mut place = provision::place(&admitted, &host.directories, &host.amounts, &present.facts)?;
        let (messages, changes) = match &claimed.submission.workspace {
            Some(digest) => {
                let (messages, listing) =
                    uploaded(host, fence, digest, claimed.submission.keep_changes, &admitted).await?;
                let changes =
                    listing.map(|it| changes_out(host, fence, it, &messages, &admitted)).transpose()?;
                (Some(messages), changes)
            }
            None => (None, None),
        };
        let held = secrets::of_run(state, &task.secrets)?;
        let way_out = egress::way_out(admitted.policy(), state, &held.kept_outside())?;
        let (egress, credentials) = match way_out {
            Some(way) => {
                (place.authorities, place.variables) = (way.authorities, way.variables);
                (Some(way.begin), way.credentials)
            }
            None => (None, Vec::new()),
        };
        let outputs = outputs(host, fence, &task.outputs, &admitted)?;
        // The log is the last attempt's: what an earlier one wrote ended with it.
        let _ = Logs::new(state).by_run().remove(fence.run);
        let tap = logs::writer(fence.run, &host.directories)?;
        if host.upstream.is_some() {
            let noted = Handover::of(state).note(&proof(host, fence));
            let what = "what waits for the server below";
            noted.map_err(|source| AppError::Use { what, path: state.clone(), source })?;
        }
        let sinks = Sinks { tap, ..Sinks::nowhere() };
        Ok(Self {
            task,
            admitted,
            image,
            place,
            messages,
            secrets: held.and(credentials),
            egress,
            outputs,
            changes,
            sinks,
        })
    }
}

/// Checks what a client sent before any of it is sent on; lists it where its changes are to be kept.
async fn uploaded(
    host: &Host,
    fence: Fence,
    digest: &str,
    keep_changes: bool,
    admitted: &Admitted,
) -> Result<(Messages, Option<Listing>), Unstarted> {
    let fetched = match &host.upstream {
        Some(upstream) => Some(fetch::workspace(host, &**upstream, &proof(host, fence), digest).await?),
        None => None,
    };
    let (state, digest) = (host.directories.state.clone(), digest.to_owned());
    let limits = Limits::from(&admitted.policy().filesystem);
    let checked = tokio::task::spawn_blocking(move || {
        let mut listing = keep_changes.then(Listing::default);
        let messages = match fetched {
            Some(file) => upload::open_file(file, &state, limits, listing.as_mut())?,
            None => upload::open(&state, &digest, limits, listing.as_mut())?,
        };
        Ok::<_, upload::UploadError>((messages, listing))
    });
    match checked.await {
        Ok(opened) => Ok(opened.map_err(AppError::from)?),
        Err(error) => Err(AppError::Read {
            what: "the uploaded workspace below",
            path: host.directories.state.clone(),
            source: std::io::Error::other(error),
        }
        .into()),
    }
}

/// That a run is this host's.
fn proof(host: &Host, fence: Fence) -> Proof {
    Proof { fence, owner_lock: host.worker.owner.lock.clone() }
}

/// What keeps the changes of a workspace that a client sent. Where its directory is, only the client knows.
fn changes_out(
    host: &Host,
    fence: Fence,
    mut listing: Listing,
    messages: &Messages,
    admitted: &Admitted,
) -> Result<ChangesOut, AppError> {
    let kept = Kept::new(&host.directories.state);
    // What an earlier attempt changed went with it.
    let _ = kept.by_run().remove(fence.run);
    let file = messages.file.try_clone().map_err(|source| AppError::Use {
        what: "the uploaded workspaces below",
        path: host.directories.state.clone(),
        source,
    })?;
    let base = std::mem::take(&mut listing.base);
    let start = Start {
        root: Root { path: PathBuf::new(), device: 0, inode: 0 },
        originals: Originals::Sent(Box::new(listing), file),
        left_out: LeftOut::default(),
        limits: OutputLimits::from(&admitted.policy().outputs),
        kept,
        run: fence.run,
    };
    Ok(ChangesOut { start, base, laid: None })
}

/// Opens where outputs go. Each attempt has a directory of its own: a later one finds nothing of an earlier one's.
fn outputs(
    host: &Host,
    fence: Fence,
    wanted: &[OutputRequest],
    admitted: &Admitted,
) -> Result<Option<Extractor>, AppError> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let artifacts = Artifacts::new(&host.directories.state);
    let path = artifacts.begin(fence.run, fence.attempt).map_err(|source| AppError::Use {
        what: "the artifacts below",
        path: artifacts.by_run().place().to_owned(),
        source,
    })?;
    let destination = Destination::Named(path);
    let patterns: Vec<String> = wanted.iter().map(|it| it.pattern.clone()).collect();
    let limits = OutputLimits::from(&admitted.policy().outputs);
    Ok(Some(Extractor::new(&destination, Wanted::parse(&patterns, WORKSPACE)?, limits)?))
}
