//! What a domain did, day by day, for its owner.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::list;
use crate::actions::OwnDomain;
use crate::app::{App, USAGE_DAYS};
use crate::db::usage::{self, DailyCount};
use crate::error::{Error, Result};
use crate::id::{DomainId, number};
use crate::locale::{Locale, Message};
use crate::usage::{DAY, date};

/// Which days.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Days {
    /// How many days, today included: 1 to 400, 30 if absent.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 400, default = 30)]
    days: Option<String>,
}

/// One day.
#[derive(Serialize, ToSchema)]
struct Day {
    /// Such as `2026-11-22`, in UTC.
    day: String,
    /// Access tokens issued.
    tokens: i64,
    /// How many of those were needless: the token before had most of its life left.
    needless: i64,
    /// Tokens presented and taken.
    calls: i64,
    /// Refused requests that were certainly this domain's, by reason.
    refused: BTreeMap<String, i64>,
    /// Requests by the version of the API that they were for, whatever the answer.
    versions: BTreeMap<String, i64>,
}

impl Day {
    fn of(number: i64) -> Day {
        Day { day: date(number), tokens: 0, needless: 0, calls: 0, refused: BTreeMap::new(), versions: BTreeMap::new() }
    }

    fn add(&mut self, counted: DailyCount) {
        let DailyCount { kind, count, .. } = counted;
        match (kind.as_str(), kind.strip_prefix("refused.")) {
            ("tokens", _) => self.tokens += count,
            ("needless", _) => self.needless += count,
            ("calls", _) => self.calls += count,
            (_, Some(reason)) => *self.refused.entry(reason.to_owned()).or_default() += count,
            (version, None) => *self.versions.entry(version.to_owned()).or_default() += count,
        }
    }
}

/// Show what a domain did, day by day: tokens, calls and refusals. It is at most a second or two behind.
#[utoipa::path(
    tag = "domains",
    operation_id = "showUsage",
    params(("id" = inline(DomainId), Path, description = "The domain's public id"), Days),
    responses((status = 200, description = "Every day, the latest first", body = super::List<Day>)),
    security(("userToken" = []))
)]
#[get("/domains/{id}/usage")]
pub(crate) async fn show(
    own: OwnDomain,
    req: HttpRequest,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    let query = web::Query::<Days>::from_query(req.query_string()).map_err(|_| Error::Malformed(Message::Malformed))?;
    let days = match query.days.as_deref().map(number) {
        None => 30,
        Some(Some(days)) if (1..=USAGE_DAYS).contains(&days) => days,
        Some(_) => return Err(Error::field("days", Message::Days)),
    };
    let today = app.now().div_euclid(DAY);
    let since = today - days + 1;
    let mut shown: BTreeMap<i64, Day> = (since..=today).map(|day| (day, Day::of(day))).collect();
    let counted = own.read(&app, move |conn, domain| usage::list(conn, domain.user_id, domain.id, since)).await?;
    for counted in counted {
        if let Some(day) = shown.get_mut(&counted.day) {
            day.add(counted);
        }
    }
    Ok(list(shown.into_values().rev().collect(), None, locale))
}
