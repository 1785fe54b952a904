//! The reference pages of `docs/reference/` are what the code says. `AEGIS_BLESS=1` writes them anew.

mod result;

use std::fmt::Write;
use std::path::Path;

use aegis::doctor::attack::PROBES;
use aegis::policy::document::egress::{DENY_KEYS, RULE_KEYS};
use aegis::policy::field::FIELDS;
use aegis::policy::{default_policy, shipped};
use aegis::task::ExitCode;

/// Holds that a page is what was generated, or writes it.
#[track_caller]
fn check(page: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(page);
    if std::env::var("AEGIS_BLESS").is_ok_and(|it| it == "1") {
        std::fs::write(&path, generated).expect("written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == generated,
        "docs/reference/{page} is not what the code says: AEGIS_BLESS=1 writes it anew"
    );
}

#[test]
fn commands_are_as_the_command_line_has_them() {
    let mut page =
        "# Commands\n\nGenerated from the program; `aegis COMMAND --help` prints the same.\n".to_owned();
    let mut program = aegis::cli::command_line();
    program.build();
    for command in program.get_subcommands() {
        tell(command, &mut page);
    }
    check("commands.md", &page);
}

/// A command, its flags, and the commands below it.
fn tell(command: &clap::Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let usage = command.clone().render_usage().to_string();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = usage.trim_start_matches("Usage: ");
    write!(page, "\n## {name}\n{about}.\n\n```text\n{usage}\n```\n").expect("a string");
    let arguments: Vec<_> =
        command.get_arguments().filter(|it| it.get_id() != "help" && it.get_id() != "version").collect();
    if !arguments.is_empty() {
        page.push_str("\n| argument | what it does |\n|---|---|\n");
    }
    for argument in arguments {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(page, "| {} | {} |", spelled(argument), help.replace('|', "\\|")).expect("a string");
    }
    for below in command.get_subcommands() {
        tell(below, page);
    }
}

/// An argument as it is typed.
fn spelled(argument: &clap::Arg) -> String {
    let names: Vec<String> =
        argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    let takes = argument.get_action().takes_values();
    let value = if takes && !names.is_empty() { format!(" {}", names.join(" ")) } else { String::new() };
    let value = value.replace('|', "\\|");
    match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("`-{short}`, `--{long}{value}`"),
        (None, Some(long)) => format!("`--{long}{value}`"),
        (Some(short), None) => format!("`-{short}{value}`"),
        (None, None) => format!("`{}`", value.trim()),
    }
}

#[test]
fn policy_keys_are_as_the_table_has_them() {
    let strict = default_policy().expect("strict ships");
    let ci = shipped("ci").expect("ci ships");
    let mut page = "# Policy keys\n\nGenerated from the program. A policy is a TOML file: `--sandbox ./FILE.toml`. It extends a \
                    shipped policy\n(`extends = \"strict\"`, which may be left out) and writes what differs. An unknown key, a \
                    value out of range and a contradiction are\nerrors with file, line and column.\n\n\
                    | key | values | in `strict` | in `ci` | flag | what it is |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for (setting, in_ci) in strict.policy.settings().into_iter().zip(ci.policy.settings()) {
        let field = setting.field();
        let key = field.key();
        let flag = key.flag.map_or_else(|| "none".to_owned(), |it| format!("`{it}`"));
        let in_ci = if in_ci == setting { "the same".to_owned() } else { format!("`{in_ci}`") };
        let values = field.values();
        writeln!(page, "| `{}` | {values} | `{setting}` | {in_ci} | {flag} | {} |", key.path, key.doc)
            .expect("a string");
    }
    assert_eq!(strict.policy.settings().len(), FIELDS.len());
    for (path, keys) in [("network.allow", RULE_KEYS.as_slice()), ("network.deny", DENY_KEYS.as_slice())] {
        write!(page, "\n## Keys of a rule of `{path}`\n\n| key | what it is |\n|---|---|\n")
            .expect("a string");
        for (key, doc) in keys {
            writeln!(page, "| `{key}` | {doc} |").expect("a string");
        }
    }
    check("policy.md", &page);
}

/// The words of the page stand here once, beside the constants that they are about.
const STATUSES: [(ExitCode, &str); 11] = [
    (ExitCode::SUCCESS, "the task ended with 0; any other command did its work"),
    (ExitCode::FAILURE, "a command other than `run` and `exec` says no: no such run, nothing to show"),
    (ExitCode::USAGE, "the command line was wrong"),
    (ExitCode::LIMIT, "a limit of output or disk ended the task"),
    (ExitCode::TIMED_OUT, "the task ran out of time"),
    (ExitCode::AEGIS, "Aegis could not run the task: refused, not started, or lost"),
    (ExitCode::NOT_EXECUTABLE, "the program cannot be executed"),
    (ExitCode::NOT_FOUND, "the image has no such program"),
    (ExitCode::INTERRUPTED, "cancelled by Ctrl-C, or another SIGINT to `aegis run`"),
    (ExitCode::OUT_OF_MEMORY, "out of memory"),
    (ExitCode::CANCELLED, "cancelled otherwise: `aegis cancel`, SIGTERM or SIGHUP to `aegis run`"),
];

#[test]
fn exit_statuses_are_as_the_code_has_them() {
    let mut page = "# Exit statuses\n\nGenerated from the program. `aegis run` and `aegis exec` exit with the command's own status, \
                    or 128 and the number of the signal\nthat ended it. A task may exit with any of these numbers by itself: \
                    `--result` tells for sure, by the kind of its outcome.\n\n| status | means |\n|---|---|\n"
        .to_owned();
    for (code, words) in STATUSES {
        writeln!(page, "| {} | {words} |", code.get()).expect("a string");
    }
    check("exit-statuses.md", &page);
}

#[test]
fn probes_are_as_the_table_has_them() {
    let mut page = "# Probes\n\nGenerated from the program: what `aegis doctor --attack` tries, and the items of three catalogues that each probe \
                    is evidence for.\nNumbers of the CIS Docker Benchmark are those of version 1.6.0; names of the Kubernetes Pod Security \
                    Standards are the controls of\nthe level `restricted`, with those of `baseline` in it; numbers of NIST SP 800-190 are those of \
                    its countermeasures.\n\n| check | tried | CIS Docker | Pod Security | NIST SP 800-190 |\n|---|---|---|---|---|\n"
        .to_owned();
    for probe in &PROBES {
        let lists = [probe.cis, probe.pod, probe.nist].map(|it| it.join(", "));
        writeln!(page, "| {} | {} | {} |", probe.id, probe.tried, lists.join(" | ")).expect("a string");
    }
    check("probes.md", &page);
}

#[test]
fn words_of_values_are_those_that_policies_take() {
    // The page shows a value as a file writes it: each reads back.
    for setting in default_policy().expect("strict ships").policy.settings() {
        let text = format!("{} = {setting}", setting.field().key().path);
        let parsed = aegis::policy::Chosen::from_file("page.toml", text.as_bytes());
        assert!(parsed.is_ok(), "{text}: {parsed:?}");
    }
}
