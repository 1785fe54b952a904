//! The one form of a path, what has none, and which patterns mean it.

use super::*;

fn check(path: &str, expected: Result<&str, PathError>) {
    let read = Path::parse(path).map(|it| it.segments.iter().map(|it| format!("/{it}")).collect::<String>());
    assert_eq!(read.as_deref(), expected.as_deref(), "{path}");
}

fn check_pattern(text: &str, expected: Result<&str, PathError>) {
    let read = PathPattern::parse(text).map(|it| it.to_string());
    assert_eq!(read.as_deref(), expected.as_deref(), "{text}");
}

fn matches(pattern: &str, path: &str) -> bool {
    let pattern = PathPattern::parse(pattern).expect("a pattern");
    pattern.matches(&Path::parse(path).expect("a path"))
}

#[test]
fn a_path_has_one_form() {
    check("/v1/messages", Ok("/v1/messages"));
    check("/%76%31/%6d%7E", Ok("/v1/m~"));
    check("/a%3ab/%c3%bc", Ok("/a%3Ab/%C3%BC"));
    check("/100%25/a@b:c", Ok("/100%25/a@b:c"));
    check("/", Ok(""));
}

#[test]
fn the_query_and_a_slash_at_the_end_are_not_judged() {
    check("/v1/?a=/../b%00", Ok("/v1"));
    check("/v1/", Ok("/v1"));
    check("/?x", Ok(""));
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for path in ["/v1/../x", "/..", "/.", "/v1/./x", "/..;/x", "/..;a=b", "/..%3Bx", "/.%3bx"] {
        check(path, Err(PathError::DotSegment));
    }
    for path in ["/%2e%2e/x", "/.%2E", "/a%2etxt", "/%2e"] {
        check(path, Err(PathError::EscapedDot));
    }
    for path in ["//", "//x", "/v1//x", "/v1//", "/v1///?x"] {
        check(path, Err(PathError::EmptySegment));
    }
    for path in ["/%252e", "/%25%32%65", "/%25%32e", "/a%252fb", "/%25252e", "/%2500"] {
        check(path, Err(PathError::DoubleEscape));
    }
    for path in ["/a\\b", "/a%5cb", "/..\\x", "/%5C"] {
        check(path, Err(PathError::Backslash));
    }
    for path in ["/a\0", "/%00", "/a%0d%0aX", "/a\nb", "/%7f", "/\u{1b}", "/a\tb"] {
        check(path, Err(PathError::Control));
    }
    for path in ["/%", "/%2", "/%zz", "/%2%65", "/%+1"] {
        check(path, Err(PathError::BrokenEscape));
    }
    for path in ["/%c0%ae", "/%c0%af", "/%ff"] {
        check(path, Err(PathError::NotUtf8));
    }
    for path in ["/a b", "/ü", "/a\"", "/<x>", "/{x}", "/a|b", "/[x]", "/^"] {
        check(path, Err(PathError::Character));
    }
    check("/v1#x", Err(PathError::Fragment));
    for path in ["", "*", "v1", "?x", "http://x/", "%2F"] {
        check(path, Err(PathError::Relative));
    }
    check(&format!("/{}", "a".repeat(PATH_BYTES_MAX)), Err(PathError::Long));
}

#[test]
fn an_escaped_slash_is_covered_by_every_path_only() {
    assert!(matches("/", "/@scope%2fname"));
    for pattern in ["/*", "/*/*", "/@scope", "/@scope/name"] {
        assert!(!matches(pattern, "/@scope%2fname"), "{pattern}");
    }
}

#[test]
fn a_pattern_is_a_prefix_by_whole_segments() {
    for (path, expected) in [("/v1", true), ("/v1/", true), ("/v1/a", true), ("/v10", false), ("/", false)] {
        assert_eq!(matches("/v1", path), expected, "{path}");
    }
    assert!(matches("/", "/") && matches("/", "/anything"));
    assert!(matches("/%76%31", "/v1") && matches("/v1", "/%761"));
    assert!(!matches("/V1", "/v1"));
}

#[test]
fn a_star_is_one_segment() {
    assert!(matches("/v1/*/items", "/v1/a/items") && matches("/v1/*/items", "/v1/a/items/b"));
    assert!(!matches("/v1/*/items", "/v1/items") && !matches("/v1/*/items", "/v1/a/b/items"));
    assert!(!matches("/v1/*", "/v1/") && !matches("/*", "/"));
}

#[test]
fn patterns_have_one_form_too() {
    check_pattern("/", Ok("/"));
    check_pattern("/%76%31/a%3ab/*", Ok("/v1/a%3Ab/*"));
    check_pattern("/v1/", Err(PathError::TrailingSlash));
    check_pattern("//", Err(PathError::EmptySegment));
    check_pattern("/a//", Err(PathError::EmptySegment));
    check_pattern("v1", Err(PathError::Relative));
    check_pattern("", Err(PathError::Relative));
    check_pattern("/v1?x", Err(PathError::Query));
    check_pattern("/a*", Err(PathError::PartStar));
    check_pattern("/**", Err(PathError::PartStar));
    check_pattern("/*/a/*/b/*", Err(PathError::Stars));
    check_pattern("/a%2fb", Err(PathError::EscapedSlash));
    check_pattern("/../x", Err(PathError::DotSegment));
    check_pattern(&"/a".repeat(32), Ok(&"/a".repeat(32)));
    check_pattern(&"/a".repeat(33), Err(PathError::Segments));
    check_pattern(&format!("/{}", "a".repeat(1024)), Err(PathError::Long));
}

#[test]
fn what_two_patterns_share_is_one_pattern() {
    let meet = |left: &str, right: &str| {
        let read = |text| PathPattern::parse(text).expect("a pattern");
        read(left).meet(&read(right)).map(|it| it.to_string())
    };
    assert_eq!(meet("/a/*", "/*/b").as_deref(), Some("/a/b"));
    assert_eq!(meet("/v1", "/v1/x/y").as_deref(), Some("/v1/x/y"));
    assert_eq!(meet("/*", "/v1/*").as_deref(), Some("/v1/*"));
    assert_eq!(meet("/", "/v1").as_deref(), Some("/v1"));
    assert_eq!(meet("/a", "/b"), None);
}

#[test]
fn the_narrowest_pattern_of_a_path_covers_it() {
    for (path, expected) in
        [("/", "/"), ("/v1/messages/?a=b", "/v1/messages"), ("/@scope%2fname", "/"), ("/a/b*c/d", "/a")]
    {
        let path = Path::parse(path).expect("a path");
        let pattern = path.pattern();
        assert_eq!(pattern.to_string(), expected);
        assert!(pattern.matches(&path));
        assert_eq!(PathPattern::parse(expected), Ok(pattern));
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_what_is_read_stays(text in "[/%.a-f0-9;*?\\\\]{0,24}") {
        if let Ok(path) = Path::parse(&format!("/{text}")) {
            proptest::prop_assert!(path.pattern().matches(&path));
            let again: String = path.segments.iter().map(|it| format!("/{it}")).collect();
            if !again.is_empty() {
                proptest::prop_assert_eq!(Path::parse(&again), Ok(path));
            }
        }
    }
}
