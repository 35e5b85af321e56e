//! Budgets: rate limits of networks, accounts and addresses. No I/O; time is passed in.
//!
//! Memory is bounded: the table has a fixed number of entries. An entry's key is a 64-bit hash with a random key of
//! this process, so an attacker cannot choose collisions. Each node has its own budgets and loses them when it exits.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::{Account, Holder, Network};
use crate::id::{TokenId, UserId};
use crate::plan::Limit;

/// A budget and its owner. While it is exhausted, requests are answered with 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Budget<'a> {
    /// `LIMIT_ADDRESS`: requests at `/token`, `/introspect` and `/revoke`.
    Requests(Network),
    /// `LIMIT_FAILURES`: wrong credentials of clients.
    Failures(Network),
    /// `LIMIT_SIGNIN`: sign-ins.
    SignIns(Network),
    /// `LIMIT_SIGNUP`: sign-ups.
    SignUps(Network),
    /// Accounts that are made in a day, unless `LIMIT_SIGNUP` is off. With this budget and [`Budget::Registrations`], one
    /// network needs more than 90 days to use up the default `MAX_USERS` or `MAX_DOMAINS`.
    NewAccounts(Network),
    /// Domains that are registered in a day, unless `LIMIT_CHANGES` is off.
    Registrations(Network),
    /// `LIMIT_LOG`: lines of the access log for refused requests.
    RefusalLines(Network),
    /// A hundred times `LIMIT_LOG`: lines of the access log for other requests.
    RequestLines(Network),
    /// `LIMIT_CHANGES`: requests with a user token that may change something. Without this budget, one account could
    /// fill the database and the audit log.
    Changes(UserId),
    /// Ten times `LIMIT_CHANGES`: requests with a user token that only read. Without this budget, one account could keep
    /// the processors busy with long lists.
    Reads(UserId),
    /// Changes with the access tokens of all domains of one user. Without this budget, a plan with a high limit could fill
    /// the audit log.
    ClientChanges(UserId),
    /// Revocations of single tokens by all domains of one user. To revoke more, the user can retire a secret at once.
    Revocations(UserId),
    /// Verifications of hosts by one user.
    Verifications(UserId),
    /// Verifications of one host by one user.
    VerificationsOfHost(UserId, &'a str),
    /// Verifications that connect to one network, by all users together.
    VerificationsOfNetwork(Network),
    /// Verifications that connect to one network, by one user: half of the limit of all users.
    VerificationsOfNetworkByUser(Network, UserId),
}

/// The limit of each budget; `None` is unlimited.
#[derive(Clone, Copy, Debug)]
pub struct BudgetLimits {
    /// `LIMIT_ADDRESS`.
    pub requests: Option<Limit>,
    /// `LIMIT_FAILURES`.
    pub failures: Option<Limit>,
    /// `LIMIT_SIGNIN`.
    pub sign_ins: Option<Limit>,
    /// `LIMIT_SIGNUP`.
    pub sign_ups: Option<Limit>,
    /// `LIMIT_LOG`: lines of the access log.
    pub lines: Option<Limit>,
    /// `LIMIT_PASSWORDS`: wrong passwords for one account.
    pub passwords: Option<Limit>,
    /// `LIMIT_CHANGES`.
    pub changes: Option<Limit>,
}

impl BudgetLimits {
    fn of(&self, budget: Budget<'_>) -> Option<Limit> {
        match budget {
            Budget::Requests(_) => self.requests,
            Budget::Failures(_) => self.failures,
            Budget::SignIns(_) => self.sign_ins,
            Budget::SignUps(_) => self.sign_ups,
            Budget::NewAccounts(_) => self.sign_ups.map(|_| Limit::per_day(1_000)),
            Budget::Registrations(_) => self.changes.map(|_| Limit::per_day(10_000)),
            Budget::RefusalLines(_) => self.lines,
            Budget::RequestLines(_) => self.lines.map(|limit| limit.times(100)),
            Budget::Changes(_) => self.changes,
            Budget::Reads(_) => self.changes.map(|limit| limit.times(10)),
            Budget::ClientChanges(_) => Some(Limit::per_minute(600)),
            Budget::Revocations(_) => Some(Limit::per_minute(10_000)),
            Budget::Verifications(_) => Some(Limit::per_minute(30)),
            Budget::VerificationsOfHost(..) => Some(Limit::per_minute(5)),
            Budget::VerificationsOfNetwork(_) => Some(Limit::per_minute(10)),
            Budget::VerificationsOfNetworkByUser(..) => Some(Limit::per_minute(5)),
        }
    }
}

/// Largest number of meters, of 17 to 34 bytes each.
const MAX_METERS: usize = 1 << 20;

/// All budgets of this process.
#[derive(Debug)]
pub struct Budgets {
    limits: BudgetLimits,
    hash: RandomState,
    meters: Table,
}

/// The origin of a password attempt on an account. Each origin has its own budget, so that wrong passwords of others do
/// not lock out the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guesser<'a> {
    /// All networks that are not known to the account of this name. They share one budget, so that an attacker gains
    /// nothing by using many networks.
    Strangers(&'a str),
    /// A network that is known to the account. An attacker in the owner's network can learn that the account is used
    /// there.
    KnownNetwork(&'a str, Network),
    /// The holder of this user token.
    Token(TokenId),
}

/// A password attempt that is in progress. It counts as a wrong password until [`Budgets::was_right`].
#[derive(Debug)]
#[must_use]
pub struct Attempt {
    /// The key of its meter.
    meter: u64,
    /// The meter is that of a known network or a token, where a right password proves that the owner uses it.
    is_owners: bool,
}

impl Attempt {
    /// The holder of shares for this attempt. In a known network, the account counts by itself.
    pub fn holder(&self, network: Network) -> Holder {
        let account = if self.is_owners { Account::KnownThere(self.meter) } else { Account::Unknown };
        Holder { network, account }
    }
}

impl Budgets {
    /// Full budgets with these limits.
    pub fn new(limits: BudgetLimits) -> Budgets {
        Budgets { limits, hash: RandomState::new(), meters: Table::new(MAX_METERS) }
    }

    /// Spends one unit of a budget at `now`, in nanoseconds of a monotonic clock, as everywhere below.
    ///
    /// # Errors
    /// The time until a unit is available.
    pub fn spend(&self, budget: Budget<'_>, now: u64) -> Result<(), Duration> {
        match self.limits.of(budget) {
            Some(limit) => self.meters.take(self.hash.hash_one(budget), limit, now),
            None => Ok(()),
        }
    }

    /// Counts a password attempt on an account, existing or not, before any work is done for it.
    ///
    /// # Errors
    /// The time until the next attempt is allowed.
    pub fn try_password(&self, guesser: Guesser<'_>, now: u64) -> Result<Attempt, Duration> {
        let attempt =
            Attempt { meter: self.hash.hash_one(guesser), is_owners: !matches!(guesser, Guesser::Strangers(_)) };
        if let Some(limit) = self.limits.passwords {
            self.meters.take(attempt.meter, limit, now)?;
        }
        Ok(attempt)
    }

    /// The password was right. This clears an owner's meter, and otherwise returns the attempt.
    pub fn was_right(&self, attempt: Attempt) {
        if attempt.is_owners {
            self.meters.remove(attempt.meter);
        } else {
            self.was_not_tried(attempt);
        }
    }

    /// The password was not checked. This returns the attempt.
    pub fn was_not_tried(&self, attempt: Attempt) {
        if let Some(limit) = self.limits.passwords {
            self.meters.give_back(attempt.meter, limit);
        }
    }

    /// Removes full meters, and frees their memory.
    pub fn prune(&self, now: u64) {
        self.meters.prune(now);
    }
}

/// A bounded map from hashes to times. A time in the past means the same as no entry, so it can be removed. The lock of
/// a shard is held for a look-up, and sometimes for a sweep of the shard.
#[derive(Debug)]
pub(crate) struct Table {
    shards: Box<[Mutex<Shard>]>,
    /// Largest number of entries in a shard.
    shard_capacity: usize,
}

type Shard = HashMap<u64, u64, BuildHasherDefault<Hashed>>;

const SHARDS: usize = 64;

impl Table {
    pub(crate) fn new(capacity: usize) -> Table {
        Table { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), shard_capacity: capacity / SHARDS }
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        // The map itself does not use these bits.
        let index = (key >> 48) as usize % SHARDS;
        self.shards[index].lock()
    }

    fn take(&self, key: u64, limit: Limit, now: u64) -> Result<(), Duration> {
        let mut shard = self.shard(key);
        let next = limit.take(shard.get(&key).copied().unwrap_or_default(), now)?;
        insert(&mut shard, key, next, self.shard_capacity, now);
        Ok(())
    }

    fn give_back(&self, key: u64, limit: Limit) {
        if let Some(full_at) = self.shard(key).get_mut(&key) {
            *full_at = limit.give_back(*full_at);
        }
    }

    pub(crate) fn put(&self, key: u64, until: u64, now: u64) {
        insert(&mut self.shard(key), key, until, self.shard_capacity, now);
    }

    /// The time of a key; 0 if there is none.
    pub(crate) fn get(&self, key: u64) -> u64 {
        self.shard(key).get(&key).copied().unwrap_or_default()
    }

    fn remove(&self, key: u64) {
        self.shard(key).remove(&key);
    }

    pub(crate) fn prune(&self, now: u64) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.retain(|_, until| *until > now);
            let room = shard.len() * 2;
            shard.shrink_to(room);
        }
    }
}

fn insert(shard: &mut Shard, key: u64, until: u64, capacity: usize, now: u64) {
    if shard.len() >= capacity && !shard.contains_key(&key) {
        make_room(shard, capacity, now);
    }
    shard.insert(key, until);
}

/// Removes times in the past. If that leaves the shard more than three quarters full, also removes the earlier half of
/// the times: the budgets that are full again soonest.
fn make_room(shard: &mut Shard, capacity: usize, now: u64) {
    shard.retain(|_, until| *until > now);
    if shard.len() > capacity / 4 * 3 {
        let mut times: Vec<u64> = shard.values().copied().collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        shard.retain(|_, until| *until > median);
    }
}

/// Passes keys through, since they are hashes already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        unreachable!("a key is one u64, not {} bytes", bytes.len());
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
#[expect(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Bytes that the maps have allocated: 16 bytes and a control byte for each bucket.
    fn bytes(budgets: &Budgets) -> usize {
        let shards = budgets.meters.shards.iter();
        let buckets = shards.map(|shard| (shard.lock().capacity() * 8 / 7).next_power_of_two());
        buckets.map(|buckets| buckets * 17 + 16).sum()
    }

    fn entries(budgets: &Budgets) -> usize {
        budgets.meters.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    #[test]
    fn memory__more_than_a_million_addresses_take_64_mib_and_return_it() {
        let limit = Some(Limit::per_minute(60));
        let budgets = Budgets::new(BudgetLimits {
            requests: limit,
            failures: limit,
            sign_ins: limit,
            sign_ups: limit,
            passwords: limit,
            lines: limit,
            changes: limit,
        });
        let mut max = 0;
        for number in 0..1_200_000_u32 {
            let network = Network::of(Some(IpAddr::V4(number.into())));
            budgets.spend(Budget::Requests(network), SECOND + u64::from(number)).expect("the first of its network");
            if number % 50_000 == 0 {
                max = max.max(bytes(&budgets));
            }
        }
        let max = max.max(bytes(&budgets));
        assert!((16 << 20..=64 << 20).contains(&max), "{max}");
        assert!((MAX_METERS / 2..=MAX_METERS).contains(&entries(&budgets)), "{}", entries(&budgets));
        budgets.prune(60 * SECOND);
        assert_eq!(entries(&budgets), 0);
        assert!(bytes(&budgets) < 1 << 20, "{}", bytes(&budgets));
    }
}
