//! What is said about policy files, mistake by mistake.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::policy::lattice::bottom;

/// Reads a policy named `p` and compares every line of what is said about it.
fn check(text: &str, expected: &[&str]) {
    let said = match parse("p", text.as_bytes(), Kind::Policy) {
        Ok(_) => Vec::new(),
        Err(refusal) => refusal.to_string().lines().map(str::to_owned).collect(),
    };
    assert_eq!(said, expected);
}

#[test]
fn what_a_file_writes_is_read() {
    let text = "extends = \"strict\"\nruntimes = [\"runc\"]\n[resources]\nmemory = \"2GiB\"\ncpus = 0.5\npids = 1_000\n";
    let document = parse("p", text.as_bytes(), Kind::Policy).expect("a policy");
    let policy = document.over(&bottom()).expect("no contradiction");
    let resources = policy.resources;
    assert_eq!((resources.memory_bytes, resources.cpus_milli, resources.pids), (2 << 30, 500, 1_000));
}

/// Each of these is refused, and the first thing said about it begins with a line and a column.
fn check_refused_with_its_place(texts: &[&str]) {
    for text in texts {
        let refusal = parse("p", text.as_bytes(), Kind::Policy).expect_err(text);
        assert!(refusal.mistakes.iter().all(|it| it.place.is_some()), "{text}: {refusal}");
    }
}

#[test]
fn po_01_unknown_keys_nesting_types_and_garbage_are_refused_with_their_place() {
    check_refused_with_its_place(&[
        "[netwrok]\negress = \"none\"",
        "[resources.limits]\npids = 5",
        "pids = 5",
        "[resources]\npids = true",
        "[resources]\npids = 5\n---",
        "[resources]\npids = 5\n\u{0}",
        "[[resources]]\npids = 5",
    ]);
}

#[test]
fn po_03_duplicates_in_any_spelling_are_refused() {
    check_refused_with_its_place(&[
        "[process]\nptrace = true\nptrace = false",
        "process.ptrace = true\n[process]\nptrace = false",
        "process = { ptrace = true }\n[process]\nptrace = false",
        "process.ptrace = true\nprocess.\"ptrace\" = false",
        "process.ptrace = true\n\"process.ptrace\" = false",
    ]);
}

#[test]
fn po_05_shapes_that_could_be_misread_are_refused() {
    check_refused_with_its_place(&[
        "[images]\nallow =",
        "[images]\nallow = \"x.test\"",
        "[images]\nallow = ['']",
        "network = \"no\"",
        "network = false",
        "[resources]\nmemory = 512",
        "[resources]\npids = \"100\"",
    ]);
}

#[test]
fn an_unknown_key_has_its_place_and_its_nearest() {
    check("[resources]\npid = 5", &["p:2:1: unknown key `resources.pid`; the nearest is `resources.pids`"]);
}

#[test]
fn an_unknown_table_is_named_once() {
    check(
        "[netwrok]\negress = \"none\"\nmore = 1",
        &["p:1:2: unknown key `netwrok`; the nearest is `network`"],
    );
}

#[test]
fn a_key_in_the_wrong_table_is_told_its_own() {
    check("pids = 5", &["p:1:1: unknown key `pids`; the nearest is `resources.pids`"]);
}

#[test]
fn a_key_like_no_other_is_told_what_there_is() {
    check(
        "[process]\nprivileged = true",
        &["p:2:1: unknown key `process.privileged`; the keys here are `process.ptrace`"],
    );
}

#[test]
fn a_number_is_not_written_as_a_string() {
    check(
        "[resources]\npids = \"100\"",
        &["p:2:8: `resources.pids` is a string, and must be a number: write 100 without quotes"],
    );
}

#[test]
fn a_size_needs_its_unit() {
    let bare = "`resources.memory` has no unit: write \"512MiB\" for mebibytes, or \"512B\" for bytes";
    check("[resources]\nmemory = 512", &[&format!("p:2:10: {bare}")]);
    let quoted = "`resources.memory` is no value: `512` has no unit: write `512MiB` for mebibytes, or `512B` for bytes";
    check("[resources]\nmemory = \"512\"", &[&format!("p:2:10: {quoted}")]);
}

#[test]
fn a_duration_needs_its_unit() {
    check(
        "[resources]\nwall_time = 10",
        &["p:2:13: `resources.wall_time` has no unit: write \"10s\" for seconds, or \"10m\" for minutes"],
    );
}

#[test]
fn a_value_of_another_kind_is_told_apart() {
    check("[process]\nptrace = \"no\"", &["p:2:10: `process.ptrace` is a string, and must be true or false"]);
    check(
        "[network]\negress = false",
        &["p:2:10: `network.egress` is true or false, and must be \"none\" or \"rules\" or \"public\""],
    );
    check(
        "[resources]\nmemory = [1]",
        &["p:2:10: `resources.memory` is a list, and must be a size, such as \"512MiB\""],
    );
    check("resources = 5", &["p:1:1: `resources` is a number, and must be a table: write [resources]"]);
    check(
        "[resources.memory]\nx = 1",
        &["p:1:1: `resources.memory` is a table, and must be a size, such as \"512MiB\""],
    );
}

#[test]
fn what_is_out_of_range_is_told_the_range() {
    check("[resources]\npids = 0", &["p:2:8: `resources.pids` is out of range: 0 is not 2 to 4194304"]);
    check("[resources]\npids = -1", &["p:2:8: `resources.pids` is out of range: -1 is not 2 to 4194304"]);
    check(
        "[resources]\nwall_time = \"0s\"",
        &["p:2:13: `resources.wall_time` is out of range: 0s is not 100ms to 720h"],
    );
    check(
        "[resources]\ncpus = 0.001",
        &["p:2:8: `resources.cpus` is out of range: 0.001 is not 0.01 to 1024"],
    );
}

#[test]
fn a_string_is_not_a_list() {
    check(
        "[images]\nallow = \"x\"",
        &["p:2:9: `images.allow` is a string, and must be a list: write [\"x\"]"],
    );
}

#[test]
fn entries_of_lists_are_looked_at() {
    check(
        "[images]\nallow = [\"\", 5, \"a\", \"a\"]",
        &[
            "p:2:10: `images.allow`: `` is not a glob: it is empty",
            "p:2:14: an entry of `images.allow` is a number, and must be a string",
            "p:2:22: `images.allow` has \"a\" twice",
        ],
    );
}

#[test]
fn po_05_an_empty_list_allows_none() {
    let document = parse("p", b"[images]\nallow = []", Kind::Policy).expect("a policy");
    let policy = document.over(&bottom()).expect("no contradiction");
    assert_eq!(policy.images.allow.into_iter().collect::<Vec<_>>(), [std::collections::BTreeSet::new()]);
}

#[test]
fn a_word_that_is_none_is_told_the_words() {
    check(
        "[images]\npull = \"nevr\"",
        &[
            "p:2:8: `images.pull` is \"nevr\", and must be \"never\" or \"missing\" or \"always\"; did you mean \"never\"?",
        ],
    );
}

#[test]
fn any_runtime_stands_alone() {
    check(
        "runtimes = [\"*\", \"runc\"]",
        &["p:1:12: `runtimes` has `*` beside names: `*` is any runtime, write it alone or leave it out"],
    );
}

#[test]
fn a_pin_names_an_image_and_an_id() {
    check(
        "[images.pins]\n\"A/b\" = \"x\"\n\"a/b\" = \"sha256:12\"\n\"a/c\" = 5",
        &[
            "p:2:1: `images.pins`: `A/b` is not an image reference: a name is lower-case letters and digits with single `.`, `_`, `-` between, parts joined by `/`",
            "p:3:9: `images.pins` of `a/b` is no image id: it is `sha256:` and 64 hexadecimal digits",
            "p:4:9: `images.pins` of `a/c` is a number, and must be an image id in quotes",
        ],
    );
}

#[test]
fn one_image_is_not_pinned_in_two_spellings() {
    let id = format!("sha256:{}", "0".repeat(64));
    let text = format!("[images.pins]\n\"a/b\" = \"{id}\"\n\"a/b:latest\" = \"{id}\"");
    check(&text, &["p:3:1: `images.pins` pins `a/b:latest` twice, in two spellings"]);
}

#[test]
fn contradictions_are_named() {
    check(
        "[resources]\nnofile_soft = 2000\nnofile_hard = 1000",
        &["p:2:15: `resources.nofile_soft` (2000) is above `resources.nofile_hard` (1000)"],
    );
    check(
        "[filesystem]\nworkspace = \"none\"\nworkspace_size = \"1GiB\"",
        &[
            "p:3:18: `filesystem.workspace_size` says nothing where `filesystem.workspace` is \"none\": leave one out",
        ],
    );
}

#[test]
fn duplicates_and_trailing_garbage_are_no_toml() {
    check("[process]\nptrace = true\nptrace = false", &["p:3:1: is not TOML: duplicate key"]);
    check(
        "[process]\nptrace = true }",
        &["p:2:15: is not TOML: unexpected key or value, expected newline, `#`"],
    );
}

#[test]
fn every_mistake_is_reported() {
    check(
        "what = 1\n[resources]\nmemory = 1\npids = \"x\"",
        &[
            "p:1:1: unknown key `what`; the keys here are `runtimes`, `filesystem`, `images`, `network`, `outputs`, `process`, `resources`, `secrets`, `extends`",
            "p:3:10: `resources.memory` has no unit: write \"1MiB\" for mebibytes, or \"1B\" for bytes",
            "p:4:8: `resources.pids` is a string, and must be a number",
        ],
    );
}

#[test]
fn mistakes_beyond_twenty_are_counted() {
    let text: String = (0..50).map(|it| format!("unheard_of_{it} = 1\n")).collect();
    let refusal = parse("p", text.as_bytes(), Kind::Policy).expect_err("mistakes");
    assert_eq!((refusal.mistakes.len(), refusal.more), (20, 30));
    assert!(refusal.to_string().ends_with("\np: and 30 more"));
}

#[test]
fn a_file_of_comments_sets_nothing() {
    check("# nothing\n", &["p: sets nothing: write `extends = \"strict\"` for strict as it is"]);
}

#[test]
fn extends_names_a_shipped_policy() {
    check("extends = \"strict\"", &[]);
    check(
        "extends = \"strct\"",
        &[
            "p:1:11: `extends` names `strct`; did you mean `strict`? (there is `strict`, `ci`; a file is named by a path with `/` or `.toml`)",
        ],
    );
    check("extends = 5", &["p:1:11: `extends` is a number, and must be a text in quotes"]);
}

#[test]
fn a_ceiling_extends_nothing() {
    let refusal = parse("c", b"extends = \"strict\"", Kind::Ceiling).expect_err("a refusal");
    let message = "c:1:1: a ceiling extends no policy: a key that is absent has the default ceiling's value";
    assert_eq!(refusal.to_string(), message);
}

#[test]
fn po_13_nothing_in_a_value_is_expanded() {
    check(
        "extends = \"$(id)\"\nruntimes = [\"${HOME}\"]",
        &[
            "p:1:11: `extends` names `$(id)` (there is `strict`, `ci`; a file is named by a path with `/` or `.toml`)",
            "p:2:13: `runtimes`: `${HOME}` is not a runtime's name: it has letters, digits, `.`, `_` and `-`, at most 64",
        ],
    );
}

#[test]
fn a_quoted_path_is_no_second_spelling_of_a_key() {
    check(
        "\"resources.pids\" = 5\n[resources]\npids = 6",
        &["p:1:1: `resources.pids` is one quoted key: write a path without quotes"],
    );
}

#[test]
fn a_hostile_key_is_shown_escaped() {
    check(
        "resources.\"\\u001bpids\" = 1",
        &["p:1:11: unknown key `resources.\\u{1b}pids`; the nearest is `resources.pids`"],
    );
}

#[test]
fn a_list_is_no_place_for_thousands() {
    let text = format!("[images]\nallow = [{}]", "\"a\",".repeat(16_000));
    check(&text, &["p:2:9: `images.allow` has 16000 entries, and may have 256"]);
}

#[test]
fn po_04_bombs_are_refused_at_once() {
    let bombs = [
        format!("a = {}", "[".repeat(10_000)),
        format!("a = {}", "{a = ".repeat(10_000)),
        format!("{}a = 1", "a.".repeat(30_000)),
        format!("[{}a]", "a.".repeat(30_000)),
        format!("images.allow = [{}]", "\"a\",".repeat(1_000_000)),
        "=\n".repeat(32_000),
        "a=1\n".repeat(16_000),
        "[[a.b.c.d.e]]\n".repeat(4_000),
        "a.a.a.a.a.a.a.a.a=1\n".repeat(3_000),
        "a.a.a.a.a.a.a.a={\n".repeat(8),
        (0..8_000).map(|it| format!("{it:x}=1\n")).collect(),
        format!("{}=1", "k".repeat(65_000)),
        format!("resources.pids={}", "9".repeat(65_000)),
    ];
    let start = Instant::now();
    assert!(bombs.iter().all(|it| parse("p", it.as_bytes(), Kind::Policy).is_err()));
    // All of them together take half a second without optimization on a slow machine.
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse("p", &bytes, Kind::Policy);
    }

    #[test]
    fn any_text_like_toml_is_read_or_refused(text in "([a-z.=\\[\\]{}\"'\\\\#, \n\r]|\"\"\"|'''|images|allow|pins){0,120}") {
        let _ = parse("p", text.as_bytes(), Kind::Ceiling);
    }
}
