//! Usage of domains, counted in memory until the next flush adds it to the database. No I/O; time is passed in.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::{Mutex, MutexGuard};
use time::{Date, UtcDateTime};

use crate::id::{DomainId, SecretId};
use crate::reason::Reason;

/// What is counted for each domain and day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A token was issued.
    Token,
    /// A token was issued while the previous one had more than half of its lifetime left.
    Redundant,
    /// A token was accepted.
    Call,
    /// A request to `/v1`, with any outcome.
    Version1,
    /// A request was refused.
    Refused(Reason),
}

/// The names of the kinds in the database, without those of refusals, which are `refused.` and the reason.
const NAMES: [&str; 4] = ["tokens", "redundant", "calls", "v1"];
const KINDS: usize = NAMES.len() + Reason::ALL.len();

impl Kind {
    fn index(self) -> usize {
        match self {
            Kind::Token => 0,
            Kind::Redundant => 1,
            Kind::Call => 2,
            Kind::Version1 => 3,
            Kind::Refused(reason) => NAMES.len() + reason as usize,
        }
    }

    fn name(index: usize) -> Cow<'static, str> {
        match NAMES.get(index) {
            Some(name) => Cow::Borrowed(name),
            None => format!("refused.{}", Reason::ALL[index - NAMES.len()].as_str()).into(),
        }
    }
}

/// Seconds of a day. Days are counted from 1970-01-01 in UTC.
pub const DAY: i64 = 86_400;

/// The date of a day, such as `2027-01-31`, given the number of days since 1970-01-01.
pub(crate) fn date(number: i64) -> String {
    let midnight = UtcDateTime::from_unix_timestamp(number.saturating_mul(DAY));
    midnight.map_or(Date::MAX, UtcDateTime::date).to_string()
}

type Counts = HashMap<(DomainId, i64), [u32; KINDS]>;

/// The last use of a secret.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// Unix seconds.
    pub at: i64,
    /// The address that used it.
    pub from: Option<IpAddr>,
}

/// A part of the counts with its own locks, so that threads rarely wait for each other.
#[derive(Debug, Default)]
struct Shard {
    counts: Mutex<Counts>,
    uses: Mutex<HashMap<SecretId, Use>>,
}

/// Usage that is not in the database yet.
#[derive(Debug, Default)]
pub struct Usage([Shard; SHARDS]);

/// A count of one kind on one day, to be added to the database.
#[derive(Clone, Debug)]
pub struct Count {
    /// The domain.
    pub domain: DomainId,
    /// Days since 1970-01-01.
    pub day: i64,
    /// The name of the [`Kind`] in the database.
    pub kind: Cow<'static, str>,
    /// The number to add.
    pub count: i64,
}

/// Usage that was taken out to be written.
#[derive(Debug, Default)]
pub struct Taken {
    counts: Vec<((DomainId, i64), [u32; KINDS])>,
    uses: Vec<(SecretId, Use)>,
}

/// Largest number of secrets whose last use is buffered. The use of a further secret is not recorded.
const MAX_USES: usize = 1 << 16;
const SHARDS: usize = 16;

impl Usage {
    /// Counts one event at `now`, in Unix seconds.
    pub fn count(&self, domain: DomainId, kind: Kind, now: i64) {
        self.add(domain, now.div_euclid(DAY), kind.index(), 1);
    }

    fn add(&self, domain: DomainId, day: i64, index: usize, count: u32) {
        let last = domain.as_str().as_bytes().last().copied().unwrap_or_default();
        let mut counts = self.0[usize::from(last) % self.0.len()].counts.lock();
        let counted = &mut counts.entry((domain, day)).or_insert([0; KINDS])[index];
        *counted = counted.saturating_add(count);
    }

    /// Records the last use of a secret.
    pub fn used(&self, secret: SecretId, used: Use) {
        let mut uses = self.uses_of(secret);
        if uses.len() < MAX_USES / SHARDS || uses.contains_key(&secret) {
            uses.insert(secret, used);
        }
    }

    fn uses_of(&self, secret: SecretId) -> MutexGuard<'_, HashMap<SecretId, Use>> {
        self.0[secret.get() as usize % SHARDS].uses.lock()
    }

    /// Takes all counts and uses.
    pub fn take(&self) -> Taken {
        let mut taken = Taken::default();
        for shard in &self.0 {
            let counts = std::mem::take(&mut *shard.counts.lock());
            let uses = std::mem::take(&mut *shard.uses.lock());
            taken.counts.extend(counts);
            taken.uses.extend(uses);
        }
        taken
    }

    /// Returns usage that could not be written. Counts are added up, and the latest use of a secret is kept.
    pub fn put_back(&self, taken: Taken) {
        for ((domain, day), counted) in taken.counts {
            for (index, count) in counted.into_iter().enumerate().filter(|(_, count)| *count > 0) {
                self.add(domain, day, index, count);
            }
        }
        for (secret, used) in taken.uses {
            self.uses_of(secret).entry(secret).or_insert(used);
        }
    }
}

impl Taken {
    /// Splits off at most `size` counts and `size` uses; `None` if nothing is left.
    pub fn next_batch(&mut self, size: usize) -> Option<Taken> {
        let counts = self.counts.split_off(self.counts.len().saturating_sub(size));
        let uses = self.uses.split_off(self.uses.len().saturating_sub(size));
        (!counts.is_empty() || !uses.is_empty()).then_some(Taken { counts, uses })
    }

    /// The counts that are not 0.
    pub fn counts(&self) -> impl Iterator<Item = Count> {
        self.counts.iter().flat_map(|((domain, day), counted)| {
            let counted = counted.iter().enumerate().filter(|(_, count)| **count > 0);
            counted.map(|(index, count)| Count {
                domain: *domain,
                day: *day,
                kind: Kind::name(index),
                count: i64::from(*count),
            })
        })
    }

    /// The last uses of secrets.
    pub fn uses(&self) -> impl Iterator<Item = (SecretId, Use)> {
        self.uses.iter().map(|(secret, used)| (*secret, *used))
    }
}
