//! A limit and its arithmetic.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use actix_web::http::header::HeaderValue;

/// The units of time in settings, with their seconds.
const UNITS: [(&str, u32); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];

/// The seconds of a unit of time: `s`, `m`, `h` or `d`.
pub(crate) fn seconds_of(unit: &str) -> Option<u32> {
    UNITS.iter().find(|(name, _)| *name == unit).map(|(_, seconds)| *seconds)
}

/// A number of requests per period, written `60/m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    requests: NonZeroU64,
    period: Duration,
}

/// The largest number of requests in a limit.
const MAX_REQUESTS: u64 = 1_000_000;

impl Limit {
    /// A limit of `requests` per minute.
    ///
    /// # Panics
    /// When `requests` is 0.
    #[must_use]
    pub const fn per_minute(requests: u64) -> Limit {
        Limit { requests: NonZeroU64::new(requests).expect("not 0"), period: Duration::from_secs(60) }
    }

    /// A limit of `requests` per day.
    ///
    /// # Panics
    /// When `requests` is 0.
    #[must_use]
    pub const fn per_day(requests: u64) -> Limit {
        Limit { requests: NonZeroU64::new(requests).expect("not 0"), period: Duration::from_secs(86_400) }
    }

    /// Parses `<requests>/<s|m|h|d>`, at most a million requests.
    pub fn parse(text: &str) -> Option<Limit> {
        let (requests, unit) = text.split_once('/')?;
        let (requests, period): (NonZeroU64, _) =
            (requests.parse().ok()?, Duration::from_secs(seconds_of(unit)?.into()));
        (requests.get() <= MAX_REQUESTS).then_some(Limit { requests, period })
    }

    /// The limit with `factor` times as many requests, at least one and at most a million.
    #[must_use]
    pub fn times(self, factor: u64) -> Limit {
        let requests = self.requests.get().saturating_mul(factor).clamp(1, MAX_REQUESTS);
        Limit { requests: NonZeroU64::new(requests).expect("not 0"), ..self }
    }

    /// `RateLimit-Policy` of a plan with this limit (draft-ietf-httpapi-ratelimit-headers-11).
    pub(super) fn policy(self) -> HeaderValue {
        let policy = format!("\"plan\";q={};w={}", self.requests, self.period.as_secs());
        HeaderValue::try_from(policy).expect("digits and ASCII")
    }

    /// The nanoseconds after which another request is available.
    fn interval(self) -> u64 {
        self.period.as_nanos() as u64 / self.requests
    }

    /// The generic cell rate algorithm. The state `full_at` is the time at which the whole limit is available again. Returns
    /// the state after one request at `now`. All times are nanoseconds of one steady clock.
    ///
    /// The requests of a whole period may come at once. The limit then refills evenly, so no span of one period sees more
    /// than twice the limit.
    ///
    /// # Errors
    /// The time until the limit allows a request.
    pub fn take(self, full_at: u64, now: u64) -> Result<u64, Duration> {
        let interval = self.interval();
        let next = full_at.max(now) + interval;
        // Not the period: if it is no multiple of the interval, more requests than the limit would fit into it.
        let latest = now + interval * self.requests.get();
        if next <= latest { Ok(next) } else { Err(Duration::from_nanos(next - latest)) }
    }

    /// The state after one request fewer.
    pub fn give_back(self, full_at: u64) -> u64 {
        full_at.saturating_sub(self.interval())
    }

    /// What is left at `now` in that state.
    pub fn left(self, full_at: u64, now: u64) -> Left {
        let used = full_at.saturating_sub(now);
        let free = (self.interval() * self.requests.get()).saturating_sub(used);
        Left { requests: free / self.interval(), full_in: Duration::from_nanos(used) }
    }
}

/// What is left of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// How many requests are allowed now.
    pub requests: u64,
    /// The time until the whole limit is available again.
    pub full_in: Duration,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, seconds)| self.period.as_secs() == u64::from(*seconds));
        write!(f, "{}/{}", self.requests, unit.map_or("d", |(unit, _)| unit))
    }
}
