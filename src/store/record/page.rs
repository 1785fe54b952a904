//! Pages of runs. Each text walks the index that fits what is asked for most narrowly.

use crate::record::page::{Listed, PAGE_MAX, PageFilter, Runs};
use crate::record::{Pending, RecordError};
use crate::store::books::Books;
use crate::store::database::{Statement, sql};
use crate::store::row::ListedRow;
use crate::store::{Store, json as column};
use crate::task::{RunId, RunState};

impl Runs for Store {
    fn project_of(&self, run: RunId) -> Pending<'_, Option<String>> {
        Box::pin(self.books.project_of(run))
    }

    fn page<'a>(&'a self, filter: &'a PageFilter, count_max: u32) -> Pending<'a, Vec<Listed>> {
        Box::pin(self.books.page(filter, count_max))
    }
}

impl Books {
    async fn project_of(&self, run: RunId) -> Result<Option<String>, RecordError> {
        let select = sql("SELECT project FROM runs WHERE id = $1").bind(run);
        let rows: Vec<(Option<String>,)> = self.database.all(select).await?;
        Ok(rows.into_iter().next().and_then(|it| it.0))
    }

    async fn page(&self, filter: &PageFilter, count_max: u32) -> Result<Vec<Listed>, RecordError> {
        // A pair of the column's list, as it is written there: inside of another text its quotes would be escaped.
        let label = filter.label.as_ref().map(column::text).transpose();
        let label = label.map_err(|err| self.unencodable(err))?;
        let select = select(filter)
            .bind(count_max.min(PAGE_MAX))
            .bind(filter.before.map(|it| it.to_string()))
            .bind(filter.state.map(RunState::name))
            .bind(label);
        let select = match &filter.project {
            Some(project) => select.bind(project),
            None => select,
        };
        let rows: Vec<ListedRow> = self.database.all(select).await?;
        rows.into_iter().map(|it| it.listed(&self.database.place)).collect()
    }
}

fn select(filter: &PageFilter) -> Statement {
    let active = filter.state.is_some_and(|it| it != RunState::Done);
    match (&filter.project, active) {
        (None, false) => sql(
            "SELECT id, name, labels, command, image, policy_name, state, outcome, outcome_detail, created_ms, \
             released_ms, ended_ms, project FROM runs WHERE (CAST($2 AS TEXT) IS NULL OR id < $2) \
             AND (CAST($3 AS TEXT) IS NULL OR state = $3) \
             AND (CAST($4 AS TEXT) IS NULL OR replace(labels, $4, '') <> labels) ORDER BY id DESC LIMIT $1",
        ),
        (None, true) => sql(
            "SELECT id, name, labels, command, image, policy_name, state, outcome, outcome_detail, created_ms, \
             released_ms, ended_ms, project FROM runs WHERE (CAST($2 AS TEXT) IS NULL OR id < $2) \
             AND state <> 'done' AND state = $3 \
             AND (CAST($4 AS TEXT) IS NULL OR replace(labels, $4, '') <> labels) ORDER BY id DESC LIMIT $1",
        ),
        (Some(_), false) => sql(
            "SELECT id, name, labels, command, image, policy_name, state, outcome, outcome_detail, created_ms, \
             released_ms, ended_ms, project FROM runs WHERE (CAST($2 AS TEXT) IS NULL OR id < $2) \
             AND (CAST($3 AS TEXT) IS NULL OR state = $3) \
             AND (CAST($4 AS TEXT) IS NULL OR replace(labels, $4, '') <> labels) \
             AND project = $5 ORDER BY id DESC LIMIT $1",
        ),
        (Some(_), true) => sql(
            "SELECT id, name, labels, command, image, policy_name, state, outcome, outcome_detail, created_ms, \
             released_ms, ended_ms, project FROM runs WHERE (CAST($2 AS TEXT) IS NULL OR id < $2) \
             AND state <> 'done' AND state = $3 \
             AND (CAST($4 AS TEXT) IS NULL OR replace(labels, $4, '') <> labels) \
             AND project = $5 ORDER BY id DESC LIMIT $1",
        ),
    }
}
