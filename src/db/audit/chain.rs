//! The hash chain of the audit log. Each row's hash covers the row before, so that [`verify`] finds a row that was
//! edited, deleted, moved or inserted.
//!
//! A hash is SHA-256 over the hash of the previous row (nothing for the first row) and the row's id, at, actor,
//! address, tenant, action, target and detail. Each member is its length in bytes, as 8 bytes in big-endian order,
//! followed by its text; numbers are decimal. An absent member is 8 bytes of 0xFF. An export is enough to compute the
//! hashes.
//!
//! The hash has no key. An attacker who can write to the database can recompute the chain. A key derived from
//! JWT_SECRET would stop only attackers without access to the server, and rows could no longer be verified once that
//! secret is replaced. The proof is therefore kept outside: a recorded [`Head`], which each line of an export contains,
//! fixes all rows up to it. Rows after the last recorded head are not proven.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use diesel::prelude::*;
use diesel::result::Error as DieselError;

use super::super::Conn;
use super::super::schema::audit_head;
use super::{AuditRow, archive, list_from};

/// Rows that are read at once.
const BATCH_SIZE: i64 = 1_000;

/// Returns the hash of a row that follows a row with the hash `before`.
pub(super) fn hash(before: &[u8], row: &AuditRow) -> Vec<u8> {
    let mut hash = Context::new(&SHA256);
    hash.update(before);
    let (id, at, tenant) = (row.id.to_string(), row.at.to_string(), row.tenant.map(|tenant| tenant.to_string()));
    let members = [
        Some(&id),
        Some(&at),
        Some(&row.actor),
        row.address.as_ref(),
        tenant.as_ref(),
        Some(&row.action),
        Some(&row.target),
        row.detail.as_ref(),
    ];
    for member in members {
        // The length comes first, so that no two rows have the same bytes.
        hash.update(&member.map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
        hash.update(member.map_or(b"", |text| text.as_bytes()));
    }
    hash.finish().as_ref().to_vec()
}

/// The number and the hash of a row, which fix it and every row before it. Written as `17:9f86d0...`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// 0 before the first row.
    pub id: i64,
    /// Empty before the first row.
    pub hash: Vec<u8>,
}

impl Head {
    /// Returns whether a log whose last row is `last` contains this row. That is assumed of an archived row, which
    /// cannot be compared.
    pub fn is_present(&self, conn: &mut Conn, last: &Head) -> QueryResult<bool> {
        if self == last {
            return Ok(true);
        }
        Ok(match archive::hash_of(conn, self.id)? {
            Some(hash) => hash == self.hash && self.id < last.id,
            None => self.id <= archive::end(conn)?.id,
        })
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, HEXLOWER.encode_display(&self.hash))
    }
}

impl FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Head, &'static str> {
        let parsed = text.split_once(':').and_then(|(id, hash)| {
            Some(Head { id: id.parse().ok()?, hash: HEXLOWER_PERMISSIVE.decode(hash.as_bytes()).ok()? })
        });
        let whole =
            |head: &Head| if head.id == 0 { head.hash.is_empty() } else { head.id > 0 && head.hash.len() == 32 };
        parsed.filter(whole).ok_or("must be ID:HASH, a number and 64 hexadecimal digits, as `audit verify` shows them")
    }
}

const REWRITTEN: &str = "or an earlier row was rewritten since that head was recorded";

/// The first row that differs from what was written.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken {
    /// The number of the row.
    pub id: i64,
    /// Continues the sentence "row 17: it ...".
    pub problem: &'static str,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the audit log is broken at row {}: it {}", self.id, self.problem)
    }
}

/// Verifies all rows that are not archived, while others append. Returns the head of the log.
///
/// `known` is a recorded head, which the log must still contain.
pub fn verify(conn: &mut Conn, known: Option<&Head>) -> QueryResult<Result<Head, Broken>> {
    loop {
        let archived = archive::end(conn)?;
        let verified = walk(conn, &archived, known)?;
        // Rows that are archived during the walk seem to be missing.
        if verified.is_ok() || archive::end(conn)? == archived {
            return Ok(verified);
        }
    }
}

fn walk(conn: &mut Conn, archived: &Head, known: Option<&Head>) -> QueryResult<Result<Head, Broken>> {
    let mut reached = archived.clone();
    let mut is_confirmed = archived.id == 0;
    if let Some(known) = known.filter(|known| known.id > 0 && known.id <= archived.id && *known != archived) {
        let id = known.id;
        let problem =
            if id == archived.id { REWRITTEN } else { "is archived: also give its file and the files after it" };
        return Ok(Err(Broken { id, problem }));
    }
    let (mut from, mut batch_size) = (i64::MIN, BATCH_SIZE);
    loop {
        // The end is read before the rows, so that a row that is appended meanwhile never seems to be missing.
        let end: Option<(i64, Vec<u8>)> =
            audit_head::table.select((audit_head::last, audit_head::hash)).first(conn).optional()?;
        let rows = match list_from(conn, from, batch_size) {
            // Some row cannot be read. Reading one at a time finds its number.
            Err(DieselError::DeserializationError(_)) if batch_size > 1 => {
                batch_size = 1;
                continue;
            }
            Err(DieselError::DeserializationError(_)) => {
                return Ok(Err(Broken { id: reached.id + 1, problem: "cannot be read" }));
            }
            rows => rows?,
        };
        if rows.is_empty() && !is_confirmed {
            return Ok(Err(Broken { id: archived.id, problem: "is recorded as archived, but no row confirms that" }));
        }
        if rows.is_empty() {
            return Ok(end_at(reached, end.map(|(id, hash)| Head { id, hash }), known));
        }
        for row in rows {
            if (1..=archived.id).contains(&row.id) {
                return Ok(Err(Broken { id: row.id, problem: "is archived, but not deleted: archive again" }));
            }
            is_confirmed |= row.action == archive::ARCHIVED && row.target == archived.to_string();
            reached = match next_head(&reached, row, known) {
                Ok(next) => next,
                Err(broken) => return Ok(Err(broken)),
            };
        }
        from = reached.id + 1;
    }
}

/// Returns the head after `row`, which must follow `reached`.
///
/// # Errors
/// If the row does not follow, was edited, or differs from `known`.
pub fn next_head(reached: &Head, row: AuditRow, known: Option<&Head>) -> Result<Head, Broken> {
    let next = reached.id + 1;
    let broken = |id, problem| Err(Broken { id, problem });
    if row.id < next {
        return broken(row.id, "has a number that no row can have");
    }
    if row.id > next {
        return broken(next, "is missing");
    }
    if row.hash != hash(&reached.hash, &row) {
        return broken(next, "was edited, or was not written after the previous row");
    }
    if known.is_some_and(|known| known.id == next && known.hash != row.hash) {
        return broken(next, REWRITTEN);
    }
    Ok(Head { id: row.id, hash: row.hash })
}

fn end_at(reached: Head, end: Option<Head>, known: Option<&Head>) -> Result<Head, Broken> {
    let broken = |id, problem| Err(Broken { id, problem });
    let Some(end) = end else {
        return broken(reached.id, "may not be the last row: the record of the end, audit_head, is missing");
    };
    if end.id > reached.id || known.is_some_and(|known| known.id > reached.id) {
        return broken(reached.id + 1, "is missing");
    }
    if end.id < reached.id {
        return broken(end.id + 1, "is beyond the recorded end, audit_head");
    }
    if end.hash == reached.hash { Ok(reached) } else { broken(reached.id, "differs from the recorded end, audit_head") }
}
