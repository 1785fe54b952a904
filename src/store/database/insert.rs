//! Inserts of many rows: one way to the database for dozens of them. What a submission costs is mostly the way there and back,
//! a statement each. The texts are made once for a few counts of rows, so that they stay prepared.

use std::sync::OnceLock;

use crate::store::database::{Statement, sql};

/// Rows that go together, from many to one. 64 rows of the widest table stay far below the values that a statement may have.
const COUNTS: [usize; 3] = [64, 8, 1];

/// An insert into some columns of a table.
pub(crate) struct Insert {
    /// `INSERT INTO table (columns)`.
    into: &'static str,
    columns: usize,
    texts: [OnceLock<String>; COUNTS.len()],
}

impl Insert {
    /// Takes the text up to its values, and the number of columns that it names.
    pub(crate) const fn new(into: &'static str, columns: usize) -> Self {
        Self { into, columns, texts: [const { OnceLock::new() }; COUNTS.len()] }
    }

    /// One row, whose values are bound in order.
    pub(crate) fn row(&'static self) -> Statement {
        sql(self.text(COUNTS.len() - 1))
    }

    /// Rows that [`Self::row`] began, in as few statements as there are counts for.
    pub(crate) fn rows(&'static self, rows: Vec<Statement>) -> Vec<Statement> {
        let mut statements = Vec::new();
        let mut left = rows.len();
        let mut rows = rows.into_iter();
        for (place, count) in COUNTS.into_iter().enumerate() {
            while left >= count {
                left -= count;
                let mut statement = sql(self.text(place));
                statement.values.reserve(count * self.columns);
                for row in rows.by_ref().take(count) {
                    statement.values.extend(row.values);
                }
                statements.push(statement);
            }
        }
        statements
    }

    fn text(&'static self, place: usize) -> &'static str {
        self.texts[place].get_or_init(|| {
            let rows: Vec<String> = (0..COUNTS[place]).map(|it| self.placeholders(it)).collect();
            format!("{} VALUES {}", self.into, rows.join(", "))
        })
    }

    fn placeholders(&self, row: usize) -> String {
        let first = row * self.columns + 1;
        let places: Vec<String> = (first..first + self.columns).map(|it| format!("${it}")).collect();
        format!("({})", places.join(", "))
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
        assert_eq!(statements[2].text.sqlite, "INSERT INTO pairs (a, b) VALUES ($1, $2)");
        assert!(statements[1].text.postgres.ends_with("($13, $14), ($15, $16)"));
        assert!(matches!(statements[2].values[..], [crate::store::database::Value::Integer(Some(72)), _]));
    }
}
