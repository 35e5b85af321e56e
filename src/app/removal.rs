//! What a change leaves for later, so that the change itself is short: the data of deleted accounts and domains, and the other
//! registrations of a proven host. It is done in short batches. A restart goes on with it.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::{App, upkeep};
use crate::db::removal::{self, Removal};
use crate::error::Result;
use crate::exit::Exit;

/// How often it is looked for.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a batch should take, which is how long another writer may have to wait for it.
const BATCH_TIME: Duration = Duration::from_millis(20);
/// How many rows the first batch has.
const FIRST_BATCH: i64 = 10;
/// How many rows a batch has at most.
const MAX_BATCH: i64 = 10_000;
/// Seconds for which another node may still write for an account, because it has not read of the end.
const SETTLING_TIME: i64 = 60;

/// Does it on a thread of its own until the app is gone.
pub(super) fn keep_removing(app: Weak<App>) -> std::result::Result<(), Exit> {
    upkeep::repeat("the removal of deleted data", CHECK_INTERVAL, app, App::remove_leftovers)
}

impl App {
    /// Does everything that changes have left for later.
    ///
    /// # Errors
    /// When the database does not answer; the next call goes on.
    pub fn remove_leftovers(self: &Arc<App>) -> Result<()> {
        self.finish_oustings()?;
        while let Some(domain) = self.db.read_now(|conn| Ok(removal::next_domain(conn)?))?
            && !self.is_draining()
        {
            self.in_batches(|rows| self.db.write_now(|conn| Ok(removal::remove_usage(conn, domain, rows)?)))?;
        }
        let removals = self.db.read_now(|conn| Ok(removal::list(conn)?))?;
        removals.into_iter().try_for_each(|removal| self.remove_account(removal))
    }

    fn remove_account(&self, Removal { user_id, ended_at }: Removal) -> Result<()> {
        let settled = ended_at <= self.trusted_now() - SETTLING_TIME;
        self.in_batches(|rows| {
            let remove = |conn: &mut _| {
                let removed = removal::remove_some(conn, user_id, rows)?;
                if removed == 0 && settled {
                    removal::finish(conn, user_id)?;
                }
                Ok(removed)
            };
            self.db.change_now(remove, |conn| self.directory.catch_up(conn))
        })
    }

    /// Calls a function that changes at most so many rows in one transaction, until it has changed none. The number of rows
    /// adapts, so that a call takes about [`BATCH_TIME`].
    pub(super) fn in_batches(&self, mut change: impl FnMut(i64) -> Result<usize>) -> Result<()> {
        let mut rows = FIRST_BATCH;
        while !self.is_draining() {
            let began = Instant::now();
            if change(rows)? == 0 {
                break;
            }
            let took = began.elapsed();
            rows = next_batch(rows, took);
            // The pools are not fair: without a pause, this thread would get the writer again before those who wait.
            std::thread::sleep(took / 4);
        }
        Ok(())
    }
}

/// As many rows as fit into the time, at most twice as many as before.
fn next_batch(rows: i64, took: Duration) -> i64 {
    let fitting = BATCH_TIME.as_secs_f64() / took.as_secs_f64().max(1e-6);
    ((rows as f64 * fitting.min(2.0)) as i64).clamp(1, MAX_BATCH)
}
