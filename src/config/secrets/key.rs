//! The key of the store, and the places it can be at.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use age::x25519;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::config::private_file::{self, Fault};
use crate::config::secrets::{SecretError, replace};

const KEY_FILE: &str = "secret.key";
/// Its name among a service's credentials.
const CREDENTIAL: &str = "aegis-secret-key";
/// Bytes of a key file at the most.
const KEY_BYTES_MAX: u64 = 4096;

/// Where the key is.
#[derive(Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// The variable `AEGIS_SECRET_KEY`.
    Variable,
    /// A file that somebody else makes: of `AEGIS_SECRET_KEY_FILE`, or a credential of the service manager's.
    Given(PathBuf),
    /// A file of ours, made when it is first needed.
    Own(PathBuf),
}

impl fmt::Debug for KeyPlace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable => out.write_str("the key in AEGIS_SECRET_KEY"),
            Self::Given(path) | Self::Own(path) => write!(out, "the key `{}`", path.display()),
        }
    }
}

impl KeyPlace {
    /// Where this process's environment says; the first of `AEGIS_SECRET_KEY`, `AEGIS_SECRET_KEY_FILE`, a credential of
    /// the service manager's, and the file beside the store.
    pub fn of_this_process(state: &Path) -> Self {
        let set = |name| std::env::var_os(name).filter(|it| !it.is_empty());
        if set("AEGIS_SECRET_KEY").is_some() {
            return Self::Variable;
        }
        if let Some(path) = set("AEGIS_SECRET_KEY_FILE") {
            return Self::Given(PathBuf::from(path));
        }
        let credential = set("CREDENTIALS_DIRECTORY").map(|it| Path::new(&it).join(CREDENTIAL));
        match credential.filter(|it| it.exists()) {
            Some(path) => Self::Given(path),
            None => Self::Own(state.join(KEY_FILE)),
        }
    }

    /// The key; `None` where it is not there.
    pub(super) fn read(&self) -> Result<Option<Key>, SecretError> {
        let text = match self {
            Self::Variable => {
                std::env::var("AEGIS_SECRET_KEY").ok().map(|it| Zeroizing::new(it.into_bytes()))
            }
            Self::Given(path) | Self::Own(path) => read_key(path)?,
        };
        let Some(text) = text else { return Ok(None) };
        let key = Key::parse(&text).ok_or_else(|| SecretError::KeyGarbled { place: self.to_string() })?;
        Ok(Some(key))
    }

    /// The key; a new one where it is ours to make and not there.
    pub(super) fn read_or_make(&self) -> Result<Key, SecretError> {
        if let Some(key) = self.read()? {
            return Ok(key);
        }
        let key = Key::generate();
        self.replace(&key)?;
        Ok(key)
    }

    /// Whether the key may be changed here.
    pub(super) fn check_ours(&self) -> Result<(), SecretError> {
        match self {
            Self::Own(_) => Ok(()),
            Self::Variable | Self::Given(_) => Err(SecretError::ForeignKey { place: self.to_string() }),
        }
    }

    /// Puts a key in its place.
    pub(super) fn replace(&self, key: &Key) -> Result<(), SecretError> {
        let Self::Own(path) = self else {
            return Err(SecretError::ForeignKey { place: self.to_string() });
        };
        replace(path, key.text().expose_secret().as_bytes())
            .map_err(|source| SecretError::Use { path: path.clone(), source })
    }
}

fn read_key(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, SecretError> {
    match private_file::read(path, KEY_BYTES_MAX) {
        Ok(text) => Ok(Some(text)),
        Err(Fault::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(Fault::Io(source)) => Err(SecretError::Use { path: path.to_owned(), source }),
        Err(Fault::Exposed(mode)) => Err(SecretError::KeyExposed { path: path.to_owned(), mode }),
    }
}

/// A key: what decrypts, and whom to encrypt for.
pub(super) struct Key(x25519::Identity);

impl Key {
    pub(super) fn generate() -> Self {
        Self(x25519::Identity::generate())
    }

    /// The first line that is no comment, as `age-keygen` writes it.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let line = text.lines().map(str::trim).find(|it| !it.is_empty() && !it.starts_with('#'))?;
        line.parse().ok().map(Self)
    }

    fn text(&self) -> SecretString {
        self.0.to_string()
    }

    pub(super) fn encrypt(keys: &[&Self], text: &[u8]) -> io::Result<Vec<u8>> {
        let recipients: Vec<x25519::Recipient> = keys.iter().map(|it| it.0.to_public()).collect();
        let encryptor =
            age::Encryptor::with_recipients(recipients.iter().map(|it| it as &dyn age::Recipient))
                .map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        let mut writer = encryptor.wrap_output(&mut bytes)?;
        writer.write_all(text)?;
        writer.finish()?;
        Ok(bytes)
    }

    /// `None` where the bytes were not encrypted for this key.
    pub(super) fn decrypt(&self, bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let decryptor = age::Decryptor::new_buffered(bytes).ok()?;
        let mut reader = decryptor.decrypt(std::iter::once(&self.0 as &dyn age::Identity)).ok()?;
        // What is encrypted is shorter than what encrypts it.
        let mut text = Zeroizing::new(Vec::with_capacity(bytes.len()));
        reader.read_to_end(&mut text).ok()?;
        Some(text)
    }
}
