//! The client assertions that were used, so that each counts once (RFC 7523 §3, `jti`).
//!
//! A node notes in memory what it takes. Where several share a database, it writes that down every half second, off the
//! request path, and each of them reads it twice a second: what was used on one node is refused on all within two seconds.
//! Until then two nodes may both take one assertion, because no request waits for the database to issue a token. The same
//! goes for what is used while the database is away, and for the last half second of a node that is killed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Binary;
use papaya::HashMap;

use super::assertion::Use;
use crate::id::UserId;
use crate::shares::{Holder, Holdings, Network};

/// How many used assertions are remembered, at about 120 bytes each. Networks and accounts have shares of this number.
const MAX_REMEMBERED: usize = 1 << 20;

/// By what an assertion is known again: half of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = Binary)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    pub(super) fn of(named: &[u8]) -> Fingerprint {
        Fingerprint(digest(&SHA256, named).as_ref()[..16].try_into().expect("sixteen bytes"))
    }
}

/// The assertions that were used, as far as this node knows.
#[derive(Debug)]
pub struct Used {
    noted: HashMap<Fingerprint, Noted>,
    /// Who holds how much of the memory.
    holdings: Mutex<Holdings>,
    /// Those of `noted` that other nodes have not been told of; `None` where there are no others.
    untold: Option<HashMap<Fingerprint, Noted>>,
}

#[derive(Clone, Copy, Debug)]
struct Noted {
    expires_at: i64,
    user: UserId,
    holder: Holder,
}

impl Default for Used {
    fn default() -> Used {
        Used { noted: HashMap::new(), holdings: Mutex::new(Holdings::new(MAX_REMEMBERED)), untold: None }
    }
}

/// Nobody can say whether an assertion was used before, or will be able to later: so it cannot be taken now.
#[derive(Debug)]
pub struct Forgetful;

impl Used {
    /// For one node of several.
    pub fn shared() -> Used {
        Used { untold: Some(HashMap::new()), ..Used::default() }
    }

    /// Whether other nodes have to be told.
    pub fn are_shared(&self) -> bool {
        self.untold.is_some()
    }

    /// How many are remembered.
    pub fn count(&self) -> usize {
        self.noted.len()
    }

    /// Whether that use was noted before.
    pub fn contains(&self, used: &Use) -> bool {
        self.noted.pin().contains_key(&used.fingerprint)
    }

    /// Notes a use in the memory of that holder. Returns whether it is the first one.
    ///
    /// # Errors
    /// When it is not known whether the assertion was used before, or the holder's share of the memory is used up.
    pub fn note(&self, used: &Use, holder: Holder) -> Result<bool, Forgetful> {
        let Some(user) = holder.user().filter(|_| used.remembered) else { return Err(Forgetful) };
        let noted = Noted { expires_at: used.expires_at, user, holder };
        let mut holdings = self.holdings();
        if !holdings.take(holder) {
            return Err(Forgetful);
        }
        let is_first = self.noted.pin().try_insert(used.fingerprint, noted).is_ok();
        if !is_first {
            holdings.give_back(holder);
        }
        drop(holdings);
        if is_first && let Some(untold) = &self.untold {
            untold.pin().insert(used.fingerprint, noted);
        }
        Ok(is_first)
    }

    /// Notes a use that another node wrote down. There is always room for it: that node has kept to the shares.
    pub fn learn(&self, fingerprint: Fingerprint, user: UserId, expires_at: i64) {
        let holder = Holder::account(Network::of(None), user);
        let mut holdings = self.holdings();
        if self.noted.pin().try_insert(fingerprint, Noted { expires_at, user, holder }).is_ok() {
            holdings.take_always(holder);
        }
    }

    /// Some of those that other nodes have not been told of, with the user and `exp`.
    pub fn untold(&self, most: usize) -> Vec<(Fingerprint, UserId, i64)> {
        let Some(untold) = &self.untold else { return Vec::new() };
        let untold = untold.pin();
        untold.iter().take(most).map(|(fingerprint, noted)| (*fingerprint, noted.user, noted.expires_at)).collect()
    }

    /// Other nodes can know of these from now on.
    pub fn told<'a>(&self, fingerprints: impl IntoIterator<Item = &'a Fingerprint>) {
        let Some(untold) = &self.untold else { return };
        let untold = untold.pin();
        for fingerprint in fingerprints {
            untold.remove(fingerprint);
        }
    }

    /// Forgets what has expired.
    pub fn prune(&self, now: i64) {
        let noted = self.noted.pin();
        let expired = noted.iter().filter(|(_, noted)| noted.expires_at <= now).map(|(fingerprint, _)| *fingerprint);
        // A part at a time, because requests wait for the holdings.
        for fingerprint in expired.collect::<Vec<Fingerprint>>() {
            if let Some(Noted { holder, .. }) = noted.remove(&fingerprint) {
                self.holdings().give_back(*holder);
            }
        }
        if let Some(untold) = &self.untold {
            untold.pin().retain(|_, noted| noted.expires_at > now);
        }
    }

    fn holdings(&self) -> MutexGuard<'_, Holdings> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<DB: Backend> ToSql<Binary, DB> for Fingerprint
where
    [u8]: ToSql<Binary, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.0.as_slice().to_sql(out)
    }
}

impl<DB: Backend> FromSql<Binary, DB> for Fingerprint
where
    Vec<u8>: FromSql<Binary, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        let bytes = Vec::<u8>::from_sql(bytes)?;
        bytes.try_into().map(Fingerprint).map_err(|_| "a fingerprint has 16 bytes".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::of_row;

    fn used(number: u32, expires_at: i64) -> Use {
        Use { fingerprint: Fingerprint::of(&number.to_be_bytes()), expires_at, remembered: true }
    }

    /// Notes fresh assertions until the memory takes no more of them.
    fn fill(memory: &Used, holders: impl Fn(u32) -> Holder, first: u32) -> usize {
        (first..first + 64).filter(|number| memory.note(&used(*number, 10), holders(*number)).is_ok()).count()
    }

    #[test]
    #[expect(non_snake_case, reason = "tests are named <feature>__<condition>")]
    fn memory__who_fills_it_is_refused_and_others_are_not() {
        let memory = Used { holdings: Mutex::new(Holdings::new(32)), ..Used::default() };
        let address = |number: u32| Network::of(Some(std::net::IpAddr::V4(number.into())));
        let user = |number: u32| of_row(i64::from(number), 0).0;
        let accounts_of_one_network = |number| Holder::account(address(1), user(number));
        assert_eq!(fill(&memory, accounts_of_one_network, 0), 16);
        let four_networks_of_one_account = |number| Holder::account(address(1000 + number % 4), user(999));
        assert_eq!(fill(&memory, four_networks_of_one_account, 100), 8);
        let victim = Holder::account(address(2), user(2000));
        assert_eq!(memory.note(&used(500, 10), victim).ok(), Some(true));
        assert_eq!(memory.note(&used(500, 10), victim).ok(), Some(false), "each counts once");
        memory.prune(10);
        assert_eq!(memory.count(), 0);
        assert_eq!(fill(&memory, accounts_of_one_network, 600), 16, "what was forgotten makes room");
    }

    /// Else an account that asks every node has as many times its share of the memory of each.
    #[test]
    #[expect(non_snake_case, reason = "tests are named <feature>__<condition>")]
    fn memory__counts_what_other_nodes_took() {
        let memory = Used { holdings: Mutex::new(Holdings::new(32)), ..Used::default() };
        let (greedy, victim) = (of_row(1, 0).0, of_row(2, 0).0);
        (0_u32..16).for_each(|number| memory.learn(Fingerprint::of(&number.to_be_bytes()), greedy, 10));
        let network = Network::of(Some(std::net::IpAddr::V4(1.into())));
        assert_eq!(fill(&memory, |_| Holder::account(network, greedy), 100), 1, "only the first one in its network");
        assert!(memory.note(&used(500, 10), Holder::account(network, victim)).is_ok());
        memory.prune(10);
        assert_eq!(fill(&memory, |_| Holder::account(network, greedy), 600), 16, "what was forgotten makes room");
    }
}
