//! Reading the database into the directory: everything at the start, and then only changes.
//!
//! Changes are read in steps, and each step is applied before the next one is read. So a million imported rows are
//! never in memory twice, and a failed attempt keeps its progress.
//!
//! Steps may follow the order of revisions because a row has the revision of its last change. A row that changes again
//! comes later, in its later state. A row that was deleted and inserted again has a later revision than its tombstone,
//! and a step applies tombstones first. So a deleted row never outlives the step of its last revision, and an existing
//! row is never removed by an earlier one.
//!
//! All steps of an update read one snapshot. A row that changed twice appears only at its later revision. Without a
//! snapshot, a concurrent change could move the row past `current`, and this node would acknowledge a revocation that
//! is not yet in force.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Directory;
use super::keys::KeyChanges;
use crate::db::audit::chain::Head;
use crate::db::revision::{self, Change, Counter, Stamped, TableGroup};
use crate::db::{Conn, Db, domain, user};
use crate::error::{Error, Result};
use crate::id::Stamp;

/// Revisions per step, which takes some ten milliseconds and a few megabytes.
const REVISIONS_PER_STEP: i64 = 10_000;

/// The state of the database that has been applied.
#[derive(Debug, Default)]
pub(super) struct SyncState {
    /// Every change up to this revision is applied, except those of rows that changed again during the read.
    revision: i64,
    /// The latest revision of a snapshot from which a step was read. Rows that changed again during the read have at
    /// most this revision.
    viewed: i64,
    /// The last row of the audit log that was read.
    audit: Head,
    /// The last stamped revision that was read.
    stamped: Option<Stamped>,
    /// See [`Directory::has_gone_back`].
    pub(super) went_back: bool,
    /// Changes of keys that are not yet applied. They are applied together once `revision` reaches `viewed`, because a
    /// key and its successor change together.
    keys: KeyChanges,
}

impl SyncState {
    /// A state with all changes up to that revision applied.
    pub(super) fn all(revision: i64) -> SyncState {
        SyncState { revision, viewed: revision, ..SyncState::default() }
    }

    /// Returns what the database must still contain.
    fn latest(&self) -> LastRead {
        LastRead { viewed: self.viewed, audit: self.audit.clone(), stamped: self.stamped }
    }

    fn is_whole(&self) -> bool {
        self.revision >= self.viewed
    }
}

/// The last state that was read, for comparison with the database.
struct LastRead {
    viewed: i64,
    audit: Head,
    stamped: Option<Stamped>,
}

impl LastRead {
    /// Returns whether the database contains this state or a later one, in the directory's tables and in the audit log,
    /// which records changes of other tables too.
    fn is_present(&self, conn: &mut Conn, now: &Counter) -> Result<bool> {
        let stamped = self.stamped.map_or(Ok(true), |stamped| stamped.is_present(conn, now.stamped))?;
        Ok(stamped && now.value >= self.viewed && self.audit.is_present(conn, &now.audit)?)
    }
}

impl Directory {
    /// Reads all rows, before the first request.
    ///
    /// # Errors
    /// If the database does not answer.
    pub fn fill(&self, db: &Db) -> Result<Conn> {
        let (mut conn, mut other) = (db.sync_connection()?, db.sync_connection()?);
        let current = revision::counter(&mut conn)?.value;
        // Reserved, because a table that grows while it is filled is copied again and again.
        let (users, domains) = (user::count_all(&mut conn)?, domain::count_all(&mut conn)?);
        self.tenants.pin().reserve(users);
        self.domains.pin().reserve(domains);
        self.secrets.pin().reserve(domains);
        // A domain and its secrets may be read in either order: the first one creates the slot that both share.
        let filled = std::thread::scope(|scope| {
            let read = |conn: &mut Conn, group| {
                let mut keys = KeyChanges::default();
                let read = revision::changes(conn, group, 0, current, &mut |row| self.apply(row, true, &mut keys));
                self.change_keys(keys);
                read
            };
            let domains = scope.spawn(move || read(&mut other, TableGroup::Domains));
            let most = read(&mut conn, TableGroup::AllButDomains);
            domains.join().map(|domains| domains.and(most))
        });
        filled.map_err(|_| Error::internal("reading the directory panicked"))??;
        *self.seen.lock() = SyncState::all(current);
        // Rows that changed during the read were left out.
        self.catch_up(&mut conn)?;
        Ok(conn)
    }

    /// Returns whether nothing changed since the last read. Takes one query, where [`Directory::catch_up`] takes ten.
    ///
    /// # Errors
    /// If the database does not answer.
    pub fn is_up_to_date(&self, conn: &mut Conn) -> Result<bool> {
        let asked_at = self.started.elapsed();
        // Copied before the counter is read, because other threads continue meanwhile.
        let before = self.seen.lock().latest();
        let counter = revision::counter(conn)?;
        let Counter { value: current, epoch, .. } = counter;
        let is_present = before.is_present(conn, &counter)?;
        let mut seen = self.seen.lock();
        let nothing_new = !self.record_read(&mut seen, &counter, is_present)
            && seen.is_whole()
            && seen.revision == current
            && self.keyring().epoch() == epoch;
        if nothing_new {
            self.was_fresh_at(asked_at);
        }
        Ok(nothing_new)
    }

    /// Reads and applies the changes since the last read.
    ///
    /// # Errors
    /// If the database does not answer; what was applied stays. `StaleNode` if this node can no longer learn what it
    /// missed.
    pub fn catch_up(&self, conn: &mut Conn) -> Result<()> {
        self.catch_up_in_steps(conn, REVISIONS_PER_STEP)
    }

    /// [`Directory::catch_up`] with `step` revisions per step.
    ///
    /// # Errors
    /// As [`Directory::catch_up`].
    pub fn catch_up_in_steps(&self, conn: &mut Conn, step: i64) -> Result<()> {
        loop {
            let asked_at = self.started.elapsed();
            conn.in_snapshot(|conn| self.read_snapshot(conn, step))?;
            // Another thread may have applied a step of a later snapshot, in which some of these rows have later
            // revisions.
            if self.seen.lock().is_whole() {
                self.was_fresh_at(asked_at);
                return Ok(());
            }
        }
    }

    /// Returns the revision up to which changes are applied. It rises with every step.
    pub fn revision(&self) -> i64 {
        self.seen.lock().revision
    }

    /// Applies the changes that the current snapshot contains.
    fn read_snapshot(&self, conn: &mut Conn, step: i64) -> Result<()> {
        // Copied before the counter is read, because other threads continue meanwhile.
        let (mut seen, before) = {
            let seen = self.seen.lock();
            (seen.revision, seen.latest())
        };
        let counter = revision::counter(conn)?;
        let Counter { value: current, forgotten, epoch, .. } = counter;
        let is_present = before.is_present(conn, &counter)?;
        if self.record_read(&mut self.seen.lock(), &counter, is_present) {
            return Err(Error::StaleNode(
                "the database was older than what this node has read of it, as after a restored backup or a failover that \
                 lost the last transactions: this node must be restarted",
            ));
        }
        if (1..forgotten).contains(&seen) {
            self.stale.store(true, Ordering::Relaxed);
            return Err(Error::StaleNode(
                "this node has not read the database for days, and the deletions since then are no longer recorded: this node must be restarted",
            ));
        }
        while seen < current {
            let next = current.min(seen + step);
            let mut changes = Vec::new();
            revision::changes(conn, TableGroup::All, seen, next, &mut |change| changes.push(change))?;
            seen = self.apply_step(changes, next, current);
        }
        self.enter(epoch, current);
        Ok(())
    }

    /// Switches to the epoch of a snapshot, unless a later snapshot was applied meanwhile.
    fn enter(&self, epoch: Stamp, current: i64) {
        let seen = self.seen.lock();
        let keyring = self.keyring.load();
        if current >= seen.viewed && keyring.epoch() != epoch {
            self.keyring.store(Arc::new(keyring.in_epoch(epoch)));
        }
    }

    /// Applies the changes up to `next`, read from a snapshot that reaches to `current`. Returns the revision that is
    /// then applied.
    fn apply_step(&self, changes: Vec<Change>, next: i64, current: i64) -> i64 {
        let mut seen = self.seen.lock();
        // Another thread that has applied `next` has applied these changes, except rows that come at a later revision.
        // If it has applied less, none of these rows is older than its state: changes between the two snapshots have
        // their own revisions.
        if next > seen.revision {
            seen.revision = next;
            seen.viewed = seen.viewed.max(current);
            changes.into_iter().for_each(|change| self.apply(change, false, &mut seen.keys));
            if seen.is_whole() {
                self.change_keys(mem::take(&mut seen.keys));
            }
        }
        seen.revision
    }

    /// Records what was read, and returns whether the database ever lost something that had been read.
    ///
    /// The loss is remembered, because revisions that the database assigns from then on do not mean what this node has
    /// read under the same numbers. The caller holds the lock on `seen`, so that no other thread takes this state for a
    /// later one.
    fn record_read(&self, seen: &mut SyncState, now: &Counter, is_present: bool) -> bool {
        seen.went_back |= !is_present;
        self.stale.fetch_or(!is_present, Ordering::Relaxed);
        if seen.audit.id < now.audit.id {
            seen.audit = now.audit.clone();
        }
        if seen.stamped.is_none_or(|stamped| stamped.revision < now.stamped.revision) {
            seen.stamped = Some(now.stamped);
        }
        seen.went_back
    }
}
