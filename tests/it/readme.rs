//! The command blocks of the README and of `docs/` run as they are typed.
//!
//! The blocks of one file run in order, in one fresh directory that holds `examples/`, with `aegis` on the `PATH` and a
//! state directory of their own. A `sh` block is a script. In a `console` block a line after `$ ` is a command and the
//! others are what it prints, where `…` is anything. A comment `<!-- exit N -->` above a block tells the status of its
//! last command. `make` lines are tried elsewhere: they install, build and test everything.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::aegis::{Aegis, Ended, finish};

/// A block of commands.
#[derive(Debug)]
struct Block {
    /// Where it begins.
    line: usize,
    /// The exit status of its last command.
    status: i32,
    /// Commands with what each prints.
    commands: Vec<(String, Vec<String>)>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The command blocks of a page.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut status = 0;
    let mut lines = page.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if let Some(number) = line.strip_prefix("<!-- exit ").and_then(|it| it.strip_suffix(" -->")) {
            status = number.parse().expect("a status");
            continue;
        }
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let inside: Vec<&str> = lines.by_ref().map(|(_, it)| it).take_while(|it| *it != "```").collect();
        let commands = match language {
            "sh" => vec![(inside.join("\n"), Vec::new())],
            "console" => console(&inside),
            // Anything else is something to read.
            _ => continue,
        };
        blocks.push(Block { line: index + 1, status: std::mem::take(&mut status), commands });
    }
    blocks
}

fn console(lines: &[&str]) -> Vec<(String, Vec<String>)> {
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    for line in lines {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), Vec::new())),
            (None, Some((_, printed))) => printed.push((*line).to_owned()),
            (None, None) => panic!("output before the first command: {line}"),
        }
    }
    commands.retain(|(command, _)| !command.starts_with("make "));
    commands
}

/// Whether a printed line is what the page shows, `…` standing for anything.
fn is_like(printed: &str, shown: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = printed.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut open = false;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        open = part.is_empty();
    }
    open || rest.is_empty()
}

/// A directory as after a clone, and a shell that stands in it.
struct Reader {
    aegis: Aegis,
}

impl Reader {
    fn new() -> Self {
        let aegis = Aegis::new();
        let copied = Command::new("cp").arg("-r").arg(root().join("examples")).arg(aegis.here()).status();
        assert!(copied.expect("cp").success());
        Self { aegis }
    }

    fn types(&self, script: &str) -> Ended {
        let plain = self.aegis.command(&[]);
        let program = Path::new(plain.get_program()).parent().expect("a directory").display().to_string();
        let mut shell = Command::new("bash");
        // Both streams in one, as on a terminal.
        shell.args(["-euo", "pipefail", "-c", &format!("exec 2>&1\n{script}")]).env_clear();
        shell.current_dir(self.aegis.here());
        for (name, value) in plain.get_envs().filter_map(|(name, value)| Some((name, value?))) {
            shell.env(name, value);
        }
        let path = std::env::var("PATH").expect("a path");
        shell.env("PATH", format!("{program}:{path}"));
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(shell.spawn().expect("bash"), b"")
    }
}

/// Runs a page.
fn check(page: &str) {
    let text = std::fs::read_to_string(root().join(page)).expect("the page");
    let reader = Reader::new();
    let blocks = blocks(&text);
    assert!(!blocks.is_empty(), "{page} has no command");
    for block in blocks {
        let last = block.commands.len().saturating_sub(1);
        for (index, (command, shown)) in block.commands.iter().enumerate() {
            let expected = if index == last { block.status } else { 0 };
            let ended = reader.types(command);
            let place = format!("{page}:{}: `{command}`", block.line);
            assert_eq!(ended.code, Some(expected), "{place}: {ended:#?}");
            let mut printed = ended.stdout.lines();
            for line in shown {
                assert!(printed.any(|it| is_like(it, line)), "{place}: no line like `{line}`: {ended:#?}");
            }
        }
    }
}

#[test]
fn the_readme_runs_as_typed() {
    check("README.md");
}

#[test]
fn the_quickstart_runs_as_typed() {
    check("docs/quickstart.md");
}

#[test]
fn the_project_file_works_as_told() {
    check("docs/project-file.md");
}

#[test]
fn secrets_are_kept_as_told() {
    check("docs/secrets.md");
}

#[test]
fn a_backup_is_written_and_brought_back_as_told() {
    check("docs/backup.md");
}

#[test]
fn the_page_of_rules_says_what_happens() {
    check("docs/rules.md");
}

#[test]
fn what_breaks_breaks_as_told() {
    check("docs/what-breaks.md");
}

#[test]
fn the_network_works_as_told() {
    check("docs/network.md");
}

#[test]
fn docker_run_is_compared_as_told() {
    check("docs/from-docker-run.md");
}

#[test]
fn a_ci_job_runs_as_typed() {
    check("docs/from-ci.md");
}

#[test]
fn the_python_recipe_runs_as_typed() {
    check("docs/recipes/python.md");
}

#[test]
fn the_c_recipe_runs_as_typed() {
    check("docs/recipes/c.md");
}

#[test]
fn the_agent_recipe_runs_as_typed() {
    check("docs/recipes/agent.md");
}

/// Runs a page whose image only the long form builds.
fn check_long(page: &str) {
    if std::env::var("AEGIS_TEST_FORM").is_ok_and(|it| it == "long") {
        check(page);
    }
}

#[test]
fn the_node_recipe_runs_as_typed() {
    check_long("docs/recipes/node.md");
}

#[test]
fn the_rust_recipe_runs_as_typed() {
    check_long("docs/recipes/rust.md");
}

#[test]
fn the_go_recipe_runs_as_typed() {
    check_long("docs/recipes/go.md");
}

#[test]
fn the_page_of_the_doctor_runs_as_typed() {
    check("docs/doctor.md");
}

#[test]
fn every_page_with_commands_is_run() {
    let source = std::fs::read_to_string(root().join(file!())).expect("this file");
    let mut left = vec![root().join("docs")];
    while let Some(directory) = left.pop() {
        for path in std::fs::read_dir(directory).expect("read").map(|it| it.expect("an entry").path()) {
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|it| it == "md") && has_commands(&path) {
                let page = path.strip_prefix(root()).expect("below").display().to_string();
                let is_run =
                    ["check", "check_long"].iter().any(|it| source.contains(&format!("{it}(\"{page}\");")));
                assert!(is_run, "{page} has commands, and no test above runs them");
            }
        }
    }
}

fn has_commands(page: &PathBuf) -> bool {
    !blocks(&std::fs::read_to_string(page).expect("the page")).is_empty()
}

#[test]
fn shown_lines_are_compared_with_gaps() {
    assert!(is_like("aegis: run 0123 ok", "aegis: run … ok") && is_like("any", "…") && is_like("a b", "a…"));
    assert!(!is_like("aegis: ok!", "aegis: ok") && !is_like("x", "y…") && !is_like("a c", "a…b"));
}
