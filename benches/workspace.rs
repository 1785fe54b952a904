//! Runs over a workspace of 3,000 and of 30,000 files, the first and repeated ones, under `ci` and `strict`, against
//! `docker run -v` of the same tree with the same hardening flags. A run is as it is by default: what changed is looked for
//! and kept.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::support::by_hand::ByHand;
use crate::support::instance::Instance;
use crate::support::load;
use crate::support::pairs::{Pairs, Series};
use crate::support::table::{Bar, Comparisons, Verdict, quantity};

/// Pairs of repeated runs that are measured.
const ROUNDS: u32 = 9;
/// Runs before them: the first one, and one for a snapshot of files that were too young for the first.
const WARM_UP_ROUNDS: u32 = 2;
const FILES: [u32; 2] = [3_000, 30_000];
/// What a repeated run may take, as a multiple of `docker run -v`.
const BARS: [(&str, f64); 2] = [("ci", 1.5), ("strict", 3.0)];
const FILES_PER_DIRECTORY: u32 = 20;
const DIRECTORIES_PER_DIRECTORY: u32 = 20;
/// Files younger than this are taken for changed.
const SETTLING: Duration = Duration::from_secs(4);
const IMAGE: &str = "aegis/minimal";
const PROGRAM: &str = "/bin/true";

/// Measures and prints.
pub fn measure(instance: &Instance) -> anyhow::Result<Verdict> {
    let by_hand = ByHand::new(instance.engine_request(IMAGE)?, &[PROGRAM], instance.directory())?;
    let mut trees = Vec::new();
    for files in FILES {
        trees.push((files, grow(&instance.directory().join(format!("tree-{files}")), files)?));
    }
    std::thread::sleep(SETTLING);
    load::tell("before");
    println!("\na repeated run of `true` over a workspace, {ROUNDS} pairs, medians");
    let mut compared = Comparisons::heading("ms");
    let mut firsts = Vec::new();
    for (files, tree) in &trees {
        for (policy, bar) in BARS {
            let (first, pairs) = pairs(instance, &by_hand, policy, tree)?;
            compared.compare(&format!("{policy}, {files} files"), &pairs, Bar::AtMost(bar));
            firsts.push((format!("{policy}, {files} files"), first));
        }
    }
    println!("\nthe first run, once");
    for (name, first) in &firsts {
        quantity(name, first, "ms");
    }
    load::tell("after");
    Ok(compared.verdict())
}

/// The first run, and repeated ones in turns with the engine's own.
fn pairs(
    instance: &Instance,
    by_hand: &ByHand,
    policy: &str,
    tree: &Path,
) -> anyhow::Result<(Series, Pairs)> {
    let path = tree.display().to_string();
    let mut ours =
        instance.aegis(&["run", "--sandbox", policy, "-w", &path, "--image", IMAGE, "-q", "--", PROGRAM]);
    let mut theirs = by_hand.docker_run_with(&["--volume".to_owned(), format!("{path}:/w")])?;
    let (mut first, mut pairs) = (Series::default(), Pairs::default());
    for round in 0..WARM_UP_ROUNDS + ROUNDS {
        let (took, by_engine) = (timed(instance, &mut ours)?, timed(instance, &mut theirs)?);
        if round == 0 {
            first.add(took);
        }
        if round >= WARM_UP_ROUNDS {
            pairs.add(took, by_engine);
        }
    }
    Ok((first, pairs))
}

/// Milliseconds that a command takes, on an engine that does nothing else for us.
fn timed(instance: &Instance, command: &mut Command) -> anyhow::Result<f64> {
    instance.wait_until_quiet()?;
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("{:?} starts", command.get_program()))?;
    let took = begun.elapsed();
    if !status.success() {
        bail!("{:?} ended with {status}", command.get_program());
    }
    Ok(took.as_secs_f64() * 1000.0)
}

/// Files as projects have them: most are small, some are not, about 3.5 KiB at the mean.
fn grow(root: &Path, files: u32) -> anyhow::Result<PathBuf> {
    for number in 0..files {
        let module = number / FILES_PER_DIRECTORY;
        let place = root.join(format!("part{}/module{module}", module / DIRECTORIES_PER_DIRECTORY));
        if number % FILES_PER_DIRECTORY == 0 {
            std::fs::create_dir_all(&place)?;
        }
        let mut file = std::fs::File::create(place.join(format!("file{number}.txt")))?;
        file.write_all(&content(number))?;
    }
    Ok(root.to_owned())
}

fn content(number: u32) -> Vec<u8> {
    let spread = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
    let (least, most) = match number % 20 {
        0..10 => (200, 1_000),
        10..16 => (1_000, 4_000),
        16..19 => (4_000, 12_000),
        _ => (12_000, 40_000),
    };
    let length = least + spread % (most - least);
    (0..length).map(|at| (at.wrapping_mul(spread | 1) >> 7) as u8).collect()
}
