//! A PostgreSQL server of a test's own, from the distribution's programs: on a socket in its directory, and where it is
//! asked for over TLS at an address of a network namespace. Dropped, it is gone.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::aegis::eventually;

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

/// A server that runs.
pub struct Postgres {
    directory: tempfile::TempDir,
    programs: PathBuf,
    server: Child,
}

impl Postgres {
    /// Starts one with an empty database `aegis`. Its programs have to be there: what needs it proves nothing without.
    pub fn start(door: Option<Door<'_>>) -> Self {
        let programs = programs().expect("PostgreSQL is installed");
        let directory = tempfile::Builder::new().prefix("aegis-pg.").tempdir().expect("a directory");
        std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).expect("given away");
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
        let mut program = as_nobody(&programs.join("postgres"));
        let mut addresses = "listen_addresses=".to_owned();
        if let Some(door) = &door {
            addresses.push_str(door.address);
            for (name, text) in [("server.crt", door.pair.0), ("server.key", door.pair.1)] {
                write_for_nobody(&data.join(name), text);
            }
            let allowed = std::fs::read_to_string(data.join("pg_hba.conf")).expect("read");
            // Nobody comes in over the network without TLS.
            write_for_nobody(
                &data.join("pg_hba.conf"),
                &format!("{allowed}\nhostssl all all 0.0.0.0/0 trust\n"),
            );
            program = within(door.namespace, &program);
            program.args(["-c", "ssl=on"]);
        }
        let log = std::fs::File::create(directory.path().join("log")).expect("a file");
        let server = program
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(directory.path())
            .args(["-c", &addresses, "-c", "fsync=off", "-c", "synchronous_commit=off"])
            .args(["-c", "max_connections=200", "-c", "shared_buffers=32MB"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("started");
        let server = Self { directory, programs, server };
        eventually("the database server answers", START_TIME_MAX, || {
            server.ask("postgres", "CREATE DATABASE aegis")
        });
        server
    }

    /// Its URL over the socket.
    pub fn url(&self) -> String {
        let host = self.directory.path().display().to_string().replace('/', "%2F");
        format!("postgresql://aegis@{host}/aegis")
    }

    fn ask(&self, database: &str, statement: &str) -> bool {
        let done = Command::new(self.programs.join("psql"))
            .args(["--no-psqlrc", "--quiet", "--username=aegis", "--dbname", database, "--host"])
            .arg(self.directory.path())
            .args(["--command", statement])
            .output()
            .expect("started");
        done.status.success()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.server.id().cast_signed()) {
            // A fast shutdown: clients are cut off.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        let _ = self.server.wait();
    }
}

fn write_for_nobody(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;

    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("changed");
    std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("given away");
}

/// A program that ends with this process.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    let nobody = NOBODY.to_string();
    command.args(["--pdeathsig", "KILL", "--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
    command.arg(program);
    command
}

/// The same program in a network namespace.
fn within(namespace: &str, program: &Command) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg(program.get_program()).args(program.get_args());
    command
}

/// Where the programs of the newest version lie that is installed.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let newest =
        versions.flatten().filter_map(|it| it.file_name().to_string_lossy().parse::<u32>().ok()).max()?;
    Some(Path::new("/usr/lib/postgresql").join(newest.to_string()).join("bin"))
}
