//! Deferred removal: the data of deleted accounts and domains, and the other registrations of a verified host. A
//! request only records the removal; this thread does the work in short batches, and continues after a restart.

use std::time::{Duration, Instant};

use super::App;
use crate::db::removal::{self, Removal};
use crate::error::Result;

/// Target duration of a batch. Other writers wait for this long at most.
const BATCH_TIME: Duration = Duration::from_millis(20);
/// Rows in the first batch.
const FIRST_BATCH: i64 = 10;
/// Largest number of rows in a batch.
const MAX_BATCH: i64 = 10_000;
/// Seconds for which another node may still write rows of a deleted account, because it has not read of the deletion
/// yet.
const SETTLING_TIME: i64 = 60;

#[doc(hidden)]
impl App {
    /// Does all recorded removals.
    ///
    /// # Errors
    /// When the database does not answer. The next call continues.
    pub fn remove_leftovers(&self) -> Result<()> {
        self.finish_superseding()?;
        while let Some(domain) = self.db.read_now(|conn| Ok(removal::next_domain(conn)?))?
            && !self.is_draining()
        {
            self.in_batches(|rows| self.db.write_now(|conn| Ok(removal::remove_usage(conn, domain, rows)?)))?;
        }
        let removals = self.db.read_now(|conn| Ok(removal::list(conn)?))?;
        removals.into_iter().try_for_each(|removal| self.remove_account(removal))
    }

    fn remove_account(&self, Removal { user_id, ended_at }: Removal) -> Result<()> {
        let is_settled = ended_at <= self.trusted_now() - SETTLING_TIME;
        self.in_batches(|rows| {
            let remove = |conn: &mut _| {
                let removed = removal::remove_some(conn, user_id, rows)?;
                if removed == 0 && is_settled {
                    removal::finish(conn, user_id)?;
                }
                Ok(removed)
            };
            self.db.change_now(remove, |conn| self.directory.catch_up(conn))
        })
    }

    /// Calls `change` until it returns 0. `change` gets the largest number of rows to change in its transaction, and
    /// returns how many it changed. The number adapts so that a call takes about [`BATCH_TIME`].
    pub(super) fn in_batches(&self, mut change: impl FnMut(i64) -> Result<usize>) -> Result<()> {
        let mut rows = FIRST_BATCH;
        while !self.is_draining() {
            let began = Instant::now();
            if change(rows)? == 0 {
                break;
            }
            let took = began.elapsed();
            rows = next_batch(rows, took);
            self.let_requests_write(took);
        }
        Ok(())
    }

    /// Pauses after a transaction that took that long. Connection pools are not fair: without a pause, this thread would take
    /// the writer again before waiting requests. At shutdown, no request waits.
    pub(super) fn let_requests_write(&self, took: Duration) {
        if !self.is_draining() {
            std::thread::sleep(took / 4);
        }
    }
}

/// The rows that fit into [`BATCH_TIME`], at most twice as many as before.
fn next_batch(rows: i64, took: Duration) -> i64 {
    let fitting = BATCH_TIME.as_secs_f64() / took.as_secs_f64().max(1e-6);
    ((rows as f64 * fitting.min(2.0)) as i64).clamp(1, MAX_BATCH)
}
