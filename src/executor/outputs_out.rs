//! Declared outputs on their way out of a sandbox whose command has ended.

use std::time::Duration;

use aegis_init::wire::{Collect, OutDone, Reply, Request};
use serde_bytes::ByteBuf;

use crate::executor::starting::Standing;
use crate::executor::unreleased::told;
use crate::policy::Outputs;
use crate::record::{Artifact, Dropped, End};
use crate::sandbox::outputs::{Collected, Extractor};
use crate::task::TaskSpec;

/// Time that the collection of outputs may take.
pub(super) const COLLECT_TIME_MAX: Duration = Duration::from_secs(300);

/// Asks for what was declared and feeds it to the extractor.
pub(super) async fn collect(
    task: &TaskSpec,
    limits: &Outputs,
    standing: &mut Standing,
    extractor: &mut Extractor,
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
            Reply::Out(entries) => extractor.entries(entries).map_err(|it| told(&it))?,
            Reply::OutChunk(bytes) => extractor.chunk(&bytes).map_err(|it| told(&it))?,
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
            | Reply::Bye { .. } => return Err("init sent what nobody asked for".to_owned()),
        }
    }
}

/// What came out, as the record keeps it.
pub(super) fn keep_collected(collected: Collected, failed: Option<String>, task: &TaskSpec, end: &mut End) {
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
