//! Variables of a task's environment: names that a shell can say, values without NUL; and files of them.

/// Bytes of one variable, name and value, at the most: Linux's `MAX_ARG_STRLEN` is 128 KiB.
const VARIABLE_BYTES_MAX: usize = 128 * 1024 - 1;
/// Variables of one file at the most.
const FILE_VARIABLES_MAX: usize = 4096;

/// What is wrong with a variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// The name is none.
    #[error("`{name}` is no name of a variable: use letters, digits and `_`, not a digit first")]
    Name {
        /// The name, escaped.
        name: String,
    },
    /// A NUL cannot be passed.
    #[error("the value of `{name}` holds a NUL byte, which no program can be given")]
    Nul {
        /// The name.
        name: String,
    },
    /// Longer than the kernel takes.
    #[error("the variable `{name}` is longer than the {VARIABLE_BYTES_MAX} bytes that the kernel takes")]
    TooLong {
        /// The name.
        name: String,
    },
    /// A line of a file is none.
    #[error("line {line}: {problem}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A file with too many of them.
    #[error("more than {FILE_VARIABLES_MAX} variables")]
    TooMany,
}

/// Checks one variable.
pub fn check(name: &str, value: &str) -> Result<(), VariableError> {
    let first_fits = name.chars().next().is_some_and(|it| it.is_ascii_alphabetic() || it == '_');
    if !first_fits || !name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_') {
        return Err(VariableError::Name { name: crate::intake::shown(name) });
    }
    if value.contains('\0') {
        return Err(VariableError::Nul { name: name.to_owned() });
    }
    if name.len() + value.len() + 1 > VARIABLE_BYTES_MAX {
        return Err(VariableError::TooLong { name: crate::intake::shown(name) });
    }
    Ok(())
}

/// The variables of a file: `NAME=value` a line, taken literally; empty lines and those that begin with `#` are not.
pub fn parse_file(text: &str) -> Result<Vec<(String, String)>, VariableError> {
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let told = |problem: String| VariableError::Line { line: index + 1, problem };
        let Some((name, value)) = line.split_once('=') else {
            return Err(told("write NAME=value; the caller's own environment is never passed on".to_owned()));
        };
        check(name, value).map_err(|it| told(it.to_string()))?;
        variables.push((name.to_owned(), value.to_owned()));
        if variables.len() > FILE_VARIABLES_MAX {
            return Err(VariableError::TooMany);
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_variable_passes() {
        assert_eq!(check("A_1", "x y"), Ok(()));
    }

    #[test]
    fn names_that_no_shell_can_say_are_refused() {
        for name in ["", "1A", "A B", "A\n", "A=B", "ä"] {
            assert!(matches!(check(name, ""), Err(VariableError::Name { .. })), "{name:?}");
        }
    }

    #[test]
    fn a_file_is_taken_literally() {
        let variables = parse_file("# c\n\nA=$(id) '${HOME}'\nB=\n").expect("sound");
        assert_eq!(variables, [("A".into(), "$(id) '${HOME}'".into()), ("B".into(), String::new())]);
    }

    #[test]
    fn a_bad_line_is_named() {
        assert!(matches!(parse_file("A=1\nB"), Err(VariableError::Line { line: 2, .. })));
    }
}
