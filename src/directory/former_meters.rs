//! The used limits of deleted domains.

use std::hash::{BuildHasher, RandomState};

use super::Domain;
use crate::id::UserId;
use crate::plan::Meter;
use crate::shares::Table;

/// Maximum number of remembered limits, of 17 to 34 bytes each. An account can delete only a few domains a minute.
const MAX_FORMER_METERS: usize = 1 << 18;

/// The used limits of deleted domains, by owner and host. A domain that is deleted and registered again continues with
/// its used limit. Bounded in size, and per process.
#[derive(Debug)]
pub(super) struct FormerMeters {
    hash: RandomState,
    /// When the limit is unused again, in nanoseconds of the meters' clock.
    full_at: Table,
}

impl Default for FormerMeters {
    fn default() -> FormerMeters {
        FormerMeters { hash: RandomState::new(), full_at: Table::new(MAX_FORMER_METERS) }
    }
}

impl FormerMeters {
    pub(super) fn keep(&self, domain: &Domain) {
        let full_at = domain.meter.full_at();
        if full_at > 0
            && let Some(owner) = domain.owner.load().as_ref()
        {
            self.full_at.put(self.key(owner.id, &domain.host), full_at, 0);
        }
    }

    pub(super) fn of(&self, owner: UserId, host: &str) -> Meter {
        Meter::with(self.full_at.get(self.key(owner, host)))
    }

    /// Removes the limits that are unused again at `now`, in nanoseconds of the meters' clock.
    pub(super) fn prune(&self, now: u64) {
        self.full_at.prune(now);
    }

    fn key(&self, owner: UserId, host: &str) -> u64 {
        self.hash.hash_one((owner, host))
    }
}
