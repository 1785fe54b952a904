//! Changelogs of the distribution's packages, where they are: they name the fixes that a version does not tell.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::container::description::EngineDescription;
use crate::doctor::facts::Changelog;

/// Packages by the engine's name of the component, the usual one first.
const PACKAGES: [(&str, &[&str]); 3] = [
    ("runc", &["runc"]),
    ("containerd", &["containerd", "containerd.io"]),
    ("engine", &["docker.io", "docker-ce", "docker-engine"]),
];
/// Where packages leave their changelogs.
const DOCUMENTS: &str = "/usr/share/doc";
/// Bytes of an unpacked changelog.
const TEXT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Digits of a CVE's number at the most.
const CVE_DIGITS_MAX: usize = 8;

/// Those that are there, for the components that this engine has.
pub fn changelogs(engine: &EngineDescription) -> BTreeMap<String, Changelog> {
    let mut found = BTreeMap::new();
    for (component, packages) in PACKAGES {
        if !engine.components.iter().any(|it| it.name.eq_ignore_ascii_case(component)) {
            continue;
        }
        let read = |package: &&str| {
            let text = unpacked(&Path::new(DOCUMENTS).join(package).join("changelog.Debian.gz"))?;
            parse(package, &text)
        };
        if let Some(log) = packages.iter().find_map(read) {
            found.insert(component.to_owned(), log);
        }
    }
    found
}

/// `gzip` is an essential program of the distributions that keep such files. It reads one file and ends.
fn unpacked(path: &Path) -> Option<String> {
    if !path.is_file() {
        return None;
    }
    let mut command = Command::new("gzip");
    command.arg("-dc").arg(path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut bytes = Vec::new();
    let read = child.stdout.take()?.take(TEXT_BYTES_MAX).read_to_end(&mut bytes);
    // Its pipe is closed by now: it ends, whatever was left.
    let ended = child.wait();
    (read.is_ok() && ended.is_ok()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// The newest version, and every CVE that an entry names.
fn parse(package: &str, text: &str) -> Option<Changelog> {
    let first = text.lines().next()?;
    let version = first.split_once('(')?.1.split_once(')')?.0.to_owned();
    let mut cves = BTreeSet::new();
    for (at, _) in text.match_indices("CVE-") {
        let rest = &text[at + 4..];
        let Some((year, rest)) = rest.split_once('-') else { continue };
        let digits = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len()).min(CVE_DIGITS_MAX);
        if year.len() == 4 && year.bytes().all(|it| it.is_ascii_digit()) && digits >= 4 {
            cves.insert(format!("CVE-{year}-{}", &rest[..digits]));
        }
    }
    Some(Changelog { package: package.to_owned(), version, cves })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changelog_gives_its_newest_version_and_the_cves_it_names() {
        let text = "runc (1.1.5+ds1-1+deb12u1) bookworm-security; urgency=high\n\n  * CVE-2024-21626: several breakouts\n\
                    \n    + (re-introduced CVE-2019-19921). Not one: CVE-x, CVE-20-1\n";
        let log = parse("runc", text).expect("a changelog");
        assert_eq!(log.version, "1.1.5+ds1-1+deb12u1");
        assert_eq!(log.cves.into_iter().collect::<Vec<_>>(), ["CVE-2019-19921", "CVE-2024-21626"]);
    }

    #[test]
    fn a_text_that_is_none_gives_nothing() {
        assert_eq!(parse("x", "just words"), None);
        assert_eq!(parse("x", ""), None);
    }
}
