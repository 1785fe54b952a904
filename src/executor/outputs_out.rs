//! Declared outputs on their way out of a sandbox whose command has ended.

use std::time::Duration;

use aegis_init::wire::{Collect, Entry, EntryKind, OutDone, Reply, Request};
use serde_bytes::ByteBuf;

use crate::executor::exposure::{Scanner, Seen};
use crate::executor::starting::Standing;
use crate::policy::{Outputs, SecretOutputs};
use crate::record::{Artifact, Dropped, End, Kept};
use crate::sandbox::outputs::{Collected, Extractor, OutputError};
use crate::task::TaskSpec;
use crate::task::causes::told;

/// Time that the collection of outputs may take.
pub(super) const COLLECT_TIME_MAX: Duration = Duration::from_secs(300);

/// Takes what comes out: looks through it where a secret is known, and gives it on.
pub(super) struct Taker {
    extractor: Extractor,
    scanner: Option<Scanner>,
    kept: Kept,
}

impl Taker {
    pub(super) fn new(extractor: Extractor, scanner: Option<Scanner>, secrets: SecretOutputs) -> Self {
        let kept = match secrets {
            SecretOutputs::Block => Kept::In,
            SecretOutputs::Report => Kept::Out,
        };
        Self { extractor, scanner, kept }
    }

    fn entries(&mut self, entries: Vec<Entry>) -> Result<(), OutputError> {
        if self.scanner.is_none() {
            return self.extractor.entries(entries);
        }
        // One at a time: a file is put in its place when the next entry comes.
        for entry in entries {
            self.end_file();
            if let (Some(scanner), EntryKind::File { data, .. }) = (&mut self.scanner, &entry.kind) {
                scanner.begin(&entry.path, data);
            }
            self.extractor.entries(vec![entry])?;
        }
        Ok(())
    }

    fn chunk(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        if let Some(scanner) = &mut self.scanner {
            scanner.chunk(bytes);
        }
        self.extractor.chunk(bytes)
    }

    fn end_file(&mut self) {
        let seen = self.scanner.as_mut().map(|it| it.end(self.kept));
        if (seen, self.kept) == (Some(Seen::Secret), Kept::In) {
            self.extractor.withhold();
        }
    }

    /// Ends the collection, whether init said so or not, and keeps what came out.
    pub(super) fn finish(
        mut self,
        done: Option<OutDone>,
        failed: Option<String>,
        task: &TaskSpec,
        end: &mut End,
    ) {
        self.end_file();
        if let Some(scanner) = self.scanner {
            end.exposures.extend(scanner.finish());
        }
        keep_collected(self.extractor.finish(done), failed, task, end);
    }
}

/// Asks for what was declared and feeds it to the extractor.
pub(super) async fn collect(
    task: &TaskSpec,
    limits: &Outputs,
    standing: &mut Standing,
    taker: &mut Taker,
) -> Result<OutDone, String> {
    let request = Request::Collect(Collect {
        patterns: task.outputs.iter().map(|it| ByteBuf::from(it.pattern.as_bytes())).collect(),
        entries_max: limits.entries,
        bytes_max: limits.bytes,
        depth_max: u32::try_from(limits.depth).unwrap_or(u32::MAX),
        timeout_ms: COLLECT_TIME_MAX.as_millis() as u64 / 2,
    });
    standing.sender.send(&request, &[]).await.map_err(|it| told(&it))?;
    loop {
        let received = standing.receiver.receive().await.map_err(|it| told(&it))?;
        match received.message {
            Reply::Out(entries) => taker.entries(entries).map_err(|it| told(&it))?,
            Reply::OutChunk(bytes) => taker.chunk(&bytes).map_err(|it| told(&it))?,
            Reply::OutDone(done) => return Ok(done),
            // Further commands are killed by the collection and tell their end.
            Reply::Exited { .. } | Reply::Started { .. } | Reply::StartFailed { .. } => {}
            Reply::Report(_)
            | Reply::PutDone { .. }
            | Reply::FileContent { .. }
            | Reply::FileWritten { .. }
            | Reply::Met(_)
            | Reply::Compared { .. }
            | Reply::Listening { .. }
            | Reply::Dialled { .. }
            | Reply::Begun { .. }
            | Reply::Bye { .. } => return Err("init sent what nobody asked for".to_owned()),
        }
    }
}

/// What came out, as the record keeps it.
fn keep_collected(collected: Collected, failed: Option<String>, task: &TaskSpec, end: &mut End) {
    end.output_dir = collected.directory;
    end.dropped_count = collected.dropped_count;
    end.unmatched = collected
        .unmatched
        .iter()
        .filter_map(|it| task.outputs.get(*it))
        .map(|it| it.pattern.clone())
        .collect();
    end.dropped = collected
        .dropped
        .into_iter()
        .map(|it| Dropped { path: it.path, reason: it.why.to_string() })
        .collect();
    if let Some(reason) = failed {
        end.dropped_count += 1;
        end.dropped.push(Dropped { path: b".".to_vec(), reason });
    }
    for artifact in collected.artifacts {
        let mut sha256 = [0; 32];
        // The extractor writes 64 hexadecimal digits.
        let _ = hex::decode_to_slice(&artifact.sha256, &mut sha256);
        end.artifacts.push(Artifact {
            path: artifact.path,
            bytes: artifact.bytes,
            sha256,
            mode: artifact.mode,
        });
    }
}
