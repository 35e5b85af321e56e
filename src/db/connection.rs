//! A connection to either database: opening, settings, transactions and checks at the start.
#![allow(missing_docs, reason = "the derived MultiConnection has items without")]

use std::fmt;
use std::sync::Arc;

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::prelude::*;
use diesel::r2d2::R2D2Connection;
use diesel::sql_types::{Bool, Text};

use super::file::SqliteFile;
use crate::config::Database;
use crate::error::{Error, Result};
use crate::exit::Exit;

/// A connection to SQLite or PostgreSQL. Queries are written once for both.
#[derive(diesel::MultiConnection)]
pub enum Conn {
    /// The embedded database of one node.
    Sqlite(SqliteConnection),
    /// The database that several nodes share.
    Postgres(PgConnection),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    /// Reads without a time limit, for updating the directory.
    Sync,
}

/// Opens connections for a pool.
///
/// Diesel's own manager cannot be used: its `establish` on a [`Conn`] takes any string for a SQLite path.
pub(super) struct Manager {
    pub(super) database: Database,
    pub(super) access: Access,
    /// The file that this server uses. A connection is refused if another file has taken its path.
    pub(super) file: Option<Arc<SqliteFile>>,
}

impl r2d2::ManageConnection for Manager {
    type Connection = Conn;
    type Error = Unusable;

    fn connect(&self) -> std::result::Result<Conn, Unusable> {
        if self.file.as_ref().is_none_or(|file| file.is_intact()) {
            establish(&self.database, self.access)
        } else {
            Err(Unusable("the file was moved or replaced".to_owned()))
        }
    }

    fn is_valid(&self, conn: &mut Conn) -> std::result::Result<(), Unusable> {
        match conn {
            // A file does not disconnect.
            Conn::Sqlite(_) => Ok(()),
            Conn::Postgres(conn) => conn.ping().map_err(|error| Unusable(error.to_string())),
        }
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        match conn {
            Conn::Sqlite(conn) => conn.is_broken(),
            Conn::Postgres(conn) => conn.is_broken(),
        }
    }
}

/// Why a connection could not be opened, in the words of the database.
#[derive(Debug)]
pub(super) struct Unusable(String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim())
    }
}

impl std::error::Error for Unusable {}

/// Opens a connection and applies the settings for its use.
pub(super) fn establish(database: &Database, access: Access) -> std::result::Result<Conn, Unusable> {
    let mut conn = match database {
        Database::Sqlite(path) => SqliteConnection::establish(&path.to_string_lossy()).map(Conn::Sqlite),
        Database::Postgres(url) => PgConnection::establish(&with_timeouts(url.reveal())).map(Conn::Postgres),
    }
    .map_err(|error| Unusable(error.to_string()))?;
    let setup = match (&conn, access) {
        (Conn::Sqlite(_), Access::Read | Access::Sync) => [SQLITE, &["PRAGMA query_only = 1"]].concat(),
        (Conn::Sqlite(_), Access::Write) => SQLITE.to_vec(),
        (Conn::Postgres(_), Access::Sync) => Vec::new(),
        (Conn::Postgres(_), _) => POSTGRES.to_vec(),
    };
    for statement in setup {
        conn.batch_execute(statement).map_err(|error| Unusable(error.to_string()))?;
    }
    Ok(conn)
}

/// FULL, because an answered write must survive power loss, which NORMAL does not guarantee in WAL mode.
const SQLITE: &[&str] = &[
    "PRAGMA busy_timeout = 1000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    // Only the server moves the log into the file. See `super::witness`.
    "PRAGMA wal_autocheckpoint = 0",
    // A log that starts anew is cut to this size, so that its length shows whether it must be moved.
    "PRAGMA journal_size_limit = 1048576",
    "PRAGMA foreign_keys = ON",
];
/// A request must end within the time that its client is told to wait, and so must a lock, even when the database is slow.
const POSTGRES: &[&str] = &["SET statement_timeout = '1200ms'", "SET idle_in_transaction_session_timeout = '5s'"];

/// By default libpq waits forever, even for a server that vanished. Two seconds is the minimum for `connect_timeout`.
const TIMEOUTS: [(&str, &str); 5] = [
    ("connect_timeout", "2"),
    ("keepalives_idle", "2"),
    ("keepalives_interval", "1"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "5000"),
];

/// Returns the URL with the timeouts that it does not set itself.
fn with_timeouts(url: &str) -> String {
    let mut url = url.to_owned();
    for (name, value) in TIMEOUTS {
        if !url.contains(&format!("{name}=")) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&format!("{name}={value}"));
        }
    }
    url
}

impl Conn {
    /// Runs `work`, which must only read, on one snapshot of the database.
    pub(crate) fn in_snapshot<T>(&mut self, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        match self {
            Conn::Sqlite(conn) => AnsiTransactionManager::begin_transaction(conn)?,
            Conn::Postgres(conn) => {
                AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ")?;
            }
        }
        self.ended(work)
    }

    /// Runs `work` in one transaction. Fails with `CommitUnknown` if the connection was lost during the commit.
    ///
    /// On SQLite, the transaction takes the write lock at its beginning: one that reads first and writes later would
    /// fail instead of waiting.
    pub(super) fn in_transaction<T>(&mut self, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        match self {
            Conn::Sqlite(conn) => AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN IMMEDIATE")?,
            Conn::Postgres(conn) => AnsiTransactionManager::begin_transaction(conn)?,
        }
        let mut committing = false;
        let ended = self.ended(|conn| {
            let value = work(conn)?;
            committing = true;
            Ok(value)
        });
        match ended {
            Err(_) if committing && self.is_lost() => Err(Error::CommitUnknown),
            ended => ended,
        }
    }

    /// Returns whether the server no longer answers.
    fn is_lost(&mut self) -> bool {
        match self {
            Conn::Sqlite(_) => false,
            Conn::Postgres(conn) => conn.ping().is_err(),
        }
    }

    /// Runs `work` in the current transaction, then commits or rolls back.
    fn ended<T>(&mut self, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        match work(self) {
            Ok(value) => {
                <Conn as Connection>::TransactionManager::commit_transaction(self)?;
                Ok(value)
            }
            Err(error) => {
                if let Err(rollback) = <Conn as Connection>::TransactionManager::rollback_transaction(self) {
                    log::warn!("cannot roll back: {rollback}");
                }
                Err(error)
            }
        }
    }
}

/// Files larger than this are not checked at the start, which reads them completely.
pub(super) const MAX_CHECKED_AT_START: i64 = 64 << 20;

#[derive(QueryableByName)]
struct Finding {
    #[diesel(sql_type = Text)]
    quick_check: String,
}

/// Refuses a damaged SQLite file before anything is written to it. Files larger than `max_size` bytes are not checked.
pub(super) fn check_file(conn: &mut Conn, database: &Database, max_size: i64) -> std::result::Result<(), Exit> {
    let (Conn::Sqlite(conn), Database::Sqlite(path)) = (conn, database) else {
        return Ok(());
    };
    let size = std::fs::metadata(path).map_or(0, |file| file.len() as i64);
    if size > max_size {
        return Ok(());
    }
    let findings: Vec<Finding> = diesel::sql_query("PRAGMA quick_check(1)").load(conn).map_err(refused(database))?;
    match findings.into_iter().next() {
        Some(finding) if finding.quick_check != "ok" => Err(Refusal::Damaged.exit(database, &finding.quick_check)),
        _ => Ok(()),
    }
}

/// Why a database cannot be used at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Damaged,
    /// A row that only a newer version can read.
    Newer,
    Full,
    Forbidden,
    /// A pooler changes the session between transactions.
    Pooled,
    Away,
}

/// Parts of the messages by which a refusal is recognized.
const MESSAGES: [(Refusal, &[&str]); 5] = [
    (Refusal::Newer, &["which this gatebird does not know"]),
    (Refusal::Damaged, &["not a database", "malformed", "unsupported file format"]),
    (Refusal::Full, &["disk is full", "disk I/O error", "unable to open database file", "No space left on device"]),
    (Refusal::Forbidden, &["readonly database", "permission denied", "must be owner of", "not permitted to log in"]),
    // A statement that was prepared on one session is missing on another.
    (Refusal::Pooled, &["prepared statement", "statement pooling mode"]),
];

impl Refusal {
    pub(super) fn of(text: &str) -> Refusal {
        let known = MESSAGES.iter().find(|(_, words)| words.iter().any(|word| text.contains(word)));
        known.map_or(Refusal::Away, |(refusal, _)| *refusal)
    }

    /// Returns the exit for this refusal, with the words of the database.
    pub(super) fn exit(self, database: &Database, words: &str) -> Exit {
        match self {
            Refusal::Damaged => Exit::data(format!("{database:?} is damaged ({words}); restore it from a backup")),
            Refusal::Newer => {
                Exit::data(format!("{database:?} was used by a newer version: {words}; run that version"))
            }
            Refusal::Full => {
                Exit::cannot_create(format!("{database:?} cannot be written ({words}); is the disk full?"))
            }
            Refusal::Forbidden => {
                Exit::no_permission(format!("{database:?} denies a privilege that Gatebird needs: {words}"))
            }
            Refusal::Pooled => Exit::config(
                "DATABASE_URL names a pooler, such as pgbouncer, that changes a session's connection between transactions: set \
                 pool_mode = session, or name PostgreSQL itself",
            ),
            Refusal::Away => Exit::unavailable(format!("cannot use {database:?}: {words}; check DATABASE_URL")),
        }
    }
}

/// Returns a conversion from a database error at the start to an exit.
pub(super) fn refused<E: fmt::Display>(database: &Database) -> impl Fn(E) -> Exit {
    move |error| {
        let words = error.to_string();
        Refusal::of(&words).exit(database, &words)
    }
}

#[derive(QueryableByName)]
struct Server {
    #[diesel(sql_type = Text)]
    encoding: String,
    #[diesel(sql_type = Bool)]
    is_old: bool,
}

#[derive(QueryableByName)]
struct Backend {
    #[diesel(sql_type = Text)]
    backend: String,
}

/// Refuses a PostgreSQL server that is too old, has another encoding than UTF8, or is behind a pooler that changes
/// sessions.
pub(super) fn check_server(conn: &mut Conn, database: &Database) -> std::result::Result<(), Exit> {
    if let Conn::Sqlite(_) = conn {
        return Ok(());
    }
    let server = "SELECT current_setting('server_encoding') AS encoding,
        current_setting('server_version_num')::bigint < 120000 AS is_old";
    let server: Server = diesel::sql_query(server).get_result(conn).map_err(refused(database))?;
    if server.is_old {
        return Err(Exit::config("PostgreSQL 12 or newer is required"));
    }
    if server.encoding != "UTF8" {
        return Err(Exit::config(format!(
            "the database has the encoding {}, but names and posts need UTF8: create it with ENCODING 'UTF8' TEMPLATE template0",
            server.encoding
        )));
    }
    let backend = |conn: &mut Conn| {
        let query = "SELECT pid || ' ' || backend_start AS backend FROM pg_stat_activity WHERE pid = pg_backend_pid()";
        diesel::sql_query(query).get_result::<Backend>(conn).map_err(refused(database))
    };
    // While a session is open, no other session can have its backend.
    let mut other = establish(database, Access::Sync).map_err(refused(database))?;
    if backend(conn)?.backend == backend(&mut other)?.backend {
        Err(Refusal::Pooled.exit(database, ""))
    } else {
        Ok(())
    }
}
