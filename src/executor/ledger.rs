//! The ledger of a run while it runs: what the gateway says is counted, told to a person once for each host, and written
//! in batches, so that no connection waits for a disk.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::record::egress::{Counts, ENTRIES_MAX, Entry, Failure, Verdict};
use crate::record::{Record, RecordError};
use crate::redact::Redactor;
use crate::task::RunId;
use crate::task::escape::escape;

/// Entries wait for the books as long as this.
const WRITE_PAUSE: Duration = Duration::from_millis(500);
/// Hosts that a person is told of, one line each.
const TOLD_MAX: usize = 50;

/// A run's ledger.
pub struct Ledger<'a> {
    run: RunId,
    record: &'a dyn Record,
    tell: &'a (dyn Fn(&str) + Sync),
    redactor: Redactor,
    unwritten: Vec<Entry>,
    write_at: Option<Instant>,
    told: BTreeSet<String>,
    counts: Counts,
}

impl<'a> Ledger<'a> {
    /// An empty one; `tell` reaches a person, and what `redactor` knows is in none of it.
    pub fn new(
        run: RunId,
        record: &'a dyn Record,
        tell: &'a (dyn Fn(&str) + Sync),
        redactor: Redactor,
    ) -> Self {
        let (unwritten, told) = (Vec::new(), BTreeSet::new());
        Self { run, record, tell, redactor, unwritten, write_at: None, told, counts: Counts::default() }
    }

    /// Takes an entry. What is more than may be kept is counted.
    pub fn take(&mut self, entry: Entry) {
        let entry = redacted(entry, &self.redactor);
        self.counts.add(&entry);
        self.say(&entry);
        if self.counts.kept < ENTRIES_MAX as u64 {
            self.counts.kept += 1;
            self.unwritten.push(entry);
            self.write_at.get_or_insert_with(|| Instant::now() + WRITE_PAUSE);
        } else {
            self.counts.unkept += 1;
        }
    }

    /// Notes that the gateway is gone while the task goes on.
    pub fn take_loss(&mut self, at_ms: i64) {
        (self.tell)("the gateway ended: the task has no way out any more");
        self.take(Entry {
            at_ms,
            name: String::new(),
            port: None,
            address: None,
            rule: None,
            verdict: Verdict::Failed(Failure::Gateway),
            bytes_up: 0,
            bytes_down: 0,
            duration_ms: 0,
            request: None,
        });
    }

    /// Returns when entries have waited long enough.
    pub async fn due(&self) {
        match self.write_at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Writes what waits.
    pub async fn write(&mut self) -> Result<(), RecordError> {
        self.write_at = None;
        let unwritten = std::mem::take(&mut self.unwritten);
        if unwritten.is_empty() { Ok(()) } else { self.record.keep_egress(self.run, &unwritten).await }
    }

    /// Writes the rest, and gives what was counted.
    pub async fn close(mut self, refused_again: u64) -> Result<Counts, RecordError> {
        self.counts.denied = self.counts.denied.saturating_add(refused_again);
        self.write().await?;
        Ok(self.counts)
    }

    /// One line for each host that was refused or not reached. The whole stands in the ledger.
    fn say(&mut self, entry: &Entry) {
        let (Some(why), false) = (entry.verdict.told(), entry.name.is_empty()) else {
            return;
        };
        if self.told.len() > TOLD_MAX || !self.told.insert(format!("{} {}", entry.name, entry.verdict.word()))
        {
            return;
        }
        if self.told.len() > TOLD_MAX {
            return (self.tell)("more hosts are not told here: `aegis egress` lists them");
        }
        let name = escape(entry.name.as_bytes());
        let place = entry.port.map_or_else(|| name.clone(), |port| format!("{name}:{port}"));
        (self.tell)(&format!("`{place}` is not reached: {why}"));
    }
}

/// What a task wrote into a name or a request, without secrets.
fn redacted(mut entry: Entry, redactor: &Redactor) -> Entry {
    if redactor.is_empty() {
        return entry;
    }
    entry.name = redactor.text(&entry.name);
    if let Some(request) = &mut entry.request {
        request.method = redactor.text(&request.method);
        request.path = redactor.text(&request.path);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::egress::{Reason, RequestEntry};
    use crate::redact::Known;

    #[test]
    fn a_name_or_path_with_a_secret_is_kept_without_it() {
        let known = Known::new("KEY", b"hunter2-hunter2").expect("fit");
        let request = RequestEntry {
            method: "GET".to_owned(),
            path: "/x/aHVudGVyMi1odW50ZXIy".to_owned(),
            status: None,
            credential: None,
        };
        let entry = Entry {
            at_ms: 0,
            name: "hunter2-hunter2.example.org".to_owned(),
            port: None,
            address: None,
            rule: None,
            verdict: Verdict::Denied(Reason::Name),
            bytes_up: 0,
            bytes_down: 0,
            duration_ms: 0,
            request: Some(request),
        };
        let kept = redacted(entry, &Redactor::new(&[known]));
        assert_eq!(kept.name, "[redacted:KEY].example.org");
        assert_eq!(kept.request.expect("a request").path, "/x/[redacted:KEY]");
    }
}
