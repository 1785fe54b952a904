//! How long things are kept once a run has ended, and how much of them. `aegis gc` and a server's sweep hold to it.

use std::time::Duration;

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Days that a run is kept with its events, log and list of artifacts.
    pub days: u32,
    /// Bytes that logs may use together; the oldest go first.
    pub log_bytes_max: u64,
    /// Bytes that change sets may use together; the oldest go first.
    pub changes_bytes_max: u64,
    /// Bytes that outputs of submitted runs may use together; the oldest go first.
    pub artifact_bytes_max: u64,
    /// Bytes of images that only Aegis uses; the least recently used go first.
    pub image_bytes_max: u64,
    /// Bytes that uploaded workspaces may use together; the least recently used go first.
    pub upload_bytes_max: u64,
    /// How long an uploaded workspace may lie unused.
    pub upload_age_max: Duration,
    /// Days that an entry of the audit trail is kept.
    pub audit_days: u32,
    /// How long a snapshot of a workspace may lie unused.
    pub snapshot_age_max: Duration,
}

impl Retention {
    /// What holds where nobody said otherwise: 30 days, 10 GiB of logs and of changes each, 50 GiB of outputs, 20 GiB of images and of uploads
    /// each, a week for snapshots and uploads, a year for the audit trail.
    pub const fn standard() -> Self {
        Self {
            days: 30,
            log_bytes_max: 10 << 30,
            changes_bytes_max: 10 << 30,
            artifact_bytes_max: 50 << 30,
            image_bytes_max: 20 << 30,
            upload_bytes_max: 20 << 30,
            upload_age_max: Duration::from_secs(7 * 24 * 60 * 60),
            audit_days: 365,
            snapshot_age_max: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }

    /// Runs that ended before this time are past their retention.
    pub fn horizon_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(i64::from(self.days) * DAY_MS)
    }

    /// Entries of the audit trail before this time are.
    pub fn audit_horizon_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(i64::from(self.audit_days) * DAY_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_when_its_days_are_over() {
        assert_eq!(Retention::standard().horizon_ms(31 * DAY_MS), DAY_MS);
    }
}
