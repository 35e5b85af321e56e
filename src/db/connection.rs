//! One connection to either database: how it is opened and set up, and its transactions.
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

/// A connection to SQLite or PostgreSQL; queries are written once for both.
#[derive(diesel::MultiConnection)]
pub enum Conn {
    /// The embedded database.
    Sqlite(SqliteConnection),
    /// The shared database of several nodes.
    Postgres(PgConnection),
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    /// Reads for as long as it takes.
    Follow,
}

/// Opens connections for a pool.
///
/// Why not Diesel's own manager: its `establish` on a [`Conn`] would take any string for a SQLite path.
pub(super) struct Manager {
    pub(super) database: Database,
    pub(super) access: Access,
    /// The file that a server uses; another one that is found under its path is not opened.
    pub(super) file: Option<Arc<SqliteFile>>,
}

impl r2d2::ManageConnection for Manager {
    type Connection = Conn;
    type Error = Unusable;

    fn connect(&self) -> std::result::Result<Conn, Unusable> {
        match self.file.as_ref().is_none_or(|file| file.is_intact()) {
            true => establish(&self.database, self.access),
            false => Err(Unusable("the file was moved or replaced".to_owned())),
        }
    }

    fn is_valid(&self, conn: &mut Conn) -> std::result::Result<(), Unusable> {
        match conn {
            // A file does not go away.
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

/// Why a connection could not be opened, in the database's words.
#[derive(Debug)]
pub(super) struct Unusable(String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim())
    }
}

impl std::error::Error for Unusable {}

/// Opens one connection and sets it up.
pub(super) fn establish(database: &Database, access: Access) -> std::result::Result<Conn, Unusable> {
    let mut conn = match database {
        Database::Sqlite(path) => SqliteConnection::establish(&path.to_string_lossy()).map(Conn::Sqlite),
        Database::Postgres(url) => PgConnection::establish(&with_timeouts(url.reveal())).map(Conn::Postgres),
    }
    .map_err(|error| Unusable(error.to_string()))?;
    let setup = match (&conn, access) {
        (Conn::Sqlite(_), Access::Read | Access::Follow) => [SQLITE, &["PRAGMA query_only = 1"]].concat(),
        (Conn::Sqlite(_), Access::Write) => SQLITE.to_vec(),
        (Conn::Postgres(_), Access::Follow) => Vec::new(),
        (Conn::Postgres(_), _) => POSTGRES.to_vec(),
    };
    for statement in setup {
        conn.batch_execute(statement).map_err(|error| Unusable(error.to_string()))?;
    }
    Ok(conn)
}

/// FULL: an answered write survives power loss, which NORMAL does not promise in WAL mode.
const SQLITE: &[&str] = &[
    "PRAGMA busy_timeout = 1000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    // The server alone moves the log into the file: see `super::witness`.
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA foreign_keys = ON",
];
/// A slow database must not hold a request, nor a lock, longer than its client is told to wait.
const POSTGRES: &[&str] = &["SET statement_timeout = '1200ms'", "SET idle_in_transaction_session_timeout = '5s'"];

/// libpq waits for ever by default, also for a server that has vanished without a word. Two seconds is the least that it
/// knows for connecting.
const PATIENT: [(&str, &str); 5] = [
    ("connect_timeout", "2"),
    ("keepalives_idle", "2"),
    ("keepalives_interval", "1"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "5000"),
];

/// The URL with limits to libpq's patience, where it does not set them itself.
fn with_timeouts(url: &str) -> String {
    let mut url = url.to_owned();
    for (name, value) in PATIENT {
        if !url.contains(&format!("{name}=")) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&format!("{name}={value}"));
        }
    }
    url
}

impl Conn {
    /// Runs `work`, which only reads, in one view of the database.
    pub(crate) fn in_snapshot<T>(&mut self, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        match self {
            Conn::Sqlite(conn) => AnsiTransactionManager::begin_transaction(conn)?,
            Conn::Postgres(conn) => {
                AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ")?;
            }
        }
        self.ended(work)
    }

    /// Runs `work` in one transaction. SQLite takes its write lock at once, because a transaction that reads first and
    /// then writes would fail instead of waiting. `CommitUnknown` when the connection was lost during the commit.
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

    /// Whether nobody answers at the other end.
    fn is_lost(&mut self) -> bool {
        match self {
            Conn::Sqlite(_) => false,
            Conn::Postgres(conn) => conn.ping().is_err(),
        }
    }

    /// Runs `work` in the transaction that has begun, and ends that.
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

/// A file larger than this is not read through at the start; what the directory needs of it is read in any case.
pub(super) const CHECKED_AT_START: i64 = 64 << 20;

#[derive(QueryableByName)]
struct Finding {
    #[diesel(sql_type = Text)]
    quick_check: String,
}

/// Finds a damaged SQLite file before anything is written to it.
pub(super) fn check_file(conn: &mut Conn, database: &Database, most: i64) -> std::result::Result<(), Exit> {
    let (Conn::Sqlite(conn), Database::Sqlite(path)) = (conn, database) else {
        return Ok(());
    };
    let size = std::fs::metadata(path).map_or(0, |file| file.len() as i64);
    if size > most {
        return Ok(());
    }
    let findings: Vec<Finding> = diesel::sql_query("PRAGMA quick_check(1)").load(conn).map_err(refused(database))?;
    match findings.into_iter().next() {
        Some(finding) if finding.quick_check != "ok" => Err(Refusal::Damaged.exit(database, &finding.quick_check)),
        _ => Ok(()),
    }
}

/// Why a database refuses something at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Damaged,
    Full,
    Forbidden,
    /// A pooler took the connection away.
    Pooled,
    Away,
}

/// The words by which a refusal is known.
const KNOWN: [(Refusal, &[&str]); 4] = [
    (Refusal::Damaged, &["not a database", "malformed", "unsupported file format"]),
    (Refusal::Full, &["disk is full", "disk I/O error", "unable to open database file", "No space left on device"]),
    (Refusal::Forbidden, &["readonly database", "permission denied", "must be owner of", "not permitted to log in"]),
    // What was prepared on one connection is looked for on another.
    (Refusal::Pooled, &["prepared statement", "statement pooling mode"]),
];

impl Refusal {
    pub(super) fn of(text: &str) -> Refusal {
        let known = KNOWN.iter().find(|(_, words)| words.iter().any(|word| text.contains(word)));
        known.map_or(Refusal::Away, |(refusal, _)| *refusal)
    }

    /// What it means for the process, with the words of the database.
    pub(super) fn exit(self, database: &Database, words: &str) -> Exit {
        match self {
            Refusal::Damaged => Exit::data(format!("{database:?} is damaged ({words}); restore it from a backup")),
            Refusal::Full => {
                Exit::cannot_create(format!("{database:?} cannot be written ({words}); is the disk full?"))
            }
            Refusal::Forbidden => Exit::no_permission(format!("{database:?} refuses a right that is needed: {words}")),
            Refusal::Pooled => Exit::config(
                "DATABASE_URL leads to a pooler, such as pgbouncer, that gives a connection away between transactions, and a \
                 session must keep its own: set pool_mode = session, or name PostgreSQL itself",
            ),
            Refusal::Away => Exit::unavailable(format!("cannot use {database:?}: {words}; check DATABASE_URL")),
        }
    }
}

/// Turns what a database says at the start into an end of the process.
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

/// Refuses a PostgreSQL that cannot do what is needed of it.
pub(super) fn check_server(conn: &mut Conn, database: &Database) -> std::result::Result<(), Exit> {
    if let Conn::Sqlite(_) = conn {
        return Ok(());
    }
    let server = "SELECT current_setting('server_encoding') AS encoding,
        current_setting('server_version_num')::bigint < 120000 AS is_old";
    let server: Server = diesel::sql_query(server).get_result(conn).map_err(refused(database))?;
    if server.is_old {
        return Err(Exit::config("PostgreSQL 12 or newer is needed"));
    }
    if server.encoding != "UTF8" {
        return Err(Exit::config(format!(
            "the database has the encoding {}, and names and posts need UTF8: make one with ENCODING 'UTF8' TEMPLATE template0",
            server.encoding
        )));
    }
    let backend = |conn: &mut Conn| {
        let query = "SELECT pid || ' ' || backend_start AS backend FROM pg_stat_activity WHERE pid = pg_backend_pid()";
        diesel::sql_query(query).get_result::<Backend>(conn).map_err(refused(database))
    };
    // While one session is open, no other can have its backend.
    let mut other = establish(database, Access::Follow).map_err(refused(database))?;
    match backend(conn)?.backend == backend(&mut other)?.backend {
        true => Err(Refusal::Pooled.exit(database, "")),
        false => Ok(()),
    }
}
