//! What a run would get, without running it: every field with its origin, and the engine's request.

use serde_json::{Value, json};

use crate::app::prepare::{Prepared, Unwalked, prepare_leniently};
use crate::app::{AppError, RunOrder, host, provision};
use crate::config::Directories;
use crate::config::trust::TrustStore;
use crate::container::{Engine, WorkspaceVolume};
use crate::docker::create;
use crate::policy::{Resolved, WorkspaceMedium, admit, canonical, judge};
use crate::record::WorkspaceRecord;
use crate::report::{self, result};
use crate::sandbox::attestation::outside;
use crate::sandbox::container_spec::{self, Shape};
use crate::sandbox::seccomp::{Filter, Profile};
use crate::sandbox::{enforceable, masks, slot, trust};

/// The version of the JSON object.
const SCHEMA: &str = "aegis.plan/1";

/// Every field, its value and where it comes from; then what was lowered, then what stands against the run.
pub fn as_text(order: &RunOrder) -> Result<String, AppError> {
    let directories = Directories::of_this_user()?;
    let prepared = prepared(order, &directories)?;
    let resolved = &prepared.resolved;
    let mut lines =
        vec![format!("policy {} ({})", resolved.policy_name, canonical::digest(&resolved.policy))];
    for it in &resolved.origins {
        lines.push(format!("{:<28} {:<24} {}", it.field.key().path, it.value, it.origin));
    }
    let settled = prepared.settled.iter();
    lines.extend(settled.map(|it| format!("{:<28} {:<24} {}", it.what, it.value, it.origin)));
    lines.extend(resolved.clipped.iter().map(|it| format!("lowered: {it}")));
    for denial in judge(&prepared.task, resolved, &prepared.runtime) {
        lines.push(format!("refused: {}: {}", denial.field.key().path, denial.message));
        lines.push(format!("hint: {}", denial.hint));
    }
    if let Some(filled) = workspace(&prepared)? {
        lines.extend(report::workspace::listed(&filled).iter().map(|it| format!("withheld: {it}")));
    }
    Ok(lines.join("\n"))
}

/// The same with the engine's request. The slot in it is the first one; a run takes the first that is free.
pub async fn as_json(order: &RunOrder) -> Result<Value, AppError> {
    let directories = Directories::of_this_user()?;
    let prepared = prepared(order, &directories)?;
    let resolved = &prepared.resolved;
    let denials = judge(&prepared.task, resolved, &prepared.runtime);
    let request = if denials.is_empty() { request(&prepared, &directories).await? } else { Value::Null };
    Ok(json!({
        "schema": SCHEMA,
        "policy": resolved.policy_name,
        "policy_digest": canonical::digest(&resolved.policy),
        "fields": fields(resolved),
        "task": prepared
            .settled
            .iter()
            .map(|it| json!({"what": it.what, "value": it.value, "origin": it.origin}))
            .collect::<Vec<_>>(),
        "lowered": resolved.clipped.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "refused": denials
            .iter()
            .map(|it| json!({"field": it.field.key().path, "message": it.message, "hint": it.hint}))
            .collect::<Vec<_>>(),
        "workspace": workspace(&prepared)?.map(|it| result::workspace(&it)),
        "engine_request": request,
    }))
}

fn prepared(order: &RunOrder, directories: &Directories) -> Result<Prepared, AppError> {
    prepare_leniently(order, &host::amounts(&directories.state), &TrustStore::of(&directories.state))
}

/// How the workspace would be filled; `None` without one, and where policy stands against the run.
fn workspace(prepared: &Prepared) -> Result<Option<WorkspaceRecord>, AppError> {
    if !judge(&prepared.task, &prepared.resolved, &prepared.runtime).is_empty() {
        return Ok(None);
    }
    Ok(Unwalked::of(prepared).walk()?.0.map(|it| it.record(&prepared.task)))
}

fn fields(resolved: &Resolved) -> Vec<Value> {
    let fields = resolved.origins.iter();
    fields
        .map(|it| json!({"field": it.field.key().path, "value": it.value, "origin": it.origin.to_string()}))
        .collect()
}

async fn request(prepared: &Prepared, directories: &Directories) -> Result<Value, AppError> {
    let engine = provision::connect().await?;
    let facts = engine.facts().await?;
    let image = engine.image(&prepared.task.image).await?;
    let admitted =
        admit(&prepared.task, &prepared.resolved, &image.id, &prepared.runtime).map_err(AppError::Denied)?;
    let filter = Filter::new(Profile::of(admitted.policy()));
    let (masked, read_only) = (masks::masked_paths(outside::cpus()), masks::readonly_paths());
    let uid = if enforceable::maps_users(&facts) { enforceable::MAPPED_UID } else { slot::UID_FIRST };
    let layers = directories.work()?.join("runs/0.0");
    let volume = WorkspaceVolume {
        point: container_spec::WORKSPACE.to_owned(),
        lower: layers.join("lower"),
        upper: layers.join("upper"),
        work: layers.join("work"),
    };
    let on_disk = admitted.policy().filesystem.workspace == WorkspaceMedium::Disk;
    let inner = directories.runtime.join("slots/0/in");
    let inspects = admitted.policy().network.inspects_tls();
    let bundles = if inspects { trust::bundles(&inner) } else { Vec::new() };
    let shape = Shape {
        policy: admitted.policy(),
        policy_digest: admitted.digest(),
        image: &image,
        instance: &directories.instance,
        slot: 0,
        uid,
        slot_directory: &inner,
        bundles: &bundles,
        workspace: on_disk.then_some(&volume),
        runtime: admitted.runtime(),
        seccomp: filter.document(),
        masked_paths: &masked.iter().map(String::as_str).collect::<Vec<_>>(),
        readonly_paths: &read_only.iter().map(String::as_str).collect::<Vec<_>>(),
        nofile_max: host::nofile_max(),
    };
    let spec =
        container_spec::container_spec(&shape).map_err(|it| AppError::Unenforceable(vec![it.to_string()]))?;
    Ok(serde_json::to_value(create::body(&spec)).unwrap_or(Value::Null))
}
