//! Bytes per second from a task to a pipe: `aegis run` against `docker run`, the same gibibyte of zeros from the same
//! image. Counted from the first byte to the last, so that the start is not in it.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::support::by_hand::ByHand;
use crate::support::instance::Instance;
use crate::support::load;
use crate::support::pairs::Pairs;
use crate::support::table::{Bar, Comparisons, Verdict};

/// Pairs that are measured.
const ROUNDS: u32 = 3;
const IMAGE: &str = "aegis/base";
const PROGRAM: [&str; 4] = ["/usr/bin/head", "-c", "1G", "/dev/zero"];
const BYTES: u64 = 1 << 30;
const MIB: f64 = 1024.0 * 1024.0;

/// Measures and prints.
pub fn measure(instance: &Instance) -> anyhow::Result<Verdict> {
    let request = instance.engine_request(IMAGE)?;
    let by_hand = ByHand::new(request, &PROGRAM, instance.directory())?;
    let flags = ["run", "--no-workspace", "--image", IMAGE, "--output-limit", "2GiB", "--quiet", "--"];
    let mut aegis = instance.aegis(&[&flags[..], &PROGRAM].concat());
    let mut docker = by_hand.docker_run()?;

    load::tell("before");
    let mut pairs = Pairs::default();
    for _ in 0..ROUNDS {
        instance.wait_until_quiet()?;
        let ours = rate(&mut aegis)?;
        instance.wait_until_quiet()?;
        pairs.add(ours, rate(&mut docker)?);
    }
    load::tell("after");

    println!("\na task that writes 1 GiB, {ROUNDS} pairs, medians");
    let mut compared = Comparisons::heading("MiB/s");
    compared.compare("against `docker run`, same hardening", &pairs, Bar::Above(1.0));
    Ok(compared.verdict())
}

/// MiB per second that come out of a command.
pub fn rate(command: &mut Command) -> anyhow::Result<f64> {
    let program = format!("{:?}", command.get_program());
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("{program} starts"))?;
    let mut output = child.stdout.take().context("no pipe")?;
    let mut buffer = vec![0; 1 << 20];
    let first = output.read(&mut buffer)?;
    let begun = Instant::now();
    let mut bytes = first as u64;
    loop {
        let count = output.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        bytes += count as u64;
    }
    let took = begun.elapsed();
    let status = child.wait()?;
    if !status.success() || bytes != BYTES {
        bail!("{program} ended with {status} after {bytes} bytes");
    }
    Ok((bytes - first as u64) as f64 / MIB / took.as_secs_f64())
}
