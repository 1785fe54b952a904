//! The broker as the service has it: an account that cannot open the engine's socket, a broker under another one.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::aegis::{Ended, docker, eventually, finish};
use crate::support::broker::{Activator, engine_socket};

/// The accounts of server and broker, which this host has no files of.
const SERVER: u32 = 1_999_990_001;
const BROKER: u32 = 1_999_990_002;

/// The program and its directories where the accounts reach them.
struct Service {
    directory: tempfile::TempDir,
}

impl Service {
    fn new() -> Self {
        let service = Self { directory: tempfile::tempdir().expect("a directory") };
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(service.directory.path(), open).expect("opened");
        fs::copy(env!("CARGO_BIN_EXE_aegis"), service.path("aegis")).expect("copied");
        for name in ["state", "runtime", "home"] {
            fs::create_dir(service.path(name)).expect("made");
            fs::set_permissions(service.path(name), fs::Permissions::from_mode(0o700)).expect("set");
            chown(service.path(name), Some(SERVER), Some(SERVER)).expect("given");
        }
        service
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `aegis` under the server's account.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={SERVER}"), format!("--regid={SERVER}")]);
        command.args(["--clear-groups", "--"]).arg(self.path("aegis")).args(arguments);
        command.current_dir("/").env_clear();
        for (name, place) in [("AEGIS_STATE_DIR", "state"), ("XDG_RUNTIME_DIR", "runtime"), ("HOME", "home")]
        {
            command.env(name, self.path(place));
        }
        if let Some(host) = std::env::var_os("DOCKER_HOST") {
            command.env("DOCKER_HOST", host);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn call(&self, arguments: &[&str]) -> Ended {
        finish(self.command(arguments).spawn().expect("aegis starts"), b"")
    }

    /// What the service manager is: a broker for each connection, in the group of the engine's socket.
    fn activator(&self) -> Activator {
        let group = fs::metadata(engine_socket()).expect("the engine's socket").gid();
        let (program, root) = (self.path("aegis"), self.path("runtime/aegis"));
        Activator::listen(self.path("broker.sock"), SERVER, move || {
            let mut command = Command::new("setpriv");
            command.args([format!("--reuid={BROKER}"), format!("--regid={BROKER}")]);
            command.arg(format!("--groups={group}"));
            command.args(["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]);
            command.args(["--bounding-set=-all,+dac_read_search", "--"]).arg(&program);
            command.args(["broker", "--runtime-root"]).arg(&root).env_clear();
            command.stdout(Stdio::null());
            command
        })
    }
}

/// A server of the service's. Dropped, it is killed with what it left.
struct Served {
    child: Child,
    instance: PathBuf,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let instance = fs::read_to_string(&self.instance).unwrap_or_default();
        let filter = format!("label=aegis.instance={}", instance.trim());
        for container in docker(&["ps", "-aq", "--filter", &filter]).lines() {
            docker(&["rm", "-f", container]);
        }
    }
}

#[test]
fn a_server_that_cannot_open_the_engines_socket_runs_tasks_through_the_services_broker() {
    let service = Service::new();
    // It tries by itself.
    service.call(&["run", "--no-workspace", "--", "true"]).code(125).says("may not be opened by this user");
    let activator = service.activator();
    let listen = format!("unix:{}", service.path("state/aegis.sock").display());
    let said = service.path("said");
    let stderr = fs::File::create(&said).expect("a file");
    let flags = ["serve", "--workers", "1", "--listen", &listen, "--broker", &activator.address()];
    let child = service.command(&flags).stderr(stderr).spawn().expect("it starts");
    let served = Served { child, instance: service.path("state/instance") };
    let said = || fs::read_to_string(&said).unwrap_or_default();
    eventually("it serves", Duration::from_secs(60), || said().contains("serving with"));
    let script = ["--image", "aegis/minimal", "--", "/bin/sh", "-c", "echo by the broker; exit 4"];
    let mut submit = vec!["run", "--detach", "--server", &listen, "--no-workspace"];
    submit.extend(script);
    let submitted = service.call(&submit);
    submitted.code(0);
    let run = submitted.stdout.trim().to_owned();
    let waited = service.call(&["wait", "--server", &listen, &run]);
    assert_eq!(waited.code, Some(4), "{waited:#?} {}", said());
    service.call(&["logs", "--server", &listen, &run]).code(0).prints("by the broker");
    drop(served);
}
