//! Rows of `audit`: who changed what, from where and when. Written by [`Audited`], verified by [`chain`].
//!
//! A change returns [`Audited`], which requires the row that describes the change, or the statement that there is none.
//! The row is appended at the end of the change's transaction, because it locks the head of the chain.

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
    /// The party.
    pub who: Who,
    /// Network address of the request; `None` for the command line and the server.
    pub address: Option<IpAddr>,
}

impl Actor {
    /// The command line.
    pub const OPERATOR: Actor = Actor { who: Who::Operator, address: None };
    /// The server, on its own initiative.
    pub const SERVER: Actor = Actor { who: Who::Server, address: None };

    /// Returns an entry for a change by this actor, without detail.
    pub fn event(self, action: &'static str, target: impl ToString, tenant: Option<UserId>, at: i64) -> Entry {
        Entry { at, actor: self, tenant, action, target: target.to_string(), detail: None }
    }
}

/// A party that changes something.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// A client without an account, which signs up or tries to sign in.
    Anyone,
    /// A user, by a user token.
    User(UserId),
    /// A domain, which authenticates as an OAuth client.
    Client(DomainId),
    /// The command line.
    Operator,
    /// The server, on its own initiative.
    Server,
}

/// The `actor` of a row.
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

/// A row before it is written.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Unix seconds.
    pub at: i64,
    /// The party that made the change.
    pub actor: Actor,
    /// The user who may see the row.
    pub tenant: Option<UserId>,
    /// An action of a fixed set, such as `domain.registered`.
    pub action: &'static str,
    /// The public id or the number of the changed object.
    pub target: String,
    /// Further facts as a JSON object, never a secret.
    pub detail: Option<String>,
}

impl Entry {
    /// Adds further facts, a JSON object without secrets.
    pub fn with(self, detail: serde_json::Value) -> Entry {
        Entry { detail: Some(detail.to_string()), ..self }
    }
}

/// The value of a change, and the rows that describe the change.
#[must_use]
#[derive(Debug)]
pub struct Audited<T> {
    value: T,
    entries: Vec<Entry>,
}

impl<T> Audited<T> {
    /// A change that one row describes.
    pub fn new(value: T, entry: Entry) -> Audited<T> {
        Audited { value, entries: vec![entry] }
    }

    /// A change that several rows describe.
    pub fn several(value: T, entries: Vec<Entry>) -> Audited<T> {
        Audited { value, entries }
    }

    /// A change that needs no row.
    pub fn nothing(value: T) -> Audited<T> {
        Audited { value, entries: Vec::new() }
    }

    /// Replaces the value, and keeps the rows.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Audited<U> {
        Audited { value: change(self.value), entries: self.entries }
    }

    /// Adds a row if the value meets a condition.
    pub fn and_if(mut self, condition: impl FnOnce(&T) -> bool, entry: Entry) -> Audited<T> {
        if condition(&self.value) {
            self.entries.push(entry);
        }
        self
    }

    /// Appends the rows. Must be the last statement of a transaction.
    pub fn record(self, conn: &mut Conn) -> Result<T> {
        append(conn, &self.entries)?;
        Ok(self.value)
    }
}

/// A row of the audit log as it is stored.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = audit)]
pub struct AuditRow {
    /// Counts from 1 without gaps.
    pub id: i64,
    /// Unix seconds.
    pub at: i64,
    /// See [`Who`].
    pub actor: String,
    /// The network address of the request, as text.
    pub address: Option<String>,
    /// See [`Entry::tenant`].
    pub tenant: Option<i64>,
    /// See [`Entry::action`].
    pub action: String,
    /// See [`Entry::target`].
    pub target: String,
    /// See [`Entry::detail`].
    pub detail: Option<String>,
    /// Covers the hash of the previous row and all members above. See [`chain`].
    pub hash: Vec<u8>,
}

/// Returns a page of a tenant's rows.
pub fn list(conn: &mut Conn, tenant: UserId, page: Page) -> QueryResult<Vec<AuditRow>> {
    list_of(conn, tenant.get(), page)
}

/// Returns a page of the rows of the user with that number, for the operator. Rows outlive the account.
pub fn list_of(conn: &mut Conn, number: i64, page: Page) -> QueryResult<Vec<AuditRow>> {
    audit::table
        .filter(audit::tenant.eq(number).and(audit::id.lt(page.before())))
        .order(audit::id.desc())
        .limit(page.limit)
        .select(AuditRow::as_select())
        .load(conn)
}

/// Returns a page of all rows, for the operator.
pub fn list_all(conn: &mut Conn, page: Page) -> QueryResult<Vec<AuditRow>> {
    audit::table
        .filter(audit::id.lt(page.before()))
        .order(audit::id.desc())
        .limit(page.limit)
        .select(AuditRow::as_select())
        .load(conn)
}

/// Returns rows from an id on, in the order in which they were written.
pub fn list_from(conn: &mut Conn, id: i64, limit: i64) -> QueryResult<Vec<AuditRow>> {
    audit::table.filter(audit::id.ge(id)).order(audit::id).limit(limit).select(AuditRow::as_select()).load(conn)
}

fn append(conn: &mut Conn, entries: &[Entry]) -> QueryResult<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let (mut last, mut before) = lock_head(conn)?;
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        last += 1;
        let mut row = AuditRow {
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

/// Rows per statement. Each has nine values, and PostgreSQL takes 65,535 values in a statement.
const ROWS_PER_STATEMENT: usize = 1_000;

fn insert(conn: &mut Conn, rows: &[AuditRow]) -> QueryResult<()> {
    match conn {
        Conn::Sqlite(conn) => {
            rows.iter().try_for_each(|row| diesel::insert_into(audit::table).values(row).execute(conn).map(drop))
        }
        // One statement per row would be one round trip per row.
        Conn::Postgres(conn) => rows
            .chunks(ROWS_PER_STATEMENT)
            .try_for_each(|rows| diesel::insert_into(audit::table).values(rows).execute(conn).map(drop)),
    }
}

/// Returns the number and the hash of the last row. Locks them until the transaction ends.
fn lock_head(conn: &mut Conn) -> QueryResult<(i64, Vec<u8>)> {
    let head = audit_head::table.select((audit_head::last, audit_head::hash));
    match conn {
        // On SQLite, the transaction holds the only write lock.
        Conn::Sqlite(conn) => head.first(conn),
        Conn::Postgres(conn) => head.for_update().first(conn),
    }
}
