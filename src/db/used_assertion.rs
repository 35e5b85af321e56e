//! Rows of `used_assertions`: client assertions that one node accepted, for the other nodes, until they expire.

use diesel::prelude::*;

use super::Conn;
use super::schema::used_assertions;
use crate::id::UserId;
use crate::token::replay::Fingerprint;

/// A client assertion that was used.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = used_assertions)]
pub struct UsedAssertion {
    /// The digest of the client's id and the `jti`.
    #[diesel(deserialize_as = Vec<u8>)]
    pub fingerprint: Fingerprint,
    /// The owner of the client.
    pub tenant: UserId,
    /// The assertion's `exp`.
    pub expires_at: i64,
}

/// Inserts used assertions. Existing rows stay: two nodes may accept an assertion at the same time, and an unanswered
/// commit is repeated.
pub fn insert(conn: &mut Conn, rows: &[UsedAssertion]) -> QueryResult<()> {
    // A SQLite database has one server, so no other node needs the rows.
    if let Conn::Postgres(conn) = conn {
        let columns = |row: &UsedAssertion| {
            (
                used_assertions::fingerprint.eq(row.fingerprint.as_bytes().to_vec()),
                used_assertions::tenant.eq(row.tenant),
                used_assertions::expires_at.eq(row.expires_at),
            )
        };
        let rows: Vec<_> = rows.iter().map(columns).collect();
        diesel::insert_into(used_assertions::table).values(rows).on_conflict_do_nothing().execute(conn)?;
    }
    Ok(())
}
