//! A second engine on this machine, with a data root, a socket and an OCI runtime of its own. Dropped, it is stopped and
//! gone. Its runtime is a script that changes a container's configuration before the real one reads it, behind the back of
//! the engine.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the changed runtime stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In the place of `runc`: every container gets it, whatever was asked for.
    Runc,
    /// Beside `runc`, as the engine's default.
    Default,
}

/// An engine that runs.
pub struct SecondEngine {
    root: tempfile::TempDir,
    small: bool,
}

impl SecondEngine {
    /// Starts it; `change` is Python that changes `config`, an OCI configuration.
    pub fn start(standing: Standing, change: &str) -> Self {
        Self::over(standing, change, None)
    }

    /// One whose whole state lies on a file system of this size, as mount(8) has it.
    pub fn on_disk(size: &str) -> Self {
        Self::over(Standing::Runc, "pass", Some(size))
    }

    fn over(standing: Standing, change: &str, size: Option<&str>) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let programs = root.path().join("bin");
        std::fs::create_dir(&programs).expect("made");
        let name = match standing {
            Standing::Runc => "runc",
            Standing::Default => "changed",
        };
        write_program(&programs.join(name), &runtime(change));
        if standing == Standing::Default {
            let changed = programs.join(name).display().to_string();
            let flags = format!("--add-runtime changed={changed} --default-runtime changed");
            let real = program("dockerd");
            write_program(&programs.join("dockerd"), &format!("#!/bin/sh\nexec {real} {flags} \"$@\"\n"));
        }
        let engine = Self { root, small: size.is_some() };
        if let Some(size) = size {
            std::fs::create_dir(engine.state()).expect("made");
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "aegis-test"]).arg(engine.state());
            assert!(mount.status().expect("mount starts").success(), "this test must mount, and may not");
        }
        engine.begin();
        engine
    }

    /// Starts it again where it left off.
    pub fn begin(&self) {
        let programs = self.root.path().join("bin");
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("a path"));
        let started = self.script().arg("start").arg(self.state()).env("PATH", path).output().expect("bash");
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    }

    /// Kills it, as a crash would. What it runs goes on for now.
    pub fn kill(&self) {
        let pid = std::fs::read_to_string(self.state().join("dockerd.pid")).expect("its pid");
        let pid = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is there");
        // Whoever inherits them may leave them unreaped, and the next one takes them for alive: it, and the containerd that
        // the kernel kills with it.
        std::fs::remove_file(self.state().join("dockerd.pid")).expect("removed");
        let _ = std::fs::remove_file(self.state().join("exec/containerd/containerd.pid"));
    }

    /// Its address, for `DOCKER_HOST`.
    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.root.path().join("docker.sock").display())
    }

    /// Gives it the minimal image of this machine's engine, under these names.
    pub fn load_minimal(&self, names: &[&str]) {
        let mut save = Command::new("docker")
            .args(["save", "aegis/minimal"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("docker");
        let load =
            self.docker().arg("load").stdin(save.stdout.take().expect("a pipe")).output().expect("docker");
        assert!(save.wait().expect("waited for").success() && load.status.success(), "{load:?}");
        for name in names {
            let tagged = self.docker().args(["tag", "aegis/minimal", name]).status().expect("docker");
            assert!(tagged.success());
        }
    }

    fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.docker_host());
        command
    }

    /// What it keeps its state in.
    pub fn state(&self) -> PathBuf {
        self.root.path().join("engine")
    }

    fn script(&self) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/engine.sh"));
        command.env("DOCKER_HOST", self.docker_host());
        command
    }
}

impl Drop for SecondEngine {
    fn drop(&mut self) {
        let _ = self.script().arg("stop").arg(self.state()).output();
        if self.small {
            let _ = Command::new("umount").arg("--lazy").arg(self.state()).status();
        }
    }
}

fn program(name: &str) -> String {
    let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output().expect("sh");
    String::from_utf8_lossy(&found.stdout).trim().to_owned()
}

fn runtime(change: &str) -> String {
    format!(
        "#!/bin/sh\nbefore=\nfor it in \"$@\"; do [ \"$before\" = --bundle ] && bundle=$it; before=$it; done\n\
         [ -z \"$bundle\" ] || python3 - \"$bundle/config.json\" <<'PY' || exit 1\n\
         import json, sys\nconfig = json.load(open(sys.argv[1]))\n{change}\njson.dump(config, open(sys.argv[1], 'w'))\nPY\n\
         exec {} \"$@\"\n",
        program("runc")
    )
}

fn write_program(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("changed");
}
