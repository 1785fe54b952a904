//! An entry of the ledger as it travels from the gateway to the owner of its run.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::record::egress;

/// Bytes of a name, a method, a rule or a path that are kept.
const TEXT_BYTES_MAX: usize = 2048;

/// An entry of the ledger, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "as in `record::egress::Entry`")]
pub struct Entry {
    pub at_ms: i64,
    pub name: String,
    pub port: Option<u16>,
    pub address: Option<IpAddr>,
    pub rule: Option<String>,
    pub verdict: String,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub duration_ms: u64,
    pub request: Option<RequestEntry>,
}

/// A request of an entry, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "as in `record::egress::RequestEntry`")]
pub struct RequestEntry {
    pub method: String,
    pub path: String,
    pub status: Option<u16>,
    pub credential: Option<String>,
}

impl Entry {
    /// As it travels.
    pub fn of(entry: &egress::Entry) -> Self {
        let request = entry.request.as_ref().map(|it| RequestEntry {
            method: cut(&it.method),
            path: cut(&it.path),
            status: it.status,
            credential: it.credential.clone(),
        });
        Self {
            at_ms: entry.at_ms,
            name: cut(&entry.name),
            port: entry.port,
            address: entry.address,
            rule: entry.rule.as_deref().map(cut),
            verdict: entry.verdict.word().to_owned(),
            bytes_up: entry.bytes_up,
            bytes_down: entry.bytes_down,
            duration_ms: entry.duration_ms,
            request,
        }
    }

    /// What arrived; `None` if that is no entry.
    pub fn entry(self) -> Option<egress::Entry> {
        let request = self.request.map(|it| egress::RequestEntry {
            method: cut(&it.method),
            path: cut(&it.path),
            status: it.status,
            credential: it.credential.as_deref().map(cut),
        });
        Some(egress::Entry {
            at_ms: self.at_ms,
            name: cut(&self.name),
            port: self.port,
            address: self.address,
            rule: self.rule.as_deref().map(cut),
            verdict: egress::Verdict::from_word(&self.verdict)?,
            bytes_up: self.bytes_up,
            bytes_down: self.bytes_down,
            duration_ms: self.duration_ms,
            request,
        })
    }
}

/// The beginning of a text, whole characters only.
fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    text[..end].to_owned()
}
