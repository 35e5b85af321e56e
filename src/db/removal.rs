//! Removal of the rows that deleted accounts and domains leave behind, in small batches.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::schema::{deleted_domains, domains, removals, users};
use super::{Conn, deletion};
use crate::id::{DomainId, UserId};

/// A deleted account whose rows are not yet removed.
#[derive(Clone, Copy, Debug, Queryable)]
pub struct Removal {
    /// The deleted account.
    pub user_id: UserId,
    /// When the account was deleted, in Unix seconds.
    pub ended_at: i64,
}

/// Each domain takes its secrets and its verification with it, and each of those rows is a change of the directory. So a batch
/// has few domains.
const DOMAIN_BATCH_SIZE: i64 = 10;

/// The tables with rows of an account, in the order of removal, each with the condition for the rows of a batch.
///
/// Hashtags have no entry: deleting a post cascades to its hashtags, which are adjacent. Deleting them by title would
/// spread over the whole table.
const OWNED: [(&str, &str); 5] = [
    ("posts", "user_id = $1"),
    ("challenges", "user_id = $1"),
    ("known_networks", "user_id = $1"),
    ("usage", "domain_id IN (SELECT id FROM domains WHERE user_id = $1 ORDER BY host LIMIT 10)"),
    ("domains", "id IN (SELECT id FROM domains WHERE user_id = $1 ORDER BY host LIMIT 10)"),
];

/// Returns the deleted accounts whose rows are not yet removed, the oldest deletion first.
pub fn list(conn: &mut Conn) -> QueryResult<Vec<Removal>> {
    removals::table.order(removals::ended_at).load(conn)
}

/// Removes at most `rows` rows of an account from one table and returns their number. 0 means that nothing is left.
///
/// The transaction must hold the lock on the revision.
pub fn remove_some(conn: &mut Conn, user: UserId, rows: i64) -> QueryResult<usize> {
    if let Conn::Postgres(conn) = conn {
        // The writer of usage skips locked domains, so the two never wait for each other.
        let next = domains::table.filter(domains::user_id.eq(user)).order(domains::host).limit(DOMAIN_BATCH_SIZE);
        next.select(domains::user_id).for_update().load::<UserId>(conn)?;
    }
    for (table, owned) in OWNED {
        let removed = deletion::delete_some::<BigInt, _>(conn, table, owned, user, rows)?;
        if removed > 0 {
            return Ok(removed);
        }
    }
    Ok(0)
}

/// Records that nothing is left to remove. The update gives the user a new revision, so that every node drops what it
/// may have read of the account meanwhile.
pub fn finish(conn: &mut Conn, user: UserId) -> QueryResult<()> {
    diesel::delete(removals::table.find(user)).execute(conn)?;
    diesel::update(users::table.find(user)).set(users::ended.eq(true)).execute(conn).map(drop)
}

/// Returns a deleted domain whose usage is not yet removed.
pub fn next_domain(conn: &mut Conn) -> QueryResult<Option<DomainId>> {
    deleted_domains::table.select(deleted_domains::domain_id).first(conn).optional()
}

/// Removes at most `rows` rows of usage of a deleted domain and returns their number.
pub fn remove_usage(conn: &mut Conn, domain: DomainId, rows: i64) -> QueryResult<usize> {
    let removed = deletion::delete_some::<Text, _>(conn, "usage", "domain_id = $1", domain, rows)?;
    if removed == 0 {
        diesel::delete(deleted_domains::table.find(domain)).execute(conn)?;
    }
    Ok(removed)
}
