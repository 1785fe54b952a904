//! What goes into the workspace leaks nothing: a canary in each kind of secret is searched for from inside, in files, in
//! git's objects, in the environment and in memory; and what is asked for by name comes in alone.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::aegis::{Aegis, Ended};
use crate::support::live::{newest, record};

/// Before each canary; put together where it is searched for, so that a search does not find itself.
const MARK: &str = "aegis-canary-";

/// A file of each kind that is withheld, with what stands around the canary.
const SECRETS: [(&str, &str, &str); 50] = [
    (".env", "TOKEN=", "\n"),
    (".env.production", "TOKEN=", "\n"),
    ("web/.ENV.local", "TOKEN=", "\n"),
    ("web/prod.env", "TOKEN=", "\n"),
    (".envrc", "export TOKEN=", "\n"),
    (".env.bak", "TOKEN=", "\n"),
    (".npmrc", "//registry.example.org/:_authToken=", "\n"),
    (".yarnrc.yml", "npmAuthToken: ", "\n"),
    (".netrc", "machine example.org login me password ", "\n"),
    ("_netrc", "machine example.org login me password ", "\n"),
    (".pypirc", "[pypi]\npassword = ", "\n"),
    ("pip.conf", "[global]\nindex-url = https://me:", "@example.org/simple\n"),
    (".git-credentials", "https://me:", "@example.org\n"),
    (".htpasswd", "me:", "\n"),
    (".pgpass", "*:*:*:me:", "\n"),
    (".vault-token", "", "\n"),
    ("id_rsa", "", "\n"),
    ("keys/id_ed25519", "", "\n"),
    ("keys/main", "-----BEGIN OPENSSH PRIVATE KEY-----\n", "\n-----END OPENSSH PRIVATE KEY-----\n"),
    ("signing", "-----BEGIN PRIVATE KEY-----\n", "\n-----END PRIVATE KEY-----\n"),
    ("deep/down/age-key", "# created\nAGE-SECRET-KEY-1", "\n"),
    ("tls/server.pem", "-----BEGIN CERTIFICATE-----\n", "\n-----BEGIN RSA PRIVATE KEY-----\n"),
    ("tls/server.key", "", "\n"),
    ("tls/server.p12", "", ""),
    ("tls/server.pfx", "", ""),
    ("tls/server.jks", "", ""),
    ("tls/server.ppk", "", ""),
    ("tls/mail.asc", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "\n"),
    (".ssh/config", "# ", "\n"),
    (".ssh/deeper/any", "", "\n"),
    (".gnupg/private-keys-v1.d/x", "", "\n"),
    (".aws/credentials", "aws_secret_access_key=", "\n"),
    (".aws/config", "sso_session=", "\n"),
    (".config/gcloud/x.db", "", "\n"),
    ("application_default_credentials.json", "{\"refresh_token\": \"", "\"}"),
    ("service.json", "{\"type\": \"service_account\", \"private_key\": \"", "\"}"),
    (".azure/accessTokens.json", "", ""),
    (".kube/config", "token: ", "\n"),
    ("kubeconfig", "token: ", "\n"),
    (".docker/config.json", "{\"auths\": {\"x\": {\"auth\": \"", "\"}}}"),
    (".dockercfg", "", ""),
    (".terraformrc", "token = ", "\n"),
    ("infra/terraform.tfstate", "{\"password\": \"", "\"}"),
    ("infra/terraform.tfstate.backup", "{\"password\": \"", "\"}"),
    (".boto", "gs_oauth2_refresh_token = ", "\n"),
    (".s3cfg", "secret_key = ", "\n"),
    (".cargo/credentials.toml", "token = ", "\n"),
    (".gem/credentials", ":rubygems_api_key: ", "\n"),
    ("php/auth.json", "{\"http-basic\": {\"x\": \"", "\"}}"),
    (".m2/settings.xml", "<password>", "</password>"),
];

/// Files that look a little like secrets and are none.
const ORDINARY: [(&str, &str); 6] = [
    (".env.example", "TOKEN="),
    ("tls/ca.pem", "-----BEGIN CERTIFICATE-----\n"),
    ("settings.xml", "<password>"),
    (".docker/Dockerfile", "FROM x "),
    ("src/environment.ts", "token "),
    ("php/composer.json", "{}"),
];

/// Looks for marks in every file, in the output of git for every object of every repository, in the environment and
/// arguments of every process and in the memory of those that may be read; prints each with where it was.
const SEARCH: &str = r#"
import glob, os, re, subprocess
mark = re.compile(b'aegis-' + b'canary-' + b'[0-9a-f]{64}')
seen = set()
def tell(place, data):
    for found in mark.findall(data):
        if (place, found) not in seen:
            seen.add((place, found))
            print(place, found.decode())
def read(path):
    try:
        with open(path, 'rb') as file:
            return file.read(64 << 20)
    except OSError:
        return b''
def memory(pid):
    for line in read(f'/proc/{pid}/maps').decode().splitlines():
        start, end = (int(it, 16) for it in line.split()[0].split('-'))
        if line.split()[1].startswith('r') and '[v' not in line:
            try:
                with open(f'/proc/{pid}/mem', 'rb', 0) as file:
                    file.seek(start)
                    data = file.read(min(end - start, 64 << 20))
            except (OSError, ValueError, OverflowError):
                continue
            tell(f'memory-of-{pid}', data)
looked = 0
for pid in os.listdir('/proc'):
    if pid.isdigit():
        for name in ('environ', 'cmdline', 'status'):
            tell(f'/proc/{pid}/{name}', read(f'/proc/{pid}/{name}'))
        memory(pid)
        looked += 1
files = 0
for root, directories, names in os.walk('/'):
    if root == '/':
        directories[:] = [it for it in directories if it not in ('proc', 'sys')]
    for name in names + directories:
        path = os.path.join(root, name)
        tell('name', os.fsencode(path))
        if os.path.islink(path):
            tell(path, os.fsencode(os.readlink(path)))
    for name in names:
        path = os.path.join(root, name)
        if os.path.isfile(path) and not os.path.islink(path):
            files += 1
            if root.startswith(('/workspace', '/home', '/tmp', '/run', '/dev', '/etc', '/root', '/var')):
                tell(path, read(path))
    if 'HEAD' in names and 'objects' in directories:
        command = ['git', '--git-dir', root, 'cat-file', '--batch-all-objects', '--batch']
        tell(f'{root}/objects', subprocess.run(command, capture_output=True).stdout)
print(f'searched {files > 1000} {looked > 1}')
"#;

/// A project with a repository, and the canaries in it.
struct Project {
    aegis: Aegis,
}

impl Project {
    fn new() -> Self {
        let project = Self { aegis: Aegis::new() };
        fs::create_dir(project.root()).expect("a directory");
        project.git("", &["init", "-q"]);
        project
    }

    /// The same with one canary in each of `SECRETS` and one in each of `ORDINARY`.
    fn full() -> (Self, Vec<String>, BTreeSet<String>) {
        let project = Self::new();
        let mut ordinary = BTreeSet::new();
        for (path, before) in ORDINARY {
            let canary = canary();
            project.write(path, &format!("{before}{canary}"));
            ordinary.insert(canary);
        }
        let secrets = SECRETS.map(|(path, before, after)| {
            let canary = canary();
            project.write(path, &format!("{before}{canary}{after}"));
            canary
        });
        (project, secrets.to_vec(), ordinary)
    }

    fn root(&self) -> PathBuf {
        self.aegis.here().join("project")
    }

    fn write(&self, path: &str, content: &str) -> PathBuf {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(&path, content).expect("written");
        path
    }

    fn append(&self, path: &str, content: &str) {
        let path = self.root().join(path);
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, before + content).expect("written");
    }

    fn git(&self, below: &str, arguments: &[&str]) {
        git(&self.root().join(below), arguments);
    }

    fn run(&self, flags: &[&str], command: &[&str]) -> Ended {
        let root = self.root();
        let workspace = ["run", "-w", root.to_str().expect("text")];
        self.aegis.call(&[&workspace[..], flags, &["--"], command].concat())
    }

    /// The canaries that a search from inside finds; `after` is shell that runs before it.
    #[track_caller]
    fn found(&self, flags: &[&str]) -> BTreeSet<String> {
        let ended = self.run(&[&["--workspace-size", "256MiB"], flags].concat(), &["python3", "-c", SEARCH]);
        ended.code(0).prints("searched True True");
        let lines = ended.stdout.lines().filter(|it| !it.starts_with("searched"));
        lines.filter_map(|it| it.rsplit(' ').next()).map(str::to_owned).collect()
    }

    fn record(&self) -> Value {
        record(&self.aegis, &newest(&self.aegis))["workspace"].clone()
    }

    /// A policy that extends `strict` and names these.
    fn policy(&self, globs: &[&str]) -> String {
        let path = self.aegis.here().join("p.toml");
        fs::write(&path, format!("[filesystem]\ninclude_secrets = {globs:?}\n")).expect("written");
        path.to_str().expect("text").to_owned()
    }
}

fn canary() -> String {
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom").and_then(|mut it| it.read_exact(&mut bytes)).expect("random bytes");
    format!("{MARK}{}", hex::encode(bytes))
}

fn git(directory: &Path, arguments: &[&str]) {
    let identity = [
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.org",
        "-c",
        "init.defaultBranch=main",
        "-c",
        "protocol.file.allow=always",
    ];
    let output = Command::new("git")
        .args(identity)
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn paths(workspace: &Value) -> Vec<&str> {
    let listed = workspace["withheld"].as_array().expect("a list");
    listed.iter().map(|it| it["path"].as_str().expect("a path")).collect()
}

#[test]
fn a_canary_in_each_kind_is_nowhere_in_the_sandbox_and_each_is_listed() {
    let (project, secrets, ordinary) = Project::full();
    // No pattern takes one in, and neither a link nor a second name does.
    project.write(".aegisignore", "!.env\n!*.key\n!/.ssh/\n!.npmrc\n");
    symlink(".npmrc", project.root().join("web/.npmrc")).expect("a link");
    fs::hard_link(project.root().join(".env"), project.root().join("aaa.txt")).expect("a second name");
    fs::hard_link(project.root().join(".ssh/deeper/any"), project.root().join("zzz.txt"))
        .expect("a second name");
    let found = project.found(&[]);
    assert_eq!(found.intersection(&secrets.iter().cloned().collect()).count(), 0, "{found:?}");
    assert_eq!(found, ordinary);
    let workspace = project.record();
    let listed = paths(&workspace);
    for (path, ..) in SECRETS {
        let covered = listed.iter().any(|it| *it == path || path.starts_with(&format!("{it}/")));
        assert!(covered, "{path} is not in {listed:?}");
    }
    for path in ["web/.npmrc", "aaa.txt", "zzz.txt", ".ssh"] {
        assert!(listed.contains(&path), "{path} is not in {listed:?}");
    }
    assert_eq!(workspace["withheld_count"], listed.len());
    assert!(workspace["withheld"].as_array().expect("a list").iter().all(|it| it["in_history"] == false));
}

#[test]
fn the_withheld_files_are_told_in_one_line_and_before_anything_runs() {
    let project = Project::new();
    project.write(".env", "x");
    project.write("a/id_rsa", "x");
    let said = "withheld 2 files that look like secrets: `.env`, `a/id_rsa`";
    let ended = project.run(&[], &["true"]);
    ended.code(0).says(&format!("aegis: {said}\n")).says("hint: `--include-secret PATH` brings one in");
    assert_eq!(project.run(&["-q"], &["true"]).code(0).stderr, "");
    let planned = project.run(&["--dry-run"], &["true"]);
    planned.code(0).prints("withheld: .env (environment file)\nwithheld: a/id_rsa (private key)");
    let planned = project.run(&["--dry-run", "--json"], &["true"]);
    let planned: Value = serde_json::from_str(&planned.code(0).stdout).expect("JSON");
    assert_eq!(paths(&planned["workspace"]), [".env", "a/id_rsa"]);
    let page = project.aegis.call(&["show", &newest(&project.aegis)]);
    page.code(0).prints("a/id_rsa (private key)");
}

#[test]
fn what_git_keeps_of_logins_stays_outside_and_git_works() {
    let project = Project::new();
    project.write("file", "one");
    project.git("", &["add", "."]);
    project.git("", &["commit", "-qm", "one"]);
    let library = project.aegis.here().join("library");
    fs::create_dir(&library).expect("a directory");
    git(&library, &["init", "-q"]);
    git(&library, &["commit", "-q", "--allow-empty", "-m", "one"]);
    project.git("", &["submodule", "add", "-q", library.to_str().expect("text"), "deps/library"]);
    project.git("", &["commit", "-qm", "two"]);
    project.git("", &["clone", "-q", "--bare", ".", "bare"]);
    let login = || format!("https://me:{}@example.org/x.git", canary());
    for config in [".git/config", ".git/modules/deps/library/config", "bare/config"] {
        project.append(config, &format!("[remote \"o\"]\n\turl = {}\n\tpushurl = {}\n", login(), login()));
        project.append(config, &format!("[http]\n\textraheader = AUTHORIZATION: basic {}\n", canary()));
        project.append(config, &format!("[http \"{}\"]\n\tsslVerify = true\n", login()));
        project.append(config, &format!("[url \"{}\"]\n\tinsteadOf = https://example.org/\n", login()));
        project.append(config, &format!("[credential]\n\thelper = \"!echo {}\"\n", canary()));
        project.append(config, &format!("[sendemail]\n\tsmtppass = {}\n", canary()));
        project.append(config, &format!("[user]\n\tname = person # {}\n", canary()));
        let directory = Path::new(config).parent().expect("a parent").to_str().expect("text").to_owned();
        project.append(&format!("{directory}/hooks/pre-commit"), &format!("#!/bin/sh\n# {}\n", canary()));
        project.append(&format!("{directory}/FETCH_HEAD"), &format!("branch of {}\n", login()));
        project.append(&format!("{directory}/credentials"), &format!("{}\n", login()));
        project.append(&format!("{directory}/config.bak"), &format!("url = {}\n", login()));
        project.append(&format!("{directory}/remotes/old"), &format!("URL: {}\n", login()));
        project.append(&format!("{directory}/lfs/cache/x"), &canary());
    }
    let zeros = "0".repeat(40);
    project.append(
        ".git/logs/HEAD",
        &format!("{zeros} {zeros} a <a@example.org> 0 +0000\tclone: from {}\n", login()),
    );
    assert_eq!(project.found(&[]), BTreeSet::new());

    let script = "set -e; git fsck --no-progress 2>/dev/null; git log --format=%s; git config user.name
        git config remote.o.url; git -C deps/library log --format=%s; git --git-dir bare log -1 --format=%s
        git --git-dir bare config remote.o.url; ls .git/hooks bare/hooks 2>/dev/null || true
        git status --porcelain -- file deps; git commit -q --allow-empty -m inside; git log -1 --format=%s";
    let ended = project.run(
        &["-e", "GIT_AUTHOR_EMAIL=a@example.org", "-e", "GIT_COMMITTER_EMAIL=a@example.org"],
        &["bash", "-c", script],
    );
    let url = "https://example.org/x.git";
    assert_eq!(ended.code(0).stdout, format!("two\none\nperson\n{url}\none\ntwo\n{url}\ninside\n"));
}

#[test]
fn a_withheld_file_that_git_tracks_is_told_and_stays_unreadable_without_git() {
    let project = Project::new();
    let (secret, loose) = (canary(), canary());
    project.write("conf/.env", &format!("TOKEN={secret}\n"));
    project.write(".npmrc", &format!("_authToken={loose}\n"));
    project.git("", &["add", "conf"]);
    project.git("", &["commit", "-qm", "one"]);
    let ended = project.run(&[], &["git", "show", "HEAD:conf/.env"]);
    ended.code(0).prints(&secret);
    ended.says("git tracks `conf/.env`: readable inside through the history, unless `--git none`");
    assert_eq!(project.record()["withheld"][1]["in_history"], true);
    assert_eq!(project.record()["withheld"][0]["in_history"], false);

    assert_eq!(project.found(&["--git", "none"]), BTreeSet::new());
    let workspace = project.record();
    assert_eq!(workspace["git"], "none");
    assert_eq!(paths(&workspace), [".npmrc", "conf/.env"]);
    assert_eq!(workspace["withheld"][1]["in_history"], false);
    let ended = project.run(&["--git", "none"], &["ls", "-A"]);
    assert_eq!(ended.code(0).stdout, "conf\n");
    assert!(!ended.stderr.contains("git tracks"), "{ended:?}");
}

#[test]
fn a_shallow_copy_has_no_past_and_tells_what_its_commit_shows() {
    let project = Project::new();
    let (past, secret) = (canary(), canary());
    project.write("file", &past);
    project.git("", &["add", "."]);
    project.git("", &["commit", "-qm", "one"]);
    project.write("file", "two");
    project.write(".env", &secret);
    project.git("", &["add", "."]);
    project.git("", &["commit", "-qm", "two"]);
    assert_eq!(project.found(&[]), BTreeSet::from([past, secret.clone()]));
    assert_eq!(project.found(&["--git", "shallow"]), BTreeSet::from([secret]));
    let workspace = project.record();
    assert_eq!(workspace["git"], "shallow");
    assert_eq!(workspace["withheld"][0]["in_history"], true);
    let script = "git log --format=%s; git rev-parse --is-shallow-repository; git status --porcelain";
    let ended = project.run(&["--git", "shallow"], &["bash", "-c", script]);
    assert_eq!(ended.code(0).stdout, "two\ntrue\n D .env\n");
}

#[test]
fn a_named_secret_comes_in_alone_under_a_policy_that_names_it() {
    let (project, secrets, ordinary) = Project::full();
    let policy = project.policy(&[".aws/credentials", "web/*"]);
    for wanted in [".aws/credentials", "web/prod.env"] {
        let at = SECRETS.iter().position(|it| it.0 == wanted).expect("it is there");
        let expected: BTreeSet<String> = ordinary.iter().chain([&secrets[at]]).cloned().collect();
        assert_eq!(project.found(&["--sandbox", &policy, "--include-secret", wanted]), expected, "{wanted}");
        let workspace = project.record();
        assert_eq!(workspace["included_secrets"], serde_json::json!([wanted]));
        assert!(!paths(&workspace).contains(&wanted));
    }
}

#[test]
fn a_secret_that_no_policy_names_is_refused_with_the_field_and_what_to_write() {
    let project = Project::new();
    project.write(".env", "x");
    let refused = project.run(&["--include-secret", ".env"], &["echo", "ran"]);
    refused.code(125).says("`filesystem.include_secrets` of default (strict) does not name it");
    refused.says("hint: write `filesystem.include_secrets = [\".env\"]` into a policy file");
    assert_eq!(refused.stdout, "");
    let policy = project.policy(&["web/*"]);
    let refused = project.run(&["--sandbox", &policy, "--include-secret", ".env"], &["echo", "ran"]);
    refused.code(125).says("p.toml:2 does not name it");
}

#[track_caller]
fn check_asked(path: &str, code: i32, said: &str) {
    let project = Project::new();
    project.write(".aws/credentials", "x");
    project.write("ordinary", "x");
    project.write("left/.env", "x");
    project.write(".aegisignore", "/left/\n");
    symlink("ordinary", project.root().join(".npmrc")).expect("a link");
    let policy = project.policy(&["**"]);
    let ended = project.run(&["--sandbox", &policy, "--include-secret", path], &["true"]);
    ended.code(code).says(said);
}

#[test]
fn what_is_asked_for_and_cannot_come_in_is_told_with_the_reason() {
    check_asked("absent/.env", 125, "`--include-secret absent/.env`: it is not in the workspace");
    check_asked(".aws", 125, "`--include-secret .aws`: it is not a regular file");
    check_asked(".npmrc", 125, "`--include-secret .npmrc`: it is not a regular file");
    check_asked("left/.env", 125, "`--include-secret left/.env`: it is left out by a line in `.aegisignore`");
    check_asked("/etc/passwd", 2, "begins with `/`");
    check_asked("../.env", 2, "`..`");
    check_asked("ordinary", 0, "`--include-secret ordinary` changes nothing: the file is not withheld");
}

#[test]
fn outputs_of_earlier_runs_are_never_given_to_a_later_one() {
    let project = Project::new();
    project.write("sub/x", "x");
    let below = project.root().join("sub");
    for _ in 0..2 {
        let mut command =
            project.aegis.command(&["run", "-o", "made", "--", "sh", "-c", "find . -name aegis-out; >made"]);
        let child = command.current_dir(&below).spawn().expect("aegis starts");
        let ended = crate::support::aegis::finish(child, b"");
        assert_eq!(ended.code(0).stdout, "");
        project.write(".aegisignore", "!aegis-out\n!aegis-out/**\n");
    }
    assert_eq!(fs::read_to_string(below.join("aegis-out/.gitignore")).expect("it is there"), "*\n");
    let status = Command::new("git")
        .args(["status", "--porcelain", "-uall"])
        .current_dir(&below)
        .output()
        .expect("git");
    assert!(!String::from_utf8_lossy(&status.stdout).contains("aegis-out"));
}
