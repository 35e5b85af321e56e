//! Plans, their limits, and the meter that counts a domain's requests against a limit. No I/O; time is an argument.

mod limit;

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::sql_types::Text;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

pub(crate) use self::limit::seconds_of;
pub use self::limit::{Left, Limit};
use crate::column::stored;

/// The name of a plan and its settings.
#[derive(Debug)]
pub struct Terms {
    /// As in requests, responses and the database.
    pub name: &'static str,
    /// The setting of the limit, and its default.
    pub limit: (&'static str, &'static str),
    /// The setting that lets owners choose the plan themselves. Without one, they always may.
    pub self_service: Option<&'static str>,
}

/// The plans. A new plan is one more row. Every owner may choose the first plan; the last one has the highest limit.
const PLANS: &[Terms] = &[
    Terms { name: "free", limit: ("LIMIT_FREE", "60/m"), self_service: None },
    Terms { name: "premium", limit: ("LIMIT_PREMIUM", "6000/m"), self_service: Some("SELF_SERVICE_PREMIUM") },
];

/// A plan, which limits the requests of a domain. It is an index into the table of plans; the default is the first plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub struct Plan(u8);

impl Plan {
    /// The plan with the highest limit.
    pub const HIGHEST: Plan = Plan(PLANS.len() as u8 - 1);

    /// The names of all plans.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PLANS.iter().map(|terms| terms.name)
    }

    /// Parses the wire's `type`.
    pub fn parse(text: &str) -> Option<Plan> {
        Plan::names().position(|name| name == text).map(|index| Plan(index as u8))
    }

    /// The wire's `type`.
    pub fn as_str(self) -> &'static str {
        PLANS[usize::from(self.0)].name
    }
}

impl PartialSchema for Plan {
    fn schema() -> RefOr<Schema> {
        let names = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(Plan::names()));
        names.description(Some("What a domain may use.")).into()
    }
}

impl ToSchema for Plan {}

// A plan of a newer version reads as the first plan. During an upgrade, nodes of both versions share the database, and
// those of the earlier version must go on to serve its domains.
stored!(Plan: Text, |plan| plan.as_str(), |name| {
    static WARNING: Once = Once::new();
    let plan = Plan::parse(&name);
    if plan.is_none() {
        let first = Plan::default().as_str();
        WARNING.call_once(|| {
            log::warn!("this version does not know the plan {name:?} of some domains: they are {first} here")
        });
    }
    Ok(plan.unwrap_or_default())
});

/// The limit of a plan and its header value.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The limit.
    pub limit: Limit,
    /// The value of `RateLimit-Policy`.
    pub policy: HeaderValue,
}

/// The values of a plan's settings.
#[derive(Clone, Debug)]
pub struct PlanSettings {
    /// `None` is no limit.
    pub rule: Option<Rule>,
    /// Whether owners may choose the plan themselves.
    pub self_service: bool,
}

/// The values of the settings of every plan.
#[derive(Clone, Debug)]
pub struct Plans(Vec<PlanSettings>);

impl Plans {
    /// Reads the limit of every plan, and whether owners may choose the plan themselves.
    pub fn read(mut read: impl FnMut(&'static Terms) -> (Option<Limit>, bool)) -> Plans {
        let settings = PLANS.iter().map(|terms| {
            let (limit, self_service) = read(terms);
            PlanSettings { rule: limit.map(|limit| Rule { limit, policy: limit.policy() }), self_service }
        });
        Plans(settings.collect())
    }

    /// The settings of that plan.
    pub fn of(&self, plan: Plan) -> &PlanSettings {
        &self.0[usize::from(plan.0)]
    }
}

/// The state of a domain's limit in one atomic word (see [`Limit::take`]), and the expiry of its last token.
///
/// Why not a limiter crate: the limit is an argument, so a changed plan takes effect at once, and a meter has 16 bytes.
#[derive(Debug, Default)]
pub struct Meter {
    full_at: AtomicU64,
    /// The `exp` of the last token, and in the low bits its generation. If the domain has another generation, the token
    /// was revoked.
    last_token_until: AtomicU64,
}

/// Bits of `last_token_until` that belong to the generation.
const GENERATION: u32 = 24;

impl Meter {
    /// A meter in the state of [`Meter::full_at`].
    pub fn with(full_at: u64) -> Meter {
        Meter { full_at: full_at.into(), ..Meter::default() }
    }

    /// The time at which the whole limit is available again, by the clock of [`Meter::spend`]. 0 before the first request.
    pub fn full_at(&self) -> u64 {
        self.full_at.load(Ordering::Relaxed)
    }

    /// Spends one request at `now` (nanoseconds of a steady clock) and returns what is left.
    ///
    /// # Errors
    /// The time until the limit allows a request.
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

    /// What is left at `now`.
    pub fn left(&self, limit: Limit, now: u64) -> Left {
        limit.left(self.full_at.load(Ordering::Relaxed), now)
    }

    /// Records that a token of that generation was issued at `now`, for `life` seconds. Times are Unix seconds.
    ///
    /// Returns whether the token was redundant: more than half of the lifetime of the one before was left. Tokens of other
    /// nodes are not known. A client that needs tokens for several audiences at once appears redundant too.
    pub fn issued(&self, generation: i64, now: i64, life: i64) -> bool {
        let before = self.last_token_until.swap(last_token(generation, now + life), Ordering::Relaxed);
        lives(before, generation, now).is_some_and(|left| left > life / 2)
    }

    /// The seconds for which the last token of this node is still valid. `None` if its generation differs.
    pub fn last_token_lives(&self, generation: i64, now: i64) -> Option<i64> {
        lives(self.last_token_until.load(Ordering::Relaxed), generation, now)
    }

    /// Records that a token with that `exp` was revoked. It may be the last one.
    pub fn revoked(&self, generation: i64, until: i64) {
        let token = last_token(generation, until);
        // A token that was issued in the meantime stays.
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
