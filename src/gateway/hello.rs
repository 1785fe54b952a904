//! The first message of a TLS client, read as it comes in: the name it asks for, whether that name may hide another, and
//! the protocols it offers.
//!
//! Everything here is hostile. Lengths are bounded before anything is kept, every vector must end where its length says,
//! and what the protocol forbids is refused, not repaired. Nothing is answered: the bytes stay with the caller, who may
//! pass them on.

mod message;

/// Bytes that a client may need for its first message, headers of records included.
pub const HELLO_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one record.
const RECORD_BYTES_MAX: usize = 16 * 1024;
const RECORD_HEADER_BYTES: usize = 5;
const RECORD_HANDSHAKE: u8 = 22;
const VERSION_MAJOR: u8 = 3;
const MESSAGE_HEADER_BYTES: usize = 4;
const MESSAGE_CLIENT_HELLO: u8 = 1;

/// What is known after some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// Not enough to tell.
    More,
    /// This is another protocol.
    NotTls,
    /// It begins as TLS and is nothing that a client of ours may send.
    Refused(HelloRefusal),
    /// The whole message.
    Complete(ClientHello),
}

/// What a client asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server's name in lower case; `None` where the client names none.
    pub server_name: Option<String>,
    /// Whether an encrypted hello travels inside (or padding that looks like one, as browsers send): the server may
    /// then take another name than `server_name`.
    pub hidden: bool,
    /// The application's protocols, in the client's order.
    pub alpn: Vec<Vec<u8>>,
}

/// What is wrong with a first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloRefusal {
    /// Longer than any client needs.
    #[error("the TLS client's first message is longer than {HELLO_BYTES_MAX} bytes")]
    TooLong,
    /// A record that is empty or longer than the protocol allows.
    #[error("a TLS record of {0} bytes stands in the first message")]
    Record(usize),
    /// The message is cut by a record of another kind.
    #[error("a TLS record of type {0} stands in the middle of the first message")]
    Interrupted(u8),
    /// A handshake that begins with something else.
    #[error("the first TLS message is of type {0}, not a client's hello")]
    OtherMessage(u8),
    /// Bytes of a further message in the same record.
    #[error("the TLS client sends more behind its hello before it was answered")]
    MoreBehind,
    /// A length that does not fit its place.
    #[error("the TLS client's hello does not fit its own lengths at `{0}`")]
    Malformed(&'static str),
    /// The same extension twice.
    #[error("the TLS client's hello has the extension {0} twice")]
    Twice(u16),
    /// More extensions than any client sends.
    #[error("the TLS client's hello has more than {0} extensions")]
    TooManyExtensions(usize),
    /// A name that is none of a host.
    #[error("the server name in the TLS client's hello is no host name")]
    NoHostName,
}

/// Reads a first message from pieces of any size.
#[derive(Debug, Clone, Default)]
pub struct HelloReader {
    header: Vec<u8>,
    /// Bytes of the record's content that are still to come.
    awaited: usize,
    message: Vec<u8>,
    seen: usize,
    ended: Option<Hello>,
}

impl HelloReader {
    /// A reader at the start of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream. Once it has answered with anything but [`Hello::More`], the answer stays.
    pub fn feed(&mut self, bytes: &[u8]) -> Hello {
        let mut rest = bytes;
        while self.ended.is_none() && !rest.is_empty() {
            if self.awaited == 0 {
                self.header.push(rest[0]);
                rest = &rest[1..];
                self.ended = self.after_header_byte();
            } else {
                let (part, after) = rest.split_at(rest.len().min(self.awaited));
                self.message.extend_from_slice(part);
                self.awaited -= part.len();
                rest = after;
                if self.awaited == 0 {
                    self.header.clear();
                    self.ended = self.after_record();
                }
            }
        }
        self.ended.clone().unwrap_or(Hello::More)
    }

    /// Judges a header as far as it has come, so that the answer does not depend on how the stream was cut.
    fn after_header_byte(&mut self) -> Option<Hello> {
        let begun = !self.message.is_empty();
        match *self.header.as_slice() {
            [kind] if kind != RECORD_HANDSHAKE && begun => {
                Some(Hello::Refused(HelloRefusal::Interrupted(kind)))
            }
            [kind] if kind != RECORD_HANDSHAKE => Some(Hello::NotTls),
            [_, major] if major != VERSION_MAJOR && begun => {
                Some(Hello::Refused(HelloRefusal::Malformed("record version")))
            }
            [_, major] if major != VERSION_MAJOR => Some(Hello::NotTls),
            [_, _, _, high, low] => self.begin_record(usize::from(high) << 8 | usize::from(low)),
            _ => None,
        }
    }

    fn begin_record(&mut self, length: usize) -> Option<Hello> {
        if length == 0 || length > RECORD_BYTES_MAX {
            return Some(Hello::Refused(HelloRefusal::Record(length)));
        }
        self.seen += RECORD_HEADER_BYTES + length;
        if self.seen > HELLO_BYTES_MAX {
            return Some(Hello::Refused(HelloRefusal::TooLong));
        }
        self.awaited = length;
        None
    }

    fn after_record(&self) -> Option<Hello> {
        let kind = *self.message.first()?;
        if kind != MESSAGE_CLIENT_HELLO {
            return Some(Hello::Refused(HelloRefusal::OtherMessage(kind)));
        }
        let length = self.message.get(1..MESSAGE_HEADER_BYTES)?;
        let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        if length > HELLO_BYTES_MAX {
            return Some(Hello::Refused(HelloRefusal::TooLong));
        }
        let body = &self.message[MESSAGE_HEADER_BYTES..];
        match body.len().cmp(&length) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Greater => Some(Hello::Refused(HelloRefusal::MoreBehind)),
            std::cmp::Ordering::Equal => Some(match message::parse(body) {
                Ok(hello) => Hello::Complete(hello),
                Err(refusal) => Hello::Refused(refusal),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
