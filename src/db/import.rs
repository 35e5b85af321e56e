//! Rows that move in by the thousand, and `imports`, which remembers where each came from.
//!
//! The revisions of a batch are taken from the counter at once and the rows come with theirs, so that the triggers have
//! nothing to do: a change of the counter costs PostgreSQL as much as there were changes in the same transaction.

use std::collections::{HashMap, HashSet};
use std::iter;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use super::Conn;
use super::audit::Who;
use super::schema::{domains, imports, revision, secrets, users};
use super::user::{NewUser, reserved_key, unused_ids};
use crate::host::Host;
use crate::id::{DomainId, UserId};
use crate::plan::Plan;
use crate::secret::{ClientSecret, SecretDigest};

/// How many rows the functions here are best given at once. Each has a handful of values, of which PostgreSQL takes
/// 65,535 in a statement.
pub const AT_ONCE: usize = 1_000;

/// A domain to be registered with a secret that it has already.
#[derive(Debug)]
pub struct Domain {
    /// Its public id.
    pub id: DomainId,
    /// The tenant.
    pub user_id: UserId,
    /// Its host.
    pub host: Host,
    /// What it may use.
    pub plan: Plan,
    /// Unix seconds.
    pub created_at: i64,
    /// What its server presents.
    pub secret: ClientSecret,
}

/// What became of a [`Domain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landed {
    /// It is registered.
    New,
    /// Nothing was done: the tenant has that host.
    HostTaken,
    /// Nothing was done: the secret is in use, or stood in an earlier row of the same batch.
    SecretTaken,
    /// Nothing was done: another tenant has proven control of that host.
    Proven,
}

/// Prepares a transaction in which there will be many rows: PostgreSQL may take its time, and SQLite gets memory to keep
/// pages in that are changed again and again.
pub fn begin(conn: &mut Conn) -> QueryResult<()> {
    match conn {
        Conn::Sqlite(conn) => conn.batch_execute("PRAGMA cache_size = -262144"),
        Conn::Postgres(conn) => {
            conn.batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
        }
    }
}

/// Takes so many revisions from the counter, and returns the first of them.
fn take_revisions(conn: &mut Conn, count: usize) -> QueryResult<i64> {
    let count = count as i64;
    let last: i64 = diesel::update(revision::table)
        .set(revision::value.eq(revision::value + count))
        .returning(revision::value)
        .get_result(conn)?;
    Ok(last - count + 1)
}

/// Makes users and returns them by the keys of their names. A name that is taken, or that a deleted account had, is not
/// among them.
pub fn insert_users(conn: &mut Conn, new: &[NewUser]) -> QueryResult<HashMap<String, UserId>> {
    let reserved =
        users::table.filter(users::username_key.eq_any(new.iter().map(|user| reserved_key(&user.username_key))));
    let reserved: HashSet<String> = reserved.select(users::username_key).load(conn)?.into_iter().collect();
    let new = new.iter().filter(|user| !reserved.contains(&reserved_key(&user.username_key)));
    let new: Vec<&NewUser> = new.collect();
    if new.is_empty() {
        return Ok(HashMap::new());
    }
    let first = take_revisions(conn, new.len())?;
    let ids = unused_ids(conn, new.len())?;
    let rows = iter::zip(new, ids).zip(first..);
    let rows = rows.map(|((user, id), number)| (user, users::id.eq(id), users::revision.eq(number)));
    let returned = (users::username_key, users::id);
    match conn {
        Conn::Sqlite(conn) => rows
            .filter_map(|row| {
                let insert = diesel::insert_into(users::table).values(row).on_conflict_do_nothing();
                insert.returning(returned).get_result(conn).optional().transpose()
            })
            .collect(),
        Conn::Postgres(conn) => {
            let insert = diesel::insert_into(users::table).values(rows.collect::<Vec<_>>()).on_conflict_do_nothing();
            Ok(insert.returning(returned).get_results(conn)?.into_iter().collect())
        }
    }
}

/// Registers domains with their secrets and says of each what became of it.
pub fn insert_domains(conn: &mut Conn, new: &[Domain]) -> QueryResult<Vec<Landed>> {
    let digests: Vec<SecretDigest> = new.iter().map(|domain| domain.secret.digest()).collect();
    let in_use = secrets::table.filter(secrets::digest.eq_any(&digests)).select(secrets::digest);
    let mut in_use: HashSet<SecretDigest> = in_use.load(conn)?.into_iter().collect();
    let proven = proven(conn, new)?;
    let mut landed: Vec<Landed> = iter::zip(new, &digests)
        .map(|(domain, digest)| match proven.get(domain.host.as_str()) {
            Some(owner) if *owner != domain.user_id => Landed::Proven,
            _ if !in_use.insert(*digest) => Landed::SecretTaken,
            _ => Landed::New,
        })
        .collect();
    let wanted: Vec<&Domain> =
        iter::zip(new, &landed).filter(|(_, landed)| **landed == Landed::New).map(|(domain, _)| domain).collect();
    let made = insert_rows(conn, &wanted)?;
    for (domain, landed) in iter::zip(new, &mut landed) {
        if *landed == Landed::New && !made.contains(&domain.id) {
            *landed = Landed::HostTaken;
        }
    }
    let of_made = iter::zip(new, &digests).filter(|(domain, _)| made.contains(&domain.id));
    insert_secrets(conn, of_made.collect())?;
    Ok(landed)
}

/// Who has proven control of these hosts.
fn proven(conn: &mut Conn, new: &[Domain]) -> QueryResult<HashMap<String, UserId>> {
    let hosts: HashSet<&str> = new.iter().map(|domain| domain.host.as_str()).collect();
    let proven = domains::table.inner_join(users::table).filter(domains::host.eq_any(hosts));
    let proven = proven
        .filter(domains::proven_at.is_not_null().and(domains::suspended.eq(false)).and(users::suspended.eq(false)));
    Ok(proven.select((domains::host, domains::user_id)).load(conn)?.into_iter().collect())
}

/// Inserts those whose host the tenant has not, and says which.
fn insert_rows(conn: &mut Conn, new: &[&Domain]) -> QueryResult<HashSet<DomainId>> {
    if new.is_empty() {
        return Ok(HashSet::new());
    }
    let first = take_revisions(conn, new.len())?;
    let rows = iter::zip(new, first..).map(|(domain, number)| {
        (
            domains::id.eq(domain.id),
            domains::user_id.eq(domain.user_id),
            domains::host.eq(domain.host.as_str()),
            domains::plan.eq(domain.plan),
            domains::created_at.eq(domain.created_at),
            domains::revision.eq(number),
            domains::number.eq(number),
        )
    });
    let host = (domains::user_id, domains::host);
    match conn {
        Conn::Sqlite(conn) => {
            let mut made = HashSet::new();
            for (row, domain) in iter::zip(rows, new) {
                let insert = diesel::insert_into(domains::table).values(row).on_conflict(host).do_nothing();
                if insert.execute(conn)? > 0 {
                    made.insert(domain.id);
                }
            }
            Ok(made)
        }
        Conn::Postgres(conn) => {
            let insert = diesel::insert_into(domains::table).values(rows.collect::<Vec<_>>());
            let insert = insert.on_conflict(host).do_nothing();
            Ok(insert.returning(domains::id).get_results(conn)?.into_iter().collect())
        }
    }
}

fn insert_secrets(conn: &mut Conn, new: Vec<(&Domain, &SecretDigest)>) -> QueryResult<()> {
    if new.is_empty() {
        return Ok(());
    }
    let first = take_revisions(conn, new.len())?;
    let rows = iter::zip(new, first..).map(|((domain, digest), number)| {
        (
            secrets::domain_id.eq(domain.id),
            secrets::digest.eq(digest),
            secrets::hint.eq(domain.secret.hint()),
            secrets::created_at.eq(domain.created_at),
            secrets::created_by.eq(Who::Operator.to_string()),
            secrets::revision.eq(number),
        )
    });
    match conn {
        Conn::Sqlite(conn) => {
            rows.into_iter().try_for_each(|row| diesel::insert_into(secrets::table).values(row).execute(conn).map(drop))
        }
        Conn::Postgres(conn) => {
            diesel::insert_into(secrets::table).values(rows.collect::<Vec<_>>()).execute(conn).map(drop)
        }
    }
}

/// What came from that source before: its number there, and what it is here.
pub fn known(conn: &mut Conn, source: &str) -> QueryResult<HashMap<String, String>> {
    let rows = imports::table.filter(imports::source.eq(source)).select((imports::number, imports::target));
    Ok(rows.load(conn)?.into_iter().collect())
}

/// The same, of these numbers only.
pub fn known_of<'a>(
    conn: &mut Conn,
    source: &str,
    numbers: impl Iterator<Item = &'a String>,
) -> QueryResult<HashMap<String, String>> {
    let rows = imports::table.filter(imports::source.eq(source).and(imports::number.eq_any(numbers)));
    Ok(rows.select((imports::number, imports::target)).load(conn)?.into_iter().collect())
}

/// Remembers that these came from that source.
pub fn remember(conn: &mut Conn, source: &str, numbers: &[(String, String)]) -> QueryResult<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    let rows = numbers
        .iter()
        .map(|(number, target)| (imports::source.eq(source), imports::number.eq(number), imports::target.eq(target)));
    match conn {
        Conn::Sqlite(conn) => {
            rows.into_iter().try_for_each(|row| diesel::insert_into(imports::table).values(row).execute(conn).map(drop))
        }
        Conn::Postgres(conn) => {
            diesel::insert_into(imports::table).values(rows.collect::<Vec<_>>()).execute(conn).map(drop)
        }
    }
}
