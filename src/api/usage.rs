//! Usage counters of a domain per day, for its owner.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Context;
use crate::actions::{OwnDomain, usage};
use crate::db::usage::DailyCount;
use crate::error::{Error, Result};
use crate::id::{DomainId, number};
use crate::locale::Message;
use crate::usage::date;

const DEFAULT_DAYS: i64 = 30;

/// The query parameters.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Days {
    /// The number of days up to today, 1 to 400. Defaults to 30.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 400, default = 30)]
    days: Option<String>,
}

/// The counters of one day.
#[derive(Serialize, ToSchema)]
struct Day {
    /// A date in UTC, such as `2026-11-22`.
    day: String,
    /// Issued access tokens.
    tokens: i64,
    /// Access tokens that were issued while the previous one had most of its lifetime left.
    redundant: i64,
    /// Accepted tokens.
    calls: i64,
    /// Refused requests by `reason`. Only requests of identified clients count.
    refused: BTreeMap<String, i64>,
    /// Requests by version of the API, whether accepted or refused.
    versions: BTreeMap<String, i64>,
}

impl Day {
    fn of(number: i64, counts: Vec<DailyCount>) -> Day {
        let (refused, versions) = (BTreeMap::new(), BTreeMap::new());
        let mut day = Day { day: date(number), tokens: 0, redundant: 0, calls: 0, refused, versions };
        counts.into_iter().for_each(|count| day.add(count));
        day
    }

    fn add(&mut self, counted: DailyCount) {
        let DailyCount { kind, count, .. } = counted;
        match (kind.as_str(), kind.strip_prefix("refused.")) {
            ("tokens", _) => self.tokens += count,
            ("redundant", _) => self.redundant += count,
            ("calls", _) => self.calls += count,
            (_, Some(reason)) => *self.refused.entry(reason.to_owned()).or_default() += count,
            (version, None) => *self.versions.entry(version.to_owned()).or_default() += count,
        }
    }
}

/// Show a domain's tokens, calls and refusals per day. The counters are at most two seconds late.
#[utoipa::path(
    get, path = "", tag = "domains",
    operation_id = "showUsage",
    params(("id" = inline(DomainId), Path, description = "The domain's public id"), Days),
    responses((status = 200, description = "Every day, the latest first", body = super::List<Day>)),
)]
pub(crate) async fn show(own: OwnDomain, req: HttpRequest, context: Context) -> Result<HttpResponse> {
    let query = web::Query::<Days>::from_query(req.query_string()).map_err(|_| Error::Malformed(Message::Malformed))?;
    let days = match query.days.as_deref().map(number) {
        None => DEFAULT_DAYS,
        Some(days) => days.ok_or_else(|| Error::field("days", Message::Days))?,
    };
    let days = usage::by_day(&context.app, own, days).await?.into_iter().rev();
    Ok(context.list(days.map(|(number, counts)| Day::of(number, counts))))
}
