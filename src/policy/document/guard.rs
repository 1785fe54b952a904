//! The bytes of a file of settings before they are parsed: small, UTF-8, and not nested so deep that taking the
//! parsed tree apart would exhaust the stack. The scan knows strings and comments as TOML does and nothing else.

use crate::policy::document::mistake::{DocumentError, Slip};

/// Bytes of a policy file, a ceiling or a project's file.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// Brackets and braces that may be open at once.
const BRACKETS_MAX: usize = 8;
/// Dots outside strings on one line: no key has more than two.
const DOTS_PER_LINE_MAX: usize = 8;

/// The text of a file that must say something, when it is safe to parse.
pub fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, DocumentError> {
    let text = sound(file, bytes)?;
    if text.trim().is_empty() {
        return Err(DocumentError::whole(file, "is empty: write `extends = \"strict\"` for strict as it is"));
    }
    Ok(text)
}

/// The text of a file that may be empty, when it is safe to parse.
pub fn sound<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, DocumentError> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        let message =
            format!("is larger than 64 KiB ({} bytes or more): such a file is a few lines", bytes.len());
        return Err(DocumentError::whole(file, &message));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(DocumentError::whole(
            file,
            "starts with a byte order mark: save it as UTF-8 without one",
        ));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(err) => {
            let valid = String::from_utf8_lossy(&bytes[..err.valid_up_to()]);
            return Err(at(file, &valid, valid.len(), "is not UTF-8 from here on: save it as UTF-8"));
        }
    };
    match scan(text) {
        Ok(()) => Ok(text),
        Err((offset, message)) => Err(at(file, text, offset, message)),
    }
}

fn at(file: &str, text: &str, offset: usize, message: &str) -> DocumentError {
    DocumentError::new(file, text, vec![Slip::said(offset, message.to_owned())])
}

/// Walks over the text once; where it stops, the byte and the reason.
fn scan(text: &str) -> Result<(), (usize, &'static str)> {
    let bytes = text.as_bytes();
    let (mut offset, mut open, mut dots) = (0, 0_usize, 0);
    while offset < bytes.len() {
        match bytes[offset] {
            b'"' | b'\'' => {
                offset = string_end(bytes, offset).ok_or((offset, "this string is not closed"))?;
                continue;
            }
            b'#' => {
                offset = line_end(bytes, offset);
                continue;
            }
            b'\n' => dots = 0,
            b'.' => dots += 1,
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            b'=' | b',' | b' ' | b'\t' | b'\r' => {}
            _ => {
                // A quote inside a bare word opens no string; the parser reads it as part of the word.
                offset = word_end(bytes, offset);
                continue;
            }
        }
        if open > BRACKETS_MAX || dots > DOTS_PER_LINE_MAX {
            return Err((offset, "is nested deeper than any key there is"));
        }
        offset += 1;
    }
    Ok(())
}

fn word_end(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|it| b".=,[]{} \t#\r\n".contains(it)).map_or(bytes.len(), |it| from + it)
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|it| matches!(it, b'\n' | b'\r')).map_or(bytes.len(), |it| from + it)
}

/// The byte after the string that starts here; `None` when it does not end where a string must.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let quote = bytes[start];
    let long = bytes[start..].starts_with(&[quote; 3]);
    let mut offset = start + if long { 3 } else { 1 };
    while offset < bytes.len() {
        let here = bytes[offset];
        if here == b'\\' && quote == b'"' {
            // Only these two could be mistaken for something else.
            let escaped = bytes.get(offset + 1).is_some_and(|it| matches!(it, b'\\' | b'"'));
            offset += if escaped { 2 } else { 1 };
        } else if here == b'\n' && !long {
            return None;
        } else if here == quote && !long {
            return Some(offset + 1);
        } else if here == quote && bytes[offset..].starts_with(&[quote; 3]) {
            // Up to two quotes may stand before the three that close.
            let extra = bytes[offset + 3..].iter().take(2).take_while(|it| **it == quote).count();
            return Some(offset + 3 + extra);
        } else {
            offset += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        let result = match text("p.toml", bytes) {
            Ok(_) => "fine".to_owned(),
            Err(refusal) => refusal.to_string(),
        };
        assert_eq!(result, expected);
    }

    #[test]
    fn plain_text_passes() {
        check(b"a = \"x.y.z.x.y.z.x.y.z.x\" # {{{{{{{{{{ ..........\nb = '\\' # \"\n", "fine");
    }

    #[test]
    fn an_empty_file_is_refused() {
        check(b" \n\t\n", "p.toml: is empty: write `extends = \"strict\"` for strict as it is");
    }

    #[test]
    fn a_large_file_is_refused_unread() {
        let message = "p.toml: is larger than 64 KiB (65537 bytes or more): such a file is a few lines";
        check(&[b'#'; DOCUMENT_BYTES_MAX + 1], message);
    }

    #[test]
    fn a_byte_order_mark_is_refused() {
        check(b"\xef\xbb\xbfa = 1", "p.toml: starts with a byte order mark: save it as UTF-8 without one");
    }

    #[test]
    fn what_is_not_utf8_is_placed() {
        check(b"a = 1\nbb\xff", "p.toml:2:3: is not UTF-8 from here on: save it as UTF-8");
    }

    #[test]
    fn brackets_do_not_nest_deep() {
        let message = "p.toml:1:13: is nested deeper than any key there is";
        check(format!("a = {}", "[".repeat(10_000)).as_bytes(), message);
        check(format!("a = {}", "[{".repeat(10_000)).as_bytes(), message);
    }

    #[test]
    fn keys_do_not_nest_deep() {
        let message = "p.toml:1:18: is nested deeper than any key there is";
        check(format!("{}a = 1", "a.".repeat(30_000)).as_bytes(), message);
    }

    #[test]
    fn a_quote_inside_a_word_hides_nothing() {
        let message = "p.toml:1:20: is nested deeper than any key there is";
        check(format!("x\"{}a\" = 1", "a.".repeat(30_000)).as_bytes(), message);
    }

    #[test]
    fn an_open_string_is_placed() {
        check(b"a = \"x\nb = 1", "p.toml:1:5: this string is not closed");
        check(b"a = '''x\nb = 1", "p.toml:1:5: this string is not closed");
        check(b"a = \"x\\", "p.toml:1:5: this string is not closed");
    }

    #[test]
    fn long_strings_end_at_their_last_quote() {
        check(b"a = \"\"\"x\"\"\"\"\"\nb = ''''''\n", "fine");
    }
}
