//! Where the requests of an HTTP/1.1 connection begin and end, held to the letter before anything else reads them.
//!
//! Two readers that disagree on this let a request hide inside another. So whatever could be read in two ways is
//! refused here: line ends without a carriage return, folded lines, blanks before a colon, two lengths, a length beside
//! chunks, extensions of chunks, a target that is no path. Pure: it sees bytes and says how many of them are well.

mod head;

pub use head::Malformed;

use head::Body;

/// Bytes of a request's head.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Fields of a request.
pub const FIELDS_MAX: usize = 100;
/// Bytes of the line that gives a chunk's size.
const CHUNK_LINE_BYTES_MAX: usize = 18;
/// Bytes of the fields behind the last chunk.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// What may be done with the bytes at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many of them are well, one or more.
    Pass(usize),
    /// They cannot be judged without more.
    More,
    /// The connection ends here.
    Malformed(Malformed),
}

/// The place in a stream of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framer {
    place: Place,
    /// Bytes at hand that were looked at without an end of line in them.
    looked: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Head,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    Ended(Malformed),
}

impl Framer {
    /// The start of a connection.
    pub fn at_start() -> Self {
        Self { place: Place::Head, looked: 0 }
    }

    /// Judges the bytes at hand: those that follow what was passed before.
    pub fn advance(&mut self, bytes: &[u8]) -> Step {
        if bytes.is_empty() {
            return Step::More;
        }
        match self.place {
            Place::Head => self.head(bytes),
            Place::Body(rest) => self.content(bytes, rest, Place::Head, Place::Body),
            Place::Chunk(rest) => self.content(bytes, rest, Place::ChunkEnd, Place::Chunk),
            Place::ChunkSize => self.chunk_size(bytes),
            Place::ChunkEnd => self.chunk_end(bytes),
            Place::Trailers => self.trailers(bytes),
            Place::Ended(why) => Step::Malformed(why),
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Step {
        let Some(end) =
            self.end_of_fields(bytes, HEAD_BYTES_MAX, [Malformed::BareLineFeed, Malformed::HeadTooLong])
        else {
            return self.undecided();
        };
        match head::check(&bytes[..end]) {
            Ok(body) => {
                self.place = match body {
                    Body::None => Place::Head,
                    Body::Length(length) => Place::Body(length),
                    Body::Chunked => Place::ChunkSize,
                };
                Step::Pass(end)
            }
            Err(why) => self.ended(why),
        }
    }

    fn content(&mut self, bytes: &[u8], rest: u64, after: Place, within: fn(u64) -> Place) -> Step {
        let count = usize::try_from(rest).unwrap_or(usize::MAX).min(bytes.len());
        let rest = rest - count as u64;
        self.place = if rest == 0 { after } else { within(rest) };
        Step::Pass(count)
    }

    fn chunk_size(&mut self, bytes: &[u8]) -> Step {
        let Some(end) = self.end_of_line(bytes, CHUNK_LINE_BYTES_MAX, Malformed::Chunk) else {
            return self.undecided();
        };
        let digits = &bytes[..end - 2];
        let text = std::str::from_utf8(digits).ok().filter(|it| it.bytes().all(|it| it.is_ascii_hexdigit()));
        match text.and_then(|it| u64::from_str_radix(it, 16).ok()) {
            Some(0) => self.place = Place::Trailers,
            Some(size) => self.place = Place::Chunk(size),
            None => return self.ended(Malformed::Chunk),
        }
        Step::Pass(end)
    }

    fn chunk_end(&mut self, bytes: &[u8]) -> Step {
        match bytes {
            [b'\r'] => Step::More,
            [b'\r', b'\n', ..] => {
                self.place = Place::ChunkSize;
                Step::Pass(2)
            }
            _ => self.ended(Malformed::Chunk),
        }
    }

    fn trailers(&mut self, bytes: &[u8]) -> Step {
        if bytes.starts_with(b"\r\n") {
            (self.place, self.looked) = (Place::Head, 0);
            return Step::Pass(2);
        }
        let Some(end) = self.end_of_fields(bytes, TRAILER_BYTES_MAX, [Malformed::Trailer; 2]) else {
            return self.undecided();
        };
        match head::check_trailers(&bytes[..end]) {
            Ok(()) => {
                self.place = Place::Head;
                Step::Pass(end)
            }
            Err(why) => self.ended(why),
        }
    }

    /// Where the empty line after some fields ends. Every line must end with both of its bytes.
    fn end_of_fields(&mut self, bytes: &[u8], max: usize, wrong: [Malformed; 2]) -> Option<usize> {
        let [bare, too_long] = wrong;
        let bytes = &bytes[..bytes.len().min(max)];
        let mut from = self.looked;
        while let Some(at) = memchr::memchr(b'\n', &bytes[from..]).map(|it| from + it) {
            if at == 0 || bytes[at - 1] != b'\r' {
                self.place = Place::Ended(bare);
                return None;
            }
            if bytes[..=at].ends_with(b"\r\n\r\n") {
                self.looked = 0;
                return Some(at + 1);
            }
            from = at + 1;
        }
        self.looked = bytes.len();
        if bytes.len() == max {
            self.place = Place::Ended(too_long);
        }
        None
    }

    fn end_of_line(&mut self, bytes: &[u8], max: usize, wrong: Malformed) -> Option<usize> {
        let at = memchr::memchr(b'\n', &bytes[..bytes.len().min(max)]);
        match at {
            Some(at) if at > 0 && bytes[at - 1] == b'\r' => return Some(at + 1),
            Some(_) => self.place = Place::Ended(wrong),
            None if bytes.len() >= max => self.place = Place::Ended(wrong),
            None => {}
        }
        None
    }

    fn undecided(&self) -> Step {
        match self.place {
            Place::Ended(why) => Step::Malformed(why),
            Place::Head | Place::Body(_) | Place::ChunkSize | Place::Chunk(_) => Step::More,
            Place::ChunkEnd | Place::Trailers => Step::More,
        }
    }

    fn ended(&mut self, why: Malformed) -> Step {
        self.place = Place::Ended(why);
        Step::Malformed(why)
    }
}

#[cfg(test)]
mod tests;
