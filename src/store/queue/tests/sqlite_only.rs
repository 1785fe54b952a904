//! What only SQLite promises: owners of this machine, and plans that do not grow with the queue.

use crate::queue::{Queue, Reached, Settled, fixture};
use crate::store::database::Pool;
use crate::store::place::On;
use crate::store::queue::claim::FIRST;
use crate::store::queue::tests::Desk;

#[tokio::test]
async fn the_lease_of_a_dead_owner_is_over_at_once() {
    let desk = Desk::new(&On::Sqlite).await;
    let fence = desk.leased(fixture::new("a"), Reached::Unreleased).await;
    let Desk { place, worker: _, _lock: lock } = desk;
    assert_eq!(place.store.expire(100).await.expect("asked"), []);
    drop(lock);
    let expired = place.store.expire(100).await.expect("asked");
    assert_eq!(expired.len(), 1);
    assert_eq!(expired[0].fence, fence);
    assert!(matches!(expired[0].settled, Settled::Again { .. }));
}

#[tokio::test]
async fn the_first_run_of_a_lane_is_one_step_through_an_index() {
    let desk = Desk::new(&On::Sqlite).await;
    let Pool::Sqlite(pool) = &desk.place.store.books.database.pool else { panic!("SQLite") };
    for (statement, index) in [
        (FIRST.sqlite, "queue_ready"),
        ("SELECT min(lane) FROM queue WHERE stage = 'ready' AND lane > 'x'", "queue_ready"),
        ("SELECT count(*) FROM queue WHERE stage = 'leased' AND project = 'x'", "queue_leased"),
        ("SELECT run_id FROM queue WHERE stage = 'delayed' AND not_before_ms <= 5 LIMIT 1", "queue_delayed"),
        (
            "SELECT seq FROM queue WHERE project = 'a' AND concurrency_key = 'k' AND concurrency_key IS NOT NULL \
             AND stage IN ('held', 'ready') ORDER BY priority DESC, seq LIMIT 1",
            "queue_keys",
        ),
        (
            "SELECT concurrency_limit FROM queue WHERE project = 'a' AND concurrency_key = 'k' \
             AND concurrency_key IS NOT NULL AND stage IN ('held', 'ready', 'leased') \
             ORDER BY concurrency_limit LIMIT 1",
            "queue_key_limits",
        ),
    ] {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(explain).fetch_all(pool).await.expect("explained");
        let plan: Vec<String> = plan.into_iter().map(|it| it.3).collect();
        assert!(plan.iter().any(|it| it.contains(index)), "{statement}: {plan:?}");
        assert!(!plan.iter().any(|it| it.contains("TEMP B-TREE")), "{statement}: {plan:?}");
    }
}
