//! Pages of runs. A project has an index of its own, so that its pages cost the same beside a million runs of others.

use crate::record::page::{Listed, PageFilter, Pages};
use crate::record::{Pending, RecordError};
use crate::store::Store;
use crate::store::books::Books;
use crate::store::database::Both;
use crate::store::row::PageRow;
use crate::task::RunState;

/// Of one project: `$1`.
const OF_PROJECT: Both = Both {
    sqlite: "SELECT id, name, labels, command, image, policy_name, state, outcome, outcome_detail, created_ms, released_ms, \
             ended_ms, project FROM runs WHERE project = $1 AND ($2 IS NULL OR state = $2) AND ($3 IS NULL OR id < $3) \
             AND ($4 IS NULL OR EXISTS (SELECT 1 FROM json_each(labels) AS it WHERE it.value ->> 0 = $4 AND it.value ->> 1 = $5)) \
             ORDER BY id DESC LIMIT $6",
    postgres: "SELECT id, name, labels, command, image, policy_name, state, outcome, outcome_detail, created_ms, released_ms, \
               ended_ms, project FROM runs WHERE project = $1 AND ($2::text IS NULL OR state = $2) \
               AND ($3::text IS NULL OR id < $3) AND ($4::text IS NULL OR EXISTS (SELECT 1 FROM \
               json_array_elements(labels::json) AS it WHERE it ->> 0 = $4 AND it ->> 1 = $5)) ORDER BY id DESC LIMIT $6",
};

/// Of every one, and of none; `$1` is not asked.
const OF_ALL: Both = Both {
    sqlite: "SELECT id, name, labels, command, image, policy_name, state, outcome, outcome_detail, created_ms, released_ms, \
             ended_ms, project FROM runs WHERE $1 IS NULL AND ($2 IS NULL OR state = $2) AND ($3 IS NULL OR id < $3) \
             AND ($4 IS NULL OR EXISTS (SELECT 1 FROM json_each(labels) AS it WHERE it.value ->> 0 = $4 AND it.value ->> 1 = $5)) \
             ORDER BY id DESC LIMIT $6",
    postgres: "SELECT id, name, labels, command, image, policy_name, state, outcome, outcome_detail, created_ms, released_ms, \
               ended_ms, project FROM runs WHERE $1::text IS NULL AND ($2::text IS NULL OR state = $2) \
               AND ($3::text IS NULL OR id < $3) AND ($4::text IS NULL OR EXISTS (SELECT 1 FROM \
               json_array_elements(labels::json) AS it WHERE it ->> 0 = $4 AND it ->> 1 = $5)) ORDER BY id DESC LIMIT $6",
};

impl Books {
    async fn look_page(&self, filter: &PageFilter, count_max: u32) -> Result<Vec<Listed>, RecordError> {
        let PageFilter { project, state, label, before } = filter;
        let text = if project.is_some() { OF_PROJECT } else { OF_ALL };
        let (key, value) = label.clone().unzip();
        let select =
            text.sql().bind(project).bind(state.map(RunState::name)).bind(before.map(|it| it.to_string()));
        let rows: Vec<PageRow> = self.database.all(select.bind(key).bind(value).bind(count_max)).await?;
        rows.into_iter().map(|it| it.listed(&self.database.place)).collect()
    }
}

impl Pages for Store {
    fn page<'a>(&'a self, filter: &'a PageFilter, count_max: u32) -> Pending<'a, Vec<Listed>> {
        Box::pin(self.books.look_page(filter, count_max))
    }
}
