//! Which hosts are registered by how many live domains: what a browser's pre-flight, which names no domain, is answered
//! from. Knows hashes only, about 16 bytes a host.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Each part grows by itself, so that nobody waits for a million hosts to be moved.
const PARTS: usize = 64;

/// The number of live domains per host.
///
/// Why a lock, where the directory's other tables have none: those keep each entry in memory of its own, which would cost
/// three times as much, and only pre-flights and refusals of a browser's requests look here.
#[derive(Debug)]
pub(super) struct Hosts {
    /// With a key of this process, so that nobody can make a host that has the hash of another's.
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

    /// One domain had this live host before, and has that one now. Never is a host missing that it has both times.
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
        self.parts[hash as usize % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_there_as_long_as_one_domain_has_it() {
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
