//! Puts a backup in the place of a SQLite database.

use std::path::Path;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;

use super::connection::{self, Access, refused};
use super::file::{self, Arriving};
use super::identity::set_mark;
use super::migrate::Policy;
use super::schema::users;
use super::user::reserved_key;
use super::{Conn, migrate};
use crate::config::Database;
use crate::error::Result;
use crate::exit::Exit;
use crate::id::UserId;

/// The numbers of users with the keys of their names.
type Names = Vec<(UserId, String)>;

/// A backup that is about to take the place of the database, and can still be changed.
pub struct Restoration {
    /// The only connection to the backup's copy.
    conn: Conn,
    /// What the present database gave away; `None` where it cannot be read.
    former: Option<Names>,
    arriving: Arriving,
}

#[derive(QueryableByName)]
struct Tables {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

impl Restoration {
    /// Copies and checks the backup, and reads which names and numbers the present database gave away.
    ///
    /// # Errors
    /// 64 for a backup that cannot be read, 65 for one that is damaged or of a newer version, 73 while a server uses the
    /// database.
    pub fn begin(path: &Path, backup: &Path) -> std::result::Result<Restoration, Exit> {
        let arriving = Arriving::begin(path, backup)?;
        let database = Database::Sqlite(arriving.copy.clone());
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
        Ok(Restoration { conn, former: names(path), arriving })
    }

    /// Changes the copy in one transaction. In the same transaction, what the present database gave away since the backup was
    /// made is reserved: a name or a number that stood in a token is never another one's. Returns how many accounts are gone,
    /// or `None` where that is not known.
    ///
    /// # Errors
    /// When the copy cannot be written.
    pub fn change(&mut self, now: i64, work: impl FnOnce(&mut Conn) -> Result<()>) -> Result<Option<usize>> {
        let former = &self.former;
        self.conn.in_transaction(|conn| {
            // The mark is that of a file which a server has used.
            set_mark(conn, None)?;
            let gone = former.as_ref().map(|former| reserve(conn, former, now)).transpose()?;
            work(conn)?;
            Ok(gone)
        })
    }

    /// Puts the copy in the place of the database.
    ///
    /// # Errors
    /// 73 when it cannot be moved there; the present database is left as it is.
    pub fn finish(self) -> std::result::Result<(), Exit> {
        // Closing the only connection moves the log into the copy.
        drop(self.conn);
        self.arriving.finish()
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
