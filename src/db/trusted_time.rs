//! The one row of `trusted_time`: the time that the nodes agree has passed. See [`crate::app`].

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::Conn;
use super::schema::trusted_time;

#[derive(QueryableByName)]
struct DatabaseClock {
    #[diesel(sql_type = BigInt)]
    now: i64,
}

/// Returns the stored time, in Unix seconds; 0 before the first start.
pub fn stored(conn: &mut Conn) -> QueryResult<i64> {
    trusted_time::table.select(trusted_time::at).first(conn)
}

/// Returns the time of the database server, in Unix seconds. `None` on SQLite, whose time is that of its one server.
pub fn of_database(conn: &mut Conn) -> QueryResult<Option<i64>> {
    match conn {
        Conn::Sqlite(_) => Ok(None),
        Conn::Postgres(conn) => {
            let query = "SELECT floor(extract(epoch FROM clock_timestamp()))::BIGINT AS now";
            diesel::sql_query(query).get_result(conn).map(|clock: DatabaseClock| Some(clock.now))
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
