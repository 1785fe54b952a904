//! The scans that `SECURITY.md` names are the scans that CI runs.

use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn scans_of_security_md_are_those_of_make_lint() {
    let security = read("SECURITY.md");
    let (_, block) = security.split_once("```scans\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let named: BTreeSet<_> =
        block.lines().filter_map(|it| it.strip_prefix("make ")?.split(' ').next()).collect();
    let makefile = read("Makefile");
    let rule = makefile.lines().find_map(|it| it.strip_prefix("lint: ")).unwrap();
    let run: BTreeSet<_> = rule.split("##").next().unwrap().split_whitespace().collect();
    assert_eq!(named, run);
}

#[test]
fn ci_runs_make_lint_and_make_test() {
    let script = read(".ci/run");
    let run: Vec<_> = script.lines().filter(|it| it.starts_with("make ")).collect();
    assert_eq!(run.len(), 2, "{run:?}");
    assert!(run[0].starts_with("make test ") && run[1].starts_with("make lint "), "{run:?}");
}

#[test]
fn every_invariant_of_security_md_names_tests_that_exist() {
    let security = read("SECURITY.md");
    let (_, table) = security.split_once("## Invariants, and the tests that hold them").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let rows: Vec<&str> = table.lines().filter(|it| it.starts_with("| ") && !it.starts_with("| #")).collect();
    assert_eq!(rows.len(), 8, "{rows:#?}");
    for row in rows {
        let named: Vec<&str> = row.split('`').filter(|it| it.contains(".rs::")).collect();
        assert!(!named.is_empty(), "no test in: {row}");
        for test in named {
            let (file, name) = test.split_once("::").unwrap();
            assert!(read(file).contains(&format!("fn {name}(")), "{test} does not exist");
        }
    }
}
