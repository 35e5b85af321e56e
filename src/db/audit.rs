//! Rows of `audit`: who changed what, from where and when. Each row's hash covers the row before, so that one that was edited,
//! dropped or moved is found by [`verify`].
//!
//! A change returns [`Audited`], which cannot be made without saying what the row is to tell, or that there is nothing to
//! tell; the row is appended in the change's own transaction, last, because it locks the end of the chain.

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::digest::{Context, SHA256};
use diesel::prelude::*;

use super::Conn;
use super::schema::{audit, audit_head};
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
}

impl Actor {
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

    /// Appends the rows; the last thing to do in a transaction.
    pub fn record(self, conn: &mut Conn) -> Result<T> {
        append(conn, &self.entries)?;
        Ok(self.value)
    }
}

/// A row.
#[derive(Clone, Debug, Queryable, Selectable)]
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
    /// SHA-256 over the hash of the row before and all of the above.
    pub hash: Vec<u8>,
}

impl Row {
    /// What its hash has to be after that of the row before.
    fn hash_after(&self, before: &[u8]) -> Vec<u8> {
        let mut hash = Context::new(&SHA256);
        hash.update(before);
        let (id, at, tenant) = (self.id.to_string(), self.at.to_string(), self.tenant.map(|tenant| tenant.to_string()));
        let members = [
            Some(&id),
            Some(&at),
            Some(&self.actor),
            self.address.as_ref(),
            tenant.as_ref(),
            Some(&self.action),
            Some(&self.target),
            self.detail.as_ref(),
        ];
        for member in members {
            // The length first, so that no two rows have the same bytes; one that is absent has a length of its own.
            hash.update(&member.map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
            hash.update(member.map_or(b"", |text| text.as_bytes()));
        }
        hash.finish().as_ref().to_vec()
    }
}

fn append(conn: &mut Conn, entries: &[Entry]) -> QueryResult<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let (mut last, mut before) = lock_head(conn)?;
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
        row.hash = row.hash_after(&before);
        insert(conn, &row)?;
        before = row.hash;
    }
    diesel::update(audit_head::table)
        .set((audit_head::last.eq(last), audit_head::hash.eq(before)))
        .execute(conn)
        .map(drop)
}

fn insert(conn: &mut Conn, row: &Row) -> QueryResult<()> {
    diesel::insert_into(audit::table)
        .values((
            audit::id.eq(row.id),
            audit::at.eq(row.at),
            audit::actor.eq(&row.actor),
            audit::address.eq(&row.address),
            audit::tenant.eq(row.tenant),
            audit::action.eq(&row.action),
            audit::target.eq(&row.target),
            audit::detail.eq(&row.detail),
            audit::hash.eq(&row.hash),
        ))
        .execute(conn)
        .map(drop)
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
