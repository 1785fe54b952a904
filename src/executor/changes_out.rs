//! What a task changed in its workspace, on its way out of a sandbox whose command has ended.

use std::time::Duration;

use aegis_init::path_key::PathKey;
use aegis_init::wire::{Compare, Entry, EntryKind, Fetch, Reply, Request};
use rustix::rand::GetRandomFlags;
use serde_bytes::ByteBuf;

use crate::executor::exposure::Scanner;
use crate::executor::starting::Standing;
use crate::executor::unreleased::told;
use crate::record::{ChangeCounts, Exposure, Kept};
use crate::sandbox::changes::ChangeSet;
use crate::sandbox::changes::gather::{Gatherer, LISTED_MAX, Start, counts};
use crate::sandbox::workspace::Base;

/// Time that finding and keeping the changes may take.
const CHANGES_TIME_MAX: Duration = Duration::from_secs(120);
/// Milliseconds of it that init may take for one answer.
const STEP_MS_MAX: u64 = 60_000;

/// Where the changes of an attempt go.
#[derive(Debug)]
pub struct ChangesOut {
    /// What keeps them.
    pub start: Start,
    /// What the task was given.
    pub base: Base,
}

/// Compares the workspace with what was given, and keeps what differs. What lay below it has no change time after
/// `settled_ns`. What holds a secret is kept too, on this host, and told: `aegis apply` is the caller's own step.
pub(super) async fn changes_out(
    out: ChangesOut,
    settled_ns: Option<i64>,
    standing: &mut Standing,
    mut scanner: Option<Scanner>,
) -> (ChangeCounts, Vec<Exposure>) {
    let counts = kept_changes(out, settled_ns, standing, &mut scanner).await;
    end_file(&mut scanner);
    (counts, scanner.map(Scanner::finish).unwrap_or_default())
}

async fn kept_changes(
    out: ChangesOut,
    settled_ns: Option<i64>,
    standing: &mut Standing,
    scanner: &mut Option<Scanner>,
) -> ChangeCounts {
    let mut key = [0; 16];
    if let Err(error) = rustix::rand::getrandom(&mut key, GetRandomFlags::empty()) {
        return ChangeCounts { failure: Some(told(&error)), ..ChangeCounts::default() };
    }
    let key = PathKey(key);
    let compare = Compare {
        key,
        settled_ns,
        entries_max: LISTED_MAX,
        depth_max: u32::try_from(out.start.limits.depth).unwrap_or(u32::MAX),
        timeout_ms: STEP_MS_MAX,
    };
    let mut gatherer = match Gatherer::new(out.start, out.base, key) {
        Ok(gatherer) => gatherer,
        Err(error) => return ChangeCounts { failure: Some(told(&error)), ..ChangeCounts::default() },
    };
    let gathered =
        tokio::time::timeout(CHANGES_TIME_MAX, gather(standing, &mut gatherer, compare, scanner)).await;
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

async fn gather(
    standing: &mut Standing,
    gatherer: &mut Gatherer,
    compare: Compare,
    scanner: &mut Option<Scanner>,
) -> Result<(), String> {
    standing.sender.send(&Request::Compare(compare), &[]).await.map_err(|it| told(&it))?;
    loop {
        match receive(standing).await? {
            Reply::Out(entries) => gatherer.listed(entries).map_err(|it| told(&it))?,
            Reply::Met(hashes) => gatherer.met(&hashes).map_err(|it| told(&it))?,
            Reply::Compared { done, complete } => {
                gatherer.compared(&done, complete);
                break;
            }
            other => ignore_ends(&other)?,
        }
    }
    loop {
        let wanted = gatherer.wanted();
        if wanted.is_empty() {
            return Ok(());
        }
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
                    gatherer.fetched().map_err(|it| told(&it))?;
                    break;
                }
                other => ignore_ends(&other)?,
            }
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
