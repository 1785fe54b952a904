//! What one request comes to in the ledger: begun with it, counted while it runs, told once when its last part is gone.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::StatusCode;

use crate::gateway::inspect::At;
use crate::record::egress::{Entry, Failure, RequestEntry, Verdict};
use crate::record::now_ms;

/// Where entries go. It must not block.
pub type Ledger = Arc<dyn Fn(Entry) + Send + Sync>;

/// Bytes that were counted on the way, shared with the body that counts them.
pub type Count = Arc<AtomicU64>;

/// The account of one request. Dropping it tells the ledger.
pub(super) struct Account {
    ledger: Ledger,
    entry: Entry,
    begun: Instant,
    silent: bool,
    /// Bytes from the task.
    pub up: Count,
    /// Bytes to the task.
    pub down: Count,
}

impl Account {
    /// Begins. Until something else is said, the request is one that was broken off.
    pub fn begin(ledger: &Ledger, at: &At, request: Option<RequestEntry>) -> Self {
        let entry = Entry {
            at_ms: now_ms(),
            name: at.name.to_string(),
            port: Some(at.port),
            address: None,
            rule: None,
            verdict: Verdict::Failed(Failure::Broken),
            bytes_up: 0,
            bytes_down: 0,
            duration_ms: 0,
            request,
        };
        let (up, down) = (Count::default(), Count::default());
        Self { ledger: ledger.clone(), entry, begun: Instant::now(), silent: false, up, down }
    }

    /// A rule allows it.
    pub fn allowed_by(&mut self, rule: String) {
        self.entry.rule = Some(rule);
    }

    /// It goes to this address.
    pub fn reached(&mut self, address: Option<IpAddr>) {
        self.entry.address = address;
    }

    /// A credential was added.
    pub fn carries(&mut self, credential: &str) {
        if let Some(request) = &mut self.entry.request {
            request.credential = Some(credential.to_owned());
        }
    }

    /// It is told by others: the requests on a connection.
    pub fn passes_on(&mut self) {
        self.silent = true;
    }

    /// What came of it, and the status that the task sees.
    pub fn ends(&mut self, verdict: Verdict, status: Option<StatusCode>) {
        self.entry.verdict = verdict;
        if let Some(request) = &mut self.entry.request {
            request.status = status.map(|it| it.as_u16());
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.silent {
            return;
        }
        let mut entry = self.entry.clone();
        entry.bytes_up = self.up.load(Ordering::Relaxed);
        entry.bytes_down = self.down.load(Ordering::Relaxed);
        entry.duration_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        (self.ledger)(entry);
    }
}
