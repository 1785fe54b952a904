//! A PostgreSQL server of a test's own, from the distribution's programs, that can be stopped and started again: on a socket
//! in its directory, and where it is asked for over TLS at an address of a network namespace.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::aegis::eventually;
use crate::support::engine::required;

/// The server refuses to be root.
const NOBODY: u32 = 65_534;
const START_TIME_MAX: Duration = Duration::from_secs(120);

/// Where it listens beside its socket.
pub struct Door<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The address.
    pub address: &'a str,
    /// Certificate and key, PEM.
    pub pair: (&'a str, &'a str),
}

/// The server. Dropped, it is gone with what it kept.
pub struct Cluster {
    directory: tempfile::TempDir,
    programs: PathBuf,
    /// Namespace and address.
    network: Option<(String, String)>,
    server: Option<Child>,
}

impl Cluster {
    /// Starts one with an empty database `books`. `None`, said on stderr, where its programs are missing and nobody requires
    /// them.
    pub fn start() -> Option<Self> {
        Self::make(None)
    }

    /// The same on the network, too.
    pub fn start_at(door: &Door<'_>) -> Option<Self> {
        Self::make(Some(door))
    }

    fn make(door: Option<&Door<'_>>) -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(
                !required("postgres"),
                "PostgreSQL is missing: `packaging/bootstrap.sh test` installs it"
            );
            eprintln!("skipped: PostgreSQL is not installed");
            return None;
        };
        let directory = tempfile::Builder::new().prefix("aegis-pg.").tempdir().expect("a directory");
        give_away(directory.path());
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
        let network = door.map(|it| (it.namespace.to_owned(), it.address.to_owned()));
        let mut cluster = Self { directory, programs, network, server: None };
        if let Some(door) = door {
            cluster.open(door);
        }
        cluster.begin();
        cluster.sql("postgres", "CREATE DATABASE books");
        Some(cluster)
    }

    /// Lays out what it needs to be reached over the network, by nobody without TLS.
    fn open(&self, door: &Door<'_>) {
        let data = self.directory.path().join("data");
        for (name, text) in [("server.crt", door.pair.0), ("server.key", door.pair.1)] {
            write_for_nobody(&data.join(name), text);
        }
        let allowed = std::fs::read_to_string(data.join("pg_hba.conf")).expect("read");
        let allowed = format!("{allowed}\nhostssl all all 0.0.0.0/0 trust\n");
        write_for_nobody(&data.join("pg_hba.conf"), &allowed);
    }

    /// Starts it where it left off, and waits until it answers.
    pub fn begin(&mut self) {
        let log =
            std::fs::OpenOptions::new().append(true).create(true).open(self.directory.path().join("log"));
        let mut program = as_nobody(&self.programs.join("postgres"));
        let mut addresses = "listen_addresses=".to_owned();
        if let Some((namespace, address)) = &self.network {
            addresses.push_str(address);
            program = within(namespace, &program);
            program.args(["-c", "ssl=on"]);
        }
        let server = program
            .arg("-D")
            .arg(self.directory.path().join("data"))
            .arg("-k")
            .arg(self.directory.path())
            .args(["-c", &addresses, "-c", "fsync=off", "-c", "synchronous_commit=off"])
            .args(["-c", "full_page_writes=off", "-c", "max_connections=200", "-c", "shared_buffers=32MB"])
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

/// The server is nobody where the test is root, and reads only what is its own.
fn give_away(path: &Path) {
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("given away");
    }
}

fn write_for_nobody(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;

    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("changed");
    give_away(path);
}

/// The same program in a network namespace.
fn within(namespace: &str, program: &Command) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg(program.get_program()).args(program.get_args());
    command
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
