//! For tests: records of their own, in either database.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tempfile::TempDir;

use crate::store::cluster::Cluster;
use crate::store::database::{Pool, Statement};
use crate::store::{Protection, Store};

/// A database to hold a promise against.
#[derive(Clone)]
pub(crate) enum On {
    Sqlite,
    Postgres(Arc<Cluster>),
}

/// A store of its own.
pub(crate) struct Place {
    pub(crate) directory: TempDir,
    pub(crate) store: Store,
    url: Option<String>,
}

impl On {
    /// `None`, said on stderr, where its programs are missing. Where `AEGIS_TEST_REQUIRE` names `postgres` they must not be.
    pub(crate) fn postgres() -> Option<Self> {
        if let Some(cluster) = Cluster::start() {
            return Some(Self::Postgres(Arc::new(cluster)));
        }
        let required = std::env::var("AEGIS_TEST_REQUIRE").unwrap_or_default();
        let required = required.split(',').any(|it| it == "postgres");
        assert!(!required, "PostgreSQL is missing: `packaging/bootstrap.sh test` installs it");
        eprintln!("skipped: PostgreSQL is not installed");
        None
    }
}

impl Place {
    pub(crate) async fn new(on: &On) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = match on {
            On::Sqlite => None,
            On::Postgres(cluster) => Some(cluster.url().await),
        };
        let store = open(&directory, url.as_deref()).await;
        Self { directory, store, url }
    }

    /// The same records, as another process has them.
    pub(crate) async fn another(&self) -> Store {
        open(&self.directory, self.url.as_deref()).await
    }

    /// How to open the same records in another task.
    pub(crate) fn opener(&self) -> impl Future<Output = Store> + Send + use<> {
        let (directory, url) = (self.directory.path().to_owned(), self.url.clone());
        async move {
            match url {
                None => Store::open(&directory).await.expect("it opens"),
                Some(url) => Store::connect(&url, Protection::Proven).await.expect("it connects"),
            }
        }
    }

    /// Lets this much time pass, for this store.
    pub(crate) fn pass(&self, ms: i64) {
        self.store.books.offset_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Makes it this time for this store.
    pub(crate) fn stand_at(&self, wall_ms: i64) {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let now_ms = i64::try_from(since.as_millis()).expect("small");
        self.store.books.offset_ms.store(wall_ms - now_ms, Ordering::Relaxed);
    }

    /// A single number of the database.
    pub(crate) async fn number(&self, statement: Statement) -> i64 {
        let rows: Vec<(i64,)> = self.store.books.database.all(statement).await.expect("read");
        rows.first().expect("a row").0
    }
}

impl Store {
    /// SQLite itself, where a test asks it.
    pub(crate) fn sqlite(&self) -> &sqlx::SqlitePool {
        match &self.books.database.pool {
            Pool::Sqlite(pool) => pool,
            Pool::Postgres(_) => panic!("a state directory holds SQLite"),
        }
    }
}

async fn open(directory: &TempDir, url: Option<&str>) -> Store {
    match url {
        None => Store::open(directory.path()).await.expect("it opens"),
        Some(url) => Store::connect(url, Protection::Proven).await.expect("it connects"),
    }
}

/// Each promise is a test on SQLite; on PostgreSQL they are one test, that shares a server.
macro_rules! on_both {
    ($($promise:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $promise() {
                    super::$promise(crate::store::place::On::Sqlite).await;
                }
            )+
        }

        mod postgres {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn heavy_the_same_promises_hold() {
                let Some(on) = crate::store::place::On::postgres() else { return };
                $(
                    eprintln!("{}", stringify!($promise));
                    super::$promise(on.clone()).await;
                )+
            }
        }
    };
}

pub(crate) use on_both;
