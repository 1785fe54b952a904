//! What is said about project files, mistake by mistake.

use proptest::prelude::*;

use super::*;
use crate::policy::amount::Amount;
use crate::policy::document::schema;
use crate::policy::field::{Field, Setting};

/// Reads a file and compares every line of what is said about it.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let said = match parse(FILE_NAME, text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(refusal) => refusal.to_string().lines().map(str::to_owned).collect(),
    };
    assert_eq!(said, expected);
}

#[test]
fn every_key_is_read_with_its_line() {
    let text = "image = \"aegis/node\"\ncommand = [\"npm\", \"test\"]\noutputs = [\"report\"]\nworkdir = \"web\"\n\
                [workspace]\nexclude = [\n  \"*.log\",\n  \"/big/\",\n]\n[environment]\nCI = \"1\"\n\
                [policy]\nsandbox = \"strict\"\nresources.memory = \"512MiB\"\n";
    let said = parse(FILE_NAME, text.as_bytes()).expect("no mistakes");
    assert_eq!(said.image, Some(Written { value: "aegis/node".to_owned(), line: 1 }));
    assert_eq!(said.command.map(|it| (it.value, it.line)), Some((vec!["npm".into(), "test".into()], 2)));
    assert_eq!(said.outputs.map(|it| it.value), Some(vec!["report".to_owned()]));
    assert_eq!(said.workdir.map(|it| it.value), Some("web".to_owned()));
    let lines: Vec<_> = said.exclude.iter().map(|it| (it.value.as_str(), it.line)).collect();
    assert_eq!(lines, [("*.log", 7), ("/big/", 8)]);
    assert_eq!(said.environment[0].value, ("CI".to_owned(), "1".to_owned()));
    assert_eq!(said.policy.extends.as_deref(), Some("strict"));
    let (memory, place) = &said.policy.settings[&Field::Amount(Amount::Memory)];
    assert_eq!((memory, place.line), (&Setting::Amount(Amount::Memory, 512 << 20), 14));
}

#[test]
fn an_empty_file_says_nothing() {
    for text in ["", "\n", "# a mark\n", "[policy]\n", "[workspace]\n"] {
        assert_eq!(parse(FILE_NAME, text.as_bytes()), Ok(nothing()), "{text:?}");
    }
}

#[test]
fn there_is_no_key_for_a_mount_a_device_or_a_user() {
    for key in ["mounts", "devices", "privileged", "capabilities", "user"] {
        let refusal = parse(FILE_NAME, format!("{key} = [\"/\"]\n").as_bytes()).expect_err(key).to_string();
        assert!(refusal.starts_with(&format!("aegis.toml:1:1: unknown key `{key}`")), "{refusal}");
    }
    check(
        "[policy.filesystem]\nmounts = [\"/:/host\"]\n",
        &["aegis.toml:2:1: unknown key `filesystem.mounts`; the keys here are `filesystem.workspace`, \
           `filesystem.workspace_size`, `filesystem.workspace_files`, `filesystem.tmp_size`, `filesystem.home_size`, \
           `filesystem.run_size`, `filesystem.shm_size`, `filesystem.include_secrets`"],
    );
}

#[test]
fn a_slip_is_told_the_nearest_key() {
    check("imag = \"x\"\n", &["aegis.toml:1:1: unknown key `imag`; the nearest is `image`"]);
    check(
        "[policy.resources]\npid = 5\n",
        &["aegis.toml:2:1: unknown key `resources.pid`; the nearest is `resources.pids`"],
    );
    check(
        "[policy]\nsanbox = \"strict\"\n",
        &["aegis.toml:2:1: unknown key `sanbox`; the nearest is `sandbox`"],
    );
    check(
        "[workspace]\nexcludes = []\n",
        &["aegis.toml:2:1: unknown key `workspace.excludes`; the key here is `workspace.exclude`"],
    );
}

#[test]
fn a_key_of_a_policy_is_told_its_table() {
    check(
        "[resources]\nmemory = \"1GiB\"\n",
        &["aegis.toml:1:2: unknown key `resources`; the nearest is `policy.resources`"],
    );
    check(
        "memory = \"1GiB\"\n",
        &["aegis.toml:1:1: unknown key `memory`; the nearest is `policy.resources.memory`"],
    );
    check(
        "sandbox = \"strict\"\n",
        &["aegis.toml:1:1: unknown key `sandbox`; the nearest is `policy.sandbox`"],
    );
}

#[test]
fn a_policy_is_named_and_never_a_file() {
    check(
        "[policy]\nsandbox = \"./loose.toml\"\n",
        &[&format!("aegis.toml:2:11: `sandbox` names {}", crate::policy::shipped::unknown("./loose.toml"))],
    );
    check(
        "[policy]\nextends = \"strict\"\n",
        &["aegis.toml:2:1: unknown key `extends`; the keys here are \
        `runtimes`, `filesystem`, `images`, `network`, `outputs`, `process`, `resources`, `secrets`, `sandbox`"],
    );
}

#[test]
fn lists_and_texts_are_told_apart() {
    check(
        "command = \"make\"\n",
        &["aegis.toml:1:11: `command` is a string, and must be a list: write [\"make\"]"],
    );
    check("outputs = [1]\n", &["aegis.toml:1:12: `outputs` is a number, and must be a text in quotes"]);
    check("image = 1\n", &["aegis.toml:1:9: `image` is a number, and must be a text in quotes"]);
    check(
        "workspace = []\n",
        &["aegis.toml:1:13: `workspace` is a list, and must be a table: write [workspace]"],
    );
}

#[test]
fn a_command_names_a_program() {
    let message = "`command` names no program: write [\"make\", \"test\"], or leave the key out";
    check("command = []\n", &[&format!("aegis.toml:1:11: {message}")]);
    check("command = [\"\"]\n", &[&format!("aegis.toml:1:11: {message}")]);
    check("command = [\"printf\", \"\"]\n", &[]);
}

#[test]
fn values_that_nothing_could_use_are_refused() {
    check(
        "outputs = [\"\"]\n",
        &["aegis.toml:1:12: `outputs` has an empty text: write a path, or leave it out"],
    );
    check(
        "image = \"Evil Image\"\n",
        &["aegis.toml:1:9: `image` is no image: `Evil Image` is not an image reference: a \
        name is lower-case letters and digits with single `.`, `_`, `-` between, parts joined by `/`"],
    );
    check(
        "[environment]\n\"A B\" = \"x\"\n",
        &["aegis.toml:2:1: `A B` is no name of a variable: use letters, digits and \
        `_`, not a digit first"],
    );
    check(
        "[environment]\nA = 1\n",
        &["aegis.toml:2:5: `environment.A` is a number, and must be a text in quotes"],
    );
}

#[test]
fn excludes_only_leave_out() {
    check(
        "[workspace]\nexclude = [\"!secret\"]\n",
        &[
            "aegis.toml:2:12: `workspace.exclude` only leaves out: a `!` pattern belongs in `.aegisignore` (write `\\\\!` \
           for the character)",
        ],
    );
}

#[test]
fn lists_are_bounded() {
    let entries = vec!["\"a\""; ENTRIES_MAX + 1].join(",");
    check(
        &format!("outputs = [{entries}]\n"),
        &["aegis.toml:1:11: `outputs` has 257 entries, and may have 256"],
    );
    let refusal =
        parse(FILE_NAME, &vec![b'#'; guard::DOCUMENT_BYTES_MAX + 1]).expect_err("refused").to_string();
    assert!(refusal.contains("is larger than 64 KiB"), "{refusal}");
}

#[test]
fn what_is_no_toml_has_its_place() {
    for text in ["image", "image = ", "[policy\n", "a = 1\na = 2\n", "\u{feff}image = \"x\""] {
        let refusal = parse(FILE_NAME, text.as_bytes()).expect_err(text).to_string();
        assert!(refusal.starts_with("aegis.toml:"), "{refusal}");
    }
}

/// Pieces that a hostile file is made of.
fn pieces() -> impl Strategy<Value = String> {
    let words = [
        "image",
        "command",
        "outputs",
        "[workspace]",
        "exclude",
        "[environment]",
        "[policy]",
        "sandbox",
        "resources",
        "=",
        ".",
        ",",
        "[",
        "]",
        "{",
        "}",
        "[[",
        "]]",
        "\"",
        "\"\"\"",
        "'",
        "\\",
        "\n",
        "\r",
        "#",
        "!",
        "-1",
        "1e999",
        "0x",
        "true",
        "nan",
        "1979-05-27",
        "\0",
        "\u{feff}",
        "ä",
        "\"x\"",
        "[\"x\"]",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..40).prop_map(|it| it.join(" "))
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in pieces()) {
        if let Err(refusal) = parse(FILE_NAME, text.as_bytes()) {
            prop_assert!(refusal.to_string().starts_with("aegis.toml:"), "{}", refusal);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(FILE_NAME, &bytes);
    }
}

/// `AEGIS_BLESS=1` writes the file anew.
#[test]
fn the_published_schema_is_the_tables() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas/project-1.json");
    let text = serde_json::to_string_pretty(&schema::project()).expect("it encodes") + "\n";
    if std::env::var_os("AEGIS_BLESS").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == text,
        "`docs/schemas/project-1.json` is not what the code says: run this with AEGIS_BLESS=1"
    );
}

#[test]
fn every_key_of_the_table_is_read() {
    for (key, _) in KEYS {
        let refusal =
            parse(FILE_NAME, format!("{key} = 1979-05-27\n").as_bytes()).expect_err(key).to_string();
        assert!(!refusal.contains("unknown key"), "{refusal}");
    }
}
