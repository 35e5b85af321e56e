//! Rows of `challenges` and `proofs`: what users have to publish on their hosts, and how hosts were proven.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::schema::{challenges, domains, oustings, proofs, users};
use super::{Conn, batch, columns};
use crate::id::{DomainId, UserId};
use crate::proof::Method;

/// What a user has to publish on a host.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = challenges)]
pub struct Challenge {
    /// See [`crate::proof::Challenge::token`].
    pub token: String,
    /// Unix seconds from which it is good for nothing.
    pub expires_at: i64,
}

/// How a domain was proven.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = proofs)]
pub struct Proof {
    /// Which domain.
    pub domain_id: DomainId,
    /// What was found, and has to stay there.
    pub token: String,
    /// Unix seconds at which somebody last looked; a day after it, it is looked at again. While somebody is looking, so
    /// much less that this is soon.
    pub checked_at: i64,
    /// Unix seconds since when it has not been found.
    pub failing_since: Option<i64>,
}

/// The challenge of that user for that host, if there is one that is good.
pub fn challenge(conn: &mut Conn, tenant: UserId, host: &str, now: i64) -> QueryResult<Option<Challenge>> {
    challenges::table
        .find((tenant, host))
        .filter(challenges::expires_at.gt(now))
        .select(Challenge::as_select())
        .first(conn)
        .optional()
}

/// That one, or, where there is none, a new one with that token.
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

/// Forgets at most so many challenges that are good for nothing, and returns how many.
pub fn prune_challenges(conn: &mut Conn, now: i64, rows: i64) -> QueryResult<usize> {
    batch::delete_some::<BigInt, _>(conn, "challenges", "expires_at <= $1", now, rows)
}

/// How that domain was proven.
pub fn find(conn: &mut Conn, domain: DomainId) -> QueryResult<Option<Proof>> {
    proofs::table.find(domain).select(Proof::as_select()).first(conn).optional()
}

/// A proven domain: its proof, its host and its owner.
pub type Held = (Proof, String, UserId);

/// Another user's proof of that host. Who is suspended or deleted holds nothing.
pub fn held_by_other(conn: &mut Conn, host: &str, than: UserId) -> QueryResult<Option<Held>> {
    proofs::table
        .inner_join(domains::table.inner_join(users::table))
        .filter(domains::host.eq(host).and(domains::proven_at.is_not_null()).and(domains::user_id.ne(than)))
        .filter(domains::suspended.eq(false).and(users::suspended.eq(false)))
        .select((Proof::as_select(), domains::host, domains::user_id))
        .first(conn)
        .optional()
}

/// Ends the proofs of that host by who is suspended or deleted, and returns their domains and owners.
pub fn end_suspended(conn: &mut Conn, host: &str) -> QueryResult<Vec<(DomainId, UserId)>> {
    let holders: Vec<(DomainId, UserId)> = domains::table
        .inner_join(users::table)
        .filter(domains::host.eq(host).and(domains::proven_at.is_not_null()))
        .filter(domains::suspended.eq(true).or(users::suspended.eq(true)))
        .select((domains::id, domains::user_id))
        .load(conn)?;
    for (domain, _) in &holders {
        end(conn, *domain)?;
    }
    Ok(holders)
}

/// Takes down that the domain is proven; a second one of the same host is a unique violation.
pub fn insert(conn: &mut Conn, domain: DomainId, method: Method, token: &str, now: i64) -> QueryResult<()> {
    let set = (domains::proven_at.eq(now), domains::ousted.eq(false));
    diesel::update(domains::table.find(domain)).set(set).execute(conn)?;
    diesel::insert_into(proofs::table)
        .values((
            proofs::domain_id.eq(domain),
            proofs::method.eq(method.as_str()),
            proofs::token.eq(token),
            proofs::checked_at.eq(now),
        ))
        .execute(conn)
        .map(drop)
}

/// Ends at most so many other registrations of a proven host with their tokens, and returns them. Where there may be more,
/// the host is noted for the next call.
pub fn oust_some(conn: &mut Conn, host: &str, rows: i64) -> QueryResult<Vec<(DomainId, UserId)>> {
    let others =
        domains::table.filter(domains::host.eq(host).and(domains::ousted.eq(false)).and(domains::proven_at.is_null()));
    let some: Vec<(DomainId, UserId)> = others.select((domains::id, domains::user_id)).limit(rows).load(conn)?;
    diesel::update(domains::table.filter(domains::id.eq_any(some.iter().map(|(id, _)| id))))
        .set((domains::ousted.eq(true), domains::generation.eq(domains::generation + 1)))
        .execute(conn)?;
    diesel::delete(oustings::table.find(host)).execute(conn)?;
    if some.len() as i64 == rows {
        diesel::insert_into(oustings::table).values(oustings::host.eq(host)).execute(conn)?;
    }
    Ok(some)
}

/// A proven host some of whose other registrations are not yet ended.
pub fn next_ousting(conn: &mut Conn) -> QueryResult<Option<String>> {
    oustings::table.select(oustings::host).first(conn).optional()
}

/// Seconds after `since`: no right clock is two days ahead of another.
const FAR_FUTURE: i64 = 3 * 86_400;

/// Proven domains at which nobody has looked since, the longest first, with their hosts and owners. A look in the far future
/// was dated by a wrong clock, and does not count.
pub fn due(conn: &mut Conn, since: i64, most: i64) -> QueryResult<Vec<Held>> {
    proofs::table
        .inner_join(domains::table)
        .filter(proofs::checked_at.le(since).or(proofs::checked_at.gt(since + FAR_FUTURE)))
        .order(proofs::checked_at)
        .limit(most)
        .select((Proof::as_select(), domains::host, domains::user_id))
        .load(conn)
}

/// Takes the look at a proof upon oneself: as it is then, or `None` when somebody else was quicker. `checked_at` is later than
/// it was, and early enough for the look to be taken again where nobody writes what it found.
pub fn claim(conn: &mut Conn, proof: &Proof, checked_at: i64) -> QueryResult<Option<Proof>> {
    diesel::update(proofs::table.find(proof.domain_id).filter(proofs::checked_at.eq(proof.checked_at)))
        .set(proofs::checked_at.eq(checked_at))
        .returning(columns::<Proof>())
        .get_result(conn)
        .optional()
}

/// It is there, as the owner's own try found.
pub fn set_found(conn: &mut Conn, domain: DomainId, method: Method, now: i64) -> QueryResult<()> {
    diesel::update(proofs::table.find(domain))
        .set((proofs::method.eq(method.as_str()), proofs::checked_at.eq(now), proofs::failing_since.eq(None::<i64>)))
        .execute(conn)
        .map(drop)
}

/// It is there, as that claimed look found.
pub fn found_again(conn: &mut Conn, claimed: &Proof, method: Method, now: i64) -> QueryResult<()> {
    diesel::update(proofs::table.find(claimed.domain_id).filter(proofs::checked_at.eq(claimed.checked_at)))
        .set((proofs::method.eq(method.as_str()), proofs::checked_at.eq(now), proofs::failing_since.eq(None::<i64>)))
        .execute(conn)
        .map(drop)
}

/// It is not there, as that claimed look found, and has not been since then.
pub fn set_failing(conn: &mut Conn, claimed: &Proof, since: i64, now: i64) -> QueryResult<()> {
    diesel::update(proofs::table.find(claimed.domain_id).filter(proofs::checked_at.eq(claimed.checked_at)))
        .set((proofs::checked_at.eq(now), proofs::failing_since.eq(since)))
        .execute(conn)
        .map(drop)
}

/// Ends a proof that was still missing, as that claimed look found; false when somebody looked since.
pub fn end_missing(conn: &mut Conn, claimed: &Proof) -> QueryResult<bool> {
    match find(conn, claimed.domain_id)?.is_some_and(|proof| proof.checked_at == claimed.checked_at) {
        true => end(conn, claimed.domain_id),
        false => Ok(false),
    }
}

/// Ends the proof of a domain with the tokens that tell of it; false when there is none.
pub fn end(conn: &mut Conn, domain: DomainId) -> QueryResult<bool> {
    diesel::delete(proofs::table.find(domain)).execute(conn)?;
    diesel::update(domains::table.find(domain).filter(domains::proven_at.is_not_null()))
        .set((domains::proven_at.eq(None::<i64>), domains::generation.eq(domains::generation + 1)))
        .execute(conn)
        .map(|rows| rows > 0)
}
