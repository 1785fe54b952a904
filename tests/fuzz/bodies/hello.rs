//! Any bytes, taken for a TLS client's first message: never a panic, the same answer however they are cut, and an answer
//! that stays.

use aegis::gateway::hello::{HELLO_BYTES_MAX, Hello, HelloReader};

/// Inputs to begin with: a hello with the server name `a.b` and ALPN `h2`, and another protocol.
pub const SEEDS: [&[u8]; 2] = [
    b"\x16\x03\x01\x00\x48\x01\x00\x00\x44\x03\x03\
      01234567890123456789012345678901\x00\x00\x02\x13\x01\x01\x00\x00\x19\
      \x00\x00\x00\x08\x00\x06\x00\x00\x03a.b\x00\x10\x00\x05\x00\x03\x02h2\x00\x15\x00\x00",
    b"SSH-2.0-client\r\n",
];

/// Holds it for these bytes.
pub fn run(bytes: &[u8]) {
    let whole = HelloReader::new().feed(bytes);
    let mut reader = HelloReader::new();
    let mut answer = Hello::More;
    for byte in bytes {
        let next = reader.feed(&[*byte]);
        assert!(answer == Hello::More || answer == next, "{answer:?} became {next:?}");
        answer = next;
    }
    assert_eq!(answer, whole);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut reader = HelloReader::new();
    reader.feed(first);
    assert_eq!(reader.feed(second), whole);
    assert!(bytes.len() <= HELLO_BYTES_MAX || whole != Hello::More, "it reads without an end");
    if let Hello::Complete(hello) = whole
        && let Some(name) = hello.server_name
    {
        assert!(name.len() <= 255 && !name.bytes().any(|it| it.is_ascii_uppercase()), "{name}");
    }
}
