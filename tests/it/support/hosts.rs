//! Machines, as far as one can have several: network namespaces on one bridge of their own, each with an engine of its own.
//! Nothing of it touches the network of this machine. Dropped, it is gone.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::support::aegis::eventually;

/// Time that an engine may take to begin, three at once on a loaded machine.
const ENGINE_TIME_MAX: Duration = Duration::from_secs(90);
/// The hub's address.
pub const HUB: &str = "10.77.0.1";

/// A network: the hub, and what authority its names are certified by.
pub struct Network {
    name: String,
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Network {
    /// One with the hub alone.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("aegis-h{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name]);
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        ip(&["-n", &name, "link", "add", "hub", "type", "bridge"]);
        ip(&["-n", &name, "addr", "add", &format!("{HUB}/24"), "dev", "hub"]);
        ip(&["-n", &name, "link", "set", "hub", "up"]);
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, "Test authority");
        let key = KeyPair::generate().expect("a key");
        let authority = params.self_signed(&key).expect("signed").pem();
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("authority.pem"), authority).expect("written");
        Self { name, directory, issuer: Issuer::new(params, key) }
    }

    /// The hub's namespace.
    pub fn hub(&self) -> &str {
        &self.name
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("authority.pem")
    }

    /// Certificate and key of the hub, PEM.
    pub fn pair(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![HUB.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        (certificate.pem(), key.serialize_pem())
    }

    /// One more machine, `number` from 1, whose engine begins.
    pub fn machine(&self, number: u32) -> Machine {
        let namespace = format!("{}w{number}", self.name);
        let port = format!("w{number}");
        ip(&["netns", "add", &namespace]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        ip(&[
            "-n", &self.name, "link", "add", &port, "type", "veth", "peer", "name", "out", "netns",
            &namespace,
        ]);
        ip(&["-n", &self.name, "link", "set", &port, "master", "hub", "up"]);
        ip(&["-n", &namespace, "addr", "add", &format!("10.77.0.{}/24", 10 + number), "dev", "out"]);
        ip(&["-n", &namespace, "link", "set", "out", "up"]);
        let root = tempfile::tempdir().expect("a directory");
        let log = std::fs::File::create(root.path().join("log")).expect("a file");
        let path = |name: &str| root.path().join(name).display().to_string();
        let engine = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{namespace}"))
            .args(["dockerd", "--host", &format!("unix://{}", path("docker.sock"))])
            .args(["--pidfile", &path("pid"), "--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("dockerd starts");
        Machine { namespace, root, engine }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// A machine with an engine.
pub struct Machine {
    namespace: String,
    root: tempfile::TempDir,
    engine: Child,
}

impl Machine {
    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its engine's address, for `DOCKER_HOST`.
    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.root.path().join("docker.sock").display())
    }

    /// Waits for its engine, and gives it the minimal image.
    pub fn ready(&self) {
        eventually("the engine answers", ENGINE_TIME_MAX, || {
            self.docker(&["version"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .expect("docker")
                .success()
        });
        let mut save = Command::new("docker")
            .args(["save", "aegis/minimal"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("docker");
        let load =
            self.docker(&["load"]).stdin(save.stdout.take().expect("a pipe")).output().expect("docker");
        assert!(save.wait().expect("waited for").success() && load.status.success(), "{load:?}");
    }

    /// Takes it off the network, or puts it back.
    pub fn link(&self, state: &str) {
        ip(&["-n", &self.namespace, "link", "set", "out", state]);
    }

    /// Containers of its engine, in any state.
    pub fn containers(&self) -> String {
        let listed = self.docker(&["ps", "--all", "--quiet"]).output().expect("docker");
        assert!(listed.status.success(), "{listed:?}");
        String::from_utf8_lossy(&listed.stdout).trim().to_owned()
    }

    fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(arguments).env("DOCKER_HOST", self.docker_host());
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.engine.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.engine.wait();
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let root = self.root.path().display().to_string();
        for mount in
            mounts.lines().rev().filter_map(|it| it.split(' ').nth(1)).filter(|it| it.starts_with(&root))
        {
            let _ = Command::new("umount").arg(mount).status();
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.namespace]).status();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip");
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
}
