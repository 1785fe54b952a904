//! The same container without Aegis: through the engine's API, and through the engine's own command line. Both start
//! from the request that Aegis itself makes, with the task's program in the place of init.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use aegis::docker::address::socket_path;
use anyhow::{Context, bail};
use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{RemoveContainerOptions, WaitContainerOptions};
use futures_util::StreamExt;
use serde_json::Value;

use crate::support::instance::LABEL;

/// A connected engine and the container that is made.
#[derive(Debug)]
pub struct ByHand {
    docker: Docker,
    runtime: tokio::runtime::Runtime,
    body: ContainerCreateBody,
    seccomp_file: PathBuf,
}

impl ByHand {
    /// Takes Aegis's request; `directory` keeps what a container mounts and what `docker` reads.
    pub fn new(request: Value, program: &[&str], directory: &Path) -> anyhow::Result<Self> {
        let mut body: ContainerCreateBody = serde_json::from_value(request)?;
        body.entrypoint = Some(program.iter().map(|it| (*it).to_owned()).collect());
        body.labels = LABEL.split_once('=').map(|(key, value)| [(key.to_owned(), value.to_owned())].into());
        let host = body.host_config.as_mut().context("the request has no host part")?;
        // By hand the removal is a call of its own.
        host.auto_remove = Some(false);
        let mounted = directory.join("slot");
        std::fs::create_dir(&mounted)?;
        for mount in host.mounts.iter_mut().flatten() {
            mount.source = Some(mounted.display().to_string());
        }
        let seccomp_file = directory.join("seccomp.json");
        std::fs::write(&seccomp_file, seccomp(host).context("the request has no seccomp profile")?)?;
        let docker_host = std::env::var("DOCKER_HOST").ok();
        let runtime_directory = std::env::var("XDG_RUNTIME_DIR").ok();
        let socket = socket_path(docker_host.as_deref(), runtime_directory.as_deref())?;
        let socket = socket.display().to_string();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let docker = runtime
            .block_on(async { Docker::connect_with_unix(&socket, 60, bollard::API_DEFAULT_VERSION) })?;
        let docker = runtime.block_on(docker.negotiate_version())?;
        Ok(Self { docker, runtime, body, seccomp_file })
    }

    /// Create, start, wait, remove: with a client that is connected already.
    pub fn through_the_api(&self) -> anyhow::Result<()> {
        self.runtime.block_on(self.once())
    }

    /// The same so often, so many at once; how many a second.
    pub fn rate(&self, count: usize, at_once: usize) -> anyhow::Result<f64> {
        let begun = Instant::now();
        self.runtime.block_on(async {
            let mut all = futures_util::stream::iter(0..count).map(|_| self.once()).buffer_unordered(at_once);
            while let Some(ended) = all.next().await {
                ended?;
            }
            anyhow::Ok(())
        })?;
        Ok(count as f64 / begun.elapsed().as_secs_f64())
    }

    async fn once(&self) -> anyhow::Result<()> {
        let id = self.docker.create_container(None, self.body.clone()).await?.id;
        self.docker.start_container(&id, None).await?;
        let mut ends = self.docker.wait_container(&id, None::<WaitContainerOptions>);
        let end = ends.next().await.context("the engine told no end")??;
        let options = RemoveContainerOptions { force: false, v: true, link: false };
        self.docker.remove_container(&id, Some(options)).await?;
        if end.status_code != 0 {
            bail!("the container ended with {}", end.status_code);
        }
        Ok(())
    }

    /// `docker run --rm` with the flags that say the same.
    pub fn docker_run(&self) -> anyhow::Result<Command> {
        self.docker_run_with(&[])
    }

    /// The same with further flags.
    pub fn docker_run_with(&self, further: &[String]) -> anyhow::Result<Command> {
        let host = self.body.host_config.as_ref().context("the request has no host part")?;
        let program = self.body.entrypoint.as_deref().unwrap_or_default();
        let (first, rest) = program.split_first().context("no program")?;
        let mut command = Command::new("docker");
        command.args(["run", "--rm", "--label", LABEL, "--entrypoint", first]);
        command.args(flags(&self.body, host)).args(further);
        command.args(["--security-opt", &format!("seccomp={}", self.seccomp_file.display())]);
        command.arg(self.body.image.as_deref().unwrap_or_default()).args(rest);
        // Its talk is a warning about the resolver, which nothing in a container without a network asks.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }
}

fn seccomp(host: &HostConfig) -> Option<&str> {
    host.security_opt.iter().flatten().find_map(|it| it.strip_prefix("seccomp="))
}

/// What the command line can say of the request. It cannot name masked paths: there the engine's own stay.
fn flags(body: &ContainerCreateBody, host: &HostConfig) -> Vec<String> {
    let mut flags: Vec<String> = ["--network=none", "--read-only", "--cap-drop=ALL", "--ipc=none"]
        .into_iter()
        .chain(["--cgroupns=private", "--log-driver=none", "--security-opt=no-new-privileges", "--workdir=/"])
        .map(str::to_owned)
        .collect();
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    flags.push(format!("--user={}", text(&body.user)));
    flags.push(format!("--hostname={}", text(&body.hostname)));
    flags.push(format!("--memory={}", host.memory.unwrap_or(0)));
    flags.push(format!("--memory-swap={}", host.memory_swap.unwrap_or(0)));
    flags.push(format!("--pids-limit={}", host.pids_limit.unwrap_or(0)));
    flags.push(format!("--cpus={}", host.nano_cpus.unwrap_or(0) as f64 / 1e9));
    flags.extend(host.dns.iter().flatten().map(|it| format!("--dns={it}")));
    flags.extend(host.dns_options.iter().flatten().map(|it| format!("--dns-option={it}")));
    flags.extend(host.dns_search.iter().flatten().map(|it| format!("--dns-search={it}")));
    flags.extend(host.sysctls.iter().flatten().map(|(name, value)| format!("--sysctl={name}={value}")));
    flags.extend(host.tmpfs.iter().flatten().map(|(point, options)| format!("--tmpfs={point}:{options}")));
    for limit in host.ulimits.iter().flatten() {
        let (soft, hard) = (limit.soft.unwrap_or(0), limit.hard.unwrap_or(0));
        flags.push(format!("--ulimit={}={soft}:{hard}", text(&limit.name)));
    }
    for mount in host.mounts.iter().flatten() {
        flags.push(format!("--mount=type=bind,src={},dst={},ro", text(&mount.source), text(&mount.target)));
    }
    flags
}
