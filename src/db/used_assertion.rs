//! Rows of `used_assertions`: client assertions that were used on one node, for the others, until they have expired.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::schema::used_assertions;
use super::{Conn, batch};
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

/// Forgets at most so many assertions that have expired, and returns how many.
pub fn prune(conn: &mut Conn, now: i64, rows: i64) -> QueryResult<usize> {
    batch::delete_some::<BigInt, _>(conn, "used_assertions", "expires_at <= $1", now, rows)
}
