//! A server whose sandboxes wait: what a run through it costs against `docker run` with the same hardening flags, how soon a
//! released command is heard of, how many runs a second go through it against bare calls of the engine's API, and what it
//! holds in memory. What the queue alone does is the subject of `queue`.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::support::by_hand::ByHand;
use crate::support::instance::Instance;
use crate::support::load;
use crate::support::pairs::{Pairs, Series};
use crate::support::server::Server;
use crate::support::table::{Aim, Bar, Comparisons, Verdict, aimed};

const IMAGE: &str = "aegis/minimal";
const PROGRAM: &str = "/bin/true";
/// Says one line, so that there is a first byte.
const SPEAKER: [&str; 2] = ["/bin/echo", "spoken"];
/// Pairs of a run through the server and `docker run`, and those before them that do not count.
const PAIRS: usize = 60;
const WARM_UP_PAIRS: usize = 3;
/// Runs whose first byte is waited for.
const SPOKEN: usize = 100;
/// Sandboxes that wait: one is enough for runs one by one.
const SLOTS: usize = 2;
/// Sandboxes that wait while memory is measured.
const SLOTS_HELD: usize = 8;
/// Runs at once that are tried against the engine, to find where it does most.
const AT_ONCE: [usize; 4] = [1, 2, 4, 8];
/// Runs of one measurement of a rate; the first of those through the server use up what waited and do not count.
const MANY: usize = 48;
const MANY_UNCOUNTED: usize = 16;
const RATE_ROUNDS: usize = 3;
/// How long a batch may take.
const BATCH_TIME_MAX: Duration = Duration::from_secs(180);
/// The pause between two looks at a batch: far below what a caller may ask in a second.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// What a server is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// Measures and prints.
pub fn measure(instance: &Instance) -> anyhow::Result<Verdict> {
    let by_hand = ByHand::new(instance.engine_request(IMAGE)?, &[PROGRAM], instance.directory())?;
    load::tell("before");
    memory(instance)?;
    let verdict = one_by_one(instance, &by_hand)?.and(rates(instance, &by_hand)?);
    load::tell("after");
    Ok(verdict)
}

/// What a server holds without and with sandboxes that wait.
fn memory(instance: &Instance) -> anyhow::Result<()> {
    let server = Server::start(instance, &["--workers", "2"])?;
    std::thread::sleep(SETTLE);
    let (idle, idle_all) = server.resident_kib()?;
    server.stop()?;
    let wanted = slots(SLOTS_HELD);
    let server = Server::start(instance, &["--workers", "2", "--slots", &wanted])?;
    server.wait_for_slots(SLOTS_HELD)?;
    std::thread::sleep(SETTLE);
    let (_, held_all) = server.resident_kib()?;
    server.stop()?;
    println!("\nresident memory");
    let mib = |kib: f64| Series::of(kib / 1024.0);
    aimed("a server that waits", &mib(idle), "MiB", Aim::Below(40.0));
    aimed("with its broker", &mib(idle_all), "MiB", Aim::None);
    let each = (held_all - idle_all) / SLOTS_HELD as f64;
    aimed("each sandbox that waits, shim not counted", &mib(each), "MiB", Aim::Below(2.0));
    Ok(())
}

/// Runs one by one: whole against `docker run`, and from the release to the first byte.
fn one_by_one(instance: &Instance, by_hand: &ByHand) -> anyhow::Result<Verdict> {
    let wanted = slots(SLOTS);
    let server = Server::start(instance, &["--workers", "2", "--slots", &wanted])?;
    let address = server.address();
    let result = instance.directory().join("served.json").display().to_string();
    let flags = ["run", "--server", &address, "--no-workspace", "--image", IMAGE, "--quiet"];
    let mut aegis = instance.aegis(&[&flags[..], &["--", PROGRAM]].concat());
    let mut docker = by_hand.docker_run()?;
    let mut whole = Pairs::default();
    for round in 0..WARM_UP_PAIRS + PAIRS {
        let timed = |command: &mut std::process::Command| {
            server.wait_for_slots(SLOTS)?;
            let begun = Instant::now();
            succeed(command)?;
            anyhow::Ok(begun.elapsed().as_secs_f64() * 1000.0)
        };
        let (ours, theirs) = (timed(&mut aegis)?, timed(&mut docker)?);
        if round >= WARM_UP_PAIRS {
            whole.add(ours, theirs);
        }
    }
    let mut spoken = instance.aegis(&[&flags[..], &["--result", &result, "--"], &SPEAKER].concat());
    let (mut first, mut release, mut waited) = (Series::default(), Series::default(), 0);
    for _ in 0..SPOKEN {
        server.wait_for_slots(SLOTS)?;
        succeed(&mut spoken)?;
        let told: Value = serde_json::from_slice(&std::fs::read(&result)?)?;
        first.add(timing(&told, "first_output")?);
        release.add(timing(&told, "release")?);
        waited += usize::from(told.pointer("/attestation/waited_ms").is_some_and(|it| !it.is_null()));
    }
    server.stop()?;
    println!("\nruns through a server, one by one; {waited} of {SPOKEN} in sandboxes that waited");
    let mut compared = Comparisons::heading("ms");
    compared.compare("`true`, against `docker run`, same hardening", &whole, Bar::AtMost(1.0 / 20.0));
    aimed("release to first byte, half of them", &first, "ms", Aim::Below(2.0));
    aimed("release to first byte, 99 of 100", &first.percentile(99), "ms", Aim::Below(10.0));
    aimed("the phase `release`, with its record", &release, "ms", Aim::None);
    Ok(compared.verdict())
}

/// Runs a second, in turns with the engine at its best.
fn rates(instance: &Instance, by_hand: &ByHand) -> anyhow::Result<Verdict> {
    instance.wait_until_quiet()?;
    let (mut best, mut best_rate) = (1, 0.0);
    for at_once in AT_ONCE {
        let rate = by_hand.rate(MANY, at_once)?;
        println!("bare calls, {at_once} at once: {rate:.1} a second");
        if rate > best_rate {
            (best, best_rate) = (at_once, rate);
        }
    }
    let (workers, wanted) = (best.max(2).to_string(), slots(best.max(2)));
    let server = Server::start(instance, &["--workers", &workers, "--slots", &wanted])?;
    let mut pairs = Pairs::default();
    for _ in 0..RATE_ROUNDS {
        server.wait_for_slots(best.max(2))?;
        let theirs = by_hand.rate(MANY, best)?;
        pairs.add(through(&server)?, theirs);
    }
    server.stop()?;
    println!("\nruns a second while sandboxes are made anew, {best} at once");
    let mut compared = Comparisons::heading("/s");
    compared.compare("against bare calls at their best", &pairs, Bar::Above(0.95));
    Ok(compared.verdict())
}

/// Runs a second through the server, of one batch, once what waited before is used up.
fn through(server: &Server) -> anyhow::Result<f64> {
    let run = serde_json::json!({ "command": [PROGRAM], "image": IMAGE });
    let body = serde_json::json!({ "runs": vec![run; MANY] }).to_string();
    let submitted = server.ask("POST", "/api/v1/runs/batch", &body)?;
    let runs = submitted.get("runs").and_then(Value::as_array).context("no runs")?;
    let deadline = Instant::now() + BATCH_TIME_MAX;
    let mut ends = Vec::with_capacity(MANY);
    for run in runs {
        let id = run.get("id").and_then(Value::as_str).context("no id")?;
        ends.push(loop {
            let told = server.ask("GET", &format!("/api/v1/runs/{id}"), "")?;
            if told.get("state").and_then(Value::as_str) == Some("done") {
                break end_ms(&told)?;
            }
            if Instant::now() > deadline {
                bail!("a batch of {MANY} runs took more than {BATCH_TIME_MAX:?}");
            }
            std::thread::sleep(LOOK_PAUSE);
        });
    }
    ends.sort_by(f64::total_cmp);
    let counted_s = (ends[MANY - 1] - ends[MANY_UNCOUNTED - 1]) / 1000.0;
    Ok((MANY - MANY_UNCOUNTED) as f64 / counted_s)
}

/// When a run ended, that has to have ended well.
fn end_ms(told: &Value) -> anyhow::Result<f64> {
    if told.pointer("/outcome/kind").and_then(Value::as_str) != Some("exited") {
        bail!("a run ended otherwise: {}", told["outcome"]);
    }
    let ended: jiff::Timestamp = told.get("ended_at").and_then(Value::as_str).context("no end")?.parse()?;
    Ok(ended.as_millisecond() as f64)
}

fn timing(told: &Value, phase: &str) -> anyhow::Result<f64> {
    let us = told.pointer(&format!("/timings_us/{phase}")).and_then(Value::as_f64);
    Ok(us.with_context(|| format!("the result has no `{phase}`"))? / 1000.0)
}

fn slots(count: usize) -> String {
    format!("{IMAGE}=strict:{count}")
}

fn succeed(command: &mut std::process::Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{:?} starts", command.get_program()))?;
    if !status.success() {
        bail!("{:?} ended with {status}", command.get_program());
    }
    Ok(())
}
