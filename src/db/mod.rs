//! The only place with SQL. `read` and `write` take a closure over one connection and run it away
//! from the request threads; rows come out as the structs of the modules below, never as JSON.
//!
//! Why two pools for SQLite: it has one writer. Writers queue for the one writing connection in
//! order, instead of meeting `SQLITE_BUSY`; readers never wait for them (WAL).

pub mod connection;
pub mod domain;
pub mod migrate;
pub mod post;
pub mod revision;
#[rustfmt::skip]
pub mod schema;
pub mod secret;
pub mod user;

use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use diesel::Selectable;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use tokio::sync::Semaphore;

use crate::config::Database;
use crate::error::{Error, Result};
use crate::exit::Exit;
pub use connection::Conn;
use connection::{Access, Manager, MultiBackend};

/// How long a request waits for the database before it is answered 503.
const PATIENCE: Duration = Duration::from_millis(1400);
/// How long it waits for a free connection within that time.
const PATIENCE_FOR_CONNECTION: Duration = Duration::from_millis(1000);
/// How many requests may be in or wait for the database; more are answered 503 at once.
const MOST_WAITING: usize = 128;
const SQLITE_READERS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 10;

type Pool = r2d2::Pool<Manager>;

/// Both pools. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    readers: Pool,
    writers: Pool,
    places: Arc<Semaphore>,
}

impl Db {
    /// Opens and migrates the database, making the SQLite file (0600) and its folder (0700) where they are missing.
    ///
    /// # Errors
    /// 65 for a corrupt or newer database, 69 for one that does not answer, 73 for a file that cannot be made.
    pub fn open(database: &Database) -> std::result::Result<Db, Exit> {
        Db::migrate(database)?;
        let db = match database {
            Database::Sqlite(_) => {
                Db::new(pool(database, Access::Read, SQLITE_READERS), pool(database, Access::Write, 1))
            }
            Database::Postgres(_) => {
                let pool = pool(database, Access::Write, POSTGRES_CONNECTIONS);
                Db::new(pool.clone(), pool)
            }
        };
        Ok(db)
    }

    /// Brings the database up to this binary's version and says what was applied.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub fn migrate(database: &Database) -> std::result::Result<Vec<String>, Exit> {
        if let Database::Sqlite(path) = database {
            make_file(path)?;
        }
        let mut conn = connection::establish(database, Access::Write).map_err(connection::cannot_open)?;
        connection::check_file(&mut conn, database)?;
        migrate::run(&mut conn)
    }

    fn new(readers: Pool, writers: Pool) -> Db {
        Db { readers, writers, places: Arc::new(Semaphore::new(MOST_WAITING)) }
    }

    /// Runs `work` on a connection that only reads.
    ///
    /// # Errors
    /// What `work` returns; `Busy` when the database is away, full or slow, within 1.5 s.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(move |db| db.read_now(work)).await
    }

    /// Runs `work` in one transaction, committed before this returns.
    ///
    /// # Errors
    /// As [`Db::read`]; nothing is changed then, except that a `Busy` after a lost connection or after the
    /// time limit leaves open whether the commit had been reached.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(move |db| db.write_now(work)).await
    }

    /// Runs blocking database work away from the request threads, within the time limit.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Db) -> Result<T> + Send + 'static) -> Result<T> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Error::Busy)?;
        let db = self.clone();
        let blocking = web::block(move || {
            let _held = place;
            work(&db)
        });
        match tokio::time::timeout(PATIENCE, blocking).await {
            Ok(Ok(result)) => result,
            Ok(Err(pool_gone)) => Err(Error::internal(pool_gone)),
            Err(_elapsed) => Err(Error::Busy),
        }
    }

    /// [`Db::read`] on this thread.
    ///
    /// # Errors
    /// As [`Db::read`].
    pub fn read_now<T>(&self, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        let mut conn = self.readers.get().map_err(no_connection)?;
        work(&mut conn)
    }

    /// [`Db::read_now`] for what no request waits for, and what may be long: PostgreSQL's time limit is lifted meanwhile.
    ///
    /// # Errors
    /// As [`Db::read`].
    pub fn read_at_leisure<T>(&self, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        self.read_now(|conn| {
            conn.limit_statements(false)?;
            let result = work(conn);
            conn.limit_statements(true)?;
            result
        })
    }

    /// [`Db::write`] on this thread.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub fn write_now<T>(&self, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        self.write_then(work, |_| Ok(()))
    }

    /// A change to the directory's tables: takes the lock on the revision first, so that two
    /// changes cannot wait for each other, and hands the connection to `after` once it is committed.
    ///
    /// # Errors
    /// As [`Db::write`]; an error of `after` leaves the change committed.
    pub fn change_now<T>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T>,
        after: impl FnOnce(&mut Conn) -> Result<()>,
    ) -> Result<T> {
        let locked = |conn: &mut Conn| {
            revision::lock(conn)?;
            work(conn)
        };
        self.write_then(locked, after)
    }

    fn write_then<T>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T>,
        after: impl FnOnce(&mut Conn) -> Result<()>,
    ) -> Result<T> {
        let mut conn = self.writers.get().map_err(no_connection)?;
        let value = conn.in_transaction(work)?;
        after(&mut conn)?;
        Ok(value)
    }

    /// Connections in use and connections open, for the metrics.
    pub fn pool_use(&self) -> (u32, u32) {
        let (readers, writers) = (self.readers.state(), self.writers.state());
        let open = readers.connections + writers.connections;
        (open - readers.idle_connections - writers.idle_connections, open)
    }
}

fn pool(database: &Database, access: Access, size: u32) -> Pool {
    r2d2::Pool::builder()
        .max_size(size)
        .min_idle(Some(1))
        .connection_timeout(PATIENCE_FOR_CONNECTION)
        .error_handler(Box::new(r2d2::NopErrorHandler))
        .build_unchecked(Manager { database: database.clone(), access })
}

/// Makes the folder of the database file, for its owner only.
pub(crate) fn make_folder(path: &Path) -> std::result::Result<(), Exit> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| cannot_make(folder, &error))
}

fn make_file(path: &Path) -> std::result::Result<(), Exit> {
    make_folder(path)?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(cannot_make(path, &error)),
    }
}

fn cannot_make(path: &Path, error: &std::io::Error) -> Exit {
    Exit::cannot_create(format!("cannot make {}: {error}; check DATABASE_URL", path.display()))
}

/// The columns of a row's struct, for RETURNING.
///
/// Why not `as_returning`: Diesel cannot serialise that for a connection to either of two databases.
fn columns<T: Selectable<MultiBackend>>() -> T::SelectExpression {
    T::construct_selection()
}

fn no_connection(error: r2d2::Error) -> Error {
    log::warn!("no database connection: {error}");
    Error::Busy
}

/// Whatever the database refuses because of its own state is `Busy`; the rest is a bug.
impl From<DieselError> for Error {
    fn from(error: DieselError) -> Error {
        let passing = match &error {
            DieselError::DatabaseError(kind, details) => match kind {
                DatabaseErrorKind::ClosedConnection
                | DatabaseErrorKind::UnableToSendCommand
                | DatabaseErrorKind::SerializationFailure
                | DatabaseErrorKind::ReadOnlyTransaction => true,
                DatabaseErrorKind::Unknown => PASSING.iter().any(|part| details.message().contains(part)),
                _ => false,
            },
            DieselError::BrokenTransactionManager => true,
            DieselError::RollbackErrorOnCommit { .. } => true,
            _ => false,
        };
        match passing {
            true => {
                log::warn!("the database cannot serve now: {error}");
                Error::Busy
            }
            false => Error::internal(error),
        }
    }
}

/// How SQLite and PostgreSQL say that they cannot serve now, but may later.
const PASSING: &[&str] = &[
    "database is locked",
    "database table is locked",
    "database or disk is full",
    "disk I/O error",
    "unable to open database file",
    "attempt to write a readonly database",
    "server closed the connection",
    "connection to server",
    "could not connect",
    "no connection to the server",
    "terminating connection",
    "the database system is",
    "canceling statement due to",
    "deadlock detected",
    "too many clients",
    "remaining connection slots",
    "SSL connection has been closed",
    "could not receive data",
    "could not send data",
    "could not extend file",
    "No space left on device",
];
