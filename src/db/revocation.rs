//! Rows of `revocations`: tokens that were revoked one by one, until they would have expired anyway.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::schema::revocations;
use super::{Conn, batch};
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

/// Forgets at most so many tokens that have expired, and returns how many.
pub fn prune(conn: &mut Conn, now: i64, rows: i64) -> QueryResult<usize> {
    batch::delete_some::<BigInt, _>(conn, "revocations", "expires_at <= $1", now, rows)
}
