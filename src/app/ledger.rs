//! What is known in memory first and in the database a second later: what domains did, when secrets were last used, which
//! passwords were refused. So no request waits for it; what a crash can lose is that second.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;
use std::time::Duration;

use super::App;
use crate::db::usage;
use crate::error::Result;
use crate::exit::Exit;

/// How often it is written.
const EVERY: Duration = Duration::from_secs(1);
/// So many domains and secrets are written in one transaction, to keep SQLite's other writers waiting for some milliseconds
/// at most.
const AT_ONCE: usize = 1_000;

/// Writes it on a thread of its own until the app is gone.
pub(super) fn keep(app: Weak<App>) -> std::result::Result<(), Exit> {
    let work = move || {
        let mut away = false;
        loop {
            std::thread::sleep(EVERY);
            let Some(app) = app.upgrade() else { return };
            let failure = match catch_unwind(AssertUnwindSafe(|| app.write_ledger())) {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.cause().unwrap_or("the database is away").to_owned()),
                Err(_) => Some("it panicked".to_owned()),
            };
            if let Some(why) = failure.as_ref().filter(|_| !away) {
                log::warn!("the ledger cannot be written, and is kept: {why}");
            }
            away = failure.is_some();
        }
    };
    let thread = std::thread::Builder::new().name("ledger".into()).spawn(work);
    thread.map(drop).map_err(|error| Exit::software(format!("cannot start a thread: {error}")))
}

impl App {
    /// Writes what was counted so far.
    ///
    /// # Errors
    /// When the database does not answer; what was not written is kept for the next time.
    pub fn write_ledger(&self) -> Result<()> {
        self.write_failures()?;
        let mut taken = self.usage.take();
        while !taken.is_empty() {
            let some = taken.some(AT_ONCE);
            if let Err(error) = self.db.write_now(|conn| Ok(usage::add(conn, &some)?)) {
                self.usage.put_back(some);
                self.usage.put_back(taken);
                return Err(error);
            }
        }
        Ok(())
    }
}
