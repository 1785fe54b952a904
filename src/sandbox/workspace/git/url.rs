//! URLs without the login in them, wherever they stand in a text. Pure.

use memchr::memmem::find;

/// What ends the authority of a URL in a text.
const AFTER_AUTHORITY: &[u8] = b"/?# \t\r\n\"'<>\\";

/// The text with every login taken out of its URLs; `None` if there is none. Over ssh a user's name is part of the
/// address and stays; over anything else the name alone may be a token. A query may carry one too, and goes.
pub fn without_login(text: &[u8]) -> Option<Vec<u8>> {
    let mut cleaned = Vec::with_capacity(text.len());
    let mut rest = text;
    let mut changed = false;
    while let Some(at) = find(rest, b"://") {
        let scheme = rest[..at].rsplit(|it| !it.is_ascii_alphanumeric()).next().unwrap_or_default();
        let is_ssh = scheme.ends_with(b"ssh");
        let is_http = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
        cleaned.extend_from_slice(&rest[..at + 3]);
        rest = &rest[at + 3..];
        let end = rest.iter().position(|it| AFTER_AUTHORITY.contains(it)).unwrap_or(rest.len());
        let authority = &rest[..end];
        match authority.iter().rposition(|it| *it == b'@') {
            Some(host) => {
                let user = authority[..host].split(|it| *it == b':').next().unwrap_or_default();
                let keeps = is_ssh && !user.is_empty();
                changed |= !keeps || user.len() != host;
                if keeps {
                    cleaned.extend_from_slice(user);
                    cleaned.push(b'@');
                }
                cleaned.extend_from_slice(&authority[host + 1..]);
            }
            None => cleaned.extend_from_slice(authority),
        }
        rest = &rest[end..];
        let end = rest.iter().position(|it| b" \t\r\n\"'<>".contains(it)).unwrap_or(rest.len());
        let (path, after) = rest.split_at(end);
        match path.iter().position(|it| *it == b'?') {
            Some(query) if is_http => {
                cleaned.extend_from_slice(&path[..query]);
                changed = true;
                rest = after;
            }
            Some(_) | None => {}
        }
    }
    cleaned.extend_from_slice(rest);
    changed.then_some(cleaned)
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
