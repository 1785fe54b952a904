//! The grammar of git's configuration, and what is left of it; the real git is the judge of what it means.

use std::process::Command;

use proptest::prelude::*;

use crate::sandbox::workspace::git::config::{Cleaned, NoConfig, clean};

#[track_caller]
fn check(text: &str, expected: &str) {
    let cleaned = clean(text.as_bytes()).expect("a configuration");
    assert_eq!(cleaned, Cleaned::Changed(expected.as_bytes().to_vec()), "{}", shown(&cleaned));
}

fn shown(cleaned: &Cleaned) -> String {
    match cleaned {
        Cleaned::Same => "the same".to_owned(),
        Cleaned::Changed(text) => String::from_utf8_lossy(text).into_owned(),
    }
}

#[test]
fn what_holds_no_login_stays_as_it_is() {
    let text = "[core]\n\trepositoryformatversion = 0\n\tbare\n[remote \"origin\"]\n\turl = git@example.org:x.git\n\
                [alias]\n\tst = !git status\n[filter \"lfs\"]\n\tclean = git-lfs clean -- %f\n";
    assert_eq!(clean(text.as_bytes()), Ok(Cleaned::Same));
    assert_eq!(clean(b""), Ok(Cleaned::Same));
}

#[test]
fn the_login_of_a_remote_goes_and_its_address_stays() {
    check(
        "[remote \"origin\"]\n\turl = https://me:token@example.org/x.git\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n",
        "[remote \"origin\"]\n\turl = \"https://example.org/x.git\"\n\tfetch = \"+refs/heads/*:refs/remotes/origin/*\"\n",
    );
}

#[test]
fn headers_helpers_and_includes_go() {
    for text in [
        "[http]\nextraheader = AUTHORIZATION: basic abc",
        "[http \"https://example.org/\"]\n\textraHeader = x",
        "[HTTP.https://example.org]",
        "[credential]\nhelper = store",
        "[credential \"https://example.org\"]\nusername = me",
        "[include]\npath = ~/.gitconfig-work",
        "[includeIf \"gitdir:~/work/\"]\npath = x",
        "[url \"https://me:token@example.org/\"]\ninsteadOf = https://example.org/",
        "[sendemail]\nsmtppass = x",
        "[github]\nuser = me",
    ] {
        let cleaned = clean(text.as_bytes());
        if text.starts_with("[HTTP.https:") {
            assert_eq!(cleaned, Err(NoConfig { line: 1 }), "an older subsection has no colon");
        } else {
            assert_eq!(cleaned, Ok(Cleaned::Changed(Vec::new())), "{text}");
        }
    }
}

#[test]
fn settings_that_run_something_of_the_host_go() {
    check(
        "[core]\n\thooksPath = /srv/hooks\n\tFSMonitor = true\n\tsshCommand = ssh -i key\n\teditor = vi\n",
        "[core]\n\teditor = \"vi\"\n",
    );
    check("[x \"y\"]\n\tapiToken = abc\n\tname = n\n", "[x \"y\"]\n\tname = \"n\"\n");
}

#[test]
fn comments_go_since_a_login_may_stand_in_one() {
    check("# https://me:token@example.org\n[a] ; x\nb = c # d\ne\n", "[a]\n\tb = \"c\"\n\te\n");
}

#[test]
fn quotes_escapes_and_continued_lines_are_read_as_git_reads_them() {
    check(
        "[a \"b\\\"c\\\\d\"]\n\tv = \" x # y\"  z \\\n  w\\t\\n\\\"q  ; gone\n",
        "[a \"b\\\"c\\\\d\"]\n\tv = \" x # y  z   w\t\\n\\\"q\"\n",
    );
    check("[a]v = https://me:t\\\nok@example.org/x\n", "[a]\n\tv = \"https://example.org/x\"\n");
    check("[a]\r\nv = \"https://me:\"tok\"@example.org\"\r\n", "[a]\n\tv = \"https://example.org\"\n");
    check("\u{feff}[a]#\nB-c=d", "[a]\n\tb-c = \"d\"\n");
}

#[test]
fn what_git_could_not_read_is_refused_with_its_line() {
    for (text, line) in [
        ("x = 1", 1),
        ("[a", 1),
        ("[a]\n= 1", 2),
        ("[a \"b\n\"]", 2),
        ("[a]\nb = \"c\n", 3),
        ("[a]\nb = \\x", 2),
        ("[a \"b\" ]", 1),
        ("[a]\nb!c = 1", 2),
        ("[a]\nb ; c", 2),
    ] {
        assert_eq!(clean(text.as_bytes()), Err(NoConfig { line }), "{text}");
    }
}

/// What git reads in a file, as NUL-separated names and values; `None` if it refuses. Tabs and returns as blanks: git before
/// 2.45 takes them for that where they are not quoted.
fn listed(text: &[u8]) -> Option<Vec<u8>> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    let output = Command::new("git")
        .args(["config", "--no-includes", "--list", "-z", "--file"])
        .arg(file.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .expect("git runs");
    let blank = |byte: u8| if matches!(byte, b'\t' | b'\r') { b' ' } else { byte };
    output.status.success().then(|| output.stdout.into_iter().map(blank).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn git_reads_the_same_before_and_after(
        body in "(\\[a\\]|\\[b \"c\"\\]|\\[d.E\\]|[a-d]+ ?= ?|[\\\\\"#; \t]|\\\\[nt\\\\\"]|x|\n|\r\n){0,24}",
    ) {
        // The comment at the end makes it be written anew.
        let text = format!("[a]\n{body}\n# end\n");
        match (clean(text.as_bytes()), listed(text.as_bytes())) {
            (Ok(Cleaned::Changed(cleaned)), Some(meant)) => prop_assert_eq!(listed(&cleaned), Some(meant)),
            (Ok(cleaned), Some(_)) => prop_assert!(false, "{}", shown(&cleaned)),
            (Err(_), None) => {}
            // Refusing what git reads leaves a file outside, which is safe; reading what git refuses changes nothing.
            (Err(_), Some(_)) | (Ok(_), None) => {}
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = clean(&bytes);
    }
}
