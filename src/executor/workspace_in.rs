//! The workspace on its way into a proven sandbox.

use std::time::Duration;

use aegis_init::wire::{Reply, Request};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::executor::starting::Standing;
use crate::executor::unreleased::{Unreleased, infrastructure, io_failed, unexpected};
use crate::sandbox::channel::ChannelError;
use crate::sandbox::workspace::{
    self,
    snapshot::{Changes, Messages, Replay},
};
use crate::task::causes::told;
use crate::task::escape::escape;

/// Time that writing the workspace inside may take after its last byte was sent.
const WORKSPACE_TIME_MAX: Duration = Duration::from_secs(120);
/// Messages of workspace content that wait for the sandbox, a chunk each at the most: what is read while the engine makes
/// it need not be read afterwards.
const CONTENT_QUEUE_MAX: usize = 384;

/// Content that is being read. Dropped, the reading ends.
#[derive(Debug)]
pub(super) struct Content {
    /// Goes first, where there is any.
    messages: oneshot::Receiver<Messages>,
    queue: mpsc::Receiver<Request>,
    reader: Option<JoinHandle<Result<workspace::Sent, workspace::WorkspaceError>>>,
}

/// Content that lies there whole, its end included.
pub(super) fn uploaded(whole: Messages) -> Content {
    let (_, queue) = mpsc::channel(1);
    let (sender, messages) = oneshot::channel();
    let _ = sender.send(whole);
    Content { messages, queue, reader: None }
}

/// What of a workspace is sent.
#[derive(Debug)]
pub enum Feed {
    /// All of it.
    Whole,
    /// What a snapshot below it lacks.
    Changes(Changes),
    /// Messages of an earlier run, if there are any, and what they lack.
    Replay(Replay),
}

/// Begins to read the workspace, or what changed of it. Nothing is sent yet.
pub(super) fn read(plan: workspace::Plan, feed: Feed) -> Content {
    let (content, queue) = mpsc::channel::<Request>(CONTENT_QUEUE_MAX);
    let (kept, messages) = oneshot::channel();
    let reader = tokio::task::spawn_blocking(move || {
        let (first, changes) = match feed {
            Feed::Whole => (None, None),
            Feed::Changes(changes) => (None, Some(changes)),
            Feed::Replay(replay) => replay.messages(&plan)?.unzip(),
        };
        // Told before anything is read: who sends waits for it, and the queue is bounded.
        match first {
            // Nobody takes them where the attempt ended meanwhile.
            Some(messages) => drop(kept.send(messages)),
            None => drop(kept),
        }
        let mut sink = |request| content.blocking_send(request).map_err(|_| workspace::Stopped);
        match &changes {
            Some(changes) => workspace::send_changes(&plan, changes, &mut sink),
            None => workspace::send(&plan, &mut sink),
        }
    });
    Content { messages, queue, reader: Some(reader) }
}

/// Sends what was and is read into a proven sandbox. Gives what was sent.
pub(super) async fn send_workspace(
    content: Content,
    standing: &mut Standing,
) -> Result<workspace::Base, Unreleased> {
    let Content { messages, queue: mut content, reader } = content;
    let mut failed = None;
    if let Ok(Messages { file, bytes }) = messages.await {
        standing.sender.send_file(&file, bytes).await?;
    }
    while let Some(request) = content.recv().await {
        if let Err(error) = standing.sender.send(&request, &[]).await {
            failed = Some(error);
            break;
        }
    }
    drop(content);
    let sent = match reader {
        Some(reader) => reader.await.map_err(|it| io_failed(&std::io::Error::other(it)))?,
        None => Ok(workspace::Sent::default()),
    };
    if let Some(error) = failed {
        return Err(error.into());
    }
    let sent = sent.map_err(|error| infrastructure(told(&error)))?;
    let received = tokio::time::timeout(WORKSPACE_TIME_MAX, standing.receiver.receive()).await;
    let received = received.map_err(|_| ChannelError::NobodyCame { waited: WORKSPACE_TIME_MAX })??;
    match received.message {
        Reply::PutDone { failed: None, .. } => Ok(sent.base),
        Reply::PutDone { failed: Some((path, errno)), .. } => Err(infrastructure(format!(
            "the workspace could not be written inside the sandbox: `{}`: {}",
            escape(&path),
            std::io::Error::from_raw_os_error(errno)
        ))),
        _ => Err(unexpected().into()),
    }
}
