//! A request as a run that the queue could take: every value read, every mistake with its field.

use std::collections::BTreeMap;

use crate::api::caller::Caller;
use crate::api::problem::Problem;
use crate::api::services::Asked;
use crate::api::wire::submit::{LimitsAskedJson, PolicyDocumentJson, ScheduleJson, SubmitJson};
use crate::api::workspaces;
use crate::intake::{cpus, duration, label, secret_name, size, variable};
use crate::policy::network::Rule;
use crate::policy::reference::Reference;
use crate::policy::{Overrides, Pull};
use crate::queue::{
    AFTER_MAX, ATTEMPTS_MAX, Concurrency, Dependency, Idempotency, PROCESS_LABEL, PolicySource, Schedule,
    Submission,
};
use crate::task::{OutputRequest, RunId};

/// The image of a run that names none.
const IMAGE_DEFAULT: &str = "aegis/base";
/// Milliseconds between SIGTERM and SIGKILL.
const GRACE_MS_DEFAULT: u64 = 2_000;
const GRACE_MS_MAX: u64 = 10 * 60 * 1000;
/// Attempts of a run that says nothing.
const ATTEMPTS_DEFAULT: u32 = 3;
/// Labels, variables, secrets, outputs and hosts of one run, each.
const LIST_MAX: usize = 256;
/// Bytes of a policy's document.
const POLICY_BYTES_MAX: usize = 256 * 1024;
const PRIORITIES: std::ops::RangeInclusive<i16> = -100..=100;

/// Reads a run; `ids` are those of its batch.
pub fn read(
    json: SubmitJson,
    id: RunId,
    caller: &Caller,
    idempotency: Option<Idempotency>,
    ids: &[RunId],
) -> Result<Asked, Problem> {
    let project = caller.project_for(json.project.as_deref())?;
    let labels =
        pairs("labels", &json.labels, |key, value| label::check(key, value).map_err(|it| it.to_string()))?;
    if let Some(name) = &json.name {
        label::plain(name).map_err(|it| Problem::field("name", it.to_string()))?;
    }
    let schedule = schedule(&json.schedule, ids)?;
    let name = json.name.clone();
    let submission = submission(json)?;
    let submitter = caller.name.clone();
    Ok(Asked { id, name, labels, project, submitter, submission, schedule, idempotency })
}

fn submission(json: SubmitJson) -> Result<Submission, Problem> {
    if json.command.first().is_none_or(String::is_empty) {
        return Err(Problem::field("command", "name a program and its arguments"));
    }
    if let Some(index) = json.command.iter().position(|it| it.contains('\0')) {
        let message = "it holds a NUL byte, which no program can be given";
        return Err(Problem::field(format!("command[{index}]"), message));
    }
    let image = json.image.unwrap_or_else(|| IMAGE_DEFAULT.to_owned());
    Reference::parse(&image).map_err(|it| Problem::field("image", it.to_string()))?;
    if json.workdir.as_ref().is_some_and(|it| it.is_empty() || it.contains('\0')) {
        return Err(Problem::field("workdir", "give a directory inside the sandbox, as /workspace/src"));
    }
    if let Some(digest) = &json.workspace {
        workspaces::hex_of(digest)?;
    }
    let secrets =
        list("secrets", &json.secrets, |it| secret_name::parse_request(it).map_err(|it| it.to_string()))?;
    let outputs = list("outputs", &json.outputs, |it| match it.is_empty() || it.contains('\0') {
        true => Err("give a path or a glob".to_owned()),
        false => Ok(OutputRequest { pattern: it.clone() }),
    })?;
    let allow_net = list("allow_net", &json.allow_net, |it| Rule::of_flag(it).map_err(|it| it.to_string()))?;
    Ok(Submission {
        policy: policy(json.policy, json.policy_document)?,
        overrides: Overrides {
            pull: json.pull.as_deref().map(pull).transpose()?,
            runtime: json.runtime.map(plain_runtime).transpose()?,
            allow_net,
            egress_audit: json.egress_audit,
            ..amounts(&json.limits)?
        },
        command: json.command.into_iter().map(String::into_bytes).collect(),
        image,
        workspace: json.workspace,
        workdir: json.workdir,
        environment: environment(&json.environment)?,
        secrets,
        outputs,
        keep_changes: json.keep_changes,
        grace_ms: grace(json.grace.as_deref())?,
        attached: None,
    })
}

/// Variables, each one that a program can be given.
pub fn environment(variables: &BTreeMap<String, String>) -> Result<Vec<(String, String)>, Problem> {
    pairs("environment", variables, |name, value| variable::check(name, value).map_err(|it| it.to_string()))
}

fn policy(name: Option<String>, document: Option<PolicyDocumentJson>) -> Result<PolicySource, Problem> {
    match (name, document) {
        (None, None) => Ok(PolicySource::Default),
        (Some(name), None) => Ok(PolicySource::Named(name)),
        (None, Some(document)) if document.text.len() > POLICY_BYTES_MAX => {
            Err(Problem::field("policy_document.text", format!("give at most {POLICY_BYTES_MAX} bytes")))
        }
        (None, Some(document)) => {
            label::plain(&document.name)
                .map_err(|it| Problem::field("policy_document.name", it.to_string()))?;
            Ok(PolicySource::Document { name: document.name, text: document.text })
        }
        (Some(_), Some(_)) => Err(Problem::field("policy", "give `policy` or `policy_document`, not both")),
    }
}

fn amounts(limits: &LimitsAskedJson) -> Result<Overrides, Problem> {
    let bytes = |field: &str, text: &Option<String>| {
        amount(field, text, |it| size::parse(it).map_err(|it| it.to_string()))
    };
    Ok(Overrides {
        memory_bytes: bytes("memory", &limits.memory)?,
        cpus_milli: amount("cpus", &limits.cpus, |it| cpus::parse(it).map_err(|it| it.to_string()))?,
        pids: limits.pids,
        tmp_bytes: bytes("tmp_size", &limits.tmp_size)?,
        workspace_bytes: bytes("workspace_size", &limits.workspace_size)?,
        output_bytes: bytes("output_limit", &limits.output_limit)?,
        wall_time_ms: amount("timeout", &limits.timeout, |it| {
            duration::parse(it).map_err(|it| it.to_string())
        })?,
        ..Overrides::NONE
    })
}

fn amount(
    field: &str,
    text: &Option<String>,
    parse: impl Fn(&str) -> Result<u64, String>,
) -> Result<Option<u64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    parse(text).map(Some).map_err(|message| Problem::field(format!("limits.{field}"), message))
}

fn pull(text: &str) -> Result<Pull, Problem> {
    match text {
        "never" => Ok(Pull::Never),
        "missing" => Ok(Pull::Missing),
        "always" => Ok(Pull::Always),
        _ => Err(Problem::field("pull", "give missing, never or always")),
    }
}

fn plain_runtime(text: String) -> Result<String, Problem> {
    label::plain(&text).map_err(|it| Problem::field("runtime", it.to_string()))
}

fn grace(text: Option<&str>) -> Result<u64, Problem> {
    let Some(text) = text else { return Ok(GRACE_MS_DEFAULT) };
    match duration::parse(text) {
        Ok(ms) if ms <= GRACE_MS_MAX => Ok(ms),
        Ok(_) => Err(Problem::field("grace", "give 10m or less")),
        Err(error) => Err(Problem::field("grace", error.to_string())),
    }
}

fn schedule(json: &ScheduleJson, ids: &[RunId]) -> Result<Schedule, Problem> {
    let wrong = |field: &str, message: String| Problem::field(format!("schedule.{field}"), message);
    if !PRIORITIES.contains(&json.priority) {
        return Err(wrong("priority", "give -100 to 100".to_owned()));
    }
    let attempts_max = json.attempts_max.unwrap_or(ATTEMPTS_DEFAULT);
    if !(1..=ATTEMPTS_MAX).contains(&attempts_max) {
        return Err(wrong("attempts_max", format!("give 1 to {ATTEMPTS_MAX}")));
    }
    if json.failure_retries > ATTEMPTS_MAX {
        return Err(wrong("failure_retries", format!("give 0 to {ATTEMPTS_MAX}")));
    }
    if json.after.len() > AFTER_MAX {
        return Err(wrong("after", format!("a run waits for {AFTER_MAX} others at the most")));
    }
    let mut after = Vec::with_capacity(json.after.len());
    for (index, one) in json.after.iter().enumerate() {
        let run = dependency(&one.run, ids).map_err(|it| wrong(&format!("after[{index}].run"), it))?;
        after.push(Dependency { run, success: one.success });
    }
    let concurrency = match &json.concurrency {
        None => None,
        Some(it) if it.limit == 0 => return Err(wrong("concurrency.limit", "give 1 or more".to_owned())),
        Some(it) => {
            let key = label::plain(&it.key).map_err(|error| wrong("concurrency.key", error.to_string()))?;
            Some(Concurrency { key, limit: it.limit })
        }
    };
    Ok(Schedule {
        priority: json.priority,
        not_before_ms: time("not_before", json.not_before.as_deref())?,
        deadline_ms: time("deadline", json.deadline.as_deref())?,
        concurrency,
        after,
        idempotent: json.idempotent,
        attempts_max,
        failure_retries: json.failure_retries,
        worker_labels: pairs("schedule.worker_labels", &json.worker_labels, |key, value| {
            if key == PROCESS_LABEL {
                return Err(format!("`{PROCESS_LABEL}` is the server's own: leave it out"));
            }
            label::check(key, value).map_err(|it| it.to_string())
        })?,
    })
}

fn dependency(text: &str, ids: &[RunId]) -> Result<RunId, String> {
    match text.strip_prefix('#') {
        None => text
            .parse()
            .map_err(|_| "give the whole id of a run, or `#N` for a member of the batch".to_owned()),
        Some(index) => {
            let member = index.parse::<usize>().ok().and_then(|it| ids.get(it));
            member.copied().ok_or_else(|| "the batch has no such member".to_owned())
        }
    }
}

fn time(field: &str, text: Option<&str>) -> Result<Option<i64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let parsed = text.parse::<jiff::Timestamp>();
    let wrong = |_| Problem::field(format!("schedule.{field}"), "write RFC 3339, as 2030-01-31T12:00:00Z");
    Ok(Some(parsed.map_err(wrong)?.as_millisecond()))
}

fn list<I, T>(field: &str, items: &[I], read: impl Fn(&I) -> Result<T, String>) -> Result<Vec<T>, Problem> {
    few(field, items.len())?;
    let mut found = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        found.push(read(item).map_err(|message| Problem::field(format!("{field}[{index}]"), message))?);
    }
    Ok(found)
}

fn pairs(
    field: &str,
    items: &BTreeMap<String, String>,
    check: impl Fn(&str, &str) -> Result<(), String>,
) -> Result<Vec<(String, String)>, Problem> {
    few(field, items.len())?;
    for (key, value) in items {
        check(key, value).map_err(|message| Problem::field(field, message))?;
    }
    Ok(items.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn few(field: &str, count: usize) -> Result<(), Problem> {
    if count > LIST_MAX {
        return Err(Problem::field(field, format!("give at most {LIST_MAX}")));
    }
    Ok(())
}
