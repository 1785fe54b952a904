//! Sets of whole numbers, kept as sorted spans that do not touch.
//!
//! ```
//! let set: spans::Set = "10-12,1-2,3".parse().unwrap();
//! assert_eq!(set.to_string(), "1-3,10-12");
//! ```

#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

/// A set of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    // Sorted; between two spans at least one number is missing.
    spans: Vec<(u32, u32)>,
}

/// A text that is no set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseError {
    /// Neither a number nor two with a dash between.
    NotASpan(String),
    /// The first number is the larger one.
    Reversed(u32, u32),
}

impl fmt::Display for ParseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASpan(text) => write!(out, "`{text}` is neither a number nor two with a dash between"),
            Self::Reversed(first, last) => write!(out, "`{first}-{last}` goes backwards: write `{last}-{first}`"),
        }
    }
}

impl std::error::Error for ParseError {}

impl Set {
    /// The set of all numbers in these spans, given in any order.
    fn of(mut spans: Vec<(u32, u32)>) -> Self {
        spans.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::with_capacity(spans.len());
        for (first, last) in spans {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        Self { spans: joined }
    }

    /// Whether the number is in the set.
    pub fn contains(&self, number: u32) -> bool {
        let after = self.spans.partition_point(|(first, _)| *first <= number);
        after > 0 && number <= self.spans[after - 1].1
    }

    /// How many numbers are in the set.
    pub fn len(&self) -> u64 {
        self.spans.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// Whether no number is in the set.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// What is in one of them or both.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Self::of([self.spans.as_slice(), other.spans.as_slice()].concat())
    }

    /// What is in both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let mut common = Vec::new();
        for (first, last) in &self.spans {
            for (other_first, other_last) in &other.spans {
                let (first, last) = (*first.max(other_first), *last.min(other_last));
                if first <= last {
                    common.push((first, last));
                }
            }
        }
        Self::of(common)
    }
}

impl FromStr for Set {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        text.split(',').map(span).collect::<Result<_, _>>().map(Self::of)
    }
}

fn span(text: &str) -> Result<(u32, u32), ParseError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first > last => Err(ParseError::Reversed(first, last)),
        (Ok(first), Ok(last)) => Ok((first, last)),
        _ => Err(ParseError::NotASpan(text.to_owned())),
    }
}

impl fmt::Display for Set {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.spans.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            if first == last {
                write!(out, "{comma}{first}")?;
            } else {
                write!(out, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Set {
        text.parse().unwrap()
    }

    #[test]
    fn touching_spans_are_one() {
        assert_eq!(set("4-5,1-3,9").to_string(), "1-5,9");
    }

    #[test]
    fn overlaps_are_counted_once() {
        assert_eq!(set("1-10,5-12,7").len(), 12);
    }

    #[test]
    fn the_largest_number_is_no_edge() {
        let set = set("4294967295,0-4294967294");
        assert_eq!(set.len(), 1 << 32);
        assert!(set.contains(u32::MAX) && set.contains(0));
    }

    #[test]
    fn membership_agrees_with_counting() {
        let set = set("3-5,8,11-20");
        assert_eq!((0..30).filter(|it| set.contains(*it)).count() as u64, set.len());
    }

    #[test]
    fn join_and_intersect_agree_with_membership() {
        let (left, right) = (set("1-6,10,20-30"), set("4-12,25,31"));
        for number in 0..40 {
            let (in_left, in_right) = (left.contains(number), right.contains(number));
            assert_eq!(left.join(&right).contains(number), in_left || in_right, "{number}");
            assert_eq!(left.intersect(&right).contains(number), in_left && in_right, "{number}");
        }
    }

    #[test]
    fn bad_texts_say_what_is_wrong() {
        assert_eq!("1,x".parse::<Set>(), Err(ParseError::NotASpan("x".into())));
        assert_eq!("5-2".parse::<Set>(), Err(ParseError::Reversed(5, 2)));
        assert!("-".parse::<Set>().is_err() && ",".parse::<Set>().is_err());
    }
}
