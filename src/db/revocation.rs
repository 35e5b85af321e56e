//! Rows of `revocations`: individually revoked tokens, until they expire. Also the validity of a token by the database.

use diesel::prelude::*;

use super::Conn;
use super::schema::{domains, revocations, users};
use crate::id::{DomainId, TokenId, UserId};

/// A revoked token.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = revocations)]
pub struct Revocation {
    /// The token's `jti`.
    pub jti: TokenId,
    /// The token's `exp`.
    pub expires_at: i64,
}

/// A token, and the generation of its user and domain in which it was issued.
#[derive(Clone, Copy, Debug)]
pub struct TokenGeneration {
    /// The token's `jti`.
    pub id: TokenId,
    /// The user to whom the token's data belongs.
    pub user: UserId,
    /// The domain of an access token; `None` for a user token.
    pub domain: Option<DomainId>,
    /// The token's `gen`.
    pub generation: i64,
}

/// Returns whether a token is valid: it is not revoked, and its user and domain exist, are not suspended and are in its
/// generation. A `true` holds until the transaction ends if the transaction holds the lock on the revision.
pub fn is_current(conn: &mut Conn, token: TokenGeneration) -> QueryResult<bool> {
    let user = users::table.find(token.user).filter(users::ended.eq(false));
    let user = user.select((users::generation, users::suspended)).first::<(i64, bool)>(conn).optional()?;
    let domain = match token.domain {
        Some(id) => {
            let domain = domains::table.find(id).select((domains::generation, domains::suspended));
            domain.first::<(i64, bool)>(conn).optional()?
        }
        None => Some((0, false)),
    };
    let (Some((of_user, false)), Some((of_domain, false))) = (user, domain) else { return Ok(false) };
    let revoked = revocations::table.find(token.id).select(revocations::expires_at);
    Ok(token.generation >= of_user + of_domain && revoked.first::<i64>(conn).optional()?.is_none())
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
