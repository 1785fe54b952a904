//! Connecting to a PostgreSQL server: one that is new enough, over TLS wherever another machine lies between.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, PgPool, Postgres};

use crate::store::OpenError;
use crate::store::database::{Database, Pool};
use crate::store::failure;

/// Connections of one process at the most; one of them listens.
const CONNECTIONS_MAX: u32 = 16;
/// How long a free connection is waited for.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// The oldest server, as `server_version_num` has it.
const OLDEST: i64 = 130_000;
/// What holds for our sessions, whatever the server's own settings are. Limits that it keeps by itself: a client that hangs
/// holds no lock for ever. And what it acknowledges is on its disk.
const SESSION: [(&str, &str); 5] = [
    ("statement_timeout", "30s"),
    ("lock_timeout", "20s"),
    ("idle_in_transaction_session_timeout", "60s"),
    ("default_transaction_isolation", "read committed"),
    ("synchronous_commit", "on"),
];

static MIGRATOR: Migrator = sqlx::migrate!("migrations/postgres");

/// What a server beyond this machine must do before it is given a password and the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Prove by its certificate that it is the one that the URL names.
    Proven,
    /// Nothing: something else protects the way to it.
    Elsewhere,
}

/// Connects, and brings the schema forward where it is older.
pub(crate) async fn connect(url: &str, protection: Protection) -> Result<Database, OpenError> {
    let options = options(url, protection)?;
    let place: Arc<std::path::Path> = PathBuf::from(shown(&options)).into();
    let failed = |err| OpenError::Records(failure::of(&place, err));
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options)
        .await
        .map_err(failed)?;
    bring_forward(&place, &pool).await?;
    Ok(Database { pool: Pool::Postgres(pool), place })
}

/// The options of a URL, refused where passwords and records would go over a network unprotected.
fn options(url: &str, protection: Protection) -> Result<PgConnectOptions, OpenError> {
    let is_postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
    // The driver's own message may hold the whole URL, and with it the password.
    let options = PgConnectOptions::from_str(url).ok().filter(|_| is_postgres).ok_or(OpenError::Url)?;
    let options = options.options(SESSION).application_name("aegis").disable_statement_logging();
    if is_local(&options) || protection == Protection::Elsewhere {
        return Ok(options);
    }
    match options.get_ssl_mode() {
        PgSslMode::VerifyFull => Ok(options),
        // With `require` the way is encrypted to whoever is at its end; with `verify-ca` that may be anybody whom the
        // authority knows.
        PgSslMode::Disable
        | PgSslMode::Allow
        | PgSslMode::Prefer
        | PgSslMode::Require
        | PgSslMode::VerifyCa => Err(OpenError::Unprotected { host: options.get_host().to_owned() }),
    }
}

fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

/// The server's address as messages have it: without its password.
fn shown(options: &PgConnectOptions) -> String {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    format!("postgresql://{}@{host}/{}", options.get_username(), options.get_database().unwrap_or_default())
}

async fn bring_forward(place: &std::path::Path, pool: &PgPool) -> Result<(), OpenError> {
    let failed = |err| OpenError::Records(failure::of(place, err));
    let mut connection = pool.acquire().await.map_err(failed)?;
    let version: i64 = sqlx::query_scalar("SELECT CAST(current_setting('server_version_num') AS BIGINT)")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if version < OLDEST {
        return Err(OpenError::OldServer { place: place.to_owned(), version: version / 10_000 });
    }
    let schema = schema_of(&mut connection).await.map_err(failed)?;
    let known = MIGRATOR.iter().map(|it| it.version).max().unwrap_or(0);
    if schema > known {
        return Err(OpenError::Newer { place: place.to_owned(), schema, known });
    }
    if schema == known {
        return Ok(());
    }
    // One process at a time, each migration in a transaction of its own.
    match MIGRATOR.run_direct(None, &mut *connection, false).await {
        Ok(()) => Ok(()),
        Err(MigrateError::Execute(err)) => Err(failed(err)),
        Err(err) => Err(OpenError::Migration { place: place.to_owned(), source: Box::new(err) }),
    }
}

/// 0 where nothing of ours is there.
async fn schema_of(connection: &mut PoolConnection<Postgres>) -> Result<i64, sqlx::Error> {
    let made: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut **connection)
        .await?;
    if !made {
        return Ok(0);
    }
    let newest: Option<i64> =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut **connection).await?;
    Ok(newest.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, refusal: Option<&str>) {
        match (options(url, Protection::Proven), refusal) {
            (Ok(_), None) => {}
            (Err(err), Some(text)) => assert!(err.to_string().contains(text), "{err}"),
            (Ok(_), Some(text)) => panic!("`{url}` was taken, not refused with `{text}`"),
            (Err(err), None) => panic!("`{url}` was refused: {err}"),
        }
    }

    #[test]
    fn a_server_on_this_machine_needs_no_tls() {
        check("postgresql://aegis@127.0.0.1/aegis", None);
        check("postgresql://aegis@localhost/aegis", None);
        check("postgresql://aegis@%2Frun%2Fpostgresql/aegis", None);
    }

    #[test]
    fn a_server_beyond_this_machine_is_refused_without_tls() {
        for mode in ["", "prefer", "allow", "disable", "require", "verify-ca"] {
            let mode = if mode.is_empty() { String::new() } else { format!("?sslmode={mode}") };
            let url = format!("postgresql://aegis@db.example.org/aegis{mode}");
            check(&url, Some("`db.example.org` is not this machine: add `?sslmode=verify-full`"));
        }
        check("postgresql://aegis@db.example.org/aegis?sslmode=verify-full", None);
    }

    #[test]
    fn an_operator_may_say_that_the_way_is_protected_otherwise() {
        let url = "postgresql://aegis@db.example.org/aegis?sslmode=disable";
        assert!(options(url, Protection::Elsewhere).is_ok());
        assert!(options("mysql://db.example.org/aegis", Protection::Elsewhere).is_err());
    }

    #[test]
    fn a_name_that_begins_like_this_machine_is_another() {
        check("postgresql://aegis@localhost.example.org/aegis", Some("is not this machine"));
        check("postgresql://aegis@127.0.0.1.example.org/aegis", Some("is not this machine"));
    }

    #[test]
    fn what_is_no_url_is_refused_without_repeating_it() {
        for url in ["mysql://aegis:geheim@db.example.org/aegis", "postgresql://aegis:geheim@[::/aegis"] {
            let refusal = options(url, Protection::Proven).expect_err("refused").to_string();
            assert!(!refusal.contains("geheim"), "{refusal}");
        }
    }

    #[test]
    fn a_password_is_not_part_of_messages() {
        let url = "postgresql://aegis:geheim@127.0.0.1:5433/books";
        let options = options(url, Protection::Proven).expect("taken");
        assert_eq!(shown(&options), "postgresql://aegis@127.0.0.1:5433/books");
    }
}
