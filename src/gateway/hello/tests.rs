//! Hellos of real clients, broken ones, and any bytes at all, in any pieces.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::ServerName;

use super::*;

/// What a real client sends first.
fn rustls_hello(name: &'static str, alpn: &[&str]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name).expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("written");
    bytes
}

fn recorded(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hello").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read(bytes: &[u8]) -> Hello {
    HelloReader::new().feed(bytes)
}

fn hello(name: Option<&str>, alpn: &[&str]) -> Hello {
    Hello::Complete(ClientHello {
        server_name: name.map(str::to_owned),
        hidden: false,
        alpn: alpn.iter().map(|it| it.as_bytes().to_vec()).collect(),
    })
}

fn vector(length_bytes: usize, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    [&length[length.len() - length_bytes..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), vector(2, content)].concat()
}

fn names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let list: Vec<u8> =
        names.iter().flat_map(|(kind, name)| [vec![*kind], vector(2, name)].concat()).collect();
    extension(0, &vector(2, &list))
}

/// A message with these extensions.
fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [
        vec![3, 3],
        vec![7; 32],
        vector(1, &[]),
        vector(2, &[0x13, 0x01]),
        vector(1, &[0]),
        vector(2, &extensions.concat()),
    ]
    .concat();
    [vec![1], vector(3, &body)].concat()
}

/// A message in records of at most so many bytes.
fn records(message: &[u8], bytes: usize) -> Vec<u8> {
    message.chunks(bytes).flat_map(|it| [vec![22, 3, 1], vector(2, it)].concat()).collect()
}

#[track_caller]
fn check(extensions: &[Vec<u8>], expected: Hello) {
    assert_eq!(read(&records(&message(extensions), 4096)), expected);
}

#[track_caller]
fn check_refused(bytes: &[u8], refusal: HelloRefusal) {
    assert_eq!(read(bytes), Hello::Refused(refusal));
}

#[test]
fn real_clients_are_read() {
    let expected = hello(Some("api.example.org"), &["h2", "http/1.1"]);
    assert_eq!(read(&rustls_hello("api.example.org", &["h2", "http/1.1"])), expected);
    assert_eq!(read(&rustls_hello("API.example.org", &[])), hello(Some("api.example.org"), &[]));
    assert_eq!(read(&recorded("openssl.bin")), expected);
    assert_eq!(read(&recorded("curl.bin")), expected);
}

#[test]
fn a_client_that_names_no_server_is_told() {
    assert_eq!(read(&recorded("openssl_nameless.bin")), hello(None, &[]));
    assert_eq!(read(&rustls_hello("203.0.113.10", &[])), hello(None, &[]));
}

#[test]
fn a_hello_without_extensions_names_nobody() {
    let body = [vec![3, 1], vec![7; 32], vector(1, &[]), vector(2, &[0, 10]), vector(1, &[0])].concat();
    let message = [vec![1], vector(3, &body)].concat();
    assert_eq!(read(&records(&message, 4096)), hello(None, &[]));
}

#[test]
fn other_protocols_are_told_at_once() {
    for bytes in
        [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-x\r\n", b"\0\0\0\x08", b"\x16\x02", b"\x80\x2e\x01\x03"]
    {
        assert_eq!(read(bytes), Hello::NotTls, "{bytes:?}");
    }
    assert_eq!(read(&[21, 3, 1, 0, 2, 1, 0]), Hello::NotTls);
}

#[test]
fn what_follows_in_records_of_its_own_is_not_looked_at() {
    let mut bytes = rustls_hello("api.example.org", &[]);
    bytes.extend_from_slice(&[20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 5, 1, 2, 3, 4, 5]);
    assert_eq!(read(&bytes), hello(Some("api.example.org"), &[]));
}

#[test]
fn a_hidden_name_is_told() {
    for (kind, content) in [(0xfe0d, &[0_u8, 1, 2][..]), (0xffce, &[1][..])] {
        let hidden =
            ClientHello { server_name: Some("outer.example.org".to_owned()), hidden: true, alpn: Vec::new() };
        check(
            &[names(&[(0, b"outer.example.org")]), extension(kind, content)],
            Hello::Complete(hidden.clone()),
        );
    }
    check(&[extension(0xfe0d, &[1])], Hello::Refused(HelloRefusal::Malformed("encrypted hello")));
}

#[test]
fn a_name_that_could_be_read_in_two_ways_is_refused() {
    let twice = Hello::Refused(HelloRefusal::Malformed("server names"));
    check(&[names(&[(0, b"a.example.org"), (0, b"b.example.org")])], twice);
    check(
        &[names(&[(0, b"a.example.org")]), names(&[(0, b"b.example.org")])],
        Hello::Refused(HelloRefusal::Twice(0)),
    );
    for name in [&b""[..], b"a\0b.example.org", b"a b", "\u{e4}.example.org".as_bytes(), b"a/b", &[b'a'; 254]]
    {
        check(&[names(&[(0, name)])], Hello::Refused(HelloRefusal::NoHostName));
    }
    check(&[names(&[(1, b"a.example.org")])], Hello::Refused(HelloRefusal::NoHostName));
}

#[test]
fn lengths_that_lie_are_refused() {
    let whole = message(&[names(&[(0, b"a.example.org")])]);
    for at in 5..whole.len() {
        let cut = [vec![1], vector(3, &whole[4..at])].concat();
        let answer = read(&records(&cut, 4096));
        // Where nothing but the extensions is cut off, it is a whole hello without any.
        let malformed = matches!(answer, Hello::Refused(HelloRefusal::Malformed(_)));
        assert!(malformed || answer == hello(None, &[]), "cut at {at}: {answer:?}");
    }
    let longer = [vec![1], vector(3, &[&whole[4..], &[0]].concat())].concat();
    check_refused(&records(&longer, 4096), HelloRefusal::Malformed("hello"));
}

#[test]
fn more_than_a_hello_in_its_record_is_refused() {
    let two = message(&[]).repeat(2);
    check_refused(&records(&two, 4096), HelloRefusal::MoreBehind);
}

#[test]
fn records_that_no_client_sends_are_refused() {
    check_refused(&[22, 3, 1, 0, 0], HelloRefusal::Record(0));
    check_refused(&[22, 3, 1, 0x40, 1], HelloRefusal::Record(16385));
    check_refused(&[22, 3, 1, 0, 1, 2], HelloRefusal::OtherMessage(2));
    check_refused(&[22, 3, 1, 0, 1, 1, 21], HelloRefusal::Interrupted(21));
    check_refused(&[22, 3, 1, 0, 1, 1, 22, 2], HelloRefusal::Malformed("record version"));
}

#[test]
fn a_hello_without_end_is_refused() {
    check_refused(&[22, 3, 1, 0, 4, 1, 255, 255, 255], HelloRefusal::TooLong);
    let large = message(&[extension(99, &vec![0; 65_000])]);
    assert_eq!(read(&records(&large, 16 * 1024)), hello(None, &[]));
    // The headers of many small records count too.
    check_refused(&records(&large, 100), HelloRefusal::TooLong);
    let many: Vec<Vec<u8>> = (100..229).map(|it| extension(it, &[])).collect();
    check(&many, Hello::Refused(HelloRefusal::TooManyExtensions(128)));
}

#[test]
fn the_answer_stays() {
    let mut reader = HelloReader::new();
    assert_eq!(reader.feed(b"G"), Hello::NotTls);
    assert_eq!(reader.feed(&rustls_hello("api.example.org", &[])), Hello::NotTls);
}

/// The last answer of a reader that gets these bytes in pieces of these sizes, round and round.
fn in_pieces(bytes: &[u8], sizes: &[usize]) -> Hello {
    let mut reader = HelloReader::new();
    let (mut rest, mut sizes, mut last) = (bytes, sizes.iter().cycle(), Hello::More);
    while !rest.is_empty() {
        let size = sizes.next().copied().unwrap_or(1).clamp(1, rest.len());
        last = reader.feed(&rest[..size]);
        rest = &rest[size..];
    }
    last
}

/// Bytes that are often nearly a hello.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let extensions = prop::collection::vec((0_u16..20, prop::collection::vec(any::<u8>(), 0..40)), 0..6);
    let named = (extensions, "[a-z.]{1,20}", 1_usize..300).prop_map(|(extensions, name, bytes)| {
        let mut all = vec![names(&[(0, name.as_bytes())])];
        all.extend(extensions.iter().map(|(kind, content)| extension(*kind, content)));
        records(&message(&all), bytes)
    });
    let named = named.boxed();
    let changed =
        (named.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut it, at, byte)| {
            let at = at.index(it.len());
            it[at] = byte;
            it
        });
    let prefixed = prop::collection::vec(any::<u8>(), 0..600).prop_map(|it| [vec![22, 3, 1], it].concat());
    prop_oneof![named, changed, prefixed, prop::collection::vec(any::<u8>(), 0..600)]
}

proptest! {
    #[test]
    fn any_cut_of_the_stream_gives_the_same_answer(
        bytes in nearly(),
        sizes in prop::collection::vec(1_usize..50, 1..8),
    ) {
        prop_assert_eq!(in_pieces(&bytes, &sizes), read(&bytes));
        prop_assert_eq!(in_pieces(&bytes, &[1]), read(&bytes));
    }

    #[test]
    fn any_fragments_of_a_real_hello_give_its_name(bytes in 1_usize..600) {
        let whole = rustls_hello("api.example.org", &["h2"]);
        prop_assert_eq!(read(&records(&whole[5..], bytes)), hello(Some("api.example.org"), &["h2"]));
    }

    #[test]
    fn a_name_that_is_read_is_one_of_a_host(bytes in nearly()) {
        if let Hello::Complete(ClientHello { server_name: Some(name), .. }) = read(&bytes) {
            prop_assert!(!name.is_empty() && name.len() <= 253);
            prop_assert!(name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || b"-._".contains(&it)));
        }
    }
}
