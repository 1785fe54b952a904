//! Programs that try what a sandbox refuses: `probe/*.c`, compiled when first needed and kept by their content, and
//! the two ways in which tests use them. A denial counts only if the attempt was made: every way demands its marks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::aegis::{Aegis, Ended};

/// What a refused call may answer. `EAFNOSUPPORT` is none of them: it says what the kernel lacks, not what the filter
/// refuses.
const REFUSALS: [&str; 4] = ["EPERM", "EACCES", "ENOSYS", "SIGSYS"];
/// Printed by a script that reached its end.
const END: &str = "the end is reached";

/// Runs a script in the base image under `strict`. It must print a line that begins with `tried` for each of its
/// attempts, no `BREACH`, and reach its end.
#[track_caller]
pub fn check_script(attempts: usize, script: &str) -> Ended {
    check_script_with(&[], attempts, script)
}

/// The same with flags.
#[track_caller]
pub fn check_script_with(flags: &[&str], attempts: usize, script: &str) -> Ended {
    let ended = Aegis::new().script(flags, &format!("{script}\necho {END}"));
    ended.code(0).no_breach().prints(END);
    let tried = ended.stdout.lines().filter(|it| it.starts_with("tried")).count();
    assert_eq!(tried, attempts, "attempts in {ended:#?}");
    ended
}

/// Makes the named calls in a sandbox under `strict`: each must be refused.
#[track_caller]
pub fn check_refused(names: &str) {
    let answers = answers(names);
    for (name, answer) in &answers {
        assert!(REFUSALS.contains(&answer.as_str()), "{name}: {answer}");
    }
}

/// Makes the named calls in a sandbox under `strict` and gives what each answered. The probe's own control call must
/// work, so that a probe that cannot run at all refuses nothing.
#[track_caller]
pub fn answers(names: &str) -> BTreeMap<String, String> {
    let names: Vec<&str> = names.split_whitespace().collect();
    let workspace = workspace();
    let mut arguments = vec!["run", "-w", workspace.path().to_str().unwrap(), "--", "./probe", "control"];
    arguments.extend(&names);
    let ended = Aegis::new().call(&arguments);
    ended.code(0).prints("control: ok\n");
    let lines = ended.stdout.lines().filter_map(|it| it.split_once(": "));
    let answers: BTreeMap<_, _> = lines.map(|(name, answer)| (name.to_owned(), answer.to_owned())).collect();
    let asked = |it: &&str| answers.contains_key(*it);
    assert!(names.iter().all(asked) && answers.len() == names.len() + 1, "{ended:#?}");
    answers.into_iter().filter(|(name, _)| name != "control").collect()
}

/// A directory with the program `probe`, for `--workspace`.
pub fn workspace() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(program("probe"), directory.path().join("probe")).unwrap();
    directory
}

/// One of the programs, as a static executable.
pub fn program(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/probe").join(format!("{name}.c"));
    let digest = hex::encode(Sha256::digest(std::fs::read(&source).unwrap()));
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", &digest[..16]));
    if kept.exists() {
        return kept;
    }
    // Tests run at the same time: each makes its own, and the last rename wins.
    let fresh = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap().into_temp_path();
    let compiled =
        Command::new("gcc").args(["-O1", "-Wall", "-static", "-o"]).arg(&fresh).arg(&source).output();
    let compiled = compiled.expect("gcc runs");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    fresh.persist(&kept).unwrap();
    kept
}

/// Runs a script as [`Aegis::script`] does, and gives the result object beside what was seen.
#[track_caller]
pub fn script_with_result(aegis: &Aegis, flags: &[&str], script: &str) -> (Ended, Value) {
    let path = aegis.here().join("result.json");
    let mut all = vec!["--result", path.to_str().unwrap()];
    all.extend(flags);
    let ended = aegis.script(&all, script);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|it| panic!("no result: {it}: {ended:#?}"));
    (ended, serde_json::from_str(&text).unwrap())
}
