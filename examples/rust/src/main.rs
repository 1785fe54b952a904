//! `spans join|intersect SET SET`, `spans len SET`.

use std::process::ExitCode;

use spans::{ParseError, Set};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match answer(&words) {
        Some(Ok(line)) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Some(Err(error)) => {
            eprintln!("spans: {error}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("usage: spans join|intersect SET SET, or: spans len SET");
            ExitCode::from(2)
        }
    }
}

fn answer(words: &[&str]) -> Option<Result<String, ParseError>> {
    match words {
        ["join", left, right] => Some(both(left, right, Set::join)),
        ["intersect", left, right] => Some(both(left, right, Set::intersect)),
        ["len", set] => Some(set.parse().map(|it: Set| it.len().to_string())),
        _ => None,
    }
}

fn both(left: &str, right: &str, combine: fn(&Set, &Set) -> Set) -> Result<String, ParseError> {
    Ok(combine(&left.parse()?, &right.parse()?).to_string())
}
