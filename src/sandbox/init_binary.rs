//! The `aegis-init` program that this build carries, and its place in the runtime directory.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

/// The program's bytes, built with this one.
const PROGRAM: &[u8] = include_bytes!(env!("AEGIS_INIT_PATH"));
/// Digits of the digest in the file's name.
const NAME_DIGITS: usize = 16;

/// The program's SHA-256, in hexadecimal.
pub fn digest() -> &'static str {
    static DIGEST: OnceLock<String> = OnceLock::new();
    DIGEST.get_or_init(|| hex::encode(Sha256::digest(PROGRAM)))
}

/// Puts the program below `directory`, 0555 and named by its content, unless it is there; gives its path.
///
/// The directory is 0700 and the caller's own, so a file of the right name and size is the right one: it was put
/// there by a rename of a complete file.
pub fn ensure(directory: &Path) -> std::io::Result<PathBuf> {
    let path = directory.join(format!("aegis-init-{}", &digest()[..NAME_DIGITS]));
    match std::fs::metadata(&path) {
        Ok(found) if found.len() == PROGRAM.len() as u64 => return Ok(path),
        Ok(_) | Err(_) => {}
    }
    let partial = directory.join(format!(".aegis-init-{}", std::process::id()));
    let _ = std::fs::remove_file(&partial);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(PROGRAM)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o555))?;
    drop(file);
    std::fs::rename(&partial, &path)?;
    Ok(path)
}
