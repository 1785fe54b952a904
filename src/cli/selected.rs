//! The run that a person named on the command line.

use crate::app::AppError;
use crate::cli::failure::Failure;
use crate::config::Directories;
use crate::record::egress::Entry;
use crate::record::{Found, Record, Run};
use crate::store::Store;
use crate::task::ExitCode;
use crate::task::run_id::RunSelector;

/// Looks a run up by what was typed.
pub async fn run(text: &str, directories: &Directories) -> Result<Run, Failure> {
    let selector: RunSelector = text.parse().map_err(|it| Failure::usage(Failure::of(&it).message))?;
    let store = Store::open(&directories.state).await.map_err(|it| Failure::from(AppError::from(it)))?;
    let found = store.find(&selector).await;
    store.close().await;
    match found.map_err(|it| Failure::from(AppError::from(it)))? {
        Found::Run(run) => Ok(*run),
        Found::Nothing => Err(Failure::new(format!("no run `{text}` is recorded here"))
            .hint("`aegis ps --all` lists every run of this user")
            .with_exit_code(ExitCode::FAILURE)),
        Found::Ambiguous(runs) => {
            let mut failure = Failure::new(format!("`{text}` names {} runs", runs.len()));
            failure.causes = runs.iter().map(ToString::to_string).collect();
            Err(failure.hint("give the whole id of one of them").with_exit_code(ExitCode::FAILURE))
        }
    }
}

/// The same with the ledger of its way out.
pub async fn run_with_ledger(text: &str) -> Result<(Run, Vec<Entry>), Failure> {
    let directories = Directories::of_this_user().map_err(|it| Failure::from(AppError::from(it)))?;
    let run = run(text, &directories).await?;
    let store = Store::open(&directories.state).await.map_err(|it| Failure::from(AppError::from(it)))?;
    let entries = store.egress(run.id).await;
    store.close().await;
    Ok((run, entries.map_err(|it| Failure::from(AppError::from(it)))?))
}

/// What to say of a run that has ended when it would have to be going on.
pub fn ended(run: &Run) -> Failure {
    let outcome = run.end.as_ref().map(|it| it.outcome.to_string()).unwrap_or_default();
    Failure::new(format!("run {} has ended: {outcome}", run.id.short()))
}
