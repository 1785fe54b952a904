//! The published JSON of `aegis doctor`. `docs/schemas/doctor-1.json` holds the schema; a test keeps it equal to these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::doctor::attack::Assault;
use crate::doctor::attack::json::AttackJson;
use crate::doctor::finding::{Finding, Risk, worst};

/// What the `schema` field says.
pub const DOCTOR_SCHEMA: &str = "aegis.doctor/1";

/// What `aegis doctor --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DoctorJson {
    /// Always `aegis.doctor/1`.
    pub schema: String,
    /// The worst of the findings: `ok`, `weak` or `fail`.
    pub verdict: String,
    /// `low`, `raised` or `high`.
    pub risk: String,
    /// One for each check.
    pub findings: Vec<FindingJson>,
    /// What `--attack` found; `null` without it.
    pub attack: Option<AttackJson>,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindingJson {
    /// The check's name.
    pub id: String,
    /// `engine`, `walls`, `flaws`, `access`, `aegis` or `kernel`.
    pub area: String,
    /// `ok`, `weak` or `fail`.
    pub verdict: String,
    /// What was seen; begins with `unknown` where it could not be.
    pub seen: String,
    /// Why it matters; `null` where all is well.
    pub why: Option<String>,
    /// What to do; `null` where nothing is to be done.
    pub fix: Option<String>,
}

impl DoctorJson {
    /// What was found, as it is published.
    pub fn of(findings: &[Finding], assault: Option<&Assault>) -> Self {
        Self {
            schema: DOCTOR_SCHEMA.to_owned(),
            verdict: worst(findings).name().to_owned(),
            risk: Risk::of(findings).name().to_owned(),
            findings: findings.iter().map(FindingJson::of).collect(),
            attack: assault.map(AttackJson::of),
        }
    }
}

impl FindingJson {
    fn of(finding: &Finding) -> Self {
        let told = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            id: finding.id.to_owned(),
            area: finding.area.name().to_owned(),
            verdict: finding.verdict.name().to_owned(),
            seen: finding.seen.clone(),
            why: told(&finding.why),
            fix: told(&finding.fix),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `AEGIS_BLESS=1` writes the file anew.
    #[test]
    fn the_published_schema_is_the_codes() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas/doctor-1.json");
        let text =
            serde_json::to_string_pretty(&schemars::schema_for!(DoctorJson)).expect("it encodes") + "\n";
        if std::env::var_os("AEGIS_BLESS").is_some() {
            std::fs::write(&path, &text).expect("written");
        }
        let published = std::fs::read_to_string(&path).expect("it is published");
        assert!(
            published == text,
            "`docs/schemas/doctor-1.json` is not what the code says: run this with AEGIS_BLESS=1"
        );
    }
}
