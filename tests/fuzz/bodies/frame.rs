//! Any bytes, taken for a frame and for a payload in both directions: bounded, never a panic, and what decodes encodes
//! to something that decodes to the same.

use aegis_init::frame::{HEADER_BYTES, REPLY_BYTES_MAX, REQUEST_BYTES_MAX, decode, encode, parse_header};
use aegis_init::wire::{Reply, Request};

/// Inputs to begin with.
pub const SEEDS: [&[u8]; 3] = [b"\x03\0\0\0\0\0\0\0\x0b\x01\x02", b"\x00\x01\x01a", b"\x05\x00"];

/// Holds it for these bytes.
pub fn run(bytes: &[u8]) {
    if let Some(header) = bytes.first_chunk::<HEADER_BYTES>()
        && let Ok(header) = parse_header(*header, REPLY_BYTES_MAX)
    {
        assert!((1..=REPLY_BYTES_MAX).contains(&header.length));
    }
    if let Ok(reply) = decode::<Reply>(bytes) {
        let frame = encode(&reply, 0, REPLY_BYTES_MAX).expect("what arrived fits");
        assert_eq!(decode::<Reply>(&frame[HEADER_BYTES..]), Ok(reply));
    }
    if let Ok(request) = decode::<Request>(bytes) {
        let frame = encode(&request, 0, REQUEST_BYTES_MAX).expect("what arrived fits");
        assert_eq!(decode::<Request>(&frame[HEADER_BYTES..]), Ok(request));
    }
}
