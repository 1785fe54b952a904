//! `aegis apply`: brings what a run changed into the caller's tree, all of it or nothing.

use std::ffi::OsString;

use clap::Args;

use crate::app::changes::ChangesError;
use crate::cli::diff::{PlaceArgs, changes_of, failure, paths};
use crate::cli::failure::Failure;
use crate::cli::{CommandResult, print, talk};
use crate::report::diff::quoted;
use crate::sandbox::changes::Verb;
use crate::sandbox::changes::apply::{Applied, ApplyError, Plan};
use crate::task::ExitCode;
use crate::task::escape::escape;

/// Conflicts that are named.
const CONFLICTS_SHOWN_MAX: usize = 50;

/// Skipped paths that are named.
const HELD_SHOWN_MAX: usize = 20;

/// Bring what a run changed into its workspace's directory: all of it, or nothing where anything stands against it.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The run, by the last 12 digits of its id or all of it
    #[arg(value_name = "RUN")]
    run: String,

    #[command(flatten)]
    place: PlaceArgs,

    /// Only these paths, relative to the workspace, and what lies below them; what is skipped unless named is named here
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,

    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Brings the changes in.
pub fn cmd_apply(args: &ApplyArgs) -> CommandResult {
    let changes = changes_of(&args.run, &args.place)?;
    let named = paths(&args.paths, &changes)?;
    // Read while no other thread could make a file.
    let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustix::process::umask(umask);
    let plan = changes.plan(&named, umask.as_raw_mode()).map_err(refused)?;
    if let Some(missing) = plan.unmatched.first() {
        return Err(Failure::usage(format!("the run changed nothing at `{}`", escape(missing)))
            .hint("`aegis diff RUN --name-status` lists what it changed"));
    }
    if !plan.conflicts.is_empty() {
        return Err(conflicts(&plan));
    }
    for (path, reason) in plan.held.iter().take(HELD_SHOWN_MAX) {
        talk::note(&format!("`{}` is skipped: {reason}", escape(path)));
    }
    if plan.held.len() > HELD_SHOWN_MAX {
        talk::note(&format!("{} more are skipped", plan.held.len() - HELD_SHOWN_MAX));
    }
    if !plan.held.is_empty() {
        talk::hint("name a skipped path after the run to bring it in as well");
    }
    if args.dry_run {
        print::bytes(listed(&plan).as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let applied = without_interruption(|| changes.carry_out(&plan))?;
    talk::note(&summary(&applied.map_err(refused)?, plan.already));
    Ok(ExitCode::SUCCESS)
}

/// Runs something that a Ctrl-C must not cut in two: a signal that comes meanwhile is not obeyed.
fn without_interruption<T>(action: impl FnOnce() -> T) -> Result<T, Failure> {
    use tokio::signal::unix::{SignalKind, signal};

    let runtime = crate::cli::attached::runtime()?;
    let _entered = runtime.enter();
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let mut taken = Vec::new();
    for kind in kinds {
        taken.push(signal(kind).map_err(|it| Failure::of(&it))?);
    }
    let result = action();
    drop(taken);
    Ok(result)
}

fn listed(plan: &Plan<'_>) -> String {
    let mut text = String::new();
    for change in plan.changes() {
        let letter = match change.verb() {
            Verb::Added => 'A',
            Verb::Modified => 'M',
            Verb::Deleted => 'D',
        };
        text.push_str(&format!("{letter}\t{}\n", quoted("", &change.path)));
    }
    text
}

fn conflicts(plan: &Plan<'_>) -> Failure {
    let count = plan.conflicts.len();
    let mut failure =
        Failure::new(format!("nothing was applied: {count} of the changes cannot be brought in"));
    failure.causes = plan
        .conflicts
        .iter()
        .take(CONFLICTS_SHOWN_MAX)
        .map(|it| format!("`{}`: {}", escape(&it.path), it.why))
        .collect();
    if count > CONFLICTS_SHOWN_MAX {
        failure.causes.push(format!("and {} more", count - CONFLICTS_SHOWN_MAX));
    }
    failure
        .hint("name the paths that you want after the run, or put these back as they were")
        .hint("`aegis diff RUN PATH` shows a change; as a patch it can be merged by hand: `aegis diff RUN PATH | git apply --3way`")
}

fn refused(error: ChangesError) -> Failure {
    let hint = match &error {
        ChangesError::Apply(ApplyError::Incomplete { .. }) => Some(
            "name the paths that you want after the run, or run again with a policy file that raises the limit",
        ),
        ChangesError::Apply(ApplyError::OtherRoot) => Some(
            "put the directory back where it was, or take the changes as a patch: `aegis diff RUN | git apply`",
        ),
        ChangesError::Apply(ApplyError::Failed { .. }) => Some(
            "see that nothing else writes to the workspace, and that its directories may be written; then apply again",
        ),
        _ => None,
    };
    let failure = failure(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn summary(applied: &Applied, already: u64) -> String {
    let Applied { added, modified, deleted, directories_left } = applied;
    let mut text = format!("applied: {added} added, {modified} modified, {deleted} deleted");
    if already > 0 {
        text.push_str(&format!(", {already} were so already"));
    }
    for path in directories_left.iter().take(5) {
        text.push_str(&format!("; `{}` stays, it holds more than the run was given", escape(path)));
    }
    text
}
