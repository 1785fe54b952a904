//! This worker among the others: it says that it lives, and hears whether it is to take anything.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::serve::Host;
use crate::queue::fleet::{BEAT, Standing};

/// Time that saying goodbye may take.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(5);

/// Says that this worker lives until it is told to stop; then that it is gone.
pub async fn keep(host: &Host, stop: &CancellationToken) {
    let mut standing = Standing::Taking;
    loop {
        let beat = tokio::select! {
            beat = host.fleet.beat(&host.worker) => beat,
            () = stop.cancelled() => break,
        };
        match beat {
            Ok(now) => {
                host.books.answered();
                if now != standing {
                    tell(now);
                }
                standing = now;
            }
            Err(error) => host.books.failed(&error),
        }
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {}
            () = stop.cancelled() => break,
        }
    }
    // Who is not heard of is gone, too, half a minute later.
    let left = tokio::time::timeout(LEAVE_TIME_MAX, host.fleet.leave(&host.worker)).await;
    if let Ok(Err(error)) = left {
        host.books.failed(&error);
    }
}

fn tell(standing: Standing) {
    match standing {
        Standing::Taking => tracing::info!("this worker takes runs again"),
        Standing::Draining => tracing::info!("an operator drains this worker: it takes nothing more"),
    }
}
