//! One way to speak to both databases: static SQL with `$1`, values bound in order, rows read into plain types. What the
//! two do not say alike is a pair of texts, picked by the transaction. Every failure already names the records' place.

mod insert;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, PgPool, Postgres, SqlSafeStr, Sqlite, SqlitePool, Transaction};

use crate::record::RecordError;
use crate::store::failure;

pub(crate) use insert::Insert;

/// How long an answer of a PostgreSQL server is waited for: longer than the server's own limits for a statement.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);

/// How long the last connections are waited for: what is recorded is recorded, and a server that stopped answering is left to
/// its own end of them.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a transaction survives once it is told as applied. Either way a later reader sees all of it or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The machine: it is synced to the disk (half a millisecond to several). A run's acceptance and its outcome.
    PowerCut,
    /// This process and every other: the steps between. After a power cut no sandbox of this machine is left, so that
    /// the run is found as its owner's orphan whichever of them it shows. PostgreSQL may lose power without its
    /// workers: there everything is synced.
    Crash,
}

/// The database of one server, or of one state directory.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) pool: Pool,
    /// The file, or the server's address without its password: for messages.
    pub(crate) place: Arc<Path>,
}

/// The connections.
#[derive(Debug, Clone)]
pub(crate) enum Pool {
    /// One connection: SQLite has one writer, and a run reads little.
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// A transaction.
pub(crate) struct Tx {
    inner: Inner,
    place: Arc<Path>,
}

enum Inner {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// A text for each database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Both {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

/// A statement with its values.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    text: Both,
    values: Vec<Value>,
}

/// A value of a statement.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Integer(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    Fact(Option<bool>),
}

/// What a row of either database is read into.
pub(crate) trait Decoded:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T> Decoded for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

/// A statement that both databases read alike.
pub(crate) fn sql(text: &'static str) -> Statement {
    Both { sqlite: text, postgres: text }.sql()
}

impl Both {
    pub(crate) fn sql(self) -> Statement {
        Statement { text: self, values: Vec::new() }
    }
}

impl Statement {
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }
}

/// Binds the values to a query of either driver.
macro_rules! bound {
    ($query:expr, $values:expr) => {{
        let mut query = $query;
        for value in $values {
            query = match value {
                Value::Integer(it) => query.bind(it),
                Value::Text(it) => query.bind(it),
                Value::Bytes(it) => query.bind(it),
                Value::Fact(it) => query.bind(it),
            };
        }
        query
    }};
}

impl Tx {
    /// How many rows it changed.
    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<u64, RecordError> {
        let Statement { text, values } = statement;
        match &mut self.inner {
            Inner::Sqlite(tx) => {
                let query = bound!(sqlx::query::<Sqlite>(text.sqlite), values);
                query.execute(&mut **tx).await.map(|it| it.rows_affected())
            }
            Inner::Postgres(tx) => {
                let query = bound!(sqlx::query::<Postgres>(text.postgres), values);
                in_time(query.execute(&mut **tx)).await.map(|it| it.rows_affected())
            }
        }
        .map_err(|err| failure::of(&self.place, err))
    }

    pub(crate) async fn all<T: Decoded>(&mut self, statement: Statement) -> Result<Vec<T>, RecordError> {
        let Statement { text, values } = statement;
        match &mut self.inner {
            Inner::Sqlite(tx) => {
                bound!(sqlx::query_as::<Sqlite, T>(text.sqlite), values).fetch_all(&mut **tx).await
            }
            Inner::Postgres(tx) => {
                let query = bound!(sqlx::query_as::<Postgres, T>(text.postgres), values);
                in_time(query.fetch_all(&mut **tx)).await
            }
        }
        .map_err(|err| failure::of(&self.place, err))
    }

    /// The first row, where there is one.
    pub(crate) async fn first<T: Decoded>(&mut self, statement: Statement) -> Result<Option<T>, RecordError> {
        Ok(self.all(statement).await?.into_iter().next())
    }

    pub(crate) async fn commit(self) -> Result<(), RecordError> {
        match self.inner {
            Inner::Sqlite(tx) => tx.commit().await,
            Inner::Postgres(tx) => in_time(tx.commit()).await,
        }
        .map_err(|err| failure::of(&self.place, err))
    }

    pub(crate) async fn rollback(self) -> Result<(), RecordError> {
        match self.inner {
            Inner::Sqlite(tx) => tx.rollback().await,
            Inner::Postgres(tx) => in_time(tx.rollback()).await,
        }
        .map_err(|err| failure::of(&self.place, err))
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.inner, Inner::Postgres(_))
    }
}

impl Database {
    /// Begins to write.
    pub(crate) async fn begin(&self, durability: Durability) -> Result<Tx, RecordError> {
        let inner = match &self.pool {
            Pool::Sqlite(pool) => begin_sqlite(pool, durability).await.map(Inner::Sqlite),
            Pool::Postgres(pool) => in_time(pool.begin()).await.map(Inner::Postgres),
        };
        let inner = inner.map_err(|err| failure::of(&self.place, err))?;
        Ok(Tx { inner, place: Arc::clone(&self.place) })
    }

    /// Begins to look: everything that is read in it belongs together.
    pub(crate) async fn look(&self) -> Result<Tx, RecordError> {
        let inner = match &self.pool {
            Pool::Sqlite(pool) => pool.begin().await.map(Inner::Sqlite),
            Pool::Postgres(pool) => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                in_time(pool.begin_with(begin)).await.map(Inner::Postgres)
            }
        };
        let inner = inner.map_err(|err| failure::of(&self.place, err))?;
        Ok(Tx { inner, place: Arc::clone(&self.place) })
    }

    /// The rows of one look.
    pub(crate) async fn all<T: Decoded>(&self, statement: Statement) -> Result<Vec<T>, RecordError> {
        let Statement { text, values } = statement;
        match &self.pool {
            Pool::Sqlite(pool) => {
                bound!(sqlx::query_as::<Sqlite, T>(text.sqlite), values).fetch_all(pool).await
            }
            Pool::Postgres(pool) => {
                in_time(bound!(sqlx::query_as::<Postgres, T>(text.postgres), values).fetch_all(pool)).await
            }
        }
        .map_err(|err| failure::of(&self.place, err))
    }

    pub(crate) async fn close(&self) {
        match &self.pool {
            Pool::Sqlite(pool) => pool.close().await,
            Pool::Postgres(pool) => {
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, pool.close()).await;
            }
        }
    }
}

async fn begin_sqlite(
    pool: &SqlitePool,
    durability: Durability,
) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
    match try_begin_sqlite(pool, durability).await {
        // After some failures (a full disk) SQLite ends a transaction by itself; the driver goes on counting it, and
        // the connection can begin no other. A new one can.
        Err(sqlx::Error::InvalidSavePointStatement) => {
            pool.acquire().await?.close().await?;
            try_begin_sqlite(pool, durability).await
        }
        begun => begun,
    }
}

async fn try_begin_sqlite(
    pool: &SqlitePool,
    durability: Durability,
) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let pragma = match durability {
        Durability::PowerCut => "PRAGMA synchronous = FULL",
        Durability::Crash => "PRAGMA synchronous = NORMAL",
    };
    sqlx::query(pragma).execute(&mut *connection).await?;
    // A deferred transaction that turns into a writer fails at once where another one writes.
    Transaction::begin(connection, Some("BEGIN IMMEDIATE".into_sql_str())).await
}

/// A server that stopped answering is told as one that cannot be reached.
async fn in_time<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(Some(value.into()))
    }
}

/// Both databases' integers are signed; what is counted here stays below 2^63.
impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Integer(Some(i64::try_from(value).unwrap_or(i64::MAX)))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(Some(value.clone()))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(str::to_owned))
    }
}

impl From<&Option<String>> for Value {
    fn from(value: &Option<String>) -> Self {
        Self::Text(value.clone())
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(Some(value.to_vec()))
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(Some(value))
    }
}

impl From<Option<Vec<u8>>> for Value {
    fn from(value: Option<Vec<u8>>) -> Self {
        Self::Bytes(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Fact(Some(value))
    }
}

impl From<Option<bool>> for Value {
    fn from(value: Option<bool>) -> Self {
        Self::Fact(value)
    }
}

impl From<crate::task::RunId> for Value {
    fn from(value: crate::task::RunId) -> Self {
        Self::Text(Some(value.to_string()))
    }
}
