//! The head of one request, judged line by line, from whole bytes.

use crate::gateway::inspect::framing::FIELDS_MAX;

/// Fields that say where a request ends, to whom it goes or what becomes of its connection.
const STEERING: [&str; 8] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "proxy-connection",
];

/// What no client of ours sends, and what two servers could read differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A line feed alone.
    #[error("a line ends without a carriage return")]
    BareLineFeed,
    /// Longer than any client needs.
    #[error("the head is longer than 65536 bytes")]
    HeadTooLong,
    /// Not a method, a target and a version.
    #[error("the first line is no request of HTTP/1.0 or HTTP/1.1")]
    RequestLine,
    /// An absolute target, an authority, or an asterisk.
    #[error("the target is not a path: no proxy is needed here")]
    Target,
    /// A tunnel.
    #[error("CONNECT asks a proxy for a tunnel, and there is none here")]
    Tunnel,
    /// A line that is no field.
    #[error("a header line is folded, or has no name, a blank before its colon or a control character")]
    Field,
    /// Too many of them.
    #[error("there are more than 100 header lines")]
    TooManyFields,
    /// None, or two.
    #[error("there is not exactly one Host header")]
    Host,
    /// A length that is none, or two.
    #[error("there is more than one Content-Length, or one that is no number")]
    ContentLength,
    /// Not exactly `chunked`.
    #[error("the Transfer-Encoding is not exactly `chunked`")]
    TransferEncoding,
    /// A length and chunks.
    #[error("there is a Content-Length beside a Transfer-Encoding")]
    TwoLengths,
    /// A steering field spelled with underscores.
    #[error("a header that steers the connection is spelled with an underscore")]
    Underscore,
    /// Within a body.
    #[error("a chunk has no plain size or end")]
    Chunk,
    /// Behind a body.
    #[error("the fields behind the last chunk are malformed")]
    Trailer,
}

impl Malformed {
    /// Whether it is the head of a request, so that nothing of that request went on and it can be answered.
    pub fn is_head(self) -> bool {
        !matches!(self, Self::Chunk | Self::Trailer)
    }
}

/// What follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    None,
    Length(u64),
    Chunked,
}

/// Judges a head, its last empty line included.
pub(super) fn check(head: &[u8]) -> Result<Body, Malformed> {
    let mut lines = lines(head);
    let version = request_line(lines.next().unwrap_or_default())?;
    let (mut hosts, mut lengths, mut codings) = (0, Vec::new(), Vec::new());
    for (count, line) in lines.enumerate() {
        if count == FIELDS_MAX {
            return Err(Malformed::TooManyFields);
        }
        let (name, value) = field(line).ok_or(Malformed::Field)?;
        if name.contains('_') && STEERING.contains(&name.replace('_', "-").as_str()) {
            return Err(Malformed::Underscore);
        }
        match name.as_str() {
            "host" => hosts += 1,
            "content-length" => lengths.push(value),
            "transfer-encoding" => codings.push(value),
            _ => {}
        }
    }
    if hosts != 1 {
        return Err(Malformed::Host);
    }
    body(version, &lengths, &codings)
}

/// Judges the fields behind a body: none may steer anything any more.
pub(super) fn check_trailers(trailers: &[u8]) -> Result<(), Malformed> {
    for (count, line) in lines(trailers).enumerate() {
        let (name, _) = field(line).ok_or(Malformed::Trailer)?;
        if count == FIELDS_MAX || STEERING.contains(&name.replace('_', "-").as_str()) {
            return Err(Malformed::Trailer);
        }
    }
    Ok(())
}

/// The lines before the empty one, without their ends.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let head = head.strip_suffix(b"\r\n\r\n").unwrap_or(head);
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let bytes = rest?;
        match memchr::memchr(b'\n', bytes) {
            Some(at) => {
                rest = Some(&bytes[at + 1..]);
                Some(bytes[..at].strip_suffix(b"\r").unwrap_or(&bytes[..at]))
            }
            None => {
                rest = None;
                Some(bytes)
            }
        }
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

fn request_line(line: &[u8]) -> Result<Version, Malformed> {
    let parts: Vec<&[u8]> = line.split(|it| *it == b' ').collect();
    let [method, target, version] = *parts.as_slice() else { return Err(Malformed::RequestLine) };
    if method.is_empty() || !method.iter().all(|it| is_token(*it)) {
        return Err(Malformed::RequestLine);
    }
    if !target.iter().all(u8::is_ascii_graphic) {
        return Err(Malformed::RequestLine);
    }
    let version = match version {
        b"HTTP/1.0" => Version::Http10,
        b"HTTP/1.1" => Version::Http11,
        _ => return Err(Malformed::RequestLine),
    };
    if method == b"CONNECT" {
        return Err(Malformed::Tunnel);
    }
    if target.first() == Some(&b'/') { Ok(version) } else { Err(Malformed::Target) }
}

/// Name, in lower case, and value.
fn field(line: &[u8]) -> Option<(String, &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let well = !name.is_empty() && name.iter().all(|it| is_token(*it));
    let plain = value.iter().all(|it| *it == b'\t' || (*it >= b' ' && *it != 0x7f));
    if !well || !plain {
        return None;
    }
    Some((String::from_utf8_lossy(name).to_ascii_lowercase(), value.trim_ascii()))
}

fn body(version: Version, lengths: &[&[u8]], codings: &[&[u8]]) -> Result<Body, Malformed> {
    match (lengths, codings) {
        ([], []) => Ok(Body::None),
        ([], [coding]) => {
            let chunked = coding.eq_ignore_ascii_case(b"chunked") && version == Version::Http11;
            if chunked { Ok(Body::Chunked) } else { Err(Malformed::TransferEncoding) }
        }
        ([length], []) => {
            let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let text = std::str::from_utf8(length).ok().filter(|_| digits);
            match text.and_then(|it| it.parse::<u64>().ok()) {
                Some(0) => Ok(Body::None),
                Some(length) => Ok(Body::Length(length)),
                None => Err(Malformed::ContentLength),
            }
        }
        (_, []) => Err(Malformed::ContentLength),
        ([], _) => Err(Malformed::TransferEncoding),
        (_, _) => Err(Malformed::TwoLengths),
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
