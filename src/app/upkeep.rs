//! What has to be done now and then, whoever calls or not: keys are followed by others, what has expired is forgotten.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::App;
use super::keys::{self, Spare};
use super::time::MAX_RESTART;
use crate::db::audit::{Actor, Audited};
use crate::db::{dormancy, known_network, proof, revision, revocation, secret, usage, used_assertion};
use crate::error::Result;
use crate::exit::Exit;
use crate::usage::DAY;

/// Nothing here is urgent: a key that is due early by this much, or an expired revocation that is kept for so long, does no
/// harm.
const EVERY: Duration = Duration::from_secs(20);
/// Seconds for which a revocation is kept beyond its token's `exp`: clocks of nodes may differ, and a clock that is wrong by
/// this much at a start is not noticed.
const CLOCKS: i64 = MAX_RESTART + 30;

/// Seconds for which a secret that no longer works is still shown to its owner.
const SHOWN: i64 = 7 * DAY;
/// Seconds for which it can be told what was deleted. A node that has not read the database for so long, a week-end and its
/// repair, has to be started again; nobody else needs it.
const TOLD_AS_GONE: i64 = 7 * DAY;
/// Seconds after which a domain that is neither verified nor used is dormant.
const DORMANT_AFTER: i64 = 90 * DAY;
/// Days of usage that are kept.
pub(crate) const USAGE_DAYS: i64 = 400;

/// Seconds for which it is remembered that an account was signed in to from a network.
pub(crate) const KNOWN_NETWORK: i64 = 30 * DAY;

/// Does it on a thread of its own until the app is gone.
pub(super) fn keep_up(app: Weak<App>) -> std::result::Result<(), Exit> {
    repeat("upkeep", EVERY, app, App::upkeep)
}

/// Does some work again and again on a thread of its own until the app is gone.
pub(super) fn repeat(
    name: &'static str,
    every: Duration,
    app: Weak<App>,
    work: fn(&Arc<App>) -> Result<()>,
) -> std::result::Result<(), Exit> {
    let working = move || {
        let mut waits = false;
        loop {
            std::thread::sleep(every);
            let Some(app) = app.upgrade() else { return };
            let done = catch_unwind(AssertUnwindSafe(|| work(&app)));
            match &done {
                Ok(Ok(())) if waits => log::info!("{name} goes on"),
                Ok(Err(error)) if !waits => {
                    log::warn!("{name} has to wait: {}", error.cause().unwrap_or("the database is away"));
                }
                Ok(_) => {}
                Err(_) => log::error!("{name} panicked, and goes on"),
            }
            waits = matches!(done, Ok(Err(_)));
        }
    };
    let thread = std::thread::Builder::new().name(name.into()).spawn(working);
    thread.map(drop).map_err(|error| Exit::software(format!("cannot start a thread: {error}")))
}

impl App {
    /// Forgets what has expired, and lets keys follow each other.
    ///
    /// # Errors
    /// When the database does not answer; what is left is done the next time.
    pub fn upkeep(self: &Arc<App>) -> Result<()> {
        self.directory.used_assertions.prune(self.trusted_now());
        self.warn_of_bounds();
        self.budgets.prune(self.steady_now());
        self.directory.prune_former_meters(self.steady_now());
        self.keep_time()?;
        let (now, wall) = (self.trusted_now(), self.now());
        let past = now - CLOCKS;
        if self.directory.used_assertions.are_shared() {
            self.in_batches(|rows| self.db.write_now(|conn| Ok(used_assertion::prune(conn, past, rows)?)))?;
        }
        if self.directory.has_expired_revocations(past) {
            // The rows first: what fails here is tried again.
            self.in_batches(|rows| self.db.write_now(|conn| Ok(revocation::prune(conn, past, rows)?)))?;
            self.directory.prune(past);
        }
        self.in_batches(|rows| {
            self.db.change_now(|conn| Ok(secret::prune(conn, now - SHOWN, rows)?), |conn| self.directory.catch_up(conn))
        })?;
        let gone = now - TOLD_AS_GONE;
        if let Some(last) = self.db.read_now(|conn| Ok(revision::last_old_tombstone(conn, gone, now)?))? {
            self.in_batches(|rows| {
                self.db.change_now(|conn| Ok(revision::prune_tombstones(conn, last, rows)?), |_| Ok(()))
            })?;
        }
        self.in_batches(|rows| self.db.write_now(|conn| Ok(revision::prune_stamps(conn, rows)?)))?;
        let first_day = now.div_euclid(DAY) - USAGE_DAYS;
        self.in_batches(|rows| self.db.write_now(|conn| Ok(usage::prune(conn, first_day, rows)?)))?;
        self.in_batches(|rows| self.db.write_now(|conn| Ok(proof::prune_challenges(conn, now, rows)?)))?;
        self.in_batches(|rows| self.change_now(|conn| Ok(Audited::nothing(dormancy::note_changes(conn, now, rows)?))))?;
        self.in_batches(|rows| {
            self.change_now(|conn| {
                let (looked, dormant) = dormancy::put_to_sleep(conn, now - DORMANT_AFTER, rows)?;
                let entry = |(id, owner)| Actor::SERVER.did("domain.dormant", id, Some(owner), now);
                Ok(Audited::several(looked, dormant.into_iter().map(entry).collect()))
            })
        })?;
        let unseen = now - KNOWN_NETWORK;
        self.in_batches(|rows| self.db.write_now(|conn| Ok(known_network::prune(conn, unseen, rows)?)))?;
        // A key's times are those of the wall clock.
        if !self.clock_is_right() {
            return Ok(());
        }
        let (keyring, now) = (self.directory.keyring(), wall);
        let period = self.config.key_rotation;
        if keyring.needs_upkeep(period, now) {
            let spare = if keyring.wants_next(period, now) { Spare::new(&keyring) } else { None };
            self.change_now(|conn| {
                keys::telling(conn, Actor::SERVER, now, |conn| keys::keep_up(conn, &keyring, spare, period, now))
            })?;
        }
        Ok(())
    }
}
