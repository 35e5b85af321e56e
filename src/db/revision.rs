//! Changes of the directory's tables since a node last read them.
//!
//! Triggers give every insert, update and deletion a revision from one counter. The counter's row stays locked until
//! the commit, so a reader that has seen revision n has seen every change up to n.

use diesel::connection::DefaultLoadingMode;
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;

use super::audit::chain::Head;
use super::schema::{
    audit_head, domains, revision, revision_stamps, revocations, secrets, signing_keys, tombstones, used_assertions,
    users,
};
use super::used_assertion::UsedAssertion;
use super::{
    Conn, domain::DomainRow, revocation::Revocation, secret::SecretRow, signing_key::SigningKey, user::Tenant,
};
use crate::id::{DomainId, Stamp, UserId};
use crate::secret::SecretDigest;

/// A change of a table of the directory.
pub enum Change {
    /// A new or changed account.
    User(Tenant),
    /// A deleted account, whose row stays.
    UserEnded(UserId),
    /// A new or changed domain.
    Domain(DomainRow),
    /// A new or changed secret.
    Secret(SecretRow),
    /// A new or changed signing key.
    SigningKey(SigningKey),
    /// A newly revoked token.
    Revocation(Revocation),
    /// A newly used client assertion.
    UsedAssertion(UsedAssertion),
    /// A deleted row.
    Gone(Tombstone),
}

/// A row of `users`, of an account that exists or was deleted.
#[derive(Queryable, Selectable)]
#[diesel(table_name = users)]
struct UserState {
    #[diesel(embed)]
    tenant: Tenant,
    ended: bool,
}

impl From<UserState> for Change {
    fn from(UserState { tenant, ended }: UserState) -> Change {
        if ended { Change::UserEnded(tenant.id) } else { Change::User(tenant) }
    }
}

/// A deleted row. Exactly one of the members is set.
#[derive(Queryable, Selectable)]
#[diesel(table_name = tombstones)]
pub struct Tombstone {
    /// A deleted user.
    pub user_id: Option<UserId>,
    /// A deleted domain.
    pub domain_id: Option<DomainId>,
    /// The digest of a deleted secret.
    pub secret_digest: Option<SecretDigest>,
    /// The id of a deleted signing key.
    pub kid: Option<String>,
}

/// A group of the directory's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableGroup {
    /// All tables except that of domains.
    AllButDomains,
    /// The table of domains.
    Domains,
    /// All tables.
    All,
}

/// A revision with its random stamp. If a change was lost and another one got its revision, the stamps differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Queryable)]
pub struct Stamped {
    /// The number of the revision.
    pub revision: i64,
    stamp: i64,
}

impl Stamped {
    /// Returns whether the database still contains this revision. If its stamp is pruned, that is assumed.
    pub fn is_present(self, conn: &mut Conn, last: Stamped) -> QueryResult<bool> {
        if self == last {
            return Ok(true);
        }
        let row = revision_stamps::table.find(self.revision).first::<Stamped>(conn).optional()?;
        Ok(row.map_or(self.revision < last.revision - MAX_STAMPS, |row| row == self))
    }
}

/// Number of revisions that keep their stamps: more than are added between two reads of a node.
pub const MAX_STAMPS: i64 = 100_000;

/// The state of the counter of revisions.
#[derive(Clone, Debug)]
pub struct Counter {
    /// The revision of the last change.
    pub value: i64,
    /// The revision up to which tombstones are pruned. A node that has not seen it can no longer learn what was
    /// deleted.
    pub forgotten: i64,
    /// Tokens of another epoch are refused. See [`super::identity`].
    pub epoch: Stamp,
    /// The last row of the audit log, which records changes of other tables too.
    pub audit: Head,
    /// The last revision with its stamp.
    pub stamped: Stamped,
}

/// Reads the counter of revisions with its epoch.
pub fn counter(conn: &mut Conn) -> QueryResult<Counter> {
    let columns = (revision::value, revision::forgotten, revision::epoch);
    let (value, forgotten, epoch) = revision::table.select(columns).first(conn)?;
    let stamped = revision_stamps::table.order(revision_stamps::revision.desc()).first(conn)?;
    let (id, hash) = audit_head::table.select((audit_head::last, audit_head::hash)).first(conn)?;
    Ok(Counter { value, forgotten, epoch, audit: Head { id, hash }, stamped })
}

/// Passes each row of a query to `$hand_on`, without loading all rows into memory.
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

/// Reads the changes with a revision after `seen` and up to `current`.
///
/// A row that is changed again during the read has a revision after `current` and is left out, so a caller that must
/// not miss it reads in a snapshot. Deletions are read for [`TableGroup::All`] only, because an initial load has nothing to
/// delete.
pub fn changes(
    conn: &mut Conn,
    group: TableGroup,
    seen: i64,
    current: i64,
    hand_on: &mut impl FnMut(Change),
) -> QueryResult<()> {
    macro_rules! newer {
        ($table:ident) => {
            $table::table.filter($table::revision.gt(seen).and($table::revision.le(current)))
        };
    }
    // Deletions come first: a secret may have been deleted and inserted again.
    if group == TableGroup::All {
        each!(conn, newer!(tombstones).order(tombstones::revision), Tombstone, |row| hand_on(Change::Gone(row)));
    }
    if group != TableGroup::Domains {
        each!(conn, newer!(users), UserState, |row: UserState| hand_on(row.into()));
    }
    if group != TableGroup::AllButDomains {
        each!(conn, newer!(domains), DomainRow, |row| hand_on(Change::Domain(row)));
    }
    if group != TableGroup::Domains {
        each!(conn, newer!(secrets), SecretRow, |row| hand_on(Change::Secret(row)));
        each!(conn, newer!(signing_keys), SigningKey, |row| hand_on(Change::SigningKey(row)));
        each!(conn, newer!(revocations), Revocation, |row| hand_on(Change::Revocation(row)));
        each!(conn, newer!(used_assertions), UsedAssertion, |row| hand_on(Change::UsedAssertion(row)));
    }
    Ok(())
}

/// Seconds beyond the present from which a tombstone's time is considered wrong.
const MAX_CLOCK_ERROR: i64 = 86_400;

/// Returns the last of the tombstones that are older than `before` and not preceded by a younger one.
pub fn last_old_tombstone(conn: &mut Conn, before: i64, now: i64) -> QueryResult<Option<i64>> {
    // The time alone does not decide: clocks of nodes may differ, and tombstones are pruned in the order of revisions.
    // One dated by a wrong clock counts as old as the next one with a plausible time.
    let young = tombstones::buried_at.ge(before).and(tombstones::buried_at.le(now + MAX_CLOCK_ERROR));
    let young = tombstones::table.filter(young).order(tombstones::revision).select(tombstones::revision);
    let first_young: i64 = young.first(conn).optional()?.unwrap_or(i64::MAX);
    let old = tombstones::buried_at.lt(before).and(tombstones::revision.lt(first_young));
    let old = tombstones::table.filter(old).order(tombstones::revision.desc()).select(tombstones::revision);
    old.first(conn).optional()
}

/// Records that the tombstones up to `last` may be deleted. Nodes that have not read them must be restarted.
pub fn forget(conn: &mut Conn, last: i64) -> QueryResult<()> {
    diesel::update(revision::table).set(revision::forgotten.eq(last)).execute(conn).map(drop)
}

/// Locks the counter until the transaction ends. Taken before any other lock, so that two changes cannot deadlock.
pub(super) fn lock(conn: &mut Conn) -> QueryResult<()> {
    // On SQLite, the transaction holds the only write lock.
    if let Conn::Postgres(conn) = conn {
        revision::table.select(revision::value).for_update().first::<i64>(conn)?;
    }
    Ok(())
}
