//! Budgets: what may be done per unit of time by a network, on an account, or by an account. No I/O, and time is passed in.
//!
//! All budgets are bounded in memory: a table has a fixed number of entries, and an entry is a 64-bit hash under a key of
//! this process, which an attacker cannot aim at. Budgets belong to one node and end with it.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Account, Holder, Network};
use crate::id::{TokenId, UserId};
use crate::plan::Limit;

/// A budget, and whose it is. While it is used up, the answer is 429.
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
    /// `LIMIT_LOG`: lines of the access log for refused requests.
    RefusalLines(Network),
    /// A hundred times `LIMIT_LOG`: lines of the access log for other requests.
    RequestLines(Network),
    /// `LIMIT_CHANGES`: requests of one user in person that may change something. Without this budget, one account could
    /// fill the database and the audit log.
    Changes(UserId),
    /// Revocations of single tokens by all domains of one user. Retiring a secret at once revokes all of them together.
    Revocations(UserId),
    /// Verifications of hosts by one user.
    Checks(UserId),
    /// Verifications of one host by one user.
    ChecksOfHost(UserId, &'a str),
    /// Verifications that connect to one address, by all users together.
    ChecksOfAddress(IpAddr),
    /// Verifications that connect to one address, by one user: half of what all may have.
    ChecksOfAddressByUser(IpAddr, UserId),
}

/// How large each budget is; `None` is no limit.
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
            Budget::RefusalLines(_) => self.lines,
            Budget::RequestLines(_) => self.lines.map(|limit| limit.times(REQUEST_LINES)),
            Budget::Changes(_) => self.changes,
            Budget::Revocations(_) => Some(Limit::per_minute(10_000)),
            Budget::Checks(_) => Some(Limit::per_minute(30)),
            Budget::ChecksOfHost(..) => Some(Limit::per_minute(5)),
            Budget::ChecksOfAddress(_) => Some(Limit::per_minute(10)),
            Budget::ChecksOfAddressByUser(..) => Some(Limit::per_minute(5)),
        }
    }
}

/// How many lines of other requests a network may have for one of a refused request.
const REQUEST_LINES: NonZeroU64 = NonZeroU64::new(100).expect("not 0");

/// How many meters there are at most; 17 to 34 bytes each.
const METERS: usize = 1 << 20;

/// All budgets of this process.
#[derive(Debug)]
pub struct Budgets {
    limits: BudgetLimits,
    hash: RandomState,
    meters: Table,
}

/// Who tries a password of an account. Each has a budget of its own, so that others' wrong passwords do not keep the owner out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guesser<'a> {
    /// All networks together from which the account of that name was not signed in to lately: many are no way around it.
    Strangers(&'a str),
    /// A network from which it was. Who shares it with the owner could learn from this that the account is used there.
    KnownNetwork(&'a str, Network),
    /// Whoever has that user token.
    Token(TokenId),
}

/// A password that is being tried, which was counted as a wrong one before it was looked at.
#[derive(Debug)]
#[must_use]
pub struct Attempt {
    /// The meter that it was taken from.
    meter: u64,
    /// Nobody but the owner should come with the right password there.
    is_owners: bool,
}

impl Attempt {
    /// The holder of shares for this attempt in a network: an account that is known there has a share of its own.
    pub fn holder(&self, network: Network) -> Holder {
        match self.is_owners {
            true => Holder { network, account: Account::KnownThere(self.meter) },
            false => Holder::network(network),
        }
    }
}

impl Budgets {
    /// With those limits, and nothing used.
    pub fn new(limits: BudgetLimits) -> Budgets {
        Budgets { limits, hash: RandomState::new(), meters: Table::new(METERS) }
    }

    /// Takes one from a budget at `now` (nanoseconds of a steady clock, as everywhere below).
    ///
    /// # Errors
    /// How long until one fits.
    pub fn spend(&self, budget: Budget<'_>, now: u64) -> Result<(), Duration> {
        match self.limits.of(budget) {
            Some(limit) => self.meters.take(self.hash.hash_one(budget), limit, now),
            None => Ok(()),
        }
    }

    /// Counts a password that is about to be tried on an account, existing or not, before any work is done on it.
    ///
    /// # Errors
    /// How long until one fits.
    pub fn try_password(&self, guesser: Guesser<'_>, now: u64) -> Result<Attempt, Duration> {
        let attempt =
            Attempt { meter: self.hash.hash_one(guesser), is_owners: !matches!(guesser, Guesser::Strangers(_)) };
        if let Some(limit) = self.limits.passwords {
            self.meters.take(attempt.meter, limit, now)?;
        }
        Ok(attempt)
    }

    /// The password was right: nothing counts against the owner any more.
    pub fn was_right(&self, attempt: Attempt) {
        match attempt.is_owners {
            true => self.meters.remove(attempt.meter),
            false => self.was_not_tried(attempt),
        }
    }

    /// It was not looked at after all.
    pub fn was_not_tried(&self, attempt: Attempt) {
        if let Some(limit) = self.limits.passwords {
            self.meters.give_back(attempt.meter, limit);
        }
    }

    /// Gives back the memory of what says nothing any more.
    pub fn prune(&self, now: u64) {
        self.meters.prune(now);
    }
}

/// Times by hash, each of which says nothing any more once it has passed; so an absent one says the same. The lock of a
/// shard is held for a look-up, and now and then for a sweep through it.
#[derive(Debug)]
pub(crate) struct Table {
    shards: Box<[Mutex<Shard>]>,
    /// How many a shard may have.
    places: usize,
}

type Shard = HashMap<u64, u64, BuildHasherDefault<Hashed>>;

const SHARDS: usize = 64;

impl Table {
    pub(crate) fn new(places: usize) -> Table {
        Table { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), places: places / SHARDS }
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        // Bits that the map itself does not look at.
        let index = (key >> 48) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, key: u64, limit: Limit, now: u64) -> Result<(), Duration> {
        let mut shard = self.shard(key);
        let next = limit.take(shard.get(&key).copied().unwrap_or_default(), now)?;
        insert(&mut shard, key, next, self.places, now);
        Ok(())
    }

    fn give_back(&self, key: u64, limit: Limit) {
        if let Some(full_at) = self.shard(key).get_mut(&key) {
            *full_at = limit.give_back(*full_at);
        }
    }

    pub(crate) fn put(&self, key: u64, until: u64, now: u64) {
        insert(&mut self.shard(key), key, until, self.places, now);
    }

    /// What was put there last; 0 if nothing.
    pub(crate) fn get(&self, key: u64) -> u64 {
        self.shard(key).get(&key).copied().unwrap_or_default()
    }

    fn remove(&self, key: u64) {
        self.shard(key).remove(&key);
    }

    pub(crate) fn prune(&self, now: u64) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, until| *until > now);
            let room = shard.len() * 2;
            shard.shrink_to(room);
        }
    }
}

fn insert(shard: &mut Shard, key: u64, until: u64, places: usize, now: u64) {
    if shard.len() >= places && !shard.contains_key(&key) {
        make_room(shard, places, now);
    }
    shard.insert(key, until);
}

/// Drops what says nothing any more. Where that is too little for the next sweep to be far away, drops also the half that
/// has the least to say: what is soonest to be full again.
fn make_room(shard: &mut Shard, places: usize, now: u64) {
    shard.retain(|_, until| *until > now);
    if shard.len() > places / 4 * 3 {
        let mut times: Vec<u64> = shard.values().copied().collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        shard.retain(|_, until| *until > median);
    }
}

/// The keys are hashes already.
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
mod tests;
