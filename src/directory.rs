//! The in-memory tables of the hot path: users and domains by id, domains by the digest of a secret, signing keys,
//! revoked tokens and used assertions. Readers take no lock. The cost of a change depends on the change, not on the
//! size of the directory.
//!
//! A slot holds the current state of a user or a domain. A secret points to its domain's slot, and a domain to its
//! owner's slot. So authenticating a client takes one lookup, and a change of a slot is visible to everything that
//! points to it.
//!
//! The directory is current because it is filled before the first request, because a node applies its own changes
//! before it answers, and because every node reads the changes of the others twice a second (see
//! [`crate::db::revision`]).

mod former_meters;
mod hosts;
mod keys;
mod sync;

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use compact_str::CompactString;
use papaya::HashMap;
use parking_lot::Mutex;

use self::former_meters::FormerMeters;
use self::hosts::Hosts;
use self::keys::KeyChanges;
use self::sync::SyncState;
use crate::db::domain::DomainRow;
use crate::db::revision::{Change, Tombstone};
use crate::db::revocation::Revocation;
use crate::db::secret::SecretRow;
use crate::db::used_assertion::UsedAssertion;
pub use crate::db::user::Tenant;
use crate::host::Host;
use crate::id::{DomainId, SecretId, TokenId, UserId};
use crate::plan::{Meter, Plan};
use crate::secret::SecretDigest;
use crate::token::client_keys::ClientKeys;
use crate::token::keyring::Keyring;
use crate::token::replay::UsedAssertions;

/// Holds the current state of a user or a domain; empty once that is deleted.
type Slot<T> = ArcSwapOption<T>;

/// A domain, as the hot path needs it.
#[derive(Debug)]
pub struct Domain {
    /// Also its `client_id`.
    pub id: DomainId,
    owner: Arc<Slot<Tenant>>,
    /// Stored inline if it is short, as most hosts are.
    pub host: CompactString,
    /// The plan, which sets the limit.
    pub plan: Plan,
    /// The requests that the domain has used of its limit. Kept when the domain changes.
    pub meter: Arc<Meter>,
    /// Boxed, because few domains have any: the others pay eight bytes.
    extras: Option<Box<Extras>>,
    /// Whether the host is verified.
    pub host_verified: bool,
    /// Whether another domain has verified the host. Such a domain gets no tokens.
    pub superseded: bool,
    generation: i64,
    suspended: bool,
}

/// Restrictions and keys, which most domains do not have.
#[derive(Debug)]
struct Extras {
    /// Whether the domain existed when this process started.
    from_before: bool,
    scopes: Option<String>,
    audiences: Option<String>,
    keys: Option<ClientKeys>,
}

impl Domain {
    /// The scopes that the domain is limited to, separated by spaces.
    pub fn scopes(&self) -> Option<&str> {
        self.extras.as_ref()?.scopes.as_deref()
    }

    /// The audiences that the domain is limited to, separated by spaces.
    pub fn audiences(&self) -> Option<&str> {
        self.extras.as_ref()?.audiences.as_deref()
    }

    /// The public keys for `private_key_jwt`.
    pub fn keys(&self) -> Option<&ClientKeys> {
        self.extras.as_ref()?.keys.as_ref()
    }

    /// The host, unless the domain is suspended or superseded.
    fn active_host(&self) -> Option<&str> {
        (!self.suspended && !self.superseded).then_some(&*self.host)
    }

    /// Whether the domain has keys and existed when this process started, so that its assertions may have been used
    /// before.
    pub fn is_from_before(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.from_before)
    }
}

/// A domain with its owner. Either may be suspended.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The domain.
    pub domain: Arc<Domain>,
    tenant: Arc<Tenant>,
}

impl Registered {
    /// Returns the domain with its owner, unless either is suspended.
    pub fn active(self) -> Option<ActiveClient> {
        let Registered { domain, tenant } = self;
        (!domain.suspended && !tenant.suspended).then_some(ActiveClient { domain, tenant })
    }
}

/// A domain that is not suspended, and its owner, who is not suspended either.
#[derive(Clone, Debug)]
pub struct ActiveClient {
    /// The domain.
    pub domain: Arc<Domain>,
    /// The owner.
    pub tenant: Arc<Tenant>,
}

impl ActiveClient {
    /// The `gen` of the domain's tokens. Both generations only rise, so the sum identifies earlier tokens whichever of
    /// them rose.
    pub fn generation(&self) -> i64 {
        self.domain.generation + self.tenant.generation
    }
}

/// A secret that was found, valid or expired, with its domain.
#[derive(Debug)]
pub struct ResolvedSecret {
    /// The domain of the secret, and its owner.
    pub client: Registered,
    /// The number of the secret.
    pub secret: SecretId,
    /// When the secret expires or expired, in Unix seconds; `None` if it does not expire.
    pub expires_at: Option<i64>,
}

#[derive(Debug)]
struct Secret {
    id: SecretId,
    domain: Arc<Slot<Domain>>,
    /// `i64::MAX` if the secret does not expire.
    expires_at: i64,
}

/// Users, domains, secrets, keys and revocations in memory.
#[derive(Debug)]
pub struct Directory {
    tenants: HashMap<i64, Arc<Slot<Tenant>>>,
    domains: HashMap<DomainId, Arc<Slot<Domain>>>,
    secrets: HashMap<SecretDigest, Secret>,
    hosts: Hosts,
    former_meters: FormerMeters,
    keyring: ArcSwap<Keyring>,
    /// Revoked tokens with their `exp`.
    revoked: HashMap<TokenId, i64>,
    /// Client assertions that this or another node accepted.
    pub used_assertions: UsedAssertions,
    /// The applied state. The lock is not held while the database is read, because a database that hangs must not block
    /// other threads.
    seen: Mutex<SyncState>,
    /// See [`Directory::is_stale`].
    stale: AtomicBool,
    started: Instant,
    /// When the directory was last known to be current, in milliseconds after `started`.
    fresh_at: AtomicU64,
}

impl Directory {
    /// Creates an empty directory. The stored keys of the database join `keyring` when it is filled.
    pub fn new(keyring: Keyring) -> Directory {
        Directory {
            used_assertions: UsedAssertions::default(),
            keyring: ArcSwap::from_pointee(keyring),
            revoked: HashMap::new(),
            tenants: HashMap::new(),
            domains: HashMap::new(),
            secrets: HashMap::new(),
            hosts: Hosts::default(),
            former_meters: FormerMeters::default(),
            seen: Mutex::default(),
            stale: AtomicBool::new(false),
            started: Instant::now(),
            fresh_at: AtomicU64::new(0),
        }
    }

    /// Returns the current keyring.
    pub fn keyring(&self) -> arc_swap::Guard<Arc<Keyring>> {
        self.keyring.load()
    }

    /// Returns whether a token is revoked. Expired tokens are dropped, so the caller must check `exp` too.
    pub fn is_revoked(&self, token: &TokenId) -> bool {
        self.revoked.pin().contains_key(token)
    }

    /// Returns the number of revoked tokens in memory.
    pub fn revoked_count(&self) -> usize {
        self.revoked.len()
    }

    /// Removes the limits of deleted domains that are unused again at `now`, in nanoseconds of the meters' clock.
    pub fn prune_former_meters(&self, now: u64) {
        self.former_meters.prune(now);
    }

    /// Removes revoked tokens that have expired at `now`.
    pub fn prune(&self, now: i64) {
        self.revoked.pin().retain(|_, expires_at| *expires_at > now);
    }

    /// Returns the secret with that digest and its domain. The secret may have expired.
    pub fn by_secret(&self, digest: &SecretDigest) -> Option<ResolvedSecret> {
        let secrets = self.secrets.pin();
        let secret = secrets.get(digest)?;
        let expires_at = Some(secret.expires_at).filter(|deadline| *deadline < i64::MAX);
        Some(ResolvedSecret { client: registered(&secret.domain)?, secret: secret.id, expires_at })
    }

    /// Finds a domain by its id, also if it is suspended.
    /// Returns a domain, also if it or its owner is suspended.
    pub fn registered(&self, id: &DomainId) -> Option<Registered> {
        registered(self.domains.pin().get(id)?)
    }

    /// Returns whether `origin`, the value of an `Origin` header, is the origin of a domain's host. Suspended and
    /// superseded domains do not count; a suspended owner is not considered.
    pub fn has_active_host(&self, origin: &str) -> bool {
        Host::of_origin(origin).any(|host| self.hosts.contains(host.as_str()))
    }

    /// Returns a domain, unless it or its owner is suspended.
    pub fn by_id(&self, id: &DomainId) -> Option<ActiveClient> {
        self.registered(id)?.active()
    }

    /// Returns a user, unless suspended.
    pub fn tenant(&self, number: i64) -> Option<Arc<Tenant>> {
        self.tenants.pin().get(&number)?.load_full().filter(|tenant| !tenant.suspended)
    }

    /// Returns whether this node has ever missed changes: the database was once older than what had been read of it, or
    /// had pruned deletions that had not been read. This node must be restarted to learn of the revocations since.
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// Returns whether the database was once older than what had been read of it.
    pub fn has_gone_back(&self) -> bool {
        self.seen.lock().went_back
    }

    fn was_fresh_at(&self, asked_at: Duration) {
        self.fresh_at.fetch_max(asked_at.as_millis() as u64, Ordering::Relaxed);
    }

    /// Time since the directory was last known to be current.
    pub fn age(&self) -> Duration {
        let fresh_at = Duration::from_millis(self.fresh_at.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(fresh_at)
    }

    /// Returns the number of users.
    pub fn user_count(&self) -> usize {
        self.tenants.len()
    }

    /// Number of domains that are not dormant.
    pub fn domain_count(&self) -> usize {
        self.domains.len()
    }

    /// Applies a change. A change of a key is only added to `keys`. `at_start` is set before the first request.
    fn apply(&self, change: Change, at_start: bool, keys: &mut KeyChanges) {
        match change {
            Change::User(tenant) => slot(&self.tenants, tenant.id.get()).store(Some(Arc::new(tenant))),
            Change::UserEnded(id) => self.remove_user(id),
            Change::Domain(row) if row.dormant => self.remove_domain(&row.id),
            Change::Domain(row) => self.put_domain(row, at_start),
            Change::Secret(row) if row.dormant => drop(self.secrets.pin().remove(&row.digest)),
            Change::Secret(SecretRow { id, digest, domain_id, expires_at, .. }) => {
                let domain = slot(&self.domains, domain_id);
                let expires_at = expires_at.unwrap_or(i64::MAX);
                self.secrets.pin().insert(digest, Secret { id, domain, expires_at });
            }
            Change::SigningKey(row) => drop(keys.insert(row.kid.clone(), Some(row))),
            Change::Revocation(Revocation { jti, expires_at }) => drop(self.revoked.pin().insert(jti, expires_at)),
            Change::UsedAssertion(UsedAssertion { fingerprint, tenant, expires_at }) => {
                self.used_assertions.insert(fingerprint, tenant, expires_at);
            }
            Change::Gone(gone) => self.remove(gone, keys),
        }
    }

    fn remove(&self, gone: Tombstone, keys: &mut KeyChanges) {
        let Tombstone { user_id, domain_id, secret_digest, kid } = gone;
        if let Some(digest) = secret_digest {
            self.secrets.pin().remove(&digest);
        }
        if let Some(id) = domain_id {
            self.remove_domain(&id);
        }
        if let Some(id) = user_id {
            self.remove_user(id);
        }
        keys.extend(kid.map(|kid| (kid, None)));
    }

    fn remove_domain(&self, id: &DomainId) {
        if let Some(slot) = self.domains.pin().remove(id)
            && let Some(domain) = slot.swap(None)
        {
            self.former_meters.keep(&domain);
            self.hosts.change(domain.active_host(), None);
        }
    }

    fn remove_user(&self, id: UserId) {
        if let Some(slot) = self.tenants.pin().remove(&id.get()) {
            slot.store(None);
        }
    }

    fn put_domain(&self, row: DomainRow, at_start: bool) {
        let owner = slot(&self.tenants, row.user_id.get());
        let slot = slot(&self.domains, row.id);
        let known = slot.load();
        let meter = known.as_ref().map(|domain| Arc::clone(&domain.meter));
        let meter = meter.unwrap_or_else(|| Arc::new(self.former_meters.of(row.user_id, &row.host)));
        let from_before = at_start || known.as_ref().is_some_and(|domain| domain.is_from_before());
        let domain = Domain {
            id: row.id,
            owner,
            host: row.host.into(),
            plan: row.plan,
            meter,
            extras: (row.scopes.is_some() || row.audiences.is_some() || row.jwks.is_some()).then(|| {
                Box::new(Extras { from_before, scopes: row.scopes, audiences: row.audiences, keys: row.jwks })
            }),
            host_verified: row.verified_at.is_some(),
            superseded: row.superseded,
            generation: row.generation,
            suspended: row.suspended,
        };
        self.hosts.change(known.as_ref().and_then(|domain| domain.active_host()), domain.active_host());
        slot.store(Some(Arc::new(domain)));
    }
}

/// Returns the slot of a key, which is created if there is none.
fn slot<K: Hash + Eq, T>(slots: &HashMap<K, Arc<Slot<T>>>, key: K) -> Arc<Slot<T>> {
    Arc::clone(slots.pin().get_or_insert_with(key, || Arc::new(Slot::empty())))
}

/// Returns the domain in a slot, unless it or its owner is deleted.
fn registered(slot: &Slot<Domain>) -> Option<Registered> {
    let domain = slot.load_full()?;
    let tenant = domain.owner.load_full()?;
    Some(Registered { domain, tenant })
}
