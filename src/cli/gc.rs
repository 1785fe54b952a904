//! `aegis gc`: remove what dead owners left behind and what is past its retention.

use clap::Args;

use crate::app::provision;
use crate::app::sweep::{Mode, Swept, sweep};
use crate::cli::{CommandResult, attached, print, talk};
use crate::config::Directories;
use crate::config::operator::Operator;
use crate::report::amount;
use crate::store::{Store, are_elsewhere};
use crate::task::ExitCode;

/// Remove what dead owners left behind, and what is past its retention.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Only list what would be removed
    #[arg(long)]
    dry_run: bool,

    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Sweeps, and says what went.
pub fn cmd_gc(args: &GcArgs) -> CommandResult {
    let mode = if args.dry_run { Mode::List } else { Mode::Remove };
    let swept = attached::wait(async {
        let directories = Directories::of_this_user()?;
        let retention = Operator::of_this_user()?.retention;
        let engine = provision::connect().await?;
        if are_elsewhere(&directories.state) {
            talk::note(
                "the records are on a PostgreSQL server: what its runs left is let go of by `aegis serve`",
            );
            return sweep(&engine, None, &directories, &retention, mode).await;
        }
        let store = Store::open(&directories.state).await?;
        let swept = sweep(&engine, Some(&store), &directories, &retention, mode).await;
        store.close().await;
        swept
    })?;
    print::data(&if args.json { json(&swept, mode) } else { lines(&swept, mode) })?;
    Ok(ExitCode::SUCCESS)
}

fn lines(swept: &Swept, mode: Mode) -> String {
    let (removed, ended, freed) = match mode {
        Mode::Remove => ("removed", "ended", "freed"),
        Mode::List => ("would remove", "would end", "would free"),
    };
    let mut lines = Vec::new();
    lines.extend(swept.containers.iter().map(|it| format!("{removed} container {it}")));
    lines.extend(swept.slots.iter().map(|it| format!("{removed} slot {it}")));
    lines.extend(swept.workspaces.iter().map(|it| format!("{removed} workspace {it}")));
    lines.extend(swept.snapshots.iter().map(|it| format!("{removed} snapshot {it}")));
    lines.extend(swept.sockets.iter().map(|it| format!("{removed} socket {it}")));
    lines.extend(
        swept.runs_ended.iter().map(|it| format!("{ended} run {} as lost: its owner is gone", it.short())),
    );
    lines.extend(swept.runs_forgotten.iter().map(|it| format!("{removed} run {} and its log", it.short())));
    lines.extend(swept.logs.iter().map(|it| format!("{removed} the log of run {}", it.short())));
    lines.extend(swept.changes.iter().map(|it| format!("{removed} the changes of run {}", it.short())));
    lines.extend(swept.artifacts.iter().map(|it| format!("{removed} outputs of run {}", it.short())));
    lines.extend(swept.uploads.iter().map(|it| format!("{removed} upload {it}")));
    lines.extend(swept.images.iter().map(|it| format!("{removed} image {it}")));
    lines.push(format!("{freed} {}", amount::bytes(swept.bytes_freed)));
    lines.join("\n")
}

fn json(swept: &Swept, mode: Mode) -> String {
    let ids = |runs: &[crate::task::RunId]| runs.iter().map(ToString::to_string).collect::<Vec<_>>();
    serde_json::json!({
        "dry_run": mode == Mode::List,
        "containers": swept.containers,
        "slots": swept.slots,
        "workspaces": swept.workspaces,
        "snapshots": swept.snapshots,
        "sockets": swept.sockets,
        "runs_ended": ids(&swept.runs_ended),
        "runs_forgotten": ids(&swept.runs_forgotten),
        "logs": ids(&swept.logs),
        "changes": ids(&swept.changes),
        "artifacts": ids(&swept.artifacts),
        "uploads": swept.uploads,
        "images": swept.images,
        "bytes_freed": swept.bytes_freed,
    })
    .to_string()
}
