//! A real second engine whose OCI runtime changes what it was asked to make: what a person meets whose host was tampered
//! with, or set up by somebody who meant well.

use crate::doctor::{finding, read};
use crate::support::aegis::Aegis;
use crate::support::second_engine::{SecondEngine, Standing};

const STRIP_SECCOMP: &str = "config['linux'].pop('seccomp', None)";
// The engine leaves empty sets out of the configuration.
const KEEP_CHOWN: &str = "for it in ('bounding', 'permitted', 'effective'):
    config['process'].setdefault('capabilities', {}).setdefault(it, []).append('CAP_CHOWN')";

/// An engine whose `runc` does this: the wall is named with this detail, and a run is refused over it.
#[track_caller]
fn weakened(change: &str, wall: &str, detail: &str) {
    let engine = SecondEngine::start(Standing::Runc, change);
    let aegis = Aegis::new().with("DOCKER_HOST", &engine.docker_host());
    // Without the image there is nothing to attack with, and the way to it is told.
    aegis.call(&["doctor", "--attack"]).code(125).says("aegis/base").says("aegis image build base");
    engine.load_minimal(&["aegis/base"]);
    let ended = aegis.call(&["doctor", "--attack", "--json"]);
    ended.code(1);
    let attack = read(&ended).attack.expect("an attack");
    let found = attack.walls_down.iter().find(|it| it.wall == wall && it.runtime == "runc");
    let found = found.unwrap_or_else(|| panic!("{attack:#?}"));
    assert!(found.details.iter().any(|it| it.contains(detail)), "no `{detail}` in {found:#?}");
    let refused = aegis.call(&["run", "--no-workspace", "--", "sh", "-c", "echo STARTED"]);
    refused.code(125).says("refused");
    assert_eq!(refused.stdout, "");
}

#[test]
fn a_runc_that_strips_the_filter_is_found_out() {
    weakened(STRIP_SECCOMP, "seccomp", "not in force");
}

#[test]
fn a_runc_that_keeps_a_capability_is_found_out() {
    weakened(KEEP_CHOWN, "capabilities", "CHOWN kept");
}

#[test]
fn a_default_runtime_that_strips_the_filter_is_named_and_not_used() {
    let engine = SecondEngine::start(Standing::Default, STRIP_SECCOMP);
    engine.load_minimal(&["aegis/base"]);
    let aegis = Aegis::new().with("DOCKER_HOST", &engine.docker_host());
    let ended = aegis.call(&["doctor", "--attack", "--json"]);
    ended.code(1);
    let doctor = read(&ended);
    assert_eq!(finding(&doctor, "engine.default_runtime").verdict, "weak");
    let attack = doctor.attack.expect("an attack");
    let found =
        attack.walls_down.iter().find(|it| it.wall == "seccomp").unwrap_or_else(|| panic!("{attack:#?}"));
    assert_eq!(found.runtime, "changed", "{found:#?}");
    // Aegis asks for runc by name, and what it gets is proven; the other is refused even where a policy accepts it.
    aegis.call(&["run", "--no-workspace", "--", "sh", "-c", "echo STARTED"]).code(0).prints("STARTED");
    let policy = aegis.here().join("changed.toml");
    std::fs::write(&policy, "runtimes = [\"changed\"]\n").unwrap();
    let flags =
        ["run", "--no-workspace", "--sandbox", "./changed.toml", "--runtime", "changed", "--", "true"];
    aegis.call(&flags).code(125).says("refused").says("Seccomp is 0 (off)");
}
