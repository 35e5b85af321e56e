//! The flush: a thread writes buffered records to the database, so that no request waits for them. The records are used
//! client assertions, failed sign-ins, leaked secrets, usage counts and last uses of secrets. A crash can lose the
//! records since the last flush.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::App;
use crate::db::audit::{Audited, Entry};
use crate::db::used_assertion::{self, UsedAssertion};
use crate::db::{Conn, usage};
use crate::error::Result;
use crate::id::UserId;
use crate::shares::{Holder, Network};
use crate::token::assertion::AssertionUse;
use crate::token::replay::ReplayUnknown;

/// Records in one transaction, so that other writers wait for a few milliseconds only.
const BATCH_SIZE: usize = 500;
/// How many failed sign-ins may wait. Further ones are counted and dropped.
pub(super) const MAX_FAILURES: usize = 10_000;
/// How long the last flush before the exit may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between attempts of the last flush.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

#[doc(hidden)]
impl App {
    /// Writes all buffers, the most urgent first. A step that fails does not stop the others.
    ///
    /// # Errors
    /// When the database does not answer. Records that were not written stay in their buffers.
    pub fn flush(&self) -> Result<()> {
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
                std::thread::sleep(RETRY_INTERVAL);
            }
            sender.send(())
        });
        if outcome.recv_timeout(CLOSE_TIMEOUT).is_err() {
            log::warn!("the last flush did not finish in time: the latest usage counts and audit rows may be lost");
        }
    }

    /// Uses a client assertion: this node refuses it from now on, and the other nodes do after the next flush. Returns
    /// `false` if it was used before.
    ///
    /// # Errors
    /// As [`UsedAssertions::note`](crate::token::replay::UsedAssertions::note).
    pub(crate) fn use_assertion(
        &self,
        used: &AssertionUse,
        tenant: UserId,
        network: Network,
    ) -> std::result::Result<bool, ReplayUnknown> {
        let is_first = self.directory.used_assertions.note(used, Holder::account(network, tenant))?;
        if is_first {
            let (fingerprint, expires_at) = (used.fingerprint, used.expires_at);
            self.used_assertions.add(UsedAssertion { fingerprint, tenant, expires_at });
        }
        Ok(is_first)
    }

    /// Publishes the assertions that were used on this node to the other nodes, through the database.
    ///
    /// # Errors
    /// When the database does not answer. The next call writes the rest.
    pub fn publish_used_assertions(&self) -> Result<()> {
        let now = self.trusted_now();
        self.used_assertions.retain(|used| used.expires_at > now);
        self.used_assertions
            .flush(BATCH_SIZE, |used| self.db.change_now(|conn| Ok(used_assertion::insert(conn, used)?), |_| Ok(())))
    }

    /// Buffers a failed sign-in of an existing account for the audit log; `None` if the account does not exist. Writing
    /// it in the request would reveal by timing whether the account exists, and a flood would block other writers.
    pub(crate) fn note_failure(&self, entry: Option<Entry>) {
        if !self.failures.add(entry) {
            self.metrics.dropped_signin_failures.inc();
        }
    }

    /// Writes the failed sign-ins.
    ///
    /// # Errors
    /// When the database does not answer. The next call writes the rest.
    pub fn write_failures(&self) -> Result<()> {
        let write = |conn: &mut Conn, entries: &[Entry]| Audited::several((), entries.to_vec()).record(conn);
        self.failures.flush(BATCH_SIZE, |entries| self.db.write_now(|conn| write(conn, entries)))
    }

    fn write_usage(&self) -> Result<()> {
        // A second caller waits until the first one has written what it took.
        let _one = self.writing_usage.lock();
        let mut taken = self.usage.take();
        while let Some(batch) = taken.next_batch(BATCH_SIZE) {
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
