//! The column that holds what a worker needs of a submitted run.

use serde::{Deserialize, Serialize};

use crate::policy::network::Rule;
use crate::policy::{Overrides, Pull};
use crate::queue::{Attached, PolicySource, Submission};
use crate::store::json::{text, value};
use crate::task::{OutputRequest, SecretPlace, SecretRequest};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubmissionJson {
    policy: PolicyJson,
    overrides: OverridesJson,
    command_hex: Vec<String>,
    image: String,
    workspace: Option<String>,
    workdir: Option<String>,
    /// Not there once the run has ended.
    #[serde(default)]
    environment: Vec<(String, String)>,
    secrets: Vec<SecretJson>,
    outputs: Vec<String>,
    keep_changes: bool,
    grace_ms: u64,
    attached: Option<AttachedJson>,
    /// Something of it is a secret that no record may hold: nothing of it is kept once its run has ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unrepeatable: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "from", rename_all = "snake_case")]
enum PolicyJson {
    Default {},
    Named { name: String },
    Document { name: String, text: String },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OverridesJson {
    memory_bytes: Option<u64>,
    cpus_milli: Option<u64>,
    pids: Option<u64>,
    tmp_bytes: Option<u64>,
    workspace_bytes: Option<u64>,
    output_bytes: Option<u64>,
    wall_time_ms: Option<u64>,
    pull: Option<PullJson>,
    runtime: Option<String>,
    allow_net: Vec<String>,
    egress_audit: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PullJson {
    Never,
    Missing,
    Always,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "place", rename_all = "snake_case")]
enum SecretJson {
    File { name: String, file: String },
    Variable { name: String, variable: String },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "streams", rename_all = "snake_case")]
enum AttachedJson {
    Output {},
    Both {},
    Terminal { rows: u16, columns: u16 },
}

/// What becomes of a submission when its run has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// It is kept without its environment.
    Kept,
    /// It is forgotten: it holds what no record may hold.
    Forgotten,
}

/// A rule of a flag has one host and one port; another one cannot be written down here.
#[derive(Debug, thiserror::Error)]
#[error("a rule of `--allow-net` is more than a host and a port")]
struct RuleError;

pub(crate) fn submission_text(
    submission: &Submission,
    afterwards: Afterwards,
) -> Result<String, serde_json::Error> {
    let Submission {
        policy,
        overrides,
        command,
        image,
        workspace,
        workdir,
        environment,
        secrets,
        outputs,
        keep_changes,
        grace_ms,
        attached,
    } = submission;
    let policy = match policy.clone() {
        PolicySource::Default => PolicyJson::Default {},
        PolicySource::Named(name) => PolicyJson::Named { name },
        PolicySource::Document { name, text } => PolicyJson::Document { name, text },
    };
    text(&SubmissionJson {
        policy,
        overrides: overrides_json(overrides)?,
        command_hex: command.iter().map(hex::encode).collect(),
        image: image.clone(),
        workspace: workspace.clone(),
        workdir: workdir.clone(),
        environment: environment.clone(),
        secrets: secrets.iter().map(secret_json).collect(),
        outputs: outputs.iter().map(|it| it.pattern.clone()).collect(),
        keep_changes: *keep_changes,
        grace_ms: *grace_ms,
        attached: attached.map(|it| match it {
            Attached::Output => AttachedJson::Output {},
            Attached::Both => AttachedJson::Both {},
            Attached::Terminal { rows, columns } => AttachedJson::Terminal { rows, columns },
        }),
        unrepeatable: afterwards == Afterwards::Forgotten,
    })
}

pub(crate) fn submission(text: &str) -> Option<Submission> {
    let it: SubmissionJson = value(text)?;
    let mut command = Vec::with_capacity(it.command_hex.len());
    for argument in it.command_hex {
        command.push(hex::decode(argument).ok()?);
    }
    Some(Submission {
        policy: match it.policy {
            PolicyJson::Default {} => PolicySource::Default,
            PolicyJson::Named { name } => PolicySource::Named(name),
            PolicyJson::Document { name, text } => PolicySource::Document { name, text },
        },
        overrides: overrides(it.overrides)?,
        command,
        image: it.image,
        workspace: it.workspace,
        workdir: it.workdir,
        environment: it.environment,
        secrets: it.secrets.into_iter().map(secret).collect(),
        outputs: it.outputs.into_iter().map(|pattern| OutputRequest { pattern }).collect(),
        keep_changes: it.keep_changes,
        grace_ms: it.grace_ms,
        attached: it.attached.map(|it| match it {
            AttachedJson::Output {} => Attached::Output,
            AttachedJson::Both {} => Attached::Both,
            AttachedJson::Terminal { rows, columns } => Attached::Terminal { rows, columns },
        }),
    })
}

fn overrides_json(overrides: &Overrides) -> Result<OverridesJson, serde_json::Error> {
    let it = overrides.clone();
    let mut allow_net = Vec::with_capacity(it.allow_net.len());
    for rule in &it.allow_net {
        let port = match rule.ports.as_slice() {
            [port] => port.one(),
            _ => None,
        };
        match port {
            Some(port) if *rule == Rule::pass_through(rule.host.clone(), port) => {
                allow_net.push(format!("{}:{port}", rule.host));
            }
            Some(_) | None => return Err(serde::ser::Error::custom(RuleError)),
        }
    }
    Ok(OverridesJson {
        memory_bytes: it.memory_bytes,
        cpus_milli: it.cpus_milli,
        pids: it.pids,
        tmp_bytes: it.tmp_bytes,
        workspace_bytes: it.workspace_bytes,
        output_bytes: it.output_bytes,
        wall_time_ms: it.wall_time_ms,
        pull: it.pull.map(|it| match it {
            Pull::Never => PullJson::Never,
            Pull::Missing => PullJson::Missing,
            Pull::Always => PullJson::Always,
        }),
        runtime: it.runtime,
        allow_net,
        egress_audit: it.egress_audit,
    })
}

fn overrides(it: OverridesJson) -> Option<Overrides> {
    let mut allow_net = Vec::with_capacity(it.allow_net.len());
    for rule in &it.allow_net {
        allow_net.push(Rule::of_flag(rule).ok()?);
    }
    Some(Overrides {
        memory_bytes: it.memory_bytes,
        cpus_milli: it.cpus_milli,
        pids: it.pids,
        tmp_bytes: it.tmp_bytes,
        workspace_bytes: it.workspace_bytes,
        output_bytes: it.output_bytes,
        wall_time_ms: it.wall_time_ms,
        pull: it.pull.map(|it| match it {
            PullJson::Never => Pull::Never,
            PullJson::Missing => Pull::Missing,
            PullJson::Always => Pull::Always,
        }),
        runtime: it.runtime,
        allow_net,
        egress_audit: it.egress_audit,
    })
}

fn secret_json(secret: &SecretRequest) -> SecretJson {
    let name = secret.name.clone();
    match secret.place.clone() {
        SecretPlace::File(file) => SecretJson::File { name, file },
        SecretPlace::Variable(variable) => SecretJson::Variable { name, variable },
    }
}

fn secret(json: SecretJson) -> SecretRequest {
    match json {
        SecretJson::File { name, file } => SecretRequest { name, place: SecretPlace::File(file) },
        SecretJson::Variable { name, variable } => {
            SecretRequest { name, place: SecretPlace::Variable(variable) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::fixture;

    #[test]
    fn a_submission_is_read_back_exactly() {
        let mut given = fixture::submission();
        for attached in [
            None,
            Some(Attached::Output),
            Some(Attached::Both),
            Some(Attached::Terminal { rows: 24, columns: 80 }),
        ] {
            given.attached = attached;
            let text = submission_text(&given, Afterwards::Kept).expect("it encodes");
            assert_eq!(submission(&text), Some(given.clone()));
        }
        for policy in [PolicySource::Default, PolicySource::Named("ci".to_owned())] {
            given.policy = policy;
            let text = submission_text(&given, Afterwards::Kept).expect("it encodes");
            assert_eq!(submission(&text), Some(given.clone()));
        }
    }

    #[test]
    fn a_rule_that_no_flag_makes_is_refused() {
        let mut given = fixture::submission();
        given.overrides.allow_net[0].private = true;
        assert!(submission_text(&given, Afterwards::Kept).is_err());
    }
}
