//! The identity of a database: its epoch, and the numbers that are never given twice.
//!
//! A restored backup, or a failover that lost transactions, takes a database back to an earlier state. What it gives out
//! from there on could be confused with what it gave out before. So its epoch is renewed: tokens of the earlier epoch are
//! refused, and the sequences of numbers continue far ahead.

use std::io;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Integer};

use super::connection::{self, Access};
use super::file::{self, SqliteFile};
use super::schema::{audit_head, revision, signing_keys};
use super::witness::{Mark, Position};
use super::{Conn, Db, revision as counter};
use crate::config::Database;
use crate::error::{Error, Result};
use crate::id::Stamp;

/// The tables whose rows are numbered by a sequence and whose numbers are public.
const NUMBERED: [&str; 2] = ["posts", "secrets"];
/// The least number by which a sequence jumps ahead: more than any server ever gives out. The random part is as large, so
/// that two restorations of the same backup continue at different numbers. 2^53, the largest number that JavaScript
/// represents exactly, is some thousand jumps away.
const JUMP: i64 = 1 << 40;

/// Begins a new epoch, if `known` is still the present one or is `None`. The caller must hold the lock on the revision, and
/// must replace the stored keys, which this function deletes. Returns `false` where nothing was done.
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

/// Lets the numbers of a table's rows continue so much further.
fn jump(conn: &mut Conn, table: &str, by: i64) -> QueryResult<()> {
    match conn {
        Conn::Sqlite(conn) => {
            // A sequence has a row only once a number was taken from it.
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

/// The write-ahead log is moved into the file when it has so many bytes.
const CHECKPOINT_BYTES: u64 = 4 << 20;
/// How long the end of the process waits for other connections of this process to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

impl Db {
    /// Whether the file that this process serves is where it was, and is still what this server made of it. Always true
    /// with PostgreSQL.
    pub fn is_intact(&self) -> bool {
        self.file.as_ref().is_none_or(|file| file.is_intact())
    }

    /// [`Db::is_intact`] as it was when that was last asked, which is at least twice a second: this does no I/O.
    pub fn was_intact(&self) -> bool {
        self.file.as_ref().is_none_or(|file| file.was_intact())
    }

    /// Whether the database was restored or copied since a server used it, as far as its file tells.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn was_restored(&self) -> Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let (mark, position) = self.read_now(|conn| Ok((mark(conn)?, position(conn)?)))?;
        Ok(file.was_restored(mark, position))
    }

    /// [`Db::was_restored`] for a process that does not serve; `false` beside a server, which looks itself.
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

    /// Keeps the witness of the served file up to date, and moves the write-ahead log into the file where it is long or
    /// `now`.
    ///
    /// # Errors
    /// When the database does not answer, or the witness cannot be written.
    pub fn watch_file(&self, now: bool) -> Result<()> {
        let Some(file) = self.file.as_ref().filter(|file| file.is_intact()) else { return Ok(()) };
        match now || file.has_log_of(CHECKPOINT_BYTES) {
            true => self.checkpoint(file, now),
            false => file.note(self.read_now(|conn| Ok(position(conn)?))?).map_err(unwritable),
        }
    }

    fn checkpoint(&self, file: &SqliteFile, whole: bool) -> Result<()> {
        // Not on a connection of the pools: nobody waits for it.
        let mut conn = connection::establish(&self.database, Access::Write).map_err(Error::internal)?;
        let mode = if whole { "TRUNCATE" } else { "PASSIVE" };
        if whole {
            file.expect_changes().map_err(unwritable)?;
            conn.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)")?;
        }
        let (mark, position) = self.read_now(|conn| Ok((mark(conn)?, position(conn)?)))?;
        file.expect_log().map_err(unwritable)?;
        let next = file.begin_checkpoint(mark, position).map_err(unwritable)?;
        self.write_now(|conn| Ok(set_mark(conn, Some(next))?))?;
        conn.batch_execute(&format!("PRAGMA wal_checkpoint({mode})"))?;
        file.end_checkpoint().map(drop).map_err(unwritable)
    }

    /// Closes a SQLite database well, so that it leaves no write-ahead log: as soon as other connections are closed, the last
    /// one that closes removes it.
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
        while file.has_log_of(0) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            drop(connection::establish(&database, Access::Write));
        }
        file.end().map_err(unwritable)
    }
}

fn unwritable(error: io::Error) -> Error {
    Error::internal(format!("the witness beside the database cannot be written: {error}"))
}

fn position(conn: &mut Conn) -> QueryResult<Position> {
    let revision = revision::table.select(revision::value).first(conn)?;
    Ok(Position { revision, audit: audit_head::table.select(audit_head::last).first(conn)? })
}

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = Integer)]
    user_version: i32,
}

/// The mark of a SQLite database.
fn mark(conn: &mut Conn) -> QueryResult<Option<Mark>> {
    let version: Version = sql_query("SELECT user_version FROM pragma_user_version").get_result(conn)?;
    Ok(Mark::of_user_version(version.user_version))
}

/// Sets the mark of a SQLite database. Without a mark it is one that no server has used.
pub(super) fn set_mark(conn: &mut Conn, mark: Option<Mark>) -> QueryResult<()> {
    conn.batch_execute(&format!("PRAGMA user_version = {}", mark.map_or(0, Mark::user_version)))
}
