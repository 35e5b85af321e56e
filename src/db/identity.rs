//! The identity of a database: its epoch and its sequences.
//!
//! A restored backup, or a failover that lost transactions, takes a database back to an earlier state. Numbers and
//! tokens that it issues from then on could be confused with those that it had issued before. So it gets a new epoch:
//! tokens of the earlier epoch are refused, and the sequences continue far ahead.

use std::io;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Integer};

use super::connection::{Access, establish};
use super::file::{self, SqliteFile};
use super::schema::{audit_head, revision, signing_keys};
use super::witness::{Mark, Position};
use super::{Conn, Db, revision as counter};
use crate::config::Database;
use crate::error::{Error, Result};
use crate::id::Stamp;

/// Tables with public numbers from a sequence.
const NUMBERED: [&str; 2] = ["posts", "secrets"];
/// Minimum jump of a sequence, which exceeds the numbers that a server ever issues. A random part of up to the same
/// size is added, so that two restorations of one backup continue at different numbers. 2^53, the largest integer that
/// JavaScript represents exactly, allows thousands of jumps.
const JUMP: i64 = 1 << 40;

/// Begins a new epoch, unless `known` is no longer the present one. Returns `false` if nothing was done.
///
/// The caller must hold the lock on the revision. It must also create new signing keys, because this function deletes
/// the stored ones.
pub fn renew(conn: &mut Conn, known: Option<Stamp>) -> QueryResult<bool> {
    let epoch = counter::counter(conn)?.epoch;
    if known.is_some_and(|known| known != epoch) {
        return Ok(false);
    }
    diesel::update(revision::table)
        .set((revision::epoch.eq(Stamp::random()), revision::value.eq(revision::value + 1)))
        .execute(conn)?;
    for table in NUMBERED {
        jump(conn, table, JUMP + Stamp::random().as_number() % JUMP)?;
    }
    diesel::delete(signing_keys::table).execute(conn)?;
    Ok(true)
}

/// Advances the sequence of a table by `by`.
fn jump(conn: &mut Conn, table: &str, by: i64) -> QueryResult<()> {
    match conn {
        Conn::Sqlite(conn) => {
            // A sequence has no row until it has given its first number.
            sql_query(format!(
                "INSERT INTO sqlite_sequence (name, seq)
                 SELECT '{table}', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = '{table}')"
            ))
            .execute(conn)?;
            let update = sql_query(format!("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = '{table}'"));
            update.bind::<BigInt, _>(by).execute(conn).map(drop)
        }
        Conn::Postgres(conn) => {
            let sequence = format!("pg_get_serial_sequence('{table}', 'id')::regclass");
            let update = sql_query(format!("SELECT setval({sequence}, nextval({sequence}) + $1)"));
            update.bind::<BigInt, _>(by).execute(conn).map(drop)
        }
    }
}

/// Size of the write-ahead log from which it is moved into the file.
const CHECKPOINT_BYTES: u64 = 4 << 20;
/// How long closing waits for the other connections of this process.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

impl Db {
    /// Returns whether the served file is still in its place and still as this server left it. Always true on
    /// PostgreSQL.
    pub fn is_intact(&self) -> bool {
        self.file.as_ref().is_none_or(|file| file.is_intact())
    }

    /// Returns the last result of [`Db::is_intact`], which is at most half a second old. Does no I/O.
    pub fn was_intact(&self) -> bool {
        self.file.as_ref().is_none_or(|file| file.was_intact())
    }

    /// Returns whether the database was restored or copied since a server last used it, judged by its witness.
    ///
    /// # Errors
    /// If the database does not answer.
    pub fn was_restored(&self) -> Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let (mark, position) = self.read_now(|conn| Ok((mark(conn)?, position(conn)?)))?;
        Ok(file.was_restored(mark, position))
    }

    /// [`Db::was_restored`] for a process that does not serve. Returns `false` if a server is running, because the
    /// server checks this itself.
    ///
    /// # Errors
    /// As [`Db::was_restored`].
    pub fn was_restored_unserved(&self) -> Result<bool> {
        let Database::Sqlite(path) = &self.database else { return Ok(false) };
        if !file::check_unserved(path).map_err(Error::internal)? {
            return Ok(false);
        }
        let (mark, position) = self.read_now(|conn| Ok((mark(conn)?, position(conn)?)))?;
        Ok(file::was_restored(path, mark, position))
    }

    /// Updates the witness of the served file. Also moves the write-ahead log into the file if the log is long, or if
    /// `now` is set.
    ///
    /// # Errors
    /// If the database does not answer, or the witness cannot be written.
    pub fn watch_file(&self, now: bool) -> Result<()> {
        let Some(file) = self.file.as_ref().filter(|file| file.is_intact()) else { return Ok(()) };
        if now || file.log_has_bytes(CHECKPOINT_BYTES) {
            self.checkpoint(file, now)
        } else {
            file.record_position(self.read_now(|conn| Ok(position(conn)?))?).map_err(unwritable)
        }
    }

    fn checkpoint(&self, file: &SqliteFile, whole: bool) -> Result<()> {
        // Outside the pools, because no request waits for a checkpoint.
        let mut conn = establish(&self.database, Access::Write).map_err(Error::internal)?;
        let mode = if whole { "TRUNCATE" } else { "PASSIVE" };
        if whole {
            file.expect_changes().map_err(unwritable)?;
            conn.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)")?;
        }
        let (mark, position) = self.read_now(|conn| Ok((mark(conn)?, position(conn)?)))?;
        file.expect_log().map_err(unwritable)?;
        let next = file.begin_checkpoint(mark, position).map_err(unwritable)?;
        self.write_now(|conn| Ok(set_mark(conn, Some(next))?))?;
        let checkpoint = format!("PRAGMA wal_checkpoint({mode})");
        conn.batch_execute(&checkpoint)?;
        // SQLite starts the log anew only if all of it has been moved. While requests keep writing, that happens only
        // if the rest is moved by the connection that they wait for.
        self.with_writer(|conn| Ok(conn.batch_execute(&checkpoint)?))?;
        file.end_checkpoint().map(drop).map_err(unwritable)
    }

    /// Closes a SQLite database so that it leaves no write-ahead log. The last connection that closes removes the log.
    ///
    /// # Errors
    /// As [`Db::watch_file`].
    pub fn close(self) -> Result<()> {
        if !self.is_intact() {
            // Closing would move the log into a file that it does not belong to.
            std::mem::forget(self);
            return Ok(());
        }
        self.watch_file(true)?;
        let Some(file) = self.file.clone() else { return Ok(()) };
        let database = self.database.clone();
        file.expect_no_log();
        drop(self);
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while file.log_has_bytes(0) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            drop(establish(&database, Access::Write));
        }
        file.end().map_err(unwritable)
    }
}

fn unwritable(error: io::Error) -> Error {
    Error::internal(format!("cannot write the witness beside the database: {error}"))
}

fn position(conn: &mut Conn) -> QueryResult<Position> {
    let revision = revision::table.select(revision::value).first(conn)?;
    Ok(Position { revision, audit: audit_head::table.select(audit_head::last).first(conn)? })
}

/// Returns the mark of a SQLite database.
fn mark(conn: &mut Conn) -> QueryResult<Option<Mark>> {
    let version = sql::<Integer>("SELECT user_version FROM pragma_user_version").get_result(conn)?;
    Ok(Mark::of_user_version(version))
}

/// Sets the mark of a SQLite database. `None` marks it as a database that no server has used.
pub(super) fn set_mark(conn: &mut Conn, mark: Option<Mark>) -> QueryResult<()> {
    conn.batch_execute(&format!("PRAGMA user_version = {}", mark.map_or(0, Mark::user_version)))
}
