//! A real registry on loopback that wants a login, with its data in a directory that goes with it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::engine::required;

/// Who may use the registry.
pub const USER: &str = "builder";
/// The password that goes with it.
pub const PASSWORD: &str = "open sesame";
/// bcrypt of the password.
const PASSWORD_HASH: &str = "$2b$04$4znSqq2XD15uTR3KFM5ReeUtbnbWT5K/.yKzp80bkkWHVCoWo7oH2";

/// A running registry.
pub struct Registry {
    child: Child,
    directory: TempDir,
    /// `127.0.0.1:PORT`.
    pub host: String,
}

impl Registry {
    /// Starts one, or gives `None` where the program is missing and not required.
    pub fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let config = directory.path().join("config.yml");
        fs::write(directory.path().join("htpasswd"), format!("{USER}:{PASSWORD_HASH}\n")).unwrap();
        fs::write(&config, configuration(&directory, &host)).unwrap();
        let started = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.path().join("log")).unwrap())
            .spawn();
        let child = match started {
            Ok(child) => child,
            Err(error) if required("registry") => panic!("AEGIS_TEST_REQUIRE names registry: {error}"),
            Err(error) => {
                eprintln!("skipped: docker-registry: {error}");
                return None;
            }
        };
        let registry = Self { child, directory, host };
        registry.wait_until_it_listens();
        Some(registry)
    }

    /// Writes a `docker login` file with this content, `HOST` standing for the registry, and gives its directory.
    pub fn login(&self, name: &str, content: &str) -> PathBuf {
        let directory = self.directory.path().join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("config.json"), content.replace("HOST", &self.host)).unwrap();
        directory
    }

    fn wait_until_it_listens(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(&self.host).is_err() {
            let log = || fs::read_to_string(self.directory.path().join("log")).unwrap();
            assert!(Instant::now() < deadline, "the registry does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn configuration(directory: &TempDir, host: &str) -> String {
    let root = directory.path().display();
    format!(
        "version: 0.1\n\
         storage: {{filesystem: {{rootdirectory: {root}/data}}}}\n\
         http: {{addr: '{host}', secret: none}}\n\
         auth: {{htpasswd: {{realm: aegis, path: {root}/htpasswd}}}}\n"
    )
}
