//! The table that a bench ends with: names, medians, ratios, bars and verdicts.

use crate::support::pairs::{Pairs, Series};

/// What a ratio is held to.
#[derive(Debug, Clone, Copy)]
pub enum Bar {
    /// Not above this.
    AtMost(f64),
    /// Below this.
    Below(f64),
    /// Above this.
    Above(f64),
}

impl Bar {
    fn holds(self, ratio: f64) -> bool {
        match self {
            Self::AtMost(bar) => ratio <= bar,
            Self::Below(bar) => ratio < bar,
            Self::Above(bar) => ratio > bar,
        }
    }
}

impl std::fmt::Display for Bar {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(bar) => write!(formatter, "at most {bar:.2}"),
            Self::Below(bar) => write!(formatter, "below {bar:.2}"),
            Self::Above(bar) => write!(formatter, "above {bar:.2}"),
        }
    }
}

/// What a quantity is to come to on a machine that does nothing else.
#[derive(Debug, Clone, Copy)]
pub enum Aim {
    /// Nothing is asked of it.
    None,
    /// Below this.
    Below(f64),
    /// Above this.
    Above(f64),
}

/// Whether the bars were held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All of them.
    Held,
    /// At least one was not.
    Missed,
}

impl Verdict {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        if self == Self::Held { other } else { Self::Missed }
    }
}

/// A table of comparisons.
#[derive(Debug)]
pub struct Comparisons {
    verdict: Verdict,
}

impl Comparisons {
    /// Prints the heading of comparisons, with the unit of both medians.
    pub fn heading(unit: &str) -> Self {
        println!(
            "{:<44} {:>11} {:>11} {:>7} {:>13} {:>12}  verdict",
            "", "ours", "theirs", "ratio", "(min to max)", "bar"
        );
        println!("{:<44} {:>11} {:>11}", "", unit, unit);
        Self { verdict: Verdict::Held }
    }

    /// Prints one comparison and judges it.
    pub fn compare(&mut self, name: &str, pairs: &Pairs, bar: Bar) {
        let ratios = pairs.ratios();
        let verdict = if bar.holds(ratios.median()) { Verdict::Held } else { Verdict::Missed };
        println!(
            "{name:<44} {:>11.1} {:>11.1} {:>7.2} {:>5.2} to {:>4.2} {:>12}  {}",
            pairs.ours.median(),
            pairs.theirs.median(),
            ratios.median(),
            ratios.min(),
            ratios.max(),
            bar.to_string(),
            if verdict == Verdict::Held { "held" } else { "MISSED" }
        );
        self.verdict = self.verdict.and(verdict);
    }

    /// Whether every bar was held.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }
}

/// Prints one quantity that nothing is compared with.
pub fn quantity(name: &str, series: &Series, unit: &str) {
    println!("{name:<44} {:>11.0} {unit:<3} ({:.0} to {:.0})", series.median(), series.min(), series.max());
}

/// Prints one quantity with its aim beside it. It is told and not judged: what one machine reaches is no verdict.
pub fn aimed(name: &str, series: &Series, unit: &str, aim: Aim) {
    let (median, min, max) = (series.median(), series.min(), series.max());
    let aim = match aim {
        Aim::None => String::new(),
        Aim::Below(bound) => told(format!("below {bound}"), median < bound),
        Aim::Above(bound) => told(format!("above {bound}"), median > bound),
    };
    println!("{name:<44} {median:>11.2} {unit:<3} ({min:.2} to {max:.2})  {aim}");
}

fn told(aim: String, reached: bool) -> String {
    format!("aim: {aim}, {}", if reached { "reached" } else { "NOT REACHED" })
}
