//! What somebody meant by a key or a word that does not exist.

use std::collections::BTreeSet;

use crate::intake::shown;
use crate::policy::field::FIELDS;

/// Bytes of a key that is compared at all: no valid one is half as long.
const COMPARED_BYTES_MAX: usize = 80;

/// The tables of a policy file.
pub fn tables() -> BTreeSet<&'static str> {
    FIELDS.iter().filter_map(|it| it.key().path.rsplit_once('.')).map(|(table, _)| table).collect()
}

/// What is said about a key that does not exist; `base` is the key that names a shipped policy.
pub fn unknown_key(path: &str, table: &str, base: &'static str) -> String {
    if let Some(nearest) = key(path, base) {
        return format!("unknown key `{}`; the nearest is `{nearest}`", shown(path));
    }
    let mut here: Vec<&str> = FIELDS.iter().map(|it| it.key().path).chain(tables()).chain([base]).collect();
    here.retain(|it| it.rsplit_once('.').map_or("", |(above, _)| above) == table);
    format!("unknown key `{}`; the keys here are `{}`", shown(path), here.join("`, `"))
}

/// The valid key nearest to this path: one that is spelled alike, or the same key in another table.
pub fn key(path: &str, base: &'static str) -> Option<&'static str> {
    if path.len() > COMPARED_BYTES_MAX {
        return None;
    }
    let leaf = leaf_of(path);
    let mut best: Option<(usize, &'static str)> = None;
    let keys = FIELDS.iter().map(|it| it.key().path).chain(tables()).chain([base]);
    for candidate in keys {
        let whole = strsim::osa_distance(path, candidate);
        // A right name in a wrong place is nearer than another name; one step off keeps the same table in front.
        let part = strsim::osa_distance(leaf, leaf_of(candidate)) + 1;
        let distance = whole.min(part);
        if distance <= tolerance(leaf) && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The word nearest to this one.
pub fn word<'a>(text: &str, words: &[&'a str]) -> Option<&'a str> {
    if text.len() > COMPARED_BYTES_MAX {
        return None;
    }
    let nearest = words.iter().min_by_key(|it| strsim::osa_distance(text, it))?;
    let distance = strsim::osa_distance(text, nearest);
    // A word that shares nothing with the text is not near, however short it is.
    (distance <= tolerance(text) && distance < nearest.len()).then_some(nearest)
}

fn leaf_of(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, leaf)| leaf)
}

/// Changes that are still a slip: a third of the word, at least two.
fn tolerance(text: &str) -> usize {
    (text.chars().count() / 3).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Option<&str>) {
        assert_eq!(key(path, "extends"), expected);
    }

    #[test]
    fn a_slip_in_a_key_is_seen() {
        check("resources.pid", Some("resources.pids"));
        check("filesystem.tmpsize", Some("filesystem.tmp_size"));
    }

    #[test]
    fn a_slip_in_a_table_is_seen() {
        check("netwrok", Some("network"));
        check("resource.memory", Some("resources.memory"));
    }

    #[test]
    fn the_right_key_in_the_wrong_place_is_seen() {
        check("pids", Some("resources.pids"));
        check("images.runtimes", Some("runtimes"));
    }

    #[test]
    fn a_key_like_no_other_has_no_nearest() {
        check("privileged", None);
    }

    #[test]
    fn words_are_matched_too() {
        assert_eq!(word("nevr", &["never", "missing"]), Some("never"));
        assert_eq!(word("sometimes", &["never", "missing"]), None);
    }
}
