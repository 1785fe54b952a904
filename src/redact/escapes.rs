//! Which bytes of an output a terminal takes as a command: escape sequences. They can stand between any two bytes of a
//! secret, and nobody sees them.

/// The first byte of every sequence.
pub const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;
/// Bytes of a string in a sequence (a title, a link) at the most: an unended one does not swallow the rest.
const STRING_BYTES_MAX: u16 = 4096;

/// Where in a sequence the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escapes {
    /// In none.
    Ground,
    /// After ESC.
    Begun,
    /// After ESC and an intermediate byte.
    Intermediate,
    /// In a control sequence (CSI).
    Control,
    /// In a string (OSC, DCS, APC, PM, SOS).
    String {
        /// Bytes of it.
        bytes: u16,
    },
    /// After an ESC in a string.
    StringEnding,
}

/// What a byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Byte {
    /// Text.
    Text,
    /// Part of a sequence.
    Sequence,
}

impl Escapes {
    /// Takes the next byte.
    pub fn step(&mut self, byte: u8) -> Byte {
        let (next, what) = match (*self, byte) {
            (Self::String { .. }, ESCAPE) => (Self::StringEnding, Byte::Sequence),
            (_, ESCAPE) => (Self::Begun, Byte::Sequence),
            (Self::Ground, _) => (Self::Ground, Byte::Text),
            (Self::Begun | Self::StringEnding, b'[') => (Self::Control, Byte::Sequence),
            (Self::Begun | Self::StringEnding, b']' | b'P' | b'X' | b'^' | b'_') => {
                (Self::String { bytes: 0 }, Byte::Sequence)
            }
            (Self::Begun | Self::Intermediate | Self::StringEnding, 0x20..=0x2f) => {
                (Self::Intermediate, Byte::Sequence)
            }
            (Self::Begun | Self::Intermediate | Self::StringEnding, 0x30..=0x7e) => {
                (Self::Ground, Byte::Sequence)
            }
            (Self::Control, 0x20..=0x3f) => (Self::Control, Byte::Sequence),
            (Self::Control, 0x40..=0x7e) => (Self::Ground, Byte::Sequence),
            (Self::String { .. }, BELL) => (Self::Ground, Byte::Sequence),
            (Self::String { bytes }, _) if bytes < STRING_BYTES_MAX => {
                (Self::String { bytes: bytes + 1 }, Byte::Sequence)
            }
            (
                Self::Begun | Self::Intermediate | Self::Control | Self::String { .. } | Self::StringEnding,
                _,
            ) => (Self::Ground, Byte::Text),
        };
        *self = next;
        what
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], text: &[u8]) {
        let mut escapes = Escapes::Ground;
        let left: Vec<u8> = bytes.iter().copied().filter(|it| escapes.step(*it) == Byte::Text).collect();
        assert_eq!(left.escape_ascii().to_string(), text.escape_ascii().to_string());
    }

    #[test]
    fn sequences_are_told_from_text() {
        check(b"a\x1b[31mb\x1b[0;1mc", b"abc");
        check(b"a\x1b]0;title\x07b\x1b]8;;x\x1b\\c", b"abc");
        check(b"a\x1b(B\x1b[mb\x1b=c\x1bMd", b"abcd");
        check(b"a\x1bPq#0\x1b\\b", b"ab");
    }

    #[test]
    fn an_unended_string_does_not_swallow_the_rest() {
        let mut bytes = b"\x1b]0;".to_vec();
        bytes.extend(vec![b'x'; 5000]);
        bytes.extend(b"text");
        let mut escapes = Escapes::Ground;
        let left = bytes.iter().filter(|it| escapes.step(**it) == Byte::Text).count();
        assert!((900..1000).contains(&left), "{left}");
    }
}
