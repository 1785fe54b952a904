//! Versions of the engine's programs: `1.1.5+ds1`, `1.0.0-rc95`, `v2.0.4`, told apart from a distribution's own suffix.

use std::cmp::Ordering;

/// A version as upstream numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Major, minor, patch.
    pub numbers: [u32; 3],
    /// Candidate before the release; `None` is the release.
    pub candidate: Option<u32>,
}

impl Version {
    /// The version at the beginning of a text; `None` if there is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('v');
        let end = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
        let (digits, rest) = text.split_at(end);
        let mut numbers = [0; 3];
        let mut parts = digits.split('.').filter(|it| !it.is_empty());
        *numbers.first_mut()? = parts.next()?.parse().ok()?;
        for number in numbers.iter_mut().skip(1) {
            *number = parts.next().map_or(Some(0), |it| it.parse().ok())?;
        }
        Some(Self { numbers, candidate: candidate(rest) })
    }
}

/// `-rc95`, `-rc.3`, `~rc93`, and only directly after the numbers.
fn candidate(rest: &str) -> Option<u32> {
    let rest = rest.strip_prefix(['-', '~'])?.strip_prefix("rc")?.trim_start_matches('.');
    let end = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        // A candidate comes before its release.
        let key = |it: &Self| (it.numbers, it.candidate.unwrap_or(u32::MAX));
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Whether a distribution made this build: it carries fixes that upstream's number does not tell.
pub fn is_distributions(version: &str, build: &str) -> bool {
    let marks =
        ["+ds", "~ds", "+dfsg", "~dfsg", "+deb", "~deb", "ubuntu", "-0ubuntu", ".el", ".fc", ".amzn", "+git"];
    let marked = |text: &str| marks.iter().any(|it| text.contains(it));
    marked(version) || marked(build)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(smaller: &str, larger: &str) {
        let parsed = |it| Version::parse(it).unwrap_or_else(|| panic!("{it}"));
        assert!(parsed(smaller) < parsed(larger), "{smaller} < {larger}");
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        check("1.1.5", "1.1.12");
        check("1.9.0", "v1.10");
        check("1.1.5+ds1", "1.1.12");
    }

    #[test]
    fn a_candidate_comes_before_its_release() {
        check("1.0.0-rc6", "1.0.0-rc95");
        check("1.4.0-rc.2", "1.4.0-rc.3");
        check("1.4.0-rc.3", "1.4.0");
        check("1.0.0~rc93+ds1", "1.0.0");
    }

    #[test]
    fn a_text_without_a_number_has_no_version() {
        assert_eq!(Version::parse("unknown"), None);
        assert_eq!(Version::parse(""), None);
    }

    #[test]
    fn a_distributions_build_is_known_by_its_suffix() {
        for (version, build) in [
            ("1.1.5+ds1", ""),
            ("1.6.20~ds1", ""),
            ("20.10.24+dfsg1", "5d6db84"),
            ("1.7.2", "1.7.2-0ubuntu1"),
        ] {
            assert!(is_distributions(version, build), "{version} {build}");
        }
        assert!(!is_distributions("1.1.12", "v1.1.12-0-g51d5e946"));
    }
}
