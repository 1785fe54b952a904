//! Known flaws of the engine's programs: one finding a program.

use crate::container::description::{Component, EngineDescription};
use crate::doctor::facts::{Changelog, Facts};
use crate::doctor::finding::{Area, Finding};
use crate::doctor::flaws::{self, Flaw, Reach, State};

/// The programs that are looked at: the engine's name of each in lower case, and the finding's id.
const PROGRAMS: [(&str, &str); 3] =
    [("runc", "flaws.runc"), ("containerd", "flaws.containerd"), ("engine", "flaws.engine")];

pub fn judge(facts: &Facts, engine: &EngineDescription, findings: &mut Vec<Finding>) {
    for (name, id) in PROGRAMS {
        let component = engine.components.iter().find(|it| it.name.eq_ignore_ascii_case(name));
        findings.push(match component {
            Some(component) => of_component(id, component, changelog(facts, component)),
            None => Finding::weak(
                Area::Flaws,
                id,
                format!("unknown: the engine does not tell the version of `{name}`"),
                "a program with a known flaw could not be told from one without",
                format!("look by hand: `{} --version`", if name == "engine" { "dockerd" } else { name }),
            ),
        });
    }
}

/// The changelog counts only if it is that of the build that runs.
fn changelog<'a>(facts: &'a Facts, component: &Component) -> Option<&'a Changelog> {
    let log = facts.changelogs.get(&component.name.to_ascii_lowercase())?;
    let same = log.version == component.build
        || (!component.version.is_empty() && log.version.starts_with(&component.version));
    same.then_some(log)
}

fn of_component(id: &'static str, component: &Component, log: Option<&Changelog>) -> Finding {
    let judged = flaws::judge(component, log);
    let program =
        if component.name.eq_ignore_ascii_case("engine") { "docker" } else { component.name.as_str() };
    let version = version(component);
    let open: Vec<&(Flaw, State)> = judged.iter().filter(|(_, state)| *state != State::Fixed).collect();
    if open.is_empty() {
        return Finding::ok(
            Area::Flaws,
            id,
            format!("{program} {version}: none of the {} known flaws", judged.len()),
        );
    }
    let seen = format!("{program} {version}: {}", listed(&open));
    if open.iter().any(|(flaw, state)| *state == State::Present && flaw.reach == Reach::Wall) {
        return Finding::fail(
            Area::Flaws,
            id,
            seen,
            why(&open),
            format!("update {program}: {}", fixes(&open)),
        );
    }
    Finding::weak(Area::Flaws, id, seen, why(&open), fix(program, &open, log))
}

fn version(component: &Component) -> String {
    if component.build.is_empty() || component.version.contains(&component.build) {
        return component.version.clone();
    }
    format!("{} ({})", component.version, component.build)
}

fn listed(open: &[&(Flaw, State)]) -> String {
    let word = |state| match state {
        State::Present => "has",
        State::NotNamed => "its changelog does not name a fix for",
        State::Unknown => "cannot be told from the version, older than the fix of",
        State::Fixed => "has a fix for",
    };
    let mut parts = Vec::new();
    for state in [State::Present, State::NotNamed, State::Unknown] {
        let cves: Vec<&str> = open.iter().filter(|(_, it)| *it == state).map(|(flaw, _)| flaw.cve).collect();
        if !cves.is_empty() {
            parts.push(format!("{} {}", word(state), cves.join(", ")));
        }
    }
    parts.join("; ")
}

fn why(open: &[&(Flaw, State)]) -> String {
    let mut parts = Vec::new();
    if open.iter().any(|(flaw, _)| flaw.reach == Reach::Wall) {
        parts.push("a program that raises the walls may have a hole in it".to_owned());
    }
    let mut unused: Vec<(&str, Vec<String>)> = Vec::new();
    for (flaw, _) in open {
        let told = format!("{} ({})", flaw.cve, flaw.about);
        match flaw.reach {
            Reach::Wall => parts.push(told),
            Reach::Unused(reason) => add(&mut unused, reason, told),
        }
    }
    parts.extend(unused.iter().map(|(reason, told)| format!("{reason}, as {} would need", told.join(", "))));
    parts.join("; ")
}

fn fixes(open: &[&(Flaw, State)]) -> String {
    let mut by_versions: Vec<(String, Vec<&str>)> = Vec::new();
    for (flaw, _) in open {
        add(&mut by_versions, flaw.fixed_in.join(", "), flaw.cve);
    }
    let told = by_versions.iter().map(|(versions, cves)| format!("{} in {versions}", cves.join(", ")));
    format!("fixed upstream: {}", told.collect::<Vec<_>>().join("; "))
}

/// Adds a thing to the group of this key.
fn add<K: PartialEq, V>(groups: &mut Vec<(K, Vec<V>)>, key: K, thing: V) {
    match groups.iter_mut().find(|(known, _)| *known == key) {
        Some((_, things)) => things.push(thing),
        None => groups.push((key, vec![thing])),
    }
}

fn fix(program: &str, open: &[&(Flaw, State)], log: Option<&Changelog>) -> String {
    let first = open.first().map_or("", |(flaw, _)| flaw.cve);
    match log {
        Some(log) => format!(
            "update the package `{}` when the distribution fixes these (its tracker says whether it will); {}",
            log.package,
            fixes(open)
        ),
        None => format!(
            "ask the distribution's changelog: `zgrep {first} /usr/share/doc/{program}*/changelog.Debian.gz`; {}",
            fixes(open)
        ),
    }
}
