//! What the programs of the attack are told, and the directory that is copied into their sandboxes.

use std::path::Path;

use serde_json::{Value, json};

use crate::app::attack::canary::{Canary, Files};
use crate::app::read_bytes;
use crate::config::Directories;
use crate::doctor::attack::calls::{self, Argument, Call};
use crate::doctor::attack::{PROBES, Stage};

/// Seconds for which the two sandboxes that look at each other are up.
const BESIDE_S: u32 = 5;
/// Bytes of a command line.
const COMMAND_BYTES_MAX: u64 = 64 * 1024;

/// The parameters of one attack.
#[derive(Debug)]
pub struct Parameters {
    /// What the process that is left behind on purpose sleeps, seconds: no other process of the host does.
    pub survivor: String,
    document: Value,
}

impl Parameters {
    /// Those of this attack.
    pub fn new(word: &str, files: &Files, canary: &Canary, directories: &Directories) -> Self {
        let survivor = format!("9{:08}", std::process::id() % 100_000_000);
        let checks: Vec<&str> = PROBES.iter().map(|it| it.id).collect();
        let with_calls = PROBES.iter().filter(|it| calls::of(it.id).next().is_some());
        let calls: serde_json::Map<String, Value> =
            with_calls.map(|it| (it.id.to_owned(), calls::of(it.id).filter_map(call).collect())).collect();
        let addresses: Vec<String> = canary.addresses().iter().map(ToString::to_string).collect();
        let document = json!({
            "word": word,
            "canaries": files.paths(),
            "port": canary.port(),
            "addresses": addresses,
            "state": directories.state,
            "survivor": survivor,
            "beside_s": BESIDE_S,
            "checks": checks,
            "calls": calls,
        });
        Self { survivor, document }
    }

    /// A directory with every program and the parameters; it goes when it is dropped.
    pub fn write(&self) -> std::io::Result<tempfile::TempDir> {
        let place = tempfile::Builder::new().prefix("aegis-doctor-").tempdir()?;
        for stage in Stage::ALL {
            std::fs::write(place.path().join(format!("{}.py", stage.name())), stage.program())?;
        }
        std::fs::write(place.path().join("parameters.json"), self.document.to_string())?;
        Ok(place)
    }
}

fn call(call: &Call) -> Option<Value> {
    let arguments = call.arguments.iter().map(|it| match it {
        Argument::Number(number) => json!(number),
        Argument::Page => Value::Null,
        Argument::Text(text) => json!(text),
    });
    Some(json!([call.name, call.number()?, arguments.collect::<Vec<_>>()]))
}

/// Processes of this host that sleep this long.
pub fn survivors(proc: &Path, survivor: &str) -> usize {
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    let sleeps = |it: &std::fs::DirEntry| {
        let command = read_bytes(&it.path().join("cmdline"), COMMAND_BYTES_MAX).unwrap_or_default();
        command.split(|byte| *byte == 0).any(|argument| argument == survivor.as_bytes())
    };
    entries.filter(sleeps).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_sleeps_on_is_seen() {
        let seconds = format!("8{:08}", std::process::id() % 100_000_000);
        let mut child = std::process::Command::new("sleep").arg(&seconds).spawn().expect("it starts");
        // The kernel lets the parent go on before the child's arguments can be read.
        let begun = std::time::Instant::now();
        while survivors(Path::new("/proc"), &seconds) == 0 && begun.elapsed().as_secs() < 10 {
            std::thread::yield_now();
        }
        assert_eq!(survivors(Path::new("/proc"), &seconds), 1);
        child.kill().expect("killed");
        child.wait().expect("waited for");
        assert_eq!(survivors(Path::new("/proc"), &seconds), 0);
    }
}
