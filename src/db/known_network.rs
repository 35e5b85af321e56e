//! Rows of `known_networks`: the networks from which users signed in.

use diesel::prelude::*;

use super::Conn;
use super::schema::{known_networks, users};
use crate::id::UserId;
use crate::shares::Network;

const MAX_PER_USER: i64 = 50;

/// Returns when a user last signed in from a network, in Unix seconds.
pub fn seen_at(conn: &mut Conn, username_key: &str, network: Network) -> QueryResult<Option<i64>> {
    known_networks::table
        .inner_join(users::table)
        .filter(users::username_key.eq(username_key).and(known_networks::network.eq(network.to_string())))
        .select(known_networks::seen_at)
        .first(conn)
        .optional()
}

/// Records a sign-in from a network, and deletes the oldest networks beyond the maximum per user.
pub fn remember(conn: &mut Conn, user: UserId, network: Network, now: i64) -> QueryResult<()> {
    let network = network.to_string();
    let known = known_networks::table.find((user, &network));
    if diesel::update(known).set(known_networks::seen_at.eq(now)).execute(conn)? == 0 {
        let row =
            (known_networks::user_id.eq(user), known_networks::network.eq(&network), known_networks::seen_at.eq(now));
        diesel::insert_into(known_networks::table).values(row).execute(conn)?;
    }
    let own = known_networks::table.filter(known_networks::user_id.eq(user));
    let oldest = own.order(known_networks::seen_at.desc()).offset(MAX_PER_USER).select(known_networks::seen_at);
    if let Some(last) = oldest.first::<i64>(conn).optional()? {
        diesel::delete(own.filter(known_networks::seen_at.le(last))).execute(conn)?;
    }
    Ok(())
}
