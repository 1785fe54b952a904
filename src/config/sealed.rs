//! Files that only a named key or a passphrase opens again (age). What is read of one is whole and unchanged, or an error.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use age::stream::StreamWriter;
use age::x25519;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::config::private_file::{self, Fault};

/// Bytes of a passphrase, with its line's end, at the most.
const PASSPHRASE_BYTES_MAX: u64 = 1024;
/// Characters of a passphrase below which it could be found by trying.
const PASSPHRASE_CHARACTERS_MIN: usize = 12;
/// Bytes of a file of identities at the most.
const IDENTITIES_BYTES_MAX: u64 = 64 * 1024;

/// Why something cannot be sealed or opened. No text of it has a passphrase or a key.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Not a public key.
    #[error("`{text}` is no recipient: give a public key as `age-keygen` prints it, which begins with age1")]
    Recipient {
        /// What was given, escaped.
        text: String,
    },
    /// A file that cannot be read.
    #[error("the {what} `{}` cannot be read", path.display())]
    Read {
        /// What it holds.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that others can read.
    #[error("the {what} `{}` is open to other users (mode {mode:03o}): run `chmod 600 {}`", path.display(), path.display())]
    Exposed {
        /// What it holds.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A passphrase that could be found by trying.
    #[error("the passphrase in `{}` is shorter than {PASSPHRASE_CHARACTERS_MIN} characters: take a longer one", path.display())]
    Short {
        /// Where it was read.
        path: PathBuf,
    },
    /// A file without an identity.
    #[error("`{}` holds no identity: it must have a line that begins with AGE-SECRET-KEY-1, as `age-keygen` writes it", path.display())]
    NoIdentity {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Sealed for others, or not sealed at all.
    #[error(
        "it is not sealed for what was given: another key or passphrase opens it, or it is no sealed file at all"
    )]
    Locked,
}

/// For whom something is sealed.
pub enum Lock {
    /// For the holders of these keys; any of them opens it.
    Recipients(Vec<x25519::Recipient>),
    /// For whoever knows a passphrase.
    Passphrase(SecretString),
}

/// What opens it.
pub enum Unlock {
    /// Keys; one of them has to fit.
    Identities(Vec<x25519::Identity>),
    /// A passphrase.
    Passphrase(SecretString),
}

impl fmt::Debug for Lock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Recipients(_) => "Lock::Recipients",
            Self::Passphrase(_) => "Lock::Passphrase",
        })
    }
}

impl fmt::Debug for Unlock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Identities(_) => "Unlock::Identities",
            Self::Passphrase(_) => "Unlock::Passphrase",
        })
    }
}

impl Lock {
    /// For the holders of public keys.
    pub fn for_recipients(texts: &[String]) -> Result<Self, SealError> {
        let parsed = texts.iter().map(|text| {
            let refused = |_| SealError::Recipient { text: text.escape_default().take(80).collect() };
            text.trim().parse::<x25519::Recipient>().map_err(refused)
        });
        Ok(Self::Recipients(parsed.collect::<Result<_, _>>()?))
    }

    /// For whoever knows the passphrase in the first line of a file.
    pub fn with_passphrase_of(path: &Path) -> Result<Self, SealError> {
        Ok(Self::Passphrase(passphrase(path)?))
    }

    /// Seals what is written. Nothing of it can be opened before [`Sealing::finish`].
    pub fn seal<W: Write>(&self, out: W) -> io::Result<Sealing<W>> {
        let encryptor = match self {
            Self::Recipients(keys) => {
                let keys = keys.iter().map(|it| it as &dyn age::Recipient);
                age::Encryptor::with_recipients(keys).map_err(io::Error::other)?
            }
            Self::Passphrase(phrase) => age::Encryptor::with_user_passphrase(phrase.clone()),
        };
        Ok(Sealing(encryptor.wrap_output(out)?))
    }
}

impl Unlock {
    /// With the identities in a file, as `age-keygen` writes it.
    pub fn with_identities_of(path: &Path) -> Result<Self, SealError> {
        let text = read_private("identity", path, IDENTITIES_BYTES_MAX)?;
        let text = std::str::from_utf8(&text).unwrap_or_default();
        let lines = text.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#'));
        let keys: Option<Vec<x25519::Identity>> = lines.map(|it| it.parse().ok()).collect();
        match keys {
            Some(keys) if !keys.is_empty() => Ok(Self::Identities(keys)),
            Some(_) | None => Err(SealError::NoIdentity { path: path.to_owned() }),
        }
    }

    /// With the passphrase in the first line of a file.
    pub fn with_passphrase_of(path: &Path) -> Result<Self, SealError> {
        Ok(Self::Passphrase(passphrase(path)?))
    }

    /// Opens what was sealed. A read beyond a changed or cut place is an error.
    pub fn open<'a, R: BufRead + 'a>(&self, sealed: R) -> Result<Box<dyn Read + 'a>, SealError> {
        let decryptor = age::Decryptor::new_buffered(sealed).map_err(|_| SealError::Locked)?;
        let opened = match self {
            Self::Identities(keys) => decryptor.decrypt(keys.iter().map(|it| it as &dyn age::Identity)),
            Self::Passphrase(phrase) => {
                let identity = age::scrypt::Identity::new(phrase.clone());
                decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity))
            }
        };
        opened.map(|it| Box::new(it) as Box<dyn Read + 'a>).map_err(|_| SealError::Locked)
    }
}

/// A file that is being sealed.
pub struct Sealing<W: Write>(StreamWriter<W>);

impl<W: Write> Sealing<W> {
    /// Writes the end and gives the file back.
    pub fn finish(self) -> io::Result<W> {
        self.0.finish()
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn passphrase(path: &Path) -> Result<SecretString, SealError> {
    let bytes = read_private("passphrase", path, PASSPHRASE_BYTES_MAX)?;
    let first = bytes.split(|it| *it == b'\n').next().unwrap_or_default();
    let phrase = std::str::from_utf8(first).unwrap_or_default().trim_end_matches('\r');
    if phrase.chars().count() < PASSPHRASE_CHARACTERS_MIN {
        return Err(SealError::Short { path: path.to_owned() });
    }
    Ok(SecretString::from(phrase.to_owned()))
}

fn read_private(what: &'static str, path: &Path, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, SealError> {
    private_file::read(path, bytes_max).map_err(|it| match it {
        Fault::Io(source) => SealError::Read { what, path: path.to_owned(), source },
        Fault::Exposed(mode) => SealError::Exposed { what, path: path.to_owned(), mode },
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    const TEXT: &[u8] = b"what nobody else may read";

    fn file(directory: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        path
    }

    fn sealed(lock: &Lock) -> Vec<u8> {
        let mut sealing = lock.seal(Vec::new()).expect("begun");
        sealing.write_all(TEXT).expect("written");
        sealing.finish().expect("finished")
    }

    fn read(unlock: &Unlock, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        unlock.open(bytes).ok()?.read_to_end(&mut text).ok()?;
        Some(text)
    }

    #[test]
    fn a_key_opens_what_is_sealed_for_it_and_another_does_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let (own, other) = (x25519::Identity::generate(), x25519::Identity::generate());
        let lock = Lock::for_recipients(&[own.to_public().to_string()]).expect("a recipient");
        let bytes = sealed(&lock);
        let identity = |key: &x25519::Identity, name| {
            let text = format!("# made today\n{}\n", key.to_string().expose_secret());
            Unlock::with_identities_of(&file(directory.path(), name, &text, 0o600)).expect("an identity")
        };
        assert_eq!(read(&identity(&own, "own"), &bytes).as_deref(), Some(TEXT));
        assert_eq!(read(&identity(&other, "other"), &bytes), None);
        assert!(memchr::memmem::find(&bytes, TEXT).is_none());
    }

    #[test]
    fn one_byte_less_or_another_one_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = file(directory.path(), "phrase", "correct horse battery\n", 0o400);
        let bytes = sealed(&Lock::with_passphrase_of(&path).expect("a lock"));
        let unlock = Unlock::with_passphrase_of(&path).expect("an unlock");
        assert_eq!(read(&unlock, &bytes).as_deref(), Some(TEXT));
        assert_eq!(read(&unlock, &bytes[..bytes.len() - 1]), None);
        let mut changed = bytes;
        *changed.last_mut().expect("a byte") ^= 1;
        assert_eq!(read(&unlock, &changed), None);
    }

    #[test]
    fn a_short_or_open_passphrase_and_a_key_that_is_none_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let refusal = |path: &Path| Lock::with_passphrase_of(path).expect_err("refused").to_string();
        let short = refusal(&file(directory.path(), "short", "hunter2\n", 0o600));
        assert!(short.contains("shorter than 12") && !short.contains("hunter2"), "{short}");
        assert!(
            refusal(&file(directory.path(), "open", "correct horse battery", 0o644)).contains("chmod 600")
        );
        let none = Lock::for_recipients(&["AGE-SECRET-KEY-1".to_owned()]).expect_err("refused").to_string();
        assert!(none.contains("begins with age1"), "{none}");
        let empty = file(directory.path(), "empty", "# nothing\n", 0o600);
        assert!(matches!(Unlock::with_identities_of(&empty), Err(SealError::NoIdentity { .. })));
    }
}
