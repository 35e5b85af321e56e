//! What has to be done now and then, whoever calls or not: keys are followed by others, what has expired is forgotten.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{App, keys};
use crate::db::audit::Actor;
use crate::db::{proof, revocation};
use crate::error::Result;
use crate::exit::Exit;

/// Nothing here is urgent: a key that is due early by this much, or an expired revocation that is kept for so long, does no
/// harm.
const EVERY: Duration = Duration::from_secs(20);
/// Seconds by which the clocks of nodes may differ: for so long a revocation is kept beyond its token's `exp`.
const CLOCKS: i64 = 30;

/// Does it on a thread of its own until the app is gone.
pub(super) fn keep_up(app: Weak<App>) -> std::result::Result<(), Exit> {
    let work = move || {
        loop {
            std::thread::sleep(EVERY);
            let Some(app) = app.upgrade() else { return };
            match catch_unwind(AssertUnwindSafe(|| app.upkeep())) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => log::warn!("upkeep has to wait: {}", error.cause().unwrap_or("the database is away")),
                Err(_) => log::error!("upkeep panicked, and goes on"),
            }
        }
    };
    let thread = std::thread::Builder::new().name("upkeep".into()).spawn(work);
    thread.map(drop).map_err(|error| Exit::software(format!("cannot start a thread: {error}")))
}

impl App {
    /// Forgets what has expired, and lets keys follow each other.
    ///
    /// # Errors
    /// When the database does not answer; what is left is done the next time.
    pub fn upkeep(self: &Arc<App>) -> Result<()> {
        let now = self.now();
        self.used_assertions.prune(now);
        let past = now - CLOCKS;
        if self.directory.has_expired_revocations(past) {
            // The rows first: what fails here is tried again.
            while self.db.write_now(|conn| Ok(revocation::prune(conn, past)?))? {}
            self.directory.prune(past);
        }
        if self.db.read_now(|conn| Ok(proof::has_expired_challenges(conn, now)?))? {
            self.db.write_now(|conn| Ok(proof::prune_challenges(conn, now)?))?;
        }
        let keyring = self.directory.keyring();
        if !keyring.needs_upkeep(self.config.key_rotation, now) {
            return Ok(());
        }
        let period = self.config.key_rotation;
        self.change_now(|conn| {
            keys::telling(conn, Actor::SERVER, now, |conn| keys::keep_up(conn, &keyring, period, now))
        })
    }
}
