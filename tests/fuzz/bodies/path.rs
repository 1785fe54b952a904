//! Any text, taken for the path of a request: never a panic, and what is accepted has nothing in it that a server could
//! read in another way.

use aegis::policy::network::path::{Path, PathPattern};

/// Inputs to begin with.
pub const SEEDS: [&[u8]; 5] =
    [b"/v1/messages?x=1", b"/a%2fb/%7Eme", b"/a/../b", b"/%252e%252e/", b"//a/./%5c%00\xc3\xa4"];

/// Holds it for these bytes.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(pattern) = PathPattern::parse(&text) {
        let written = pattern.to_string();
        assert_eq!(PathPattern::parse(&written), Ok(pattern), "{written}");
    }
    let Ok(path) = Path::parse(&text) else { return };
    let judged = text.split('?').next().unwrap_or_default();
    let decoded = unescaped(judged.as_bytes());
    let segments: Vec<&[u8]> = decoded.split(|it| *it == b'/').collect();
    // The first is what comes before the first slash, the last what comes after one at the end.
    let inner = &segments[1..segments.len().max(2) - 1];
    assert!(judged.starts_with('/') && segments[0].is_empty(), "{text}");
    assert!(path.has_escaped_slash() || inner.iter().all(|it| !it.is_empty()), "{text}");
    assert!(path.has_escaped_slash() || !segments.iter().any(|it| matches!(*it, b"." | b"..")), "{text}");
    assert!(!decoded.iter().any(|it| *it < 0x20 || matches!(it, 0x7f | b'\\')), "{text}");
    assert_eq!(unescaped(&decoded).len(), decoded.len(), "{text} is escaped twice");
    assert!(path.pattern().matches(&path) && PathPattern::ROOT.matches(&path), "{text}");
    // The query is no part of what is judged.
    assert_eq!(Path::parse(&format!("{judged}?/../")), Ok(path), "{text}");
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let digits = after.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        let value = digits.filter(|it| it.bytes().all(|it| it.is_ascii_hexdigit()));
        match value.and_then(|it| u8::from_str_radix(it, 16).ok()).filter(|_| *byte == b'%') {
            Some(value) => {
                out.push(value);
                rest = &after[2..];
            }
            None => out.push(*byte),
        }
    }
    out
}
