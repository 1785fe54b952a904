//! What a task changed in its workspace, on its way out of a sandbox whose command has ended.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aegis_init::path_key::PathKey;
use aegis_init::wire::{Compare, Entry, EntryKind, Fetch, Reply, Request};
use rustix::rand::GetRandomFlags;
use serde_bytes::ByteBuf;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::executor::exposure::Scanner;
use crate::executor::starting::{Place, Standing};
use crate::executor::unreleased::{Unreleased, infrastructure};
use crate::record::{ChangeCounts, Exposure, Kept};
use crate::sandbox::changes::ChangeSet;
use crate::sandbox::changes::gather::{Gatherer, LISTED_MAX, Layered, Start, counts};
use crate::sandbox::changes::layer::{self, Laid, Met, Walk};
use crate::sandbox::workspace::Base;
use crate::task::causes::told;

/// Time that finding and keeping the changes may take.
const CHANGES_TIME_MAX: Duration = Duration::from_secs(120);
/// Milliseconds of it that init may take for one answer.
const STEP_MS_MAX: u64 = 60_000;
/// What a walk through a layer meets before it is told, and how often that may wait.
const BATCH: usize = 1_000;
const BATCHES_MAX: usize = 16;

/// Where the changes of an attempt go.
#[derive(Debug)]
pub struct ChangesOut {
    /// What keeps them.
    pub start: Start,
    /// What the task was given.
    pub base: Base,
    /// What of it lies in the layer over a snapshot, if there is one.
    pub laid: Option<Vec<Laid>>,
}

impl ChangesOut {
    /// Notes what was given, once all of it is there and nothing runs.
    pub(super) async fn given(
        &mut self,
        base: Base,
        place: &Place,
        standing: &Standing,
    ) -> Result<(), Unreleased> {
        self.base = base;
        let Some((upper, lower)) = layers(place, standing) else { return Ok(()) };
        let (depth_max, deadline) = (self.start.limits.depth, deadline());
        let looked = spawn_blocking(move || layer::given(&upper, &lower, depth_max, deadline));
        let laid = looked.await.map_err(io::Error::other).and_then(|it| it);
        let failed = |it: io::Error| infrastructure(format!("what was given cannot be looked at: {it}"));
        self.laid = Some(laid.map_err(failed)?);
        Ok(())
    }
}

/// Compares the workspace with what was given, and keeps what differs. What holds a secret is kept too, on this host, and
/// told: `aegis apply` is the caller's own step.
pub(super) async fn changes_out(
    out: ChangesOut,
    place: &Place,
    standing: &mut Standing,
    mut scanner: Option<Scanner>,
) -> (ChangeCounts, Vec<Exposure>) {
    let counts = kept_changes(out, place, standing, &mut scanner).await;
    end_file(&mut scanner);
    (counts, scanner.map(Scanner::finish).unwrap_or_default())
}

async fn kept_changes(
    out: ChangesOut,
    place: &Place,
    standing: &mut Standing,
    scanner: &mut Option<Scanner>,
) -> ChangeCounts {
    let mut key = [0; 16];
    if let Err(error) = rustix::rand::getrandom(&mut key, GetRandomFlags::empty()) {
        return ChangeCounts { failure: Some(told(&error)), ..ChangeCounts::default() };
    }
    let key = PathKey(key);
    let ChangesOut { start, base, laid } = out;
    let depth_max = start.limits.depth;
    let mut gatherer = match Gatherer::new(start, base, key) {
        Ok(gatherer) => gatherer,
        Err(error) => return ChangeCounts { failure: Some(told(&error)), ..ChangeCounts::default() },
    };
    let gathered = async {
        match (laid, layers(place, standing)) {
            (Some(laid), Some(layers)) => {
                find_in_layer(standing, &mut gatherer, (laid, layers, depth_max), scanner).await?;
            }
            (Some(_), None) | (None, _) => find_inside(standing, &mut gatherer, key, depth_max).await?,
        }
        contents(standing, &mut gatherer, scanner).await
    };
    let gathered = tokio::time::timeout(CHANGES_TIME_MAX, gathered).await;
    let failure = match gathered {
        Ok(Ok(())) => match gatherer.finish() {
            Ok(set) => return counted(&set),
            Err(error) => told(&error),
        },
        Ok(Err(message)) => {
            gatherer.discard();
            message
        }
        Err(_) => {
            gatherer.discard();
            "it took too long".to_owned()
        }
    };
    ChangeCounts { failure: Some(failure), ..ChangeCounts::default() }
}

/// The layer that is written and the snapshot below it, where there is one.
fn layers(place: &Place, standing: &Standing) -> Option<(PathBuf, PathBuf)> {
    Some((standing.layers.as_ref()?.upper(), place.base.as_ref()?.tree.clone()))
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_millis(STEP_MS_MAX)
}

fn counted(set: &ChangeSet) -> ChangeCounts {
    let (added, modified, deleted) = counts(set);
    ChangeCounts {
        added,
        modified,
        deleted,
        skipped: set.skipped_count,
        left_out: set.left_out,
        complete: set.limits.is_empty(),
        failure: None,
    }
}

fn end_file(scanner: &mut Option<Scanner>) {
    if let Some(scanner) = scanner {
        scanner.end(Kept::Out);
    }
}

fn look_through(scanner: &mut Option<Scanner>, entries: &[Entry]) {
    let Some(scanner) = scanner else { return };
    for entry in entries {
        scanner.end(Kept::Out);
        if let EntryKind::File { data, .. } = &entry.kind {
            scanner.begin(&entry.path, data);
        }
    }
}

/// Finds what changed in the layer over a snapshot.
async fn find_in_layer(
    standing: &mut Standing,
    gatherer: &mut Gatherer,
    (laid, (upper, lower), depth_max): (Vec<Laid>, (PathBuf, PathBuf), u64),
    scanner: &mut Option<Scanner>,
) -> Result<(), String> {
    // Init ends everything that still runs before it fetches anything, and be it nothing.
    fetch(standing, gatherer, Vec::new(), scanner).await?;
    let (batches, mut walked) = mpsc::channel(BATCHES_MAX);
    let deadline = deadline();
    let walking = spawn_blocking(move || {
        let mut walk = Walk::new(&upper, &lower, depth_max, deadline)?;
        loop {
            let batch: Vec<Met> = walk.by_ref().take(BATCH).collect();
            if batch.is_empty() || batches.blocking_send(batch).is_err() {
                return Ok(());
            }
        }
    });
    let mut layered = Layered::new(laid);
    while let Some(batch) = walked.recv().await {
        layered.take(gatherer, batch).map_err(|it| told(&it))?;
    }
    let walked: io::Result<()> = walking.await.map_err(io::Error::other).and_then(|it| it);
    walked.map_err(|it| told(&it))?;
    layered.end(gatherer);
    Ok(())
}

/// Lets init look at everything in the workspace.
async fn find_inside(
    standing: &mut Standing,
    gatherer: &mut Gatherer,
    key: PathKey,
    depth_max: u64,
) -> Result<(), String> {
    let compare = Compare {
        key,
        entries_max: LISTED_MAX,
        depth_max: u32::try_from(depth_max).unwrap_or(u32::MAX),
        timeout_ms: STEP_MS_MAX,
    };
    standing.sender.send(&Request::Compare(compare), &[]).await.map_err(|it| told(&it))?;
    loop {
        match receive(standing).await? {
            Reply::Out(entries) => gatherer.listed(entries).map_err(|it| told(&it))?,
            Reply::Met(hashes) => gatherer.met(&hashes).map_err(|it| told(&it))?,
            Reply::Compared { done, complete } => {
                gatherer.compared(&done, complete);
                return Ok(());
            }
            other => ignore_ends(&other)?,
        }
    }
}

/// Takes the contents of what was found, as long as some are wanted.
async fn contents(
    standing: &mut Standing,
    gatherer: &mut Gatherer,
    scanner: &mut Option<Scanner>,
) -> Result<(), String> {
    loop {
        let wanted = gatherer.wanted();
        if wanted.is_empty() {
            return Ok(());
        }
        fetch(standing, gatherer, wanted, scanner).await?;
    }
}

async fn fetch(
    standing: &mut Standing,
    gatherer: &mut Gatherer,
    wanted: Vec<Vec<u8>>,
    scanner: &mut Option<Scanner>,
) -> Result<(), String> {
    let paths = wanted.into_iter().map(ByteBuf::from).collect();
    let fetch = Fetch { paths, timeout_ms: STEP_MS_MAX };
    standing.sender.send(&Request::Fetch(fetch), &[]).await.map_err(|it| told(&it))?;
    loop {
        match receive(standing).await? {
            Reply::Out(entries) => {
                look_through(scanner, &entries);
                gatherer.content(entries).map_err(|it| told(&it))?;
            }
            Reply::OutChunk(bytes) => {
                if let Some(scanner) = scanner {
                    scanner.chunk(&bytes);
                }
                gatherer.chunk(&bytes).map_err(|it| told(&it))?;
            }
            Reply::OutDone(_) => {
                end_file(scanner);
                return gatherer.fetched().map_err(|it| told(&it));
            }
            other => ignore_ends(&other)?,
        }
    }
}

async fn receive(standing: &mut Standing) -> Result<Reply, String> {
    standing.receiver.receive().await.map(|it| it.message).map_err(|it| told(&it))
}

/// Further commands are killed before the comparison and tell their end.
fn ignore_ends(reply: &Reply) -> Result<(), String> {
    match reply {
        Reply::Exited { .. } | Reply::Started { .. } | Reply::StartFailed { .. } => Ok(()),
        Reply::Report(_)
        | Reply::PutDone { .. }
        | Reply::FileContent { .. }
        | Reply::FileWritten { .. }
        | Reply::Out(_)
        | Reply::OutChunk(_)
        | Reply::OutDone(_)
        | Reply::Met(_)
        | Reply::Compared { .. }
        | Reply::Listening { .. }
        | Reply::Dialled { .. }
        | Reply::Begun { .. }
        | Reply::Bye { .. } => Err("init sent what nobody asked for".to_owned()),
    }
}
