//! `aegis run`, the plain way.

use crate::support::aegis::Aegis;

#[test]
fn the_streams_and_the_status_are_the_tasks_own() {
    let ended = Aegis::new().script(&[], "echo out; echo err >&2; exit 42");
    ended.code(42).says("err\n");
    assert_eq!(ended.stdout, "out\n");
}
