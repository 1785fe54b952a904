//! Bytes per second through the redactor with no, ten and a thousand known secrets: log lines in buffers of the size that a
//! task's streams are moved in. Held against the rates that are written down, not against another program; and what it
//! costs a whole run, whose stream is moved with and without a known secret in turns.

use std::io::Write;
use std::process::Stdio;
use std::time::Instant;

use aegis::redact::{Known, Redactor};
use anyhow::{Context, bail};

use crate::streaming::rate;
use crate::support::instance::Instance;
use crate::support::load;
use crate::support::pairs::Pairs;
use crate::support::table::{Bar, Comparisons, Verdict};

/// Measurements of each.
const ROUNDS: usize = 5;
/// Bytes of one buffer.
const BUFFER_BYTES: usize = 256 * 1024;
/// Bytes of one measurement.
const BYTES: usize = 1 << 30;
const MIB: f64 = 1024.0 * 1024.0;
/// Known secrets, and the MiB/s that are to be passed.
const FLOORS: [(u64, f64); 3] = [(0, 953.7), (10, 953.7), (1000, 381.5)];

/// Measures and prints.
pub fn measure(instance: &Instance) -> anyhow::Result<Verdict> {
    let text = log_lines();
    load::tell("before");
    println!("\nlog lines through the redactor, {ROUNDS} times, medians");
    let mut compared = Comparisons::heading("MiB/s");
    for (count, floor) in FLOORS {
        let redactor = redactor(count)?;
        let mut pairs = Pairs::default();
        for _ in 0..ROUNDS {
            pairs.add(through(&redactor, &text)?, floor);
        }
        compared.compare(&format!("{count} secrets, against what is promised"), &pairs, Bar::Above(1.0));
    }
    whole_run(instance, &mut compared)?;
    load::tell("after");
    Ok(compared.verdict())
}

/// A run's stream with ten known secrets, against one without.
fn whole_run(instance: &Instance, compared: &mut Comparisons) -> anyhow::Result<()> {
    let known = Instance::new()?;
    for number in 0..10 {
        let name = format!("KEY{number}");
        let mut child = known.aegis(&["secret", "set", &name]).stdin(Stdio::piped()).spawn()?;
        child.stdin.take().context("no pipe")?.write_all(value(number).as_bytes())?;
        if !child.wait()?.success() {
            bail!("`aegis secret set` failed");
        }
    }
    let program = ["/usr/bin/head", "-c", "1G", "/dev/zero"];
    let flags = ["run", "--no-workspace", "--image", "aegis/base", "--output-limit", "2GiB", "--quiet", "--"];
    let arguments = [&flags[..], &program].concat();
    let mut pairs = Pairs::default();
    for _ in 0..3 {
        instance.wait_until_quiet()?;
        let ours = rate(&mut known.aegis(&arguments))?;
        instance.wait_until_quiet()?;
        pairs.add(ours, rate(&mut instance.aegis(&arguments))?);
    }
    compared.compare("a task's 1 GiB, ten secrets against none", &pairs, Bar::Above(0.2));
    Ok(())
}

/// MiB per second.
fn through(redactor: &Redactor, text: &[u8]) -> anyhow::Result<f64> {
    let mut stream = redactor.stream();
    let mut out = Vec::with_capacity(BUFFER_BYTES * 2);
    let mut bytes = 0;
    let begun = Instant::now();
    while bytes < BYTES {
        out.clear();
        stream.push(text, &mut out);
        bytes += text.len();
    }
    let took = begun.elapsed();
    if !stream.redactions().is_empty() {
        bail!("a log line has a secret");
    }
    Ok(bytes as f64 / MIB / took.as_secs_f64())
}

fn redactor(count: u64) -> anyhow::Result<Redactor> {
    let known: Result<Vec<Known>, _> =
        (0..count).map(|it| Known::new(&format!("KEY{it}"), value(it).as_bytes())).collect();
    Ok(Redactor::new(&known?))
}

/// A value as services give them.
fn value(number: u64) -> String {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("sk_live_{mixed:016x}{:016x}", mixed.rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9))
}

/// Lines as a build writes them.
fn log_lines() -> Vec<u8> {
    let mut text = Vec::with_capacity(BUFFER_BYTES);
    let mut number = 0_u64;
    while text.len() < BUFFER_BYTES {
        number += 1;
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let line = format!(
            "2026-01-02T03:04:{:02}Z info  compiled module_{number} in {} ms, digest {mixed:016x}, cache miss\n",
            number % 60,
            number % 997
        );
        text.extend_from_slice(line.as_bytes());
    }
    text.truncate(BUFFER_BYTES);
    text
}
