//! The hosts of all live domains, for preflight requests, which name no domain. Stores only hashes, about 16 bytes per
//! host.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use parking_lot::{Mutex, MutexGuard};

/// Number of parts. Each part grows by itself, so that no request waits while a million hosts are moved.
const PARTS: usize = 64;

/// The number of live domains per host.
///
/// Uses locks, unlike the other tables of the directory: those allocate each entry, which would take three times the
/// memory, and only preflights and refused browser requests read this table.
#[derive(Debug)]
pub(super) struct Hosts {
    /// Keyed per process, so that no host can be chosen to collide with another one.
    hash: RandomState,
    parts: [Mutex<HashMap<u64, u32>>; PARTS],
}

impl Default for Hosts {
    fn default() -> Hosts {
        Hosts { hash: RandomState::new(), parts: [(); PARTS].map(|()| Mutex::default()) }
    }
}

impl Hosts {
    /// Whether a live domain has that host.
    pub(super) fn contains(&self, host: &str) -> bool {
        let hash = self.hash.hash_one(host);
        self.part(hash).contains_key(&hash)
    }

    /// Replaces the live host of a domain. A host that the domain has before and after is never missing in between.
    pub(super) fn change(&self, before: Option<&str>, after: Option<&str>) {
        if let Some(host) = after {
            let hash = self.hash.hash_one(host);
            *self.part(hash).entry(hash).or_default() += 1;
        }
        if let Some(host) = before {
            let hash = self.hash.hash_one(host);
            let mut part = self.part(hash);
            let left = part.get(&hash).map_or(0, |count| count.saturating_sub(1));
            match left {
                0 => part.remove(&hash),
                _ => part.insert(hash, left),
            };
        }
    }

    fn part(&self, hash: u64) -> MutexGuard<'_, HashMap<u64, u32>> {
        self.parts[hash as usize % PARTS].lock()
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use super::*;

    #[test]
    fn hosts__contains_a_host_while_a_domain_has_it() {
        let hosts = Hosts::default();
        for (before, after, there) in [
            (None, Some("a.example"), true),
            (None, Some("a.example"), true),
            (None, Some("b.example"), true),
            (Some("a.example"), Some("a.example"), true),
            (Some("a.example"), None, true),
            (Some("a.example"), None, false),
            (None, None, false),
            (Some("c.example"), Some("a.example"), true),
        ] {
            hosts.change(before, after);
            assert_eq!(hosts.contains("a.example"), there, "{before:?} {after:?}");
            assert!(!hosts.contains("c.example") && !hosts.contains(""));
        }
    }
}
