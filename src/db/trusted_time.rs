//! The one row of `trusted_time`: the time that the nodes agree has passed. See [`crate::app`].

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::Conn;
use super::schema::trusted_time;

/// Returns the stored time, which is 0 before the first start, and the time of the database server, both in Unix
/// seconds. `None` on SQLite, whose time is that of its one server.
pub fn read(conn: &mut Conn) -> QueryResult<(i64, Option<i64>)> {
    Ok((stored(conn)?, of_database(conn)?))
}

fn stored(conn: &mut Conn) -> QueryResult<i64> {
    trusted_time::table.select(trusted_time::at).first(conn)
}

fn of_database(conn: &mut Conn) -> QueryResult<Option<i64>> {
    match conn {
        Conn::Sqlite(_) => Ok(None),
        Conn::Postgres(conn) => {
            sql::<BigInt>("SELECT floor(extract(epoch FROM clock_timestamp()))::BIGINT").get_result(conn).map(Some)
        }
    }
}

/// Stores `at`, unless another node has replaced `before` meanwhile.
pub fn store(conn: &mut Conn, before: i64, at: i64) -> QueryResult<()> {
    diesel::update(trusted_time::table.filter(trusted_time::at.eq(before)))
        .set(trusted_time::at.eq(at))
        .execute(conn)
        .map(drop)
}

/// Returns `now` or the stored time, whichever is earlier: what had expired by then has expired even if the clock is
/// wrong.
pub(super) fn earlier_of(conn: &mut Conn, now: i64) -> QueryResult<i64> {
    Ok(match stored(conn)? {
        0 => now,
        stored => stored.min(now),
    })
}
