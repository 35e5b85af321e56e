//! Bulk insertion of users and domains, and rows of `imports`, which record where an imported row came from.
//!
//! A batch reserves its revisions from the counter at once, so that the triggers leave the rows alone: on PostgreSQL,
//! an update of the counter costs as much as there were updates of it in the same transaction.

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

/// Recommended number of rows per call. PostgreSQL takes 65,535 values in a statement.
pub const BATCH_SIZE: usize = 1_000;

/// A domain to be registered with an existing secret.
#[derive(Debug)]
pub struct ImportedDomain {
    /// The public id.
    pub id: DomainId,
    /// The owner.
    pub user_id: UserId,
    /// The parsed host.
    pub host: Host,
    /// The plan, which sets the limit.
    pub plan: Plan,
    /// Unix seconds.
    pub created_at: i64,
    /// The client secret. The database stores only its digest.
    pub secret: ClientSecret,
}

/// The outcome of registering an [`ImportedDomain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportOutcome {
    /// The domain is registered.
    Inserted,
    /// Nothing was done, because the tenant has the host already.
    HostTaken,
    /// Nothing was done, because the secret is in use or in an earlier row of the same batch.
    SecretTaken,
    /// Nothing was done, because another tenant has verified the host.
    HostVerified,
}

/// Prepares a transaction for many rows: removes the time limits on PostgreSQL, and enlarges the page cache on SQLite.
pub fn begin(conn: &mut Conn) -> QueryResult<()> {
    match conn {
        Conn::Sqlite(conn) => conn.batch_execute("PRAGMA cache_size = -262144"),
        Conn::Postgres(conn) => {
            conn.batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
        }
    }
}

/// Reserves `count` revisions and returns the first one.
fn take_revisions(conn: &mut Conn, count: usize) -> QueryResult<i64> {
    let count = count as i64;
    let last: i64 = diesel::update(revision::table)
        .set(revision::value.eq(revision::value + count))
        .returning(revision::value)
        .get_result(conn)?;
    Ok(last - count + 1)
}

/// Inserts users and returns them by `username_key`. Users are left out if another user has the name or a deleted
/// account had it.
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

/// Registers domains with their secrets and returns the outcome for each.
pub fn insert_domains(conn: &mut Conn, new: &[ImportedDomain]) -> QueryResult<Vec<ImportOutcome>> {
    let digests: Vec<SecretDigest> = new.iter().map(|domain| domain.secret.digest()).collect();
    let in_use = secrets::table.filter(secrets::digest.eq_any(&digests)).select(secrets::digest);
    let mut in_use: HashSet<SecretDigest> = in_use.load(conn)?.into_iter().collect();
    let verified = verified(conn, new)?;
    let mut outcomes: Vec<ImportOutcome> = iter::zip(new, &digests)
        .map(|(domain, digest)| match verified.get(domain.host.as_str()) {
            Some(owner) if *owner != domain.user_id => ImportOutcome::HostVerified,
            _ if !in_use.insert(*digest) => ImportOutcome::SecretTaken,
            _ => ImportOutcome::Inserted,
        })
        .collect();
    let wanted: Vec<&ImportedDomain> = iter::zip(new, &outcomes)
        .filter(|(_, outcome)| **outcome == ImportOutcome::Inserted)
        .map(|(domain, _)| domain)
        .collect();
    let made = insert_rows(conn, &wanted)?;
    for (domain, outcome) in iter::zip(new, &mut outcomes) {
        if *outcome == ImportOutcome::Inserted && !made.contains(&domain.id) {
            *outcome = ImportOutcome::HostTaken;
        }
    }
    let of_made = iter::zip(new, &digests).filter(|(domain, _)| made.contains(&domain.id));
    insert_secrets(conn, of_made.collect())?;
    Ok(outcomes)
}

/// Returns the users who have verified these hosts, by host.
fn verified(conn: &mut Conn, new: &[ImportedDomain]) -> QueryResult<HashMap<String, UserId>> {
    let hosts: HashSet<&str> = new.iter().map(|domain| domain.host.as_str()).collect();
    let verified = domains::table.inner_join(users::table).filter(domains::host.eq_any(hosts));
    let verified = verified
        .filter(domains::verified_at.is_not_null().and(domains::suspended.eq(false)).and(users::suspended.eq(false)));
    Ok(verified.select((domains::host, domains::user_id)).load(conn)?.into_iter().collect())
}

/// Inserts the domains whose host the tenant does not have yet, and returns their ids.
fn insert_rows(conn: &mut Conn, new: &[&ImportedDomain]) -> QueryResult<HashSet<DomainId>> {
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

fn insert_secrets(conn: &mut Conn, new: Vec<(&ImportedDomain, &SecretDigest)>) -> QueryResult<()> {
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

/// Returns what was imported from a source: the id here by the number there.
pub fn known(conn: &mut Conn, source: &str) -> QueryResult<HashMap<String, String>> {
    let rows = imports::table.filter(imports::source.eq(source)).select((imports::number, imports::target));
    Ok(rows.load(conn)?.into_iter().collect())
}

/// As [`known`], for these numbers only.
pub fn known_of<'a>(
    conn: &mut Conn,
    source: &str,
    numbers: impl Iterator<Item = &'a String>,
) -> QueryResult<HashMap<String, String>> {
    let rows = imports::table.filter(imports::source.eq(source).and(imports::number.eq_any(numbers)));
    Ok(rows.select((imports::number, imports::target)).load(conn)?.into_iter().collect())
}

/// Records what was imported from a source.
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
