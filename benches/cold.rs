//! A cold `aegis run … true` against the same container by hand: through the engine's API (create, start, wait, remove),
//! and with `docker run` and the same hardening flags. Then where the time of a cold run goes.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::support::by_hand::ByHand;
use crate::support::instance::Instance;
use crate::support::load;
use crate::support::pairs::{Pairs, Series};
use crate::support::table::{Bar, Comparisons, Verdict, quantity};

/// Pairs that are measured.
const ROUNDS: u32 = 15;
/// Rounds before them that are not: files come into memory, the database and the program are laid down.
const WARM_UP_ROUNDS: u32 = 2;
const IMAGE: &str = "aegis/minimal";
const PROGRAM: &str = "/bin/true";

/// Measures and prints.
pub fn measure(instance: &Instance) -> anyhow::Result<Verdict> {
    let request = instance.engine_request(IMAGE)?;
    let by_hand = ByHand::new(request, &[PROGRAM], instance.directory())?;
    let result = instance.directory().join("result.json").display().to_string();
    let mut aegis = instance.aegis(&[
        "run",
        "--no-workspace",
        "--image",
        IMAGE,
        "--result",
        &result,
        "--quiet",
        "--",
        PROGRAM,
    ]);
    let mut docker = by_hand.docker_run()?;

    load::tell("before");
    let (mut api, mut command_line) = (Pairs::default(), Pairs::default());
    let mut parts = Parts::default();
    for round in 0..WARM_UP_ROUNDS + ROUNDS {
        let ours = timed(instance, || succeed(&mut aegis))?;
        let by_api = timed(instance, || by_hand.through_the_api())?;
        let by_command = timed(instance, || succeed(&mut docker))?;
        if round >= WARM_UP_ROUNDS {
            api.add(ours, by_api);
            command_line.add(ours, by_command);
            parts.add(&serde_json::from_slice(&std::fs::read(&result)?)?)?;
        }
    }
    load::tell("after");

    println!("\na cold run of `true`, {ROUNDS} pairs, medians");
    let mut compared = Comparisons::heading("ms");
    compared.compare("against the engine's API by hand", &api, Bar::AtMost(1.0));
    compared.compare("against `docker run`, same hardening", &command_line, Bar::Below(1.0));
    parts.print();
    Ok(compared.verdict())
}

/// Milliseconds that one thing takes, on an engine that does nothing else for us.
fn timed(instance: &Instance, run: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    instance.wait_until_quiet()?;
    let begun = Instant::now();
    run()?;
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{:?} starts", command.get_program()))?;
    if !status.success() {
        bail!("{:?} ended with {status}", command.get_program());
    }
    Ok(())
}

/// Where the time of the measured runs went, by phase, and what the proof cost.
#[derive(Debug, Default)]
struct Parts {
    phases: BTreeMap<String, Series>,
    probes: Series,
    ready: Series,
}

impl Parts {
    fn add(&mut self, result: &Value) -> anyhow::Result<()> {
        let phases = result.get("timings_us").and_then(Value::as_object).context("no timings")?;
        for (phase, took) in phases {
            self.phases
                .entry(phase.clone())
                .or_default()
                .add(took.as_f64().context("a timing is no number")?);
        }
        let told = |name: &str| {
            let value = result.get("attestation").and_then(|it| it.get(name)).and_then(Value::as_f64);
            value.with_context(|| format!("the attestation has no `{name}`"))
        };
        self.probes.add(told("probes_us")?);
        self.ready.add(told("ready_us")?);
        Ok(())
    }

    fn print(&self) {
        println!("\nwhat the proof costs, medians (min to max)");
        quantity("init: its probes", &self.probes, "µs");
        quantity("init: from its start to its report", &self.ready, "µs");
        if let Some(compared) = self.phases.get("attestation") {
            quantity("host: reading and comparing", compared, "µs");
        }
        println!("\nphases of the cold run, medians (min to max)");
        let mut phases: Vec<_> = self.phases.iter().collect();
        phases.sort_by(|one, other| other.1.median().total_cmp(&one.1.median()));
        for (phase, series) in phases {
            quantity(phase, series, "µs");
        }
    }
}
