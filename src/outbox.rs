//! Records that are written to the database after the request that caused them.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::error::Result;

/// A bounded buffer of records that wait to be written, in the order in which they were added. A record stays in the
/// buffer until it is written, so a failed write loses nothing.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    capacity: usize,
    pending: Mutex<VecDeque<T>>,
    /// Held while records are written. A second flush waits until the first one has written what it found.
    writing: Mutex<()>,
}

impl<T: Clone> Outbox<T> {
    /// Creates an empty buffer for at most `capacity` records.
    pub(crate) fn new(capacity: usize) -> Outbox<T> {
        Outbox { capacity, pending: Mutex::default(), writing: Mutex::default() }
    }

    /// Adds a record. Returns `false` if the buffer is full.
    ///
    /// `None` takes as long as a record, for callers whose duration must not reveal whether there is one.
    pub(crate) fn add(&self, record: impl Into<Option<T>>) -> bool {
        let record = record.into();
        let mut pending = self.pending.lock();
        let has_room = pending.len() < self.capacity || record.is_none();
        if has_room {
            pending.extend(record);
        }
        has_room
    }

    /// Removes the records that need not be written any more.
    pub(crate) fn retain(&self, is_needed: impl FnMut(&T) -> bool) {
        let _writing = self.writing.lock();
        self.pending.lock().retain(is_needed);
    }

    /// Writes all records, at most `batch_size` in one call of `write`, the oldest first.
    ///
    /// # Errors
    /// The first error of `write`. Its records and the later ones stay in the buffer.
    pub(crate) fn flush(&self, batch_size: usize, mut write: impl FnMut(&[T]) -> Result<()>) -> Result<()> {
        let _writing = self.writing.lock();
        loop {
            let batch: Vec<T> = self.pending.lock().iter().take(batch_size).cloned().collect();
            if batch.is_empty() {
                return Ok(());
            }
            write(&batch)?;
            self.pending.lock().drain(..batch.len());
        }
    }
}

#[cfg(test)]
#[expect(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use super::*;
    use crate::error::Error;

    /// Flushes in batches of two.
    fn flushed(outbox: &Outbox<i32>) -> Vec<Vec<i32>> {
        let mut written = Vec::new();
        let write = |batch: &[i32]| {
            written.push(batch.to_vec());
            Ok(())
        };
        outbox.flush(2, write).expect("every write succeeds");
        written
    }

    #[test]
    fn outbox__writes_in_batches_and_once() {
        let outbox = Outbox::new(10);
        assert!((0..5).all(|record| outbox.add(record)));
        assert_eq!(flushed(&outbox), [vec![0, 1], vec![2, 3], vec![4]]);
        assert!(flushed(&outbox).is_empty());
    }

    #[test]
    fn outbox__full_one_refuses_records_only() {
        let outbox = Outbox::new(3);
        assert!((0..3).all(|record| outbox.add(record) && outbox.add(None)));
        assert!(!outbox.add(3), "one too many");
        assert!(outbox.add(None), "nothing is lost");
        assert_eq!(flushed(&outbox).concat(), [0, 1, 2]);
        assert!(outbox.add(4), "there is room again");
    }

    #[test]
    fn outbox__failed_write_keeps_its_records_and_the_later_ones() {
        let outbox = Outbox::new(10);
        (0..4).for_each(|record| assert!(outbox.add(record)));
        let write = |batch: &[i32]| {
            outbox.add(9);
            if batch.contains(&2) { Err(Error::Busy) } else { Ok(()) }
        };
        assert!(outbox.flush(2, write).is_err());
        assert_eq!(flushed(&outbox).concat(), [2, 3, 9, 9], "in their order");
    }

    #[test]
    fn outbox__records_that_are_not_needed_any_more_are_not_written() {
        let outbox = Outbox::new(3);
        (0..3).for_each(|record| assert!(outbox.add(record)));
        outbox.retain(|record| *record != 1);
        assert!(outbox.add(3));
        assert_eq!(flushed(&outbox).concat(), [0, 2, 3]);
    }

    #[test]
    fn outbox__each_record_is_written_once_by_parallel_flushes() {
        let outbox = Outbox::new(10_000);
        let written = Mutex::new(Vec::new());
        let write = |batch: &[i32]| {
            written.lock().extend_from_slice(batch);
            Ok(())
        };
        std::thread::scope(|scope| {
            scope.spawn(|| (0..5_000).for_each(|record| assert!(outbox.add(record))));
            for _ in 0..2 {
                scope.spawn(|| (0..100).for_each(|_| outbox.flush(7, write).expect("every write succeeds")));
            }
        });
        outbox.flush(7, write).expect("every write succeeds");
        assert_eq!(written.into_inner(), (0..5_000).collect::<Vec<_>>());
    }
}
