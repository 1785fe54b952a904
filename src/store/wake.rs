//! Who waits for something to claim, and how it is told: in this process by a notice, from others by the database's own
//! (PostgreSQL) or by the next slow look (SQLite).

use std::sync::Mutex;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The channel of the notices between processes.
pub(crate) const CHANNEL: &str = "aegis_queue";
/// The slow look: the longest that a wait lasts.
pub(crate) const POLL: Duration = Duration::from_secs(1);
/// How long a listener waits before it connects anew.
const RECONNECT: Duration = Duration::from_secs(1);

/// The notice of this process.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    notify: Notify,
}

/// Hears the notices of other processes, from the first wait on.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    task: Mutex<Option<JoinHandle<()>>>,
    closing: CancellationToken,
}

impl Wake {
    /// Wakes everybody who waits.
    pub(crate) fn all(&self) {
        self.notify.notify_waiters();
    }

    /// Counts from now on, polled or not.
    pub(crate) fn notified(&self) -> Notified<'_> {
        self.notify.notified()
    }
}

impl Listener {
    /// Begins to listen, once.
    pub(crate) fn begin(&self, pool: &PgPool, wake: &std::sync::Arc<Wake>) {
        let mut task = self.task.lock().unwrap_or_else(|it| it.into_inner());
        if task.is_none() && !self.closing.is_cancelled() {
            let (pool, wake, closing) = (pool.clone(), std::sync::Arc::clone(wake), self.closing.clone());
            *task = Some(tokio::spawn(async move {
                tokio::select! {
                    () = closing.cancelled() => {}
                    () = listen(&pool, &wake) => {}
                }
            }));
        }
    }

    pub(crate) async fn close(&self) {
        self.closing.cancel();
        let task = self.task.lock().unwrap_or_else(|it| it.into_inner()).take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// Goes on after every loss of the connection; what was missed meanwhile, the slow look finds.
async fn listen(pool: &PgPool, wake: &Wake) {
    loop {
        if let Err(err) = hear(pool, wake).await {
            tracing::debug!(error = %err, "notices of the database stopped; listening again");
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn hear(pool: &PgPool, wake: &Wake) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.ignore_pool_close_event(false);
    listener.listen(CHANNEL).await?;
    loop {
        listener.recv().await?;
        wake.all();
    }
}
