//! Opening and migrating a database.

use std::sync::Arc;
use std::time::Duration;

use super::connection::{Access, Manager, establish};
use super::errors::{Refusal, refused};
use super::file::{self, SqliteFile};
use super::migrate::{self, Migrated, Policy};
use super::{Conn, Db, Pool, checks};
use crate::config::Database;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::shares::Share;

/// Limit for getting a connection from a pool, within the limit of a request.
const CONNECTION_TIMEOUT: Duration = Duration::from_millis(1000);
const SQLITE_READERS: u32 = 8;
const POSTGRES_CONNECTIONS: u32 = 10;

impl Db {
    /// Opens and migrates the database for a server. A SQLite file is locked against other servers.
    ///
    /// # Errors
    /// As [`Db::open`]. Exit code 73 if another server uses the file, 65 if its write-ahead log belongs to another
    /// file.
    pub fn serve(database: &Database) -> std::result::Result<Db, Exit> {
        Db::open_served(database, Policy::Migrate)
    }

    /// As [`Db::serve`], but does not migrate: the schema must be of this version.
    ///
    /// # Errors
    /// As [`Db::serve`] and [`Db::open_existing`].
    pub(crate) fn serve_existing(database: &Database) -> std::result::Result<Db, Exit> {
        Db::open_served(database, Policy::Keep)
    }

    fn open_served(database: &Database, policy: Policy) -> std::result::Result<Db, Exit> {
        let file = match database {
            Database::Sqlite(path) => Some(Arc::new(SqliteFile::open(path)?)),
            Database::Postgres(_) => None,
        };
        let migrated = prepare(database, policy)?;
        Ok(Db::new(database, file, migrated.is_new))
    }

    /// Opens the database. Creates the SQLite file (0600), its folder (0700) and the tables if they are missing. A
    /// server may use the database at the same time.
    ///
    /// # Errors
    /// Exit code 65 if the database is corrupt or of a newer version, 69 if it does not answer, 73 if the file cannot
    /// be created, 77 if a privilege is missing, 78 if it must be migrated or cannot be used as it is.
    pub fn open(database: &Database) -> std::result::Result<Db, Exit> {
        let migrated = prepare_unserved(database, Policy::Create)?;
        Ok(Db::new(database, None, migrated.is_new))
    }

    /// Opens an existing database of this version.
    ///
    /// # Errors
    /// As [`Db::open`]. Exit code 69 if there is no database.
    pub fn open_existing(database: &Database) -> std::result::Result<Db, Exit> {
        if let Database::Sqlite(path) = database
            && !file::exists(path)?
        {
            return Err(Exit::unavailable(format!(
                "there is no database at {}; check DATABASE_URL and the working directory",
                path.display()
            )));
        }
        prepare_unserved(database, Policy::Keep)?;
        Ok(Db::new(database, None, false))
    }

    fn new(database: &Database, file: Option<Arc<SqliteFile>>, is_new: bool) -> Db {
        let pool = |access, size| pool(Manager { database: database.clone(), access, file: file.clone() }, size);
        let (readers, writer) = match database {
            Database::Sqlite(_) => (pool(Access::Read, SQLITE_READERS), Some(pool(Access::Write, 1))),
            Database::Postgres(_) => (pool(Access::Write, POSTGRES_CONNECTIONS), None),
        };
        let reads = Share::new(readers.max_size() as usize);
        let writes = writer.as_ref().map_or_else(|| reads.clone(), |_| Share::new(1));
        Db { database: database.clone(), readers, writer, reads, writes, hold_time: None, file, is_new }
    }

    /// Migrates the database to this version and returns the applied migrations.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub fn migrate(database: &Database) -> std::result::Result<Vec<String>, Exit> {
        Ok(prepare_unserved(database, Policy::Migrate)?.applied)
    }

    /// Checks that rows can be changed.
    ///
    /// # Errors
    /// Exit code 77 if they are read-only.
    pub(crate) fn check_rights(&self) -> std::result::Result<(), Exit> {
        let mut conn = establish(&self.database, Access::Write).map_err(refused(&self.database))?;
        checks::check_rights(&mut conn, &self.database)
    }

    /// Returns the exit for an error that occurs while the process starts.
    pub(crate) fn cannot_start(&self, error: &Error) -> Exit {
        match (error.cause(), &self.database) {
            (Some(cause), database) => refused(database)(cause),
            // A SQLite file has no other user, so what fails without a cause is the file system.
            (None, Database::Sqlite(_)) => Refusal::Full.exit(&self.database, "see the log"),
            (None, Database::Postgres(_)) => Refusal::Away.exit(&self.database, "it does not answer"),
        }
    }

    /// Opens a connection for reading the directory. It is outside the pools, which a hanging database can exhaust, and
    /// has no statement timeout, because no request waits for it.
    ///
    /// # Errors
    /// `Busy` if the database does not answer.
    pub fn sync_connection(&self) -> Result<Conn> {
        establish(&self.database, Access::Sync).map_err(|error| {
            log::debug!("cannot open the connection that reads the directory: {error}");
            Error::Busy
        })
    }
}

fn pool(manager: Manager, size: u32) -> Pool {
    let pool = r2d2::Pool::builder();
    let pool = match manager.database {
        // SQLite removes the write-ahead log when the last connection closes. Renewing a connection to a file gains
        // nothing.
        Database::Sqlite(_) => pool.max_lifetime(None).idle_timeout(None),
        Database::Postgres(_) => pool,
    };
    pool.max_size(size)
        .min_idle(Some(1))
        .connection_timeout(CONNECTION_TIMEOUT)
        .error_handler(Box::new(r2d2::NopErrorHandler))
        .build_unchecked(manager)
}

/// Creates the SQLite file if it is missing, checks its write-ahead log if no server uses it, and migrates the database.
fn prepare_unserved(database: &Database, policy: Policy) -> std::result::Result<Migrated, Exit> {
    if let Database::Sqlite(path) = database {
        file::create(path)?;
        file::check_unserved(path)?;
    }
    prepare(database, policy)
}

/// Checks the database and migrates it as `policy` allows.
fn prepare(database: &Database, policy: Policy) -> std::result::Result<Migrated, Exit> {
    let mut conn = establish(database, Access::Write).map_err(refused(database))?;
    checks::check_file(&mut conn, database, checks::MAX_CHECKED_AT_START)?;
    checks::check_server(&mut conn, database)?;
    migrate::run(&mut conn, database, policy)
}
