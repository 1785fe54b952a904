//! Inserts of many rows: one way to the database for dozens of them. What a submission costs is mostly the way there and back,
//! a statement each. The texts are made once for a few counts of rows, so that they stay prepared.
//!
//! SQLite gets places without numbers: it finds the name of each place by a walk over all of them, which for the places of 64
//! rows is more than the insert itself.

use std::sync::OnceLock;

use crate::store::database::{Both, Statement};

/// Rows that go together, from many to one. 64 rows of the widest table stay far below the values that a statement may have.
const COUNTS: [usize; 3] = [64, 8, 1];

/// An insert into some columns of a table.
pub(crate) struct Insert {
    /// `INSERT INTO table (columns)`.
    into: &'static str,
    columns: usize,
    texts: [OnceLock<[String; 2]>; COUNTS.len()],
}

impl Insert {
    /// Takes the text up to its values, and the number of columns that it names.
    pub(crate) const fn new(into: &'static str, columns: usize) -> Self {
        Self { into, columns, texts: [const { OnceLock::new() }; COUNTS.len()] }
    }

    /// One row, whose values are bound in order.
    pub(crate) fn row(&'static self) -> Statement {
        self.text(COUNTS.len() - 1).sql()
    }

    /// Rows that [`Self::row`] began, in as few statements as there are counts for.
    pub(crate) fn rows(&'static self, rows: Vec<Statement>) -> Vec<Statement> {
        let mut statements = Vec::new();
        let mut left = rows.len();
        let mut rows = rows.into_iter();
        for (place, count) in COUNTS.into_iter().enumerate() {
            while left >= count {
                left -= count;
                let mut statement = self.text(place).sql();
                statement.values.reserve(count * self.columns);
                for row in rows.by_ref().take(count) {
                    statement.values.extend(row.values);
                }
                statements.push(statement);
            }
        }
        statements
    }

    fn text(&'static self, place: usize) -> Both {
        let [sqlite, postgres] = self.texts[place].get_or_init(|| {
            [
                self.with_places(COUNTS[place], |_| "?".to_owned()),
                self.with_places(COUNTS[place], |it| format!("${it}")),
            ]
        });
        Both { sqlite, postgres }
    }

    /// The text for so many rows; `place` writes the place of a value, counted from 1.
    fn with_places(&self, rows: usize, place: impl Fn(usize) -> String) -> String {
        let row = |it: usize| {
            let first = it * self.columns + 1;
            let places: Vec<String> = (first..first + self.columns).map(&place).collect();
            format!("({})", places.join(", "))
        };
        let rows: Vec<String> = (0..rows).map(row).collect();
        format!("{} VALUES {}", self.into, rows.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static PAIRS: Insert = Insert::new("INSERT INTO pairs (a, b)", 2);

    #[test]
    fn rows_go_in_their_order_and_in_few_statements() {
        let rows = (0..73_i64).map(|it| PAIRS.row().bind(it).bind(it)).collect();
        let statements = PAIRS.rows(rows);
        let counts: Vec<usize> = statements.iter().map(|it| it.values.len() / 2).collect();
        assert_eq!(counts, [64, 8, 1]);
        assert_eq!(statements[2].text.sqlite, "INSERT INTO pairs (a, b) VALUES (?, ?)");
        assert_eq!(statements[2].text.postgres, "INSERT INTO pairs (a, b) VALUES ($1, $2)");
        assert!(statements[1].text.postgres.ends_with("($13, $14), ($15, $16)"));
        assert!(matches!(statements[2].values[..], [crate::store::database::Value::Integer(Some(72)), _]));
    }
}
