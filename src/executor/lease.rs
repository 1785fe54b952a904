//! An owner's right to a run, as far as it is certain. A queue leases a run for a time; the sandbox is told how much of it
//! is left, and ends when it runs out, whether or not its owner can still say so.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

/// A moment of the clock that goes on while the machine sleeps, which init counts leases by, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// Now.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        // The clock counts from the machine's start: neither part is ever negative.
        Self(Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32))
    }

    /// This much later.
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }

    /// How much is left until then; zero if it is over.
    pub fn remaining(self) -> Duration {
        self.0.saturating_sub(Self::now().0)
    }
}

/// How long a run is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Until(Moment),
    Over,
}

/// The side that renews. Dropped, the lease is over.
#[derive(Debug)]
pub struct Keeper {
    held: watch::Sender<Held>,
}

/// The side that lives by it.
#[derive(Debug, Clone)]
pub struct Lease {
    held: watch::Receiver<Held>,
}

/// What became of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It lasts these milliseconds from now.
    Renewed {
        /// Milliseconds.
        remaining_ms: u64,
    },
    /// It is over.
    Over,
}

/// A lease that lasts until then. Whoever asked for it counts from before it asked.
pub fn lease(until: Moment) -> (Keeper, Lease) {
    let (keeper, held) = watch::channel(Held::Until(until));
    (Keeper { held: keeper }, Lease { held })
}

impl Keeper {
    /// It lasts until then.
    pub fn renew(&self, until: Moment) {
        self.held.send_if_modified(|held| match held {
            Held::Until(_) => {
                *held = Held::Until(until);
                true
            }
            // What was ended once may be another's by now.
            Held::Over => false,
        });
    }

    /// It is over, now.
    pub fn end(&self) {
        self.held.send_replace(Held::Over);
    }
}

impl Lease {
    /// Milliseconds that are left; zero if it is over.
    pub fn remaining_ms(&self) -> u64 {
        let held = *self.held.borrow();
        match held {
            Held::Until(until) if self.held.has_changed().is_ok() => millis(until.remaining()),
            Held::Until(_) | Held::Over => 0,
        }
    }

    /// Whether its owner let go of it. One that only ran out may be renewed yet, where nobody else took the run meanwhile.
    pub fn is_let_go(&self) -> bool {
        *self.held.borrow() == Held::Over || self.held.has_changed().is_err()
    }

    /// Returns when it is renewed or over. May be cancelled at any time.
    pub async fn turned(&mut self) -> Turn {
        loop {
            let left = self.remaining_ms();
            if left == 0 {
                return Turn::Over;
            }
            tokio::select! {
                changed = self.held.changed() => {
                    let remaining_ms = self.remaining_ms();
                    if changed.is_err() || remaining_ms == 0 {
                        return Turn::Over;
                    }
                    return Turn::Renewed { remaining_ms };
                }
                () = tokio::time::sleep(Duration::from_millis(left)) => {}
            }
        }
    }

    /// Returns when it is over. May be cancelled at any time.
    pub async fn over(&mut self) {
        while self.turned().await != Turn::Over {}
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_renewal_is_told_with_what_is_left() {
        let (keeper, mut lease) = lease(Moment::now().after(HOUR));
        keeper.renew(Moment::now().after(2 * HOUR));
        let turn = lease.turned().await;
        assert!(matches!(turn, Turn::Renewed { remaining_ms } if remaining_ms > 3_600_000), "{turn:?}");
    }

    #[tokio::test]
    async fn a_lease_runs_out_by_itself() {
        let (_keeper, mut lease) = lease(Moment::now().after(Duration::from_millis(20)));
        assert_eq!(lease.turned().await, Turn::Over);
        assert_eq!(lease.remaining_ms(), 0);
    }

    #[tokio::test]
    async fn what_was_ended_is_not_renewed() {
        let (keeper, mut lease) = lease(Moment::now().after(HOUR));
        keeper.end();
        keeper.renew(Moment::now().after(HOUR));
        assert_eq!(lease.turned().await, Turn::Over);
    }

    #[tokio::test]
    async fn a_keeper_that_is_gone_holds_nothing() {
        let (keeper, mut lease) = lease(Moment::now().after(HOUR));
        drop(keeper);
        assert_eq!(lease.turned().await, Turn::Over);
    }
}
