//! The attack's part of the published JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::doctor::attack::{Assault, Tried};

/// What `--attack` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttackJson {
    /// Whether every probe was tried and stopped.
    pub held: bool,
    /// The image that the probes ran in.
    pub image: String,
    /// Milliseconds that it took.
    pub elapsed_ms: u64,
    /// The runs of the attack, by their short ids.
    pub runs: Vec<String>,
    /// Walls that a refused sandbox lacked.
    pub walls_down: Vec<WallJson>,
    /// One for each probe.
    pub probes: Vec<ProbeJson>,
}

/// A wall that a refused sandbox lacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WallJson {
    /// `seccomp`, `capabilities`, `no-new-privileges`, `user`, `filesystem`, `limits`, `devices`, `network`, `namespaces` or
    /// `engine`.
    pub wall: String,
    /// The runtime that did not raise it: `runc`, which `aegis run` uses, or the engine's default.
    pub runtime: String,
    /// What is missing of it.
    pub details: Vec<String>,
}

/// One probe and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeJson {
    /// Its check.
    pub id: String,
    /// What was tried.
    pub tried: String,
    /// `stopped`, `breach` or `not_tried`; the last is no pass.
    pub result: String,
    /// What stopped it, what was had, or why it could not be tried. Text from inside is escaped.
    pub detail: String,
    /// Items of the CIS Docker Benchmark 1.6.0 that it is evidence for.
    pub cis_docker: Vec<String>,
    /// Controls of the Kubernetes Pod Security Standards, level `restricted`.
    pub pod_security: Vec<String>,
    /// Countermeasures of NIST SP 800-190.
    pub nist_800_190: Vec<String>,
}

impl AttackJson {
    /// An attack, as it is published.
    pub fn of(assault: &Assault) -> Self {
        let wall = |it: &crate::doctor::attack::WallDown| WallJson {
            wall: it.wall.name().to_owned(),
            runtime: it.runtime.clone(),
            details: it.details.clone(),
        };
        Self {
            held: assault.held(),
            image: assault.image.clone(),
            elapsed_ms: assault.elapsed_ms,
            runs: assault.runs.clone(),
            walls_down: assault.walls_down.iter().map(wall).collect(),
            probes: assault.tried.iter().map(ProbeJson::of).collect(),
        }
    }
}

impl ProbeJson {
    fn of(tried: &Tried) -> Self {
        let listed = |items: &[&str]| items.iter().map(|it| (*it).to_owned()).collect();
        Self {
            id: tried.probe.id.to_owned(),
            tried: tried.probe.tried.to_owned(),
            result: tried.answer.name().to_owned(),
            detail: tried.answer.detail().to_owned(),
            cis_docker: listed(tried.probe.cis),
            pod_security: listed(tried.probe.pod),
            nist_800_190: listed(tried.probe.nist),
        }
    }
}
