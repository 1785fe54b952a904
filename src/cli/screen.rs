//! A task's output on a person's terminal: colour passes, every other escape sequence and control is shown escaped, so
//! that no task can move the cursor, retitle the window or reach the clipboard. Pipes and files never come here.

use std::io::Write;

/// Bytes of one colour sequence at the most: longer ones are none.
const SEQUENCE_BYTES_MAX: usize = 64;

/// A writer that makes hostile bytes visible.
#[derive(Debug)]
pub struct Screen<W> {
    into: W,
    // An escape sequence or a multi-byte character that is not complete yet.
    held: Vec<u8>,
}

impl<W: Write> Screen<W> {
    /// Shows on `into`.
    pub fn new(into: W) -> Self {
        Self { into, held: Vec::new() }
    }
}

impl<W: Write> Write for Screen<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut shown = Vec::with_capacity(bytes.len() + bytes.len() / 8);
        let mut input = std::mem::take(&mut self.held);
        input.extend_from_slice(bytes);
        let mut rest = input.as_slice();
        while !rest.is_empty() {
            let used = match take(rest) {
                Token::Plain(count) => {
                    shown.extend_from_slice(&rest[..count]);
                    count
                }
                Token::Escaped(count) => {
                    for byte in &rest[..count] {
                        shown.extend(format!("\\x{byte:02x}").into_bytes());
                    }
                    count
                }
                Token::Incomplete => {
                    self.held = rest.to_vec();
                    break;
                }
            };
            rest = &rest[used..];
        }
        self.into.write_all(&shown)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.into.flush()
    }
}

impl<W> Drop for Screen<W> {
    fn drop(&mut self) {
        // What never became complete is nothing that a person misses: at most one sequence.
        self.held.clear();
    }
}

/// What the next bytes are, and how many.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    Plain(usize),
    Escaped(usize),
    Incomplete,
}

fn take(bytes: &[u8]) -> Token {
    match bytes[0] {
        0x1b => take_sequence(bytes),
        b'\n' | b'\r' | b'\t' | 0x20..=0x7e => Token::Plain(1),
        0x00..=0x1f | 0x7f => Token::Escaped(1),
        0x80..=0xff => take_character(bytes),
    }
}

/// `ESC [ digits and semicolons m` is colour; any other sequence has its ESC escaped, and is harmless text then.
fn take_sequence(bytes: &[u8]) -> Token {
    match bytes.get(1) {
        None => return Token::Incomplete,
        Some(b'[') => {}
        Some(_) => return Token::Escaped(1),
    }
    for (index, byte) in bytes.iter().enumerate().skip(2) {
        match byte {
            b'0'..=b'9' | b';' | b':' if index < SEQUENCE_BYTES_MAX => {}
            b'm' => return Token::Plain(index + 1),
            _ => return Token::Escaped(1),
        }
    }
    Token::Incomplete
}

/// A character of UTF-8; those that steer a terminal or turn the direction of text are escaped.
fn take_character(bytes: &[u8]) -> Token {
    let length = match bytes[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Token::Escaped(1),
    };
    let available = &bytes[..length.min(bytes.len())];
    match std::str::from_utf8(available) {
        Ok(text) => match text.chars().next() {
            Some(character) if steers(character) => Token::Escaped(length),
            Some(_) => Token::Plain(length),
            None => Token::Escaped(1),
        },
        Err(error) if error.error_len().is_none() && available.len() < length => Token::Incomplete,
        Err(_) => Token::Escaped(1),
    }
}

fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &[u8], expected: &str) {
        for split in 0..=input.len() {
            let mut shown = Vec::new();
            let mut screen = Screen::new(&mut shown);
            screen.write_all(&input[..split]).expect("written");
            screen.write_all(&input[split..]).expect("written");
            drop(screen);
            assert_eq!(String::from_utf8_lossy(&shown), expected, "split at {split}");
        }
    }

    #[test]
    fn text_and_colour_pass() {
        check("a\tß€😀\r\n\x1b[1;31mred\x1b[0m".as_bytes(), "a\tß€😀\r\n\x1b[1;31mred\x1b[0m");
    }

    #[test]
    fn the_clipboard_cannot_be_reached() {
        check(b"\x1b]52;c;ZWNobw==\x07", "\\x1b]52;c;ZWNobw==\\x07");
    }

    #[test]
    fn the_screen_cannot_be_cleared() {
        check(b"\x1b[2Jx", "\\x1b[2Jx");
    }

    #[test]
    fn eight_bit_controls_and_odd_bytes_are_shown() {
        check(b"\x9b31m\xff", "\\x9b31m\\xff");
        check("\u{9b}31m".as_bytes(), "\\xc2\\x9b31m");
    }

    #[test]
    fn turned_text_is_shown() {
        check("\u{202e}x".as_bytes(), "\\xe2\\x80\\xaex");
    }
}
