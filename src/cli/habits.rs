//! What people type who know `docker run`, and what takes its place here. It changes no meaning: a flag that is not there
//! stays an error, and its message says what to do instead.

use clap::error::{ContextKind, ErrorKind};

/// Flags of `docker run` that `aegis run` does not have, and what to do instead. `docs/from-docker-run.md` has all of them.
const HABITS: [(&[&str], &str); 12] = [
    (&["--rm"], "leave it out: a sandbox ends with its run, and nothing of it stays"),
    (
        &["-v", "--volume", "--mount", "--volumes-from"],
        "the workspace is a copy: `-w DIR` names it, and `-o PATH` brings files back",
    ),
    (
        &["--network", "--net", "--dns", "--add-host", "--link"],
        "leave it out: there is loopback, and `--allow-net HOST` for a host by its name",
    ),
    (
        &["-p", "-P", "--publish-all"],
        "write `--publish 127.0.0.1:PORT:PORT`, where the policy lists the port",
    ),
    (&["-u", "--user", "--group-add"], "leave it out: each sandbox has a user of its own, never root"),
    (
        &["-d", "--restart"],
        "write `--detach`: a server keeps the run, and `aegis ps`, `aegis logs` and `aegis wait` speak of it",
    ),
    (
        &["--read-only", "--cap-drop", "--security-opt", "--init"],
        "leave it out: it is always so, and nothing turns it off",
    ),
    (
        &[
            "--privileged",
            "--cap-add",
            "--device",
            "--gpus",
            "--pid",
            "--ipc",
            "--uts",
            "--userns",
            "--cgroupns",
        ],
        "leave it out: no policy grants it",
    ),
    (&["-m"], "write `--memory SIZE`, with the unit, as 512MiB"),
    (&["--entrypoint"], "write the program after `--`: the image's entrypoint is not used"),
    (
        &["--tmpfs", "--shm-size"],
        "`--tmp-size SIZE` is for /tmp; a policy file has `filesystem.shm_size` and others",
    ),
    (&["--ulimit"], "a policy file has `resources.nofile_soft` and `resources.nofile_hard`"),
];

/// What to write instead of an argument that a command line was refused for; `None` where that is no known habit.
pub fn hint(error: &clap::Error) -> Option<&'static str> {
    if error.kind() != ErrorKind::UnknownArgument || !takes_command(error) {
        return None;
    }
    let argument = error.get(ContextKind::InvalidArg)?.to_string();
    if !argument.starts_with('-') {
        return Some("the command comes after `--`, as in `aegis run -- make test`");
    }
    HABITS.iter().find(|(flags, _)| flags.contains(&argument.as_str())).map(|(_, instead)| *instead)
}

/// Whether the command in question runs another one.
fn takes_command(error: &clap::Error) -> bool {
    error.get(ContextKind::Usage).is_some_and(|it| it.to_string().contains("-- <COMMAND>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &[&str], expected: Option<&str>) {
        let words = ["aegis"].iter().chain(words);
        let error = crate::cli::command_line().try_get_matches_from(words).unwrap_err();
        match (hint(&error), expected) {
            (Some(hint), Some(part)) => assert!(hint.contains(part), "{hint}"),
            (found, expected) => assert_eq!(found, expected),
        }
    }

    #[test]
    fn flags_of_docker_run_lead_to_what_is_here() {
        check(&["run", "--rm", "--", "true"], Some("leave it out"));
        check(&["run", "-v", "/a:/b", "--", "true"], Some("`-w DIR`"));
        check(&["run", "--network=none", "--", "true"], Some("loopback"));
        check(&["shell", "--user", "0"], Some("never root"));
    }

    #[test]
    fn a_command_without_dashes_before_it_is_told_of_them() {
        check(&["run", "ls", "-la"], Some("after `--`"));
    }

    #[test]
    fn what_is_no_habit_has_no_hint() {
        check(&["run", "--never-heard-of", "--", "true"], None);
        check(&["ps", "one"], None);
        check(&["run", "--memory", "1", "--", "true"], None);
    }

    #[test]
    fn no_habit_is_a_flag_of_ours() {
        for flag in HABITS.iter().flat_map(|(flags, _)| *flags) {
            let words = ["aegis", "run", flag, "--", "true"];
            let error = crate::cli::command_line().try_get_matches_from(words).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnknownArgument, "{flag}");
        }
    }
}
