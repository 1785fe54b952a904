//! Where a run stands: how many of its project's come before it, by priority and age. Counted within a bound, by ranges of
//! the index: what comes later costs nothing.

use crate::queue::PLACE_MAX;
use crate::record::RecordError;
use crate::store::books::Books;
use crate::store::database::sql;
use crate::store::json as column;
use crate::store::queue::claim::LANES;
use crate::task::RunId;

/// Runs of a lane that are more urgent.
const URGENT: &str = "SELECT count(*) FROM (SELECT run_id FROM queue \
     WHERE lane = $1 AND stage = 'ready' AND priority > $2 LIMIT $3) AS ahead";
/// Runs of a lane that are as urgent, and older.
const OLDER: &str = "SELECT count(*) FROM (SELECT run_id FROM queue \
     WHERE lane = $1 AND stage = 'ready' AND priority = $2 AND seq < $4 LIMIT $3) AS ahead";

impl Books {
    pub(crate) async fn place(&self, run: RunId) -> Result<Option<u32>, RecordError> {
        let row =
            sql("SELECT project, priority, seq FROM queue WHERE run_id = $1 AND stage = 'ready'").bind(run);
        let rows: Vec<(String, i64, i64)> = self.database.all(row).await?;
        let Some((project, priority, seq)) = rows.into_iter().next() else { return Ok(None) };
        let mut place = 1;
        for (lane,) in self.database.all::<(String,)>(sql(LANES)).await? {
            let (of, _): (String, Vec<(String, String)>) =
                column::value(&lane).ok_or_else(|| self.undecodable(&lane, "lane"))?;
            if of != project {
                continue;
            }
            let urgent = sql(URGENT).bind(&lane).bind(priority).bind(i64::from(PLACE_MAX));
            let older = sql(OLDER).bind(&lane).bind(priority).bind(i64::from(PLACE_MAX)).bind(seq);
            for count in [urgent, older] {
                let counted: Vec<(i64,)> = self.database.all(count).await?;
                place += counted.first().map_or(0, |it| it.0);
            }
            if place >= i64::from(PLACE_MAX) {
                return Ok(Some(PLACE_MAX));
            }
        }
        Ok(u32::try_from(place).ok())
    }
}
