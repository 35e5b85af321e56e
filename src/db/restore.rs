//! Replacement of a SQLite database by a backup.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use diesel::prelude::*;

use super::connection::{Access, establish};
use super::errors::refused;
use super::identity::set_mark;
use super::migrate::Policy;
use super::schema::users;
use super::user::reserved_key;
use super::witness::beside;
use super::{Conn, checks, file, migrate};
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

impl Restoration {
    /// Copies and checks the backup. Reads the names and numbers that the present database has assigned.
    ///
    /// # Errors
    /// Exit code 64 if the backup cannot be read, 65 if it is damaged or of a newer version, 73 if a server uses the
    /// database.
    pub fn begin(path: &Path, backup: &Path) -> std::result::Result<Restoration, Exit> {
        let replacement = ReplacementFile::begin(path, backup)?;
        let database = Database::Sqlite(replacement.copy.clone());
        let mut conn = establish(&database, Access::Write).map_err(refused(&database))?;
        checks::check_file(&mut conn, &database, i64::MAX)?;
        let is_ours = migrate::has_tables(&mut conn);
        if !is_ours.map_err(|error| Exit::data(format!("{} cannot be read: {error}", backup.display())))? {
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
    file::check_log(&fs::canonicalize(path).ok()?).ok()?;
    let mut conn = establish(&Database::Sqlite(path.to_owned()), Access::Read).ok()?;
    users::table.select((users::id, users::username_key)).load(&mut conn).ok()
}

/// A backup that is about to replace a SQLite file. The former file stays as it is until then.
struct ReplacementFile {
    /// The copy of the backup, which becomes the database.
    copy: PathBuf,
    canonical: PathBuf,
    _lock: File,
}

impl ReplacementFile {
    /// Copies a backup to a file beside the database. Fails if a server uses the database.
    fn begin(path: &Path, backup: &Path) -> std::result::Result<ReplacementFile, Exit> {
        file::create_folder(path)?;
        let unreadable = |error| Exit::usage(format!("cannot read {}: {error}", backup.display()));
        let mut source = File::open(backup).map_err(unreadable)?;
        let canonical = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let lock = file::lock(&canonical)?.ok_or_else(|| file::in_use(path))?;
        if fs::canonicalize(backup).is_ok_and(|backup| backup == canonical) {
            return Err(Exit::usage(format!("{} is the database itself", backup.display())));
        }
        if file::has_log(backup) {
            return Err(Exit::data(format!(
                "{backup} has a write-ahead log beside it, so it is not a complete backup; make one with: sqlite3 {backup} \".backup COPY\"",
                backup = backup.display()
            )));
        }
        let replacement = ReplacementFile { copy: beside(&canonical, "restoring"), canonical, _lock: lock };
        replacement.clean_up();
        let cannot = |error| Exit::cannot_create(format!("cannot create {}: {error}", replacement.copy.display()));
        let target = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&replacement.copy);
        let mut target = target.map_err(cannot)?;
        io::copy(&mut source, &mut target).map_err(cannot)?;
        target.sync_all().map_err(cannot)?;
        Ok(replacement)
    }

    /// Replaces the database by the copy, which must be closed.
    fn finish(self) -> std::result::Result<(), Exit> {
        let cannot = |error| Exit::cannot_create(format!("cannot replace {}: {error}", self.canonical.display()));
        let put = || {
            File::open(&self.copy)?.sync_all()?;
            fs::rename(&self.copy, &self.canonical)?;
            remove(&file::log_of(&self.canonical))?;
            remove(&file::index_of(&self.canonical))?;
            remove(&beside(&self.canonical, "witness"))?;
            let folder = self.canonical.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        put().map_err(cannot)
    }

    fn clean_up(&self) {
        let lock = beside(&self.copy, "lock");
        for left in [&self.copy, &file::log_of(&self.copy), &file::index_of(&self.copy), &lock] {
            drop(fs::remove_file(left));
        }
    }
}

impl Drop for ReplacementFile {
    fn drop(&mut self) {
        self.clean_up();
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
