//! What a server's run changed in its workspace, brought to where the changes of a run of this process are kept: `aegis diff`
//! and `aegis apply` find it here, for the directory that the run was given a copy of.

use tokio::sync::mpsc;

use crate::api::wire::attach::{EndJson, SaidJson};
use crate::app::AppError;
use crate::app::changes::{Given, bring as keep};
use crate::cli::client::{Client, runs};
use crate::cli::diff;
use crate::cli::failure::Failure;
use crate::config::Directories;
use crate::executor::{Control, control};
use crate::report::json::ChangesJson;
use crate::sandbox::changes::{ChangeSet, Verb};

/// Fetches and keeps the changes, and makes `end` tell if that failed.
pub async fn bring(client: &Client, given: Given, wished: &mut mpsc::Receiver<Control>, end: &mut EndJson) {
    let run = end.run.id.clone();
    let Some(told) = &mut end.run.changes else { return };
    if told.failure.is_some() {
        return;
    }
    let brought = tokio::select! {
        brought = brought(client, given, &run) => brought,
        by = control::cancelled(wished) => Err(Failure::new(format!("cancelled ({by})"))),
    };
    match brought {
        Ok(set) => recount(told, &set),
        Err(failure) => {
            told.failure = Some(failure.message.clone());
            let text = format!("what changed in the workspace is not here: {}", failure.message);
            end.told.push(SaidJson { is_hint: false, text });
            let text = format!("the server has it: `aegis diff --server … {}`", end.run.short_id);
            end.told.push(SaidJson { is_hint: true, text });
        }
    }
}

async fn brought(client: &Client, given: Given, run: &str) -> Result<ChangeSet, Failure> {
    let id = runs::told(run)?;
    let directories = Directories::of_this_user().map_err(|it| Failure::from(AppError::from(it)))?;
    let parcel = client.parcel(run).await?;
    let kept = tokio::task::spawn_blocking(move || keep(id, parcel, &given, &directories));
    kept.await.map_err(|it| Failure::of(&it))?.map_err(diff::failure)
}

/// What the project leaves out was counted by a server that does not know it.
fn recount(told: &mut ChangesJson, set: &ChangeSet) {
    let count = |verb| set.changes.iter().filter(|it| it.verb() == verb).count() as u64;
    (told.added, told.modified, told.deleted) =
        (count(Verb::Added), count(Verb::Modified), count(Verb::Deleted));
    told.left_out = set.left_out;
}
