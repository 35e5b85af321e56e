//! The difference between what a node has seen of the directory's tables and what they are now.
//!
//! Triggers stamp every insert, update and deletion from one counter whose row stays locked until the commit, so a
//! reader that has seen revision n has missed nothing of n or before.

use diesel::connection::DefaultLoadingMode;
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::audit::chain::Head;
use super::schema::{
    audit_head, domains, revision, revision_stamps, revocations, secrets, signing_keys, tombstones, used_assertions,
    users,
};
use super::used_assertion::UsedAssertion;
use super::{
    Conn, batch, domain::Domain, revocation::Revocation, secret::Secret, signing_key::SigningKey, user::Tenant,
};
use crate::id::{DomainId, Stamp, UserId};
use crate::secret::SecretDigest;

/// One thing that changed.
pub enum Change {
    /// A new or changed user.
    User(Tenant),
    /// A new or changed domain.
    Domain(Domain),
    /// A new or changed secret.
    Secret(Secret),
    /// A new or changed signing key.
    SigningKey(SigningKey),
    /// A newly revoked token.
    Revocation(Revocation),
    /// A newly used client assertion.
    UsedAssertion(UsedAssertion),
    /// What was deleted; its row stands in here only.
    Gone(Tombstone),
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

/// Which of the directory's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Users, secrets and whatever there is little of.
    Most,
    /// Domains.
    Domains,
    /// All of them.
    All,
}

/// A value of the counter with the random stamp that it got. A change that has taken the number of a lost one has another
/// stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Queryable)]
pub struct Stamped {
    /// The revision.
    pub revision: i64,
    stamp: i64,
}

impl Stamped {
    /// Whether the database still contains what was seen under this revision. A database that has forgotten the stamp cannot
    /// tell, and is believed.
    pub fn is_kept(self, conn: &mut Conn, last: Stamped) -> QueryResult<bool> {
        if self == last {
            return Ok(true);
        }
        let row = revision_stamps::table.find(self.revision).first::<Stamped>(conn).optional()?;
        Ok(row.map_or(self.revision < last.revision - KEPT_STAMPS, |row| row == self))
    }
}

/// How many of the last values of the counter keep their stamps: more than are added between two looks of a node.
const KEPT_STAMPS: i64 = 100_000;

/// Forgets at most so many of the oldest stamps, and returns how many.
pub fn prune_stamps(conn: &mut Conn, rows: i64) -> QueryResult<usize> {
    let old = "revision < (SELECT value FROM revision) - $1";
    batch::delete_some::<BigInt, _>(conn, "revision_stamps", old, KEPT_STAMPS, rows)
}

/// Where the counter stands.
#[derive(Clone, Debug)]
pub struct Counter {
    /// The revision of the last change.
    pub value: i64,
    /// Up to this revision, the tombstones are pruned: who has not seen it cannot learn what is gone.
    pub forgotten: i64,
    /// Tokens of another epoch are refused. See [`super::identity`].
    pub epoch: Stamp,
    /// The last row of the audit log, which also changes of other tables raise.
    pub audit: Head,
    /// The last stamp.
    pub stamped: Stamped,
}

/// Where the counter stands now.
pub fn counter(conn: &mut Conn) -> QueryResult<Counter> {
    let columns = (revision::value, revision::forgotten, revision::epoch);
    let (value, forgotten, epoch) = revision::table.select(columns).first(conn)?;
    let stamped = revision_stamps::table.order(revision_stamps::revision.desc()).first(conn)?;
    let (id, hash) = audit_head::table.select((audit_head::last, audit_head::hash)).first(conn)?;
    Ok(Counter { value, forgotten, epoch, audit: Head { id, hash }, stamped })
}

/// Hands every row of a query on, one at a time where the database can: a million rows are never all in memory.
macro_rules! each {
    ($conn:expr, $query:expr, $row:ty, $hand_on:expr) => {
        match $conn {
            Conn::Sqlite(conn) => {
                for row in $query.select(<$row>::as_select()).load_iter::<$row, DefaultLoadingMode>(conn)? {
                    $hand_on(row?);
                }
            }
            Conn::Postgres(conn) => {
                for row in $query.select(<$row>::as_select()).load_iter::<$row, PgRowByRowLoadingMode>(conn)? {
                    $hand_on(row?);
                }
            }
        }
    };
}

/// Reads what changed after `seen`, up to `current`.
///
/// A row that changes meanwhile has a revision after `current`: whoever may not miss it reads within one snapshot. Only who
/// reads all parts is told what is gone: an empty directory that is filled part by part has nothing to forget.
pub fn changes(
    conn: &mut Conn,
    part: Part,
    seen: i64,
    current: i64,
    hand_on: &mut impl FnMut(Change),
) -> QueryResult<()> {
    macro_rules! newer {
        ($table:ident) => {
            $table::table.filter($table::revision.gt(seen).and($table::revision.le(current)))
        };
    }
    // What is gone comes first: a secret that was deleted and brought back is there.
    if part == Part::All {
        each!(conn, newer!(tombstones).order(tombstones::revision), Tombstone, |row| hand_on(Change::Gone(row)));
    }
    if part != Part::Domains {
        each!(conn, newer!(users), Tenant, |row| hand_on(Change::User(row)));
    }
    if part != Part::Most {
        each!(conn, newer!(domains), Domain, |row| hand_on(Change::Domain(row)));
    }
    if part != Part::Domains {
        each!(conn, newer!(secrets), Secret, |row| hand_on(Change::Secret(row)));
        each!(conn, newer!(signing_keys), SigningKey, |row| hand_on(Change::SigningKey(row)));
        each!(conn, newer!(revocations), Revocation, |row| hand_on(Change::Revocation(row)));
        each!(conn, newer!(used_assertions), UsedAssertion, |row| hand_on(Change::UsedAssertion(row)));
    }
    Ok(())
}

/// Seconds after `now` from which on a tombstone's time was told by a wrong clock.
const WRONG_CLOCK: i64 = 86_400;

/// The last of the tombstones that are all from before that.
pub fn last_old_tombstone(conn: &mut Conn, before: i64, now: i64) -> QueryResult<Option<i64>> {
    // Not by their time alone: of two nodes' clocks, one may be behind, and nothing may stay before what is forgotten.
    // One that a wrong clock has dated is as old as the next one that is dated well.
    let young = tombstones::buried_at.ge(before).and(tombstones::buried_at.le(now + WRONG_CLOCK));
    let young = tombstones::table.filter(young).order(tombstones::revision).select(tombstones::revision);
    let first_young: i64 = young.first(conn).optional()?.unwrap_or(i64::MAX);
    let old = tombstones::buried_at.lt(before).and(tombstones::revision.lt(first_young));
    let old = tombstones::table.filter(old).order(tombstones::revision.desc()).select(tombstones::revision);
    old.first(conn).optional()
}

/// Forgets at most so many of the tombstones up to that one, the oldest first, and notes how far that went. Returns how many.
pub fn prune_tombstones(conn: &mut Conn, last: i64, rows: i64) -> QueryResult<usize> {
    let oldest = tombstones::table.filter(tombstones::revision.le(last)).order(tombstones::revision);
    let oldest: Vec<i64> = oldest.select(tombstones::revision).limit(rows).load(conn)?;
    let Some(reached) = oldest.last() else { return Ok(0) };
    diesel::update(revision::table).set(revision::forgotten.eq(reached)).execute(conn)?;
    diesel::delete(tombstones::table.filter(tombstones::revision.le(reached))).execute(conn)
}

/// Locks the counter until the transaction ends, before any other row: two changes then never wait for each other.
pub(super) fn lock(conn: &mut Conn) -> QueryResult<()> {
    // SQLite's one writer has the lock already.
    if let Conn::Postgres(conn) = conn {
        revision::table.select(revision::value).for_update().first::<i64>(conn)?;
    }
    Ok(())
}
