//! One finding of a check: what was seen, why it matters and what to do; and what all of them come to.

/// How good it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Runs go on and the walls stand; something beside them is weaker than it could be, or could not be told.
    Weak,
    /// A run would be refused, or a wall is missing.
    Fail,
}

impl Verdict {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Weak => "weak",
            Self::Fail => "fail",
        }
    }
}

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// The engine and how it is set up.
    Engine,
    /// What the kernel and the engine enforce.
    Walls,
    /// Known flaws of the programs that raise the walls.
    Flaws,
    /// Who may reach the engine.
    Access,
    /// The account and the directories of Aegis.
    Aegis,
    /// The kernel and its settings.
    Kernel,
}

impl Area {
    /// Every area, in the order in which they are shown.
    pub const ALL: [Self; 6] =
        [Self::Engine, Self::Walls, Self::Flaws, Self::Access, Self::Aegis, Self::Kernel];

    /// The word for it in JSON and in ids.
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Walls => "walls",
            Self::Flaws => "flaws",
            Self::Access => "access",
            Self::Aegis => "aegis",
            Self::Kernel => "kernel",
        }
    }

    /// Its title in a table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Engine => "The engine",
            Self::Walls => "What it enforces",
            Self::Flaws => "Known flaws",
            Self::Access => "Who may reach it",
            Self::Aegis => "Aegis on this host",
            Self::Kernel => "The kernel",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub area: Area,
    /// Its name, the same in every version.
    pub id: &'static str,
    /// How good it is.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// Why it matters; empty where all is well.
    pub why: String,
    /// What to do; empty where nothing is to be done.
    pub fix: String,
}

impl Finding {
    /// All is well.
    pub fn ok(area: Area, id: &'static str, seen: impl Into<String>) -> Self {
        Self { area, id, verdict: Verdict::Ok, seen: seen.into(), why: String::new(), fix: String::new() }
    }

    /// Weaker than it could be.
    pub fn weak(
        area: Area,
        id: &'static str,
        seen: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { area, id, verdict: Verdict::Weak, seen: seen.into(), why: why.into(), fix: fix.into() }
    }

    /// A run would be refused, or a wall is missing.
    pub fn fail(
        area: Area,
        id: &'static str,
        seen: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Fail, ..Self::weak(area, id, seen, why, fix) }
    }
}

/// What the findings come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// Everything is as it should be, or weak in settings that stand behind the walls only.
    Low,
    /// The walls stand, and something that they rest on is weak or cannot be told: a known flaw, the engine's access,
    /// the account, a wall that other hosts have.
    Raised,
    /// A run would be refused or a wall is missing.
    High,
}

impl Risk {
    /// What these findings come to.
    pub fn of(findings: &[Finding]) -> Self {
        if worst(findings) == Verdict::Fail {
            return Self::High;
        }
        let rests_on = |it: &Finding| match it.area {
            Area::Walls | Area::Flaws | Area::Access | Area::Aegis => true,
            Area::Engine | Area::Kernel => false,
        };
        let raised = findings.iter().any(|it| it.verdict == Verdict::Weak && rests_on(it));
        if raised { Self::Raised } else { Self::Low }
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Raised => "raised",
            Self::High => "high",
        }
    }
}

/// The worst verdict.
pub fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|it| it.verdict).max().unwrap_or(Verdict::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(findings: &[Finding], expected: Risk) {
        assert_eq!(Risk::of(findings), expected);
    }

    #[test]
    fn a_missing_wall_is_a_high_risk() {
        check(&[Finding::fail(Area::Kernel, "x", "", "", "")], Risk::High);
    }

    #[test]
    fn what_the_walls_rest_on_raises_the_risk() {
        check(&[Finding::weak(Area::Flaws, "x", "", "", "")], Risk::Raised);
    }

    #[test]
    fn what_stands_behind_the_walls_does_not() {
        check(&[Finding::weak(Area::Kernel, "x", "", "", ""), Finding::ok(Area::Walls, "y", "")], Risk::Low);
    }
}
