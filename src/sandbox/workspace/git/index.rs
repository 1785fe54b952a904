//! The paths that git tracks, read from an index of version 2, 3 or 4. Pure; the bytes are whatever lies in a
//! repository, so every length is held against what is there, and anything odd is no index.

/// Bytes of an index that is read: room for a million files.
pub const INDEX_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Lengths of an object's name: SHA-1, SHA-256.
const HASH_LENGTHS: [usize; 2] = [20, 32];
/// Ten numbers before the name of an entry's object.
const NUMBERS_BYTES: usize = 40;
/// Where the mode is among them.
const MODE_AT: usize = 24;
/// Bytes of a path at the most, as in the kernel.
const PATH_BYTES_MAX: usize = 4096;
const EXTENDED: u16 = 0x4000;
const NAME_LENGTH: u16 = 0x0fff;

/// Bytes that are no whole index: damaged, split, or of a later version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoIndex;

/// Gives every tracked path to `each`, in order; a path that ends in `/` stands for all below it.
pub fn tracked(bytes: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), NoIndex> {
    let length = HASH_LENGTHS.into_iter().find(|it| walk(bytes, *it, &mut |_| {}).is_ok()).ok_or(NoIndex)?;
    walk(bytes, length, &mut each)
}

/// Gives the object of every tracked file to `each`; its directories and submodules are other objects.
pub fn staged(bytes: &[u8], mut each: impl FnMut([u8; 20])) -> Result<(), NoIndex> {
    walk(bytes, 20, &mut |_| {})?;
    let mut objects = Vec::new();
    walk_entries(bytes, 20, &mut |_, start| objects.push(start))?;
    for start in objects {
        let is_file = matches!(number(bytes, start + MODE_AT)? >> 12, 0o10 | 0o12);
        let object = bytes.get(start + NUMBERS_BYTES..start + NUMBERS_BYTES + 20).ok_or(NoIndex)?;
        if is_file {
            each(object.try_into().map_err(|_| NoIndex)?);
        }
    }
    Ok(())
}

fn walk(bytes: &[u8], hash: usize, each: &mut dyn FnMut(&[u8])) -> Result<(), NoIndex> {
    let at = walk_entries(bytes, hash, &mut |path, _| each(path))?;
    extensions(bytes, at, hash)
}

/// Gives the path of every entry and where it begins to `each`; gives where they end.
fn walk_entries(bytes: &[u8], hash: usize, each: &mut dyn FnMut(&[u8], usize)) -> Result<usize, NoIndex> {
    if bytes.get(..4) != Some(b"DIRC") {
        return Err(NoIndex);
    }
    let version = number(bytes, 4)?;
    let count = number(bytes, 8)?;
    if !(2..=4).contains(&version) {
        return Err(NoIndex);
    }
    let mut at = 12;
    let mut path = Vec::new();
    for _ in 0..count {
        let start = at;
        let flags_at = start + NUMBERS_BYTES + hash;
        let flags = short(bytes, flags_at)?;
        at = flags_at + 2;
        if version >= 3 && flags & EXTENDED != 0 {
            at += 2;
        }
        if version == 4 {
            let (strip, next) = offset(bytes, at)?;
            at = next;
            let kept = path.len().checked_sub(strip).ok_or(NoIndex)?;
            path.truncate(kept);
        } else {
            path.clear();
        }
        let rest = bytes.get(at..).ok_or(NoIndex)?;
        let end = memchr::memchr(0, &rest[..rest.len().min(PATH_BYTES_MAX + 1)]).ok_or(NoIndex)?;
        path.extend_from_slice(&rest[..end]);
        let told = usize::from(flags & NAME_LENGTH);
        if path.is_empty() || path.len() > PATH_BYTES_MAX || told != path.len().min(NAME_LENGTH.into()) {
            return Err(NoIndex);
        }
        at += end + 1;
        if version < 4 {
            // An entry ends with one to eight NULs, at a multiple of eight.
            at = start + (at - start).next_multiple_of(8);
        }
        each(&path, start);
    }
    Ok(at)
}

/// What follows the entries; a `link` says that most of them are in another file.
fn extensions(bytes: &[u8], mut at: usize, hash: usize) -> Result<(), NoIndex> {
    let end = bytes.len().checked_sub(hash).ok_or(NoIndex)?;
    while at < end {
        if bytes.get(at..at + 4) == Some(b"link") {
            return Err(NoIndex);
        }
        let length = usize::try_from(number(bytes, at + 4)?).map_err(|_| NoIndex)?;
        at = at.checked_add(8).and_then(|it| it.checked_add(length)).ok_or(NoIndex)?;
    }
    if at == end { Ok(()) } else { Err(NoIndex) }
}

fn number(bytes: &[u8], at: usize) -> Result<u32, NoIndex> {
    let four = bytes.get(at..at.saturating_add(4)).ok_or(NoIndex)?;
    four.try_into().map(u32::from_be_bytes).map_err(|_| NoIndex)
}

fn short(bytes: &[u8], at: usize) -> Result<u16, NoIndex> {
    let two = bytes.get(at..at.saturating_add(2)).ok_or(NoIndex)?;
    two.try_into().map(u16::from_be_bytes).map_err(|_| NoIndex)
}

/// A number as packs write offsets, and where it ends.
fn offset(bytes: &[u8], mut at: usize) -> Result<(usize, usize), NoIndex> {
    let mut value = 0_usize;
    let mut first = true;
    loop {
        let byte = *bytes.get(at).ok_or(NoIndex)?;
        at += 1;
        if !first {
            value += 1;
        }
        first = false;
        if value > PATH_BYTES_MAX {
            return Err(NoIndex);
        }
        value = (value << 7) | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok((value, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn git(directory: &Path, arguments: &[&str]) {
        let status = Command::new("git")
            .args(arguments)
            .current_dir(directory)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", "/nonexistent")
            .output()
            .expect("git runs");
        assert!(status.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&status.stderr));
    }

    /// An index that git made, with paths of many lengths that share beginnings.
    fn index(version: &str, format: &str) -> (Vec<u8>, Vec<String>) {
        let place = tempfile::tempdir().expect("a directory");
        let object_format = format!("--object-format={format}");
        git(place.path(), &["init", "-q", &object_format]);
        let mut paths: Vec<String> = (1..40).map(|it| format!("d/{}", "n".repeat(it))).collect();
        paths.extend([".env".to_owned(), "d/e/.npmrc".to_owned(), "z".repeat(200)]);
        paths.push(format!(
            "{0}/{0}/{0}/{0}/{0}/{0}/{0}/{0}/{0}/{0}/{0}/{0}/{0}/{0}/{0}/{0}/{0}/x",
            "y".repeat(250)
        ));
        for path in &paths {
            let path = place.path().join(path);
            if path.as_os_str().len() < 4000 {
                fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
                fs::write(path, "x").expect("written");
            }
        }
        git(place.path(), &["add", "."]);
        git(place.path(), &["update-index", "--index-version", version]);
        paths.retain(|it| place.path().join(it).exists());
        paths.sort();
        (fs::read(place.path().join(".git/index")).expect("an index"), paths)
    }

    fn listed(bytes: &[u8]) -> Result<Vec<String>, NoIndex> {
        let mut paths = Vec::new();
        tracked(bytes, |it| paths.push(String::from_utf8_lossy(it).into_owned()))?;
        Ok(paths)
    }

    fn check(version: &str, format: &str) {
        let (bytes, paths) = index(version, format);
        assert_eq!(listed(&bytes), Ok(paths));
    }

    #[test]
    fn an_index_of_each_version_is_read() {
        check("2", "sha1");
        check("3", "sha1");
        check("4", "sha1");
    }

    #[test]
    fn an_index_with_long_object_names_is_read() {
        check("2", "sha256");
        check("4", "sha256");
    }

    #[test]
    fn a_split_index_is_no_whole_one() {
        let place = tempfile::tempdir().expect("a directory");
        git(place.path(), &["init", "-q"]);
        fs::write(place.path().join("a"), "x").expect("written");
        git(place.path(), &["add", "."]);
        git(place.path(), &["update-index", "--split-index"]);
        assert_eq!(listed(&fs::read(place.path().join(".git/index")).expect("an index")), Err(NoIndex));
    }

    #[test]
    fn what_is_cut_off_is_no_index() {
        let (bytes, _) = index("4", "sha1");
        for length in 0..bytes.len() - 1 {
            assert_eq!(listed(&bytes[..length]), Err(NoIndex), "{length}");
        }
    }

    proptest! {
        #[test]
        fn damaged_bytes_end_in_an_answer(
            version in 2_u8..5,
            count in 0_u8..4,
            body in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let bytes = [b"DIRC\0\0\0".as_slice(), &[version], &[0, 0, 0, count], &body].concat();
            let _ = listed(&bytes);
        }

        #[test]
        fn flipped_bytes_end_in_an_answer(at in 0_usize..2000, value in any::<u8>()) {
            static MADE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| index("4", "sha1").0);
            let mut bytes = MADE.clone();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = listed(&bytes);
        }
    }
}
