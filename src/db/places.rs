//! Places in and before the database: a bounded number, so that a database that is slow keeps a bounded number of requests
//! waiting, and shared so that one account cannot have them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::id::UserId;

type Held = HashMap<UserId, usize>;

/// All places. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    /// How many each tenant has.
    held: Arc<Mutex<Held>>,
}

/// One place, until it is dropped: also of a request that was given up, as long as its work goes on.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    tenant: Option<UserId>,
    _free: OwnedSemaphorePermit,
}

impl Places {
    /// So many of them.
    pub(super) fn new(most: usize) -> Places {
        Places { free: Arc::new(Semaphore::new(most)), held: Arc::default() }
    }

    /// Takes one for a request of that tenant, where it is known whose it is. A tenant may have as many as are free beside
    /// its own: half of all while nobody else wants any, and whoever comes later still finds some.
    ///
    /// # Errors
    /// `Busy`.
    pub(super) fn take(&self, tenant: Option<UserId>) -> Result<Place> {
        let free = Arc::clone(&self.free).try_acquire_owned().map_err(|_| Error::Busy)?;
        if let Some(tenant) = tenant {
            let mut held = self.held();
            let own = held.get(&tenant).copied().unwrap_or_default();
            if own > self.free.available_permits() {
                return Err(Error::Busy);
            }
            held.insert(tenant, own + 1);
        }
        Ok(Place { places: self.clone(), tenant, _free: free })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(tenant) = self.tenant else { return };
        let mut held = self.places.held();
        match held.get_mut(&tenant) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(held.remove(&tenant)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::of_row;

    #[test]
    fn nobody_has_them_all() {
        let places = Places::new(128);
        let take_all = |user| {
            let (tenant, _) = of_row(user, 0);
            std::iter::from_fn(|| places.take(Some(tenant)).ok()).collect::<Vec<Place>>()
        };
        let greedy: Vec<Vec<Place>> = (1..=4).map(take_all).collect();
        let counts: Vec<usize> = greedy.iter().map(Vec::len).collect();
        assert_eq!(counts, [64, 32, 16, 8]);
        assert!(places.take(None).is_ok(), "a sign-in");
        drop(greedy);
        assert_eq!(take_all(5).len(), 64);
        assert!(places.held().is_empty());
        assert_eq!(places.free.available_permits(), 128);
    }
}
