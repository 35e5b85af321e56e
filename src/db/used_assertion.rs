//! Rows of `used_assertions`: client assertions that were used on one node, for the others, until they have expired.

use diesel::prelude::*;

use super::Conn;
use super::schema::used_assertions;
use crate::id::UserId;
use crate::token::replay::Fingerprint;

/// A client assertion that was used.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = used_assertions)]
pub struct UsedAssertion {
    /// Of its client and its `jti`.
    pub fingerprint: Fingerprint,
    /// The user whose client it was of.
    pub tenant: UserId,
    /// The assertion's `exp`.
    pub expires_at: i64,
}

/// Adds some; those that are there already, because two nodes took one at the same time or because a commit was not
/// answered, are left as they are.
pub fn insert(conn: &mut Conn, rows: &[UsedAssertion]) -> QueryResult<()> {
    // A SQLite file has one server: there is nobody to tell.
    if let Conn::Postgres(conn) = conn {
        diesel::insert_into(used_assertions::table).values(rows).on_conflict_do_nothing().execute(conn)?;
    }
    Ok(())
}

/// So many rows are deleted at once, to keep nobody waiting.
const AT_ONCE: i64 = 5_000;

/// Forgets some assertions that have expired; whether there may be more.
pub fn prune(conn: &mut Conn, now: i64) -> QueryResult<bool> {
    let expired = used_assertions::table.filter(used_assertions::expires_at.le(now));
    let some: Vec<Fingerprint> = expired.select(used_assertions::fingerprint).limit(AT_ONCE).load(conn)?;
    if some.is_empty() {
        return Ok(false);
    }
    let more = some.len() as i64 == AT_ONCE;
    diesel::delete(used_assertions::table.filter(used_assertions::fingerprint.eq_any(some))).execute(conn)?;
    Ok(more)
}
