//! `aegis run`, the plain way.

use crate::support::aegis::Aegis;

#[test]
fn the_streams_and_the_status_are_the_tasks_own() {
    let ended = Aegis::new().script(&[], "echo out; echo err >&2; exit 42");
    ended.code(42).says("err\n");
    assert_eq!(ended.stdout, "out\n");
}

#[test]
fn a_task_without_a_policy_runs_under_strict() {
    let aegis = Aegis::new();
    aegis.script(&["--result", "result.json"], "true").code(0);
    let result = std::fs::read(aegis.here().join("result.json")).expect("a result");
    let result: serde_json::Value = serde_json::from_slice(&result).expect("JSON");
    assert_eq!(result["policy"]["name"], "strict", "{result:#}");
    assert_eq!(result["attestation"]["proven"], true, "{result:#}");
}

#[test]
fn nothing_of_the_callers_environment_and_no_credential_of_the_image_is_inside() {
    let aegis = Aegis::new().with("AWS_SECRET_ACCESS_KEY", "canary").with("AEGIS_CANARY", "canary");
    let check = "env | cut -d= -f1 | grep -iE '^(AEGIS|DATABASE_URL|PG|DOCKER_|AWS_|SSH_AUTH|GITHUB_|KUBE|VAULT|.*TOKEN|.*SECRET|.*PASSW)' | sed 's/^/BREACH /'
                 env | grep canary | sed 's/^/BREACH /'
                 [ \"$HOME\" = /run/home ] && echo tried";
    aegis.script(&[], check).code(0).no_breach().prints("tried");
}
