//! Archiving of the audit log: its oldest rows are moved to files. The database keeps the number and the hash of the
//! last archived row, so that the chain continues from there.

use diesel::prelude::*;

use super::super::Conn;
use super::super::schema::{audit, audit_archive};
use super::chain::Head;

/// The action of the row that records an archive.
pub const ARCHIVED: &str = "audit.archived";

/// Rows that one transaction deletes, which takes some milliseconds.
const DELETE_BATCH_SIZE: i64 = 1_000;
/// Seconds beyond the present from which a row's time is considered wrong.
const MAX_CLOCK_ERROR: i64 = 86_400;

/// Returns the head of the archive: the last archived row.
pub fn end(conn: &mut Conn) -> QueryResult<Head> {
    let row: Option<(i64, Vec<u8>)> =
        audit_archive::table.select((audit_archive::last, audit_archive::hash)).first(conn).optional()?;
    Ok(row.map(|(id, hash)| Head { id, hash }).unwrap_or_default())
}

/// Moves the head of the archive to `end`. Returns `false` if it is no longer at `before`.
pub fn move_end(conn: &mut Conn, before: &Head, end: &Head) -> QueryResult<bool> {
    diesel::update(audit_archive::table.filter(audit_archive::last.eq(before.id)))
        .set((audit_archive::last.eq(end.id), audit_archive::hash.eq(&end.hash)))
        .execute(conn)
        .map(|rows| rows > 0)
}

/// Returns the number of the last row before the first one that is dated `time` or later. Rows are ordered by number,
/// because the clocks of two nodes may differ.
pub fn last_before(conn: &mut Conn, time: i64, now: i64) -> QueryResult<Option<i64>> {
    let later = audit::table.filter(audit::at.ge(time).and(audit::at.le(now + MAX_CLOCK_ERROR)));
    let first: Option<i64> = later.order(audit::id).select(audit::id).first(conn).optional()?;
    let older = audit::table.filter(audit::id.lt(first.unwrap_or(i64::MAX)));
    older.order(audit::id.desc()).select(audit::id).first(conn).optional()
}

/// Returns the hash of a row.
pub fn hash_of(conn: &mut Conn, id: i64) -> QueryResult<Option<Vec<u8>>> {
    audit::table.find(id).select(audit::hash).first(conn).optional()
}

/// Deletes the oldest archived rows. Returns `true` if more may be left.
pub fn delete_some(conn: &mut Conn) -> QueryResult<bool> {
    let end = end(conn)?.id;
    let archived = audit::table.filter(audit::id.le(end)).order(audit::id).select(audit::id);
    let ids: Vec<i64> = archived.limit(DELETE_BATCH_SIZE).load(conn)?;
    let Some(last) = ids.last() else { return Ok(false) };
    diesel::delete(audit::table.filter(audit::id.le(last))).execute(conn)?;
    Ok(ids.len() as i64 == DELETE_BATCH_SIZE)
}
