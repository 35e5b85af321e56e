//! In memory, for the hot path: tenants and domains by id, domains by the digest of a secret. Readers take no lock; a
//! change costs what changed, not what there is.
//!
//! Why it may be trusted: it is filled before the first request, the node that writes applies its change before it
//! answers, and every other node reads the difference once a second (see [`crate::db::revision`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use compact_str::CompactString;
use papaya::HashMap;

use crate::db::revision::{Delta, Tombstone};
pub use crate::db::user::{Standing, Tenant};
use crate::db::{Conn, domain, revision, secret};
use crate::error::Result;
use crate::id::{DomainId, UserId};
use crate::plan::{Meter, Plan};
use crate::secret::SecretDigest;

/// What the hot path needs of a domain.
#[derive(Debug)]
pub struct Domain {
    /// Its public id.
    pub id: DomainId,
    /// The tenant.
    pub user_id: UserId,
    /// Its host; inline where it is short, as most are.
    pub host: CompactString,
    /// What it may use.
    pub plan: Plan,
    /// How much of that it has used. It outlives a change of the domain.
    pub meter: Arc<Meter>,
    generation: i64,
    suspended: bool,
}

/// A domain that may have tokens now, with its owner.
#[derive(Clone, Debug)]
pub struct Live {
    /// The domain.
    pub domain: Arc<Domain>,
    /// Its owner.
    pub tenant: Arc<Tenant>,
}

impl Live {
    /// The `gen` of the domain's tokens. Both parts only ever rise, so their sum tells an earlier token, whichever
    /// rose.
    pub fn generation(&self) -> i64 {
        self.domain.generation + self.tenant.generation
    }
}

#[derive(Debug)]
struct Secret {
    domain_id: DomainId,
    expires_at: Option<i64>,
}

/// The tables of the hot path.
#[derive(Debug)]
pub struct Directory {
    tenants: HashMap<i64, Arc<Tenant>>,
    domains: HashMap<DomainId, Arc<Domain>>,
    secrets: HashMap<SecretDigest, Secret>,
    /// The revision that has been applied. Not held while a difference is read: a database that hangs must not make
    /// others wait for it.
    seen: Mutex<i64>,
    started: Instant,
    /// Milliseconds after `started` at which the database was last seen to have nothing newer.
    fresh_at: AtomicU64,
}

impl Default for Directory {
    fn default() -> Directory {
        Directory {
            tenants: HashMap::new(),
            domains: HashMap::new(),
            secrets: HashMap::new(),
            seen: Mutex::new(0),
            started: Instant::now(),
            fresh_at: AtomicU64::new(0),
        }
    }
}

impl Directory {
    /// The domain whose secret this is, if the secret still works at `now` and neither domain nor owner is suspended.
    pub fn by_secret(&self, digest: &SecretDigest, now: i64) -> Option<Live> {
        let secrets = self.secrets.pin();
        let secret = secrets.get(digest)?;
        if secret.expires_at.is_some_and(|deadline| deadline <= now) {
            return None;
        }
        self.by_id(&secret.domain_id)
    }

    /// The domain of that id, if neither it nor its owner is suspended.
    pub fn by_id(&self, id: &DomainId) -> Option<Live> {
        let domain = self.domains.pin().get(id).filter(|domain| !domain.suspended).cloned()?;
        let tenant = self.tenant(domain.user_id.get())?;
        Some(Live { domain, tenant })
    }

    /// The user of that number, if not suspended.
    pub fn tenant(&self, number: i64) -> Option<Arc<Tenant>> {
        self.tenants.pin().get(&number).filter(|tenant| !tenant.suspended).cloned()
    }

    /// Reads what changed since the last time and applies it.
    ///
    /// # Errors
    /// When the database does not answer; nothing is forgotten then.
    pub fn catch_up(&self, conn: &mut Conn) -> Result<()> {
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let asked_at = self.started.elapsed();
        let base = *seen();
        if let Some(delta) = revision::since(conn, base)? {
            let mut seen = seen();
            // Whoever was quicker and has seen as much has applied all of this. If they have seen less, nothing here is
            // older than theirs: what changed after this was read has a later revision than this reaches.
            if delta.revision > *seen {
                *seen = delta.revision;
                self.apply(delta);
            }
        }
        self.fresh_at.fetch_max(asked_at.as_millis() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// How long ago it was known to be up to date.
    pub fn age(&self) -> Duration {
        let fresh_at = Duration::from_millis(self.fresh_at.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(fresh_at)
    }

    /// How many domains there are.
    pub fn domain_count(&self) -> usize {
        self.domains.len()
    }

    /// Owners before their domains and domains before their secrets: what can be found has all it needs.
    fn apply(&self, delta: Delta) {
        let tenants = self.tenants.pin();
        for tenant in delta.users {
            tenants.insert(tenant.id.get(), Arc::new(tenant));
        }
        let domains = self.domains.pin();
        for domain in delta.domains {
            self.put_domain(domain);
        }
        let secrets = self.secrets.pin();
        for secret::Secret { digest, domain_id, expires_at, .. } in delta.secrets {
            secrets.insert(digest, Secret { domain_id, expires_at });
        }
        for Tombstone { user_id, domain_id, secret_digest } in delta.gone {
            if let Some(digest) = secret_digest {
                secrets.remove(&digest);
            }
            if let Some(id) = domain_id {
                domains.remove(&id);
            }
            if let Some(id) = user_id {
                tenants.remove(&id.get());
            }
        }
    }

    fn put_domain(&self, row: domain::Domain) {
        let domains = self.domains.pin();
        let meter = domains.get(&row.id).map(|domain| Arc::clone(&domain.meter)).unwrap_or_default();
        let domain = Domain {
            id: row.id,
            user_id: row.user_id,
            host: row.host.into(),
            plan: row.plan,
            meter,
            generation: row.generation,
            suspended: row.suspended,
        };
        domains.insert(row.id, Arc::new(domain));
    }
}
