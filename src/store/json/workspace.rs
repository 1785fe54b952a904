//! The column that says how a workspace was filled.

use serde::{Deserialize, Serialize};

use crate::record::{Withheld, WorkspaceRecord};
use crate::store::json::{text, value};
use crate::task::GitHistory;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FactsJson {
    git: String,
    included: Vec<String>,
    withheld: Vec<WithheldJson>,
    withheld_count: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WithheldJson {
    path_hex: String,
    reason: String,
    in_history: bool,
}

pub(crate) fn workspace_text(workspace: &WorkspaceRecord) -> Result<String, serde_json::Error> {
    let withheld = workspace.withheld.iter().map(|it| WithheldJson {
        path_hex: hex::encode(&it.path),
        reason: it.reason.clone(),
        in_history: it.in_history,
    });
    text(&FactsJson {
        git: workspace.git.word().to_owned(),
        included: workspace.included.clone(),
        withheld: withheld.collect(),
        withheld_count: workspace.withheld_count,
    })
}

pub(crate) fn workspace(text: &str) -> Option<WorkspaceRecord> {
    let it: FactsJson = value(text)?;
    let mut withheld = Vec::with_capacity(it.withheld.len());
    for entry in it.withheld {
        let path = hex::decode(entry.path_hex).ok()?;
        withheld.push(Withheld { path, reason: entry.reason, in_history: entry.in_history });
    }
    Some(WorkspaceRecord {
        git: GitHistory::of_word(&it.git)?,
        included: it.included,
        withheld,
        withheld_count: it.withheld_count,
    })
}
