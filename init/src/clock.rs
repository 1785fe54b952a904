//! Time that neither a set wall clock nor a suspended machine bends, and the two clocks that end a sandbox whatever
//! its host does.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::ending::Ending;

/// How long init waits for the first message.
pub const GREETING_MS_MAX: u64 = 30_000;

/// A moment of `CLOCK_BOOTTIME`, which goes on while the machine sleeps: a lease does so, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// The start of the machine.
    pub const BOOT: Self = Self(Duration::ZERO);

    /// Now.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC));
        // Without a clock every deadline counts as passed: init ends rather than lives for ever.
        Self(now.map(Duration::from).unwrap_or(Duration::MAX))
    }

    /// This many milliseconds later; a sum that overflows is the end of time.
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(Duration::from_millis(ms)))
    }

    /// How much later this is than `earlier`, zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Microseconds since `earlier`.
    pub fn micros_since(self, earlier: Self) -> u64 {
        u64::try_from(self.since(earlier).as_micros()).unwrap_or(u64::MAX)
    }
}

/// The deadlines of the sandbox itself.
#[derive(Debug)]
pub struct Deadlines {
    lifetime: Moment,
    lease: Option<Moment>,
}

impl Deadlines {
    /// Until the first message says more, init waits [`GREETING_MS_MAX`].
    pub fn new(born: Moment) -> Self {
        Self { lifetime: born.after_ms(GREETING_MS_MAX), lease: None }
    }

    /// The lifetime that the first message gives.
    pub fn set_lifetime(&mut self, received: Moment, lifetime_ms: u64) {
        self.lifetime = received.after_ms(lifetime_ms);
    }

    /// The owner's lease, counted from the receipt of its message.
    pub fn set_lease(&mut self, received: Moment, remaining_ms: u64) {
        self.lease = Some(received.after_ms(remaining_ms));
    }

    /// Brings the end of the lifetime nearer, never farther.
    pub fn shorten_lifetime(&mut self, end: Moment) {
        self.lifetime = self.lifetime.min(end);
    }

    /// Which clock has run out.
    pub fn over(&self, now: Moment) -> Option<Ending> {
        if now >= self.lifetime {
            return Some(Ending::LifetimeOver);
        }
        match self.lease {
            Some(lease) if now >= lease => Some(Ending::LeaseOver),
            Some(_) | None => None,
        }
    }

    /// The nearer of the two.
    pub fn next(&self) -> Moment {
        self.lease.map_or(self.lifetime, |lease| lease.min(self.lifetime))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment(Duration::from_secs(1_000));

    fn deadlines(lifetime_ms: u64, lease_ms: Option<u64>) -> Deadlines {
        let mut deadlines = Deadlines::new(START);
        deadlines.set_lifetime(START, lifetime_ms);
        if let Some(remaining_ms) = lease_ms {
            deadlines.set_lease(START, remaining_ms);
        }
        deadlines
    }

    fn check(lifetime_ms: u64, lease_ms: Option<u64>, at_ms: u64, expected: Option<Ending>) {
        assert_eq!(deadlines(lifetime_ms, lease_ms).over(START.after_ms(at_ms)), expected);
    }

    #[test]
    fn nothing_is_over_before_its_time() {
        check(100, Some(50), 49, None);
    }

    #[test]
    fn the_lease_ends_a_sandbox_that_has_time_left() {
        check(100, Some(50), 50, Some(Ending::LeaseOver));
    }

    #[test]
    fn the_lifetime_ends_a_sandbox_whose_lease_goes_on() {
        check(100, Some(5_000), 100, Some(Ending::LifetimeOver));
    }

    #[test]
    fn a_sandbox_without_a_lease_lives_its_lifetime() {
        check(100, None, 99, None);
    }

    #[test]
    fn a_lifetime_without_end_does_not_overflow() {
        check(u64::MAX, None, u64::MAX / 2, None);
    }

    #[test]
    fn a_lifetime_is_shortened_and_not_lengthened() {
        let mut deadlines = deadlines(100, None);
        deadlines.shorten_lifetime(START.after_ms(500));
        assert_eq!(deadlines.next(), START.after_ms(100));
        deadlines.shorten_lifetime(START.after_ms(10));
        assert_eq!(deadlines.next(), START.after_ms(10));
    }
}
