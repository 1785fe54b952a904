//! The page of `aegis show`: asked, resolved, effective; what the kernel showed; how it went.

use std::os::unix::ffi::OsStrExt;

use serde_json::Value;

use crate::record::{ChangeCounts, End, Event, Kept, Run};
use crate::report::amount;
use crate::report::summary::{command, shown};
use crate::report::why::{self, Ended};
use crate::report::workspace::listed;
use crate::task::escape::escape;

/// Lines of one list at the most; the JSON has all of them.
const LINES_MAX: usize = 40;
/// Levels of a document that are shown.
const DEPTH_MAX: usize = 6;

/// The page of a run.
pub fn page(run: &Run, events: &[Event]) -> String {
    let mut page = Page::default();
    head(&mut page, run);
    if let Some(workspace) = run.workspace.as_ref().filter(|it| it.withheld_count > 0) {
        page.title("withheld");
        page.lines(&listed(workspace));
    }
    page.document("asked", &run.policy.asked);
    page.document("resolved", &run.policy.resolved);
    page.document("effective", &run.policy.effective);
    if let Some(attestation) = &run.attestation {
        page.document("what the kernel showed", attestation);
    }
    if let Some(end) = &run.end {
        ended(&mut page, run, end);
    }
    page.title("events");
    for event in events {
        let detail = if event.detail == "{}" { "" } else { &event.detail };
        page.field(event.kind.name(), &format!("{} {}", amount::date(event.at_ms), shown(detail)));
    }
    page.text
}

fn head(page: &mut Page, run: &Run) {
    page.field("run", &run.id.to_string());
    page.field("state", run.state.name());
    if let Some(end) = &run.end {
        page.field("outcome", &shown(&end.outcome.to_string()));
    }
    page.optional("name", run.name.as_deref());
    for (key, value) in &run.labels {
        page.field("label", &shown(&format!("{key}={value}")));
    }
    page.field("command", &command(&run.task.command));
    page.field("image", &shown(&run.task.image));
    page.optional("image id", run.image.as_ref().map(|it| it.id.as_str()));
    page.optional("repo digest", run.image.as_ref().and_then(|it| it.repo_digest.as_deref()));
    if let Some(workspace) = &run.task.workspace {
        page.field("workspace", &escape(workspace.as_os_str().as_bytes()));
    }
    if let Some(workspace) = &run.workspace {
        page.field("git", workspace.git.word());
        for included in &workspace.included {
            page.field("included", &shown(included));
        }
    }
    if !run.task.environment_names.is_empty() {
        page.field("environment", &shown(&run.task.environment_names.join(" ")));
    }
    for (name, place) in &run.task.secrets {
        page.field("secret", &shown(&format!("{name} at {place}")));
    }
    page.field("policy", &shown(&format!("{} ({})", run.policy.name, run.policy.digest)));
    page.field("attempt", &run.fence.attempt.to_string());
    page.optional("container", run.slot.as_ref().map(|it| it.container_id.as_str()));
    page.field("created", &amount::date(run.created_ms));
    page.optional("released", run.released_ms.map(amount::date).as_deref());
    page.optional("ended", run.ended_ms.map(amount::date).as_deref());
}

fn ended(page: &mut Page, run: &Run, end: &End) {
    page.title("used");
    if let Some(usage) = &end.usage {
        page.field("time", &amount::microseconds(usage.wall_us));
        let (user, system) =
            (amount::microseconds(usage.cpu_user_us), amount::microseconds(usage.cpu_system_us));
        page.field("cpu", &format!("{user} user, {system} system"));
        page.optional("memory peak", usage.memory_peak_bytes.map(amount::bytes).as_deref());
        page.optional("pids peak", usage.pids_peak.map(|it| it.to_string()).as_deref());
        page.field("written", &amount::bytes(usage.written_bytes_peak));
    }
    let (stdout, stderr) = (amount::bytes(end.output.stdout_bytes), amount::bytes(end.output.stderr_bytes));
    let cut = if end.output.log_truncated { ", the log holds less" } else { "" };
    page.field("output", &format!("{stdout} stdout, {stderr} stderr{cut}"));
    for (name, count) in &end.redactions {
        page.field("redacted", &shown(&format!("{name}, {count} times")));
    }
    page.title("phases");
    for (phase, us) in &end.timings {
        page.field(phase.name(), &amount::microseconds(*us));
    }
    artifacts(page, end);
    exposures(page, end);
    changes(page, end);
    if let Some(ended) = Ended::of(run) {
        page.title("why");
        let explanation = why::why(&ended);
        for line in &explanation.lines {
            page.line(&shown(line));
        }
        if let Some(hint) = explanation.hint() {
            page.line(&format!("hint: {}", shown(&hint)));
        }
    }
}

fn artifacts(page: &mut Page, end: &End) {
    if end.artifacts.is_empty() && end.unmatched.is_empty() && end.dropped_count == 0 {
        return;
    }
    page.title("outputs");
    if let Some(directory) = &end.output_dir {
        page.field("directory", &escape(directory.as_os_str().as_bytes()));
    }
    let mut lines = Vec::new();
    for it in &end.artifacts {
        lines.push(format!(
            "{} {} sha256:{}",
            escape(&it.path),
            amount::bytes(it.bytes),
            hex::encode(it.sha256)
        ));
    }
    for it in &end.unmatched {
        lines.push(format!("{} matched nothing", shown(it)));
    }
    for it in &end.dropped {
        lines.push(format!("{} left out: {}", escape(&it.path), shown(&it.reason)));
    }
    page.lines(&lines);
}

fn exposures(page: &mut Page, end: &End) {
    if end.exposures.is_empty() {
        return;
    }
    page.title("files with secrets");
    let lines: Vec<String> = end
        .exposures
        .iter()
        .map(|it| {
            let became = if it.kept == Kept::Out { "came out" } else { "stayed in" };
            format!("{} holds {}, {became}", escape(&it.path), shown(&it.secret))
        })
        .collect();
    page.lines(&lines);
}

fn changes(page: &mut Page, end: &End) {
    let Some(changes) = &end.changes else { return };
    page.title("changes");
    if let Some(failure) = &changes.failure {
        return page.field("not kept", &shown(failure));
    }
    let ChangeCounts { added, modified, deleted, skipped, left_out, complete, .. } = changes;
    page.field("workspace", &format!("{added} added, {modified} modified, {deleted} deleted"));
    page.field("left out", &format!("{left_out} in caches and ignored paths, {skipped} that cannot be kept"));
    if !complete {
        page.field("complete", "no: a limit was reached");
    }
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn title(&mut self, title: &str) {
        self.text.push_str(&format!("\n{title}\n"));
    }

    fn field(&mut self, name: &str, value: &str) {
        self.line(&format!("{name:<14} {value}"));
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.field(name, &shown(value));
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(&format!("  {}\n", line.trim_end()));
    }

    fn lines(&mut self, lines: &[String]) {
        for line in lines.iter().take(LINES_MAX) {
            self.line(line);
        }
        if lines.len() > LINES_MAX {
            self.line(&format!("and {} more: see `--json`", lines.len() - LINES_MAX));
        }
    }

    /// A document as lines of `path value`.
    fn document(&mut self, title: &str, text: &str) {
        let mut lines = Vec::new();
        match serde_json::from_str::<Value>(text) {
            Ok(value) => flatten(&value, String::new(), 0, &mut lines),
            Err(_) => lines.push(shown(text)),
        }
        lines.retain(|it| !it.is_empty());
        if lines.is_empty() {
            lines.push("nothing".to_owned());
        }
        self.title(title);
        self.lines(&lines);
    }
}

/// The leaves of a document with their paths. A field with its value and origin, as policies are kept, is one line.
fn flatten(value: &Value, path: String, depth: usize, lines: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(line) = policy_field(map) {
                lines.push(line);
                return;
            }
            for (key, inner) in map {
                let path = if path.is_empty() { shown(key) } else { format!("{path}.{}", shown(key)) };
                below(inner, path, depth, lines);
            }
        }
        Value::Array(items) if items.is_empty() && !path.is_empty() => lines.push(format!("{path} none")),
        Value::Array(items) if items.iter().all(is_leaf) => {
            let items: Vec<String> = items.iter().map(leaf).collect();
            lines.push(format!("{path} {}", items.join(" ")).trim_start().to_owned());
        }
        Value::Array(items) => {
            for item in items {
                match row(item) {
                    Some(row) => lines.push(format!("{path} {row}")),
                    None => below(item, path.clone(), depth, lines),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            lines.push(format!("{path} {}", leaf(value)).trim_start().to_owned());
        }
    }
}

fn below(value: &Value, path: String, depth: usize, lines: &mut Vec<String>) {
    if depth == DEPTH_MAX {
        lines.push(format!("{path} …"));
        return;
    }
    flatten(value, path, depth + 1, lines);
}

/// An object of plain values, in one line; what is null is left out. A policy's field has a form of its own.
fn row(value: &Value) -> Option<String> {
    let map = value.as_object().filter(|it| it.values().all(is_leaf) && policy_field(it).is_none())?;
    let known = map.iter().filter(|(_, it)| !it.is_null());
    let cells: Vec<String> = known.map(|(key, it)| format!("{}={}", shown(key), leaf(it))).collect();
    Some(cells.join(" "))
}

fn policy_field(map: &serde_json::Map<String, Value>) -> Option<String> {
    match (map.get("field")?, map.get("value")?, map.get("origin")?) {
        (Value::String(field), value, Value::String(origin)) if map.len() == 3 && is_leaf(value) => {
            Some(format!("{:<32} {:<24} {}", shown(field), leaf(value), shown(origin)))
        }
        _ => None,
    }
}

fn is_leaf(value: &Value) -> bool {
    !matches!(value, Value::Object(_) | Value::Array(_))
}

fn leaf(value: &Value) -> String {
    match value {
        Value::String(text) => shown(text),
        other => shown(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::EventKind;
    use crate::record::fixture::{self, CREATED_MS};
    use crate::task::Outcome;

    fn shown_page(change: impl FnOnce(&mut Run)) -> String {
        let mut run = fixture::ended(Outcome::OutOfMemory);
        change(&mut run);
        let event = Event { seq: 1, at_ms: CREATED_MS, kind: EventKind::Queued, detail: "{}".to_owned() };
        page(&run, &[event])
    }

    fn check(change: impl FnOnce(&mut Run), expected: &str) {
        let page = shown_page(change);
        assert!(page.lines().any(|it| it == expected), "{page}");
    }

    #[test]
    fn the_command_stands_as_it_was_asked() {
        check(|_| {}, "  command        sh -c 'exit \\xff' ''");
    }

    #[test]
    fn a_policys_field_is_one_line() {
        check(
            |run| {
                run.policy.effective =
                    r#"[{"field":"resources.memory","value":"1GiB","origin":"policy"}]"#.to_owned();
            },
            "  resources.memory                 1GiB                     policy",
        );
    }

    #[test]
    fn any_other_document_is_told_by_path() {
        check(|_| {}, "  resources.memory.value 1GiB");
    }

    #[test]
    fn a_list_of_objects_is_a_line_each() {
        let document =
            r#"{"mounts":[{"point":"/","kind":"overlay","size":null},{"point":"/tmp","size":"4k"}]}"#;
        check(|run| run.attestation = Some(document.to_owned()), "  mounts point=/ kind=overlay");
        check(|run| run.attestation = Some(document.to_owned()), "  mounts point=/tmp size=4k");
    }

    #[test]
    fn nothing_asked_for_says_so() {
        check(|run| run.policy.asked = "[]".to_owned(), "  nothing");
    }

    #[test]
    fn what_did_not_come_out_is_told() {
        check(|_| {}, "  report/fifo left out: not a file");
        check(|_| {}, "  nothing/* matched nothing");
    }

    #[test]
    fn what_changed_in_the_workspace_is_counted() {
        check(|_| {}, "  workspace      2 added, 1 modified, 0 deleted");
        check(|_| {}, "  left out       7 in caches and ignored paths, 1 that cannot be kept");
    }

    #[test]
    fn the_flag_that_helps_is_a_hint_of_its_own() {
        check(|_| {}, "  hint: run it again with `--memory 2GiB`");
    }

    #[test]
    fn events_are_told_in_order() {
        check(|_| {}, "  queued         2026-01-02T03:04:05.678Z");
    }

    #[test]
    fn nothing_of_a_page_acts_on_a_terminal() {
        let page = shown_page(|run| {
            run.name = Some("\x1b]0;x\x07".to_owned());
            run.policy.asked = r#"{"\u001b[2J":"\u202e"}"#.to_owned();
            run.task.image = "a\x1bb".to_owned();
        });
        assert!(!page.chars().any(|it| (it.is_control() && it != '\n') || it == '\u{202e}'), "{page:?}");
    }

    #[test]
    fn a_deep_document_is_cut() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(20), "}".repeat(20));
        check(|run| run.policy.asked = deep, "  a.a.a.a.a.a.a …");
    }
}
