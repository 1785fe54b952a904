//! What the sandbox used: the cgroup's counters, read from inside, and the writable mounts, sampled while a command
//! lives.

mod cgroup;
mod mounts;

use serde_bytes::ByteBuf;

use aegis_init::wire::Usage;

use crate::clock::Moment;

use self::cgroup::Counters;
use self::mounts::Mounts;

/// Milliseconds between samples while a command lives.
const SAMPLE_MS: u64 = 20;
/// The same while a watched mount is more than half full: a small one fills and empties in a blink.
const SAMPLE_HURRIED_MS: u64 = 2;

/// Samples and sums up.
pub struct Sampler {
    counters: Counters,
    mounts: Mounts,
    released: Option<Moment>,
    pids_seen: u64,
    next: Moment,
}

impl Sampler {
    /// Watches these mounts; those that do not exist are passed over, in silence but with their bit kept free.
    pub fn new(watched: &[ByteBuf], now: Moment) -> Self {
        let counters = Counters::open();
        Self { counters, mounts: Mounts::open(watched), released: None, pids_seen: 0, next: now }
    }

    /// The first command is about to start: wall time counts from here.
    pub fn release(&mut self, now: Moment) {
        self.released.get_or_insert(now);
        self.next = now;
    }

    /// When the next sample is due.
    pub fn next(&self) -> Moment {
        self.next
    }

    /// Takes a sample if one is due.
    pub fn sample_if_due(&mut self, now: Moment) {
        if now >= self.next {
            self.sample(now);
        }
    }

    /// Everything up to now, with a last sample.
    pub fn usage(&mut self, now: Moment) -> Usage {
        self.sample(now);
        let cpu = self.counters.cpu();
        Usage {
            wall_us: self.released.map_or(0, |released| now.micros_since(released)),
            cpu_user_us: cpu.user_us,
            cpu_system_us: cpu.system_us,
            memory_peak_bytes: self.counters.memory_peak_bytes(),
            pids_peak: self.counters.pids_peak().or(Some(self.pids_seen).filter(|it| *it > 0)),
            pids_limit_hits: self.counters.pids_limit_hits(),
            oom_kills: self.counters.oom_kills(),
            written_bytes_peak: self.mounts.used_bytes_peak(),
            full_mounts: self.mounts.full(),
        }
    }

    fn sample(&mut self, now: Moment) {
        self.mounts.sample();
        self.pids_seen = self.pids_seen.max(self.counters.pids_current().unwrap_or(0));
        self.next = now.after_ms(if self.mounts.filling() { SAMPLE_HURRIED_MS } else { SAMPLE_MS });
    }
}
