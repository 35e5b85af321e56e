//! Plans, how many requests each allows, and the meter that holds a domain to it. No I/O, and
//! time is passed in.

mod limit;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Text;
use utoipa::ToSchema;

pub use self::limit::{Left, Limit};

/// What a domain may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow, ToSchema)]
#[diesel(sql_type = Text)]
#[schema(rename_all = "lowercase")]
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
    /// A meter that is full again at that time, as [`Meter::full_at`] told it.
    pub fn with(full_at: u64) -> Meter {
        Meter { full_at: full_at.into(), ..Meter::default() }
    }

    /// When nothing is used any more, in nanoseconds of the clock that requests were taken by; 0 if nothing was ever used.
    pub fn full_at(&self) -> u64 {
        self.full_at.load(Ordering::Relaxed)
    }

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
