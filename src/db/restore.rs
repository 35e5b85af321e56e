//! Replacement of a SQLite database by a backup.

use std::path::Path;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;

use super::connection::{self, Access, refused};
use super::file::{self, ReplacementFile};
use super::identity::set_mark;
use super::migrate::Policy;
use super::schema::users;
use super::user::reserved_key;
use super::{Conn, migrate};
use crate::config::Database;
use crate::error::Result;
use crate::exit::Exit;
use crate::id::UserId;

/// Numbers of users with their `username_key`.
type Names = Vec<(UserId, String)>;

/// A backup that is about to replace the database and can still be changed.
pub struct Restoration {
    /// The only connection to the copy of the backup.
    conn: Conn,
    /// The names and numbers in the present database; `None` if it cannot be read.
    former: Option<Names>,
    replacement: ReplacementFile,
}

#[derive(QueryableByName)]
struct Tables {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

impl Restoration {
    /// Copies and checks the backup. Reads the names and numbers that the present database has assigned.
    ///
    /// # Errors
    /// Exit code 64 if the backup cannot be read, 65 if it is damaged or of a newer version, 73 if a server uses the
    /// database.
    pub fn begin(path: &Path, backup: &Path) -> std::result::Result<Restoration, Exit> {
        let replacement = ReplacementFile::begin(path, backup)?;
        let database = Database::Sqlite(replacement.copy.clone());
        let mut conn = connection::establish(&database, Access::Write).map_err(refused(&database))?;
        connection::check_file(&mut conn, &database, i64::MAX)?;
        let ours = "SELECT count(*) AS count FROM sqlite_schema WHERE name = '__diesel_schema_migrations'";
        let ours: Tables = sql_query(ours)
            .get_result(&mut conn)
            .map_err(|error| Exit::data(format!("{} cannot be read: {error}", backup.display())))?;
        if ours.count == 0 {
            return Err(Exit::data(format!("{} is no database of Gatebird", backup.display())));
        }
        migrate::run(&mut conn, &database, Policy::Migrate)?;
        Ok(Restoration { conn, former: names(path), replacement })
    }

    /// Runs `work` on the copy in one transaction. The same transaction reserves the names and numbers that were
    /// assigned since the backup, because a name or number that was in a token must never belong to another user.
    ///
    /// Returns how many accounts are lost, or `None` if the present database could not be read.
    ///
    /// # Errors
    /// If the copy cannot be written.
    pub fn change(&mut self, now: i64, work: impl FnOnce(&mut Conn) -> Result<()>) -> Result<Option<usize>> {
        let former = &self.former;
        self.conn.in_transaction(|conn| {
            // The mark identifies a file that a server has used.
            set_mark(conn, None)?;
            let gone = former.as_ref().map(|former| reserve(conn, former, now)).transpose()?;
            work(conn)?;
            Ok(gone)
        })
    }

    /// Replaces the database by the copy.
    ///
    /// # Errors
    /// Exit code 73 if the copy cannot be moved. The present database is then unchanged.
    pub fn finish(self) -> std::result::Result<(), Exit> {
        // Closing the only connection moves the write-ahead log into the copy.
        drop(self.conn);
        self.replacement.finish()
    }
}

fn reserve(conn: &mut Conn, former: &Names, now: i64) -> QueryResult<usize> {
    let Conn::Sqlite(conn) = conn else { return Ok(0) };
    let mut gone = 0;
    for (id, key) in former {
        let reserved = if key.starts_with('#') { key.clone() } else { reserved_key(key) };
        let row = (
            users::id.eq(id),
            users::username.eq(""),
            users::username_key.eq(reserved),
            users::nick.eq(""),
            users::password_hash.eq(""),
            users::suspended.eq(true),
            users::ended.eq(true),
            users::created_at.eq(now),
        );
        gone += diesel::insert_into(users::table).values(row).on_conflict_do_nothing().execute(conn)?;
    }
    Ok(gone)
}

fn names(path: &Path) -> Option<Names> {
    file::check_log(&std::fs::canonicalize(path).ok()?).ok()?;
    let mut conn = connection::establish(&Database::Sqlite(path.to_owned()), Access::Read).ok()?;
    users::table.select((users::id, users::username_key)).load(&mut conn).ok()
}
