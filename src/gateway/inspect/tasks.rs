//! What runs beside one client connection, and ends with it.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns, and joins at the end.
#[derive(Debug, Clone, Default)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    ended: CancellationToken,
}

impl Tasks {
    /// Runs something until it is done or the connection ends.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, work: F) {
        let ended = self.ended.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Ends everything when it is dropped, also where nobody waits for [`Tasks::end`].
    pub fn ends_with_this(&self) -> tokio_util::sync::DropGuard {
        self.ended.clone().drop_guard()
    }

    /// Waits until everything is done by itself.
    pub async fn finish(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Ends everything and waits until it is gone.
    pub async fn end(&self) {
        self.ended.cancel();
        self.finish().await;
    }
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
{
    fn execute(&self, work: F) {
        self.spawn(async {
            // What it came to is told over its own channel.
            let _ = work.await;
        });
    }
}
