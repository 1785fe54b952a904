//! RB-10 through a server: uploads that are bombs end with the reason before they take room on its disk.

use std::io::Write;
use std::os::unix::net::UnixStream;

use aegis::task::RunId;
use aegis_init::frame::{self, REQUEST_BYTES_MAX};
use aegis_init::wire::{CHUNK_BYTES_MAX, Entry, EntryKind, Request};
use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};

use crate::support::aegis::Aegis;
use crate::support::server::{Answer, read};
use crate::support::serving::{Books, Server, asked};
use crate::torture::{end, ended_once};

fn frames(requests: &[Request]) -> Vec<u8> {
    let encode = |it: &Request| frame::encode(it, 0, REQUEST_BYTES_MAX).expect("it fits");
    requests.iter().flat_map(encode).collect()
}

fn file(name: &str, size: u64, data: &[u8]) -> Entry {
    let kind = EntryKind::File { size, data: ByteBuf::from(data) };
    Entry { path: ByteBuf::from(name), mode: 0o644, mtime_s: 1, mtime_ns: 0, kind }
}

/// Uploads these bytes to the project `default`; their digest.
fn uploaded(aegis: &Aegis, bytes: &[u8]) -> (String, Answer) {
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
    let head = format!(
        "PUT /api/v1/workspaces/{digest}?project=default HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
        bytes.len()
    );
    let mut stream = UnixStream::connect(aegis.state().join("aegis.sock")).expect("it listens");
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(bytes)).expect("sent");
    (digest, read(&mut stream))
}

/// A head and so many times the same piece, packed bit by bit.
fn packed(head: &[u8], piece: &[u8], times: usize) -> Vec<u8> {
    let mut into = zstd::Encoder::new(Vec::new(), 1).expect("a packer");
    into.write_all(head).expect("packed");
    for _ in 0..times {
        into.write_all(piece).expect("packed");
    }
    into.finish().expect("packed")
}

#[test]
fn rb_10_an_upload_that_is_a_bomb_ends_with_the_reason_and_takes_no_room() {
    // Less than any of them would take.
    let aegis = Aegis::new().on_disk("32m");
    let books = Books::of(&aegis);
    let server = Server::start(&aegis, &["--workers", "1"]);
    let chunk = frames(&[Request::PutChunk(ByteBuf::from(vec![0; CHUNK_BYTES_MAX]))]);
    let begun = frames(&[Request::Put(vec![file("zeros", 1, b"")])]);
    let expands = packed(&begun, &chunk, 1_024);
    assert!(expands.len() * 10_000 < chunk.len() * 1_024, "it packs to {} bytes", expands.len());
    let entries: Vec<Entry> = (0..1_000).map(|it| file(&it.to_string(), 0, b"")).collect();
    let many = packed(b"", &frames(&[Request::Put(entries)]), 2_000);
    let mut nested = frames(&[Request::Put(vec![file("a", 1, b"1")]), Request::PutEnd]);
    for _ in 0..50 {
        nested = zstd::encode_all(nested.as_slice(), 1).expect("packed");
    }
    let declared = zstd::encode_all(&*frames(&[Request::Put(vec![file("a", 1 << 40, b"")])]), 1);
    for (bomb, reason) in [
        (expands, "more than the 1048576 bytes"),
        (declared.expect("packed"), "more than the 1048576 bytes"),
        (many, "more than the 200000 files"),
        (nested, "bytes that are no message"),
    ] {
        let (digest, answer) = uploaded(&aegis, &bomb);
        answer.is(201);
        let body = format!(
            r#"{{"command": ["true"], "workspace": "{digest}", "limits": {{"workspace_size": "1MiB"}}, "schedule": {{"attempts_max": 1}}}}"#
        );
        let taken = asked(&aegis, "POST", "/api/v1/runs", "", &body).expect("an answer");
        let run: RunId = taken.is(201).json()["id"].as_str().expect("an id").parse().expect("an id");
        assert_eq!(ended_once(&books, run, &server), "start_failed(infrastructure)");
        let told = format!("{:?}", books.run(run).end.expect("it ended").outcome);
        assert!(told.contains(reason), "no `{reason}`: {told}");
        assert!(!told.contains("cannot be laid out"), "{told}");
        assert!(!books.events(run).iter().any(|it| it == "Running"), "{:?}", books.events(run));
    }
    end(&aegis, server);
}
