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
    if is_whole(&path) {
        return Ok(path);
    }
    // A name of its own: other threads may be here, too.
    let mut partial = tempfile::Builder::new().prefix(".aegis-init-").tempfile_in(directory)?;
    partial.write_all(PROGRAM)?;
    partial.as_file().set_permissions(std::fs::Permissions::from_mode(0o555))?;
    // Closed before it has its name: a file that is open for writing cannot be executed.
    let partial = partial.into_temp_path();
    match partial.persist_noclobber(&path) {
        Ok(()) => Ok(path),
        // Whoever was first may be making links to theirs, which fails for a file that was replaced at that moment.
        Err(_) if is_whole(&path) => Ok(path),
        Err(refused) => Ok(refused.path.persist(&path).map(|()| path)?),
    }
}

fn is_whole(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|it| it.len() == PROGRAM.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_put_it_there_at_once_do_not_disturb_each_other() {
        let directory = tempfile::tempdir().expect("a directory");
        std::thread::scope(|scope| {
            for number in 0..16 {
                let link = directory.path().join(number.to_string());
                scope.spawn(|| {
                    let put = ensure(directory.path()).expect("put there");
                    std::fs::hard_link(put, link).expect("it is there to stay");
                });
            }
        });
        let left = std::fs::read_dir(directory.path()).expect("read").count();
        assert_eq!(left, 17);
    }

    #[test]
    fn what_is_not_whole_is_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let put = ensure(directory.path()).expect("put there");
        std::fs::remove_file(&put).expect("removed");
        std::fs::write(&put, "short").expect("written");
        assert_eq!(ensure(directory.path()).expect("put there"), put);
        assert!(is_whole(&put));
        assert_eq!(std::fs::read_dir(directory.path()).expect("read").count(), 1);
    }
}
