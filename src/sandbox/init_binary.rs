//! The `aegis-init` program that this build carries, and its place in the runtime directory.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
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
    // A name of its own: other threads may be here, too, and whoever is last has put the same bytes there.
    let mut partial = tempfile::Builder::new().prefix(".aegis-init-").tempfile_in(directory)?;
    partial.write_all(PROGRAM)?;
    partial.as_file().set_permissions(std::fs::Permissions::from_mode(0o555))?;
    // Closed before it has its name: a file that is open for writing cannot be executed.
    partial.into_temp_path().persist(&path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_put_it_there_at_once_do_not_disturb_each_other() {
        let directory = tempfile::tempdir().expect("a directory");
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| ensure(directory.path()).expect("put there"));
            }
        });
        let left = std::fs::read_dir(directory.path()).expect("read").count();
        assert_eq!(left, 1);
    }
}
