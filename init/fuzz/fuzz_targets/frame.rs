//! Any bytes, taken for a frame and for a payload in both directions: bounded, never a panic, and what decodes encodes
//! to something that decodes to the same.

#![no_main]

use aegis_init::frame::{HEADER_BYTES, REPLY_BYTES_MAX, REQUEST_BYTES_MAX, decode, encode, parse_header};
use aegis_init::wire::{Reply, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(header) = bytes.first_chunk::<HEADER_BYTES>() {
        if let Ok(header) = parse_header(*header, REPLY_BYTES_MAX) {
            assert!((1..=REPLY_BYTES_MAX).contains(&header.length));
        }
    }
    if let Ok(reply) = decode::<Reply>(bytes) {
        let frame = encode(&reply, 0, REPLY_BYTES_MAX).expect("what arrived fits");
        assert_eq!(decode::<Reply>(&frame[HEADER_BYTES..]), Ok(reply));
    }
    if let Ok(request) = decode::<Request>(bytes) {
        let frame = encode(&request, 0, REQUEST_BYTES_MAX).expect("what arrived fits");
        assert_eq!(decode::<Request>(&frame[HEADER_BYTES..]), Ok(request));
    }
});
