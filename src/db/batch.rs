//! Deletion in batches, so that no transaction holds the writer for long.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::QueryId;
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, HasSqlType};
use diesel::sqlite::Sqlite;

use super::Conn;

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
