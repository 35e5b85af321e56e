//! Plans, how many requests each allows, and the meter that holds a domain to it. No I/O, and
//! time is passed in.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

impl Limit {
    /// Parses `<requests>/<s|m|h>`, at most a million requests.
    pub fn parse(text: &str) -> Option<Limit> {
        let (requests, unit) = text.split_once('/')?;
        let period = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        let requests: NonZeroU64 = requests.parse().ok()?;
        (requests.get() <= 1_000_000).then_some(Limit { requests, period: Duration::from_secs(period) })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.requests)
    }
}

/// The limit of each plan; `None` is no limit.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `LIMIT_FREE`.
    pub free: Option<Limit>,
    /// `LIMIT_PREMIUM`.
    pub premium: Option<Limit>,
}

impl Limits {
    /// The limit of that plan.
    pub fn of(&self, plan: Plan) -> Option<Limit> {
        match plan {
            Plan::Free => self.free,
            Plan::Premium => self.premium,
        }
    }
}

/// A domain's use of its limit: the generic cell rate algorithm in one atomic word. A whole period's worth may
/// come at once and then refills evenly, so that no span of one period sees more than twice the limit.
///
/// Why not a limiter crate: the limit belongs to the plan and is passed in with the time, so a
/// changed plan holds at once and a million meters cost eight bytes each.
#[derive(Debug, Default)]
pub struct Meter(AtomicU64);

impl Meter {
    /// Takes one request at `now` (nanoseconds of any steady clock), or says how long until one fits.
    pub fn spend(&self, limit: Limit, now: u64) -> Result<(), Duration> {
        let period = limit.period.as_nanos() as u64;
        let interval = period / limit.requests.get();
        let mut full_at = self.0.load(Ordering::Relaxed);
        loop {
            let next = full_at.max(now) + interval;
            if next > now + period {
                return Err(Duration::from_nanos(next - now - period));
            }
            match self.0.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(moved) => full_at = moved,
            }
        }
    }
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

    #[test]
    fn limits_have_one_spelling() {
        for text in ["60/m", "1/s", "1000000/h"] {
            assert_eq!(Limit::parse(text).map(|limit| limit.to_string()), Some(text.to_owned()));
        }
        for text in ["", "0/m", "60", "60/d", "-1/m", "1000001/h", "60/m ", "1e3/m"] {
            assert_eq!(Limit::parse(text), None, "{text}");
        }
    }
}
