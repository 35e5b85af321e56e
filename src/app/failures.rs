//! Refused passwords of accounts that there are, kept in memory until they are written to the audit log. In the request
//! itself, writing would tell them from names that nobody has, and a flood of them would hold up everybody who writes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::App;
use crate::db::Conn;
use crate::db::audit::{Audited, Entry};
use crate::error::Result;

/// So many may wait; what comes then is counted and dropped.
const MOST: usize = 10_000;
/// So many are written in one transaction, to keep nobody waiting.
const AT_ONCE: usize = 500;

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Failures {
    waiting: Mutex<Vec<Entry>>,
    /// Held while some are written: whoever comes next knows that they are.
    writing: Mutex<()>,
}

impl Failures {
    /// Keeps it, if it is one; `false` when too many wait. Takes as long in any case.
    fn push(&self, entry: Option<Entry>) -> bool {
        let mut waiting = lock(&self.waiting);
        match waiting.len() < MOST {
            true => {
                waiting.extend(entry);
                true
            }
            false => entry.is_none(),
        }
    }

    /// Takes some out, oldest first.
    fn take(&self) -> Vec<Entry> {
        let mut waiting = lock(&self.waiting);
        let some = waiting.len().min(AT_ONCE);
        waiting.drain(..some).collect()
    }

    /// Puts back what could not be written.
    fn put_back(&self, mut taken: Vec<Entry>) {
        let mut waiting = lock(&self.waiting);
        taken.append(&mut waiting);
        *waiting = taken;
    }
}

/// Writes what was taken.
///
/// # Errors
/// When the database does not answer.
fn write(conn: &mut Conn, taken: &[Entry]) -> Result<()> {
    Audited::several((), taken.to_vec()).record(conn)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl App {
    /// Notes a refused password for the audit log; `None` for an account that there is not.
    pub(crate) fn note_failure(&self, entry: Option<Entry>) {
        if !self.failures.push(entry) {
            self.metrics.dropped_failures.inc();
        }
    }

    /// Writes every refused password that was noted before this was called.
    ///
    /// # Errors
    /// When the database does not answer; what is left is written the next time.
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
mod tests {
    use super::*;
    use crate::db::audit::Actor;

    fn entry(number: usize) -> Entry {
        Actor::SERVER.did("user.signin_failed", number, None, 0)
    }

    fn targets(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.target.as_str()).collect()
    }

    #[test]
    fn the_queue_is_bounded_and_whoever_is_unknown_takes_no_place() {
        let failures = Failures::default();
        assert!((0..MOST).all(|number| failures.push(Some(entry(number))) && failures.push(None)));
        assert!(!failures.push(Some(entry(MOST))), "one too many");
        assert!(failures.push(None), "nothing is dropped where nothing came");
        assert_eq!(
            std::iter::repeat_with(|| failures.take().len()).take_while(|taken| *taken > 0).sum::<usize>(),
            MOST
        );
    }

    #[test]
    fn what_could_not_be_written_comes_first_the_next_time() {
        let failures = Failures::default();
        failures.push(Some(entry(0)));
        failures.push(Some(entry(1)));
        let taken = failures.take();
        failures.push(Some(entry(2)));
        failures.put_back(taken);
        assert_eq!(targets(&failures.take()), ["0", "1", "2"]);
    }
}
