//! For tests: a PostgreSQL server of this process's own, from the distribution's programs, on a socket in a directory that
//! goes with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The server refuses to be root.
const NOBODY: u32 = 65_534;
const START_TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) struct Cluster {
    directory: TempDir,
    programs: PathBuf,
    server: Child,
    databases: AtomicU32,
}

impl Cluster {
    /// `None` where the programs are missing.
    pub(crate) fn start() -> Option<Self> {
        let programs = programs()?;
        let directory = tempfile::Builder::new().prefix("aegis-pg.").tempdir().expect("a directory");
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).expect("given away");
        }
        let data = directory.path().join("data");
        let made = as_nobody(&programs.join("initdb"))
            .args([
                "--no-sync",
                "--auth=trust",
                "--username=aegis",
                "--encoding=UTF8",
                "--locale=C",
                "--pgdata",
            ])
            .arg(&data)
            .current_dir(directory.path())
            .output()
            .expect("started");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let log = std::fs::File::create(directory.path().join("log")).expect("a file");
        let server = as_nobody(&programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(directory.path())
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "synchronous_commit=off"])
            .args(["-c", "full_page_writes=off", "-c", "max_connections=200", "-c", "shared_buffers=32MB"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("started");
        Some(Self { directory, programs, server, databases: AtomicU32::new(0) })
    }

    /// The URL of a new, empty database.
    pub(crate) async fn url(&self) -> String {
        let name = format!("books_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let begun = Instant::now();
        loop {
            let create = format!("CREATE DATABASE {name}");
            let done = Command::new(self.programs.join("psql"))
                .args(["--no-psqlrc", "--quiet", "--username=aegis", "--dbname=postgres", "--host"])
                .arg(self.directory.path())
                .args(["--command", &create])
                .output()
                .expect("started");
            if done.status.success() {
                break;
            }
            assert!(begun.elapsed() < START_TIMEOUT, "{}", String::from_utf8_lossy(&done.stderr));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let host = self.directory.path().display().to_string().replace('/', "%2F");
        format!("postgresql://aegis@{host}/{name}")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A fast shutdown: clients are cut off.
        if let Some(pid) = rustix::process::Pid::from_raw(self.server.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        let _ = self.server.wait();
    }
}

/// A program that ends with this process.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if rustix::process::geteuid().is_root() {
        let nobody = NOBODY.to_string();
        command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
    }
    command.arg(program);
    command
}

/// Where the programs of the newest version lie that is installed.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let newest =
        versions.flatten().filter_map(|it| it.file_name().to_string_lossy().parse::<u32>().ok()).max()?;
    Some(Path::new("/usr/lib/postgresql").join(newest.to_string()).join("bin"))
}
