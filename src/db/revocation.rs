//! Rows of `revocations`: individually revoked tokens, until they expire.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::schema::revocations;
use super::{Conn, batch};
use crate::id::TokenId;

#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = revocations)]
pub struct Revocation {
    pub jti: TokenId,
    /// The token's `exp`.
    pub expires_at: i64,
}

/// Revokes a token. Returns `false` if it was revoked before.
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

/// Deletes at most `rows` revocations of expired tokens and returns their number.
pub fn prune(conn: &mut Conn, now: i64, rows: i64) -> QueryResult<usize> {
    batch::delete_some::<BigInt, _>(conn, "revocations", "expires_at <= $1", now, rows)
}
