//! What a host pattern says, and what is refused, each with its own message.

use super::*;

fn check(text: &str, expected: Result<&str, &str>) {
    check_in(Standing::Policy, text, expected);
}

fn check_in(standing: Standing, text: &str, expected: Result<&str, &str>) {
    let read =
        HostPattern::parse(text, standing).map(|it| it.to_string()).map_err(|it| it.reason.to_string());
    assert_eq!(read.as_deref().map_err(String::as_str), expected, "{text}");
}

fn matches(pattern: &str, name: &str) -> bool {
    let pattern = HostPattern::parse(pattern, Standing::Ceiling).expect("a pattern");
    pattern.matches(&Name::parse(name).expect("a name"))
}

#[test]
fn names_and_wildcards_are_read() {
    check("Api.Example.org.", Ok("api.example.org"));
    check("*.Example.org", Ok("*.example.org"));
    check("db", Ok("db"));
}

#[test]
fn letters_outside_ascii_become_a_labels() {
    check("*.BÜCHER.example", Ok("*.xn--bcher-kva.example"));
    check("xn--bcher-kva.example", Ok("xn--bcher-kva.example"));
    check("a\u{3002}example.org", Ok("a.example.org"));
    for text in ["xn--", "xn--a.org", "xn--\u{0}.org", "a\u{202e}b.org", "a\u{3002}\u{3002}org"] {
        check(text, Err("as an internationalised name it has a mistake"));
    }
}

#[test]
fn a_url_is_refused() {
    let reason =
        "it is a URL or has a path: write the name alone, as `api.example.org`, and paths in `paths`";
    for text in
        ["https://api.example.org", "api.example.org/", "api.example.org/v1", "a.org?x", "0.0.0.0/0", "a\\b"]
    {
        check(text, Err(reason));
    }
}

#[test]
fn a_port_in_the_host_is_refused() {
    for text in ["api.example.org:443", "x:99999", "x:"] {
        check(text, Err("it has a port: write the name alone, and `ports = [8443]`"));
    }
}

#[test]
fn empty_parts_are_refused() {
    let reason = "it has an empty part: write the parts with one dot between two of them";
    check("", Err("it is empty"));
    for text in [".", "a..org", ".org", "*.", "*..org", "a.org.."] {
        check(text, Err(reason));
    }
}

#[test]
fn addresses_are_refused_in_every_spelling() {
    let reason = "it is an address: rules name hosts, and an address is reached by no name";
    let texts = [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.1",
        "1.2.3.4.",
        "::1",
        "[::1]",
        "::ffff:10.0.0.1",
        "fe80::1%25lo",
        "*.10.0.0.1",
        "\u{ff11}27.0.0.1",
        "64:ff9b::7f00:1",
    ];
    for text in texts {
        check(text, Err(reason));
    }
}

#[test]
fn the_sandboxs_own_names_are_refused() {
    for text in ["localhost", "*.localhost", "a.localhost."] {
        check(text, Err("it is the sandbox's own loopback, which needs no rule"));
    }
}

#[test]
fn a_star_stands_first_or_nowhere() {
    let reason = "a `*` is all there is before the first dot: write `*.example.org`, or the names one by one";
    for text in ["a.*.b", "*a.org", "a*.org", "*.*.org", "**", "*.*", "*\u{3002}org"] {
        check(text, Err(reason));
    }
}

#[test]
fn any_host_is_for_ceilings() {
    let reason =
        "`*` is any host, which only a ceiling may say: name the hosts, or write `egress = \"public\"`";
    check("*", Err(reason));
    check_in(Standing::Ceiling, "*", Ok("*"));
    check_in(Standing::Deny, "*", Ok("*"));
}

#[test]
fn nobody_owns_the_names_below_a_public_suffix() {
    for suffix in ["com", "co.uk", "org", "test", "xn--p1ai", "ck"] {
        let reason = format!("anybody can register names below `{suffix}`, a public suffix: name the hosts");
        check(&format!("*.{suffix}"), Err(&reason));
        check_in(Standing::Ceiling, &format!("*.{suffix}"), Err(&reason));
    }
}

#[test]
fn nobody_owns_the_names_below_shared_hosting() {
    for suffix in ["github.io", "s3.amazonaws.com", "herokuapp.com", "compute.amazonaws.com"] {
        let reason =
            format!("anybody can have names below `{suffix}`, a suffix of shared hosting: name the hosts");
        check(&format!("*.{suffix}"), Err(&reason));
    }
    check("*.pages.someone.github.io", Ok("*.pages.someone.github.io"));
}

#[test]
fn what_denies_may_be_as_wide_as_it_likes() {
    check_in(Standing::Deny, "*.com", Ok("*.com"));
    check_in(Standing::Deny, "*.github.io", Ok("*.github.io"));
}

#[test]
fn other_characters_are_refused() {
    let reason = "a name has letters, digits and hyphens, and no part begins or ends with a hyphen";
    for text in ["a_b.org", "user@a.org", "a b.org", "-a.org", "${HOME}.org", "a\u{1b}.org"] {
        check(text, Err(reason));
    }
    let refusal = HostPattern::parse("a\u{1b}[31m.org", Standing::Policy).expect_err("a refusal");
    assert_eq!(refusal.to_string(), format!("`a\\u{{1b}}[31m.org` is no host: {reason}"));
}

#[test]
fn length_is_bounded() {
    let name = format!("{}.org", "a.".repeat(100));
    check(
        &format!("*.{name}"),
        Err("it has an empty part: write the parts with one dot between two of them"),
    );
    let name = format!("{}org", "a.".repeat(100));
    check(&format!("*.{name}"), Err("a wildcard has at most 180 bytes after its star"));
    check(&"ü".repeat(1000), Err("it is too long: a name has at most 253 bytes, and each part 63"));
}

#[test]
fn a_wildcard_means_what_is_below_at_any_depth() {
    assert!(matches("*.example.org", "a.example.org"));
    assert!(matches("*.example.org", "A.B.Example.ORG."));
    assert!(!matches("*.example.org", "example.org"));
    assert!(!matches("*.example.org", "evilexample.org"));
    assert!(!matches("*.example.org", "a.example.org.evil.test"));
    assert!(!matches("example.org", "a.example.org"));
}

#[test]
fn a_wildcard_does_not_reach_across_shared_hosting() {
    assert!(matches("*.amazonaws.com", "sts.amazonaws.com"));
    assert!(!matches("*.amazonaws.com", "bucket.s3.amazonaws.com"));
    assert!(!matches("*.amazonaws.com", "s3.amazonaws.com"));
}

#[test]
fn one_pattern_covers_another_where_every_name_is_shared() {
    let covers = |left: &str, right: &str| {
        let read = |text| HostPattern::parse(text, Standing::Ceiling).expect("a pattern");
        read(left).covers(&read(right))
    };
    assert!(covers("*", "*.example.org") && covers("*.example.org", "*.example.org"));
    assert!(covers("*.example.org", "*.a.example.org") && covers("*.example.org", "a.example.org"));
    assert!(!covers("*.a.example.org", "*.example.org") && !covers("*.example.org", "*"));
    assert!(!covers("*.amazonaws.com", "*.mine.s3.amazonaws.com"));
    assert!(!covers("a.example.org", "*.a.example.org"));
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_what_is_read_has_one_form(text in "(\\*\\.)?(\\PC{0,8}|[a-zA-Z0-9.ü\u{3002}-]{0,12})(\\.org)?") {
        if let Ok(pattern) = HostPattern::parse(&text, Standing::Policy) {
            let form = pattern.to_string();
            proptest::prop_assert!(form.bytes().all(|it| it.is_ascii_graphic() && !it.is_ascii_uppercase()));
            proptest::prop_assert_eq!(HostPattern::parse(&form, Standing::Policy), Ok(pattern));
        }
    }
}
