//! What is known in memory first and in the database a moment later: which client assertions were used, which passwords were
//! refused, which secrets came from browsers, what domains did, and when secrets were last used. So no request waits for it;
//! what a crash can lose is that moment.

use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use super::{App, upkeep};
use crate::db::usage;
use crate::db::used_assertion::{self, UsedAssertion};
use crate::error::Result;
use crate::exit::Exit;

/// How often it is written. Other nodes read twice a second, and are promised to know within two.
const EVERY: Duration = Duration::from_millis(500);
/// So many used assertions are written in one transaction, which holds the lock on the revision for some milliseconds.
const ASSERTIONS_AT_ONCE: usize = 500;
/// The counts of so many domains are added in one transaction, to keep SQLite's other writers waiting for some milliseconds
/// at most. Those of more are written as they are, which is quick, and added little by little.
const COUNTS_AT_ONCE: usize = 1_000;
/// How long the end of the process waits for the database.
const PATIENCE: Duration = Duration::from_secs(2);

/// Writes it on a thread of its own until the app is gone.
pub(super) fn keep(app: Weak<App>) -> std::result::Result<(), Exit> {
    upkeep::repeat("the ledger", EVERY, app, |app| app.write_ledger())
}

impl App {
    /// Writes what there is, the most urgent first. One step that fails holds up no other.
    ///
    /// # Errors
    /// When the database does not answer; what was not written is kept for the next time.
    pub fn write_ledger(&self) -> Result<()> {
        // Whoever comes while another writes waits: what that one has taken out is not written yet.
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let steps = [self.share_used_assertions(), self.write_failures(), self.write_leaks(), self.write_usage()];
        steps.into_iter().collect()
    }

    /// [`App::write_ledger`] for the last time, again where it fails. On a thread of its own, because a database that
    /// hangs must not keep the process from ending.
    pub(crate) fn close_ledger(self: Arc<App>) {
        self.left_out_lines.write();
        let (sender, outcome) = channel();
        std::thread::spawn(move || {
            while self.write_ledger().and(self.keep_time()).is_err() {
                std::thread::sleep(EVERY / 5);
            }
            sender.send(())
        });
        if outcome.recv_timeout(PATIENCE).is_err() {
            log::warn!("the database did not take what was counted last");
        }
    }

    /// Writes the assertions that were used here and that other nodes cannot know of yet.
    ///
    /// # Errors
    /// When the database does not answer; what is left is written the next time.
    pub fn share_used_assertions(&self) -> Result<()> {
        let used = &self.directory.used_assertions;
        loop {
            let row = |(fingerprint, tenant, expires_at)| UsedAssertion { fingerprint, tenant, expires_at };
            let rows: Vec<UsedAssertion> = used.untold(ASSERTIONS_AT_ONCE).into_iter().map(row).collect();
            if rows.is_empty() {
                return Ok(());
            }
            self.db.change_now(|conn| Ok(used_assertion::insert(conn, &rows)?), |_| Ok(()))?;
            used.told(rows.iter().map(|row| &row.fingerprint));
        }
    }

    fn write_usage(&self) -> Result<()> {
        let taken = self.usage.take();
        if !taken.is_empty() {
            let at_once = taken.domains() <= COUNTS_AT_ONCE;
            let written = self.db.write_now(|conn| match at_once {
                true => Ok(usage::add(conn, &taken)?),
                false => Ok(usage::log(conn, &taken)?),
            });
            if let Err(error) = written {
                self.usage.put_back(taken);
                return Err(error);
            }
            self.has_log.fetch_or(!at_once, Ordering::Relaxed);
        }
        if self.has_log.load(Ordering::Relaxed) && !self.is_draining() {
            let more = self.db.write_now(|conn| Ok(usage::fold(conn, COUNTS_AT_ONCE)?))?;
            self.has_log.store(more, Ordering::Relaxed);
        }
        Ok(())
    }
}
