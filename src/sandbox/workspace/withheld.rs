//! What stays outside because it looks like a secret: a table of names with the reason of each, and a bounded look into
//! the few files whose name alone does not tell.
//!
//! Names are compared without case, and an ending that says "copy of" (`.bak`, `~`) changes nothing. A false alarm costs
//! one flag; so what is in the table is what tools keep credentials in, and no more. No pattern of `.aegisignore` takes a
//! withheld file in: only `--include-secret` does, where the policy names it.

pub mod look;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::LazyLock;

pub use look::{Look, Seen};

/// What an entry is, as far as the table asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file of this size and mode.
    File {
        /// Bytes.
        size: u64,
        /// Whether anybody may execute it: a key is no program.
        executable: bool,
    },
    /// A symbolic link: its name is judged, its content is only a path.
    Symlink,
}

/// What the name of an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it goes in.
    Goes,
    /// It stays outside, for this reason.
    Withheld(&'static str),
    /// Its content decides; the reason if it does.
    Asks(Look, &'static str),
}

/// Where a name of the table must lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Anywhere,
    /// In a directory of this name.
    In(&'static str),
    /// Beside a file of this name.
    Beside(&'static str),
}

/// What of an entry decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evidence {
    /// Its name.
    Name,
    /// Its name; it is a directory, and all that is in it stays outside.
    Directory,
    /// Its content.
    Content(Look),
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    name: &'static str,
    place: Place,
    evidence: Evidence,
    reason: &'static str,
}

const fn named(name: &'static str, reason: &'static str) -> Rule {
    Rule { name, place: Place::Anywhere, evidence: Evidence::Name, reason }
}

const fn below(parent: &'static str, name: &'static str, reason: &'static str) -> Rule {
    Rule { name, place: Place::In(parent), evidence: Evidence::Name, reason }
}

const fn directory(name: &'static str, place: Place, reason: &'static str) -> Rule {
    Rule { name, place, evidence: Evidence::Directory, reason }
}

const fn looked(name: &'static str, look: Look, reason: &'static str) -> Rule {
    Rule { name, place: Place::Anywhere, evidence: Evidence::Content(look), reason }
}

const ENVIRONMENT: &str = "environment file";
const PRIVATE_KEY: &str = "private key";
const KEY_STORE: &str = "key store";
const CLOUD: &str = "cloud credentials";
const REGISTRY: &str = "package registry credentials";
const LOGIN: &str = "login for machines";
const STATE: &str = "infrastructure state, which holds secrets as plain text";
const TOKEN: &str = "access token";

/// Whole names. Each line is a file or directory in which its tool documents that it keeps credentials.
const NAMES: &[Rule] = &[
    // npm, yarn: `_authToken`. A `.yarnrc` mostly holds settings that an install needs, so its content decides.
    named(".npmrc", REGISTRY),
    looked(".yarnrc", Look::Login, REGISTRY),
    looked(".yarnrc.yml", Look::Login, REGISTRY),
    // twine and distutils; pip and conda with a login in an index's URL.
    named(".pypirc", REGISTRY),
    looked("pip.conf", Look::Login, REGISTRY),
    looked("pip.ini", Look::Login, REGISTRY),
    looked(".condarc", Look::Login, REGISTRY),
    // cargo login, gem push, composer config, maven servers, gradle signing and publishing, nuget sources.
    below(".cargo", "credentials", REGISTRY),
    below(".cargo", "credentials.toml", REGISTRY),
    below(".gem", "credentials", REGISTRY),
    below(".composer", "auth.json", REGISTRY),
    Rule {
        name: "auth.json",
        place: Place::Beside("composer.json"),
        evidence: Evidence::Name,
        reason: REGISTRY,
    },
    below(".m2", "settings.xml", REGISTRY),
    below(".m2", "settings-security.xml", REGISTRY),
    looked("gradle.properties", Look::Login, REGISTRY),
    looked("nuget.config", Look::Login, REGISTRY),
    // docker login.
    below(".docker", "config.json", REGISTRY),
    named(".dockercfg", REGISTRY),
    named(".dockerconfigjson", REGISTRY),
    // curl, git, ftp; git's store helper and cookie file; `user.password` and headers in a carried git configuration.
    named(".netrc", LOGIN),
    named("_netrc", LOGIN),
    named(".git-credentials", LOGIN),
    named(".gitcookies", LOGIN),
    Rule { name: "hgrc", place: Place::In(".hg"), evidence: Evidence::Content(Look::Login), reason: LOGIN },
    looked(".gitconfig", Look::Login, LOGIN),
    named(".htpasswd", LOGIN),
    named(".pgpass", LOGIN),
    named("pgpass.conf", LOGIN),
    named(".my.cnf", LOGIN),
    named(".mylogin.cnf", LOGIN),
    named(".vault-token", TOKEN),
    named(".vault_pass", LOGIN),
    named(".vault_pass.txt", LOGIN),
    named(".vault-pass", LOGIN),
    below("gh", "hosts.yml", TOKEN),
    below(".streamlit", "secrets.toml", TOKEN),
    named("kaggle.json", TOKEN),
    named(".databrickscfg", TOKEN),
    // ssh-keygen's default names; the directories of OpenSSH and GnuPG.
    named("id_rsa", PRIVATE_KEY),
    named("id_dsa", PRIVATE_KEY),
    named("id_ecdsa", PRIVATE_KEY),
    named("id_ecdsa_sk", PRIVATE_KEY),
    named("id_ed25519", PRIVATE_KEY),
    named("id_ed25519_sk", PRIVATE_KEY),
    named("secring.gpg", PRIVATE_KEY),
    directory(".ssh", Place::Anywhere, PRIVATE_KEY),
    directory(".gnupg", Place::Anywhere, PRIVATE_KEY),
    // aws, az, gcloud, kubectl, s3 tools, rclone; terraform's logins.
    directory(".aws", Place::Anywhere, CLOUD),
    directory(".azure", Place::Anywhere, CLOUD),
    directory("gcloud", Place::In(".config"), CLOUD),
    named("application_default_credentials.json", CLOUD),
    directory(".kube", Place::Anywhere, CLOUD),
    named("kubeconfig", CLOUD),
    named(".boto", CLOUD),
    named(".s3cfg", CLOUD),
    named(".passwd-s3fs", CLOUD),
    named("rclone.conf", CLOUD),
    named(".terraformrc", CLOUD),
    named("terraform.rc", CLOUD),
    named("credentials.tfrc.json", CLOUD),
];

/// Endings, without the dot.
const ENDINGS: &[Rule] = &[
    named("env", ENVIRONMENT),
    // Certificates go in under these two: what they hold decides.
    looked("pem", Look::NotPublic, PRIVATE_KEY),
    looked("key", Look::NotPublic, PRIVATE_KEY),
    looked("asc", Look::PrivateKey, PRIVATE_KEY),
    looked("crt", Look::PrivateKey, PRIVATE_KEY),
    looked("cer", Look::PrivateKey, PRIVATE_KEY),
    looked("ovpn", Look::PrivateKey, PRIVATE_KEY),
    named("p8", PRIVATE_KEY),
    named("pk8", PRIVATE_KEY),
    named("ppk", PRIVATE_KEY),
    named("p12", KEY_STORE),
    named("pfx", KEY_STORE),
    named("jks", KEY_STORE),
    named("keystore", KEY_STORE),
    named("kdbx", KEY_STORE),
    named("keytab", LOGIN),
    named("kubeconfig", CLOUD),
    named("tfstate", STATE),
];

/// Beginnings of names that have variants, as `.env.production` and `.envrc`.
const BEGINNINGS: [&[u8]; 2] = [b".env", b".dev.vars"];
/// Last words of an environment file that is there to be copied and filled in.
const TEMPLATES: [&[u8]; 4] = [b"example", b"sample", b"template", b"dist"];
/// Endings of copies that editors and people leave behind.
const COPIES: [&[u8]; 7] = [b".backup", b".bak", b".old", b".orig", b".save", b".swp", b"~"];

/// Directories in which a file without ending, or a `.json`, is looked at; so are those at the root.
const KEY_PLACES: [&[u8]; 18] = [
    b"auth",
    b"cert",
    b"certificates",
    b"certs",
    b"config",
    b"credentials",
    b"creds",
    b"deploy",
    b"etc",
    b"gcp",
    b"keys",
    b"pki",
    b"private",
    b"secret",
    b"secrets",
    b"ssh",
    b"ssl",
    b"tls",
];
/// Parts of a name for which one is looked at anywhere.
const KEY_WORDS: [&[u8]; 13] = [
    b"account",
    b"adminsdk",
    b"credential",
    b"deploy",
    b"ecdsa",
    b"ed25519",
    b"firebase",
    b"identity",
    b"key",
    b"private",
    b"rsa",
    b"secret",
    b"service",
];
/// Directories that a package manager filled: their files without ending are licences.
const PACKAGES: [&[u8]; 3] = [b"node_modules", b"site-packages", b"dist-packages"];

type Table = HashMap<&'static [u8], Vec<&'static Rule>>;

static BY_NAME: LazyLock<Table> = LazyLock::new(|| table(NAMES));
static BY_ENDING: LazyLock<Table> = LazyLock::new(|| table(ENDINGS));

fn table(rules: &'static [Rule]) -> Table {
    let mut table = Table::new();
    for rule in rules {
        table.entry(rule.name.as_bytes()).or_default().push(rule);
    }
    table
}

/// What the table says of the entry `name` in the directory at the path `parent`; `has` tells whether that directory
/// holds an entry of a name. No content is read here.
pub fn judge(parent: &[u8], name: &[u8], kind: Kind, has: impl Fn(&[u8]) -> bool) -> Verdict {
    let lower = name.to_ascii_lowercase();
    let plain = without_copy_ending(&lower);
    if let Some(reason) = environment(plain, kind) {
        return Verdict::Withheld(reason);
    }
    let place = last(parent).to_ascii_lowercase();
    for rule in BY_NAME.get(plain).into_iter().flatten() {
        let lies = match rule.place {
            Place::Anywhere => true,
            Place::In(name) => place == name.as_bytes(),
            Place::Beside(name) => has(name.as_bytes()),
        };
        if lies && let Some(verdict) = rule.applies(kind) {
            return verdict;
        }
    }
    if kind == Kind::Directory {
        return Verdict::Goes;
    }
    let ending = ending(plain);
    for rule in ending.and_then(|it| BY_ENDING.get(it)).into_iter().flatten() {
        if let Some(verdict) = rule.applies(kind) {
            return verdict;
        }
    }
    hidden(parent, &place, plain, ending, kind)
}

impl Rule {
    /// What it says of an entry that has its name and place; `None` if it means another kind of entry.
    fn applies(&self, kind: Kind) -> Option<Verdict> {
        match (self.evidence, kind) {
            (Evidence::Name, Kind::File { .. } | Kind::Symlink)
            | (Evidence::Directory, Kind::Directory | Kind::Symlink) => Some(Verdict::Withheld(self.reason)),
            (Evidence::Content(look), Kind::File { .. }) => Some(Verdict::Asks(look, self.reason)),
            (Evidence::Name | Evidence::Content(_), Kind::Directory)
            | (Evidence::Directory, Kind::File { .. })
            | (Evidence::Content(_), Kind::Symlink) => None,
        }
    }
}

/// `.env` and what begins so, but for templates. A directory of that name is one of files, or Python's; the caller looks.
fn environment(name: &[u8], kind: Kind) -> Option<&'static str> {
    let begins = BEGINNINGS.iter().any(|it| name.starts_with(it));
    let exact_directory = kind == Kind::Directory && name == b".env";
    let word = name.rsplit(|it| matches!(it, b'.' | b'-' | b'_')).next().unwrap_or_default();
    let template = TEMPLATES.contains(&word);
    (exact_directory || (begins && kind != Kind::Directory && !template)).then_some(ENVIRONMENT)
}

/// A key or service account under a name of its own, where such files lie.
fn hidden(parent: &[u8], place: &[u8], name: &[u8], ending: Option<&[u8]>, kind: Kind) -> Verdict {
    let Kind::File { size, executable: false } = kind else { return Verdict::Goes };
    let (look, reason) = match ending {
        None => (Look::PrivateKey, PRIVATE_KEY),
        Some(b"json") => (Look::ServiceAccount, CLOUD),
        Some(_) => return Verdict::Goes,
    };
    let likely = parent.is_empty()
        || KEY_PLACES.contains(&place)
        || KEY_WORDS.iter().any(|it| memchr::memmem::find(name, it).is_some())
        || has_digest_tail(name);
    if !likely
        || size > look::SMALL_BYTES_MAX
        || parent.split(|it| *it == b'/').any(|it| PACKAGES.contains(&it))
    {
        return Verdict::Goes;
    }
    Verdict::Asks(look, reason)
}

/// Whether a name is as a cloud console names the key that it hands out: `project-0123456789ab.json`.
fn has_digest_tail(name: &[u8]) -> bool {
    let Some(tail) = name.strip_suffix(b".json").and_then(|it| it.rsplit(|byte| *byte == b'-').next()) else {
        return false;
    };
    tail.len() == 12 && tail.iter().all(u8::is_ascii_hexdigit)
}

fn without_copy_ending(name: &[u8]) -> &[u8] {
    COPIES.iter().find_map(|it| name.strip_suffix(*it)).filter(|it| !it.is_empty()).unwrap_or(name)
}

/// What follows the last dot, where something stands before it.
fn ending(name: &[u8]) -> Option<&[u8]> {
    let dot = name.iter().rposition(|it| *it == b'.')?;
    (dot > 0).then(|| &name[dot + 1..])
}

fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|it| *it == b'/').next().unwrap_or_default()
}
