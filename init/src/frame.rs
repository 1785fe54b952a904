//! Framing: eight bytes of header, then one message in postcard.
//!
//! The header says the payload's length and how many descriptors travel with its first byte. Both are bounded
//! here, before a byte of the payload is read or decoded.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of the header: length (u32, little endian), descriptor count, three zero bytes.
pub const HEADER_BYTES: usize = 8;
/// Payload bytes of one frame towards init: a whole argument list fits (Linux bounds it at 2 MiB here).
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Payload bytes of one frame towards the host.
pub const REPLY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Descriptors that may travel with one frame.
pub const DESCRIPTORS_MAX: usize = 3;

/// A frame that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The length is zero or above the bound.
    Length(u32),
    /// More descriptors than may travel.
    Descriptors(u8),
    /// Reserved bytes are set.
    Reserved,
    /// The payload does not decode, or has bytes left over.
    Payload,
    /// The message does not fit a frame.
    TooLarge,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length(length) => write!(out, "a frame says {length} bytes, which is out of bounds"),
            Self::Descriptors(count) => {
                write!(out, "a frame says {count} descriptors, which is out of bounds")
            }
            Self::Reserved => write!(out, "a frame has reserved bytes set"),
            Self::Payload => write!(out, "a frame does not decode"),
            Self::TooLarge => write!(out, "a message does not fit a frame"),
        }
    }
}

impl std::error::Error for FrameError {}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Payload bytes, 1 to the bound.
    pub length: usize,
    /// Descriptors, 0 to [`DESCRIPTORS_MAX`].
    pub descriptors: usize,
}

/// Reads a header and holds it to the bounds.
pub fn parse_header(bytes: [u8; HEADER_BYTES], length_max: usize) -> Result<Header, FrameError> {
    let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    if length == 0 || length as usize > length_max {
        return Err(FrameError::Length(length));
    }
    if usize::from(bytes[4]) > DESCRIPTORS_MAX {
        return Err(FrameError::Descriptors(bytes[4]));
    }
    if bytes[5..] != [0, 0, 0] {
        return Err(FrameError::Reserved);
    }
    Ok(Header { length: length as usize, descriptors: usize::from(bytes[4]) })
}

/// Decodes a payload; every byte must be used.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(payload) {
        Ok((message, [])) => Ok(message),
        Ok(_) | Err(_) => Err(FrameError::Payload),
    }
}

/// Header and payload in one buffer, ready to send.
pub fn encode<T: Serialize>(
    message: &T,
    descriptors: usize,
    length_max: usize,
) -> Result<Vec<u8>, FrameError> {
    if descriptors > DESCRIPTORS_MAX {
        return Err(FrameError::TooLarge);
    }
    let frame = postcard::to_extend(message, vec![0; HEADER_BYTES]).map_err(|_| FrameError::Payload)?;
    let length = frame.len() - HEADER_BYTES;
    if length > length_max {
        return Err(FrameError::TooLarge);
    }
    let mut frame = frame;
    // Both casts are bounded by the checks above.
    frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
    frame[4] = descriptors as u8;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Request;

    fn check_header(bytes: [u8; HEADER_BYTES], expected: Result<Header, FrameError>) {
        assert_eq!(parse_header(bytes, REPLY_BYTES_MAX), expected);
    }

    #[test]
    fn a_sound_header_is_read() {
        check_header([5, 0, 0, 0, 1, 0, 0, 0], Ok(Header { length: 5, descriptors: 1 }));
    }

    #[test]
    fn an_empty_frame_is_refused() {
        check_header([0; 8], Err(FrameError::Length(0)));
    }

    #[test]
    fn a_length_above_the_bound_is_refused() {
        check_header([255, 255, 255, 255, 0, 0, 0, 0], Err(FrameError::Length(u32::MAX)));
    }

    #[test]
    fn too_many_descriptors_are_refused() {
        check_header([5, 0, 0, 0, 4, 0, 0, 0], Err(FrameError::Descriptors(4)));
    }

    #[test]
    fn reserved_bytes_are_refused() {
        check_header([5, 0, 0, 0, 0, 0, 9, 0], Err(FrameError::Reserved));
    }

    #[test]
    fn left_over_bytes_are_refused() {
        let frame = encode(&Request::End, 0, REQUEST_BYTES_MAX).expect("it fits");
        let mut payload = frame[HEADER_BYTES..].to_vec();
        assert_eq!(decode::<Request>(&payload), Ok(Request::End));
        payload.push(0);
        assert_eq!(decode::<Request>(&payload), Err(FrameError::Payload));
    }

    #[test]
    fn a_message_above_the_bound_is_not_encoded() {
        let large = Request::PutChunk(serde_bytes::ByteBuf::from(vec![0; 100]));
        assert_eq!(encode(&large, 0, 50), Err(FrameError::TooLarge));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(payload in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..4096)) {
            let _ = decode::<crate::wire::Reply>(&payload);
            let _ = decode::<Request>(&payload);
        }
    }
}
