//! Frames of an attached stream: a byte of kind, four bytes of length (little endian), the payload. Kinds of the two sides
//! are disjoint, and each has its own bound, held before a byte of the payload is read. Nothing here waits by itself.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::record::Stream;
use crate::task::Cancellation;

/// Bytes of one stream in one frame at the most.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one stream that may be under way: sent, and not yet told to be taken.
pub const WINDOW_BYTES: u32 = 512 * 1024;
/// Bytes of the object that tells the end.
pub const END_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of kind and length.
const HEADER_BYTES: usize = 5;

/// A frame that is not one, or that did not come.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Of a kind that this side does not send.
    #[error("a frame of the kind {kind:#04x} is not for the other side to send")]
    Kind {
        /// The kind.
        kind: u8,
    },
    /// Longer than its kind may be.
    #[error("a frame says {bytes} bytes, where {bytes_max} are the most")]
    Length {
        /// What it says.
        bytes: u32,
        /// The bound.
        bytes_max: usize,
    },
    /// The payload is not what its kind says.
    #[error("a frame of the kind {kind:#04x} does not decode")]
    Payload {
        /// The kind.
        kind: u8,
    },
    /// The connection ended within a frame, or failed.
    #[error("the connection broke")]
    Io(#[from] io::Error),
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient {
    /// Bytes of standard input.
    Input(Vec<u8>),
    /// Standard input is at its end.
    InputEnd,
    /// The client's terminal has another size.
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// End the task; a second time at once. What is no interrupt travels as a termination.
    Cancel(Cancellation),
    /// So many bytes of an output were taken.
    Taken(Stream, u32),
    /// Nobody reads this output any more.
    Closed(Stream),
    /// The client lives.
    Alive,
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromServer {
    /// The run waits, at this place of its project's runs; 0 where it waits for more than a worker.
    Waiting(u32),
    /// A worker has it.
    Begun,
    /// Bytes of an output.
    Output(Stream, Vec<u8>),
    /// So many bytes of standard input were taken.
    Taken(u32),
    /// The run has its outcome: an `EndJson`.
    End(Vec<u8>),
    /// The server lives.
    Alive,
}

/// A side's frames.
pub trait Frame: Sized {
    /// Bytes of a payload of this kind at the most; `None` for a kind that this side does not send.
    fn bytes_max(kind: u8) -> Option<usize>;

    /// Reads a payload; `None` if it is not what its kind says.
    fn decode(kind: u8, payload: Vec<u8>) -> Option<Self>;

    /// Kind and payload.
    fn encode(&self) -> (u8, Vec<u8>);
}

/// The next frame; `None` where the connection ends between two.
pub async fn read<F: Frame>(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<F>, FrameError> {
    let mut header = [0; HEADER_BYTES];
    if from.read(&mut header[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut header[1..]).await?;
    let [kind, length @ ..] = header;
    let bytes = u32::from_le_bytes(length);
    let bytes_max = F::bytes_max(kind).ok_or(FrameError::Kind { kind })?;
    if bytes as usize > bytes_max {
        return Err(FrameError::Length { bytes, bytes_max });
    }
    let mut payload = vec![0; bytes as usize];
    from.read_exact(&mut payload).await?;
    F::decode(kind, payload).map(Some).ok_or(FrameError::Payload { kind })
}

/// Writes a frame, and pushes it out.
pub async fn write<F: Frame>(into: &mut (impl AsyncWrite + Unpin), frame: &F) -> io::Result<()> {
    let (kind, payload) = frame.encode();
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.push(kind);
    bytes.extend(length.to_le_bytes());
    bytes.extend(payload);
    into.write_all(&bytes).await?;
    into.flush().await
}

impl Frame for FromClient {
    fn bytes_max(kind: u8) -> Option<usize> {
        match kind {
            0x01 => Some(CHUNK_BYTES_MAX),
            0x02 | 0x07 => Some(0),
            0x03 => Some(4),
            0x04 | 0x06 => Some(1),
            0x05 => Some(5),
            _ => None,
        }
    }

    fn decode(kind: u8, payload: Vec<u8>) -> Option<Self> {
        match (kind, payload.as_slice()) {
            (0x01, [_, ..]) => Some(Self::Input(payload)),
            (0x02, []) => Some(Self::InputEnd),
            (0x03, &[a, b, c, d]) => {
                Some(Self::Resize { rows: u16::from_le_bytes([a, b]), columns: u16::from_le_bytes([c, d]) })
            }
            (0x04, [0]) => Some(Self::Cancel(Cancellation::Interrupt)),
            (0x04, [1]) => Some(Self::Cancel(Cancellation::Terminate)),
            (0x05, &[of, a, b, c, d]) => Some(Self::Taken(stream(of)?, u32::from_le_bytes([a, b, c, d]))),
            (0x06, &[of]) => Some(Self::Closed(stream(of)?)),
            (0x07, []) => Some(Self::Alive),
            _ => None,
        }
    }

    fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Input(bytes) => (0x01, bytes.clone()),
            Self::InputEnd => (0x02, Vec::new()),
            Self::Resize { rows, columns } => (0x03, [rows.to_le_bytes(), columns.to_le_bytes()].concat()),
            Self::Cancel(Cancellation::Interrupt) => (0x04, vec![0]),
            Self::Cancel(
                Cancellation::Terminate
                | Cancellation::Command
                | Cancellation::Deadline
                | Cancellation::Dependency
                | Cancellation::Client,
            ) => (0x04, vec![1]),
            Self::Taken(of, bytes) => (0x05, [&[number(*of)], &bytes.to_le_bytes()[..]].concat()),
            Self::Closed(of) => (0x06, vec![number(*of)]),
            Self::Alive => (0x07, Vec::new()),
        }
    }
}

impl Frame for FromServer {
    fn bytes_max(kind: u8) -> Option<usize> {
        match kind {
            0x82 | 0x86 => Some(0),
            0x83 => Some(1 + CHUNK_BYTES_MAX),
            0x81 | 0x84 => Some(4),
            0x85 => Some(END_BYTES_MAX),
            _ => None,
        }
    }

    fn decode(kind: u8, mut payload: Vec<u8>) -> Option<Self> {
        match (kind, payload.as_slice()) {
            (0x81, &[a, b, c, d]) => Some(Self::Waiting(u32::from_le_bytes([a, b, c, d]))),
            (0x82, []) => Some(Self::Begun),
            (0x83, &[of, _, ..]) => {
                let stream = stream(of)?;
                payload.remove(0);
                Some(Self::Output(stream, payload))
            }
            (0x84, &[a, b, c, d]) => Some(Self::Taken(u32::from_le_bytes([a, b, c, d]))),
            (0x85, _) => Some(Self::End(payload)),
            (0x86, []) => Some(Self::Alive),
            _ => None,
        }
    }

    fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Waiting(place) => (0x81, place.to_le_bytes().to_vec()),
            Self::Begun => (0x82, Vec::new()),
            Self::Output(of, bytes) => (0x83, [&[number(*of)], &bytes[..]].concat()),
            Self::Taken(bytes) => (0x84, bytes.to_le_bytes().to_vec()),
            Self::End(json) => (0x85, json.clone()),
            Self::Alive => (0x86, Vec::new()),
        }
    }
}

fn stream(number: u8) -> Option<Stream> {
    match number {
        0 => Some(Stream::Stdout),
        1 => Some(Stream::Stderr),
        _ => None,
    }
}

fn number(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check<F: Frame + PartialEq + std::fmt::Debug>(frame: F) {
        let mut bytes = Vec::new();
        write(&mut bytes, &frame).await.expect("written");
        let mut from = bytes.as_slice();
        assert_eq!(read::<F>(&mut from).await.expect("a frame"), Some(frame));
        assert_eq!(read::<F>(&mut from).await.expect("its end"), None);
    }

    #[tokio::test]
    async fn every_frame_is_read_as_it_was_written() {
        check(FromClient::Input(vec![7; CHUNK_BYTES_MAX])).await;
        check(FromClient::InputEnd).await;
        check(FromClient::Resize { rows: 40, columns: 300 }).await;
        check(FromClient::Cancel(Cancellation::Interrupt)).await;
        check(FromClient::Cancel(Cancellation::Terminate)).await;
        check(FromClient::Taken(Stream::Stderr, 70_000)).await;
        check(FromClient::Closed(Stream::Stdout)).await;
        check(FromClient::Alive).await;
        check(FromServer::Waiting(3)).await;
        check(FromServer::Begun).await;
        check(FromServer::Output(Stream::Stdout, vec![7; CHUNK_BYTES_MAX])).await;
        check(FromServer::Taken(9)).await;
        check(FromServer::End(b"{}".to_vec())).await;
        check(FromServer::Alive).await;
    }

    async fn refused<F: Frame>(bytes: &[u8]) -> FrameError {
        let mut from = bytes;
        read::<F>(&mut from).await.err().expect("it is refused")
    }

    #[tokio::test]
    async fn a_length_out_of_bounds_is_refused_before_its_payload() {
        let error = refused::<FromClient>(&[0x01, 1, 0, 1, 0]).await;
        assert!(matches!(error, FrameError::Length { bytes: 65_537, bytes_max: CHUNK_BYTES_MAX }), "{error}");
    }

    #[tokio::test]
    async fn neither_side_may_send_what_is_the_others() {
        for kind in 0x80..=0xff {
            assert!(matches!(refused::<FromClient>(&[kind, 0, 0, 0, 0]).await, FrameError::Kind { .. }));
        }
        for kind in 0x00..0x80 {
            assert!(matches!(refused::<FromServer>(&[kind, 0, 0, 0, 0]).await, FrameError::Kind { .. }));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async {
                let _ = read::<FromClient>(&mut bytes.as_slice()).await;
                let _ = read::<FromServer>(&mut bytes.as_slice()).await;
            });
        }
    }
}
