//! Periodic maintenance: rotates signing keys, deletes expired rows and frees memory.

use super::App;
use super::keys::{self, NewKey};
use super::time::MAX_RESTART;
use crate::db::audit::{Actor, Audited};
use crate::db::deletion::{self, Expiring};
use crate::db::revision::{self, MAX_STAMPS};
use crate::db::{Conn, dormancy};
use crate::error::Result;
use crate::usage::DAY;

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

#[doc(hidden)]
impl App {
    /// Runs maintenance once.
    ///
    /// # Errors
    /// When the database does not answer. The next call does the rest.
    pub fn maintain(&self) -> Result<()> {
        self.warn_of_bounds();
        self.budgets.prune(self.steady_now());
        self.directory.prune_former_meters(self.steady_now());
        self.directory.used_assertions.prune(self.trusted_now());
        self.update_trusted_time()?;
        let now = self.trusted_now();
        self.delete_expired(now)?;
        self.in_batches(|rows| {
            self.write_now(|conn| {
                let (examined, dormant) = dormancy::update(conn, now, now - DORMANT_AFTER, rows)?;
                let entry = |(id, owner)| Actor::SERVER.event("domain.dormant", id, Some(owner), now);
                Ok(Audited::several(examined, dormant.into_iter().map(entry).collect()))
            })
        })?;
        // The times of keys are times of the wall clock.
        if self.clock_is_right() { self.maintain_keys(self.now()) } else { Ok(()) }
    }

    fn delete_expired(&self, now: i64) -> Result<()> {
        let forgotten = self.forget_tombstones(now)?.unwrap_or(i64::MIN);
        let revision = self.db.read_now(|conn| Ok(revision::counter(conn)?.value))?;
        let past = now - MAX_CLOCK_ERROR;
        for (expiring, last) in [
            (Expiring::UsedAssertions, past),
            (Expiring::Revocations, past),
            (Expiring::Secrets, now - ENDED_SECRET_RETENTION),
            (Expiring::Tombstones, forgotten),
            (Expiring::RevisionStamps, revision - MAX_STAMPS - 1),
            (Expiring::Usage, now.div_euclid(DAY) - USAGE_DAYS - 1),
            (Expiring::Challenges, now),
            (Expiring::KnownNetworks, now - KNOWN_NETWORK),
        ] {
            self.in_batches(|rows| {
                let delete =
                    |conn: &mut Conn| -> Result<usize> { Ok(deletion::delete_expired(conn, expiring, last, rows)?) };
                if matches!(expiring, Expiring::Secrets | Expiring::Tombstones) {
                    self.db.change_now(delete, |conn| self.directory.catch_up(conn))
                } else {
                    self.db.write_now(delete)
                }
            })?;
        }
        self.directory.prune(past);
        Ok(())
    }

    /// Forgets the tombstones that every node has had time to read. Returns the revision of the last one.
    fn forget_tombstones(&self, now: i64) -> Result<Option<i64>> {
        let old = now - TOMBSTONE_RETENTION;
        let last = self.db.read_now(|conn| Ok(revision::last_old_tombstone(conn, old, now)?))?;
        if let Some(last) = last {
            self.db.change_now(|conn| Ok(revision::forget(conn, last)?), |_| Ok(()))?;
        }
        Ok(last)
    }

    fn maintain_keys(&self, now: i64) -> Result<()> {
        let (keyring, period) = (self.directory.keyring(), self.config.key_rotation);
        if !keyring.needs_maintenance(period, now) {
            return Ok(());
        }
        let new_key = if keyring.needs_next_key(period, now) { NewKey::new(&keyring) } else { None };
        self.write_now(|conn| {
            keys::audited(conn, Actor::SERVER, now, |conn| keys::maintain(conn, &keyring, new_key, period, now))
        })
    }
}
