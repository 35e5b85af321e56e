//! The difference between what a node has seen of the directory's tables and what they are now.
//!
//! Triggers stamp every insert, update and deletion from one counter whose row stays locked until the commit, so a
//! reader that has seen revision n has missed nothing of n or before.

use diesel::prelude::*;

use super::schema::{domains, revision, revocations, secrets, signing_keys, tombstones, used_assertions, users};
use super::used_assertion::UsedAssertion;
use super::{Conn, domain::Domain, revocation::Revocation, secret::Secret, signing_key::SigningKey, user::Tenant};
use crate::id::{DomainId, UserId};
use crate::secret::SecretDigest;

/// Everything after the seen revision. A row that was deleted stands in `gone` only.
pub struct Delta {
    /// What has been seen once this is applied.
    pub revision: i64,
    /// New or changed users.
    pub users: Vec<Tenant>,
    /// New or changed domains.
    pub domains: Vec<Domain>,
    /// New or changed secrets.
    pub secrets: Vec<Secret>,
    /// New or changed signing keys.
    pub signing_keys: Vec<SigningKey>,
    /// Newly revoked tokens.
    pub revocations: Vec<Revocation>,
    /// Newly used client assertions.
    pub used_assertions: Vec<UsedAssertion>,
    /// What was deleted.
    pub gone: Vec<Tombstone>,
}

/// One deletion; one of the four is set.
#[derive(Queryable, Selectable)]
#[diesel(table_name = tombstones)]
pub struct Tombstone {
    /// A deleted user.
    pub user_id: Option<UserId>,
    /// A deleted domain.
    pub domain_id: Option<DomainId>,
    /// A deleted secret.
    pub secret_digest: Option<SecretDigest>,
    /// A deleted signing key.
    pub kid: Option<String>,
}

/// Reads what changed after `seen`; `None` when nothing did. Costs one look at one row then.
pub fn since(conn: &mut Conn, seen: i64) -> QueryResult<Option<Delta>> {
    let current: i64 = revision::table.select(revision::value).first(conn)?;
    if current == seen {
        return Ok(None);
    }
    // Not in one snapshot, and it need not be: a row that changes in between has a revision after `current` and comes
    // next time. The first time, what was deleted is not there to be removed.
    let seen_gone = if seen == 0 { current } else { seen };
    Ok(Some(Delta {
        revision: current,
        users: users::table
            .filter(users::revision.gt(seen).and(users::revision.le(current)))
            .select(Tenant::as_select())
            .load(conn)?,
        domains: domains::table
            .filter(domains::revision.gt(seen).and(domains::revision.le(current)))
            .select(Domain::as_select())
            .load(conn)?,
        secrets: secrets::table
            .filter(secrets::revision.gt(seen).and(secrets::revision.le(current)))
            .select(Secret::as_select())
            .load(conn)?,
        signing_keys: signing_keys::table
            .filter(signing_keys::revision.gt(seen).and(signing_keys::revision.le(current)))
            .select(SigningKey::as_select())
            .load(conn)?,
        revocations: revocations::table
            .filter(revocations::revision.gt(seen).and(revocations::revision.le(current)))
            .select(Revocation::as_select())
            .load(conn)?,
        used_assertions: used_assertions::table
            .filter(used_assertions::revision.gt(seen).and(used_assertions::revision.le(current)))
            .select(UsedAssertion::as_select())
            .load(conn)?,
        gone: tombstones::table
            .filter(tombstones::revision.gt(seen_gone).and(tombstones::revision.le(current)))
            .order(tombstones::revision)
            .select(Tombstone::as_select())
            .load(conn)?,
    }))
}

/// Locks the counter until the transaction ends, before any other row: two changes then never wait for each other.
pub(super) fn lock(conn: &mut Conn) -> QueryResult<()> {
    // SQLite's one writer has the lock already.
    if let Conn::Postgres(conn) = conn {
        revision::table.select(revision::value).for_update().first::<i64>(conn)?;
    }
    Ok(())
}
