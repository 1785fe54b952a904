//! The engine and how it is set up.

use crate::container::description::EngineDescription;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Area, Finding};
use crate::report::amount;

/// The runtime that `strict` names.
const RUNTIME: &str = "runc";
/// Drivers that share layers between containers and whose unpacking is not on a loop device.
const DRIVERS: [&str; 7] =
    ["overlay2", "overlayfs", "fuse-overlayfs", "btrfs", "zfs", "stargz", "overlay2-containerd"];
/// Bytes below which the engine's disk is nearly full.
const SPACE_BYTES_MIN: u64 = 1 << 30;

pub fn judge(facts: &Facts, engine: &EngineDescription, findings: &mut Vec<Finding>) {
    findings.push(answers(facts, engine));
    findings.push(storage(engine));
    findings.push(runtime(engine));
    findings.push(default_runtime(engine));
    findings.push(live_restore(engine));
    findings.push(space(facts));
}

fn answers(facts: &Facts, engine: &EngineDescription) -> Finding {
    let (major, minor) = engine.facts.api_version;
    let place = facts.socket.as_ref().map_or_else(String::new, |it| format!(" at {}", it.path.display()));
    let seen = format!("{}, API {major}.{minor}{place}", engine.facts.description);
    Finding::ok(Area::Engine, "engine.answers", seen)
}

fn storage(engine: &EngineDescription) -> Finding {
    let (area, id, driver) = (Area::Engine, "engine.storage_driver", engine.storage_driver.as_str());
    if DRIVERS.contains(&driver) {
        return Finding::ok(area, id, driver);
    }
    Finding::weak(
        area,
        id,
        if driver.is_empty() { "unknown: the engine does not tell" } else { driver },
        "other drivers are slow, copy whole images for each container, or are no longer maintained",
        "set `\"storage-driver\": \"overlay2\"` in /etc/docker/daemon.json (existing images have to be built again)",
    )
}

fn runtime(engine: &EngineDescription) -> Finding {
    let (area, id) = (Area::Engine, "engine.runtimes");
    let listed = engine.facts.runtimes.join(", ");
    if engine.facts.runtimes.iter().any(|it| it == RUNTIME) {
        return Finding::ok(area, id, listed);
    }
    Finding::fail(
        area,
        id,
        format!("no `{RUNTIME}` among: {listed}"),
        "`strict` accepts sandboxes of runc only, so every run is refused",
        "install runc where the engine finds it, or name another provable runtime in a policy and with `--runtime`",
    )
}

fn default_runtime(engine: &EngineDescription) -> Finding {
    let (area, id, name) = (Area::Engine, "engine.default_runtime", engine.default_runtime.as_str());
    if name == RUNTIME {
        return Finding::ok(area, id, name);
    }
    Finding::weak(
        area,
        id,
        if name.is_empty() { "unknown: the engine does not tell" } else { name },
        "Aegis asks for `runc` by name and is not touched by it; every other container of this engine runs under it",
        "make sure that you chose it: `\"default-runtime\"` in /etc/docker/daemon.json",
    )
}

fn live_restore(engine: &EngineDescription) -> Finding {
    let (area, id) = (Area::Engine, "engine.live_restore");
    match engine.live_restore {
        Some(true) => Finding::ok(area, id, "on"),
        told => Finding::weak(
            area,
            id,
            if told.is_some() { "off" } else { "unknown: the engine does not tell" },
            "when the engine is restarted or updated, every running task ends as `lost`",
            "set `\"live-restore\": true` in /etc/docker/daemon.json",
        ),
    }
}

fn space(facts: &Facts) -> Finding {
    let (area, id) = (Area::Engine, "engine.space");
    let Some(space) = facts.engine_space else {
        return Finding::weak(
            area,
            id,
            "unknown: the engine's directory cannot be seen from this account",
            "an engine whose disk is full makes no container",
            "look as root: `df -h` on the directory that `docker info` names as Docker Root Dir",
        );
    };
    let seen = format!("{} free", amount::bytes(space.bytes));
    if space.bytes < SPACE_BYTES_MIN {
        return Finding::weak(
            area,
            id,
            seen,
            "an engine whose disk is full makes no container and builds no image",
            "free some space: `docker system df` shows what takes it",
        );
    }
    Finding::ok(area, id, seen)
}
