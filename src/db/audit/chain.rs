//! The chain of the audit log: each row's hash covers the row before, so that a row that was edited, dropped, moved or put
//! in is found by [`verify`], which walks them all.
//!
//! The hash is SHA-256 over the hash of the row before (nothing before the first one), then id, at, actor, address, tenant,
//! action, target and detail as text, numbers in decimal, each after its length in bytes as 8 bytes, big-endian; 8 bytes of
//! 0xFF stand for what is absent. Whoever has an export can compute it without us.
//!
//! Why no key: who can write to the database can compute the whole chain anew, and a key that is derived from JWT_SECRET
//! would hinder only those who do not have the server as well; it would also end the proof of older rows when that secret is
//! changed and forgotten. So the proof lies outside: a [`Head`] that was noted elsewhere (each line of an export has one)
//! fixes every row up to it, whatever secrets were stolen since. What is younger than the last one noted is not proven.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_types::BigInt;

use super::super::Conn;
use super::super::schema::audit_head;
use super::{Row, archive, list_from};

/// So many rows are read at once.
const AT_ONCE: i64 = 1_000;

/// What the hash of a row has to be after that of the row before.
pub(super) fn hash(before: &[u8], row: &Row) -> Vec<u8> {
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
        // The length first, so that no two rows have the same bytes; one that is absent has a length of its own.
        hash.update(&member.map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
        hash.update(member.map_or(b"", |text| text.as_bytes()));
    }
    hash.finish().as_ref().to_vec()
}

/// A row's number and hash, which together fix it and every row before it. Written `17:9f86d0...`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The row's number; 0 before the first one.
    pub id: i64,
    /// The row's hash; empty before the first one.
    pub hash: Vec<u8>,
}

impl Head {
    /// Whether a log whose last row is now `last` still contains this row. An archived row cannot be compared, and is believed.
    pub fn is_kept(&self, conn: &mut Conn, last: &Head) -> QueryResult<bool> {
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
        write!(f, "{}:{}", self.id, Hex(&self.hash))
    }
}

impl FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Head, &'static str> {
        let parsed =
            text.split_once(':').and_then(|(id, hash)| Some(Head { id: id.parse().ok()?, hash: unhex(hash)? }));
        let whole =
            |head: &Head| if head.id == 0 { head.hash.is_empty() } else { head.id > 0 && head.hash.len() == 32 };
        parsed
            .filter(whole)
            .ok_or("has to be a number and 64 hexadecimal digits, as `audit verify` shows them: ID:HASH")
    }
}

const REWRITTEN: &str = "or one before was written anew since that head was noted";

/// Bytes as hexadecimal digits.
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The bytes of hexadecimal digits.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect();
    digits
        .filter(|digits| digits.len() % 2 == 0)
        .map(|digits| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// The first row that is not as it was written.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its number.
    pub id: i64,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the audit log is broken at row {}: it {}", self.id, self.problem)
    }
}

/// Walks all rows that are not archived in order, some at a time, beside those who append. `known` is a head that was noted
/// before: the log has to have that row still. Returns the head that was reached.
pub fn verify(conn: &mut Conn, known: Option<&Head>) -> QueryResult<Result<Head, Broken>> {
    loop {
        let archived = archive::end(conn)?;
        let verified = walk(conn, &archived, known)?;
        // Rows that are archived meanwhile only seem to be missing.
        if verified.is_ok() || archive::end(conn)? == archived {
            return Ok(verified);
        }
    }
}

fn walk(conn: &mut Conn, archived: &Head, known: Option<&Head>) -> QueryResult<Result<Head, Broken>> {
    let mistyped = mistyped(conn)?;
    let mut reached = archived.clone();
    let mut told = archived.id == 0;
    if let Some(known) = known.filter(|known| known.id > 0 && known.id <= archived.id && *known != archived) {
        let id = known.id;
        let problem = match id == archived.id {
            true => REWRITTEN,
            false => "is archived: give its file and those after it as well",
        };
        return Ok(Err(Broken { id, problem }));
    }
    let (mut from, mut at_once) = (i64::MIN, AT_ONCE);
    loop {
        // The end first: a row that is appended after this look is in the next rows, and so never seems to be missing.
        let end: Option<(i64, Vec<u8>)> =
            audit_head::table.select((audit_head::last, audit_head::hash)).first(conn).optional()?;
        let rows = match list_from(conn, from, at_once) {
            // One of them cannot even be read: one by one, to say which.
            Err(DieselError::DeserializationError(_)) if at_once > 1 => {
                at_once = 1;
                continue;
            }
            Err(DieselError::DeserializationError(_)) => {
                return Ok(Err(Broken { id: reached.id + 1, problem: "cannot be read" }));
            }
            rows => rows?,
        };
        if rows.is_empty() && !told {
            return Ok(Err(Broken { id: archived.id, problem: "is said to be archived, but no row tells of that" }));
        }
        if rows.is_empty() {
            return Ok(end_at(reached, end.map(|(id, hash)| Head { id, hash }), known));
        }
        for row in rows {
            if mistyped == Some(row.id) {
                return Ok(Err(Broken { id: row.id, problem: "was edited: a value has another type" }));
            }
            if (1..=archived.id).contains(&row.id) {
                return Ok(Err(Broken { id: row.id, problem: "is archived, but not deleted: archive again" }));
            }
            told |= row.action == archive::ARCHIVED && row.target == archived.to_string();
            reached = match follow(&reached, row, known) {
                Ok(next) => next,
                Err(broken) => return Ok(Err(broken)),
            };
        }
        from = reached.id + 1;
    }
}

/// Values that SQLite, which keeps anything in any column, would give us as if they were of the column's type, but would not
/// find: a tenant 7.2 reads as 7, and that user would not see the row.
const MISTYPED: &str = "SELECT id FROM audit WHERE typeof(id) <> 'integer' OR typeof(at) <> 'integer' \
    OR typeof(actor) <> 'text' OR typeof(address) NOT IN ('text', 'null') OR typeof(tenant) NOT IN ('integer', 'null') \
    OR typeof(action) <> 'text' OR typeof(target) <> 'text' OR typeof(detail) NOT IN ('text', 'null') \
    OR typeof(hash) <> 'blob' ORDER BY audit.id LIMIT 1";

#[derive(QueryableByName)]
struct Mistyped {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// The first row with such a value.
fn mistyped(conn: &mut Conn) -> QueryResult<Option<i64>> {
    match conn {
        Conn::Sqlite(conn) => {
            let found: Option<Mistyped> = diesel::sql_query(MISTYPED).get_result(conn).optional()?;
            Ok(found.map(|row| row.id))
        }
        Conn::Postgres(_) => Ok(None),
    }
}

/// The head after `row`, which has to follow the one at `reached`.
///
/// # Errors
/// When it does not.
pub fn follow(reached: &Head, row: Row, known: Option<&Head>) -> Result<Head, Broken> {
    let next = reached.id + 1;
    let broken = |id, problem| Err(Broken { id, problem });
    if row.id < next {
        return broken(row.id, "has a number that no row has");
    }
    if row.id > next {
        return broken(next, "is missing");
    }
    if row.hash != hash(&reached.hash, &row) {
        return broken(next, "was edited, or was not written after the row before");
    }
    if known.is_some_and(|known| known.id == next && known.hash != row.hash) {
        return broken(next, REWRITTEN);
    }
    Ok(Head { id: row.id, hash: row.hash })
}

fn end_at(reached: Head, end: Option<Head>, known: Option<&Head>) -> Result<Head, Broken> {
    let broken = |id, problem| Err(Broken { id, problem });
    let Some(end) = end else {
        return broken(reached.id, "may not be the last one: the record of the end, audit_head, is gone");
    };
    if end.id > reached.id || known.is_some_and(|known| known.id > reached.id) {
        return broken(reached.id + 1, "is missing");
    }
    if end.id < reached.id {
        return broken(end.id + 1, "is beyond the recorded end, audit_head");
    }
    match end.hash == reached.hash {
        true => Ok(reached),
        false => broken(reached.id, "is not the one that the record of the end, audit_head, has"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_written_in_one_way() {
        let head = Head { id: 17, hash: (0..32).map(|byte| byte * 7).collect() };
        assert_eq!(head.to_string().parse(), Ok(head.clone()));
        assert_eq!("0:".parse(), Ok(Head::default()));
        let hash = Hex(&head.hash).to_string();
        for text in [
            "",
            ":",
            "17",
            "17:",
            "17:00",
            "0:00",
            "x:",
            &hash,
            &format!("-1:{hash}"),
            &format!("17:{hash}0"),
            &format!("17:{}g", &hash[1..]),
        ] {
            assert!(text.parse::<Head>().is_err(), "{text}");
        }
    }
}
