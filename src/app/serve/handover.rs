//! What runs of a worker host left behind goes to the server: their logs while they are written, their outputs when they
//! have ended. A server that is away delays no run: everything stays here until it was taken, over any restart.
//!
//! ```text
//! <state>/handover/<run>.<attempt>.<epoch>.<owner's lock>    an attempt that has something to hand over
//! ```

use std::collections::{BTreeSet, HashMap};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::app::serve::Host;
use crate::app::serve::held::Held;
use crate::app::serve::upstream::{Stands, Unsent, Upstream};
use crate::fault::{self, Point};
use crate::queue::fleet::Proof;
use crate::record::{Artifact, Fence, Found, Record, Run};
use crate::sandbox::artifacts::Artifacts;
use crate::store::Logs;
use crate::store::log::{Piece, Position};
use crate::task::causes::told;
use crate::task::run_id::RunSelector;
use crate::task::{RunId, RunState};

/// Where the list of them lies, below the state directory.
const DIRECTORY: &str = "handover";
/// How often everything is looked at.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause while the server is away.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Time for a last round when this host stops.
const LAST_TIME_MAX: Duration = Duration::from_secs(30);
/// Attempts that are handed over at once, and in one round.
const AT_ONCE: usize = 4;
const ROUND_MAX: usize = 10_000;
/// Bytes of a log that are handed over together.
const PIECE_BYTES: usize = 1024 * 1024;
/// Pieces of one log in one round.
const PIECES_MAX: usize = 128;

/// Attempts of this host that have something to hand over.
#[derive(Debug, Clone)]
pub struct Handover {
    place: PathBuf,
}

/// Where it is taken from.
struct Source<'a> {
    state: &'a Path,
    record: &'a dyn Record,
    held: &'a Held,
}

/// How one attempt stands.
enum Round {
    /// The server has everything.
    Over,
    /// There is, or will be, more.
    GoesOn,
}

/// How far an attempt is, as far as this process knows.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// Entries of its log that the server has.
    entries: u64,
    /// Why the server never takes the rest of its log, where it said so.
    log_refused: Option<String>,
}

/// By the name of the attempt.
type Known = HashMap<String, Progress>;

impl Handover {
    /// Those of a state directory.
    pub fn of(state: &Path) -> Self {
        Self { place: state.join(DIRECTORY) }
    }

    /// Notes an attempt whose log has just begun.
    pub fn note(&self, proof: &Proof) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.place)?;
        File::create(self.place.join(name(proof))).map(|_| ())
    }

    fn forget(&self, proof: &Proof) {
        let _ = std::fs::remove_file(self.place.join(name(proof)));
    }

    /// Every run of which something waits.
    pub fn runs(&self) -> io::Result<BTreeSet<RunId>> {
        Ok(self.noted(usize::MAX)?.into_iter().map(|it| it.fence.run).collect())
    }

    /// What waits, the oldest first.
    fn waiting(&self) -> io::Result<Vec<Proof>> {
        let mut found = self.noted(ROUND_MAX)?;
        found.sort_by_key(|it| it.fence.run);
        Ok(found)
    }

    fn noted(&self, count_max: usize) -> io::Result<Vec<Proof>> {
        let entries = match std::fs::read_dir(&self.place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries.take(count_max) {
            found.extend(entry?.file_name().to_str().and_then(proof_of));
        }
        Ok(found)
    }
}

fn name(proof: &Proof) -> String {
    let Fence { run, attempt, epoch } = proof.fence;
    format!("{run}.{attempt}.{epoch}.{}", proof.owner_lock)
}

fn proof_of(name: &str) -> Option<Proof> {
    let mut parts = name.split('.');
    let run = parts.next()?.parse().ok()?;
    let (attempt, epoch) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let owner_lock = parts.next()?.to_owned();
    parts.next().is_none().then_some(Proof { fence: Fence { run, attempt, epoch }, owner_lock })
}

/// Hands over until it is told to stop; then once more what is there.
pub async fn keep(host: &Host, upstream: &Arc<dyn Upstream>, stop: &CancellationToken) {
    let source = Source { state: &host.directories.state, record: &*host.record, held: &host.held };
    hand_on(&source, &**upstream, stop).await;
}

async fn hand_on(source: &Source<'_>, upstream: &dyn Upstream, stop: &CancellationToken) {
    let mut known = Known::new();
    let (mut pause, mut waits) = (PAUSE, false);
    while !stop.is_cancelled() {
        let done = tokio::select! {
            done = round(source, upstream, &mut known) => done,
            () = stop.cancelled() => break,
        };
        match &done {
            Ok(()) if waits => tracing::info!("the server takes logs and outputs again"),
            Err(error) if !waits => tracing::warn!("logs and outputs wait here: {}", told(error)),
            Ok(()) | Err(_) => {}
        }
        (pause, waits) = (pause_after(&done, pause), done.is_err());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
    let last = tokio::time::timeout(LAST_TIME_MAX, round(source, upstream, &mut known)).await;
    if !matches!(last, Ok(Ok(()))) {
        tracing::warn!(
            "logs and outputs are left here: the next worker of this state directory hands them over"
        );
    }
}

/// A server that takes nothing is asked less and less often. What cannot be read here is no reason to.
fn pause_after(done: &Result<(), Unsent>, pause: Duration) -> Duration {
    match done {
        Err(Unsent::Away { .. } | Unsent::NotNow { .. }) => (pause * 2).min(PAUSE_MAX),
        Ok(()) | Err(Unsent::NotOurs | Unsent::Refused { .. } | Unsent::Here(_)) => PAUSE,
    }
}

/// One look at each that waits, until the server cannot be had. Fails with what was in the way.
async fn round(source: &Source<'_>, upstream: &dyn Upstream, known: &mut Known) -> Result<(), Unsent> {
    let handover = Handover::of(source.state);
    let waiting = handover.waiting().map_err(Unsent::Here)?;
    let mut stood = Vec::with_capacity(waiting.len());
    for proof in waiting {
        let mut progress = known.get(&name(&proof)).cloned().unwrap_or_default();
        stood.push(async move {
            let done = match hand_over(source, upstream, &proof, &mut progress).await {
                Err(Unsent::NotOurs) => not_ours(source, &proof).await,
                done => done,
            };
            (proof, progress, done)
        });
    }
    let mut rounds = futures_util::stream::iter(stood).buffer_unordered(AT_ONCE);
    let mut failure = None;
    while let Some((proof, progress, done)) = rounds.next().await {
        known.insert(name(&proof), progress);
        match done {
            Ok(Round::GoesOn) => {}
            Ok(Round::Over) | Err(Unsent::NotOurs) => {
                known.remove(&name(&proof));
                finish(source, &handover, &proof);
            }
            Err(Unsent::Refused { reason }) => {
                tracing::error!(run.id = %proof.fence.run, "the server does not take what run `{}` left, which stays here: {reason}", proof.fence.run);
                known.remove(&name(&proof));
                handover.forget(&proof);
            }
            Err(error @ Unsent::Away { .. }) => return Err(error),
            Err(error @ Unsent::NotNow { .. }) => failure = Some(error),
            Err(error @ Unsent::Here(_)) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(()), Err)
}

/// The server has everything, or wants nothing of it: what is here is not needed any more. A later attempt of the run that
/// is here, too, has the log.
fn finish(source: &Source<'_>, handover: &Handover, proof: &Proof) {
    let (state, run) = (source.state, proof.fence.run);
    let _ = std::fs::remove_dir_all(artifacts(state, proof.fence));
    let _ = std::fs::remove_dir(Artifacts::new(state).by_run().of(run));
    handover.forget(proof);
    let is_held = source.held.fences().iter().any(|it| it.run == run);
    let waits = handover.waiting().is_ok_and(|it| it.iter().any(|it| it.fence.run == run));
    if !is_held && !waits {
        let _ = Logs::new(state).by_run().remove(run);
    }
}

fn artifacts(state: &Path, fence: Fence) -> PathBuf {
    Artifacts::new(state).by_run().of(fence.run).join(fence.attempt.to_string())
}

/// The server knows nothing of a run. What is here is deleted only where the records say so, too: the server may be another
/// one, or have others.
async fn not_ours(source: &Source<'_>, proof: &Proof) -> Result<Round, Unsent> {
    if recorded(source, proof).await?.is_none() {
        return Ok(Round::Over);
    }
    Err(Unsent::NotNow {
        reason: "it knows nothing of a run that the records name as this host's".to_owned(),
    })
}

/// The run as it is on record; `None` where it is another's by now. What is another's has a log of another attempt.
async fn recorded(source: &Source<'_>, proof: &Proof) -> Result<Option<Run>, Unsent> {
    match source.record.find(&RunSelector::Id(proof.fence.run)).await {
        Ok(Found::Run(run)) if run.fence == proof.fence => Ok(Some(*run)),
        Ok(Found::Run(_) | Found::Nothing | Found::Ambiguous(_)) => Ok(None),
        Err(error) => Err(Unsent::Away { reason: error.to_string() }),
    }
}

async fn hand_over(
    source: &Source<'_>,
    upstream: &dyn Upstream,
    proof: &Proof,
    progress: &mut Progress,
) -> Result<Round, Unsent> {
    // Looked at before the log: what ends after this look is seen by the next round.
    let is_held = source.held.fences().contains(&proof.fence);
    if progress.log_refused.is_none() {
        match log(source.state, upstream, proof, &mut progress.entries, is_held).await {
            Ok(true) => {}
            Ok(false) => return Ok(Round::GoesOn),
            // The outputs are none the worse for it.
            Err(Unsent::Refused { reason }) => progress.log_refused = Some(format!("log: {reason}")),
            Err(error) => return Err(error),
        }
    }
    if is_held {
        return Ok(Round::GoesOn);
    }
    let Some(run) = recorded(source, proof).await? else {
        // What the server has not is not deleted here without a word.
        return progress
            .log_refused
            .clone()
            .map_or(Ok(Round::Over), |reason| Err(Unsent::Refused { reason }));
    };
    if run.state != RunState::Done {
        return Ok(Round::GoesOn);
    }
    let outputs = run.end.map(|it| it.artifacts).unwrap_or_default();
    let directory = artifacts(source.state, proof.fence);
    let mut refusals = Vec::from_iter(progress.log_refused.clone());
    for (index, artifact) in outputs.iter().enumerate() {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        match output(upstream, proof, index, &directory, artifact).await {
            Ok(()) => {}
            // The others are none the worse for it.
            Err(Unsent::Refused { reason }) => refusals.push(format!("output {index}: {reason}")),
            Err(error) => return Err(error),
        }
    }
    if refusals.is_empty() {
        return Ok(Round::Over);
    }
    Err(Unsent::Refused { reason: refusals.join("; ") })
}

/// Hands over what the log has by now. Gives whether that was all of it.
async fn log(
    state: &Path,
    upstream: &dyn Upstream,
    proof: &Proof,
    at: &mut u64,
    is_held: bool,
) -> Result<bool, Unsent> {
    let mut moved = false;
    for _ in 0..PIECES_MAX {
        let (state, run, after) = (state.to_owned(), proof.fence.run, *at);
        let read = tokio::task::spawn_blocking(move || piece(&state, run, after, is_held)).await;
        let read = read.map_err(io::Error::other).and_then(|it| it).map_err(Unsent::Here)?;
        // What is not here any more was handed over already.
        let Some(piece) = read else { return Ok(!is_held) };
        if piece.entries == 0 {
            return Ok(false);
        }
        let stands = upstream.log(proof, after, &piece.bytes).await?;
        fault::reach(Point::HandedOver);
        *at = stands.at;
        if stands.complete {
            return Ok(true);
        }
        if stands.at != after + piece.entries {
            // An earlier process handed over more than this one knows, or the server lost some.
            if std::mem::replace(&mut moved, true) {
                return Err(Unsent::NotNow { reason: "its copy of a log does not stand still".to_owned() });
            }
        } else if is_held && piece.bytes.len() < PIECE_BYTES {
            return Ok(false);
        }
    }
    Ok(false)
}

/// The next entries of a log; of one that nobody writes any more also what was not listed, and its end. `None` where there
/// is no log.
fn piece(state: &Path, run: RunId, after: u64, is_held: bool) -> io::Result<Option<Piece>> {
    let Some(reader) = Logs::new(state).reader(run)? else { return Ok(None) };
    let mut reader = reader.from(Position::after(after))?;
    let piece = Piece::of(&mut reader, PIECE_BYTES)?;
    if piece.entries > 0 || is_held {
        return Ok(Some(piece));
    }
    Piece::rest_of(&mut reader, PIECE_BYTES).map(Some)
}

async fn output(
    upstream: &dyn Upstream,
    proof: &Proof,
    index: u32,
    directory: &Path,
    artifact: &Artifact,
) -> Result<(), Unsent> {
    let stands = upstream.output_stands(proof, index).await?;
    if stands.complete {
        return Ok(());
    }
    let path = directory.join(std::ffi::OsStr::from_bytes(&artifact.path));
    let mut taken = rest(upstream, proof, index, &path, artifact.bytes, stands.at).await;
    if stands.at > 0 && matches!(taken, Err(Unsent::Refused { .. })) {
        // What an earlier try had left there may be what was wrong: the server dropped it.
        taken = rest(upstream, proof, index, &path, artifact.bytes, 0).await;
    }
    if taken?.complete { Ok(()) } else { Err(Unsent::NotNow { reason: "it took a part only".to_owned() }) }
}

/// Hands in the rest of an output, from `at` on.
async fn rest(
    upstream: &dyn Upstream,
    proof: &Proof,
    index: u32,
    path: &Path,
    bytes: u64,
    at: u64,
) -> Result<Stands, Unsent> {
    match File::open(path) {
        Ok(file) => upstream.output(proof, index, file, at, bytes.saturating_sub(at)).await,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Unsent::Refused { reason: format!("`{}` is not here any more", path.display()) })
        }
        Err(error) => Err(Unsent::Here(error)),
    }
}

#[cfg(test)]
mod tests;
