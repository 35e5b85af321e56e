//! Rows of `revocations`: tokens that were revoked one by one, until they would have expired anyway.

use diesel::prelude::*;

use super::Conn;
use super::schema::revocations;
use crate::id::TokenId;

/// A revoked token.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = revocations)]
pub struct Revocation {
    /// The token's `jti`.
    pub jti: TokenId,
    /// The token's `exp`.
    pub expires_at: i64,
}

/// Revokes a token; whether it was not revoked already.
pub fn insert(conn: &mut Conn, jti: TokenId, expires_at: i64) -> QueryResult<bool> {
    let known = revocations::table.find(jti).select(revocations::expires_at);
    if known.first::<i64>(conn).optional()?.is_some() {
        return Ok(false);
    }
    diesel::insert_into(revocations::table)
        .values((revocations::jti.eq(jti), revocations::expires_at.eq(expires_at)))
        .execute(conn)
        .map(|_| true)
}

/// So many rows are deleted at once, to keep nobody waiting.
const AT_ONCE: i64 = 5_000;

/// Forgets some tokens that have expired; whether there may be more.
pub fn prune(conn: &mut Conn, now: i64) -> QueryResult<bool> {
    let expired = revocations::table.filter(revocations::expires_at.le(now));
    let some: Vec<TokenId> = expired.select(revocations::jti).limit(AT_ONCE).load(conn)?;
    if some.is_empty() {
        return Ok(false);
    }
    let more = some.len() as i64 == AT_ONCE;
    diesel::delete(revocations::table.filter(revocations::jti.eq_any(some))).execute(conn)?;
    Ok(more)
}
