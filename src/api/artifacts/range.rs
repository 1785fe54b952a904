//! Which part of a content a request wants. Pure.

/// A part of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it: nothing else was asked for, or in a form that this server does not serve.
    Whole,
    /// These bytes.
    Some {
        /// The first.
        start: u64,
        /// How many, from 1.
        length: u64,
    },
    /// What was asked for lies outside.
    Outside,
}

/// Reads the header `range`. Several ranges at once, other units and what is malformed give the whole, as RFC 9110 has it.
pub fn part(range: Option<&str>, bytes: u64) -> Part {
    let asked = range.and_then(|it| it.strip_prefix("bytes=")).and_then(|it| it.trim().split_once('-'));
    let Some((first, last)) = asked else { return Part::Whole };
    let number = |text: &str| match text.bytes().all(|it| it.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    match (number(first), number(last)) {
        (Some(start), _) if last.is_empty() => from(start, u64::MAX, bytes),
        (Some(start), Some(end)) if start <= end => from(start, end, bytes),
        (None, Some(count)) if first.is_empty() && count > 0 && bytes > 0 => {
            from(bytes.saturating_sub(count), u64::MAX, bytes)
        }
        (None, Some(_)) if first.is_empty() => Part::Outside,
        _ => Part::Whole,
    }
}

fn from(start: u64, end: u64, bytes: u64) -> Part {
    if start >= bytes {
        return Part::Outside;
    }
    Part::Some { start, length: end.min(bytes - 1) - start + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(range: &str, expected: Part) {
        assert_eq!(part(Some(range), 100), expected, "{range}");
    }

    #[test]
    fn one_range_is_served() {
        check("bytes=0-9", Part::Some { start: 0, length: 10 });
        check("bytes=90-", Part::Some { start: 90, length: 10 });
        check("bytes=90-1000", Part::Some { start: 90, length: 10 });
        check("bytes=-10", Part::Some { start: 90, length: 10 });
        check("bytes=-1000", Part::Some { start: 0, length: 100 });
        check("bytes=99-99", Part::Some { start: 99, length: 1 });
    }

    #[test]
    fn what_lies_outside_is_told() {
        check("bytes=100-", Part::Outside);
        check("bytes=18446744073709551615-", Part::Outside);
        check("bytes=-0", Part::Outside);
        assert_eq!(part(Some("bytes=0-"), 0), Part::Outside);
    }

    #[test]
    fn anything_else_is_the_whole() {
        for range in [
            "bytes=0-1,5-6",
            "lines=0-1",
            "bytes=5-1",
            "bytes=-",
            "bytes=+1-2",
            "bytes=a-b",
            "bytes=99999999999999999999-",
        ] {
            check(range, Part::Whole);
        }
        assert_eq!(part(None, 100), Part::Whole);
    }
}
