//! The commands that speak to a server, and a server that runs what they submit.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;

use crate::support::aegis::{Aegis, Ended};
use crate::support::serving::Server;

/// An instance whose commands speak to its own server.
fn instance() -> Aegis {
    let aegis = Aegis::new();
    let socket = format!("unix:{}/aegis.sock", aegis.state().display());
    aegis.with("AEGIS_SERVER", &socket)
}

/// Submits, and gives the run's id.
#[track_caller]
fn submit(aegis: &Aegis, arguments: &[&str]) -> String {
    let submitted = aegis.call(&[&["run", "--detach", "--quiet"], arguments].concat());
    submitted.code(0).stdout.trim().to_owned()
}

fn wait(aegis: &Aegis, run: &str) -> Ended {
    aegis.call(&["wait", run])
}

#[track_caller]
fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn a_submitted_run_is_waited_for_and_told_like_a_local_one() {
    let aegis = instance();
    let server = Server::start(&aegis, &[]);
    let run = submit(
        &aegis,
        &["--no-workspace", "--name", "seven", "--", "sh", "-c", "echo out; echo err >&2; exit 7"],
    );
    wait(&aegis, &run).code(7);
    let logs = aegis.call(&["logs", &run]);
    assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(aegis.call(&["logs", "-f", "--stream", "stdout", &run]).code(0).stdout, "out\n");
    aegis.call(&["ps", "--all"]).code(0).prints(&run[24..]);
    assert_eq!(aegis.call(&["ps"]).code(0).stdout, "no runs\n");
    aegis.call(&["show", &run]).code(0).prints("\"exited\"").prints("seven");
    aegis.call(&["cancel", &run]).code(1).says("has ended already");
    // A second wait finds the end as the first did, also by the short form of the id.
    wait(&aegis, &run[24..]).code(7);
    drop(server);
}

#[test]
fn a_workspace_is_uploaded_without_what_looks_like_a_secret() {
    let aegis = instance();
    let _server = Server::start(&aegis, &[]);
    let project = aegis.here().join("project");
    std::fs::create_dir_all(project.join(".git")).unwrap();
    write(&project.join("src/main.txt"), "from the project\n");
    write(&project.join(".env"), "KEY=canary-0d7c\n");
    let script = "cat src/main.txt; test ! -e .env && echo withheld; echo made >made";
    for _ in 0..2 {
        // The second one finds the upload there.
        let run = submit(&aegis, &["-w", "project", "-o", "made", "--", "sh", "-c", script]);
        wait(&aegis, &run).code(0);
        assert_eq!(aegis.call(&["logs", &run]).stdout, "from the project\nwithheld\n");
    }
    let stored = std::fs::read_dir(aegis.state().join("uploads")).unwrap();
    let uploads = stored.filter(|it| it.as_ref().unwrap().file_type().unwrap().is_file()).count();
    assert_eq!(uploads, 1);
}

#[test]
fn a_run_is_cancelled_at_once_wherever_it_is() {
    let aegis = instance();
    let server = Server::start(&aegis, &["--workers", "1"]);
    let running = submit(&aegis, &["--no-workspace", "--", "sh", "-c", "echo up; sleep 300"]);
    let queued = submit(&aegis, &["--no-workspace", "--", "sleep", "300"]);
    aegis.call(&["cancel", &queued]).code(0);
    wait(&aegis, &queued).code(143);
    let begun = std::time::Instant::now();
    crate::support::aegis::eventually("it runs", crate::support::aegis::PATIENCE, || {
        aegis.call(&["logs", &running]).stdout == "up\n"
    });
    aegis.call(&["cancel", &running]).code(0);
    wait(&aegis, &running).code(143);
    assert!(begun.elapsed().as_secs() < 120, "{}", server.said());
}

#[test]
fn what_policy_denies_is_refused_at_submit_with_its_field() {
    let aegis = instance();
    let _server = Server::start(&aegis, &[]);
    let refused = aegis.call(&[
        "run",
        "--detach",
        "--no-workspace",
        "--allow-net",
        "example.org:443",
        "--sandbox",
        "trusted",
        "--",
        "true",
    ]);
    refused.code(125);
    assert!(refused.stdout.is_empty(), "{refused:#?}");
    assert_eq!(aegis.call(&["ps", "--all"]).code(0).stdout, "no runs\n");
    aegis
        .call(&["run", "--detach", "--no-workspace", "--memory", "900TiB", "--", "true"])
        .code(125)
        .says("memory");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let aegis = instance();
    for arguments in [&["ps"][..], &["run", "--detach", "--no-workspace", "--", "true"], &["token", "ls"]] {
        aegis.call(arguments).code(125).says("aegis.sock");
    }
}

#[test]
fn over_tcp_a_token_opens_what_its_role_and_project_allow() {
    let aegis = Aegis::new();
    let socket = format!("unix:{}/aegis.sock", aegis.state().display());
    let server = Server::start(&aegis, &["--listen", &socket, "--listen", "127.0.0.1:0"]);
    let said = server.said();
    let at = said.find("http://").expect("it listens on TCP");
    let address: String = said[at..].chars().take_while(|it| !it.is_whitespace() && *it != ',').collect();
    let create = |name: &str, role: &str, project: &str| {
        let file = aegis.here().join(name);
        let made = aegis.call(&[
            "token",
            "create",
            "--server",
            &socket,
            "--name",
            name,
            "--role",
            role,
            "--project",
            project,
        ]);
        std::fs::write(&file, &made.code(0).stdout).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (ci, reader, other) =
        (create("ci", "submit", "web"), create("reader", "read", "web"), create("other", "read", "db"));
    let as_token = |token: &str, arguments: &[&str]| {
        let mut command = aegis.command(arguments);
        command.env("AEGIS_SERVER", &address).env("AEGIS_TOKEN_FILE", token);
        crate::support::aegis::finish(command.spawn().unwrap(), b"")
    };
    let submitted =
        as_token(&ci, &["run", "--detach", "--quiet", "--no-workspace", "--", "echo", "by token"]);
    let run = submitted.code(0).stdout.trim().to_owned();
    as_token(&ci, &["wait", &run]).code(0);
    assert_eq!(as_token(&reader, &["logs", &run]).code(0).stdout, "by token\n");
    // Another project's run is not there at all, and a reader submits nothing.
    as_token(&other, &["logs", &run]).code(1).says("no such run");
    assert_eq!(as_token(&other, &["ps", "--all"]).code(0).stdout, "no runs\n");
    as_token(&reader, &["run", "--detach", "--no-workspace", "--", "true"]).code(125);
    aegis.call(&["token", "revoke", "--server", &socket, "reader"]).code(0);
    as_token(&reader, &["ps"]).code(1);
    server.signal(Signal::TERM);
    let (code, said) = server.finish();
    assert_eq!(code, Some(0), "{said}");
    let secret = std::fs::read_to_string(&ci).unwrap();
    assert!(!said.contains(secret.trim()), "a token is in the log");
}

#[test]
fn a_server_that_was_told_to_stop_leaves_no_socket_and_the_next_one_knows_what_was_queued() {
    let aegis = instance();
    let server = Server::start(&aegis, &["--workers", "1"]);
    let first = submit(&aegis, &["--no-workspace", "--", "sleep", "2"]);
    let second = submit(&aegis, &["--no-workspace", "--", "sh", "-c", "exit 3"]);
    server.signal(Signal::TERM);
    let (code, _) = server.finish();
    assert_eq!(code, Some(0));
    assert!(!aegis.state().join("aegis.sock").exists());
    let _next = Server::start(&aegis, &[]);
    wait(&aegis, &first).code(0);
    wait(&aegis, &second).code(3);
}

#[test]
fn what_a_servers_run_changed_is_shown_and_brought_in_here() {
    let aegis = instance();
    let _server = Server::start(&aegis, &[]);
    let project = aegis.here().join("project");
    write(&project.join("kept"), "as it was\n");
    write(&project.join("edited"), "before\n");
    write(&project.join("touched"), "same\n");
    write(&project.join("gone"), "gone\n");
    let script = "echo after >edited; rm gone; mkdir made; echo new >made/file; echo same >touched";
    let run = submit(&aegis, &["-w", "project", "--", "sh", "-c", script]);
    wait(&aegis, &run).code(0);
    let diff = aegis.call(&["diff", &run, "-w", "project", "--name-status"]);
    assert_eq!(diff.code(0).stdout, "M\tedited\nD\tgone\nA\tmade\nA\tmade/file\n");
    aegis.call(&["diff", &run, "-w", "project"]).code(0).prints("-before").prints("+after");
    // A file that is another by now stands against all of it.
    write(&project.join("edited"), "mine\n");
    aegis.call(&["apply", &run, "-w", "project"]).code(125).says("edited");
    assert!(project.join("gone").exists() && !project.join("made").exists(), "nothing was applied");
    write(&project.join("edited"), "before\n");
    aegis.call(&["apply", &run, "-w", "project"]).code(0).says("1 modified, 1 deleted");
    assert_eq!(std::fs::read_to_string(project.join("edited")).unwrap(), "after\n");
    assert_eq!(std::fs::read_to_string(project.join("made/file")).unwrap(), "new\n");
    assert!(!project.join("gone").exists());
    let without = submit(&aegis, &["-w", "project", "--no-changes", "--", "true"]);
    wait(&aegis, &without).code(0);
    aegis.call(&["diff", &without, "-w", "project"]).code(1).says("no changes of this run are kept");
}

#[test]
fn a_run_that_has_ended_is_submitted_anew_with_its_variables_given_again() {
    let aegis = instance();
    let _server = Server::start(&aegis, &["--workers", "1", "--slots", "aegis/base=strict:1"]);
    let run = submit(&aegis, &["--no-workspace", "-e", "WORD=first", "--", "sh", "-c", "echo $WORD; exit 3"]);
    wait(&aegis, &run).code(3);
    aegis.call(&["retry", &run]).code(1).says("environment.WORD").says("give it again");
    let again = aegis.call(&["retry", &run, "-e", "WORD=second"]).code(0).stdout.trim().to_owned();
    wait(&aegis, &again).code(3);
    assert_eq!(aegis.call(&["logs", &again]).stdout, "second\n");
    aegis.call(&["show", &again]).code(0).prints("aegis.retry-of").prints(&run);
    crate::support::aegis::eventually("a sandbox waits", crate::support::aegis::PATIENCE, || {
        aegis.call(&["slot", "ls"]).stdout.contains("aegis/base")
    });
}

#[test]
fn a_project_has_its_own_ceiling() {
    let aegis = instance();
    let _server = Server::start(&aegis, &[]);
    write(&aegis.here().join("ceiling.toml"), "[resources]\nmemory = \"128MiB\"\n");
    aegis.call(&["project", "set", "default", "--ceiling", "ceiling.toml", "--runs", "2"]).code(0);
    aegis.call(&["project", "ls"]).code(0).prints("default  2  -  -  -");
    let detach = ["run", "--detach", "--no-workspace", "--memory", "1GiB", "--", "true"];
    aegis.call(&detach).code(125).says("project `default`");
    aegis.call(&["project", "set", "default"]).code(0);
    aegis.call(&detach).code(0);
}
