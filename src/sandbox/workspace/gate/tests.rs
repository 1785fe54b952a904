//! What of a project travels: the messages themselves are searched.

use std::fs;
use std::os::unix::fs::symlink;

use aegis_init::frame::{REQUEST_BYTES_MAX, encode};

use crate::sandbox::workspace::round_trip::{LIMITS, Place};
use crate::sandbox::workspace::{Choice, Summary, scan, send};
use crate::task::GitHistory;

const CANARY: &str = "canary-in-a-message";

/// A project of these files, each with the canary in it; what is withheld, and whether a message has the canary.
fn sent(files: &[&str], include: &[&str], prepare: impl Fn(&Place)) -> (Summary, bool) {
    let place = Place::new();
    for file in files {
        let path = place.path("project").join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, CANARY).expect("written");
    }
    prepare(&place);
    let include_secrets = include.iter().map(|it| (*it).to_owned()).collect();
    let choice = Choice { git: GitHistory::Full, include_secrets };
    let plan = scan(&place.path("project"), LIMITS, &choice).expect("it can be copied");
    let mut leaked = false;
    send(&plan, &mut |request| {
        let frame = encode(&request, 0, REQUEST_BYTES_MAX).expect("it fits");
        leaked |= memchr::memmem::find(&frame, CANARY.as_bytes()).is_some();
        Ok(())
    })
    .expect("it is sent");
    (plan.summary, leaked)
}

#[track_caller]
fn check(files: &[&str], prepare: impl Fn(&Place), withheld: &[&str]) {
    let (summary, leaked) = sent(files, &[], prepare);
    let listed: Vec<String> =
        summary.withheld.iter().map(|it| String::from_utf8_lossy(&it.path).into_owned()).collect();
    assert_eq!(listed, withheld);
    assert_eq!(summary.withheld_count, withheld.len() as u64);
    assert!(!leaked);
}

fn nothing(_: &Place) {}

#[test]
fn no_message_holds_a_withheld_file() {
    check(&[".env", "a/id_rsa", ".ssh/x"], nothing, &[".env", ".ssh", "a/id_rsa"]);
    assert!(sent(&["ordinary"], &[], nothing).1, "the search finds what is there");
}

#[test]
fn every_name_of_a_withheld_file_stays_outside_whichever_comes_first() {
    let link = |from: &'static str, to: &'static str| {
        move |place: &Place| {
            fs::hard_link(place.path("project").join(from), place.path("project").join(to)).expect("a name");
        }
    };
    check(&[".env"], link(".env", "A"), &[".env", "A"]);
    check(&[".env"], link(".env", "zzz"), &[".env", "zzz"]);
    check(&[".aws/deep/x"], link(".aws/deep/x", "zzz"), &[".aws", "zzz"]);
    let ignored = |place: &Place| {
        link(".npmrc", "zzz")(place);
        fs::write(place.path("project/.aegisignore"), ".npmrc\n").expect("written");
    };
    check(&[".npmrc"], ignored, &["zzz"]);
}

#[test]
fn a_directory_that_only_looks_like_a_repository_hides_nothing() {
    let prepare = |place: &Place| {
        for file in ["HEAD", "objects/x", "refs/x", "main.rs", "a/HEAD", "a/objects/x", "a/refs/x"] {
            let path = place.path("project").join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, "x").expect("written");
        }
    };
    check(&[".env", "refs/.env", "a/objects/id_rsa"], prepare, &[".env", "a/objects/id_rsa", "refs/.env"]);
    assert_eq!(sent(&[], &[], prepare).0.files, 7);
}

#[test]
fn no_pattern_takes_a_withheld_file_in() {
    let prepare = |place: &Place| {
        fs::write(place.path("project/.aegisignore"), "!*\n!**/.env\n!/.ssh/**\n").expect("written");
    };
    check(&[".env", "a/.env", ".ssh/x"], prepare, &[".env", ".ssh", "a/.env"]);
}

#[test]
fn a_withheld_file_need_not_be_readable_and_may_be_anything() {
    let prepare = |place: &Place| {
        let project = place.path("project");
        symlink("/etc/hosts", project.join(".netrc")).expect("a link");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            project.join(".npmrc"),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .expect("a fifo");
        fs::create_dir(project.join("id_rsa")).expect("a directory");
    };
    check(&[], prepare, &[".netrc", ".npmrc"]);
}

#[test]
fn a_virtual_environment_named_as_a_file_of_variables_goes_in() {
    let prepare = |place: &Place| {
        fs::create_dir_all(place.path("project/.env/lib")).expect("directories");
        fs::write(place.path("project/.env/pyvenv.cfg"), "home = /usr/bin\n").expect("written");
    };
    check(&[], prepare, &[]);
    check(&[".env/production"], nothing, &[".env"]);
}

#[test]
fn what_is_asked_for_goes_in_alone_whatever_it_is_called_besides() {
    let (summary, leaked) = sent(&[".ssh/a", ".ssh/deep/b", ".ssh/deep/c"], &[".ssh/deep/b"], |place| {
        fs::write(place.path("project/.ssh/a"), "x").expect("written");
        fs::write(place.path("project/.ssh/deep/c"), "x").expect("written");
    });
    let listed: Vec<&[u8]> = summary.withheld.iter().map(|it| it.path.as_slice()).collect();
    assert_eq!(listed, [b".ssh/a".as_slice(), b".ssh/deep/c"]);
    assert!(leaked, "the one that was asked for");

    let both = |place: &Place| {
        fs::hard_link(place.path("project/.env"), place.path("project/.a.env")).expect("a name");
    };
    let (summary, leaked) = sent(&[".env"], &[".env"], both);
    assert_eq!((summary.withheld.len(), summary.files, leaked), (1, 1, true));
}

#[test]
fn only_so_many_are_named_and_all_are_counted() {
    let names: Vec<String> = (0..1200).map(|it| format!("{it}.env")).collect();
    let files: Vec<&str> = names.iter().map(String::as_str).collect();
    let (summary, leaked) = sent(&files, &[], nothing);
    assert_eq!((summary.withheld.len(), summary.withheld_count, leaked), (1000, 1200, false));
}

#[test]
fn what_cannot_be_looked_through_stays_outside_and_the_notes_are_few() {
    let prepare = |place: &Place| {
        let git = place.path("project/.git");
        fs::create_dir_all(git.join("logs/refs")).expect("directories");
        fs::write(git.join("config"), format!("[a]\nb = {CANARY}\n= ?\n")).expect("written");
        for number in 0..20 {
            let log = fs::File::create(git.join(format!("logs/refs/{number}"))).expect("a file");
            log.set_len(5 << 20).expect("it is long");
        }
    };
    let (summary, leaked) = sent(&["README"], &[], prepare);
    assert_eq!((summary.files, summary.excluded, summary.notes.len(), leaked), (1, 21, 10, true));
    assert_eq!(
        summary.notes[0],
        "`.git/config` stays outside: line 3 is no configuration that git could read"
    );
    assert!(summary.notes[1].contains("it is longer than 4194304 bytes"), "{}", summary.notes[1]);
    assert!(!sent(&[], &[], prepare).1, "nothing of the configuration was sent");
}
