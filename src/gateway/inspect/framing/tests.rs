//! A corpus of requests that have fooled pairs of servers, and requests as clients send them.

use proptest::prelude::*;

use super::*;

/// Bytes that passed, and what ended them.
fn run(bytes: &[u8], sizes: &[usize]) -> (usize, Option<Malformed>) {
    let (mut framer, mut passed, mut at_hand, mut sizes) = (Framer::at_start(), 0, 0, sizes.iter().cycle());
    loop {
        match framer.advance(&bytes[passed..at_hand]) {
            Step::Pass(count) => {
                assert!(count > 0 && passed + count <= at_hand);
                passed += count;
            }
            Step::More if at_hand == bytes.len() => return (passed, None),
            Step::More => {
                let size = sizes.next().copied().unwrap_or(1).max(1);
                at_hand = (at_hand + size).min(bytes.len());
            }
            Step::Malformed(why) => return (passed, Some(why)),
        }
    }
}

#[track_caller]
fn check_well(bytes: &str) {
    assert_eq!(run(bytes.as_bytes(), &[bytes.len()]), (bytes.len(), None), "{bytes:?}");
}

#[track_caller]
fn check_refused(bytes: &str, why: Malformed) {
    let (passed, refused) = run(bytes.as_bytes(), &[bytes.len()]);
    assert_eq!(refused, Some(why), "{bytes:?}");
    assert!(!why.is_head() || passed == 0, "{bytes:?}");
}

/// A request with these lines after the first and its Host.
fn with(lines: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.example.org\r\n{lines}")
}

#[test]
fn requests_of_clients_pass_whole_one_after_another() {
    check_well("GET / HTTP/1.1\r\nHost: a.example.org\r\nAccept: */*\r\n\r\n");
    check_well("GET / HTTP/1.0\r\nHost: a.example.org\r\n\r\n");
    check_well(&with("Content-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a.example.org\r\n\r\n"));
    check_well(&with("Content-Length: 0\r\n\r\nGET /b?c=d HTTP/1.1\r\nhost:a.example.org\r\n\r\n"));
    check_well(&with("Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n"));
    check_well(&with(
        "Transfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ));
    check_well(&with("X_Plain: an underscore where it steers nothing\r\nX: \u{fc}\t\r\n\r\n"));
}

#[test]
fn two_lengths_are_refused_in_every_spelling() {
    for lines in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
        "content-length: 6\r\nTRANSFER-ENCODING: chunked\r\n\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: identity\r\n\r\n",
    ] {
        check_refused(&with(lines), Malformed::TwoLengths);
    }
    for lines in
        ["Content-Length: 3\r\nContent-Length: 4\r\n\r\n", "Content-Length: 3\r\nContent-Length: 3\r\n\r\n"]
    {
        check_refused(&with(lines), Malformed::ContentLength);
    }
}

#[test]
fn a_length_that_is_no_plain_number_is_refused() {
    for length in ["", "+3", "-1", "3, 3", "0x3", "3 4", "1e1", "99999999999999999999", "\u{663}"] {
        check_refused(&with(&format!("Content-Length: {length}\r\n\r\n")), Malformed::ContentLength);
    }
}

#[test]
fn a_coding_that_is_not_plain_chunks_is_refused() {
    for coding in
        ["xchunked", "chunked, identity", "gzip, chunked", "chunked, chunked", "\"chunked\"", "", "identity"]
    {
        check_refused(&with(&format!("Transfer-Encoding: {coding}\r\n\r\n")), Malformed::TransferEncoding);
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n";
    check_refused(&with(twice), Malformed::TransferEncoding);
    let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    check_refused(old, Malformed::TransferEncoding);
}

#[test]
fn lines_that_could_be_read_in_two_ways_are_refused() {
    check_refused("GET / HTTP/1.1\nHost: a\n\n", Malformed::BareLineFeed);
    check_refused("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::BareLineFeed);
    check_refused(&with("X: 1\nContent-Length: 3\r\n\r\n"), Malformed::BareLineFeed);
    for line in [
        " folded: 1",
        "\tfolded",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        ": no name",
        "no colon",
        "X: a\rTransfer-Encoding: chunked",
        "X\0: 1",
        "X: \0",
        "\u{fc}: 1",
        "X: \u{7f}",
        "(X): 1",
    ] {
        check_refused(&with(&format!("{line}\r\n\r\n")), Malformed::Field);
    }
    for name in ["Content_Length", "transfer_encoding", "TRANSFER-encoding_".trim_end_matches('_')] {
        let refused = run(with(&format!("{name}: 3\r\n\r\n")).as_bytes(), &[1000]).1;
        assert!(refused.is_some(), "{name}");
    }
    check_refused(&with("Host_: a\r\nContent_Length: 3\r\n\r\n"), Malformed::Underscore);
}

#[test]
fn a_first_line_that_asks_for_a_proxy_is_refused() {
    let line = |line: &str| format!("{line}\r\nHost: a.example.org\r\n\r\n");
    check_refused(&line("GET http://denied.example.org/ HTTP/1.1"), Malformed::Target);
    check_refused(&line("GET //a@b HTTP/1.1").replace("//", ""), Malformed::Target);
    check_refused(&line("OPTIONS * HTTP/1.1"), Malformed::Target);
    check_refused(&line("CONNECT 203.0.113.30:443 HTTP/1.1"), Malformed::Tunnel);
    check_refused(&line("CONNECT [2001:db8::10]:443 HTTP/1.1"), Malformed::Tunnel);
    for first in [
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / http/1.1",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET /\t HTTP/1.1",
        "GET / x HTTP/1.1",
        "GET /\u{e4} HTTP/1.1",
        "G@T / HTTP/1.1",
        "GET /",
        "PRI * HTTP/2.0",
        "",
    ] {
        check_refused(&line(first), Malformed::RequestLine);
    }
}

#[test]
fn a_request_for_nobody_or_for_two_is_refused() {
    check_refused("GET / HTTP/1.1\r\nAccept: */*\r\n\r\n", Malformed::Host);
    check_refused(&with("Host: b.example.org\r\n\r\n"), Malformed::Host);
    check_refused(&with("host: a.example.org\r\n\r\n"), Malformed::Host);
}

#[test]
fn chunks_are_held_to_the_letter() {
    let chunks = |text: &str| with(&format!("Transfer-Encoding: chunked\r\n\r\n{text}"));
    for text in [
        "3;x=y\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "0x3\r\nabc\r\n",
        " 3\r\nabc\r\n",
        "3 \r\nabc\r\n",
        "-1\r\n",
        "\r\n",
        "g\r\n",
        "10000000000000000\r\n",
        "00000000000000000000003\r\nabc\r\n",
    ] {
        check_refused(&chunks(text), Malformed::Chunk);
    }
    for text in [
        "0\r\nContent-Length: 3\r\n\r\n",
        "0\r\nhost: b\r\n\r\n",
        "0\r\nX: 1\n\r\n",
        "0\r\n folded\r\n\r\n",
        "0\r\nTransfer_Encoding: x\r\n\r\n",
    ] {
        check_refused(&chunks(text), Malformed::Trailer);
    }
}

#[test]
fn a_head_without_end_is_refused() {
    let long = with(&format!("X: {}", "a".repeat(70_000)));
    check_refused(&long, Malformed::HeadTooLong);
    let many = "X: 1\r\n".repeat(100);
    check_refused(&with(&format!("{many}\r\n")), Malformed::TooManyFields);
    let trailers = format!("Transfer-Encoding: chunked\r\n\r\n0\r\nX: {}\r\n\r\n", "a".repeat(9_000));
    check_refused(&with(&trailers), Malformed::Trailer);
}

/// Streams that are nearly requests.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        Just("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd".to_owned()),
        Just(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n".to_owned()
        ),
        Just("0\r\nX: 1\r\n\r\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\n".to_owned()),
        "[ -~]{0,20}",
    ];
    prop::collection::vec(piece, 0..6).prop_map(|it| it.concat().into_bytes())
}

proptest! {
    #[test]
    fn any_cut_of_the_stream_passes_the_same_bytes(
        bytes in nearly(),
        sizes in prop::collection::vec(1_usize..40, 1..6),
    ) {
        prop_assert_eq!(run(&bytes, &sizes).1, run(&bytes, &[bytes.len()]).1);
        prop_assert_eq!(run(&bytes, &[1]).1, run(&bytes, &[bytes.len()]).1);
        prop_assert_eq!(run(&bytes, &[1]).0, run(&bytes, &sizes).0);
    }

    #[test]
    fn any_bytes_at_all_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let (passed, _) = run(&bytes, &[bytes.len()]);
        prop_assert!(passed <= bytes.len());
    }
}
