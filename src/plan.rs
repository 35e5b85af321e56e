//! Plans, how many requests each allows, and the meter that holds a domain to it. No I/O, and
//! time is passed in.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Text;

/// What a domain may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub enum Plan {
    /// `free`, limited by `LIMIT_FREE`.
    Free,
    /// `premium`, limited by `LIMIT_PREMIUM`.
    Premium,
}

impl Plan {
    /// Parses the wire's `type`.
    pub fn parse(text: &str) -> Option<Plan> {
        match text {
            "free" => Some(Plan::Free),
            "premium" => Some(Plan::Premium),
            _ => None,
        }
    }

    /// The wire's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Plan::Free => "free",
            Plan::Premium => "premium",
        }
    }
}

impl<DB: Backend> ToSql<Text, DB> for Plan
where
    str: ToSql<Text, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.as_str().to_sql(out)
    }
}

impl<DB: Backend> FromSql<Text, DB> for Plan
where
    String: FromSql<Text, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        let text = String::from_sql(bytes)?;
        Plan::parse(&text).ok_or_else(|| format!("not a plan: {text:?}").into())
    }
}

/// So many requests per period, written `60/m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    requests: NonZeroU64,
    period: Duration,
}

/// The most requests that a limit may have.
const MOST: u64 = 1_000_000;

impl Limit {
    /// Parses `<requests>/<s|m|h|d>`, at most a million requests.
    pub fn parse(text: &str) -> Option<Limit> {
        let (requests, unit) = text.split_once('/')?;
        let period = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        let requests: NonZeroU64 = requests.parse().ok()?;
        (requests.get() <= MOST).then_some(Limit { requests, period: Duration::from_secs(period) })
    }

    /// So many times as many requests, but no more than a limit may have.
    #[must_use]
    pub fn times(self, factor: NonZeroU64) -> Limit {
        let requests = self.requests.saturating_mul(factor);
        Limit { requests: requests.min(NonZeroU64::new(MOST).expect("not 0")), ..self }
    }

    /// `RateLimit-Policy` of a plan with this limit (draft-ietf-httpapi-ratelimit-headers-11).
    fn policy(self) -> HeaderValue {
        let policy = format!("\"plan\";q={};w={}", self.requests, self.period.as_secs());
        HeaderValue::try_from(policy).expect("digits and ASCII")
    }

    /// Nanoseconds after which one request more fits.
    fn interval(self) -> u64 {
        self.period.as_nanos() as u64 / self.requests
    }

    /// The generic cell rate algorithm. A meter's word is the time at which nothing is used any more; this gives the word
    /// after one request at `now`, or how long until one fits.
    ///
    /// A whole period's worth may come at once and then refills evenly, so that no span of one period sees more than twice
    /// the limit. All times are nanoseconds of one steady clock.
    ///
    /// # Errors
    /// How long until one request fits.
    pub fn take(self, full_at: u64, now: u64) -> Result<u64, Duration> {
        let interval = self.interval();
        let next = full_at.max(now) + interval;
        // Not the period: where it cannot be divided evenly, more than the limit would fit into it.
        let latest = now + interval * self.requests.get();
        match next <= latest {
            true => Ok(next),
            false => Err(Duration::from_nanos(next - latest)),
        }
    }

    /// The word as if one request had not been.
    pub fn give_back(self, full_at: u64) -> u64 {
        full_at.saturating_sub(self.interval())
    }

    /// What a meter with that word has left.
    pub fn left(self, full_at: u64, now: u64) -> Left {
        let used = full_at.saturating_sub(now);
        let free = (self.interval() * self.requests.get()).saturating_sub(used);
        Left { requests: free / self.interval(), full_in: Duration::from_nanos(used) }
    }
}

/// What is left of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// So many requests would pass now.
    pub requests: u64,
    /// After this time nothing is used any more.
    pub full_in: Duration,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period.as_secs() {
            1 => "s",
            60 => "m",
            3600 => "h",
            _ => "d",
        };
        write!(f, "{}/{unit}", self.requests)
    }
}

/// A plan's limit, and how answers name it.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The limit.
    pub limit: Limit,
    /// `RateLimit-Policy`; made once, cheap to clone.
    pub policy: HeaderValue,
}

/// The rule of each plan; `None` is no limit.
#[derive(Clone, Debug)]
pub struct Limits {
    free: Option<Rule>,
    premium: Option<Rule>,
}

impl Limits {
    /// Of `LIMIT_FREE` and `LIMIT_PREMIUM`.
    pub fn new(free: Option<Limit>, premium: Option<Limit>) -> Limits {
        let rule = |limit: Limit| Rule { limit, policy: limit.policy() };
        Limits { free: free.map(rule), premium: premium.map(rule) }
    }

    /// The rule of that plan.
    pub fn of(&self, plan: Plan) -> Option<&Rule> {
        match plan {
            Plan::Free => self.free.as_ref(),
            Plan::Premium => self.premium.as_ref(),
        }
    }
}

/// A domain's use of its limit in one atomic word (see [`Limit::take`]), and until when its last token is good.
///
/// Why not a limiter crate: the limit belongs to the plan and is passed in with the time, so a
/// changed plan holds at once and a million meters cost sixteen bytes each.
#[derive(Debug, Default)]
pub struct Meter {
    full_at: AtomicU64,
    /// The `exp` of the token issued last, and below it the end of its generation: a token that was ended since is not good.
    last_token_until: AtomicU64,
}

/// Bits of `last_token_until` that belong to the generation.
const GENERATION: u32 = 24;

impl Meter {
    /// Takes one request at `now` (nanoseconds of any steady clock) and says what is left.
    ///
    /// # Errors
    /// How long until one fits.
    pub fn spend(&self, limit: Limit, now: u64) -> Result<Left, Duration> {
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let next = limit.take(full_at, now)?;
            match self.full_at.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(limit.left(next, now)),
                Err(moved) => full_at = moved,
            }
        }
    }

    /// What is left now.
    pub fn left(&self, limit: Limit, now: u64) -> Left {
        limit.left(self.full_at.load(Ordering::Relaxed), now)
    }

    /// Remembers that a token of that generation was issued `now`, good for `life` seconds (all Unix seconds). Whether it
    /// was needless: the one before had more than half of such a life left. Only this node's tokens are known, and
    /// whoever needs tokens for several audiences at once cannot do without.
    pub fn issued(&self, generation: i64, now: i64, life: i64) -> bool {
        let before = self.last_token_until.swap(last_token(generation, now + life), Ordering::Relaxed);
        lives(before, generation, now).is_some_and(|left| left > life / 2)
    }

    /// How many seconds the last token that this node issued is still good, if it is of that generation.
    pub fn last_token_lives(&self, generation: i64, now: i64) -> Option<i64> {
        lives(self.last_token_until.load(Ordering::Relaxed), generation, now)
    }

    /// A token with that `exp` was revoked: if it may be the last one, that is good no more.
    pub fn revoked(&self, generation: i64, until: i64) {
        let token = last_token(generation, until);
        // Another one that was issued meanwhile stays.
        self.last_token_until.compare_exchange(token, 0, Ordering::Relaxed, Ordering::Relaxed).ok();
    }
}

fn last_token(generation: i64, until: i64) -> u64 {
    (until as u64) << GENERATION | (generation as u64 & ((1 << GENERATION) - 1))
}

fn lives(token: u64, generation: i64, now: i64) -> Option<i64> {
    let until = (token >> GENERATION) as i64;
    (until > now && token == last_token(generation, until)).then(|| until - now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn spend_all(meter: &Meter, limit: Limit, now: u64) -> u64 {
        (0..).take_while(|_| meter.spend(limit, now).is_ok()).count() as u64
    }

    #[test]
    fn exactly_the_limit_passes_and_then_it_refills_evenly() {
        let limit = Limit::parse("60/m").expect("a limit");
        let meter = Meter::default();
        let start = 5 * SECOND;
        assert_eq!(spend_all(&meter, limit, start), 60);
        assert_eq!(meter.spend(limit, start), Err(Duration::from_secs(1)));
        assert_eq!(spend_all(&meter, limit, start + 10 * SECOND), 10);
        assert_eq!(spend_all(&meter, limit, start + 600 * SECOND), 60);
    }

    #[test]
    fn parallel_requests_pass_exactly_the_limit() {
        let limit = Limit::parse("10/h").expect("a limit");
        let meter = Meter::default();
        let passed: u64 = std::thread::scope(|scope| {
            let spend = || scope.spawn(|| (0..50).filter(|_| meter.spend(limit, SECOND).is_ok()).count() as u64);
            let threads: Vec<_> = (0..4).map(|_| spend()).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(passed, 10);
    }

    /// Also where the period cannot be divided by the number of requests.
    #[test]
    fn exactly_the_limit_passes_whatever_its_number() {
        for text in ["7/s", "999983/s", "1000000/s", "13/m", "50/d"] {
            let limit = Limit::parse(text).expect("a limit");
            let meter = Meter::default();
            let full = meter.left(limit, SECOND);
            assert_eq!((full.requests, full.full_in), (limit.requests.get(), Duration::ZERO), "{text}");
            assert_eq!(spend_all(&meter, limit, SECOND), limit.requests.get(), "{text}");
        }
    }

    /// As documented: a whole limit just before the end of a span and what refilled in it, but never twice at one moment.
    #[test]
    fn the_edge_of_a_window_is_no_place_for_a_second_limit() {
        let limit = Limit::parse("10/m").expect("a limit");
        let meter = Meter::default();
        let ms = SECOND / 1000;
        assert_eq!(spend_all(&meter, limit, 59_900 * ms), 10);
        assert_eq!(spend_all(&meter, limit, 60_100 * ms), 0);
        let in_the_next_minute: u64 = (60_100..=119_900).step_by(100).map(|at| spend_all(&meter, limit, at * ms)).sum();
        assert_eq!(in_the_next_minute, 10);
    }

    #[test]
    fn what_is_left_is_told() {
        let limit = Limit::parse("60/m").expect("a limit");
        let meter = Meter::default();
        let left = |requests, seconds| Left { requests, full_in: Duration::from_secs(seconds) };
        assert_eq!(meter.spend(limit, SECOND), Ok(left(59, 1)));
        assert_eq!(meter.spend(limit, SECOND), Ok(left(58, 2)));
        assert_eq!(meter.left(limit, 2 * SECOND), left(59, 1));
        assert_eq!(spend_all(&meter, limit, SECOND), 58);
        assert_eq!(meter.left(limit, SECOND), left(0, 60));
        assert_eq!(limit.left(limit.give_back(61 * SECOND), SECOND), left(1, 59));
        // After a change to a smaller limit more is used than there is.
        assert_eq!(meter.left(Limit::parse("1/s").expect("a limit"), SECOND), left(0, 60));
    }

    #[test]
    fn a_token_is_needless_while_more_than_half_of_the_last_ones_life_is_left() {
        let meter = Meter::default();
        for (at, generation, needless) in [
            (1000, 0, false),
            (1000, 0, true),
            (1029, 0, true),
            (1059, 0, false),
            (1088, 0, true),
            // Ended with the generation.
            (1089, 1, false),
            (1090, 1, true),
            (2000, 1, false),
        ] {
            assert_eq!(meter.issued(generation, at, 60), needless, "{at}");
        }
        assert_eq!(meter.last_token_lives(1, 2017), Some(43));
        assert_eq!(meter.last_token_lives(1, 2060), None, "dead at its exp");
        assert_eq!(meter.last_token_lives(2, 2017), None, "of an earlier generation");
        meter.revoked(1, 2059);
        assert_eq!(meter.last_token_lives(1, 2017), Some(43), "another token was revoked");
        meter.revoked(1, 2060);
        assert_eq!(meter.last_token_lives(1, 2017), None);
    }

    #[test]
    fn ten_times_a_limit_is_a_limit() {
        let ten = NonZeroU64::new(10).expect("not 0");
        for (text, tenfold) in [("6000/m", "60000/m"), ("1/s", "10/s"), ("500000/h", "1000000/h")] {
            assert_eq!(Limit::parse(text).expect("a limit").times(ten).to_string(), tenfold);
        }
    }

    #[test]
    fn limits_have_one_spelling() {
        for text in ["60/m", "1/s", "1000000/h", "50/d"] {
            assert_eq!(Limit::parse(text).map(|limit| limit.to_string()), Some(text.to_owned()));
        }
        for text in ["", "0/m", "60", "60/w", "-1/m", "1000001/h", "60/m ", "1e3/m"] {
            assert_eq!(Limit::parse(text), None, "{text}");
        }
    }
}
