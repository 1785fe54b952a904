//! Bytes as text that is safe to show and loses nothing: names, targets and arguments that a task chose.
//!
//! `\` is written `\\`; a byte that is no UTF-8, and each byte of a character that could move the cursor, reorder the
//! line or be invisible, is written `\xNN`. [`unescape`] gives the same bytes back, so that JSON can carry any name.

use std::fmt::Write as _;

/// The bytes as text that a terminal shows as it is.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\\' {
                text.push_str("\\\\");
            } else if harmful(character) {
                push_bytes(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(character);
            }
        }
        push_bytes(&mut text, chunk.invalid());
    }
    text
}

/// The bytes that [`escape`] made this text of; `None` if it is not of its form.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'\\' {
            bytes.push(first);
            rest = after;
            continue;
        }
        match after {
            [b'\\', after @ ..] => {
                bytes.push(b'\\');
                rest = after;
            }
            [b'x', high, low, after @ ..] => {
                bytes.push(nibble(*high)? << 4 | nibble(*low)?);
                rest = after;
            }
            _ => return None,
        }
    }
    Some(bytes)
}

/// Characters that a terminal acts on, or that change how their neighbours look: control characters with C1, the
/// separators of lines and paragraphs, marks of writing direction, and what has no width.
fn harmful(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

fn push_bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        assert_eq!(escape(bytes), expected);
        assert_eq!(unescape(expected).as_deref(), Some(bytes));
    }

    #[test]
    fn plain_names_stay_as_they_are() {
        check("résumé – 報告.txt \"quoted\"; -rf".as_bytes(), "résumé – 報告.txt \"quoted\"; -rf");
    }

    #[test]
    fn newlines_and_escape_sequences_are_shown() {
        check(b"a\nb\r\x1b[31m\x7f\t", "a\\x0ab\\x0d\\x1b[31m\\x7f\\x09");
    }

    #[test]
    fn c1_controls_are_shown() {
        check("\u{9b}31m".as_bytes(), "\\xc2\\x9b31m");
    }

    #[test]
    fn writing_direction_cannot_be_turned() {
        check("gpj.\u{202e}exe\u{2069}".as_bytes(), "gpj.\\xe2\\x80\\xaeexe\\xe2\\x81\\xa9");
    }

    #[test]
    fn line_and_paragraph_separators_are_shown() {
        check("a\u{2028}b\u{2029}".as_bytes(), "a\\xe2\\x80\\xa8b\\xe2\\x80\\xa9");
    }

    #[test]
    fn invalid_utf8_is_kept_byte_by_byte() {
        check(b"\xff\xfea\xe2\x82", "\\xff\\xfea\\xe2\\x82");
    }

    #[test]
    fn a_backslash_is_doubled() {
        check(b"a\\x41", "a\\\\x41");
    }

    #[test]
    fn composed_and_decomposed_twins_stay_apart() {
        assert_ne!(escape("e\u{301}".as_bytes()), escape("\u{e9}".as_bytes()));
    }

    #[test]
    fn text_of_another_form_is_not_read_back() {
        for text in ["\\", "\\n", "\\x4", "\\x4G", "\\xAB"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_name_comes_back_and_shows_nothing_harmful(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
            let text = escape(&bytes);
            proptest::prop_assert!(!text.chars().any(harmful));
            proptest::prop_assert_eq!(unescape(&text), Some(bytes));
        }
    }
}
