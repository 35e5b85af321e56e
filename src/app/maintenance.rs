//! Periodic maintenance: rotates signing keys, deletes expired rows and frees memory. Also starts background threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::App;
use super::keys::{self, NewKey};
use super::time::MAX_RESTART;
use crate::db::audit::{Actor, Audited};
use crate::db::{dormancy, known_network, revision, revocation, secret, usage, used_assertion, verified_host};
use crate::error::Result;
use crate::exit::Exit;
use crate::usage::DAY;

/// How often maintenance runs. Nothing depends on it being on time.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(20);
/// Seconds for which a revocation is kept after its token's `exp`. Clocks of nodes may differ, and a clock that is
/// wrong by up to [`MAX_RESTART`] at a start is not detected.
const MAX_CLOCK_ERROR: i64 = MAX_RESTART + 30;
/// Seconds for which an owner still sees a secret after its end.
const ENDED_SECRET_RETENTION: i64 = 7 * DAY;
/// Seconds for which tombstones of deleted rows are kept. A node that has not read the database for longer must be
/// restarted.
const TOMBSTONE_RETENTION: i64 = 7 * DAY;
/// Seconds after which a domain that is neither verified nor used is dormant.
const DORMANT_AFTER: i64 = 90 * DAY;
/// Days of usage that are kept.
pub(crate) const USAGE_DAYS: i64 = 400;
/// Seconds after its last sign-in for which a network counts as known to an account.
pub(crate) const KNOWN_NETWORK: i64 = 30 * DAY;

/// Starts the maintenance thread. It ends with the app.
pub(super) fn start(app: Weak<App>) -> std::result::Result<(), Exit> {
    repeat("maintenance", MAINTENANCE_INTERVAL, app, App::maintain)
}

/// Starts a thread that runs `work` after each `interval`. It ends with the app.
pub(super) fn repeat(
    name: &'static str,
    interval: Duration,
    app: Weak<App>,
    work: fn(&Arc<App>) -> Result<()>,
) -> std::result::Result<(), Exit> {
    let working = move || {
        lower_priority();
        let mut has_failed = false;
        loop {
            std::thread::sleep(interval);
            let Some(app) = app.upgrade() else { return };
            let done = catch_unwind(AssertUnwindSafe(|| work(&app)));
            match &done {
                Ok(Ok(())) if has_failed => log::info!("{name}: succeeded again"),
                Ok(Err(error)) if !has_failed => {
                    let cause = error.cause().unwrap_or("the database does not answer");
                    log::warn!("{name}: failed, will be retried: {cause}");
                }
                Ok(_) => {}
                Err(_) => log::error!("{name}: panicked, will be retried"),
            }
            has_failed = matches!(done, Ok(Err(_)));
        }
    };
    let thread = std::thread::Builder::new().name(name.into()).spawn(working);
    thread.map(drop).map_err(|error| Exit::software(format!("cannot start a thread: {error}")))
}

/// Lets the threads that serve requests run first where this thread would compete with them for a core.
fn lower_priority() {
    /// Such a thread gets a tenth of a busy core (sched(7)).
    #[cfg(target_os = "linux")]
    const NICENESS: i32 = 10;
    // On Linux, a priority belongs to one thread, and no process id means the calling one.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

#[doc(hidden)]
impl App {
    /// Runs maintenance once.
    ///
    /// # Errors
    /// When the database does not answer. The next call does the rest.
    pub fn maintain(self: &Arc<App>) -> Result<()> {
        self.directory.used_assertions.prune(self.trusted_now());
        self.warn_of_bounds();
        self.budgets.prune(self.steady_now());
        self.directory.prune_former_meters(self.steady_now());
        self.update_trusted_time()?;
        let (now, wall) = (self.trusted_now(), self.now());
        let past = now - MAX_CLOCK_ERROR;
        if self.directory.used_assertions.is_shared() {
            self.in_batches(|rows| self.db.write_now(|conn| Ok(used_assertion::prune(conn, past, rows)?)))?;
        }
        if self.directory.has_expired_revocations(past) {
            // The rows first: the directory still has expired revocations if this fails, so the next call tries again.
            self.in_batches(|rows| self.db.write_now(|conn| Ok(revocation::prune(conn, past, rows)?)))?;
            self.directory.prune(past);
        }
        let ended = now - ENDED_SECRET_RETENTION;
        self.in_batches(|rows| {
            self.db.change_now(|conn| Ok(secret::prune(conn, ended, rows)?), |conn| self.directory.catch_up(conn))
        })?;
        let gone = now - TOMBSTONE_RETENTION;
        if let Some(last) = self.db.read_now(|conn| Ok(revision::last_old_tombstone(conn, gone, now)?))? {
            self.in_batches(|rows| {
                self.db.change_now(|conn| Ok(revision::prune_tombstones(conn, last, rows)?), |_| Ok(()))
            })?;
        }
        self.in_batches(|rows| self.db.write_now(|conn| Ok(revision::prune_stamps(conn, rows)?)))?;
        let first_day = now.div_euclid(DAY) - USAGE_DAYS;
        self.in_batches(|rows| self.db.write_now(|conn| Ok(usage::prune(conn, first_day, rows)?)))?;
        self.in_batches(|rows| self.db.write_now(|conn| Ok(verified_host::prune_challenges(conn, now, rows)?)))?;
        self.in_batches(|rows| {
            self.write_now(|conn| Ok(Audited::nothing(dormancy::record_activity(conn, now, rows)?)))
        })?;
        self.in_batches(|rows| {
            self.write_now(|conn| {
                let (checked, dormant) = dormancy::mark_dormant(conn, now - DORMANT_AFTER, rows)?;
                let entry = |(id, owner)| Actor::SERVER.event("domain.dormant", id, Some(owner), now);
                Ok(Audited::several(checked, dormant.into_iter().map(entry).collect()))
            })
        })?;
        let unseen = now - KNOWN_NETWORK;
        self.in_batches(|rows| self.db.write_now(|conn| Ok(known_network::prune(conn, unseen, rows)?)))?;
        // The times of keys are times of the wall clock.
        if !self.clock_is_right() {
            return Ok(());
        }
        let (keyring, now) = (self.directory.keyring(), wall);
        let period = self.config.key_rotation;
        if keyring.needs_maintenance(period, now) {
            let new_key = if keyring.needs_next_key(period, now) { NewKey::new(&keyring) } else { None };
            self.write_now(|conn| {
                keys::audited(conn, Actor::SERVER, now, |conn| keys::maintain(conn, &keyring, new_key, period, now))
            })?;
        }
        Ok(())
    }
}
