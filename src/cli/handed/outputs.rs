//! What a server's run puts out, brought to where a run of this process would have put it and told of in the same words.
//! What the server sends is held to what was asked for, to this user's own limits, and to the record.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read};

use aegis_init::wire::OutDone;
use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use crate::api::wire::attach::{EndJson, SaidJson};
use crate::app::upload::Package;
use crate::app::{AppError, RunOrder, run};
use crate::cli::client::{Client, runs};
use crate::cli::failure::Failure;
use crate::executor::{Control, control};
use crate::record::Dropped;
use crate::report::json::{ArtifactJson, ArtifactsJson, DroppedJson};
use crate::report::told;
use crate::sandbox::artifacts::parcel::{self, ParcelError};
use crate::sandbox::container_spec::WORKSPACE;
use crate::sandbox::outputs::{Collected, DROPS_NAMED_MAX, Extractor, OutputLimits, Wanted};
use crate::task::escape::{escape, unescape};
use crate::task::{RunId, causes};

/// Pieces that wait to be written.
const PIECES_MAX: usize = 8;

/// Where a run's outputs go, and what of them is taken.
pub struct Outputs {
    wanted: Wanted,
    limits: OutputLimits,
}

impl Outputs {
    /// Those of a task; `None` where it declares none. What cannot be written is known here, before anything runs.
    pub fn of(order: &RunOrder, package: &Package) -> Result<Option<Self>, Failure> {
        let patterns: Vec<String> = package.task.outputs.iter().map(|it| it.pattern.clone()).collect();
        if patterns.is_empty() {
            return Ok(None);
        }
        let wanted = Wanted::parse(&patterns, WORKSPACE).map_err(AppError::from)?;
        let outputs = Self { wanted, limits: package.outputs };
        // The server makes the run's id: one that nobody has stands in for it.
        drop(outputs.open(order, RunId::generate())?);
        Ok(Some(outputs))
    }

    fn open(&self, order: &RunOrder, run: RunId) -> Result<Extractor, AppError> {
        Ok(Extractor::new(&run::destination(order, run)?, self.wanted.clone(), self.limits)?)
    }

    /// Fetches what came out, and makes `end` tell where it is and what of it did not arrive.
    pub async fn bring(
        self,
        client: &Client,
        order: &RunOrder,
        wished: &mut mpsc::Receiver<Control>,
        end: &mut EndJson,
    ) {
        let id = end.run.id.clone();
        let Some(artifacts) = &mut end.run.artifacts else { return };
        // The server's own directory is no place of the caller's; without one nothing came out.
        if artifacts.directory.take().is_none() {
            return;
        }
        let (collected, failed) = match self.fetched(client, order, &id, wished).await {
            Ok((collected, failed)) => (collected, failed),
            Err(failure) => (Collected::default(), Some(failure.message)),
        };
        let (lost, count) = reconciled(artifacts, &collected, failed);
        let said = told::left_out(&lost, count, &end.run.short_id);
        end.told.extend(said.into_iter().map(|text| SaidJson { is_hint: false, text }));
        if let Some(directory) = &collected.directory {
            let text = told::outputs_are_in(directory);
            end.told.push(SaidJson { is_hint: false, text });
        }
    }

    async fn fetched(
        self,
        client: &Client,
        order: &RunOrder,
        id: &str,
        wished: &mut mpsc::Receiver<Control>,
    ) -> Result<(Collected, Option<String>), Failure> {
        let run = runs::told(id)?;
        let mut extractor = self.open(order, run)?;
        let mut answer = tokio::select! {
            answer = client.archive(id, "/outputs") => answer?,
            by = control::cancelled(wished) => return Err(Failure::new(format!("cancelled ({by})"))),
        };
        let (pieces, arriving) = mpsc::channel(PIECES_MAX);
        // Files are written where they may block, and read from here.
        let taking = tokio::task::spawn_blocking(move || {
            let taken = parcel::unpack(Arriving { pieces: arriving, piece: Bytes::new() }, &mut extractor);
            (extractor.finish(taken.is_ok().then(OutDone::default)), taken)
        });
        let feeding = async move {
            loop {
                let piece = tokio::select! {
                    piece = answer.next() => piece.map_err(io::Error::other),
                    by = control::cancelled(wished) => {
                        Err(io::Error::new(io::ErrorKind::Interrupted, format!("cancelled ({by})")))
                    }
                };
                let Some(piece) = piece.transpose() else { break };
                let is_last = piece.is_err();
                if pieces.send(piece).await.is_err() || is_last {
                    break;
                }
            }
        };
        let ((), taken) = tokio::join!(feeding, taking);
        let (collected, taken) = taken.map_err(|it| Failure::of(&it))?;
        Ok((collected, taken.err().map(|it: ParcelError| causes::told(&it))))
    }
}

/// Makes the record's list that of what arrived; gives what did not, the first of it by name, and how much that is.
fn reconciled(
    artifacts: &mut ArtifactsJson,
    collected: &Collected,
    failed: Option<String>,
) -> (Vec<Dropped>, u64) {
    let arrived: BTreeMap<String, ArtifactJson> = collected
        .artifacts
        .iter()
        .map(|it| {
            let path = escape(&it.path);
            let mode = format!("{:04o}", it.mode);
            (path.clone(), ArtifactJson { path, bytes: it.bytes, sha256: it.sha256.clone(), mode })
        })
        .collect();
    let mut lost: Vec<Dropped> = collected
        .dropped
        .iter()
        .map(|it| Dropped { path: it.path.clone(), reason: it.why.to_string() })
        .collect();
    // Of what the extractor left out it names the first ones: who is not named may have been left out like them.
    let told: HashSet<String> = lost.iter().map(|it| escape(&it.path)).collect();
    let whole = failed.is_none() && collected.dropped_count == collected.dropped.len() as u64;
    let mut unnamed = collected.dropped_count.saturating_sub(collected.dropped.len() as u64);
    lost.extend(failed.map(|reason| Dropped { path: b".".to_vec(), reason }));
    // A list that was too long to be told is made of what came.
    if artifacts.files.is_empty() {
        artifacts.files = arrived.into_values().collect();
    } else {
        artifacts.files.retain(|it| {
            let same = arrived.get(&it.path).is_some_and(|got| got.sha256 == it.sha256);
            if !same && whole && !told.contains(&it.path) {
                if lost.len() < DROPS_NAMED_MAX {
                    let path = unescape(&it.path).unwrap_or_default();
                    lost.push(Dropped { path, reason: "what came is not what the run left".to_owned() });
                } else {
                    unnamed += 1;
                }
            }
            same
        });
    }
    artifacts
        .dropped
        .extend(lost.iter().map(|it| DroppedJson { path: escape(&it.path), reason: it.reason.clone() }));
    let count = unnamed.saturating_add(lost.len() as u64);
    artifacts.dropped_count = artifacts.dropped_count.saturating_add(count);
    artifacts.directory = collected.directory.as_ref().map(|it| escape(it.as_os_str().as_encoded_bytes()));
    (lost, count)
}

/// Pieces as they arrive, for who reads and blocks.
struct Arriving {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Arriving {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = into.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}
