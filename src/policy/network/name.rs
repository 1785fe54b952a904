//! A host name as it is compared: lower case, A-labels, letters, digits and hyphens, without the dot at its end. What is
//! spelled like an address is no name.

use std::fmt;

/// Bytes of a name.
pub const NAME_BYTES_MAX: usize = 253;
/// Bytes between two dots.
const LABEL_BYTES_MAX: usize = 63;

/// A host name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Text that is no host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A part is empty, or all of it.
    #[error("it has an empty part: write the parts with one dot between two of them")]
    EmptyLabel,
    /// The name or a part is too long.
    #[error("it is too long: a name has at most 253 bytes, and each part 63")]
    Long,
    /// A character, or a hyphen in the wrong place.
    #[error("a name has letters, digits and hyphens, and no part begins or ends with a hyphen")]
    Characters,
    /// The last part is a number, as in addresses of every spelling.
    #[error("it is an address: rules name hosts, and an address is reached by no name")]
    Address,
    /// The sandbox's own loopback.
    #[error("it is the sandbox's own loopback, which needs no rule")]
    Loopback,
}

impl Name {
    /// A name as a peer sends it. Letters are folded and one dot at the end is dropped; nothing else is repaired.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        Self::from_labels(text.split('.').map(str::as_bytes))
    }

    /// The same from the parts of a DNS message.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, NameError> {
        let mut name = String::new();
        let mut last: &[u8] = b"";
        for label in labels {
            check_label(label)?;
            if !name.is_empty() {
                name.push('.');
            }
            name.extend(label.iter().map(|it| char::from(it.to_ascii_lowercase())));
            if name.len() > NAME_BYTES_MAX {
                return Err(NameError::Long);
            }
            last = label;
        }
        if name.is_empty() {
            return Err(NameError::EmptyLabel);
        }
        if is_number(last) {
            return Err(NameError::Address);
        }
        if last.eq_ignore_ascii_case(b"localhost") {
            return Err(NameError::Loopback);
        }
        Ok(Self(name))
    }

    /// As it is compared.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it lies below another, at any depth.
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.strip_suffix(&other.0).is_some_and(|it| it.ends_with('.'))
    }

    /// The name that somebody registered, by the list of public suffixes: itself or one above it. A name that is a
    /// public suffix is its own.
    pub fn registered(&self) -> &str {
        psl::domain_str(&self.0).unwrap_or(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn check_label(label: &[u8]) -> Result<(), NameError> {
    let (Some(first), Some(last)) = (label.first(), label.last()) else {
        return Err(NameError::EmptyLabel);
    };
    if label.len() > LABEL_BYTES_MAX {
        return Err(NameError::Long);
    }
    let plain = label.iter().all(|it| it.is_ascii_alphanumeric() || *it == b'-');
    if plain && *first != b'-' && *last != b'-' { Ok(()) } else { Err(NameError::Characters) }
}

/// Decimal, octal or hexadecimal: clients read a host with such an end as an address.
fn is_number(label: &[u8]) -> bool {
    match label {
        [b'0', b'x' | b'X', rest @ ..] => rest.iter().all(u8::is_ascii_hexdigit),
        _ => label.iter().all(u8::is_ascii_digit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, NameError>) {
        assert_eq!(Name::parse(text).as_ref().map(Name::as_str), expected.as_ref().copied(), "{text}");
    }

    #[test]
    fn case_and_the_last_dot_do_not_count() {
        check("Api.EXAMPLE.org.", Ok("api.example.org"));
        check("a--b.example.org", Ok("a--b.example.org"));
    }

    #[test]
    fn empty_parts_are_refused() {
        for text in ["", ".", "a..org", ".a.org", "a.org.."] {
            check(text, Err(NameError::EmptyLabel));
        }
    }

    #[test]
    fn addresses_in_every_spelling_are_no_names() {
        for text in
            ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0x7f000001", "a.0x", "a.b.8"]
        {
            check(text, Err(NameError::Address));
        }
    }

    #[test]
    fn other_characters_are_refused() {
        for text in
            ["a_b.org", "a b.org", "-a.org", "a-.org", "[::1]", "::1", "a.org:443", "bücher.org", "a\0.org"]
        {
            check(text, Err(NameError::Characters));
        }
    }

    #[test]
    fn length_is_bounded() {
        check(&format!("{}.org", "a".repeat(64)), Err(NameError::Long));
        check(&"a.".repeat(128), Err(NameError::Long));
        assert!(Name::parse(&format!("{}a", "a.".repeat(126))).is_ok());
    }

    #[test]
    fn the_sandbox_itself_has_no_name() {
        check("localhost", Err(NameError::Loopback));
        check("api.LocalHost.", Err(NameError::Loopback));
    }

    #[test]
    fn a_name_below_another_has_a_dot_between() {
        let below = |name: &str, other: &str| {
            Name::parse(name).expect("a name").is_below(&Name::parse(other).expect("a name"))
        };
        assert!(below("a.b.example.org", "example.org"));
        assert!(!below("example.org", "example.org"));
        assert!(!below("evilexample.org", "example.org"));
    }
}
