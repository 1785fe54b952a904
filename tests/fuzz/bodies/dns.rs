//! Any bytes, taken for a query to the resolver of a sandbox: never a panic, nothing answered to an answer, and every
//! answer carries the number of its question.

use std::net::Ipv4Addr;

use aegis::gateway::resolver::message::{Answer, Asked, read, write};

/// Inputs to begin with: A and AAAA of `a.example.org`, one with options.
pub const SEEDS: [&[u8]; 3] = [
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x03org\x00\x00\x01\x00\x01",
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x03org\x00\x00\x1c\x00\x01",
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x01a\x07example\x03org\x00\x00\x01\x00\x01\
      \x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00",
];
/// Bytes of the longest answer: the question with its name, one record, options.
const ANSWER_BYTES_MAX: usize = 12 + 2 * (255 + 4) + 10 + 4 + 11;

/// Holds it for these bytes.
pub fn run(bytes: &[u8]) {
    let Some(asked) = read(bytes) else { return };
    assert!(bytes[2] & 0x80 == 0, "an answer was answered");
    if let Asked::Question(question) = &asked {
        assert!(question.labels().map(|it| it.len() + 1).sum::<usize>() < 256);
    }
    let answers = [
        Answer::Address(Ipv4Addr::LOCALHOST),
        Answer::Nothing,
        Answer::NoSuchName,
        Answer::Failed,
        Answer::Malformed,
    ];
    for answer in answers {
        let written = write(&asked, answer).expect("an answer");
        assert_eq!(written[..2], bytes[..2], "another question's number");
        assert!(written[2] & 0x80 != 0 && written.len() <= ANSWER_BYTES_MAX, "{} bytes", written.len());
    }
}
