//! What is added, what is removed, and what is refused.

use http::Request;

use super::*;

const VALUE: &str = "k7Qz-93hfWpLx0vB2mTn";

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn credential(how: How) -> Credential {
    Credential {
        name: "model".to_owned(),
        hosts: BTreeSet::from([name("api.example.org")]),
        ports: BTreeSet::from([443]),
        methods: BTreeSet::from([Method::Get, Method::Post]),
        paths: vec![PathPattern::parse("/v1").expect("a path")],
        how,
        value: VALUE.into(),
    }
}

fn header() -> How {
    How::Header { name: "x-api-key".parse().expect("a name"), template: HOLE.to_owned() }
}

const HOLE: &str = "{}";

fn vault(how: How) -> Vault {
    Vault::new(vec![credential(how)], &[])
}

fn head(target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method("POST").uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request").into_parts().0
}

fn added(how: How, head: &mut Parts) -> Result<(), NotAdded> {
    let api = name("api.example.org");
    vault(how).add("model", Destination { name: &api, port: 443, tls: true }, head)
}

#[track_caller]
fn check_headers(how: How, given: &[(&str, &str)], expected: &[(&str, &str)]) {
    let mut head = head("/v1/x", given);
    assert_eq!(added(how, &mut head), Ok(()));
    let mut left: Vec<(&str, &str)> =
        head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
    left.sort_unstable();
    assert_eq!(left, expected);
}

#[track_caller]
fn check_query(target: &str, expected: &str) {
    let mut head = head(target, &[]);
    assert_eq!(added(How::Query { key: "key".to_owned() }, &mut head), Ok(()));
    assert_eq!(head.uri.to_string(), expected);
}

#[track_caller]
fn check_scope(to: &str, port: u16, method: &str, target: &str, permitted: bool) {
    let to = name(to);
    let mut head = head(target, &[]);
    head.method = method.parse().expect("a method");
    let added = vault(header()).add("model", Destination { name: &to, port, tls: true }, &mut head);
    let refused = Err(NotAdded::OutOfScope { name: "model".to_owned() });
    assert_eq!(added, if permitted { Ok(()) } else { refused }, "{to}:{port} {method} {target}");
    assert_eq!(head.headers.contains_key("x-api-key"), permitted);
}

#[test]
fn a_header_takes_the_place_of_whatever_the_task_put_there() {
    check_headers(header(), &[], &[("x-api-key", VALUE)]);
    check_headers(
        header(),
        &[("X-Api-Key", "AEGIS-1"), ("x-api-key", "two"), ("X_Api_Key", "three"), ("accept", "*/*")],
        &[("accept", "*/*"), ("x-api-key", VALUE)],
    );
    let bearer = How::Header { name: AUTHORIZATION_NAME, template: "Bearer {}".to_owned() };
    check_headers(bearer, &[("Authorization", "Basic x")], &[("authorization", &format!("Bearer {VALUE}"))]);
}

const AUTHORIZATION_NAME: http::HeaderName = http::header::AUTHORIZATION;

#[test]
fn basic_authentication_is_written_whole() {
    let basic = How::Basic { user: "ci".to_owned() };
    check_headers(
        basic,
        &[("authorization", "Bearer AEGIS-1")],
        &[("authorization", "Basic Y2k6azdRei05M2hmV3BMeDB2QjJtVG4=")],
    );
}

#[test]
fn a_parameter_takes_the_place_of_each_of_its_name() {
    check_query("/v1/x", &format!("/v1/x?key={VALUE}"));
    check_query("/v1/x?a=1&key=AEGIS-1&b=2;KEY=3&k%65y=4&&key", &format!("/v1/x?a=1&b=2&key={VALUE}"));
}

#[test]
fn a_value_that_cannot_stand_there_is_not_sent() {
    let mut with = credential(header());
    with.value = "two\r\nlines: yes".into();
    let api = name("api.example.org");
    let to = Destination { name: &api, port: 443, tls: true };
    let added = Vault::new(vec![with], &[]).add("model", to, &mut head("/v1/x", &[]));
    assert_eq!(added, Err(NotAdded::Unfit { name: "model".to_owned() }));
}

#[test]
fn the_operators_scope_is_asked_again() {
    check_scope("api.example.org", 443, "POST", "/v1/x?y=/", true);
    check_scope("api.example.org", 443, "GET", "/v1", true);
    check_scope("other.example.org", 443, "POST", "/v1/x", false);
    check_scope("sub.api.example.org", 443, "POST", "/v1/x", false);
    check_scope("api.example.org", 8443, "POST", "/v1/x", false);
    check_scope("api.example.org", 443, "DELETE", "/v1/x", false);
    check_scope("api.example.org", 443, "get", "/v1/x", false);
    check_scope("api.example.org", 443, "POST", "/v2", false);
    check_scope("api.example.org", 443, "POST", "/v1/../v2", false);
    check_scope("api.example.org", 443, "POST", "/v10", false);
}

#[test]
fn it_is_never_sent_without_tls_and_an_unknown_one_is_told() {
    let api = name("api.example.org");
    let plain = Destination { name: &api, port: 443, tls: false };
    let vault = vault(header());
    let refused = vault.add("model", plain, &mut head("/v1/x", &[]));
    assert_eq!(refused, Err(NotAdded::WithoutTls { name: "model".to_owned() }));
    let refused = vault.add("other", plain, &mut head("/v1/x", &[]));
    assert_eq!(refused, Err(NotAdded::Unknown { name: "other".to_owned() }));
}

#[track_caller]
fn check_carried(target: &str, headers: &[(&str, &str)], carried: bool) {
    let other = Known::new("other", b"another-Secret-83hd").expect("fit");
    let vault = Vault::new(vec![credential(header())], &[other]);
    assert_eq!(vault.carried(&head(target, headers)).is_some(), carried, "{target} {headers:?}");
}

#[test]
fn a_secret_that_the_task_carries_itself_is_found() {
    check_carried("/v1/x", &[("accept", "*/*"), ("x-api-key", "AEGIS-0123456789")], false);
    check_carried("/v1/x", &[("x-api-key", VALUE)], true);
    check_carried("/v1/x", &[("cookie", "a=another-Secret-83hd; b=2")], true);
    check_carried("/v1/x", &[("authorization", "Basic Y2k6azdRei05M2hmV3BMeDB2QjJtVG4=")], true);
    check_carried("/v1/x?k=k7Qz%2D93hfWpLx0vB2mTn", &[], true);
    check_carried(&format!("/v1/{VALUE}"), &[], true);
}

#[test]
fn only_a_host_that_may_get_a_credential_is_scrubbed() {
    let vault = vault(header());
    assert!(vault.scrubber(&name("api.example.org")).is_some());
    assert!(vault.scrubber(&name("other.example.org")).is_none());
    assert!(Vault::new(Vec::new(), &[]).scrubber(&name("api.example.org")).is_none());
}

#[test]
fn a_value_is_never_shown() {
    let shown = format!("{:?} {:?}", vault(header()), credential(header()));
    assert!(!shown.contains(VALUE), "{shown}");
    let mut head = head("/v1/x", &[]);
    assert_eq!(added(header(), &mut head), Ok(()));
    assert!(!format!("{head:?}").contains(VALUE));
}
