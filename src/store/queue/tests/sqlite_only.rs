//! What only SQLite promises: owners of this machine, and plans that do not grow with the queue.

use crate::queue::{Queue, Reached, Settled, fixture};
use crate::store::database::{Durability, Pool, sql};
use crate::store::place::On;
use crate::store::queue::claim::FIRST;
use crate::store::queue::tests::Desk;
use crate::task::Outcome;

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

#[tokio::test]
async fn what_another_version_submitted_ends_and_stands_in_nobodys_way() {
    let desk = Desk::new(&On::Sqlite).await;
    let unreadable = desk.one("a").await;
    let run = desk.one("a").await;
    let mut tx = desk.place.store.books.begin(Durability::Crash).await.expect("begun");
    let change = sql("UPDATE queue SET submission = '{\"later\":1}' WHERE run_id = $1");
    tx.execute(change.bind(unreadable)).await.expect("changed");
    tx.commit().await.expect("changed");
    assert_eq!(desk.claimed().await, [run]);
    assert!(matches!(desk.outcome(unreadable).await, Some(Outcome::StartFailed { .. })));
}
