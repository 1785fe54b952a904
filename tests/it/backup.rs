//! `aegis backup` and `aegis restore`: everything that is kept, sealed, and back on another machine.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::aegis::{Aegis, Ended};
use crate::support::live::newest;

const PHRASE: &str = "correct horse battery staple\n";
/// Printed by the task, and nowhere to be found in a sealed file.
const CANARY: &str = "canary-5e1f0a7c33";

/// An instance with a passphrase beside it.
fn instance() -> (Aegis, PathBuf) {
    let aegis = Aegis::new();
    let phrase = aegis.here().join("phrase");
    std::fs::write(&phrase, PHRASE).unwrap();
    std::fs::set_permissions(&phrase, std::fs::Permissions::from_mode(0o600)).unwrap();
    (aegis, phrase)
}

fn back_up(aegis: &Aegis, file: &str) -> Ended {
    aegis.call(&["backup", "--passphrase-file", "phrase", file])
}

fn restore(aegis: &Aegis, file: &str) -> Ended {
    aegis.call(&["restore", "--passphrase-file", "phrase", file])
}

/// An instance that did something, and its backup.
fn backed_up() -> (Aegis, String) {
    let (aegis, _) = instance();
    aegis.call_with_input(&["secret", "set", "KEY"], b"tR7-x9Qz.kV2_mN4w").code(0);
    let project = aegis.here().join("project");
    std::fs::create_dir_all(project.join(".git")).unwrap();
    let script = format!("echo {CANARY}; echo more >made");
    aegis.call(&["run", "--quiet", "-w", "project", "--name", CANARY, "--", "sh", "-c", &script]).code(0);
    back_up(&aegis, "sealed").code(0).says("files");
    let file = aegis.here().join("sealed");
    (aegis, file.to_str().unwrap().to_owned())
}

#[test]
fn what_was_kept_is_back_on_another_machine() {
    let (first, file) = backed_up();
    let run = newest(&first);
    let (second, _) = instance();
    restore(&second, &file).code(0).says("are back in");
    for command in
        [&["logs", &run][..], &["diff", &run], &["show", "--json", &run], &["ps", "--all", "--json"]]
    {
        let (before, after) = (first.call(command), second.call(command));
        assert_eq!(before.code(0).stdout, after.code(0).stdout, "{command:?}");
        assert!(!before.stdout.is_empty(), "{command:?}");
    }
    // The secret is known again: its value is kept out of what a new run prints.
    second.script(&[], "echo tR7-x9Qz.kV2_mN4w").code(0).prints("[redacted:KEY]");
    // Another machine is another instance.
    assert_ne!(first.instance(), second.instance());
}

#[test]
fn a_backup_is_for_its_owner_alone_and_shows_nothing() {
    let (_first, file) = backed_up();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bytes = std::fs::read(&file).unwrap();
    for text in [CANARY, "aegis.db", "secrets.age", "tR7-x9Qz"] {
        assert!(memchr::memmem::find(&bytes, text.as_bytes()).is_none(), "{text}");
    }
}

#[test]
fn a_state_directory_in_use_is_not_touched() {
    let (first, file) = backed_up();
    let before = first.call(&["ps", "--all", "--json"]).stdout;
    restore(&first, &file).code(125).says("holds `");
    assert_eq!(first.call(&["ps", "--all", "--json"]).stdout, before);
}

#[test]
fn a_damaged_backup_or_another_passphrase_changes_nothing() {
    let (_first, file) = backed_up();
    let whole = std::fs::read(&file).unwrap();
    let (second, phrase) = instance();
    let tried = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        restore(&second, &file).code(125);
        let left: Vec<_> =
            std::fs::read_dir(second.state()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left, ["instance"], "something is left");
    };
    tried(&whole[..whole.len() - 1]);
    tried(&whole[..whole.len() / 2]);
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    tried(&changed);
    std::fs::write(&phrase, "another horse altogether\n").unwrap();
    tried(&whole);
    std::fs::write(&phrase, PHRASE).unwrap();
    restore(&second, &file).code(0);
}

#[test]
fn a_backup_is_taken_while_a_run_goes_on_and_its_run_is_lost_elsewhere() {
    let (first, _) = instance();
    let mut run = crate::watched::Watched::script(&first, &[], "echo ready; read -r line");
    run.wait_for("ready");
    back_up(&first, "sealed").code(0);
    run.say("done");
    run.end().code(0);
    let (second, _) = instance();
    restore(&second, first.here().join("sealed").to_str().unwrap()).code(0);
    second.call(&["gc"]).code(0).prints("its owner is gone");
    second.call(&["ps", "--all"]).code(0).prints("lost");
}

#[test]
fn a_file_that_is_there_is_not_overwritten() {
    let (aegis, _) = instance();
    std::fs::write(aegis.here().join("taken"), "mine").unwrap();
    back_up(&aegis, "taken").code(125).says("`taken` is there already");
    assert_eq!(std::fs::read_to_string(aegis.here().join("taken")).unwrap(), "mine");
}

#[test]
fn a_backup_names_who_may_open_it() {
    let (aegis, _) = instance();
    aegis.call(&["backup", "sealed"]).code(2).says("--recipient");
    aegis.call(&["backup", "--recipient", "age1nobody", "sealed"]).code(125).says("begins with age1");
    assert!(!aegis.here().join("sealed").exists());
}
