//! Known flaws of the programs that raise the walls, and what can be told of them from a version. A distribution carries
//! fixes that upstream's number does not show: there its changelog decides, and without one nothing is claimed.

use crate::container::description::Component;
use crate::doctor::facts::Changelog;
use crate::doctor::version::{Version, is_distributions};

/// What a flaw can do to a sandbox of Aegis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A container can get out, or get more than it was given.
    Wall,
    /// Aegis does not use what is flawed, for this reason; others on the host may.
    Unused(&'static str),
}

/// A known flaw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flaw {
    /// The engine's name of the program, in lower case.
    pub component: &'static str,
    /// Its number.
    pub cve: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Upstream's first versions with the fix, one for each line that got it, ascending.
    pub fixed_in: &'static [&'static str],
    /// What it can do here.
    pub reach: Reach,
}

impl Flaw {
    /// Where it is described.
    pub fn source(&self) -> String {
        format!("https://www.cve.org/CVERecord?id={}", self.cve)
    }
}

const CP: Reach = Reach::Unused("Aegis never uses the engine's archive calls (`docker cp`)");
const AUTHZ: Reach = Reach::Unused("Aegis does not rely on authorization plugins of the engine");
const CRI: Reach = Reach::Unused("an engine does not use the Kubernetes interface");

/// Every flaw that is looked for.
pub const FLAWS: [Flaw; 24] = [
    flaw("runc", "CVE-2019-5736", "a container overwrites the host's runc", &["1.0.0-rc7"], Reach::Wall),
    flaw(
        "runc",
        "CVE-2021-30465",
        "a mount follows a link out of the container",
        &["1.0.0-rc95"],
        Reach::Wall,
    ),
    flaw("runc", "CVE-2022-29162", "processes start with inheritable capabilities", &["1.1.2"], Reach::Wall),
    flaw("runc", "CVE-2023-27561", "a volume at /proc undoes the masks", &["1.1.5"], Reach::Wall),
    flaw("runc", "CVE-2023-28642", "a link at /proc undoes AppArmor and SELinux", &["1.1.5"], Reach::Wall),
    flaw("runc", "CVE-2024-21626", "a leaked descriptor leads to the host's files", &["1.1.12"], Reach::Wall),
    flaw(
        "runc",
        "CVE-2024-45310",
        "empty files can be made on the host",
        &["1.1.14", "1.2.0-rc.3"],
        Reach::Wall,
    ),
    flaw(
        "runc",
        "CVE-2025-31133",
        "a masked path is replaced, and the mask with it",
        &["1.2.8", "1.3.3", "1.4.0-rc.3"],
        Reach::Wall,
    ),
    flaw(
        "runc",
        "CVE-2025-52565",
        "a mount of /dev/console is redirected",
        &["1.2.8", "1.3.3", "1.4.0-rc.3"],
        Reach::Wall,
    ),
    flaw(
        "runc",
        "CVE-2025-52881",
        "writes to /proc are redirected",
        &["1.2.8", "1.3.3", "1.4.0-rc.3"],
        Reach::Wall,
    ),
    flaw(
        "containerd",
        "CVE-2022-23648",
        "an image's volume shows files of the host",
        &["1.4.13", "1.5.10", "1.6.1"],
        CRI,
    ),
    flaw(
        "containerd",
        "CVE-2023-25173",
        "supplementary groups are not set up as asked",
        &["1.5.18", "1.6.18"],
        Reach::Wall,
    ),
    flaw(
        "containerd",
        "CVE-2024-40635",
        "a very large uid becomes root",
        &["1.6.38", "1.7.27", "2.0.4"],
        CRI,
    ),
    flaw(
        "containerd",
        "CVE-2024-25621",
        "directories of the runtime are open to other users",
        &["1.7.29", "2.0.7", "2.1.5", "2.2.0"],
        Reach::Wall,
    ),
    flaw(
        "containerd",
        "CVE-2025-64329",
        "an attach call leaks memory",
        &["1.7.29", "2.0.7", "2.1.5", "2.2.0"],
        CRI,
    ),
    flaw("engine", "CVE-2019-14271", "`docker cp` loads a library from the container", &["19.3.1"], CP),
    flaw(
        "engine",
        "CVE-2021-21284",
        "a remapped root gains the host's root",
        &["19.3.15", "20.10.3"],
        Reach::Wall,
    ),
    flaw(
        "engine",
        "CVE-2022-36109",
        "supplementary groups are not set up as asked",
        &["20.10.18"],
        Reach::Wall,
    ),
    flaw(
        "engine",
        "CVE-2024-29018",
        "names are resolved outside from an internal network",
        &["23.0.11", "25.0.5", "26.0.0"],
        Reach::Unused("a sandbox of Aegis has no network"),
    ),
    flaw(
        "engine",
        "CVE-2024-41110",
        "a request without a body passes an authorization plugin",
        &["23.0.15", "25.0.6", "26.1.5", "27.1.1"],
        AUTHZ,
    ),
    flaw("engine", "CVE-2026-34040", "a large request passes an authorization plugin", &["29.3.1"], AUTHZ),
    flaw("engine", "CVE-2026-41567", "an upload runs a program of the container", &["29.5.1"], CP),
    flaw("engine", "CVE-2026-41568", "an archive call touches files of the host", &["29.5.1"], CP),
    flaw("engine", "CVE-2026-42306", "a mount of an archive call is redirected", &["29.5.1"], CP),
];

const fn flaw(
    component: &'static str,
    cve: &'static str,
    about: &'static str,
    fixed_in: &'static [&'static str],
    reach: Reach,
) -> Flaw {
    Flaw { component, cve, about, fixed_in, reach }
}

/// What can be told of one flaw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The version, or the changelog of the distribution, has the fix.
    Fixed,
    /// A build of the project itself, of a version without the fix.
    Present,
    /// A distribution's build below the fixed version, whose changelog is here and does not name the fix.
    NotNamed,
    /// A distribution's build below the fixed version, whose changelog is not here.
    Unknown,
}

/// What can be told of every flaw of a component.
pub fn judge(component: &Component, changelog: Option<&Changelog>) -> Vec<(Flaw, State)> {
    let name = component.name.to_ascii_lowercase();
    let of_component = FLAWS.into_iter().filter(|it| it.component == name);
    of_component.map(|it| (it, state(&it, component, changelog))).collect()
}

fn state(flaw: &Flaw, component: &Component, changelog: Option<&Changelog>) -> State {
    let Some(version) = Version::parse(&component.version) else {
        return State::Unknown;
    };
    if is_fixed(version, flaw.fixed_in) {
        return State::Fixed;
    }
    match changelog {
        Some(log) if log.cves.contains(flaw.cve) => State::Fixed,
        Some(_) => State::NotNamed,
        None if is_distributions(&component.version, &component.build) => State::Unknown,
        None => State::Present,
    }
}

/// A line of releases (`1.2`) has its own first fixed version; one without any is judged by the newest of them.
fn is_fixed(version: Version, fixed_in: &[&str]) -> bool {
    let fixes: Vec<Version> = fixed_in.iter().filter_map(|it| Version::parse(it)).collect();
    let same_line = |it: &&Version| it.numbers[..2] == version.numbers[..2];
    match fixes.iter().find(same_line) {
        Some(fix) => version >= *fix,
        None => fixes.iter().max().is_some_and(|newest| version > *newest),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn runc(version: &str, build: &str) -> Component {
        Component { name: "runc".to_owned(), version: version.to_owned(), build: build.to_owned() }
    }

    fn check(component: &Component, changelog: Option<&[&str]>, cve: &str, expected: State) {
        let log = changelog.map(|cves| Changelog {
            package: "runc".to_owned(),
            version: component.build.clone(),
            cves: cves.iter().map(|it| (*it).to_owned()).collect::<BTreeSet<_>>(),
        });
        let judged = judge(component, log.as_ref());
        let found = judged.iter().find(|(flaw, _)| flaw.cve == cve).expect("it is in the table");
        assert_eq!(found.1, expected, "{component:?} {cve}");
    }

    #[test]
    fn a_version_with_the_fix_is_fixed() {
        check(&runc("1.1.12", ""), None, "CVE-2024-21626", State::Fixed);
        check(&runc("1.3.3", ""), None, "CVE-2025-31133", State::Fixed);
        check(&runc("1.5.0", ""), None, "CVE-2025-31133", State::Fixed);
    }

    #[test]
    fn every_line_of_releases_has_its_own_fix() {
        check(&runc("1.3.2", ""), None, "CVE-2025-31133", State::Present);
        check(&runc("1.2.8", ""), None, "CVE-2025-31133", State::Fixed);
        check(&runc("1.4.0-rc.2", ""), None, "CVE-2025-31133", State::Present);
        check(&runc("1.1.15", ""), None, "CVE-2025-31133", State::Present);
    }

    #[test]
    fn a_version_of_the_project_without_the_fix_has_the_flaw() {
        check(&runc("1.1.5", "v1.1.5-0-gf19387a6"), None, "CVE-2024-21626", State::Present);
    }

    #[test]
    fn a_distributions_changelog_decides() {
        let debian = runc("1.1.5+ds1", "1.1.5+ds1-1+deb12u1");
        check(&debian, Some(&["CVE-2024-21626"]), "CVE-2024-21626", State::Fixed);
        check(&debian, Some(&["CVE-2024-21626"]), "CVE-2025-31133", State::NotNamed);
    }

    #[test]
    fn without_a_changelog_nothing_is_claimed() {
        check(&runc("1.1.5+ds1", "1.1.5+ds1-1+deb12u1"), None, "CVE-2024-21626", State::Unknown);
        check(&runc("unknown", ""), None, "CVE-2024-21626", State::Unknown);
    }

    #[test]
    fn every_flaw_has_a_number_and_versions_that_ascend() {
        for flaw in FLAWS {
            assert!(flaw.cve.starts_with("CVE-") && !flaw.fixed_in.is_empty(), "{flaw:?}");
            let versions: Vec<Version> =
                flaw.fixed_in.iter().map(|it| Version::parse(it).expect("a version")).collect();
            assert!(versions.windows(2).all(|it| it[0] < it[1]), "{flaw:?}");
        }
    }
}
