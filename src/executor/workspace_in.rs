//! The workspace on its way into a proven sandbox.

use std::time::Duration;

use aegis_init::wire::{Reply, Request};
use tokio::sync::mpsc;

use crate::executor::starting::Standing;
use crate::executor::unreleased::{Unreleased, infrastructure, io_failed, told, unexpected};
use crate::sandbox::channel::ChannelError;
use crate::sandbox::workspace::{self, snapshot::Changes};
use crate::task::escape::escape;

/// Time that writing the workspace inside may take after its last byte was sent.
const WORKSPACE_TIME_MAX: Duration = Duration::from_secs(120);
/// Messages of workspace content that wait for init.
const CONTENT_QUEUE_MAX: usize = 8;

/// Copies the workspace in, or what changed of it: a thread reads files, this task sends them.
pub(super) async fn send_workspace(
    plan: workspace::Plan,
    changes: Option<Changes>,
    standing: &mut Standing,
) -> Result<(), Unreleased> {
    let (queue, mut content) = mpsc::channel::<Request>(CONTENT_QUEUE_MAX);
    let reader = tokio::task::spawn_blocking(move || {
        let mut sink = |request| queue.blocking_send(request).map_err(|_| workspace::Stopped);
        match &changes {
            Some(changes) => workspace::send_changes(&plan, changes, &mut sink),
            None => workspace::send(&plan, &mut sink),
        }
    });
    let mut failed = None;
    while let Some(request) = content.recv().await {
        if let Err(error) = standing.sender.send(&request, &[]).await {
            failed = Some(error);
            break;
        }
    }
    drop(content);
    let sent = match reader.await {
        Ok(sent) => sent,
        Err(error) => return Err(io_failed(&std::io::Error::other(error))),
    };
    if let Some(error) = failed {
        return Err(error.into());
    }
    if let Err(error) = sent {
        return Err(infrastructure(told(&error)));
    }
    let received = tokio::time::timeout(WORKSPACE_TIME_MAX, standing.receiver.receive()).await;
    let received = received.map_err(|_| ChannelError::NobodyCame { waited: WORKSPACE_TIME_MAX })??;
    match received.message {
        Reply::PutDone { failed: None, .. } => Ok(()),
        Reply::PutDone { failed: Some((path, errno)), .. } => Err(infrastructure(format!(
            "the workspace could not be written inside the sandbox: `{}`: {}",
            escape(&path),
            std::io::Error::from_raw_os_error(errno)
        ))),
        _ => Err(unexpected().into()),
    }
}
