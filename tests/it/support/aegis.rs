//! The `aegis` program as a person runs it: an environment of its own, a state directory of its own, everything
//! bounded in time.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support::serving::Server;

/// Time that one command may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// Time that the engine may take to remove what has ended, before it is told to.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(5);

/// An instance of Aegis: its state directory, and a directory to stand in. Dropped, nothing of it is left.
pub struct Aegis {
    home: tempfile::TempDir,
    variables: Vec<(String, String)>,
    namespace: Option<String>,
    etc: Option<PathBuf>,
    through: Through,
}

/// Who runs what `aegis run` is given.
enum Through {
    /// It does.
    Nobody,
    /// A server of this instance, started for the first run.
    Server(OnceLock<Server>),
}

/// What a command gave.
#[derive(Debug)]
pub struct Ended {
    /// The exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Aegis {
    /// A new instance.
    pub fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        for name in ["home", "here"] {
            std::fs::create_dir(home.path().join(name)).expect("a directory");
        }
        let through = match std::env::var("AEGIS_TEST_THROUGH").as_deref() {
            Ok("server") => Through::Server(OnceLock::new()),
            Ok(other) => panic!("AEGIS_TEST_THROUGH is `server` or nothing, not `{other}`"),
            Err(_) => Through::Nobody,
        };
        Self { home, variables: Vec::new(), namespace: None, etc: None, through }
    }

    /// The same with every `aegis run` handed over to a server of this instance.
    pub fn through_a_server(mut self) -> Self {
        self.through = Through::Server(OnceLock::new());
        self
    }

    /// The server that runs are handed over to.
    pub fn server(&self) -> &Server {
        match &self.through {
            Through::Server(server) => server.get_or_init(|| Server::start(self, &["--workers", "4"])),
            Through::Nobody => panic!("this instance has no server"),
        }
    }

    /// The same with a variable in the environment of every command.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with every command in this network namespace, by name.
    pub fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// The same under an operator's ceiling, which every command finds in its `/etc`.
    pub fn with_ceiling(mut self, text: &str) -> Self {
        let etc = self.home.path().join("etc");
        std::fs::create_dir_all(etc.join("aegis")).expect("a directory");
        std::fs::write(etc.join("aegis/ceiling.toml"), text).expect("written");
        self.etc = Some(etc);
        self
    }

    /// The directory that commands stand in; no project is around it.
    pub fn here(&self) -> PathBuf {
        self.home.path().join("here")
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// The instance's id, once a command has run.
    pub fn instance(&self) -> String {
        std::fs::read_to_string(self.state().join("instance")).expect("an instance").trim().to_owned()
    }

    /// The instance's runtime directory.
    pub fn runtime(&self) -> PathBuf {
        Path::new("/run/aegis").join(self.instance())
    }

    /// `aegis` with these arguments, ready to be started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program();
        command.args(arguments).current_dir(self.here()).env_clear();
        for name in ["PATH", "DOCKER_HOST", "XDG_RUNTIME_DIR", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("HOME", self.home.path().join("home")).env("AEGIS_STATE_DIR", self.state());
        if let (Through::Server(_), Some(&"run")) = (&self.through, arguments.first()) {
            self.server();
            command.env("AEGIS_SERVER", format!("unix:{}/aegis.sock", self.state().display()));
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The program, entered into what it is to see. Each step is one process with the next.
    fn program(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_aegis");
        let mut words: Vec<String> = Vec::new();
        if let Some(name) = &self.namespace {
            words.extend(["nsenter".to_owned(), format!("--net=/run/netns/{name}")]);
        }
        if let Some(etc) = &self.etc {
            let mount = format!("mount -t overlay none -o lowerdir={}:/etc /etc", etc.display());
            words.extend(["unshare", "--mount", "--propagation", "slave", "sh", "-c"].map(str::to_owned));
            words.extend([format!("{mount} && exec \"$0\" \"$@\""), program.to_owned()]);
        } else {
            words.push(program.to_owned());
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// Runs `aegis` to its end.
    pub fn call(&self, arguments: &[&str]) -> Ended {
        finish(self.command(arguments).spawn().expect("aegis starts"), b"")
    }

    /// Runs `aegis` to its end with this standard input.
    pub fn call_with_input(&self, arguments: &[&str], input: &[u8]) -> Ended {
        let child = self.command(arguments).stdin(Stdio::piped()).spawn().expect("aegis starts");
        finish(child, input)
    }

    /// Runs a shell script in the base image under `strict`, with these flags before it.
    pub fn script(&self, flags: &[&str], script: &str) -> Ended {
        let mut arguments = vec!["run", "--no-workspace"];
        arguments.extend(flags);
        arguments.extend(["--", "bash", "-c", script]);
        self.call(&arguments)
    }

    /// Containers of this instance that the engine still has, in any state.
    pub fn containers(&self) -> Vec<String> {
        let filter = format!("label=aegis.instance={}", self.instance());
        let listed = docker(&["ps", "-aq", "--no-trunc", "--filter", &filter]);
        listed.lines().map(str::to_owned).collect()
    }
}

impl Drop for Aegis {
    fn drop(&mut self) {
        // First of all: it would make more of what is removed here.
        self.through = Through::Nobody;
        let mut states = vec![self.state()];
        // A command may have been given another state directory, below the one that it stood in.
        states.extend(std::fs::read_dir(self.here()).into_iter().flatten().flatten().map(|it| it.path()));
        for state in states {
            if let Ok(instance) = std::fs::read_to_string(state.join("instance")) {
                leave_nothing(instance.trim());
            }
        }
    }
}

/// Removes what the engine and this host have of an instance.
fn leave_nothing(instance: &str) {
    let filter = format!("label=aegis.instance={instance}");
    let left = || docker(&["ps", "-aq", "--filter", &filter]);
    // The engine removes what has ended by itself, and stumbles if it is told to meanwhile.
    let begun = Instant::now();
    while !left().trim().is_empty() && begun.elapsed() < REMOVAL_PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
    }
    for _ in 0..5 {
        for container in left().lines() {
            docker(&["rm", "-f", container]);
        }
    }
    for base in ["/run/aegis", "/var/lib/sandbox-work"] {
        let _ = std::fs::remove_dir_all(Path::new(base).join(instance));
    }
}

impl Ended {
    /// Holds the exit status; shows everything if it is another.
    #[track_caller]
    pub fn code(&self, expected: i32) -> &Self {
        assert_eq!(self.code, Some(expected), "{self:#?}");
        self
    }

    /// Holds that no check of the script said `BREACH`, and that it ran to its own end.
    #[track_caller]
    pub fn no_breach(&self) -> &Self {
        assert!(!self.stdout.contains("BREACH") && !self.stderr.contains("BREACH"), "{self:#?}");
        self
    }

    /// Holds that standard error has this text.
    #[track_caller]
    pub fn says(&self, part: &str) -> &Self {
        assert!(self.stderr.contains(part), "no `{part}` in {self:#?}");
        self
    }

    /// Holds that standard output has this text.
    #[track_caller]
    pub fn prints(&self, part: &str) -> &Self {
        assert!(self.stdout.contains(part), "no `{part}` in {self:#?}");
        self
    }
}

/// Waits for a child within [`PATIENCE`], feeding it `input`.
pub fn finish(mut child: Child, input: &[u8]) -> Ended {
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A child that reads nothing closes the pipe; that is its business.
        std::thread::spawn(move || stdin.write_all(&input));
    }
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    let (done, waited) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if waited.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
        }
    });
    let output: Output = child.wait_with_output().expect("waited for");
    drop(done);
    watchdog.join().expect("joined");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The `docker` client's standard output.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("the docker client runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until `holds`, looking every few milliseconds; fails after `patience`.
#[track_caller]
pub fn eventually(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < patience, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How often a repeated test is repeated: `ci` in CI's form, `long` with full counts.
pub fn repetitions(ci: u32, long: u32) -> u32 {
    if long_form() { long } else { ci }
}

/// Whether the tests run with their full counts, and with every image that they know.
pub fn long_form() -> bool {
    std::env::var("AEGIS_TEST_FORM").is_ok_and(|it| it == "long")
}
