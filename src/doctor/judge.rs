//! Facts to findings, purely: one function for each area, one finding for each check, in a fixed order.

mod access;
mod aegis;
mod engine;
mod flawed;
mod kernel;
mod walls;

#[cfg(test)]
mod tests;

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Area, Finding};

pub use kernel::setting_names;

/// Every finding.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &facts.engine {
        Ok(described) => {
            engine::judge(facts, described, &mut findings);
            walls::judge(facts, described, &mut findings);
            flawed::judge(facts, described, &mut findings);
        }
        Err(message) => findings.push(Finding::fail(
            Area::Engine,
            "engine.answers",
            message.clone(),
            "nothing runs without an engine, and nothing else of it could be looked at",
            "start it (`systemctl start docker`), or point DOCKER_HOST at the socket of one on this host",
        )),
    }
    access::judge(facts, &mut findings);
    aegis::judge(facts, &mut findings);
    kernel::judge(facts, &mut findings);
    findings
}
