//! What domains do, counted in memory until it is added to the database once a second. No I/O; time is passed in.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::id::{DomainId, SecretId};
use crate::reason::Reason;

/// What is counted of a domain on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A token was issued.
    Token,
    /// One was issued while the last one had most of its life before it.
    Needless,
    /// A token was presented and taken.
    Call,
    /// Something of `/v1` was asked for, whatever the answer.
    Version1,
    /// Refused, for that reason.
    Refused(Reason),
}

/// The words of what is counted, as the database has them; those of refusals are `refused.` and the reason.
const WORDS: [&str; 4] = ["tokens", "needless", "calls", "v1"];
const KINDS: usize = WORDS.len() + Reason::ALL.len();

impl Kind {
    fn index(self) -> usize {
        match self {
            Kind::Token => 0,
            Kind::Needless => 1,
            Kind::Call => 2,
            Kind::Version1 => 3,
            Kind::Refused(reason) => WORDS.len() + reason as usize,
        }
    }

    fn word(index: usize) -> Cow<'static, str> {
        match WORDS.get(index) {
            Some(word) => Cow::Borrowed(word),
            None => format!("refused.{}", Reason::ALL[index - WORDS.len()].as_str()).into(),
        }
    }
}

/// Seconds of a day; days are counted from 1970 in UTC.
pub const DAY: i64 = 86_400;

type Counts = HashMap<(DomainId, i64), [u32; KINDS]>;

/// The last use of a secret.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// Unix seconds.
    pub at: i64,
    /// Where it came from.
    pub from: Option<IpAddr>,
}

/// One of several tables, so that threads rarely meet; each is held for a few nanoseconds.
#[derive(Debug, Default)]
struct Shard {
    counts: Mutex<Counts>,
    uses: Mutex<HashMap<SecretId, Use>>,
}

/// What was counted and is not in the database yet. Its size is that of what is used within a second.
#[derive(Debug, Default)]
pub struct Usage([Shard; SHARDS]);

/// So much of something on a day, to be added to what the database has.
#[derive(Clone, Debug)]
pub struct Count {
    /// The domain.
    pub domain: DomainId,
    /// Days since 1970.
    pub day: i64,
    /// See [`Kind`].
    pub kind: Cow<'static, str>,
    /// How many more.
    pub count: i64,
}

/// What was taken out, to be written or put back.
#[derive(Debug, Default)]
pub struct Taken {
    counts: Counts,
    uses: HashMap<SecretId, Use>,
}

/// So many secrets' last uses are taken at once, to keep nobody waiting who writes; the others wait.
const USES_AT_ONCE: usize = 1_000;
/// And so many wait at most; of more, the next use is remembered.
const MOST_USES: usize = 1 << 16;
const SHARDS: usize = 16;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Usage {
    /// Counts one.
    pub fn count(&self, domain: DomainId, kind: Kind, now: i64) {
        self.add(domain, now.div_euclid(DAY), kind.index(), 1);
    }

    fn add(&self, domain: DomainId, day: i64, index: usize, count: u32) {
        let last = domain.as_str().as_bytes().last().copied().unwrap_or_default();
        let mut counts = lock(&self.0[usize::from(last) % self.0.len()].counts);
        let counted = &mut counts.entry((domain, day)).or_insert([0; KINDS])[index];
        *counted = counted.saturating_add(count);
    }

    /// Remembers the use of a secret as its last.
    pub fn used(&self, secret: SecretId, used: Use) {
        let mut uses = self.uses_of(secret);
        if uses.len() < MOST_USES / SHARDS || uses.contains_key(&secret) {
            uses.insert(secret, used);
        }
    }

    fn uses_of(&self, secret: SecretId) -> MutexGuard<'_, HashMap<SecretId, Use>> {
        lock(&self.0[secret.get() as usize % SHARDS].uses)
    }

    /// Takes out all that was counted, and some of the last uses.
    pub fn take(&self) -> Taken {
        let mut taken = Taken::default();
        for shard in &self.0 {
            taken.counts.extend(std::mem::take(&mut *lock(&shard.counts)));
            let mut uses = lock(&shard.uses);
            let some: Vec<SecretId> = uses.keys().take(USES_AT_ONCE / SHARDS).copied().collect();
            taken.uses.extend(some.iter().filter_map(|secret| uses.remove_entry(secret)));
        }
        taken
    }

    /// Puts back what could not be written; what was counted meanwhile is added to it, and a later use stays the last.
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
    /// Whether there is nothing to be written.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.uses.is_empty()
    }

    /// Of how many domains there are counts.
    pub fn domains(&self) -> usize {
        self.counts.len()
    }

    /// What was counted.
    pub fn counts(&self) -> impl Iterator<Item = Count> {
        self.counts.iter().flat_map(|((domain, day), counted)| {
            let counted = counted.iter().enumerate().filter(|(_, count)| **count > 0);
            counted.map(|(index, count)| Count {
                domain: *domain,
                day: *day,
                kind: Kind::word(index),
                count: i64::from(*count),
            })
        })
    }

    /// The secrets that were used.
    pub fn uses(&self) -> impl Iterator<Item = (SecretId, Use)> {
        self.uses.iter().map(|(secret, used)| (*secret, *used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(taken: &Taken, kind: &str) -> i64 {
        taken.counts().filter(|count| count.kind == kind).map(|count| count.count).sum()
    }

    #[test]
    fn nothing_is_lost_between_taking_and_putting_back() {
        let (usage, domain) = (Usage::default(), DomainId::random());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| usage.count(domain, Kind::Token, 5)));
            }
            for _ in 0..100 {
                usage.put_back(usage.take());
            }
        });
        assert_eq!(total(&usage.take(), "tokens"), 4_000);
        assert!(usage.take().is_empty());
    }

    #[test]
    fn each_reason_has_a_word_of_its_own() {
        for reason in Reason::ALL {
            assert_eq!(Kind::word(Kind::Refused(*reason).index()), format!("refused.{}", reason.as_str()));
        }
        assert_eq!(Kind::word(Kind::Version1.index()), "v1");
    }

    #[test]
    fn a_day_begins_at_midnight() {
        let (usage, domain) = (Usage::default(), DomainId::random());
        usage.count(domain, Kind::Call, DAY - 1);
        usage.count(domain, Kind::Call, DAY);
        let mut days: Vec<i64> = usage.take().counts().map(|count| count.day).collect();
        days.sort_unstable();
        assert_eq!(days, [0, 1]);
    }
}
