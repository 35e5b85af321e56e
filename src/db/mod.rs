//! The only place with SQL. `read` and `write` take a closure over one connection and run it away
//! from the request threads; rows come out as the structs of the modules below, never as JSON.
//!
//! Why two pools for SQLite: it has one writer. Writers queue for the one writing connection in
//! order, instead of meeting `SQLITE_BUSY`; readers never wait for them (WAL).

pub mod audit;
pub mod connection;
pub mod domain;
pub mod import;
pub mod migrate;
pub mod post;
pub mod proof;
pub mod revision;
pub mod revocation;
#[rustfmt::skip]
pub mod schema;
pub mod secret;
pub mod secret_use;
pub mod signing_key;
pub mod usage;
pub mod used_assertion;
pub mod user;

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
/// From when on its transaction is no longer committed; a little before, so that a 503 means that nothing was changed.
const PATIENCE_FOR_COMMIT: Duration = Duration::from_millis(1300);
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
    database: Database,
    readers: Pool,
    /// SQLite's one writer; PostgreSQL's readers write.
    writer: Option<Pool>,
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
                Db::new(database, pool(database, Access::Read, SQLITE_READERS), Some(pool(database, Access::Write, 1)))
            }
            Database::Postgres(_) => Db::new(database, pool(database, Access::Write, POSTGRES_CONNECTIONS), None),
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

    fn new(database: &Database, readers: Pool, writer: Option<Pool>) -> Db {
        Db { database: database.clone(), readers, writer, places: Arc::new(Semaphore::new(MOST_WAITING)) }
    }

    /// A connection of its own for following the directory: outside of the pools, which a hanging database can use up, and
    /// without a time limit, because no request waits for it.
    ///
    /// # Errors
    /// `Busy` when the database is away.
    pub fn follower(&self) -> Result<Conn> {
        connection::establish(&self.database, Access::Follow).map_err(|error| {
            log::debug!("no connection to follow the directory: {error}");
            Error::Busy
        })
    }

    /// Runs `work` on a connection that only reads.
    ///
    /// # Errors
    /// What `work` returns; `Busy` when the database is away, full or slow, within 1.5 s.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(move |db, _| db.read_now(work)).await
    }

    /// Runs `work` in one transaction, committed before this returns.
    ///
    /// # Errors
    /// As [`Db::read`]; nothing is changed then, except that a connection lost during the commit itself leaves open
    /// whether it had been reached.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(move |db, deadline| db.transact(Some(deadline), work, |_| Ok(()))).await
    }

    /// A change to the directory's tables: takes the lock on the revision first, so that two
    /// changes cannot wait for each other, and hands the connection to `after` once it is committed.
    ///
    /// # Errors
    /// As [`Db::write`]; an error of `after` leaves the change committed.
    pub async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T> + Send + 'static,
        after: impl FnOnce(&mut Conn) -> Result<()> + Send + 'static,
    ) -> Result<T> {
        self.run(move |db, deadline| db.transact(Some(deadline), locked(work), after)).await
    }

    /// Runs blocking database work away from the request threads. It is told the time from which its request has been
    /// given up: what is not committed by then must not be.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Db, Instant) -> Result<T> + Send + 'static) -> Result<T> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Error::Busy)?;
        let deadline = Instant::now() + PATIENCE_FOR_COMMIT;
        let db = self.clone();
        let blocking = web::block(move || {
            let _held = place;
            work(&db, deadline)
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

    /// [`Db::write`] on this thread, for as long as it takes.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub fn write_now<T>(&self, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        self.transact(None, work, |_| Ok(()))
    }

    /// [`Db::change`] on this thread, for the command line.
    ///
    /// # Errors
    /// As [`Db::change`].
    pub fn change_now<T>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T>,
        after: impl FnOnce(&mut Conn) -> Result<()>,
    ) -> Result<T> {
        self.transact(None, locked(work), after)
    }

    fn transact<T>(
        &self,
        deadline: Option<Instant>,
        work: impl FnOnce(&mut Conn) -> Result<T>,
        after: impl FnOnce(&mut Conn) -> Result<()>,
    ) -> Result<T> {
        let writers = self.writer.as_ref().unwrap_or(&self.readers);
        let mut conn = writers.get().map_err(no_connection)?;
        let value = conn.in_transaction(|conn| {
            let value = work(conn)?;
            match deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                true => Err(Error::Busy),
                false => Ok(value),
            }
        })?;
        after(&mut conn)?;
        Ok(value)
    }

    /// Connections in use and connections open, for the metrics.
    pub fn pool_use(&self) -> (u32, u32) {
        let pools = [Some(&self.readers), self.writer.as_ref()].into_iter().flatten();
        let states = pools.map(r2d2::Pool::state);
        states.fold((0, 0), |(used, open), state| {
            (used + state.connections - state.idle_connections, open + state.connections)
        })
    }
}

/// The work with the lock on the revision taken first.
fn locked<T>(work: impl FnOnce(&mut Conn) -> Result<T>) -> impl FnOnce(&mut Conn) -> Result<T> {
    |conn| {
        revision::lock(conn)?;
        work(conn)
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
fn make_folder(path: &Path) -> std::result::Result<(), Exit> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| cannot_make(folder, &error))
}

/// Makes the database file, for its owner only, where there is none. One that is there is not opened: closing it again
/// would give back the locks that SQLite holds on it.
pub(crate) fn make_file(path: &Path) -> std::result::Result<(), Exit> {
    make_folder(path)?;
    if path.exists() {
        return Ok(());
    }
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    made.map(drop).map_err(|error| cannot_make(path, &error))
}

fn cannot_make(path: &Path, error: &std::io::Error) -> Exit {
    Exit::cannot_create(format!("cannot make {}: {error}; check DATABASE_URL", path.display()))
}

/// Part of a list, newest first.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// At most so many rows.
    pub limit: i64,
    /// Only rows of a lower number than this one.
    pub before: Option<i64>,
}

impl Page {
    fn before(self) -> i64 {
        self.before.unwrap_or(i64::MAX)
    }
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
