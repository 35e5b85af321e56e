//! Rows of `challenges` and `verified_hosts`: the value that a user must publish to verify a host, and the hosts that
//! have been verified.

use diesel::prelude::*;

use super::schema::{challenges, domains, supersedings, users, verified_hosts};
use super::{Conn, columns};
use crate::id::{DomainId, UserId};
use crate::verification::Method;

/// A value that a user must publish on a host to verify it.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = challenges)]
pub struct Challenge {
    /// See [`crate::verification::Challenge::token`].
    pub token: String,
    /// Unix seconds.
    pub expires_at: i64,
}

/// The verification of a domain's host.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = verified_hosts)]
pub struct VerifiedHost {
    /// The verified domain.
    pub domain_id: DomainId,
    /// The published value, which must stay there.
    pub token: String,
    /// When the last check began, in Unix seconds; the next one is due a day later. A claimed check sets an earlier
    /// time, so that it is due again soon if no result is recorded.
    pub checked_at: i64,
    /// Since when checks have failed, in Unix seconds.
    pub failing_since: Option<i64>,
}

/// Returns the tenant's challenge for a host, unless it has expired.
pub fn challenge(conn: &mut Conn, tenant: UserId, host: &str, now: i64) -> QueryResult<Option<Challenge>> {
    challenges::table
        .find((tenant, host))
        .filter(challenges::expires_at.gt(now))
        .select(Challenge::as_select())
        .first(conn)
        .optional()
}

/// Returns the tenant's challenge for a host, or stores `new` if there is none or it has expired.
pub fn challenge_or(conn: &mut Conn, tenant: UserId, host: &str, new: Challenge, now: i64) -> QueryResult<Challenge> {
    if let Some(known) = challenge(conn, tenant, host, now)? {
        return Ok(known);
    }
    diesel::delete(challenges::table.find((tenant, host))).execute(conn)?;
    diesel::insert_into(challenges::table)
        .values((
            challenges::user_id.eq(tenant),
            challenges::host.eq(host),
            challenges::token.eq(&new.token),
            challenges::expires_at.eq(new.expires_at),
        ))
        .execute(conn)?;
    Ok(new)
}

/// Returns the verified host of a domain.
pub fn find(conn: &mut Conn, domain: DomainId) -> QueryResult<Option<VerifiedHost>> {
    verified_hosts::table.find(domain).select(VerifiedHost::as_select()).first(conn).optional()
}

/// A verified host with its name and the owner of its domain.
pub type OwnedVerifiedHost = (VerifiedHost, String, UserId);

/// Returns the verification of a host by another user. Verifications of suspended or deleted users and of suspended
/// domains do not count.
pub fn of_other_user(conn: &mut Conn, host: &str, than: UserId) -> QueryResult<Option<OwnedVerifiedHost>> {
    verified_hosts::table
        .inner_join(domains::table.inner_join(users::table))
        .filter(domains::host.eq(host).and(domains::verified_at.is_not_null()).and(domains::user_id.ne(than)))
        .filter(domains::suspended.eq(false).and(users::suspended.eq(false)))
        .select((VerifiedHost::as_select(), domains::host, domains::user_id))
        .first(conn)
        .optional()
}

/// Ends the verifications of a host that belong to suspended domains, or to suspended or deleted users. Returns
/// those domains with their owners.
pub fn end_suspended(conn: &mut Conn, host: &str) -> QueryResult<Vec<(DomainId, UserId)>> {
    let holders: Vec<(DomainId, UserId)> = domains::table
        .inner_join(users::table)
        .filter(domains::host.eq(host).and(domains::verified_at.is_not_null()))
        .filter(domains::suspended.eq(true).or(users::suspended.eq(true)))
        .select((domains::id, domains::user_id))
        .load(conn)?;
    for (domain, _) in &holders {
        end(conn, *domain)?;
    }
    Ok(holders)
}

/// Records that a domain's host is verified. Fails with a unique violation if another domain has verified the same
/// host.
pub fn insert(conn: &mut Conn, domain: DomainId, method: Method, token: &str, now: i64) -> QueryResult<()> {
    let set = (domains::verified_at.eq(now), domains::superseded.eq(false));
    diesel::update(domains::table.find(domain)).set(set).execute(conn)?;
    diesel::insert_into(verified_hosts::table)
        .values((
            verified_hosts::domain_id.eq(domain),
            verified_hosts::method.eq(method.as_str()),
            verified_hosts::token.eq(token),
            verified_hosts::checked_at.eq(now),
        ))
        .execute(conn)
        .map(drop)
}

/// Supersedes at most `rows` other registrations of a verified host, which revokes their tokens, and returns them. If
/// more may be left, the host is recorded for the next call.
pub fn supersede_some(conn: &mut Conn, host: &str, rows: i64) -> QueryResult<Vec<(DomainId, UserId)>> {
    let others = domains::table
        .filter(domains::host.eq(host).and(domains::superseded.eq(false)).and(domains::verified_at.is_null()));
    let some: Vec<(DomainId, UserId)> = others.select((domains::id, domains::user_id)).limit(rows).load(conn)?;
    diesel::update(domains::table.filter(domains::id.eq_any(some.iter().map(|(id, _)| id))))
        .set((domains::superseded.eq(true), domains::generation.eq(domains::generation + 1)))
        .execute(conn)?;
    diesel::delete(supersedings::table.find(host)).execute(conn)?;
    if some.len() as i64 == rows {
        diesel::insert_into(supersedings::table).values(supersedings::host.eq(host)).execute(conn)?;
    }
    Ok(some)
}

/// Returns a verified host with other registrations that are not yet superseded.
pub fn next_superseding_host(conn: &mut Conn) -> QueryResult<Option<String>> {
    supersedings::table.select(supersedings::host).first(conn).optional()
}

/// Seconds after `since` from which the time of a check is considered wrong: correct clocks never differ by two days.
const MAX_CLOCK_ERROR: i64 = 3 * 86_400;

/// Returns at most `limit` verified hosts that were last checked at `since` or before, the oldest check first. A
/// check dated in the far future by a wrong clock is due too.
pub fn due(conn: &mut Conn, since: i64, limit: i64) -> QueryResult<Vec<OwnedVerifiedHost>> {
    verified_hosts::table
        .inner_join(domains::table)
        .filter(verified_hosts::checked_at.le(since).or(verified_hosts::checked_at.gt(since + MAX_CLOCK_ERROR)))
        .order(verified_hosts::checked_at)
        .limit(limit)
        .select((VerifiedHost::as_select(), domains::host, domains::user_id))
        .load(conn)
}

/// Claims the check of a verification, unless another node has claimed it, by setting `checked_at`. Returns the
/// updated verification.
///
/// The new value must be later than the old one, and early enough for the check to become due again soon if no
/// result is recorded.
pub fn claim(conn: &mut Conn, verification: &VerifiedHost, checked_at: i64) -> QueryResult<Option<VerifiedHost>> {
    diesel::update(
        verified_hosts::table
            .find(verification.domain_id)
            .filter(verified_hosts::checked_at.eq(verification.checked_at)),
    )
    .set(verified_hosts::checked_at.eq(checked_at))
    .returning(columns::<VerifiedHost>())
    .get_result(conn)
    .optional()
}

/// Records a successful check that the owner requested.
pub fn record_success(conn: &mut Conn, domain: DomainId, method: Method, now: i64) -> QueryResult<()> {
    diesel::update(verified_hosts::table.find(domain))
        .set((
            verified_hosts::method.eq(method.as_str()),
            verified_hosts::checked_at.eq(now),
            verified_hosts::failing_since.eq(None::<i64>),
        ))
        .execute(conn)
        .map(drop)
}

/// Records that a claimed check succeeded, unless there was another check since.
pub fn record_claimed_success(conn: &mut Conn, claimed: &VerifiedHost, method: Method, now: i64) -> QueryResult<()> {
    diesel::update(
        verified_hosts::table.find(claimed.domain_id).filter(verified_hosts::checked_at.eq(claimed.checked_at)),
    )
    .set((
        verified_hosts::method.eq(method.as_str()),
        verified_hosts::checked_at.eq(now),
        verified_hosts::failing_since.eq(None::<i64>),
    ))
    .execute(conn)
    .map(drop)
}

/// Records that a claimed check failed, and that checks have failed since `since`, unless there was another check
/// meanwhile.
pub fn record_failure(conn: &mut Conn, claimed: &VerifiedHost, since: i64, now: i64) -> QueryResult<()> {
    diesel::update(
        verified_hosts::table.find(claimed.domain_id).filter(verified_hosts::checked_at.eq(claimed.checked_at)),
    )
    .set((verified_hosts::checked_at.eq(now), verified_hosts::failing_since.eq(since)))
    .execute(conn)
    .map(drop)
}

/// Ends the verification of a claimed check that failed for too long. Returns `false` if there was another check since.
pub fn end_failed(conn: &mut Conn, claimed: &VerifiedHost) -> QueryResult<bool> {
    if find(conn, claimed.domain_id)?.is_some_and(|verification| verification.checked_at == claimed.checked_at) {
        end(conn, claimed.domain_id)
    } else {
        Ok(false)
    }
}

/// Ends the verification of a domain and revokes the domain's tokens, which say that the host is verified. Returns
/// `false` if there is none.
pub fn end(conn: &mut Conn, domain: DomainId) -> QueryResult<bool> {
    diesel::delete(verified_hosts::table.find(domain)).execute(conn)?;
    diesel::update(domains::table.find(domain).filter(domains::verified_at.is_not_null()))
        .set((domains::verified_at.eq(None::<i64>), domains::generation.eq(domains::generation + 1)))
        .execute(conn)
        .map(|rows| rows > 0)
}
