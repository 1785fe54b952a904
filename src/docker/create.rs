//! The one shape of container: [`ContainerSpec`] as the engine's create request.
//!
//! Every field that could widen the sandbox is said, also where the engine's default would do, so that the
//! inspection can be compared field by field.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountType, MountVolumeOptions,
    MountVolumeOptionsDriverConfig, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use serde_json::Value;

use crate::container::{ContainerSpec, Tmpfs, WorkspaceVolume};

/// Nanoseconds of CPU time per second in a thousandth of a CPU.
const NANO_CPUS_PER_MILLI: u64 = 1_000_000;

/// The request for a sandbox's container.
pub fn body(spec: &ContainerSpec) -> ContainerCreateBody {
    ContainerCreateBody {
        hostname: Some(spec.hostname.clone()),
        domainname: Some(String::new()),
        user: Some(format!("{}:{}", spec.uid, spec.gid)),
        attach_stdin: Some(false),
        attach_stdout: Some(false),
        attach_stderr: Some(false),
        tty: Some(false),
        open_stdin: Some(false),
        stdin_once: Some(true),
        env: Some(spec.blanked_environment.iter().map(|it| format!("{it}=")).collect()),
        cmd: Some(Vec::new()),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        image: Some(spec.image_id.clone()),
        working_dir: Some("/".to_owned()),
        entrypoint: Some(spec.entrypoint.clone()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        stop_signal: Some("SIGKILL".to_owned()),
        stop_timeout: Some(0),
        host_config: Some(host_config(spec)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(spec: &ContainerSpec) -> HostConfig {
    HostConfig {
        memory: Some(signed(spec.memory_bytes)),
        memory_swap: Some(signed(spec.memory_bytes)),
        oom_kill_disable: Some(false),
        nano_cpus: Some(signed(spec.cpus_milli * NANO_CPUS_PER_MILLI)),
        pids_limit: Some(signed(spec.pids)),
        ulimits: Some(ulimits(spec)),
        devices: Some(Vec::new()),
        device_cgroup_rules: Some(Vec::new()),
        device_requests: Some(Vec::new()),
        binds: Some(Vec::new()),
        volumes_from: Some(Vec::new()),
        links: Some(Vec::new()),
        extra_hosts: Some(Vec::new()),
        group_add: Some(Vec::new()),
        cap_add: Some(Vec::new()),
        cap_drop: Some(vec!["ALL".to_owned()]),
        mounts: Some(mounts(spec)),
        tmpfs: Some(spec.tmpfs.iter().map(|it| (it.point.clone(), tmpfs_options(it, spec))).collect()),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: Some(HashMap::new()) }),
        network_mode: Some("none".to_owned()),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: Some(0),
        }),
        auto_remove: Some(true),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        dns: Some(vec!["127.0.0.1".to_owned()]),
        dns_options: Some(vec!["ndots:1".to_owned(), "timeout:1".to_owned(), "attempts:1".to_owned()]),
        dns_search: Some(vec![".".to_owned()]),
        // A namespace of its own like `private`, without the engine's `/dev/shm`: ours is limited in inodes too.
        ipc_mode: Some("none".to_owned()),
        pid_mode: Some(String::new()),
        uts_mode: Some(String::new()),
        userns_mode: Some(String::new()),
        cgroup_parent: Some(String::new()),
        oom_score_adj: Some(0),
        privileged: Some(false),
        publish_all_ports: Some(false),
        readonly_rootfs: Some(true),
        init: Some(false),
        security_opt: Some(vec!["no-new-privileges".to_owned(), format!("seccomp={}", spec.seccomp)]),
        sysctls: Some(spec.sysctls.clone().into_iter().collect()),
        runtime: Some(spec.runtime.clone()),
        masked_paths: Some(spec.masked_paths.clone()),
        readonly_paths: Some(spec.readonly_paths.clone()),
        ..HostConfig::default()
    }
}

fn ulimits(spec: &ContainerSpec) -> Vec<ResourcesUlimits> {
    let limit = |name: &str, soft: u64, hard: u64| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(signed(soft)),
        hard: Some(signed(hard)),
    };
    vec![
        limit("nofile", spec.nofile_soft, spec.nofile_hard),
        limit("core", 0, 0),
        limit("memlock", crate::container::MEMLOCK_BYTES, crate::container::MEMLOCK_BYTES),
        limit("msgqueue", crate::container::MSGQUEUE_BYTES, crate::container::MSGQUEUE_BYTES),
        limit("fsize", spec.file_bytes, spec.file_bytes),
    ]
}

fn mounts(spec: &ContainerSpec) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = spec.binds.iter().map(|it| bind(&it.source, &it.target)).collect();
    for bundle in &spec.bundles {
        mounts.extend(bundle.targets.iter().map(|it| bind(&bundle.source, it)));
    }
    mounts.extend(spec.workspace.iter().map(|it| volume(it, spec)));
    mounts
}

fn bind(source: &Path, target: &str) -> Mount {
    Mount {
        target: Some(target.to_owned()),
        source: Some(source.to_string_lossy().into_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(true),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

/// A volume without a name: the engine mounts it with the container and removes it with the container. The sandbox starts
/// from nothing and nothing of it is kept, so what is written need not be made durable.
fn volume(volume: &WorkspaceVolume, spec: &ContainerSpec) -> Mount {
    let options = format!(
        "lowerdir={},upperdir={},workdir={},nosuid,nodev,redirect_dir=on,index=off,metacopy=off,volatile",
        volume.lower.display(),
        volume.upper.display(),
        volume.work.display()
    );
    let options = [("type", "overlay"), ("device", "overlay"), ("o", options.as_str())];
    Mount {
        target: Some(volume.point.clone()),
        typ: Some(MountType::VOLUME),
        volume_options: Some(MountVolumeOptions {
            // The image's own files are not copied in.
            no_copy: Some(true),
            labels: Some(spec.labels.clone().into_iter().collect()),
            driver_config: Some(MountVolumeOptionsDriverConfig {
                name: Some("local".to_owned()),
                options: Some(options.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
            }),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}

fn tmpfs_options(tmpfs: &Tmpfs, spec: &ContainerSpec) -> String {
    let exec = if tmpfs.exec { "exec" } else { "noexec" };
    format!(
        "rw,{exec},nosuid,nodev,size={},nr_inodes={},uid={},gid={},mode=0700",
        tmpfs.bytes, tmpfs.inodes, spec.uid, spec.gid
    )
}

/// Every setting that [`body`] makes, by name, as compact JSON without empty values: what `--dry-run --json` shows
/// and what an inspection is compared with.
pub fn settings(body: &ContainerCreateBody) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let Ok(Value::Object(mut config)) = serde_json::to_value(body) else {
        return settings;
    };
    if let Some(Value::Object(host)) = config.remove("HostConfig") {
        gather(&mut settings, "HostConfig", host);
    }
    config.retain(|name, _| COMPARED_CONFIG.contains(&name.as_str()));
    gather(&mut settings, "Config", config);
    settings
}

/// Fields of the container's own configuration that an inspection gives back as they were set.
pub(super) const COMPARED_CONFIG: [&str; 12] = [
    "Hostname",
    "Domainname",
    "User",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "Tty",
    "OpenStdin",
    "Entrypoint",
    "WorkingDir",
    "Cmd",
    "Healthcheck",
];

pub(super) fn gather(
    into: &mut BTreeMap<String, String>,
    prefix: &str,
    fields: serde_json::Map<String, Value>,
) {
    for (name, value) in fields {
        if let Some(value) = normalised(value) {
            into.insert(format!("{prefix}.{name}"), value.to_string());
        }
    }
}

/// Null, false, zero, and empty text, lists and maps are the same to the engine: nothing.
fn normalised(value: Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Number(number) if number.as_i64() == Some(0) => None,
        Value::String(text) if text.is_empty() => None,
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) => {
            Some(Value::Array(items.into_iter().map(|it| normalised(it).unwrap_or(Value::Null)).collect()))
        }
        Value::Object(fields) => {
            let mut kept: Vec<(String, Value)> =
                fields.into_iter().filter_map(|(name, it)| normalised(it).map(|it| (name, it))).collect();
            if kept.is_empty() {
                return None;
            }
            kept.sort_by(|one, other| one.0.cmp(&other.0));
            Some(Value::Object(kept.into_iter().collect()))
        }
        Value::Bool(true) | Value::Number(_) | Value::String(_) => Some(value),
    }
}

/// Amounts of a policy are far below `i64::MAX`; saturating keeps a mistake from becoming "unlimited".
fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}
