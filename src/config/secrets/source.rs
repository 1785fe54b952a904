//! One secret: its name, and its value or where that is.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretSlice};
use zeroize::Zeroizing;

use crate::config::private_file;
use crate::config::secrets::SecretError;
use crate::redact::Known;
use crate::redact::value::{VALUE_BYTES_MAX, without_line_end};

/// A secret of the store.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// Its value, or where that is.
    pub origin: Origin,
    /// When it was set, in milliseconds since 1970.
    pub set_ms: i64,
}

/// Where a value is.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Here.
    Stored(SecretSlice<u8>),
    /// In a variable of the environment of whoever uses it.
    Variable(String),
    /// In a file, absolute.
    File(PathBuf),
}

impl Secret {
    /// One with its value, if that can be kept out of an output. A line end after it does not belong to it.
    pub fn stored(name: &str, value: &[u8], now_ms: i64) -> Result<Self, SecretError> {
        let value = without_line_end(value);
        let unfit = |unfit| SecretError::Unfit { name: name.to_owned(), unfit };
        Known::new(name, value).map_err(unfit)?;
        let origin = Origin::Stored(SecretSlice::from(value.to_vec()));
        Ok(Self { name: name.to_owned(), origin, set_ms: now_ms })
    }

    /// Its value now, ready to be found.
    pub fn known(&self) -> Result<Known, SecretError> {
        let value = match &self.origin {
            Origin::Stored(value) => Zeroizing::new(value.expose_secret().to_vec()),
            Origin::Variable(variable) => match std::env::var_os(variable) {
                Some(value) => Zeroizing::new(value.into_vec()),
                None => {
                    let (name, variable) = (self.name.clone(), variable.clone());
                    return Err(SecretError::NoVariable { name, variable });
                }
            },
            Origin::File(path) => self.file(path.clone())?,
        };
        Known::new(&self.name, &value).map_err(|unfit| SecretError::Unfit { name: self.name.clone(), unfit })
    }

    fn file(&self, path: PathBuf) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits() as i32;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&path);
        // The line end that a file may have beyond the longest value.
        let bytes_max = VALUE_BYTES_MAX as u64 + 2;
        let read: io::Result<_> = opened.and_then(|it| private_file::read_whole(&it, bytes_max));
        read.map_err(|source| SecretError::NoFile { name: self.name.clone(), path, source })
    }
}
