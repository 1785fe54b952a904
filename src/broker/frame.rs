//! Framing between a server and its broker: four bytes of length (little endian), then that many bytes. The length is
//! bounded before anything is taken for it.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of a request: a container with every list at its bound fits.
pub const ASK_BYTES_MAX: usize = 256 * 1024;
/// Bytes of an answer: a listing of every sandbox that an instance can have fits.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Time that a message may take once it has begun.
const MESSAGE_TIME_MAX: Duration = Duration::from_secs(30);

/// Why there is no further message.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Nothing, or more than may be.
    #[error("a message of {bytes} bytes is out of bounds: 1 to {bytes_max}")]
    Length {
        /// What it says.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// It ended in its middle.
    #[error("a message is cut off")]
    Truncated,
    /// It did not come, or go, to its end.
    #[error("a message took longer than {} s", MESSAGE_TIME_MAX.as_secs())]
    Late,
    /// The socket failed.
    #[error("the connection between server and broker failed")]
    Io(#[from] std::io::Error),
}

/// The next message; `None` when the other side is done. A wait that is given up loses the connection's place.
pub async fn read(
    from: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, FrameError> {
    let mut header = [0; 4];
    // Between two messages there is no deadline.
    if from.read(&mut header[..1]).await? == 0 {
        return Ok(None);
    }
    let rest = async {
        from.read_exact(&mut header[1..]).await?;
        let bytes = u32::from_le_bytes(header) as usize;
        if bytes == 0 || bytes > bytes_max {
            return Err(FrameError::Length { bytes, bytes_max });
        }
        let mut message = vec![0; bytes];
        from.read_exact(&mut message).await?;
        Ok(Some(message))
    };
    match tokio::time::timeout(MESSAGE_TIME_MAX, rest).await {
        Ok(Err(FrameError::Io(error))) if error.kind() == ErrorKind::UnexpectedEof => {
            Err(FrameError::Truncated)
        }
        Ok(read) => read,
        Err(_) => Err(FrameError::Late),
    }
}

/// A message with its length before it.
pub fn framed(message: &[u8], bytes_max: usize) -> Result<Vec<u8>, FrameError> {
    let bytes = message.len();
    match u32::try_from(bytes) {
        Ok(length) if bytes > 0 && bytes <= bytes_max => {
            let mut frame = Vec::with_capacity(4 + bytes);
            frame.extend(length.to_le_bytes());
            frame.extend(message);
            Ok(frame)
        }
        Ok(_) | Err(_) => Err(FrameError::Length { bytes, bytes_max }),
    }
}

/// Sends what [`framed`] made.
pub async fn write(to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> Result<(), FrameError> {
    match tokio::time::timeout(MESSAGE_TIME_MAX, to.write_all(frame)).await {
        Ok(written) => Ok(written?),
        Err(_) => Err(FrameError::Late),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(bytes: &[u8], expected: &str) {
        let mut from = bytes;
        let told = match read(&mut from, 8).await {
            Ok(Some(message)) => String::from_utf8_lossy(&message).into_owned(),
            Ok(None) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(told.starts_with(expected), "{told}");
    }

    #[tokio::test]
    async fn a_message_is_read_and_the_end_is_told() {
        check(b"\x02\0\0\0okay", "ok").await;
        check(b"", "nothing").await;
    }

    #[tokio::test]
    async fn a_length_out_of_bounds_is_refused_before_anything_is_read() {
        check(&[9, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9], "a message of 9 bytes").await;
        check(b"\xff\xff\xff\xff", "a message of 4294967295 bytes").await;
        check(b"\0\0\0\0", "a message of 0 bytes").await;
    }

    #[tokio::test]
    async fn a_message_that_is_cut_off_is_none() {
        check(b"\x02\0\0\0o", "a message is cut off").await;
        check(b"\x02\0", "a message is cut off").await;
    }
}
