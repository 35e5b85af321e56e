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

/// The kept time; 0 before the first start.
pub fn kept(conn: &mut Conn) -> QueryResult<i64> {
    trusted_time::table.select(trusted_time::at).first(conn)
}

/// What the clock of the database says. `None` with SQLite, which has the clock of its one server.
pub fn of_database(conn: &mut Conn) -> QueryResult<Option<i64>> {
    match conn {
        Conn::Sqlite(_) => Ok(None),
        Conn::Postgres(conn) => {
            let query = "SELECT floor(extract(epoch FROM clock_timestamp()))::BIGINT AS now";
            diesel::sql_query(query).get_result(conn).map(|clock: DatabaseClock| Some(clock.now))
        }
    }
}

/// Keeps `at`, unless another node has kept another time since `before` was read.
pub fn keep(conn: &mut Conn, before: i64, at: i64) -> QueryResult<()> {
    diesel::update(trusted_time::table.filter(trusted_time::at.eq(before)))
        .set(trusted_time::at.eq(at))
        .execute(conn)
        .map(drop)
}

/// The earlier one of `now` and the kept time: what had expired by then has expired, however wrong the clock is.
pub(super) fn at_most(conn: &mut Conn, now: i64) -> QueryResult<i64> {
    Ok(match kept(conn)? {
        0 => now,
        kept => kept.min(now),
    })
}
