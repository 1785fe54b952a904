//! Paths of requests, and patterns of them.
//!
//! A path is judged in one form only. What a server might read in two ways (`..`, `//`, an encoded slash or dot, an escape
//! within an escape, a control character) is refused, not repaired: what was judged is what is sent. Escaped letters and
//! digits compare as what they stand for. The query is no part of a path and no rule judges it; a slash at the end names
//! the same path as without.
//!
//! An escaped slash (`%2F`; npm asks for `/@scope%2fname`) is one segment to one server and two to another. Such a path is
//! covered by the pattern `/` alone, under which both readings lie.

use std::fmt;

use crate::policy::network::union::Shape;

/// Bytes of a request's path.
pub const PATH_BYTES_MAX: usize = 8 * 1024;
/// Segments of a pattern.
pub const SEGMENTS_MAX: usize = 32;
/// Stars of a pattern.
pub const STARS_MAX: usize = 2;
/// Bytes of a pattern.
const PATTERN_BYTES_MAX: usize = 1024;

/// A request's path in the form that is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    segments: Vec<String>,
    escaped_slash: bool,
}

/// A pattern: a prefix by whole segments, where a star stands for any one segment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathPattern {
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(String),
    Star,
}

/// Text that is no path, or no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each is its message")]
pub enum PathError {
    #[error("it must begin with `/`")]
    Relative,
    #[error("it is too long")]
    Long,
    #[error("it has an empty segment (`//`)")]
    EmptySegment,
    #[error("it has a `.` or `..` segment")]
    DotSegment,
    #[error("it has an escaped dot (`%2E`)")]
    EscapedDot,
    #[error("it has an escaped slash (`%2F`), which only a rule for every path passes")]
    EscapedSlash,
    #[error("it has a backslash")]
    Backslash,
    #[error("it has an escape within an escape (`%25` and two digits)")]
    DoubleEscape,
    #[error("it has a `%` without two hexadecimal digits")]
    BrokenEscape,
    #[error("it has a control character, plain or escaped")]
    Control,
    #[error("its escapes are no UTF-8")]
    NotUtf8,
    #[error("it has a character that must be escaped")]
    Character,
    #[error("it has a `#`")]
    Fragment,
    #[error("it has a query: rules judge paths")]
    Query,
    #[error("it ends with `/`: write it without, which covers everything beneath it too")]
    TrailingSlash,
    #[error("a `*` is a segment of its own: write `/v1/*/items`")]
    PartStar,
    #[error("it has more than 32 segments")]
    Segments,
    #[error("it has more than 2 stars")]
    Stars,
}

impl Path {
    /// Reads the path of a request, with or without a query.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let path = text.split_once('?').map_or(text, |(path, _)| path);
        if path.len() > PATH_BYTES_MAX {
            return Err(PathError::Long);
        }
        let rest = path.strip_prefix('/').ok_or(PathError::Relative)?;
        let mut parsed = Self { segments: Vec::new(), escaped_slash: false };
        if rest.is_empty() {
            return Ok(parsed);
        }
        for segment in rest.strip_suffix('/').unwrap_or(rest).split('/') {
            let (segment, escaped_slash) = canonical(segment)?;
            parsed.segments.push(segment);
            parsed.escaped_slash |= escaped_slash;
        }
        Ok(parsed)
    }

    /// Whether it can be read in two ways, so that only `/` covers it.
    pub fn has_escaped_slash(&self) -> bool {
        self.escaped_slash
    }

    /// The narrowest pattern that covers it.
    pub fn pattern(&self) -> PathPattern {
        if self.escaped_slash {
            return PathPattern::ROOT;
        }
        // A segment that a pattern cannot name (a `*` in it) ends the pattern before it.
        let nameable = self.segments.iter().take(SEGMENTS_MAX).take_while(|it| !it.contains('*'));
        PathPattern { segments: nameable.cloned().map(Segment::Literal).collect() }
    }
}

impl PathPattern {
    /// Every path.
    pub const ROOT: Self = Self { segments: Vec::new() };

    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PathError::Long);
        }
        if text.contains('?') {
            return Err(PathError::Query);
        }
        let rest = text.strip_prefix('/').ok_or(PathError::Relative)?;
        if rest.is_empty() {
            return Ok(Self::ROOT);
        }
        if rest.ends_with('/') && !rest.ends_with("//") && rest != "/" {
            return Err(PathError::TrailingSlash);
        }
        let mut segments = Vec::new();
        for segment in rest.split('/') {
            segments.push(pattern_segment(segment)?);
            if segments.len() > SEGMENTS_MAX {
                return Err(PathError::Segments);
            }
        }
        let stars = segments.iter().filter(|it| **it == Segment::Star).count();
        if stars > STARS_MAX { Err(PathError::Stars) } else { Ok(Self { segments }) }
    }

    /// How many segments it has.
    pub fn depth(&self) -> usize {
        self.segments.len()
    }

    /// Its first segments.
    pub fn cut(mut self, depth: usize) -> Self {
        self.segments.truncate(depth);
        self
    }

    /// Whether it means this path.
    pub fn matches(&self, path: &Path) -> bool {
        if path.escaped_slash {
            return self.segments.is_empty();
        }
        let same = |(pattern, segment): (&Segment, &String)| match pattern {
            Segment::Star => true,
            Segment::Literal(text) => text == segment,
        };
        self.segments.len() <= path.segments.len() && self.segments.iter().zip(&path.segments).all(same)
    }
}

impl Shape for PathPattern {
    fn covers(&self, other: &Self) -> bool {
        let wider = |(ours, theirs): (&Segment, &Segment)| *ours == Segment::Star || ours == theirs;
        self.segments.len() <= other.segments.len() && self.segments.iter().zip(&other.segments).all(wider)
    }

    fn meet(&self, other: &Self) -> Option<Self> {
        let (short, long) =
            if self.segments.len() <= other.segments.len() { (self, other) } else { (other, self) };
        let mut segments = long.segments.clone();
        for (segment, theirs) in segments.iter_mut().zip(&short.segments) {
            if *segment == Segment::Star {
                *segment = theirs.clone();
            } else if *theirs != Segment::Star && segment != theirs {
                return None;
            }
        }
        Some(Self { segments })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return out.write_str("/");
        }
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(out, "/{text}")?,
                Segment::Star => out.write_str("/*")?,
            }
        }
        Ok(())
    }
}

fn pattern_segment(text: &str) -> Result<Segment, PathError> {
    if text == "*" {
        return Ok(Segment::Star);
    }
    if text.contains('*') {
        return Err(PathError::PartStar);
    }
    match canonical(text)? {
        (_, true) => Err(PathError::EscapedSlash),
        (text, false) => Ok(Segment::Literal(text)),
    }
}

/// The one form of a segment, and whether a slash is escaped in it.
fn canonical(segment: &str) -> Result<(String, bool), PathError> {
    if segment.is_empty() {
        return Err(PathError::EmptySegment);
    }
    // What follows a `;` is a parameter to some servers, which look at the rest alone.
    if matches!(segment.split(';').next(), Some("." | "..")) {
        return Err(PathError::DotSegment);
    }
    let (mut text, mut decoded, mut escaped_slash) =
        (String::with_capacity(segment.len()), Vec::new(), false);
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            plain(byte)?;
            text.push(char::from(byte));
            decoded.push(byte);
            continue;
        }
        let byte = escaped(bytes.next(), bytes.next())?;
        decoded.push(byte);
        match byte {
            0..=0x1f | 0x7f => return Err(PathError::Control),
            b'.' => return Err(PathError::EscapedDot),
            b'\\' => return Err(PathError::Backslash),
            _ if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) => text.push(char::from(byte)),
            _ => {
                escaped_slash |= byte == b'/';
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    if std::str::from_utf8(&decoded).is_err() {
        return Err(PathError::NotUtf8);
    }
    // Looked for in the result: `%25%32e` is one of them too.
    let is_digit = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    if text.match_indices("%25").any(|(at, _)| is_digit(at + 3) && is_digit(at + 4)) {
        return Err(PathError::DoubleEscape);
    }
    if text.starts_with(".%3B") || text.starts_with("..%3B") {
        return Err(PathError::DotSegment);
    }
    Ok((text, escaped_slash))
}

/// Characters that stand for themselves in a segment.
fn plain(byte: u8) -> Result<(), PathError> {
    match byte {
        b'\\' => Err(PathError::Backslash),
        b'#' => Err(PathError::Fragment),
        0..=0x1f | 0x7f => Err(PathError::Control),
        _ if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) => Ok(()),
        _ => Err(PathError::Character),
    }
}

fn escaped(high: Option<u8>, low: Option<u8>) -> Result<u8, PathError> {
    let digit = |it: Option<u8>| it.and_then(|it| char::from(it).to_digit(16));
    match (digit(high), digit(low)) {
        (Some(high), Some(low)) => u8::try_from(high * 16 + low).map_err(|_| PathError::BrokenEscape),
        (None, _) | (_, None) => Err(PathError::BrokenEscape),
    }
}

#[cfg(test)]
mod tests;
