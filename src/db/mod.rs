//! The only module with SQL.
//!
//! [`Db::read`], [`Db::write`] and [`Db::change`] run a closure over one connection on a blocking thread. Rows are
//! returned as the structs of the submodules, never as JSON.
//!
//! SQLite has one writer, so it gets two pools: writers queue in order for the one writing connection instead of
//! failing with `SQLITE_BUSY`, and readers never wait for them (WAL).

pub mod audit;
mod checks;
pub mod connection;
pub mod deletion;
pub mod domain;
pub mod dormancy;
mod errors;
mod file;
pub mod identity;
pub mod import;
pub mod known_network;
mod migrate;
mod open;
pub mod post;
pub mod removal;
pub mod restore;
pub mod revision;
pub mod revocation;
#[rustfmt::skip]
pub mod schema;
pub mod secret;
pub mod signing_key;
pub mod trusted_time;
pub mod usage;
pub mod used_assertion;
pub mod user;
pub mod verified_host;
mod wal;
mod witness;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::web;
use diesel::Selectable;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::oneshot;

use crate::config::Database;
use crate::error::{Error, Result};
use crate::shares::{Holder, Permit, Share};
pub use connection::Conn;
use connection::{Manager, MultiBackend};
use file::SqliteFile;

/// Limit for a request's share, connection and queries together. After it, the request is answered 503.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(1400);
/// Additional limit once a commit has begun, because a 503 would say that nothing was changed. The same limit applies
/// to updating the directory after a commit.
pub(crate) const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between attempts to update the directory after a commit.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

type Pool = r2d2::Pool<Manager>;
type Pooled = r2d2::PooledConnection<Manager>;

/// The writing connection of one transaction. Dropping it observes how long the writer was held.
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

/// Decides whether a request's transaction is committed or abandoned: the first claim wins.
#[derive(Default)]
struct Outcome(AtomicBool);

impl Outcome {
    /// Returns `false` if the other side has claimed the outcome.
    fn claim(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// The connection pools, and the shares that admit requests to them. Cheap to clone.
///
/// A share has as many permits as its pool has connections, so [`Share`], not the pool, decides the order of service.
#[derive(Clone)]
pub struct Db {
    database: Database,
    readers: Pool,
    /// The one writer of SQLite; `None` on PostgreSQL, where the connections of `readers` write too.
    writer: Option<Pool>,
    reads: Share,
    /// On PostgreSQL, the same share as `reads`.
    writes: Share,
    hold_time: Option<Histogram>,
    /// The SQLite file that this process serves.
    file: Option<Arc<SqliteFile>>,
    is_new: bool,
}

impl Db {
    /// Returns the same database, which observes in `hold_time` how long each transaction holds the writer, in seconds.
    #[must_use]
    pub fn observed(self, hold_time: Histogram) -> Db {
        Db { hold_time: Some(hold_time), ..self }
    }

    /// Returns whether this process created the tables.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Runs `work` on a reading connection.
    ///
    /// `holder` is the client whose share of the connections is charged; it is no filter on rows.
    ///
    /// # Errors
    /// Those of `work`. `Busy`, within 1.5 s, if the database does not answer, is full or slow, or if the share of
    /// `holder` is used up.
    pub async fn read<T: Send + 'static>(
        &self,
        holder: Holder,
        work: impl FnOnce(&mut Conn) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(&self.reads, holder, move |db, _, _permit| db.read_now(work)).await
    }

    /// Runs `work` in one transaction and commits it.
    ///
    /// # Errors
    /// As [`Db::read`]; nothing is changed then. `CommitUnknown` if the commit has begun and does not end in time, or
    /// if the connection was lost during the commit.
    pub async fn write<T: Send + 'static>(
        &self,
        holder: Holder,
        work: impl FnOnce(&mut Conn) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(&self.writes, holder, move |db, outcome, _permit| Ok(db.transact(Some(outcome), work)?.0)).await
    }

    /// Runs `work`, which changes the directory's tables, in one transaction, and then runs `after`, which updates this
    /// node's directory.
    ///
    /// The transaction locks the revision first, so that two changes cannot deadlock. If `after` fails on the writing
    /// connection, it is run again on other connections for some seconds. Its result is the second part of the
    /// value.
    ///
    /// # Errors
    /// As [`Db::write`]. The inner result is `CommitUnknown` if the change is committed and every run of `after`
    /// failed.
    pub async fn change<T: Send + 'static>(
        &self,
        holder: Holder,
        work: impl FnOnce(&mut Conn) -> Result<T> + Send + 'static,
        after: impl Fn(&mut Conn) -> Result<()> + Send + 'static,
    ) -> Result<(T, Result<()>)> {
        let (committed, mut value) = oneshot::channel();
        // One blocking task does both: if it held SQLite's only writer and waited for a second thread, tasks that wait
        // for the writer could occupy all threads.
        let change = move |db: &Db, outcome: &Outcome, permit: Permit| {
            let (value, writer) = db.transact(Some(outcome), locked(work))?;
            // The receiver is gone if the request is.
            committed.send(value).ok();
            db.apply((writer, Some(permit)), after)
        };
        let applied = self.run(&self.writes, holder, change).await;
        match value.try_recv() {
            Ok(value) => {
                if applied.is_err() {
                    log::error!("a change is committed, but this node has not applied it");
                }
                Ok((value, applied))
            }
            Err(_) => Err(applied.err().unwrap_or(Error::CommitUnknown)),
        }
    }

    /// Runs blocking database work on another thread. After [`REQUEST_TIMEOUT`] the work is abandoned, unless its
    /// commit has begun.
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
            // An abandoned request keeps its permit until its work ends.
            match work(&db, &of_work, permit) {
                // A replaced file reads like a corrupt one.
                Err(Error::Internal(cause)) if !db.is_intact() => {
                    log::debug!("the database file was moved or replaced: {cause}");
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

    /// [`Db::read`] on the current thread.
    ///
    /// # Errors
    /// As [`Db::read`].
    pub fn read_now<T>(&self, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        let mut conn = self.readers.get().map_err(no_connection)?;
        work(&mut conn)
    }

    /// [`Db::write`] on the current thread, without a time limit.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub fn write_now<T>(&self, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        self.transact(None, work).map(|(value, _)| value)
    }

    /// Runs `work`, which is no transaction, on the writing connection.
    fn with_writer<T>(&self, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        work(&mut self.writer()?.conn)
    }

    fn writer(&self) -> Result<Writer> {
        let conn = self.writer.as_ref().unwrap_or(&self.readers).get().map_err(no_connection)?;
        Ok(Writer { conn, began: Instant::now(), hold_time: self.hold_time.clone() })
    }

    /// [`Db::change`] on the current thread, for the command line and background tasks.
    ///
    /// # Errors
    /// As [`Db::write`]. `CommitUnknown` if the change is committed and every run of `after` failed.
    pub fn change_now<T>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T>,
        after: impl Fn(&mut Conn) -> Result<()>,
    ) -> Result<T> {
        let (value, writer) = self.transact(None, locked(work))?;
        self.apply((writer, None), after)?;
        Ok(value)
    }

    /// Runs `work` and commits, unless the request has claimed the outcome.
    fn transact<T>(&self, outcome: Option<&Outcome>, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<(T, Writer)> {
        let mut writer = self.writer()?;
        let value = writer.conn.in_transaction(|conn| {
            let value = work(conn)?;
            // A write to a file that was moved or replaced would be lost.
            if self.is_intact() && outcome.is_none_or(Outcome::claim) { Ok(value) } else { Err(Error::Busy) }
        })?;
        Ok((value, writer))
    }

    /// Runs `after` on the writing connection. If it fails, runs it again on connections outside the pools, which have
    /// no time limit.
    fn apply(
        &self,
        (mut writer, permit): (Writer, Option<Permit>),
        after: impl Fn(&mut Conn) -> Result<()>,
    ) -> Result<()> {
        let deadline = Instant::now() + COMMIT_TIMEOUT;
        let mut applied = after(&mut writer.conn);
        drop((writer, permit));
        while let Err(error) = applied {
            let cause = error.cause().unwrap_or("the database does not answer");
            if Instant::now() >= deadline || matches!(error, Error::StaleNode(_)) {
                log::error!("a change is committed, but this node cannot apply it: {cause}");
                return Err(Error::CommitUnknown);
            }
            log::debug!("a change is committed; applying it is tried again: {cause}");
            std::thread::sleep(RETRY_INTERVAL);
            applied = self.sync_connection().and_then(|mut conn| after(&mut conn));
        }
        Ok(())
    }

    /// Returns the number of connections in use and of open connections, for the metrics.
    pub fn pool_use(&self) -> (u32, u32) {
        let pools = [Some(&self.readers), self.writer.as_ref()].into_iter().flatten();
        let states = pools.map(r2d2::Pool::state);
        states.fold((0, 0), |(used, open), state| {
            (used + state.connections - state.idle_connections, open + state.connections)
        })
    }
}

/// Returns `work` preceded by the lock on the revision.
fn locked<T>(work: impl FnOnce(&mut Conn) -> Result<T>) -> impl FnOnce(&mut Conn) -> Result<T> {
    |conn| {
        revision::lock(conn)?;
        work(conn)
    }
}

/// A page of a list, newest first.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Maximum number of rows.
    pub limit: i64,
    /// Only rows with a lower number.
    pub before: Option<i64>,
}

impl Page {
    fn before(self) -> i64 {
        self.before.unwrap_or(i64::MAX)
    }
}

/// The columns of a row's struct, for `RETURNING`.
///
/// `as_returning` cannot be used: Diesel cannot serialize it for a [`Conn`].
fn columns<T: Selectable<MultiBackend>>() -> T::SelectExpression {
    T::construct_selection()
}

fn no_connection(error: r2d2::Error) -> Error {
    log::warn!("no database connection: {error}");
    Error::Busy
}
