//! The client assertions that were used, so that each counts once (RFC 7523 §3, `jti`).
//!
//! A node notes in memory what it takes. Where several share a database, it writes that down every half second, off the
//! request path, and each of them reads it twice a second: what was used on one node is refused on all within two seconds.
//! Until then two nodes may both take one assertion, because no request waits for the database to issue a token. The same
//! goes for what is used while the database is away, and for the last half second of a node that is killed.

use std::sync::atomic::{AtomicU32, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Binary;
use papaya::HashMap;

use super::assertion::Use;
use crate::id::UserId;

/// So many used ones are taken at most, of some 100 bytes each; nobody gets in beyond. What other nodes took before they
/// heard of that many is remembered all the same.
const MOST_USED: usize = 1 << 20;
/// And so many of one tenant, so that nobody takes the others' room.
const MOST_OF_ONE: u32 = 1 << 15;

/// By what an assertion is known again: half of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = Binary)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    pub(super) fn of(named: &[u8]) -> Fingerprint {
        Fingerprint(digest(&SHA256, named).as_ref()[..16].try_into().expect("sixteen bytes"))
    }
}

/// The assertions that were used, as far as this node knows.
#[derive(Debug, Default)]
pub struct Used {
    noted: HashMap<Fingerprint, Noted>,
    /// How many of each tenant are noted.
    held: HashMap<i64, AtomicU32>,
    /// Those of `noted` that other nodes have not been told of; `None` where there are no others.
    untold: Option<HashMap<Fingerprint, Noted>>,
}

#[derive(Clone, Copy, Debug)]
struct Noted {
    expires_at: i64,
    tenant: i64,
}

/// Nobody can say whether an assertion was used before, or will be able to later: so it cannot be taken now.
#[derive(Debug)]
pub struct Forgetful;

impl Used {
    /// For one node of several.
    pub fn shared() -> Used {
        Used { untold: Some(HashMap::new()), ..Used::default() }
    }

    /// Whether other nodes have to be told.
    pub fn are_shared(&self) -> bool {
        self.untold.is_some()
    }

    /// How many are remembered.
    pub fn count(&self) -> usize {
        self.noted.len()
    }

    /// Takes note of a use; whether it is the first.
    ///
    /// # Errors
    /// When that is not known, or cannot be remembered.
    pub fn is_first(&self, used: &Use, tenant: UserId) -> Result<bool, Forgetful> {
        if self.noted.pin().contains_key(&used.fingerprint) {
            return Ok(false);
        }
        let noted = Noted { expires_at: used.expires_at, tenant: tenant.get() };
        if !used.remembered || !self.has_room(noted.tenant) {
            return Err(Forgetful);
        }
        let first = self.note(used.fingerprint, noted);
        if first && let Some(untold) = &self.untold {
            untold.pin().insert(used.fingerprint, noted);
        }
        Ok(first)
    }

    /// Takes note of a use that another node told of. There is always room for it: each node stops at the same bounds, which
    /// count what it was told of, so that beyond them is only what the others took within two seconds.
    pub fn learn(&self, fingerprint: Fingerprint, tenant: i64, expires_at: i64) {
        self.note(fingerprint, Noted { expires_at, tenant });
    }

    /// Some of those that other nodes have not been told of, with the tenant's number and `exp`.
    pub fn untold(&self, most: usize) -> Vec<(Fingerprint, i64, i64)> {
        let Some(untold) = &self.untold else { return Vec::new() };
        let untold = untold.pin();
        untold.iter().take(most).map(|(fingerprint, noted)| (*fingerprint, noted.tenant, noted.expires_at)).collect()
    }

    /// Other nodes can know of these from now on.
    pub fn told<'a>(&self, fingerprints: impl IntoIterator<Item = &'a Fingerprint>) {
        let Some(untold) = &self.untold else { return };
        let untold = untold.pin();
        for fingerprint in fingerprints {
            untold.remove(fingerprint);
        }
    }

    /// Forgets what has expired.
    pub fn prune(&self, now: i64) {
        let (noted, held) = (self.noted.pin(), self.held.pin());
        noted.retain(|_, noted| noted.expires_at > now);
        if let Some(untold) = &self.untold {
            untold.pin().retain(|_, noted| noted.expires_at > now);
        }
        let mut counts: std::collections::HashMap<i64, u32> = std::collections::HashMap::new();
        for noted in noted.values() {
            *counts.entry(noted.tenant).or_default() += 1;
        }
        held.retain(|tenant, _| counts.contains_key(tenant));
        for (tenant, count) in counts {
            held.get_or_insert_with(tenant, AtomicU32::default).store(count, Ordering::Relaxed);
        }
    }

    fn has_room(&self, tenant: i64) -> bool {
        let held = self.held.pin().get(&tenant).map_or(0, |held| held.load(Ordering::Relaxed));
        self.noted.len() < MOST_USED && held < MOST_OF_ONE
    }

    /// `false` when it was noted before.
    fn note(&self, fingerprint: Fingerprint, noted: Noted) -> bool {
        let first = self.noted.pin().try_insert(fingerprint, noted).is_ok();
        if first {
            self.held.pin().get_or_insert_with(noted.tenant, AtomicU32::default).fetch_add(1, Ordering::Relaxed);
        }
        first
    }
}

impl<DB: Backend> ToSql<Binary, DB> for Fingerprint
where
    [u8]: ToSql<Binary, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.0.as_slice().to_sql(out)
    }
}

impl<DB: Backend> FromSql<Binary, DB> for Fingerprint
where
    Vec<u8>: FromSql<Binary, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        let bytes = Vec::<u8>::from_sql(bytes)?;
        bytes.try_into().map(Fingerprint).map_err(|_| "a fingerprint has 16 bytes".into())
    }
}
