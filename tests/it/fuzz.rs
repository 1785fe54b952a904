//! The bodies of the fuzz targets, each with random changes of its seeds for a while. `make fuzz` runs the same with a
//! fuzzer that looks for new ways through the code.

#[path = "../fuzz/bodies/dns.rs"]
mod dns;
#[path = "../fuzz/bodies/frame.rs"]
mod frame;
#[path = "../fuzz/bodies/hello.rs"]
mod hello;
#[path = "../fuzz/bodies/path.rs"]
mod path;
#[path = "../fuzz/bodies/redactor.rs"]
mod redactor;
#[path = "../fuzz/bodies/rules.rs"]
mod rules;

use std::time::{Duration, Instant};

use crate::support::aegis::repetitions;
use crate::support::random::Random;

/// Bytes of an input.
const INPUT_BYTES_MAX: usize = 4_096;

/// Runs a body for ten seconds, in the long form for a minute.
fn check(seeds: &[&[u8]], run: fn(&[u8])) {
    let random = Random::seeded_by_the_caller();
    let until = Instant::now() + Duration::from_secs(repetitions(10, 60).into());
    let mut corpus: Vec<Vec<u8>> = seeds.iter().map(|it| it.to_vec()).collect();
    for input in &corpus {
        run(input);
    }
    let mut runs = 0u64;
    while Instant::now() < until {
        let mut input = corpus[random.below(corpus.len() as u64) as usize].clone();
        for _ in 0..=random.below(6) {
            change(&mut input, &corpus, &random);
        }
        input.truncate(INPUT_BYTES_MAX);
        run(&input);
        runs += 1;
        // Now and then one is kept, so that changes add up.
        if random.below(64) == 0 {
            let place = if corpus.len() < 256 { corpus.len() } else { random.below(256) as usize };
            corpus.resize(corpus.len().max(place + 1), Vec::new());
            corpus[place] = input;
        }
    }
    assert!(runs > 0, "nothing was tried");
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &Random) {
    let at = random.below(input.len() as u64 + 1) as usize;
    let byte = random.below(256) as u8;
    match random.below(7) {
        0 => input.insert(at, byte),
        1 => input.truncate(at),
        2 => {
            let other = &corpus[random.below(corpus.len() as u64) as usize];
            let from = random.below(other.len() as u64 + 1) as usize;
            input.splice(at..at, other[from..].iter().copied());
        }
        3 => {
            let end = (at + random.below(8) as usize).min(input.len());
            input.drain(at..end);
        }
        4 => {
            let end = (at + random.below(8) as usize).min(input.len());
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        _ => match input.get_mut(at) {
            Some(it) if byte < 128 => *it ^= 1 << (byte % 8),
            Some(it) => *it = byte,
            None => input.push(byte),
        },
    }
}

#[test]
fn frames_of_init() {
    check(&frame::SEEDS, frame::run);
}

#[test]
fn first_messages_of_tls_clients() {
    check(&hello::SEEDS, hello::run);
}

#[test]
fn queries_to_the_resolver() {
    check(&dns::SEEDS, dns::run);
}

#[test]
fn paths_of_requests() {
    check(&path::SEEDS, path::run);
}

#[test]
fn decisions_of_rules() {
    check(&rules::SEEDS, rules::run);
}

#[test]
fn redaction_in_pieces() {
    check(&redactor::SEEDS, redactor::run);
}
