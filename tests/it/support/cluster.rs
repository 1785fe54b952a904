//! A PostgreSQL server of a test's own, that can be stopped and started again. Its clients are the servers under test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::aegis::eventually;
use crate::support::engine::required;

/// The server refuses to be root.
const NOBODY: u32 = 65_534;
const START_TIME_MAX: Duration = Duration::from_secs(120);

/// The server. Dropped, it is gone with what it kept.
pub struct Cluster {
    directory: tempfile::TempDir,
    programs: PathBuf,
    server: Option<Child>,
}

impl Cluster {
    /// Starts one with an empty database. `None`, said on stderr, where its programs are missing and nobody requires them.
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(
                !required("postgres"),
                "PostgreSQL is missing: `packaging/bootstrap.sh test` installs it"
            );
            eprintln!("skipped: PostgreSQL is not installed");
            return None;
        };
        let directory = tempfile::Builder::new().prefix("aegis-pg.").tempdir().expect("a directory");
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).expect("given away");
        }
        let made = as_nobody(&programs.join("initdb"))
            .args([
                "--no-sync",
                "--auth=trust",
                "--username=aegis",
                "--encoding=UTF8",
                "--locale=C",
                "--pgdata",
            ])
            .arg(directory.path().join("data"))
            .current_dir(directory.path())
            .output()
            .expect("started");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut cluster = Self { directory, programs, server: None };
        cluster.begin();
        cluster.sql("postgres", "CREATE DATABASE books");
        Some(cluster)
    }

    /// Starts it where it left off, and waits until it answers.
    pub fn begin(&mut self) {
        let log =
            std::fs::OpenOptions::new().append(true).create(true).open(self.directory.path().join("log"));
        let server = as_nobody(&self.programs.join("postgres"))
            .arg("-D")
            .arg(self.directory.path().join("data"))
            .arg("-k")
            .arg(self.directory.path())
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "synchronous_commit=off"])
            .args(["-c", "full_page_writes=off", "-c", "max_connections=100", "-c", "shared_buffers=32MB"])
            .stdout(Stdio::null())
            .stderr(log.expect("a file"))
            .spawn();
        self.server = Some(server.expect("started"));
        eventually("PostgreSQL answers", START_TIME_MAX, || {
            self.asked("postgres", "SELECT 1").status.success()
        });
    }

    /// Stops it: clients are cut off.
    pub fn stop(&mut self) {
        self.end(Signal::INT);
    }

    /// Stops it without a word, as a crash does; its children notice.
    pub fn crash(&mut self) {
        self.end(Signal::QUIT);
    }

    /// The URL of its database.
    pub fn url(&self) -> String {
        format!(
            "postgresql://aegis@{}/books",
            self.directory.path().display().to_string().replace('/', "%2F")
        )
    }

    /// What a statement gives, as bare text.
    #[track_caller]
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let output = self.asked(database, statement);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn asked(&self, database: &str, statement: &str) -> std::process::Output {
        Command::new(self.programs.join("psql"))
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--username=aegis", "--host"])
            .arg(self.directory.path())
            .args(["--dbname", database, "--command", statement])
            .output()
            .expect("started")
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut server) = self.server.take() {
            if let Some(pid) = Pid::from_raw(server.id().cast_signed()) {
                let _ = kill_process(pid, signal);
            }
            let _ = server.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A program that ends with this process, as a user who is nobody.
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
    let numbers = versions.flatten().filter_map(|it| it.file_name().to_string_lossy().parse::<u32>().ok());
    Some(Path::new("/usr/lib/postgresql").join(numbers.max()?.to_string()).join("bin"))
}
