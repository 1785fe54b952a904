//! What a person is told at the end of a run, line by line: the same words wherever it ran.

use std::path::Path;

use crate::record::{ChangeCounts, Dropped, Exposure, Kept, Run};
use crate::report::summary;
use crate::report::why::{Ended, remarks};
use crate::task::escape::escape;

/// Files with secrets that are named.
const EXPOSURES_SHOWN_MAX: usize = 5;
/// Dropped outputs that are named.
const DROPS_SHOWN_MAX: usize = 5;

/// A line for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// What happened.
    Note(String),
    /// What to do about it.
    Hint(String),
}

/// Everything that is told; nothing of a run that goes on.
pub fn lines(run: &Run) -> Vec<Said> {
    let Some(ended) = Ended::of(run) else { return Vec::new() };
    let (end, short) = (ended.end, run.id.short());
    let place = if run.project.is_some() { ", on the server" } else { "" };
    let mut notes = vec![format!("{}{place}", summary::line(run.id, end))];
    let remarks = remarks(&ended);
    notes.extend(remarks.lines.iter().cloned());
    let mut said: Vec<Said> = notes.into_iter().map(Said::Note).collect();
    said.extend(remarks.hint().map(Said::Hint));
    let mut notes = Vec::new();
    for pattern in &end.unmatched {
        notes.push(format!("the output `{}` is not there", escape(pattern.as_bytes())));
    }
    notes.extend(left_out(&end.dropped, end.dropped_count, &short));
    notes.extend(exposures(&end.exposures, &short));
    notes.extend(end.changes.iter().flat_map(|it| changes(it, &short)));
    // A directory of the server's is no place of the caller's.
    if let (Some(directory), None) = (&end.output_dir, &run.project) {
        notes.push(outputs_are_in(directory));
    }
    said.extend(notes.into_iter().map(Said::Note));
    said
}

/// What did not come out, of `count` things in all.
pub fn left_out(dropped: &[Dropped], count: u64, run: &str) -> Vec<String> {
    let mut notes = Vec::new();
    for drop in dropped.iter().take(DROPS_SHOWN_MAX) {
        notes.push(format!("the output `{}` was left out: {}", escape(&drop.path), drop.reason));
    }
    let rest = count.saturating_sub(DROPS_SHOWN_MAX as u64);
    if rest > 0 {
        notes.push(format!("{rest} more were left out: `aegis show {run}`"));
    }
    notes
}

/// Where it came out to.
pub fn outputs_are_in(directory: &Path) -> String {
    format!("outputs are in {}", directory.display())
}

fn exposures(exposures: &[Exposure], run: &str) -> Vec<String> {
    let mut notes = Vec::new();
    for Exposure { path, secret, kept } in exposures.iter().take(EXPOSURES_SHOWN_MAX) {
        let became = match kept {
            Kept::Out => "came out",
            Kept::In => "stayed in",
        };
        notes.push(format!("the file `{}` holds the secret `{secret}`, and {became}", escape(path)));
    }
    if exposures.len() > EXPOSURES_SHOWN_MAX {
        notes.push(format!("{} more: `aegis show --json {run}`", exposures.len() - EXPOSURES_SHOWN_MAX));
    }
    notes
}

fn changes(changes: &ChangeCounts, run: &str) -> Vec<String> {
    if let Some(failure) = &changes.failure {
        return vec![format!("what changed in the workspace could not be kept: {failure}")];
    }
    let mut notes = Vec::new();
    if changes.total() > 0 {
        notes.push(format!("`aegis diff {run}` shows the changes, `aegis apply {run}` brings them in"));
    }
    if !changes.complete {
        notes.push(format!("these are not all changes: `aegis diff {run}` says why"));
    }
    notes
}
