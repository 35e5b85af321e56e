//! Rows of `audit`: who changed what, from where and when; written by [`Audited`], checked by [`chain`].
//!
//! A change returns [`Audited`], which cannot be made without saying what the row is to tell, or that there is nothing to
//! tell; the row is appended in the change's own transaction, last, because it locks the end of the chain.

pub mod archive;
pub mod chain;

use std::fmt;
use std::net::IpAddr;

use diesel::prelude::*;

use super::schema::{audit, audit_head};
use super::{Conn, Page};
use crate::error::Result;
use crate::id::{DomainId, UserId};

/// Who made a change, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Actor {
    /// Who.
    pub who: Who,
    /// The network address that the request came from, if it was one.
    pub address: Option<IpAddr>,
}

impl Actor {
    /// Whoever has the command line.
    pub const OPERATOR: Actor = Actor { who: Who::Operator, address: None };
    /// This server, by itself.
    pub const SERVER: Actor = Actor { who: Who::Server, address: None };

    /// What is to be told of a change by this one; without detail.
    pub fn did(self, action: &'static str, target: impl ToString, tenant: Option<UserId>, at: i64) -> Entry {
        Entry { at, actor: self, tenant, action, target: target.to_string(), detail: None }
    }
}

/// Who made a change.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// Somebody without an account, who signed up or tried to sign in.
    Anyone,
    /// A user in person.
    User(UserId),
    /// A domain.
    Client(DomainId),
    /// Whoever has the command line.
    Operator,
    /// This server, by itself.
    Server,
}

/// As the `actor` of a row.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Anyone => f.write_str("anyone"),
            Who::User(id) => id.fmt(f),
            Who::Client(id) => id.fmt(f),
            Who::Operator => f.write_str("operator"),
            Who::Server => f.write_str("server"),
        }
    }
}

/// What a row is to tell.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Unix seconds.
    pub at: i64,
    /// Who did it.
    pub actor: Actor,
    /// Whose row it is: that user sees it.
    pub tenant: Option<UserId>,
    /// What was done, such as `domain.registered`; a fixed set of words.
    pub action: &'static str,
    /// What it was done to: a public id or a number.
    pub target: String,
    /// What else is worth knowing, as one JSON object; never a secret.
    pub detail: Option<String>,
}

impl Entry {
    /// With what else is worth knowing: an object, and nothing secret in it.
    pub fn with(self, detail: serde_json::Value) -> Entry {
        Entry { detail: Some(detail.to_string()), ..self }
    }
}

/// The value of a change with the rows that tell of it.
#[must_use]
#[derive(Debug)]
pub struct Audited<T> {
    value: T,
    entries: Vec<Entry>,
}

impl<T> Audited<T> {
    /// A change, and the row that tells of it.
    pub fn new(value: T, entry: Entry) -> Audited<T> {
        Audited { value, entries: vec![entry] }
    }

    /// A change of several things.
    pub fn several(value: T, entries: Vec<Entry>) -> Audited<T> {
        Audited { value, entries }
    }

    /// Nothing was changed that anybody could ask about.
    pub fn nothing(value: T) -> Audited<T> {
        Audited { value, entries: Vec::new() }
    }

    /// With another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Audited<U> {
        Audited { value: change(self.value), entries: self.entries }
    }

    /// With one more row, if the value is such that there is one more thing to tell.
    pub fn and_if(mut self, told: impl FnOnce(&T) -> bool, entry: Entry) -> Audited<T> {
        if told(&self.value) {
            self.entries.push(entry);
        }
        self
    }

    /// Appends the rows; the last thing to do in a transaction.
    pub fn record(self, conn: &mut Conn) -> Result<T> {
        append(conn, &self.entries)?;
        Ok(self.value)
    }
}

/// A row.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = audit)]
pub struct Row {
    /// Counts from 1 without a gap.
    pub id: i64,
    /// Unix seconds.
    pub at: i64,
    /// See [`Who`].
    pub actor: String,
    /// The network address that the request came from.
    pub address: Option<String>,
    /// The number of the user whose row it is.
    pub tenant: Option<i64>,
    /// See [`Entry::action`].
    pub action: String,
    /// See [`Entry::target`].
    pub target: String,
    /// See [`Entry::detail`].
    pub detail: Option<String>,
    /// Over the hash of the row before and all of the above: see [`chain`].
    pub hash: Vec<u8>,
}

/// A tenant's own rows.
pub fn list(conn: &mut Conn, tenant: UserId, page: Page) -> QueryResult<Vec<Row>> {
    list_of(conn, tenant.get(), page)
}

/// The rows of the user with that number, for the operator; they outlive the account.
pub fn list_of(conn: &mut Conn, number: i64, page: Page) -> QueryResult<Vec<Row>> {
    audit::table
        .filter(audit::tenant.eq(number).and(audit::id.lt(page.before())))
        .order(audit::id.desc())
        .limit(page.limit)
        .select(Row::as_select())
        .load(conn)
}

/// Everybody's rows, for the operator.
pub fn list_all(conn: &mut Conn, page: Page) -> QueryResult<Vec<Row>> {
    audit::table
        .filter(audit::id.lt(page.before()))
        .order(audit::id.desc())
        .limit(page.limit)
        .select(Row::as_select())
        .load(conn)
}

/// The rows from that id on in the order in which they were written, for an export.
pub fn list_from(conn: &mut Conn, id: i64, limit: i64) -> QueryResult<Vec<Row>> {
    audit::table.filter(audit::id.ge(id)).order(audit::id).limit(limit).select(Row::as_select()).load(conn)
}

fn append(conn: &mut Conn, entries: &[Entry]) -> QueryResult<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let (mut last, mut before) = lock_head(conn)?;
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        last += 1;
        let mut row = Row {
            id: last,
            at: entry.at,
            actor: entry.actor.who.to_string(),
            address: entry.actor.address.map(|address| address.to_string()),
            tenant: entry.tenant.map(UserId::get),
            action: entry.action.to_owned(),
            target: entry.target.clone(),
            detail: entry.detail.clone(),
            hash: Vec::new(),
        };
        row.hash = chain::hash(&before, &row);
        before.clone_from(&row.hash);
        rows.push(row);
    }
    insert(conn, &rows)?;
    diesel::update(audit_head::table)
        .set((audit_head::last.eq(last), audit_head::hash.eq(before)))
        .execute(conn)
        .map(drop)
}

/// So many rows, of nine values each, PostgreSQL takes in a statement.
const AT_ONCE: usize = 1_000;

fn insert(conn: &mut Conn, rows: &[Row]) -> QueryResult<()> {
    match conn {
        Conn::Sqlite(conn) => {
            rows.iter().try_for_each(|row| diesel::insert_into(audit::table).values(row).execute(conn).map(drop))
        }
        // A statement for each would be a journey for each.
        Conn::Postgres(conn) => rows
            .chunks(AT_ONCE)
            .try_for_each(|rows| diesel::insert_into(audit::table).values(rows).execute(conn).map(drop)),
    }
}

/// The number and the hash of the last row, which nobody else can follow until the transaction ends.
fn lock_head(conn: &mut Conn) -> QueryResult<(i64, Vec<u8>)> {
    let head = audit_head::table.select((audit_head::last, audit_head::hash));
    match conn {
        // SQLite's one writer has the lock already.
        Conn::Sqlite(conn) => head.first(conn),
        Conn::Postgres(conn) => head.for_update().first(conn),
    }
}
