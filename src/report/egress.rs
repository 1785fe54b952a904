//! The ledger of a run's way out, as a table and as JSON. What the task wrote is escaped.

mod json;

use jiff::Timestamp;

use crate::record::egress::{Counts, Entry};
use crate::report::amount;
use crate::report::summary::{cut, shown};
use crate::report::table;

pub use json::{EntryJson, RequestJson};

/// Characters of a column whose length others choose.
const TEXT_CHARS_MAX: usize = 60;

/// An entry for scripts.
pub fn json(entry: &Entry) -> EntryJson {
    EntryJson {
        at: time(entry.at_ms),
        name: entry.name.clone(),
        port: entry.port,
        address: entry.address,
        rule: entry.rule.clone(),
        verdict: entry.verdict.word(),
        reason: entry.verdict.told(),
        bytes_up: entry.bytes_up,
        bytes_down: entry.bytes_down,
        duration_ms: entry.duration_ms,
        request: entry.request.as_ref().map(|it| RequestJson {
            method: it.method.clone(),
            path: it.path.clone(),
            status: it.status,
            credential: it.credential.clone(),
        }),
    }
}

/// A line for each entry, and what they come to.
pub fn table(entries: &[Entry], counts: Option<&Counts>) -> String {
    if entries.is_empty() && counts.is_none_or(|it| it.denied == 0) {
        return "nothing went out, and nothing was refused\n".to_owned();
    }
    let mut rows =
        vec![["TIME", "HOST", "ADDRESS", "UP", "DOWN", "TOOK", "VERDICT", "WHAT"].map(str::to_owned)];
    rows.extend(entries.iter().map(row));
    let mut text = table::text(&rows);
    if let Some(counts) = counts {
        text.push_str(&sum(counts));
    }
    text
}

fn sum(counts: &Counts) -> String {
    let mut text = format!(
        "{} passed, {} refused, {} failed; {} up, {} down\n",
        counts.allowed,
        counts.denied,
        counts.failed,
        amount::bytes(counts.bytes_up),
        amount::bytes(counts.bytes_down)
    );
    if counts.unkept > 0 {
        text.push_str(&format!("{} more are counted here and not listed\n", counts.unkept));
    }
    text
}

fn row(entry: &Entry) -> [String; 8] {
    let name = if entry.name.is_empty() { "-".to_owned() } else { cut(&shown(&entry.name), TEXT_CHARS_MAX) };
    let host = entry.port.map_or_else(|| name.clone(), |port| format!("{name}:{port}"));
    let what = match (&entry.request, entry.verdict.told()) {
        (Some(request), _) => {
            let status = request.status.map_or_else(|| "-".to_owned(), |it| it.to_string());
            let path = cut(&shown(&request.path), TEXT_CHARS_MAX);
            format!("{} {path} {status}", cut(&shown(&request.method), TEXT_CHARS_MAX))
        }
        (None, Some(reason)) => reason.to_owned(),
        (None, None) => entry.rule.as_deref().map_or_else(String::new, |it| cut(&shown(it), TEXT_CHARS_MAX)),
    };
    [
        time(entry.at_ms),
        host,
        entry.address.map_or_else(|| "-".to_owned(), |it| it.to_string()),
        amount::bytes(entry.bytes_up),
        amount::bytes(entry.bytes_down),
        amount::milliseconds(entry.duration_ms),
        entry.verdict.word().to_owned(),
        what,
    ]
}

fn time(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), |it| it.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::egress::{Reason, Verdict};

    fn entry() -> Entry {
        Entry {
            at_ms: 1_700_000_000_000,
            name: "api.example.org".to_owned(),
            port: Some(443),
            address: Some([203, 0, 113, 10].into()),
            rule: Some("api.example.org:443".to_owned()),
            verdict: Verdict::Allowed,
            bytes_up: 517,
            bytes_down: 2048,
            duration_ms: 12,
            request: None,
        }
    }

    fn counts() -> Counts {
        Counts { allowed: 1, denied: 1, failed: 0, bytes_up: 517, bytes_down: 2048, kept: 2, unkept: 0 }
    }

    #[test]
    fn a_ledger_is_a_line_for_each_entry_and_its_sum() {
        let refused = Entry {
            name: "evil.test\x1b[2J".to_owned(),
            port: None,
            address: None,
            rule: None,
            verdict: Verdict::Denied(Reason::Name),
            ..entry()
        };
        insta::assert_snapshot!(table(&[entry(), refused], Some(&counts())), @r"
        TIME                  HOST                 ADDRESS       UP     DOWN   TOOK   VERDICT      WHAT
        2023-11-14T22:13:20Z  api.example.org:443  203.0.113.10  517 B  2 KiB  12 ms  allowed      api.example.org:443
        2023-11-14T22:13:20Z  evil.test\x1b[2J     -             517 B  2 KiB  12 ms  denied_name  no rule names it
        1 passed, 1 refused, 0 failed; 517 B up, 2 KiB down
        ");
    }

    #[test]
    fn a_run_that_asked_for_nothing_says_so() {
        assert_eq!(table(&[], None), "nothing went out, and nothing was refused\n");
    }

    #[test]
    fn an_entry_is_an_object_with_its_verdict_as_a_word() {
        let text = serde_json::to_string(&json(&entry())).expect("it encodes");
        assert_eq!(
            text,
            r#"{"at":"2023-11-14T22:13:20Z","name":"api.example.org","port":443,"address":"203.0.113.10","rule":"api.example.org:443","verdict":"allowed","reason":null,"bytes_up":517,"bytes_down":2048,"duration_ms":12,"request":null}"#
        );
    }
}
