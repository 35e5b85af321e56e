//! Deletion in batches, so that no transaction holds the writer for long.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::QueryId;
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, HasSqlType};
use diesel::sqlite::Sqlite;

use super::Conn;

/// Rows that are deleted by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiring {
    /// Of `challenges`, by `expires_at`.
    Challenges,
    /// Of `known_networks`, by the last sign-in.
    KnownNetworks,
    /// Of `revision_stamps`, by the revision.
    RevisionStamps,
    /// Of `revocations`, by the token's `exp`.
    Revocations,
    /// Of `secrets`, by `expires_at`. Each deletion is a change of the directory.
    Secrets,
    /// Of `tombstones`, by the revision. See [`super::revision::forget`].
    Tombstones,
    /// Of `usage`, by the day.
    Usage,
    /// Of `used_assertions`, by the assertion's `exp`.
    UsedAssertions,
}

impl Expiring {
    fn condition(self) -> (&'static str, &'static str) {
        match self {
            Expiring::Challenges => ("challenges", "expires_at <= $1"),
            Expiring::KnownNetworks => ("known_networks", "seen_at <= $1"),
            Expiring::RevisionStamps => ("revision_stamps", "revision <= $1"),
            Expiring::Revocations => ("revocations", "expires_at <= $1"),
            Expiring::Secrets => ("secrets", "expires_at <= $1"),
            Expiring::Tombstones => ("tombstones", "revision <= $1"),
            Expiring::Usage => ("usage", "day <= $1"),
            Expiring::UsedAssertions => ("used_assertions", "expires_at <= $1"),
        }
    }
}

/// Deletes at most `rows` of the expiring rows whose time, day or revision is at most `last`, and returns their number.
pub fn delete_expired(conn: &mut Conn, expiring: Expiring, last: i64, rows: i64) -> QueryResult<usize> {
    let (table, condition) = expiring.condition();
    delete_some::<BigInt, _>(conn, table, condition, last, rows)
}

/// Deletes at most `rows` rows of a table that meet a condition and returns their number. `$1` in the condition is
/// `value`.
pub(super) fn delete_some<Type, Value>(
    conn: &mut Conn,
    table: &str,
    condition: &str,
    value: Value,
    rows: i64,
) -> QueryResult<usize>
where
    Type: QueryId,
    Sqlite: HasSqlType<Type>,
    Pg: HasSqlType<Type>,
    Value: ToSql<Type, Sqlite> + ToSql<Type, Pg>,
{
    match conn {
        Conn::Sqlite(conn) => diesel::sql_query(format!(
            "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {condition} LIMIT $2)"
        ))
        .bind::<Type, _>(value)
        .bind::<BigInt, _>(rows)
        .execute(conn),
        // An array, because the planner might join a subquery by reading the whole table.
        Conn::Postgres(conn) => diesel::sql_query(format!(
            "DELETE FROM {table} WHERE ctid = ANY (ARRAY (SELECT ctid FROM {table} WHERE {condition} LIMIT $2))"
        ))
        .bind::<Type, _>(value)
        .bind::<BigInt, _>(rows)
        .execute(conn),
    }
}
