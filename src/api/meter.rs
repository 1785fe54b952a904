//! How much one caller may ask for: requests by a bucket that fills steadily, streams by count.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::api::services::Limits;

/// Callers that are told apart at once. Only those that are let in are counted, so that there are as many as tokens and
/// users of the socket.
const CALLERS_MAX: usize = 16_384;

/// The meter of a server.
#[derive(Debug)]
pub struct Meter {
    limits: Limits,
    callers: Mutex<HashMap<String, Account>>,
    streams: Arc<tokio::sync::Semaphore>,
}

#[derive(Debug)]
struct Account {
    /// Requests that are left, in thousandths.
    left_milli: u64,
    filled: Instant,
    streams: Arc<tokio::sync::Semaphore>,
}

/// A place of a stream, given back when it is dropped.
#[derive(Debug)]
pub struct StreamPlace {
    _own: tokio::sync::OwnedSemaphorePermit,
    _all: tokio::sync::OwnedSemaphorePermit,
}

impl Meter {
    /// A meter with these limits.
    pub fn new(limits: Limits) -> Self {
        let streams = Arc::new(tokio::sync::Semaphore::new(limits.streams));
        Self { limits, callers: Mutex::default(), streams }
    }

    /// Counts a request; the time to wait where there were too many.
    pub fn request(&self, caller: &str) -> Result<(), Duration> {
        self.request_at(caller, Instant::now())
    }

    fn request_at(&self, caller: &str, now: Instant) -> Result<(), Duration> {
        let (rate, burst) =
            (u64::from(self.limits.requests_per_second), u64::from(self.limits.requests_burst));
        self.with(caller, now, |account| {
            let passed_ms =
                u64::try_from(now.saturating_duration_since(account.filled).as_millis()).unwrap_or(u64::MAX);
            // A request a second is one thousandth a millisecond.
            let filled = account.left_milli.saturating_add(passed_ms.saturating_mul(rate));
            account.left_milli = filled.min(burst * 1000);
            account.filled = now;
            match account.left_milli.checked_sub(1000) {
                Some(left) => {
                    account.left_milli = left;
                    Ok(())
                }
                None => Err(Duration::from_millis((1000 - account.left_milli).div_ceil(rate.max(1)))),
            }
        })
    }

    /// A place for a stream; `None` where the caller or the server has no more.
    pub fn stream(&self, caller: &str) -> Option<StreamPlace> {
        let own = self.with(caller, Instant::now(), |account| account.streams.clone());
        let own = own.try_acquire_owned().ok()?;
        let all = self.streams.clone().try_acquire_owned().ok()?;
        Some(StreamPlace { _own: own, _all: all })
    }

    fn with<T>(&self, caller: &str, now: Instant, act: impl FnOnce(&mut Account) -> T) -> T {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= CALLERS_MAX && !callers.contains_key(caller) {
            let per_caller = self.limits.streams_per_caller;
            callers.retain(|_, it| it.streams.available_permits() < per_caller);
        }
        let account = callers.entry(caller.to_owned()).or_insert_with(|| Account {
            left_milli: u64::from(self.limits.requests_burst) * 1000,
            filled: now,
            streams: Arc::new(tokio::sync::Semaphore::new(self.limits.streams_per_caller)),
        });
        act(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> Meter {
        let limits = Limits {
            requests_per_second: 10,
            requests_burst: 3,
            streams: 2,
            streams_per_caller: 1,
            ..Limits::USUAL
        };
        Meter::new(limits)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let (meter, begun) = (meter(), Instant::now());
        for _ in 0..3 {
            assert_eq!(meter.request_at("a", begun), Ok(()));
        }
        assert_eq!(meter.request_at("a", begun), Err(Duration::from_millis(100)));
        assert_eq!(meter.request_at("b", begun), Ok(()), "others are unaffected");
        assert_eq!(meter.request_at("a", begun + Duration::from_millis(100)), Ok(()));
        assert!(meter.request_at("a", begun + Duration::from_millis(101)).is_err());
    }

    #[test]
    fn a_callers_streams_leave_room_for_others() {
        let meter = meter();
        let held = meter.stream("a");
        assert!(held.is_some());
        assert!(meter.stream("a").is_none());
        assert!(meter.stream("b").is_some());
        drop(held);
        assert!(meter.stream("a").is_some());
    }
}
