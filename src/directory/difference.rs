//! How the directory reads the database: everything at the start, by two threads, and from then on the difference.
//!
//! The difference is read step by step, each applied before the next is read, so that a million imported rows are never in
//! memory twice, and an attempt that fails has not been in vain.
//!
//! Why steps may be taken in the order of revisions: a row has the revision of its last change. One that changes again comes
//! later and as it is by then; one that was deleted and inserted again has a later revision than its tombstone, and within a
//! step tombstones come first. So nothing that is gone outlives the step of its last revision, and nothing that is there is
//! removed by an earlier one.
//!
//! Why the view of the database stands still meanwhile: a row that changed twice is in the difference at its later revision
//! only. Were that one passed by because it came after the difference was begun, a revocation would be answered before
//! anybody has read of it.

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::{Directory, KeyChanges, Pass};
use crate::db::audit::chain::Head;
use crate::db::revision::{self, Change, Counter, Part, Stamped};
use crate::db::{Conn, Db, domain, user};
use crate::error::{Error, Result};
use crate::id::Stamp;

/// How many revisions a step has. It takes some ten milliseconds and a few megabytes.
const STEP: i64 = 10_000;

/// What has been applied.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Everything up to here, but for what had a later revision when it was read.
    revision: i64,
    /// The latest revision of a view that a step was read from: what had a later one has at most this.
    viewed: i64,
    /// The last row of the audit log, as far as it was seen.
    audit: Head,
    /// The last stamp of the counter that was seen.
    stamped: Option<Stamped>,
    /// The changes of keys so far; made when nothing is missing, for a key and the one that follows it change together.
    keys: KeyChanges,
}

impl Seen {
    /// Everything up to here.
    pub(super) fn all(revision: i64) -> Seen {
        Seen { revision, viewed: revision, ..Seen::default() }
    }

    /// What the database must still contain.
    fn latest(&self) -> Latest {
        Latest { viewed: self.viewed, audit: self.audit.clone(), stamped: self.stamped }
    }

    fn is_whole(&self) -> bool {
        self.revision >= self.viewed
    }
}

/// What was seen last, before a look at the database.
struct Latest {
    viewed: i64,
    audit: Head,
    stamped: Option<Stamped>,
}

impl Latest {
    /// Whether the database contains it, or something later, in the directory's tables and in the audit log, which also records
    /// changes of other tables.
    fn is_kept(&self, conn: &mut Conn, now: &Counter) -> Result<bool> {
        let stamped = self.stamped.map_or(Ok(true), |stamped| stamped.is_kept(conn, now.stamped))?;
        Ok(stamped && now.value >= self.viewed && self.audit.is_kept(conn, &now.audit)?)
    }
}

impl Directory {
    /// Reads everything, before the first request.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn fill(&self, db: &Db) -> Result<Conn> {
        let (mut conn, mut other) = (db.follower()?, db.follower()?);
        let current = revision::counter(&mut conn)?.value;
        // A table that grows while it is filled is copied again and again.
        let (users, domains) = (user::count_all(&mut conn)?, domain::count_all(&mut conn)?);
        self.tenants.pin().reserve(users);
        self.domains.pin().reserve(domains);
        self.secrets.pin().reserve(domains);
        // Whoever comes first of a domain and its secrets makes the place of both.
        let filled = std::thread::scope(|scope| {
            let read = |conn: &mut Conn, part| {
                let mut keys = KeyChanges::default();
                let mut pass = Pass::new(&mut keys, true);
                let read = revision::changes(conn, part, 0, current, &mut |row| self.apply(row, &mut pass));
                self.change_keys(keys);
                read
            };
            let domains = scope.spawn(move || read(&mut other, Part::Domains));
            let most = read(&mut conn, Part::Most);
            domains.join().map(|domains| domains.and(most))
        });
        filled.map_err(|_| Error::internal("reading the directory panicked"))??;
        *self.seen() = Seen::all(current);
        // A row that changed meanwhile was passed over.
        self.catch_up(&mut conn)?;
        Ok(conn)
    }

    /// Whether nothing changed since the last time, which takes one question instead of ten.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn is_up_to_date(&self, conn: &mut Conn) -> Result<bool> {
        let asked_at = self.started.elapsed();
        // Before the counter is read: others go on meanwhile.
        let before = self.seen().latest();
        let counter = revision::counter(conn)?;
        let Counter { value: current, epoch, .. } = counter;
        let is_kept = before.is_kept(conn, &counter)?;
        let mut seen = self.seen();
        let nothing_new = !self.goes_back(&mut seen, &counter, is_kept)
            && seen.is_whole()
            && seen.revision == current
            && self.keyring().epoch() == epoch;
        if nothing_new {
            self.was_fresh_at(asked_at);
        }
        Ok(nothing_new)
    }

    /// Reads what changed since the last time and applies it.
    ///
    /// # Errors
    /// When the database does not answer; nothing is forgotten then. When this node can no longer know what it missed.
    pub fn catch_up(&self, conn: &mut Conn) -> Result<()> {
        self.catch_up_in_steps(conn, STEP)
    }

    /// [`Directory::catch_up`] in steps of so many revisions.
    ///
    /// # Errors
    /// As [`Directory::catch_up`].
    pub fn catch_up_in_steps(&self, conn: &mut Conn, step: i64) -> Result<()> {
        loop {
            let asked_at = self.started.elapsed();
            conn.in_snapshot(|conn| self.follow(conn, step))?;
            // Somebody else may have applied a step of a later view than ours, in which some of our rows come later.
            if self.seen().is_whole() {
                self.was_fresh_at(asked_at);
                return Ok(());
            }
        }
    }

    /// The revision up to which changes have been applied; it rises with every step.
    pub fn revision(&self) -> i64 {
        self.seen().revision
    }

    /// Applies what is in this view of the database.
    fn follow(&self, conn: &mut Conn, step: i64) -> Result<()> {
        // Before the counter is read: others go on meanwhile.
        let (mut seen, before) = {
            let seen = self.seen();
            (seen.revision, seen.latest())
        };
        let counter = revision::counter(conn)?;
        let Counter { value: current, forgotten, epoch, .. } = counter;
        let is_kept = before.is_kept(conn, &counter)?;
        if self.goes_back(&mut self.seen(), &counter, is_kept) {
            return Err(Error::Outdated(
                "the database was older than what this node has seen of it, as after a restored backup or a failover that \
                 lost the last transactions: this node must be restarted",
            ));
        }
        if (1..forgotten).contains(&seen) {
            self.outdated.store(true, Ordering::Relaxed);
            return Err(Error::Outdated(
                "this node has not read the database for days, and what was deleted meanwhile is forgotten: this node must be restarted",
            ));
        }
        while seen < current {
            let next = current.min(seen + step);
            let mut changes = Vec::new();
            revision::changes(conn, Part::All, seen, next, &mut |change| changes.push(change))?;
            seen = self.take_in(changes, next, current);
        }
        self.enter(epoch, current);
        Ok(())
    }

    /// Enters the epoch that stands in a view of the database, unless a later view was applied meanwhile.
    fn enter(&self, epoch: Stamp, current: i64) {
        let seen = self.seen();
        let keyring = self.keyring.load();
        if current >= seen.viewed && keyring.epoch() != epoch {
            self.keyring.store(Arc::new(keyring.in_epoch(epoch)));
        }
    }

    /// Applies the changes up to `next`, read from a view that reaches to `current`; returns what has been seen then.
    fn take_in(&self, changes: Vec<Change>, next: i64, current: i64) -> i64 {
        let mut seen = self.seen();
        // Whoever was quicker and has seen as much has applied all of this that is not to come later. If they have seen
        // less, nothing here is older than theirs: what changed between their view and ours has a revision of its own.
        if next > seen.revision {
            seen.revision = next;
            seen.viewed = seen.viewed.max(current);
            let mut pass = Pass::new(&mut seen.keys, false);
            changes.into_iter().for_each(|change| self.apply(change, &mut pass));
            if seen.is_whole() {
                self.change_keys(mem::take(&mut seen.keys));
            }
        }
        seen.revision
    }

    /// Notes what a look has found, and returns whether the database has ever lost what was seen of it. This is remembered: what
    /// the database counts from there on is not what this node knows under the same revisions. With the lock on what was
    /// seen, so that no other thread takes the present state for a later one.
    fn goes_back(&self, seen: &mut Seen, now: &Counter, is_kept: bool) -> bool {
        self.went_back.fetch_or(!is_kept, Ordering::Relaxed);
        self.outdated.fetch_or(!is_kept, Ordering::Relaxed);
        if seen.audit.id < now.audit.id {
            seen.audit = now.audit.clone();
        }
        if seen.stamped.is_none_or(|stamped| stamped.revision < now.stamped.revision) {
            seen.stamped = Some(now.stamped);
        }
        self.has_gone_back()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
