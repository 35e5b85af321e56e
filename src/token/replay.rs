//! Detection of replayed client assertions: each is accepted once (RFC 7523 §3, `jti`).
//!
//! A node remembers in memory what it accepts. Nodes that share a database write their used assertions to it every half
//! second, outside of requests, and read those of the others as often. So an assertion that one node accepted is
//! refused by all within two seconds. Until then, two nodes may both accept one assertion, because no token request
//! waits for the database. The same applies while the database does not answer, and to the last half second of a node
//! that is killed.

use aws_lc_rs::digest::{SHA256, digest};
use papaya::HashMap;
use parking_lot::Mutex;

use super::assertion::AssertionUse;
use crate::id::UserId;
use crate::shares::{Holder, Holdings, Network};

/// Maximum number of remembered assertions, of about 120 bytes each. Networks and accounts have shares of it.
pub(crate) const MAX_REMEMBERED: usize = 1 << 20;

/// The key of a used assertion: the first half of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    pub(super) fn of(named: &[u8]) -> Fingerprint {
        Fingerprint(digest(&SHA256, named).as_ref()[..16].try_into().expect("sixteen bytes"))
    }

    /// Returns the bytes as the database stores them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Reads the bytes of [`Fingerprint::as_bytes`].
impl TryFrom<Vec<u8>> for Fingerprint {
    type Error = &'static str;

    fn try_from(bytes: Vec<u8>) -> Result<Fingerprint, &'static str> {
        bytes.try_into().map(Fingerprint).map_err(|_| "a fingerprint has 16 bytes")
    }
}

/// The used assertions that this node knows.
#[derive(Debug)]
pub struct UsedAssertions {
    entries: HashMap<Fingerprint, Entry>,
    /// The share of the memory that each holder uses.
    holdings: Mutex<Holdings>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    expires_at: i64,
    holder: Holder,
}

impl Default for UsedAssertions {
    fn default() -> UsedAssertions {
        UsedAssertions { entries: HashMap::new(), holdings: Mutex::new(Holdings::new(MAX_REMEMBERED)) }
    }
}

/// The assertion must be refused, because its earlier use cannot be excluded or its use cannot be remembered.
#[derive(Debug)]
pub struct ReplayUnknown;

impl UsedAssertions {
    /// Number of remembered assertions.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the assertion was used before.
    pub fn contains(&self, used: &AssertionUse) -> bool {
        self.entries.pin().contains_key(&used.fingerprint)
    }

    /// Remembers a use in the share of `holder`. Returns `false` if the assertion was used before.
    ///
    /// # Errors
    /// If it is unknown whether the assertion was used before, or if the share of `holder` is used up.
    pub fn note(&self, used: &AssertionUse, holder: Holder) -> Result<bool, ReplayUnknown> {
        let mut holdings = self.holdings.lock();
        if !used.remembered || !holdings.take(holder) {
            return Err(ReplayUnknown);
        }
        let entry = Entry { expires_at: used.expires_at, holder };
        let is_first = self.entries.pin().try_insert(used.fingerprint, entry).is_ok();
        if !is_first {
            holdings.give_back(holder);
        }
        Ok(is_first)
    }

    /// Remembers a use on another node. The limit does not apply, because the other node has observed it.
    pub fn insert(&self, fingerprint: Fingerprint, user: UserId, expires_at: i64) {
        let holder = Holder::account(Network::of(None), user);
        let mut holdings = self.holdings.lock();
        if self.entries.pin().try_insert(fingerprint, Entry { expires_at, holder }).is_ok() {
            holdings.take_always(holder);
        }
    }

    /// Removes expired assertions.
    pub fn prune(&self, now: i64) {
        let entries = self.entries.pin();
        let expired = entries.iter().filter(|(_, entry)| entry.expires_at <= now).map(|(fingerprint, _)| *fingerprint);
        // The lock is taken for one assertion at a time, because requests wait for it.
        for fingerprint in expired.collect::<Vec<Fingerprint>>() {
            if let Some(Entry { holder, .. }) = entries.remove(&fingerprint) {
                self.holdings.lock().give_back(*holder);
            }
        }
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use super::*;
    use crate::id::of_row;

    fn used(number: u32, expires_at: i64) -> AssertionUse {
        AssertionUse { fingerprint: Fingerprint::of(&number.to_be_bytes()), expires_at, remembered: true }
    }

    /// Uses 64 new assertions, and returns how many of them the memory accepts.
    fn fill(memory: &UsedAssertions, holders: impl Fn(u32) -> Holder, first: u32) -> usize {
        (first..first + 64).filter(|number| memory.note(&used(*number, 10), holders(*number)).is_ok()).count()
    }

    #[test]
    fn replay_memory__full_share_refuses_its_holder_only() {
        let memory = UsedAssertions { holdings: Mutex::new(Holdings::new(32)), ..UsedAssertions::default() };
        let address = |number: u32| Network::of(Some(std::net::IpAddr::V4(number.into())));
        let user = |number: u32| of_row(i64::from(number), 0).0;
        let accounts_of_one_network = |number| Holder::account(address(1), user(number));
        assert_eq!(fill(&memory, accounts_of_one_network, 0), 16);
        let four_networks_of_one_account = |number| Holder::account(address(1000 + number % 4), user(999));
        assert_eq!(fill(&memory, four_networks_of_one_account, 100), 8);
        let victim = Holder::account(address(2), user(2000));
        assert_eq!(memory.note(&used(500, 10), victim).ok(), Some(true));
        assert_eq!(memory.note(&used(500, 10), victim).ok(), Some(false), "an assertion is accepted once");
        memory.prune(10);
        assert_eq!(memory.count(), 0);
        assert_eq!(fill(&memory, accounts_of_one_network, 600), 16, "expired assertions make room");
    }

    /// Otherwise an account could use its share on every node.
    #[test]
    fn replay_memory__counts_uses_on_other_nodes() {
        let memory = UsedAssertions { holdings: Mutex::new(Holdings::new(32)), ..UsedAssertions::default() };
        let (greedy, victim) = (of_row(1, 0).0, of_row(2, 0).0);
        (0_u32..16).for_each(|number| memory.insert(Fingerprint::of(&number.to_be_bytes()), greedy, 10));
        let network = Network::of(Some(std::net::IpAddr::V4(1.into())));
        assert_eq!(
            fill(&memory, |_| Holder::account(network, greedy), 100),
            1,
            "the first one in a network is always accepted"
        );
        assert!(memory.note(&used(500, 10), Holder::account(network, victim)).is_ok());
        memory.prune(10);
        assert_eq!(fill(&memory, |_| Holder::account(network, greedy), 600), 16, "expired assertions make room");
    }
}
