//! `/proc/<pid>/uid_map` and `gid_map`: which ids of the sandbox are which of the host.

/// The ranges of a map, as the kernel lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap {
    ranges: Vec<Range>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

impl IdMap {
    /// `None` where a line is not three numbers, or there is none.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut ranges = Vec::new();
        for line in text.lines() {
            let numbers: Vec<u32> = line.split_whitespace().filter_map(|it| it.parse().ok()).collect();
            let [inside, outside, count] = numbers[..] else { return None };
            ranges.push(Range { inside, outside, count });
        }
        (!ranges.is_empty()).then_some(Self { ranges })
    }

    /// Whether every id means the same on both sides: there is no user namespace between them.
    pub fn is_identity(&self) -> bool {
        self.ranges == [Range { inside: 0, outside: 0, count: u32::MAX }]
    }

    /// The host's id for one of the sandbox, `None` where it has none.
    pub fn outside(&self, inside: u32) -> Option<u32> {
        let range = self.ranges.iter().find(|it| inside >= it.inside && inside - it.inside < it.count)?;
        range.outside.checked_add(inside - range.inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, inside: u32, outside: Option<u32>) {
        assert_eq!(IdMap::parse(text.as_bytes()).and_then(|it| it.outside(inside)), outside, "{text:?}");
    }

    #[test]
    fn an_identity_map_changes_nothing() {
        check("         0          0 4294967295\n", 2_000_000_001, Some(2_000_000_001));
        assert_eq!(IdMap::parse(b"0 0 4294967295\n").map(|it| it.is_identity()), Some(true));
    }

    #[test]
    fn a_remapped_id_is_moved() {
        check("0 1000 1\n1 100000 65536\n", 65_532, Some(165_531));
        check("0 1000 1\n1 100000 65536\n", 0, Some(1_000));
    }

    #[test]
    fn an_id_outside_every_range_has_none() {
        check("0 1000 1\n", 1, None);
    }

    #[test]
    fn what_is_no_map_is_none() {
        check("", 0, None);
        check("0 0\n", 0, None);
        check("a b c\n", 0, None);
    }
}
