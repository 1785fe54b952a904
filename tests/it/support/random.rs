//! Numbers that are random enough, from a seed that is printed and can be given again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A sequence; shared between threads it stays one sequence, in whatever order they ask.
#[derive(Debug)]
pub struct Random {
    state: AtomicU64,
}

impl Random {
    /// From `AEGIS_TEST_SEED`, else from the clock. The seed is printed; it is shown when the test fails.
    pub fn seeded_by_the_caller() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
        let given = std::env::var("AEGIS_TEST_SEED").ok().and_then(|it| it.parse().ok());
        let seed = given.unwrap_or(u64::try_from(now % u128::from(u32::MAX)).expect("it is bounded"));
        println!("AEGIS_TEST_SEED={seed}");
        Self { state: AtomicU64::new(seed) }
    }

    /// From 0 up to `end`, which is not reached.
    pub fn below(&self, end: u64) -> u64 {
        // splitmix64
        let mut mixed = self.state.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}
