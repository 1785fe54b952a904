//! An attack as text: a table for a person, one line each for a pipe, Markdown for a report.

use std::fmt::Write as _;

use crate::doctor::attack::settle::RUNTIME;
use crate::doctor::attack::{Answer, Assault, Tried, WallDown};
use crate::doctor::text::{Layout, cell, shown};
use crate::report::amount;

/// Characters of a detail in a table; the JSON has all of it.
const DETAIL_CHARS_MAX: usize = 110;

/// Every probe, and the walls that are down.
pub fn probes(assault: &Assault, layout: Layout) -> String {
    let mut text = String::new();
    for tried in &assault.tried {
        let (probe, answer) = (tried.probe, &tried.answer);
        if layout == Layout::Plain {
            line(
                &mut text,
                &[word(answer), probe.id, probe.tried, answer.detail(), &maps(tried)].map(shown).join("\t"),
            );
            continue;
        }
        line(&mut text, &format!("{}  {}  {}", mark(answer, layout), probe.id, probe.tried));
        let maps = maps(tried);
        let maps = if maps.is_empty() { maps } else { format!("  [{maps}]") };
        line(&mut text, &format!("                   {}{maps}", cut(&shown(answer.detail()))));
    }
    for wall in &assault.walls_down {
        let layout = if layout == Layout::Plain { "wall down\t" } else { "WALL DOWN  " };
        line(&mut text, &format!("{layout}{}", shown(&wall.to_string())));
    }
    text
}

/// One line of what it came to.
pub fn verdict(assault: &Assault) -> String {
    let (stopped, breaches, left) =
        (assault.count("stopped"), assault.count("breach"), assault.count("not_tried"));
    let took = amount::milliseconds(assault.elapsed_ms);
    let what = if assault.held() {
        "every wall held".to_owned()
    } else if assault.walls_down.is_empty() {
        format!("{breaches} got through, {left} could not be tried")
    } else {
        walls(assault)
    };
    format!("{stopped} of {} probes stopped in {took}: {what}", assault.tried.len())
}

/// Whose walls are down, and what that means for a run.
fn walls(assault: &Assault) -> String {
    let names = |down: &[&WallDown]| down.iter().map(|it| it.wall.name()).collect::<Vec<_>>().join(", ");
    let (own, others): (Vec<_>, Vec<_>) = assault.walls_down.iter().partition(|it| it.runtime == RUNTIME);
    if own.is_empty() {
        let name = others.first().map_or("", |it| it.runtime.as_str());
        return format!(
            "walls down under the engine's default runtime `{}`, which Aegis does not use: {}",
            shown(name),
            names(&others)
        );
    }
    format!("walls down: {}; `aegis run` refuses here", names(&own))
}

/// The attack as Markdown.
pub fn markdown(assault: &Assault) -> String {
    let mut text = format!(
        "## Attack\n\n{}. Image `{}`; runs {}.\n",
        verdict(assault),
        assault.image,
        assault.runs.join(", ")
    );
    if !assault.walls_down.is_empty() {
        line(&mut text, "\n### Walls down\n");
        for wall in &assault.walls_down {
            line(&mut text, &format!("- {}", shown(&wall.to_string())));
        }
    }
    line(
        &mut text,
        "\n| check | tried | result | by | CIS Docker 1.6.0 | Pod Security (restricted) | NIST SP 800-190 |\n|---|---|---|---|---|---|---|",
    );
    for it in &assault.tried {
        let probe = it.probe;
        let cells = [
            probe.id.to_owned(),
            cell(probe.tried),
            word(&it.answer).to_owned(),
            cell(it.answer.detail()),
            probe.cis.join(", "),
            probe.pod.join(", "),
            probe.nist.join(", "),
        ];
        line(&mut text, &format!("| {} |", cells.join(" | ")));
    }
    text
}

fn maps(tried: &Tried) -> String {
    let probe = tried.probe;
    let mut parts = Vec::new();
    if !probe.cis.is_empty() {
        parts.push(format!("CIS {}", probe.cis.join(" ")));
    }
    if !probe.pod.is_empty() {
        parts.push(format!("PSS {}", probe.pod.join(", ")));
    }
    if !probe.nist.is_empty() {
        parts.push(format!("NIST {}", probe.nist.join(" ")));
    }
    parts.join("; ")
}

fn word(answer: &Answer) -> &'static str {
    match answer {
        Answer::Stopped(_) => "stopped by",
        Answer::Breach(_) => "BREACH",
        Answer::NotTried(_) => "not tried",
    }
}

fn mark(answer: &Answer, layout: Layout) -> String {
    let text = format!("{:<10}", word(answer));
    let code = match answer {
        Answer::Stopped(_) => "32",
        Answer::Breach(_) => "1;31",
        Answer::NotTried(_) => "33",
    };
    if layout == Layout::Lively { format!("\x1b[{code}m{text}\x1b[0m") } else { text }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(DETAIL_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn line(text: &mut String, content: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{content}");
}
