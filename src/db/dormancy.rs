//! Dormant domains: neither verified nor used for long. Nodes keep neither them nor their secrets in memory.

use std::collections::HashMap;

use diesel::dsl::max;
use diesel::prelude::*;

use super::Conn;
use super::schema::{domains, secret_uses, secrets, usage};
use crate::id::{DomainId, UserId};
use crate::usage::DAY;

/// Examines at most `rows` domains that were registered or changed, and at most `rows` domains without recorded
/// activity since `idle_since`. Returns the number of examined domains, and the newly dormant ones.
pub fn update(conn: &mut Conn, now: i64, idle_since: i64, rows: i64) -> QueryResult<(usize, Vec<(DomainId, UserId)>)> {
    let recorded = record_activity(conn, now, rows)?;
    let (examined, dormant) = mark_dormant(conn, idle_since, rows)?;
    Ok((recorded + examined, dormant))
}

/// Records the present as the last activity of domains that were registered or changed. The change itself does not do
/// it, because the command line may make the change under a wrong clock.
fn record_activity(conn: &mut Conn, now: i64, rows: i64) -> QueryResult<usize> {
    let changed = domains::active_at.is_null().and(domains::verified_at.is_null());
    let changed = domains::table.filter(domains::dormant.eq(false)).filter(changed);
    let ids: Vec<DomainId> = changed.select(domains::id).limit(rows).load(conn)?;
    diesel::update(domains::table.filter(domains::id.eq_any(ids))).set(domains::active_at.eq(now)).execute(conn)
}

/// Examines domains without recorded activity since `before`. A domain that was used since gets the time of its use; the
/// others become dormant.
fn mark_dormant(conn: &mut Conn, before: i64, rows: i64) -> QueryResult<(usize, Vec<(DomainId, UserId)>)> {
    let idle = domains::active_at.lt(before).and(domains::verified_at.is_null());
    let idle = domains::table.filter(domains::dormant.eq(false)).filter(idle);
    let idle: Vec<(DomainId, UserId)> = idle.select((domains::id, domains::user_id)).limit(rows).load(conn)?;
    let uses = last_uses(conn, idle.iter().map(|(id, _)| *id).collect())?;
    let is_used = |id: &DomainId| uses.get(id).filter(|used_at| **used_at >= before);
    for (id, _) in &idle {
        if let Some(used_at) = is_used(id) {
            diesel::update(domains::table.find(id)).set(domains::active_at.eq(used_at)).execute(conn)?;
        }
    }
    let examined = idle.len();
    let unused: Vec<(DomainId, UserId)> = idle.into_iter().filter(|(id, _)| is_used(id).is_none()).collect();
    let ids: Vec<DomainId> = unused.iter().map(|(id, _)| *id).collect();
    diesel::update(domains::table.filter(domains::id.eq_any(&ids))).set(domains::dormant.eq(true)).execute(conn)?;
    diesel::update(secrets::table.filter(secrets::domain_id.eq_any(&ids)))
        .set(secrets::dormant.eq(true))
        .execute(conn)?;
    Ok((examined, unused))
}

/// Returns when domains were last used, in Unix seconds. Where usage records only a day, its end counts.
fn last_uses(conn: &mut Conn, ids: Vec<DomainId>) -> QueryResult<HashMap<DomainId, i64>> {
    let of_secrets = secrets::table.inner_join(secret_uses::table).filter(secrets::domain_id.eq_any(&ids));
    let of_secrets = of_secrets.group_by(secrets::domain_id).select((secrets::domain_id, max(secret_uses::used_at)));
    let days = usage::table.filter(usage::domain_id.eq_any(&ids));
    let days = days.group_by(usage::domain_id).select((usage::domain_id, max(usage::day)));
    let of_secrets: Vec<(DomainId, Option<i64>)> = of_secrets.load(conn)?;
    let days: Vec<(DomainId, Option<i64>)> = days.load(conn)?;
    let ends = days.into_iter().map(|(id, day)| (id, day.map(|day| (day + 1) * DAY)));
    let mut uses = HashMap::new();
    for (id, used_at) in of_secrets.into_iter().chain(ends) {
        let last = uses.entry(id).or_default();
        *last = used_at.unwrap_or_default().max(*last);
    }
    Ok(uses)
}

/// Wakes a domain that is about to be changed. The change counts as activity.
pub fn wake(conn: &mut Conn, id: DomainId) -> QueryResult<()> {
    let noted = domains::table.find(id).filter(domains::active_at.is_not_null());
    let awake = (domains::dormant.eq(false), domains::active_at.eq(None::<i64>));
    if diesel::update(noted).set(awake).execute(conn)? > 0 {
        let asleep = secrets::table.filter(secrets::domain_id.eq(id).and(secrets::dormant.eq(true)));
        diesel::update(asleep).set(secrets::dormant.eq(false)).execute(conn)?;
    }
    Ok(())
}
