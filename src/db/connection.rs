//! A connection to either database: opening, settings and transactions.
#![allow(missing_docs, reason = "the derived MultiConnection has items without")]

use std::sync::Arc;

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::prelude::*;
use diesel::r2d2::{Error as PoolError, R2D2Connection};

use super::file::SqliteFile;
use crate::config::Database;
use crate::error::{Error, Result};

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
    type Error = PoolError;

    fn connect(&self) -> std::result::Result<Conn, PoolError> {
        if self.file.as_ref().is_none_or(|file| file.is_intact()) {
            Ok(establish(&self.database, self.access)?)
        } else {
            Err(ConnectionError::BadConnection("the file was moved or replaced".to_owned()).into())
        }
    }

    fn is_valid(&self, conn: &mut Conn) -> std::result::Result<(), PoolError> {
        match conn {
            // A file does not disconnect.
            Conn::Sqlite(_) => Ok(()),
            Conn::Postgres(conn) => Ok(conn.ping()?),
        }
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        match conn {
            Conn::Sqlite(conn) => conn.is_broken(),
            Conn::Postgres(conn) => conn.is_broken(),
        }
    }
}

/// Opens a connection and applies the settings for its use.
pub(super) fn establish(database: &Database, access: Access) -> ConnectionResult<Conn> {
    // The messages of libpq end with a line break.
    let trimmed = |error: ConnectionError| ConnectionError::BadConnection(error.to_string().trim().to_owned());
    let mut conn = match database {
        Database::Sqlite(path) => Conn::Sqlite(SqliteConnection::establish(&path.to_string_lossy())?),
        Database::Postgres(url) => {
            Conn::Postgres(PgConnection::establish(&with_timeouts(url.reveal())).map_err(trimmed)?)
        }
    };
    let setup = match (&conn, access) {
        (Conn::Sqlite(_), Access::Read | Access::Sync) => [SQLITE, &["PRAGMA query_only = 1"]].concat(),
        (Conn::Sqlite(_), Access::Write) => SQLITE.to_vec(),
        (Conn::Postgres(_), Access::Sync) => Vec::new(),
        (Conn::Postgres(_), _) => POSTGRES.to_vec(),
    };
    for statement in setup {
        conn.batch_execute(statement).map_err(ConnectionError::CouldntSetupConfiguration)?;
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
/// A client must get its answer within the time that a refusal tells it to wait, even when the database is slow. A lock must
/// end within the same time.
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
