//! Failed sign-ins of existing accounts, buffered until the next flush writes them to the audit log. Writing them in
//! the request would reveal by timing whether the account exists, and a flood of them would block other writers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::App;
use crate::db::Conn;
use crate::db::audit::{Audited, Entry};
use crate::error::Result;

/// Size of the buffer. Further failures are counted and dropped.
const MAX_PENDING: usize = 10_000;
/// Failures in one transaction, so that other writers wait briefly.
const BATCH_SIZE: usize = 500;

/// The buffer of failed sign-ins.
#[derive(Debug, Default)]
pub(super) struct Failures {
    pending: Mutex<Vec<Entry>>,
    /// Held during a write, so that a second writer returns only after the first one's entries are written.
    writing: Mutex<()>,
}

impl Failures {
    /// Adds an entry. Returns whether there was room. `None` takes as long as an entry, so that its time reveals
    /// nothing.
    fn push(&self, entry: Option<Entry>) -> bool {
        let mut pending = lock(&self.pending);
        if pending.len() >= MAX_PENDING {
            return entry.is_none();
        }
        pending.extend(entry);
        true
    }

    /// Takes a batch, oldest first.
    fn take(&self) -> Vec<Entry> {
        let mut pending = lock(&self.pending);
        let size = pending.len().min(BATCH_SIZE);
        pending.drain(..size).collect()
    }

    /// Returns entries that could not be written to the front of the buffer.
    fn put_back(&self, mut taken: Vec<Entry>) {
        let mut pending = lock(&self.pending);
        taken.append(&mut pending);
        *pending = taken;
    }
}

fn write(conn: &mut Conn, taken: &[Entry]) -> Result<()> {
    Audited::several((), taken.to_vec()).record(conn)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[doc(hidden)]
impl App {
    /// Buffers a failed sign-in for the audit log; `None` if the account does not exist.
    pub(crate) fn note_failure(&self, entry: Option<Entry>) {
        if !self.failures.push(entry) {
            self.metrics.dropped_signin_failures.inc();
        }
    }

    /// Writes all failures that were buffered before this call.
    ///
    /// # Errors
    /// When the database does not answer. The next call writes the rest.
    pub fn write_failures(&self) -> Result<()> {
        let _one = lock(&self.failures.writing);
        loop {
            let taken = self.failures.take();
            if taken.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.db.write_now(|conn| write(conn, &taken)) {
                self.failures.put_back(taken);
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
#[expect(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use super::*;
    use crate::db::audit::Actor;

    fn entry(number: usize) -> Entry {
        Actor::SERVER.event("user.signin_failed", number, None, 0)
    }

    fn targets(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.target.as_str()).collect()
    }

    #[test]
    fn failures__a_full_buffer_drops_entries_of_existing_accounts_only() {
        let failures = Failures::default();
        assert!((0..MAX_PENDING).all(|number| failures.push(Some(entry(number))) && failures.push(None)));
        assert!(!failures.push(Some(entry(MAX_PENDING))), "one too many");
        assert!(failures.push(None), "without an entry, nothing is dropped");
        assert_eq!(
            std::iter::repeat_with(|| failures.take().len()).take_while(|taken| *taken > 0).sum::<usize>(),
            MAX_PENDING
        );
    }

    #[test]
    fn failures__entries_put_back_are_taken_first() {
        let failures = Failures::default();
        failures.push(Some(entry(0)));
        failures.push(Some(entry(1)));
        let taken = failures.take();
        failures.push(Some(entry(2)));
        failures.put_back(taken);
        assert_eq!(targets(&failures.take()), ["0", "1", "2"]);
    }
}
