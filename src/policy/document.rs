//! A policy file: bytes and a name in, the settings that it writes out, or every mistake with its place.
//!
//! A file extends a shipped policy (`strict` unless it says otherwise) and writes what differs. Keys, ranges and words
//! come from the one table in `field`; there is no key that is accepted and ignored. A ceiling is written with the same
//! keys and extends nothing.

pub mod guard;
pub mod mistake;
mod nearest;
mod value;

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::intake::shown;
use crate::policy::amount::Amount;
use crate::policy::field::{Field, Setting};
use crate::policy::{Policy, WorkspaceMedium, shipped};

pub use guard::DOCUMENT_BYTES_MAX;
pub use mistake::{DocumentError, Mistake, Place};
use mistake::{Slip, What};
pub use nearest::word as nearest_word;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A policy, which extends a shipped one.
    Policy,
    /// A ceiling, which extends none.
    Ceiling,
}

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The file's name as it is shown.
    pub file: String,
    /// The shipped policy it extends; `None` where it names none.
    pub extends: Option<String>,
    /// The fields it writes, each with its place.
    pub settings: BTreeMap<Field, (Setting, Place)>,
}

/// Reads a file.
pub fn parse(file: &str, bytes: &[u8], kind: Kind) -> Result<Document, DocumentError> {
    let text = guard::text(file, bytes)?;
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let slips = errors.iter().map(|err| syntax_slip(text, err)).collect();
        return Err(DocumentError::new(file, text, slips));
    }
    let mut reader = Reader { kind, extends: None, settings: BTreeMap::new(), slips: Vec::new() };
    reader.table(table.get_ref(), "");
    reader.contradictions();
    let Reader { extends, settings, slips, .. } = reader;
    if !slips.is_empty() {
        return Err(DocumentError::new(file, text, slips));
    }
    if extends.is_none() && settings.is_empty() {
        return Err(DocumentError::whole(
            file,
            "sets nothing: write `extends = \"strict\"` for strict as it is",
        ));
    }
    let placed = |(field, (setting, at))| (field, (setting, Place::of(text, at)));
    Ok(Document { file: file.to_owned(), extends, settings: settings.into_iter().map(placed).collect() })
}

impl Document {
    /// The policy that comes of writing this file over another.
    pub fn over(&self, base: &Policy) -> Result<Policy, DocumentError> {
        let mut policy = base.clone();
        for (setting, _) in self.settings.values() {
            setting.apply(&mut policy);
        }
        let (soft, hard) = (policy.resources.nofile_soft, policy.resources.nofile_hard);
        if soft <= hard {
            return Ok(policy);
        }
        let written =
            [Amount::NofileHard, Amount::NofileSoft].map(|it| self.settings.get(&Field::Amount(it)));
        let place = written.into_iter().flatten().map(|(_, place)| *place).next();
        let message = format!(
            "`resources.nofile_soft` ({soft}) is above `resources.nofile_hard` ({hard}), one of them inherited: write both"
        );
        Err(DocumentError { file: self.file.clone(), mistakes: vec![Mistake { place, message }], more: 0 })
    }
}

struct Reader {
    kind: Kind,
    extends: Option<String>,
    settings: BTreeMap<Field, (Setting, usize)>,
    slips: Vec<Slip>,
}

impl Reader {
    fn table(&mut self, table: &DeTable<'_>, above: &str) {
        for (key, value) in table {
            let name = key.get_ref();
            let path = if above.is_empty() { name.to_string() } else { format!("{above}.{name}") };
            let at = key.span().start;
            if name.contains('.') {
                // Taken for a path, it would be a second spelling of a key that the parser's duplicate check misses.
                self.slip(at, format!("`{}` is one quoted key: write a path without quotes", shown(name)));
            } else if let Some(field) = Field::of_path(&path) {
                self.field(field, value);
            } else if nearest::tables().contains(path.as_str()) {
                match value.get_ref() {
                    DeValue::Table(inner) => self.table(inner, &path),
                    other => {
                        let is = value::kind(other);
                        self.slip(at, format!("`{path}` is {is}, and must be a table: write [{path}]"));
                    }
                }
            } else if path == "extends" {
                self.extends(at, value);
            } else {
                let what = What::UnknownKey { path, table: above.to_owned() };
                self.slips.push(Slip { at, what });
            }
        }
    }

    fn field(&mut self, field: Field, value: &Spanned<DeValue<'_>>) {
        match value::read(field, value) {
            Ok(setting) => {
                self.settings.insert(field, (setting, value.span().start));
            }
            Err(slips) => self.slips.extend(slips),
        }
    }

    fn extends(&mut self, at: usize, value: &Spanned<DeValue<'_>>) {
        if self.kind == Kind::Ceiling {
            let message = "a ceiling extends no policy: a key that is absent has the default ceiling's value";
            return self.slip(at, message.to_owned());
        }
        match value::read_text("extends", value) {
            Ok(name) if shipped::NAMES.contains(&name) => self.extends = Some(name.to_owned()),
            Ok(name) => self.slip(value.span().start, format!("`extends` names {}", shipped::unknown(name))),
            Err(slip) => self.slips.push(slip),
        }
    }

    /// Settings that cannot both be meant.
    fn contradictions(&mut self) {
        let written = |amount| match self.settings.get(&Field::Amount(amount)) {
            Some((Setting::Amount(_, value), at)) => Some((*value, *at)),
            Some(_) | None => None,
        };
        let mut found = Vec::new();
        if let (Some((soft, at)), Some((hard, _))) =
            (written(Amount::NofileSoft), written(Amount::NofileHard))
            && soft > hard
        {
            let message =
                format!("`resources.nofile_soft` ({soft}) is above `resources.nofile_hard` ({hard})");
            found.push(Slip::said(at, message));
        }
        let medium = self.settings.get(&Field::Workspace).map(|(setting, _)| setting);
        let none = medium == Some(&Setting::Workspace(WorkspaceMedium::None));
        for amount in [Amount::WorkspaceSize, Amount::WorkspaceFiles] {
            if let (true, Some((_, at))) = (none, written(amount)) {
                let path = Field::Amount(amount).key().path;
                let reason = "says nothing where `filesystem.workspace` is \"none\": leave one out";
                found.push(Slip::said(at, format!("`{path}` {reason}")));
            }
        }
        self.slips.extend(found);
    }

    fn slip(&mut self, at: usize, message: String) {
        self.slips.push(Slip::said(at, message));
    }
}

fn syntax_slip(text: &str, err: &toml::de::Error) -> Slip {
    let at = err.span().map_or(text.len(), |it| it.start);
    Slip::said(at, format!("is not TOML: {}", shown(err.message())))
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn an_unknown_key_has_its_place_and_its_nearest() {
        check(
            "[resources]\npid = 5",
            &["p:2:1: unknown key `resources.pid`; the nearest is `resources.pids`"],
        );
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
        check(
            "[process]\nptrace = \"no\"",
            &["p:2:10: `process.ptrace` is a string, and must be true or false"],
        );
        check(
            "[network]\negress = false",
            &["p:2:10: `network.egress` is true or false, and must be \"none\""],
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
    fn an_empty_list_allows_none() {
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
                "p:1:1: unknown key `what`; the keys here are `runtimes`, `filesystem`, `images`, `network`, `outputs`, `process`, `resources`, `extends`",
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
                "p:1:11: `extends` names `strct`; did you mean `strict`? (there is `strict`; a file is named by a path with `/` or `.toml`)",
            ],
        );
        check("extends = 5", &["p:1:11: `extends` is a number, and must be a text in quotes"]);
    }

    #[test]
    fn a_ceiling_extends_nothing() {
        let refusal = parse("c", b"extends = \"strict\"", Kind::Ceiling).expect_err("a refusal");
        let message =
            "c:1:1: a ceiling extends no policy: a key that is absent has the default ceiling's value";
        assert_eq!(refusal.to_string(), message);
    }

    #[test]
    fn nothing_in_a_value_is_expanded() {
        check(
            "extends = \"$(id)\"\nruntimes = [\"${HOME}\"]",
            &[
                "p:1:11: `extends` names `$(id)` (there is `strict`; a file is named by a path with `/` or `.toml`)",
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
    fn a_million_entries_and_a_bomb_of_dots_end_at_once() {
        let long = format!("[images]\nallow = [{}]", "\"a\",".repeat(16_000));
        check(&long, &["p:2:9: `images.allow` has 16000 entries, and may have 256"]);
        let bomb: String = (0..2_000).map(|it| format!("a{it}.b.c.d.e = 1\n")).collect();
        assert_eq!(parse("p", bomb.as_bytes(), Kind::Policy).map_err(|it| it.more), Err(1_980));
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
}
