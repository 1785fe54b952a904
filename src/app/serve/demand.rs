//! How many warm sandboxes are worth having: decided from how often they were asked for. Pure.

use std::time::{Duration, Instant};

/// A request counts for less the longer it is ago: after this time for a third.
const MEMORY: Duration = Duration::from_secs(60);
/// What is asked for within this time should be there already: a few times what making one takes.
const HORIZON: Duration = Duration::from_secs(3);
/// Below so many requests expected within the horizon, none is kept.
const WORTH_MIN: f64 = 0.005;

/// How often something is asked for, as a rate that fades.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    per_second: f64,
    at: Instant,
}

impl Demand {
    /// None so far.
    pub fn none(now: Instant) -> Self {
        Self { per_second: 0.0, at: now }
    }

    /// Notes a request.
    pub fn note(&mut self, now: Instant) {
        self.per_second = self.rate(now) + 1.0 / MEMORY.as_secs_f64();
        self.at = now;
    }

    /// Requests a second now.
    pub fn rate(&self, now: Instant) -> f64 {
        let past = now.saturating_duration_since(self.at);
        self.per_second * (-past.as_secs_f64() / MEMORY.as_secs_f64()).exp()
    }

    /// How many should wait, of which `minimum` in any case.
    pub fn wanted(&self, now: Instant, minimum: usize) -> usize {
        let expected = self.rate(now) * HORIZON.as_secs_f64();
        // Rates are far below what a number of slots holds.
        let count = if expected < WORTH_MIN { 0 } else { expected.ceil() as usize };
        count.max(minimum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        requests: u32,
        apart: Duration,
        after: Duration,
        minimum: usize,
        expected: std::ops::RangeInclusive<usize>,
    ) {
        let begun = Instant::now();
        let mut demand = Demand::none(begun);
        let mut now = begun;
        for _ in 0..requests {
            now += apart;
            demand.note(now);
        }
        let wanted = demand.wanted(now + after, minimum);
        assert!(expected.contains(&wanted), "{wanted} of {expected:?}");
    }

    #[test]
    fn what_nobody_asks_for_is_not_kept() {
        check(0, Duration::ZERO, Duration::ZERO, 0, 0..=0);
    }

    #[test]
    fn what_was_asked_for_once_is_kept_for_a_while() {
        check(1, Duration::ZERO, Duration::from_secs(1), 0, 1..=1);
        check(1, Duration::ZERO, Duration::from_secs(600), 0, 0..=0);
    }

    #[test]
    fn what_is_asked_for_ten_times_a_second_is_there_for_seconds() {
        check(6_000, Duration::from_millis(100), Duration::ZERO, 0, 25..=35);
    }

    #[test]
    fn a_minimum_is_kept_whoever_asks() {
        check(0, Duration::ZERO, Duration::ZERO, 4, 4..=4);
    }
}
