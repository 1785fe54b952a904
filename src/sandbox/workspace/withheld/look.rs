//! The bounded look into a file whose name does not tell. Pure but for one read of at most `BUNDLE_BYTES_MAX`.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use memchr::memmem::find;
use rustix::fs::{FileType, fstat};

use crate::sandbox::beneath;

/// Bytes of a file that is looked at for what it might be.
pub const SMALL_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a file that its name says to hold keys or certificates: bundles of certificates are larger.
const BUNDLE_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Marks of a private key: PEM of every kind with OpenSSH's, PGP's, PuTTY's, age's.
const KEY_MARKS: [&[u8]; 4] =
    [b"PRIVATE KEY-----", b"PRIVATE KEY BLOCK-----", b"PuTTY-User-Key-File-", b"AGE-SECRET-KEY-1"];
/// What the name of a setting ends in whose value is a login.
const LOGIN_KEYS: [&[u8]; 9] = [
    b"password",
    b"passwd",
    b"token",
    b"tokens",
    b"authident",
    b"_auth",
    b"secret",
    b"secretkey",
    b"extraheader",
];

/// What a content is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Whether it holds a private key.
    PrivateKey,
    /// Whether it holds anything but certificates and public keys: its name says that it is a key.
    NotPublic,
    /// Whether it holds a login: a URL with a password, or a setting whose name says so.
    Login,
    /// Whether it is the key of a service account.
    ServiceAccount,
}

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is what was asked for.
    Secret,
    /// It is not.
    Harmless,
}

/// Looks into the file `name` in `directory`. What cannot be read is left to whoever copies it.
pub fn look(directory: BorrowedFd<'_>, name: &[u8], look: Look) -> Seen {
    let Ok(opened) = beneath::file(directory, name) else { return Seen::Harmless };
    if !fstat(&opened).is_ok_and(|it| FileType::from_raw_mode(it.st_mode) == FileType::RegularFile) {
        return Seen::Harmless;
    }
    let bytes_max = match look {
        Look::NotPublic => BUNDLE_BYTES_MAX,
        Look::PrivateKey | Look::Login | Look::ServiceAccount => SMALL_BYTES_MAX,
    };
    let mut content = Vec::new();
    if File::from(opened).take(bytes_max + 1).read_to_end(&mut content).is_err() {
        return Seen::Harmless;
    }
    judge(&content, look, content.len() as u64 > bytes_max)
}

/// What a content is; `cut` says that there is more of it.
pub(super) fn judge(content: &[u8], look: Look, cut: bool) -> Seen {
    let secret = match look {
        Look::PrivateKey => has_key(content),
        Look::NotPublic => has_key(content) || cut || !is_public(content),
        Look::Login => content.split(|it| *it == b'\n').any(is_login),
        Look::ServiceAccount => is_service_account(content),
    };
    if secret { Seen::Secret } else { Seen::Harmless }
}

fn has_key(content: &[u8]) -> bool {
    KEY_MARKS.iter().any(|it| find(content, it).is_some())
}

/// Certificates, public keys and parameters; nothing; or a presentation, whose ending is the same as a key's.
fn is_public(content: &[u8]) -> bool {
    content.trim_ascii().is_empty()
        || find(content, b"-----BEGIN ").is_some()
        || content.starts_with(b"PK\x03\x04")
}

fn is_service_account(content: &[u8]) -> bool {
    let private =
        find(content, b"\"private_key\"").is_some() || find(content, b"\"refresh_token\"").is_some();
    private && content.trim_ascii_start().starts_with(b"{")
}

fn is_login(line: &[u8]) -> bool {
    if has_url_login(line) {
        return true;
    }
    let Some(at) = line.iter().position(|it| matches!(it, b'=' | b':')) else { return false };
    // An entry of NuGet's XML has its name in a first attribute.
    let (key, value) = match find(line, b"value=") {
        Some(second) => (&line[..second], &line[second + 6..]),
        None => (&line[..at], &line[at + 1..]),
    };
    let marks: &[u8] = b" \t\r\"'<>/";
    let key = trimmed(key, marks).to_ascii_lowercase();
    let value = trimmed(value, marks);
    // A reference to a variable is no value.
    LOGIN_KEYS.iter().any(|it| key.ends_with(it)) && !value.is_empty() && !b"$%{".contains(&value[0])
}

/// Whether a URL in this line has a password or token before its host.
pub fn has_url_login(line: &[u8]) -> bool {
    let mut rest = line;
    while let Some(at) = find(rest, b"://") {
        let scheme = rest[..at].rsplit(|it| !it.is_ascii_alphanumeric()).next().unwrap_or_default();
        rest = &rest[at + 3..];
        let authority = rest.split(|it| b"/?# \t\"'<>".contains(it)).next().unwrap_or_default();
        let Some(host) = authority.iter().rposition(|it| *it == b'@') else { continue };
        let user = &authority[..host];
        // Over ssh the user alone is an address; over anything else it may be a token.
        let reference = user.contains(&b'$') || user.contains(&b'{');
        if !reference && (user.contains(&b':') || !scheme.ends_with(b"ssh")) {
            return true;
        }
    }
    false
}

fn trimmed<'a>(text: &'a [u8], marks: &[u8]) -> &'a [u8] {
    let start = text.iter().position(|it| !marks.contains(it)).unwrap_or(text.len());
    let end = text.iter().rposition(|it| !marks.contains(it)).map_or(start, |it| it + 1);
    &text[start..end]
}
