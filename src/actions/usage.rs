//! Usage of domains per day.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use super::OwnDomain;
use crate::app::{App, USAGE_DAYS};
use crate::db::Conn;
use crate::db::usage::{self, DailyCount, DomainUsage};
use crate::error::{Error, Result};
use crate::id::DomainId;
use crate::locale::Message;
use crate::usage::DAY;

/// Returns the counts of the last `days` days by the number of the day, also for days without a request.
///
/// # Errors
/// When `days` is not from 1 to [`USAGE_DAYS`]; as [`OwnDomain::read`].
pub(crate) async fn by_day(app: &App, own: OwnDomain, days: i64) -> Result<BTreeMap<i64, Vec<DailyCount>>> {
    if !(1..=USAGE_DAYS).contains(&days) {
        return Err(Error::field("days", Message::Days));
    }
    let today = app.now().div_euclid(DAY);
    let since = today - days + 1;
    let counts = own.read(app, move |conn, domain| usage::list(conn, domain.user_id, domain.id, since)).await?;
    let mut by_day: BTreeMap<i64, Vec<DailyCount>> = (since..=today).map(|day| (day, Vec::new())).collect();
    for count in counts {
        if let Some(counts) = by_day.get_mut(&count.day) {
            counts.push(count);
        }
    }
    Ok(by_day)
}

/// Returns the domains that called a version of the API in the last `days` days, for the operator, each with the day of its
/// last call and the number of its calls. The latest day comes first.
pub(crate) fn callers_of(conn: &mut Conn, version: &str, days: i64, now: i64) -> Result<Vec<DomainUsage>> {
    let mut callers: Vec<DomainUsage> = Vec::new();
    let mut places: HashMap<DomainId, usize> = HashMap::new();
    for row in usage::domains_with(conn, version, now.div_euclid(DAY) - days + 1)? {
        match places.entry(row.domain) {
            Entry::Occupied(place) => callers[*place.get()].count += row.count,
            Entry::Vacant(place) => {
                place.insert(callers.len());
                callers.push(row);
            }
        }
    }
    Ok(callers)
}
