//! An instance of Aegis of the bench's own: nothing of the caller's is read, and nothing of it is left.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

/// Time that the engine may take to remove what a measurement left.
const QUIET_TIME_MAX: Duration = Duration::from_secs(30);
/// Pause after the last container is gone: the engine's own tidying is not on the next measurement's bill.
const QUIET_PAUSE: Duration = Duration::from_millis(100);
/// Label of every container that a bench makes itself.
pub const LABEL: &str = "aegis.test=bench";

/// The instance. Dropped, its directories are removed.
#[derive(Debug)]
pub struct Instance {
    home: tempfile::TempDir,
}

impl Instance {
    /// A new one, with directories to stand and to write in.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { home: tempfile::tempdir().context("a directory for the bench")? })
    }

    /// A directory of the bench.
    pub fn directory(&self) -> &Path {
        self.home.path()
    }

    /// `aegis` with these arguments, ready to be started.
    pub fn aegis(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
        command.args(arguments).current_dir(self.directory());
        command.env("AEGIS_STATE_DIR", self.state()).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// The request that the engine gets for a run with these flags, as `--dry-run` tells it.
    pub fn engine_request(&self, image: &str) -> anyhow::Result<Value> {
        let arguments = ["run", "--dry-run", "--json", "--no-workspace", "--image", image, "--", "true"];
        let output = self.aegis(&arguments).stdout(Stdio::piped()).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("`aegis run --dry-run` ended with {}", output.status);
        }
        let mut plan: Value = serde_json::from_slice(&output.stdout)?;
        Ok(plan.get_mut("engine_request").context("the plan holds no request")?.take())
    }

    /// Waits until the engine has removed every container of this instance and of the bench.
    pub fn wait_until_quiet(&self) -> anyhow::Result<()> {
        let instance = std::fs::read_to_string(self.state().join("instance")).unwrap_or_default();
        let ours = format!("label=aegis.instance={}", instance.trim());
        let benchs = format!("label={LABEL}");
        let deadline = Instant::now() + QUIET_TIME_MAX;
        for filter in [&ours, &benchs] {
            while !docker(&["ps", "-aq", "--filter", filter])?.is_empty() {
                if Instant::now() > deadline {
                    bail!("the engine did not remove the containers of {filter}");
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        std::thread::sleep(QUIET_PAUSE);
        Ok(())
    }

    /// Its id, once a command has run.
    pub fn id(&self) -> anyhow::Result<String> {
        let id = std::fs::read_to_string(self.state().join("instance")).context("the instance's id")?;
        Ok(id.trim().to_owned())
    }

    fn state(&self) -> PathBuf {
        self.directory().join("state")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Ok(instance) = std::fs::read_to_string(self.state().join("instance")) {
            let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(|it| Path::new(&it).join("aegis"));
            let ours = ["/run/aegis", "/var/lib/sandbox-work"].map(|it| Some(PathBuf::from(it)));
            for base in ours.into_iter().chain([runtime]).flatten() {
                let _ = std::fs::remove_dir_all(base.join(instance.trim()));
            }
        }
    }
}

/// Runs the engine's own command line and gives what it printed.
pub fn docker(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("docker").args(arguments).output().context("`docker` starts")?;
    if !output.status.success() {
        bail!("`docker {}`: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
