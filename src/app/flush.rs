//! The flush: a thread writes buffered records to the database, so that no request waits for them. The records are used
//! client assertions, failed sign-ins, leaked secrets, usage counts and last uses of secrets. A crash can lose the
//! records since the last flush.

use std::sync::mpsc::channel;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::{App, maintenance};
use crate::db::usage;
use crate::db::used_assertion::{self, UsedAssertion};
use crate::error::Result;
use crate::exit::Exit;

/// How often the buffers are flushed. Other nodes must learn of used assertions within two seconds.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// Used assertions in one transaction, which holds the lock on the revision for a few milliseconds.
const ASSERTION_BATCH: usize = 500;
/// Domains whose counts one transaction adds, so that other writers wait for a few milliseconds only.
const DOMAIN_BATCH: usize = 500;
/// How long the last flush before the exit may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts the flush thread. It ends with the app.
pub(super) fn start(app: Weak<App>) -> std::result::Result<(), Exit> {
    maintenance::repeat("flush", FLUSH_INTERVAL, app, |app| app.flush())
}

#[doc(hidden)]
impl App {
    /// Writes all buffers, the most urgent first. A step that fails does not stop the others.
    ///
    /// # Errors
    /// When the database does not answer. Records that were not written stay in their buffers.
    pub fn flush(&self) -> Result<()> {
        // A second caller waits until the records that the first one has taken are written.
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let steps = [self.publish_used_assertions(), self.write_failures(), self.write_leaks(), self.write_usage()];
        steps.into_iter().collect()
    }

    /// Flushes for the last time, and retries failures. This runs on its own thread, so that a database that does not
    /// respond cannot stop the process from exiting.
    pub(crate) fn final_flush(self: Arc<App>) {
        self.left_out_lines.write();
        let (sender, outcome) = channel();
        std::thread::spawn(move || {
            while self.flush().and(self.update_trusted_time()).is_err() {
                std::thread::sleep(FLUSH_INTERVAL / 5);
            }
            sender.send(())
        });
        if outcome.recv_timeout(CLOSE_TIMEOUT).is_err() {
            log::warn!("the last flush did not finish in time: the latest usage counts and audit rows may be lost");
        }
    }

    /// Publishes the assertions that were used on this node to the other nodes, through the database.
    ///
    /// # Errors
    /// When the database does not answer. The next call writes the rest.
    pub fn publish_used_assertions(&self) -> Result<()> {
        let used = &self.directory.used_assertions;
        loop {
            let row = |(fingerprint, tenant, expires_at)| UsedAssertion { fingerprint, tenant, expires_at };
            let rows: Vec<UsedAssertion> = used.pending(ASSERTION_BATCH).into_iter().map(row).collect();
            if rows.is_empty() {
                return Ok(());
            }
            self.db.change_now(|conn| Ok(used_assertion::insert(conn, &rows)?), |_| Ok(()))?;
            used.mark_published(rows.iter().map(|row| &row.fingerprint));
        }
    }

    fn write_usage(&self) -> Result<()> {
        let mut taken = self.usage.take();
        while let Some(batch) = taken.next_batch(DOMAIN_BATCH) {
            let began = Instant::now();
            if let Err(error) = self.db.write_now(|conn| Ok(usage::add(conn, &batch)?)) {
                self.usage.put_back(batch);
                self.usage.put_back(taken);
                return Err(error);
            }
            self.let_requests_write(began.elapsed());
        }
        Ok(())
    }
}
