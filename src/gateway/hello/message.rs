//! The body of a ClientHello (RFC 8446, 4.1.2; RFC 6066, 3; RFC 7301), from whole bytes.

use crate::gateway::hello::{ClientHello, HelloRefusal};

const RANDOM_BYTES: usize = 32;
const SESSION_BYTES_MAX: usize = 32;
/// Extensions at the most: today's browsers send about twenty.
const EXTENSIONS_MAX: usize = 128;
/// Bytes of a host name (RFC 1035).
const NAME_BYTES_MAX: usize = 253;
const NAME_KIND_HOST: u8 = 0;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
/// The encrypted server name of drafts before the encrypted hello.
const EXTENSION_ESNI_DRAFT: u16 = 0xffce;
const EXTENSION_ENCRYPTED_HELLO: u16 = 0xfe0d;
const ENCRYPTED_HELLO_OUTER: u8 = 0;

/// Reads the body of the message.
pub(super) fn parse(body: &[u8]) -> Result<ClientHello, HelloRefusal> {
    let mut body = Part { bytes: body, place: "hello" };
    body.fixed("version", 2)?;
    body.fixed("random", RANDOM_BYTES)?;
    if body.short("session")?.bytes.len() > SESSION_BYTES_MAX {
        return Err(HelloRefusal::Malformed("session"));
    }
    let suites = body.long("cipher suites")?.bytes.len();
    if suites == 0 || suites % 2 != 0 {
        return Err(HelloRefusal::Malformed("cipher suites"));
    }
    if body.short("compression")?.bytes.is_empty() {
        return Err(HelloRefusal::Malformed("compression"));
    }
    if body.bytes.is_empty() {
        return Ok(ClientHello::default());
    }
    let extensions = body.long("extensions")?;
    body.end()?;
    read_extensions(extensions)
}

fn read_extensions(mut extensions: Part<'_>) -> Result<ClientHello, HelloRefusal> {
    let mut hello = ClientHello::default();
    let mut kinds = Vec::new();
    while !extensions.bytes.is_empty() {
        let kind = extensions.number("extension")?;
        let content = extensions.long("extension")?;
        if kinds.contains(&kind) {
            return Err(HelloRefusal::Twice(kind));
        }
        if kinds.len() == EXTENSIONS_MAX {
            return Err(HelloRefusal::TooManyExtensions(EXTENSIONS_MAX));
        }
        kinds.push(kind);
        match kind {
            EXTENSION_SERVER_NAME => hello.server_name = Some(server_name(content)?),
            EXTENSION_ALPN => hello.alpn = protocols(content)?,
            EXTENSION_ESNI_DRAFT => hello.hidden = true,
            // The inner form stands inside of an encrypted hello only.
            EXTENSION_ENCRYPTED_HELLO => match content.bytes.first() {
                Some(&ENCRYPTED_HELLO_OUTER) => hello.hidden = true,
                Some(_) | None => return Err(HelloRefusal::Malformed("encrypted hello")),
            },
            _ => {}
        }
    }
    Ok(hello)
}

/// The one host name of the list: a list of two would be read differently by different servers.
fn server_name(mut content: Part<'_>) -> Result<String, HelloRefusal> {
    let mut list = content.long("server names")?;
    content.end()?;
    let kind = list.fixed("server name", 1)?;
    let name = list.long("server name")?;
    list.end()?;
    let plain = |it: &u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.' | b'_');
    let fits = !name.bytes.is_empty() && name.bytes.len() <= NAME_BYTES_MAX;
    match std::str::from_utf8(name.bytes) {
        Ok(text) if fits && kind == [NAME_KIND_HOST] && name.bytes.iter().all(plain) => {
            Ok(text.to_ascii_lowercase())
        }
        Ok(_) | Err(_) => Err(HelloRefusal::NoHostName),
    }
}

fn protocols(mut content: Part<'_>) -> Result<Vec<Vec<u8>>, HelloRefusal> {
    let mut list = content.long("protocols")?;
    content.end()?;
    let mut protocols = Vec::new();
    while !list.bytes.is_empty() {
        let protocol = list.short("protocol")?;
        if protocol.bytes.is_empty() {
            return Err(HelloRefusal::Malformed("protocol"));
        }
        protocols.push(protocol.bytes.to_vec());
    }
    if protocols.is_empty() {
        return Err(HelloRefusal::Malformed("protocols"));
    }
    Ok(protocols)
}

/// Bytes that are taken from the front.
struct Part<'a> {
    bytes: &'a [u8],
    place: &'static str,
}

impl<'a> Part<'a> {
    fn fixed(&mut self, place: &'static str, length: usize) -> Result<&'a [u8], HelloRefusal> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(HelloRefusal::Malformed(place))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn number(&mut self, place: &'static str) -> Result<u16, HelloRefusal> {
        let taken = self.fixed(place, 2)?;
        Ok(u16::from(taken[0]) << 8 | u16::from(taken[1]))
    }

    /// A vector with one byte of length.
    fn short(&mut self, place: &'static str) -> Result<Part<'a>, HelloRefusal> {
        let length = self.fixed(place, 1)?[0];
        Ok(Part { bytes: self.fixed(place, usize::from(length))?, place })
    }

    /// A vector with two bytes of length.
    fn long(&mut self, place: &'static str) -> Result<Part<'a>, HelloRefusal> {
        let length = self.number(place)?;
        Ok(Part { bytes: self.fixed(place, usize::from(length))?, place })
    }

    /// Nothing may be left.
    fn end(&self) -> Result<(), HelloRefusal> {
        if self.bytes.is_empty() { Ok(()) } else { Err(HelloRefusal::Malformed(self.place)) }
    }
}
