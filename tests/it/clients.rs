//! Acceptance 2 of the way out: clients of package indexes and of git work as they are, where bytes pass and where requests
//! are read, and a host that no rule names fails at once with the reason in the ledger. What the base image has is tried in
//! every form, the rest (`tests/images`, and the images that ship) in the long one.

mod refused;
mod tools;

use std::time::Duration;

use aegis::sandbox::trust;

use crate::support::aegis::{Ended, docker, long_form};
use crate::support::netns::Net;
use crate::support::netns::server::Server;
use crate::support::netns::site;
use crate::support::netns::task::Tasks;
use crate::support::packages;

/// The image of tests that has what no other has.
const CLIENTS: &str = "aegis-test/clients";
/// Where the site of packages is.
const PACKAGES: &str = "https://packages.test";

/// How the gateway lets a host pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// As bytes: a client sees the server's own certificate.
    Passed,
    /// Read: a client sees one of the run's authority.
    Inspected,
}

const MODES: [Mode; 2] = [Mode::Passed, Mode::Inspected];

/// `packages.test` with a package of each kind, `git.test` with repositories, and `denied.test`, which answers as well.
struct World {
    net: Net,
    packages: Server,
    git: Server,
    denied: Server,
    _repositories: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let net = Net::new();
        let repositories = tempfile::tempdir().unwrap();
        packages::repository(repositories.path(), "work", &[("file", "a thing of git\n")]);
        let index = packages::crate_index(PACKAGES);
        let index: Vec<(&str, &str)> =
            index.iter().map(|(path, content)| (*path, content.as_str())).collect();
        packages::repository(repositories.path(), "index", &index);
        let (site, root) = (packages::site(PACKAGES), repositories.path().to_owned());
        for (name, address) in
            [("packages.test", "203.0.113.10"), ("git.test", "203.0.113.20"), ("denied.test", "203.0.113.30")]
        {
            net.dns.set(name, &[address]);
        }
        let tls = |name: &str| net.tls(&[name], &["http/1.1"]);
        let packages =
            Server::https(&net, "203.0.113.10:443", tls("packages.test"), move |it| site.answer(it));
        let git = Server::https(&net, "203.0.113.20:443", tls("git.test"), move |it| site::git(&root, it));
        let denied = Server::https(&net, "203.0.113.30:443", tls("denied.test"), |_| None);
        Self { net, packages, git, denied, _repositories: repositories }
    }

    /// An instance under rules for the first two hosts.
    fn tasks(&self, mode: Mode) -> Tasks {
        let methods = match mode {
            Mode::Passed => "",
            Mode::Inspected => "methods = [\"GET\", \"HEAD\", \"POST\"]\n",
        };
        let rule = |host: &str| format!("[[network.allow]]\nhost = \"{host}\"\n{methods}");
        let rules = format!("{}{}", rule("packages.test"), rule("git.test"));
        Tasks::with_policy(&self.net, self.net.aegis(), &rules)
    }

    /// Runs a script in an image. Where requests are read nothing is set for it: the sandbox's own variables and files
    /// have to do. Where bytes pass it trusts the servers' authority as it would trust a public one.
    fn run(&self, mode: Mode, tasks: &Tasks, image: &str, script: &str) -> Ended {
        let script = match mode {
            Mode::Passed => format!("{}\n{script}", self.trusting()),
            Mode::Inspected => script.to_owned(),
        };
        tasks.aegis.script(&["--sandbox", "./policy.toml", "--image", image], &script)
    }

    /// The variables of clients, with the servers' authority.
    fn trusting(&self) -> String {
        let names: Vec<String> = trust::VARIABLES.iter().map(|it| format!("{it}=/tmp/ca.pem")).collect();
        format!("cat >/tmp/ca.pem <<'PEM'\n{}PEM\nexport {}", self.net.authority_pem(), names.join(" "))
    }
}

/// Runs a script in both modes; each time it has to print these parts, and to be on record.
#[track_caller]
fn check(image: &str, script: &str, parts: &[&str], hosts: &[&str]) {
    let world = World::new();
    for mode in MODES {
        let tasks = world.tasks(mode);
        let ended = world.run(mode, &tasks, image, script);
        assert_eq!(ended.code, Some(0), "{mode:?}: {ended:#?}");
        for part in parts {
            assert!(ended.stdout.contains(part), "{mode:?}: no `{part}` in {ended:#?}");
        }
        let verdicts = tasks.verdicts();
        for host in hosts {
            assert!(verdicts.contains(&format!("{host}:443 allowed")), "{mode:?}: {host}: {verdicts:?}");
        }
        let ledger = tasks.ledger();
        let read = ledger.iter().filter(|it| it["verdict"] == "allowed").all(|it| !it["request"].is_null());
        assert_eq!(read, mode == Mode::Inspected, "{mode:?}: {ledger:#?}");
    }
}

/// Whether a test that needs more than CI's images runs. In the long form an image that is missing fails it.
#[track_caller]
fn has(image: &str) -> bool {
    if !long_form() {
        eprintln!("skipped: `{image}` is an image of the long form");
        return false;
    }
    let id = docker(&["images", "--quiet", image]);
    assert!(!id.trim().is_empty(), "the engine has no image `{image}`: `make test-long` builds it");
    true
}

/// What a client's own clock may show of a refusal.
const REFUSED_WITHIN: Duration = Duration::from_millis(100);
