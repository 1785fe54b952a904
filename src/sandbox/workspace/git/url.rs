//! URLs without the login in them, wherever they stand in a text. Pure.

use memchr::memmem::find;

/// What ends a word, which may be a URL.
const BLANKS: &[u8] = b" \t\r\n\"'<>";
/// What ends the authority of a URL in a word.
const AFTER_AUTHORITY: &[u8] = b"/#\\";

/// The text with every login taken out of its URLs; `None` if there is none. Over ssh a user's name is part of the
/// address and stays; over anything else the name alone may be a token. A query may carry one too, and goes.
pub fn without_login(text: &[u8]) -> Option<Vec<u8>> {
    let mut cleaned = Vec::with_capacity(text.len());
    for word in text.split_inclusive(|it| BLANKS.contains(it)) {
        let (word, blank) = match word.split_last() {
            Some((last, word)) if BLANKS.contains(last) => (word, Some(*last)),
            Some(_) | None => (word, None),
        };
        clean_word(without_query(word), &mut cleaned);
        cleaned.extend(blank);
    }
    (cleaned != text).then_some(cleaned)
}

fn without_query(word: &[u8]) -> &[u8] {
    let Some(query) = memchr::memchr(b'?', word) else { return word };
    let before = word[..query].to_ascii_lowercase();
    let is_http = find(&before, b"http://").is_some() || find(&before, b"https://").is_some();
    if is_http { &word[..query] } else { word }
}

fn clean_word(word: &[u8], cleaned: &mut Vec<u8>) {
    let mut rest = word;
    while let Some(at) = find(rest, b"://") {
        let (scheme, after) = rest.split_at(at + 3);
        cleaned.extend_from_slice(scheme);
        rest = after;
        let end = rest.iter().position(|it| AFTER_AUTHORITY.contains(it)).unwrap_or(rest.len());
        if let Some(host) = rest[..end].iter().rposition(|it| *it == b'@') {
            let user = rest[..host].split(|it| *it == b':').next().unwrap_or_default();
            if scheme[..at].ends_with(b"ssh") && !user.is_empty() {
                cleaned.extend_from_slice(user);
                cleaned.push(b'@');
            }
            rest = &rest[host + 1..];
        }
    }
    cleaned.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let cleaned = without_login(text.as_bytes()).map(|it| String::from_utf8(it).expect("text"));
        assert_eq!(cleaned.as_deref(), expected);
    }

    #[test]
    fn a_login_before_the_host_goes() {
        check("https://user:token@example.org/x.git", Some("https://example.org/x.git"));
        check("https://token@example.org/x.git", Some("https://example.org/x.git"));
        check("https://a:b@c@example.org", Some("https://example.org"));
        check("HTTPS://a:b@example.org", Some("HTTPS://example.org"));
        check("codecommit::https://a:b@example.org/x", Some("codecommit::https://example.org/x"));
        check("ftp://a:b@example.org/x", Some("ftp://example.org/x"));
    }

    #[test]
    fn the_user_of_an_ssh_address_stays() {
        check("ssh://git@example.org/x", None);
        check("git+ssh://git:word@example.org/x", Some("git+ssh://git@example.org/x"));
        check("git@example.org:x.git", None);
    }

    #[test]
    fn a_query_goes_over_http() {
        check("https://example.org/x?private_token=t", Some("https://example.org/x"));
        check("https://example.org?access_token=a@b", Some("https://example.org"));
        check("https://example.org/https://a:b@c/?d=e", Some("https://example.org/https://c/"));
    }

    #[test]
    fn every_url_of_a_line_is_cleaned() {
        check(
            "pull https://a:b@example.org/x and https://c@example.org: done",
            Some("pull https://example.org/x and https://example.org: done"),
        );
    }

    #[test]
    fn what_has_no_login_is_left_alone() {
        for text in ["", "https://example.org/@scope/x", "://", "a@b://", "/srv/x.git", "file:///srv/x"] {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn what_was_cleaned_has_no_login_left(text in "(https://|ssh://|[a-c@:/?. ]){0,12}") {
            if let Some(cleaned) = without_login(text.as_bytes()) {
                prop_assert_eq!(without_login(&cleaned), None);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = without_login(&bytes);
        }
    }
}
