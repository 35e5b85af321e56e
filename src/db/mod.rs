//! The only place with SQL. `read` and `write` take a closure over one connection and run it away
//! from the request threads; rows come out as the structs of the modules below, never as JSON.
//!
//! Why two pools for SQLite: it has one writer. Writers queue for the one writing connection in
//! order, instead of meeting `SQLITE_BUSY`; readers never wait for them (WAL).

pub mod audit;
mod batch;
pub mod connection;
pub mod domain;
pub mod dormancy;
mod file;
pub mod identity;
pub mod import;
pub mod known_network;
mod migrate;
pub mod post;
pub mod proof;
pub mod removal;
pub mod restore;
pub mod revision;
pub mod revocation;
mod rights;
#[rustfmt::skip]
pub mod schema;
pub mod secret;
pub mod secret_use;
pub mod signing_key;
pub mod trusted_time;
pub mod usage;
pub mod used_assertion;
pub mod user;
mod wal;
mod witness;

use std::fs::{self, DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::web;
use diesel::Selectable;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::oneshot;

use crate::config::Database;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::shares::{Holder, Permit, Share};
pub use connection::Conn;
use connection::{Access, Manager, MultiBackend, Refusal, refused};
use file::SqliteFile;
use migrate::{Migrated, Policy};

/// How long a request waits for its turn and for the database before it is answered 503.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(1400);
/// How much longer it waits for a commit that has begun, and then for the directory to know of the change: a 503 would say
/// that nothing was changed.
pub(crate) const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before another try to let the directory know.
const PAUSE: Duration = Duration::from_millis(100);
/// How long it waits for a free connection within that time.
const CONNECTION_TIMEOUT: Duration = Duration::from_millis(1000);
const SQLITE_READERS: u32 = 8;
const POSTGRES_CONNECTIONS: u32 = 10;

type Pool = r2d2::Pool<Manager>;
type Pooled = r2d2::PooledConnection<Manager>;

/// A connection that writes, until it is dropped.
struct Writer {
    conn: Pooled,
    began: Instant,
    hold_time: Option<Histogram>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(hold_time) = &self.hold_time {
            hold_time.observe(self.began.elapsed().as_secs_f64());
        }
    }
}

/// Whether a request's transaction is committed or given up: whoever claims it first decides.
#[derive(Default)]
struct Outcome(AtomicBool);

impl Outcome {
    /// `false` when the other one was first.
    fn claim(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// Both pools, and the shares by which requests get their connections: as many permits as there are connections, so that
/// the order of service is that of [`Share`] and not of the pool. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    database: Database,
    readers: Pool,
    /// SQLite's one writer; PostgreSQL's readers write.
    writer: Option<Pool>,
    reads: Share,
    /// On PostgreSQL the same share as `reads`.
    writes: Share,
    hold_time: Option<Histogram>,
    /// The file that this process serves.
    file: Option<Arc<SqliteFile>>,
    is_new: bool,
}

impl Db {
    /// Opens and migrates the database for a server, which takes a SQLite file for itself.
    ///
    /// # Errors
    /// As [`Db::open`]; 73 for a file that another server uses, 65 for a write-ahead log of another file.
    pub fn serve(database: &Database) -> std::result::Result<Db, Exit> {
        Db::take(database, Policy::Migrate)
    }

    /// As [`Db::serve`], for a database that must be of this version.
    ///
    /// # Errors
    /// As [`Db::serve`] and [`Db::open_existing`].
    pub(crate) fn take_existing(database: &Database) -> std::result::Result<Db, Exit> {
        Db::take(database, Policy::Keep)
    }

    fn take(database: &Database, policy: Policy) -> std::result::Result<Db, Exit> {
        let file = match database {
            Database::Sqlite(path) => {
                exists(path)?;
                Some(Arc::new(SqliteFile::take(path)?))
            }
            Database::Postgres(_) => None,
        };
        Db::open_as(database, file, policy)
    }

    /// Opens the database, making the SQLite file (0600), its folder (0700) and the tables where they are missing.
    ///
    /// # Errors
    /// 65 for a corrupt or newer database, 69 for one that does not answer, 73 for a file that cannot be made, 77 where a
    /// right is missing, 78 for an older database and one that cannot be used.
    pub fn open(database: &Database) -> std::result::Result<Db, Exit> {
        Db::open_beside(database, Policy::Make)
    }

    /// Opens a database of this version.
    ///
    /// # Errors
    /// As [`Db::open`]; 69 where there is no database.
    pub fn open_existing(database: &Database) -> std::result::Result<Db, Exit> {
        match database {
            Database::Sqlite(path) if !exists(path)? => Err(Exit::unavailable(format!(
                "there is no database in {}; check DATABASE_URL and the working folder",
                path.display()
            ))),
            _ => Db::open_beside(database, Policy::Keep),
        }
    }

    /// Opens it beside a server or without one.
    fn open_beside(database: &Database, policy: Policy) -> std::result::Result<Db, Exit> {
        make_unserved(database)?;
        Db::open_as(database, None, policy)
    }

    fn open_as(database: &Database, file: Option<Arc<SqliteFile>>, policy: Policy) -> std::result::Result<Db, Exit> {
        let Migrated { is_new, .. } = prepare(database, policy)?;
        let pool = |access, size| pool(Manager { database: database.clone(), access, file: file.clone() }, size);
        let (readers, writer) = match database {
            Database::Sqlite(_) => (pool(Access::Read, SQLITE_READERS), Some(pool(Access::Write, 1))),
            Database::Postgres(_) => (pool(Access::Write, POSTGRES_CONNECTIONS), None),
        };
        let reads = Share::new(readers.max_size() as usize);
        let writes = writer.as_ref().map_or_else(|| reads.clone(), |_| Share::new(1));
        Ok(Db { database: database.clone(), readers, writer, reads, writes, hold_time: None, file, is_new })
    }

    /// The same database; how long each write transaction holds the writer is observed.
    #[must_use]
    pub fn observed(self, hold_time: Histogram) -> Db {
        Db { hold_time: Some(hold_time), ..self }
    }

    /// Whether this process made the tables.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Brings the database up to this binary's version and says what was applied.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub fn migrate(database: &Database) -> std::result::Result<Vec<String>, Exit> {
        make_unserved(database)?;
        Ok(prepare(database, Policy::Migrate)?.applied)
    }

    /// Whether rows can be changed.
    ///
    /// # Errors
    /// 77 where they can only be read.
    pub(crate) fn check_rights(&self) -> std::result::Result<(), Exit> {
        let mut conn = connection::establish(&self.database, Access::Write).map_err(refused(&self.database))?;
        rights::check(&mut conn, &self.database)
    }

    /// What an error means for a process that is about to start.
    pub(crate) fn cannot_start(&self, error: &Error) -> Exit {
        match (error.cause(), &self.database) {
            (Some(cause), database) => refused(database)(cause),
            // Nobody else uses the file.
            (None, Database::Sqlite(_)) => Refusal::Full.exit(&self.database, "see the log"),
            (None, Database::Postgres(_)) => Refusal::Away.exit(&self.database, "it does not answer"),
        }
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

    /// Runs `work` on a connection that only reads, in the share of that holder.
    ///
    /// # Errors
    /// What `work` returns; `Busy` within 1.5 s when the database is away, full or slow, or the holder's share is used up.
    pub async fn read<T: Send + 'static>(
        &self,
        holder: Holder,
        work: impl FnOnce(&mut Conn) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(&self.reads, holder, move |db, _, _permit| db.read_now(work)).await
    }

    /// Runs `work` in one transaction, committed before this returns.
    ///
    /// # Errors
    /// As [`Db::read`]; nothing is changed then. `CommitUnknown` when the commit has begun and takes seconds, or its connection
    /// was lost, which leaves open whether it was reached.
    pub async fn write<T: Send + 'static>(
        &self,
        holder: Holder,
        work: impl FnOnce(&mut Conn) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(&self.writes, holder, move |db, outcome, _permit| Ok(db.transact(Some(outcome), work)?.0)).await
    }

    /// A change to the directory's tables: takes the lock on the revision first, so that two changes cannot wait for each
    /// other. Once it is committed, `after` gets the connection; where it fails, others, for some seconds. What came of that
    /// is in the answer.
    ///
    /// # Errors
    /// As [`Db::write`]; inside, `CommitUnknown` when the change is committed and `after` has failed to the last.
    pub async fn change<T: Send + 'static>(
        &self,
        holder: Holder,
        work: impl FnOnce(&mut Conn) -> Result<T> + Send + 'static,
        after: impl Fn(&mut Conn) -> Result<()> + Send + 'static,
    ) -> Result<(T, Result<()>)> {
        let (committed, mut value) = oneshot::channel();
        // In one go: whoever holds SQLite's one writer must not queue up for a thread behind those who wait for the writer.
        let change = move |db: &Db, outcome: &Outcome, permit: Permit| {
            let (value, writer) = db.transact(Some(outcome), locked(work))?;
            // Where nobody listens any more, the request itself is gone.
            committed.send(value).ok();
            db.apply((writer, Some(permit)), after)
        };
        let applied = self.run(&self.writes, holder, change).await;
        match value.try_recv() {
            Ok(value) => {
                if applied.is_err() {
                    log::error!("a change is committed, and this node has not read it back");
                }
                Ok((value, applied))
            }
            Err(_) => Err(applied.err().unwrap_or(Error::CommitUnknown)),
        }
    }

    /// Runs blocking database work away from the request threads. When its request has waited for long enough, it is given
    /// up, unless its commit has begun.
    async fn run<T: Send + 'static>(
        &self,
        share: &Share,
        holder: Holder,
        work: impl FnOnce(&Db, &Outcome, Permit) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let deadline = tokio::time::Instant::now() + REQUEST_TIMEOUT;
        let permit = share.take(holder, REQUEST_TIMEOUT).await.ok_or(Error::Busy)?;
        let outcome = Arc::new(Outcome::default());
        let (db, of_work) = (self.clone(), Arc::clone(&outcome));
        let mut blocking = pin!(web::block(move || {
            // With the permit, also of a request that was given up, as long as its work goes on.
            match work(&db, &of_work, permit) {
                // A file that was replaced reads like a damaged one.
                Err(Error::Internal(cause)) if !db.is_intact() => {
                    log::debug!("the file was moved or replaced: {cause}");
                    Err(Error::Busy)
                }
                done => done,
            }
        }));
        let done = match tokio::time::timeout_at(deadline, blocking.as_mut()).await {
            Ok(done) => done,
            Err(_elapsed) if outcome.claim() => return Err(Error::Busy),
            Err(_elapsed) => {
                tokio::time::timeout(COMMIT_TIMEOUT, blocking).await.map_err(|_elapsed| Error::CommitUnknown)?
            }
        };
        done.map_err(Error::internal)?
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
        self.transact(None, work).map(|(value, _)| value)
    }

    /// [`Db::change`] on this thread, for the command line and what no request waits for.
    ///
    /// # Errors
    /// As [`Db::write`]; and `CommitUnknown` when the change is committed and `after` has failed to the last.
    pub fn change_now<T>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T>,
        after: impl Fn(&mut Conn) -> Result<()>,
    ) -> Result<T> {
        let (value, writer) = self.transact(None, locked(work))?;
        self.apply((writer, None), after)?;
        Ok(value)
    }

    /// Commits, unless the outcome has been claimed by who has given up waiting.
    fn transact<T>(&self, outcome: Option<&Outcome>, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<(T, Writer)> {
        let writers = self.writer.as_ref().unwrap_or(&self.readers);
        let conn = writers.get().map_err(no_connection)?;
        let mut writer = Writer { conn, began: Instant::now(), hold_time: self.hold_time.clone() };
        let value = writer.conn.in_transaction(|conn| {
            let value = work(conn)?;
            // What is written to a file that was moved or replaced is lost.
            match self.is_intact() && outcome.is_none_or(Outcome::claim) {
                true => Ok(value),
                false => Err(Error::Busy),
            }
        })?;
        Ok((value, writer))
    }

    /// Does what follows a commit; where it fails, again on a connection of its own, which neither a pool nor a time limit
    /// withholds.
    fn apply(
        &self,
        (mut writer, permit): (Writer, Option<Permit>),
        after: impl Fn(&mut Conn) -> Result<()>,
    ) -> Result<()> {
        let deadline = Instant::now() + COMMIT_TIMEOUT;
        let mut applied = after(&mut writer.conn);
        drop((writer, permit));
        while let Err(error) = applied {
            let cause = error.cause().unwrap_or("the database is away");
            if Instant::now() >= deadline || matches!(error, Error::Outdated(_)) {
                log::error!("a change is committed, and this node cannot read it back: {cause}");
                return Err(Error::CommitUnknown);
            }
            log::debug!("a change is committed; it is read back again: {cause}");
            std::thread::sleep(PAUSE);
            applied = self.follower().and_then(|mut conn| after(&mut conn));
        }
        Ok(())
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

fn pool(manager: Manager, size: u32) -> Pool {
    let pool = r2d2::Pool::builder();
    let pool = match manager.database {
        // When the last connection is closed, SQLite removes the log; and a new connection to a file is no better.
        Database::Sqlite(_) => pool.max_lifetime(None).idle_timeout(None),
        Database::Postgres(_) => pool,
    };
    pool.max_size(size)
        .min_idle(Some(1))
        .connection_timeout(CONNECTION_TIMEOUT)
        .error_handler(Box::new(r2d2::NopErrorHandler))
        .build_unchecked(manager)
}

/// Makes the file of a SQLite database that this process does not serve, and checks what stands beside it.
fn make_unserved(database: &Database) -> std::result::Result<(), Exit> {
    if let Database::Sqlite(path) = database {
        exists(path)?;
        make_file(path)?;
        file::check_unserved(path)?;
    }
    Ok(())
}

/// Checks the database, and brings it up to this binary's version as far as the policy goes.
fn prepare(database: &Database, policy: Policy) -> std::result::Result<Migrated, Exit> {
    let mut conn = connection::establish(database, Access::Write).map_err(refused(database))?;
    connection::check_file(&mut conn, database, connection::CHECKED_AT_START)?;
    connection::check_server(&mut conn, database)?;
    migrate::run(&mut conn, database, policy)
}

/// Whether there is a database: the file of a new one is empty until the log is moved into it. SQLite takes a file of one byte
/// for an empty one.
///
/// # Errors
/// 65 where a kept secret beside an empty file says that there was one.
fn exists(path: &Path) -> std::result::Result<bool, Exit> {
    let secret = Database::secret_file(path);
    match fs::metadata(path) {
        Ok(file) if file.len() > 1 || file::has_log(path) => Ok(true),
        Ok(_) if secret.exists() => Err(Exit::data(format!(
            "{path} is empty, but {secret} beside it says that there was a database: restore a backup, or remove {path} to begin \
             with a new one",
            path = path.display(),
            secret = secret.display()
        ))),
        _ => Ok(false),
    }
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
