//! Removal of the data that the deletion of accounts and domains leaves behind: some rows at a time.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::schema::{deleted_domains, domains, removals, users};
use super::{Conn, batch};
use crate::id::{DomainId, UserId};

/// A deleted account whose data is not yet removed.
#[derive(Clone, Copy, Debug, Queryable)]
pub struct Removal {
    /// The account.
    pub user_id: UserId,
    /// Unix seconds.
    pub ended_at: i64,
}

/// A domain takes its secrets and its proof with it, each of which counts as a change of the directory. So only a few
/// domains are removed at a time.
const DOMAINS_AT_ONCE: i64 = 10;

/// What an account owns, in the order in which it is removed: a table, and the rows in it. A post takes its hashtags with it:
/// they stand side by side, whereas those of one title are spread over the whole table.
const OWNED: [(&str, &str); 5] = [
    ("posts", "user_id = $1"),
    ("challenges", "user_id = $1"),
    ("known_networks", "user_id = $1"),
    ("usage", "domain_id IN (SELECT id FROM domains WHERE user_id = $1 ORDER BY host LIMIT 10)"),
    ("domains", "id IN (SELECT id FROM domains WHERE user_id = $1 ORDER BY host LIMIT 10)"),
];

/// The deleted accounts whose data is not yet removed.
pub fn list(conn: &mut Conn) -> QueryResult<Vec<Removal>> {
    removals::table.order(removals::ended_at).load(conn)
}

/// Removes at most so many rows of an account, all of one table, and says how many. The transaction must hold the lock on
/// the revision.
pub fn remove_some(conn: &mut Conn, user: UserId, rows: i64) -> QueryResult<usize> {
    if let Conn::Postgres(conn) = conn {
        // Whoever adds usage passes a locked domain by, so that the two never wait for each other.
        let next = domains::table.filter(domains::user_id.eq(user)).order(domains::host).limit(DOMAINS_AT_ONCE);
        next.select(domains::user_id).for_update().load::<UserId>(conn)?;
    }
    for (table, owned) in OWNED {
        let removed = batch::delete_some::<BigInt, _>(conn, table, owned, user, rows)?;
        if removed > 0 {
            return Ok(removed);
        }
    }
    Ok(0)
}

/// Notes that nothing is left to remove. The user counts as changed, so that every node forgets what it has learned of the
/// user meanwhile.
pub fn finish(conn: &mut Conn, user: UserId) -> QueryResult<()> {
    diesel::delete(removals::table.find(user)).execute(conn)?;
    diesel::update(users::table.find(user)).set(users::ended.eq(true)).execute(conn).map(drop)
}

/// A deleted domain whose usage is not yet removed.
pub fn next_domain(conn: &mut Conn) -> QueryResult<Option<DomainId>> {
    deleted_domains::table.select(deleted_domains::domain_id).first(conn).optional()
}

/// Removes at most so many rows of a deleted domain's usage, and says how many.
pub fn remove_usage(conn: &mut Conn, domain: DomainId, rows: i64) -> QueryResult<usize> {
    let removed = batch::delete_some::<Text, _>(conn, "usage", "domain_id = $1", domain, rows)?;
    if removed == 0 {
        diesel::delete(deleted_domains::table.find(domain)).execute(conn)?;
    }
    Ok(removed)
}
