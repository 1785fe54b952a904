//! Ports of the task that are asked for on the host's loopback: one is published only if the policy lists it.

use crate::policy::admit::who;
use crate::policy::denial::Denial;
use crate::policy::field::Field;
use crate::policy::resolve::Resolved;
use crate::task::Published;

/// What stands against the ports that were asked for.
pub fn unlisted(asked: &[Published], resolved: &Resolved) -> Vec<Denial> {
    let mut denials = Vec::new();
    for published in asked.iter().filter(|it| !resolved.policy.network.publishes(it.port)) {
        let port = published.port;
        let who = who(resolved, Field::Publish);
        let message =
            format!("flag `--publish` asks for port {port}; `network.publish` of {who} does not list it");
        let hint =
            format!("write `network.publish = [{port}]` into a policy file and pass it with `--sandbox`");
        denials.push(Denial { field: Field::Publish, message, hint, allowed: None });
    }
    denials
}
