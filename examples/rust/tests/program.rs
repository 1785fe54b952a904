//! The program, as a process of its own.

use std::process::Command;

fn spans(words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_spans")).args(words).output().unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn sets_are_joined() {
    assert_eq!(spans(&["join", "1-3", "4,9"]), (Some(0), "1-4,9\n".into()));
}

#[test]
fn bad_sets_are_told() {
    assert_eq!(spans(&["len", "3-1"]), (Some(1), "spans: `3-1` goes backwards: write `1-3`\n".into()));
}

#[test]
fn other_words_are_usage() {
    assert_eq!(spans(&["sum"]).0, Some(2));
}
