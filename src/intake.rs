//! Floor 1: text from outside becomes values, every mistake with its reason and its fix. Amounts that people write
//! carry their unit; nothing here guesses one.

pub mod cpus;
pub mod duration;
pub mod label;
pub mod look;
pub mod project;
pub mod secret_name;
pub mod secret_path;
pub mod size;
pub mod variable;

/// Characters of a foreign text that a message repeats.
const SHOWN_CHARS_MAX: usize = 80;

/// A text from outside as a message repeats it: control characters escaped, cut to 80 characters.
pub fn shown(text: &str) -> String {
    let escaped: String = text.chars().take(SHOWN_CHARS_MAX + 1).map(shown_char).collect();
    if escaped.chars().count() <= SHOWN_CHARS_MAX {
        return escaped;
    }
    escaped.chars().take(SHOWN_CHARS_MAX).chain(['…']).collect()
}

fn shown_char(one: char) -> String {
    if one.is_control() || is_invisible(one) { one.escape_default().to_string() } else { one.to_string() }
}

/// Marks that change how the text around them is shown.
fn is_invisible(one: char) -> bool {
    matches!(one, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::shown;

    fn check(text: &str, expected: &str) {
        assert_eq!(shown(text), expected);
    }

    #[test]
    fn plain_text_is_shown_as_it_is() {
        check("größe", "größe");
    }

    #[test]
    fn controls_and_invisible_marks_are_escaped() {
        check("a\x1b[31m\u{202e}b", "a\\u{1b}[31m\\u{202e}b");
    }

    #[test]
    fn a_long_text_is_cut() {
        check(&"x".repeat(500), &format!("{}…", "x".repeat(80)));
    }
}
