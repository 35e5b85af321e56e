//! In memory, for the hot path: tenants and domains by id, domains by the digest of a secret, keys, revoked tokens. Readers
//! take no lock; a change costs what changed, not what there is.
//!
//! Why it may be trusted: it is filled before the first request, the node that writes applies its change before it
//! answers, and every other node reads the difference once a second (see [`crate::db::revision`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use compact_str::CompactString;
use papaya::HashMap;

use crate::db::revision::{Delta, Tombstone};
use crate::db::revocation::Revocation;
use crate::db::signing_key::SigningKey;
pub use crate::db::user::{Standing, Tenant};
use crate::db::{Conn, domain, revision, secret};
use crate::error::{Error, Result};
use crate::id::{DomainId, TokenId, UserId};
use crate::plan::{Meter, Plan};
use crate::secret::SecretDigest;
use crate::token::client_keys::ClientKeys;
use crate::token::keyring::{Kept, Key, Keyring};

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
    /// What only few domains have; boxed, so that the many pay eight bytes for it.
    extras: Option<Box<Extras>>,
    /// Control of its host is proven.
    pub proven: bool,
    /// Somebody else has proven that host, so that it gets no tokens.
    pub ousted: bool,
    generation: i64,
    suspended: bool,
}

/// What sets a domain apart from the many that may have everything and prove themselves by a secret.
#[derive(Debug)]
struct Extras {
    /// It was there when this process started.
    from_before: bool,
    scopes: Option<String>,
    audiences: Option<String>,
    keys: Option<ClientKeys>,
}

impl Domain {
    /// The scopes that the operator or its owner limited it to, separated by spaces.
    pub fn scopes(&self) -> Option<&str> {
        self.extras.as_ref()?.scopes.as_deref()
    }

    /// The audiences that it was limited to, separated by spaces.
    pub fn audiences(&self) -> Option<&str> {
        self.extras.as_ref()?.audiences.as_deref()
    }

    /// The keys by which it proves itself instead of a secret.
    pub fn keys(&self) -> Option<&ClientKeys> {
        self.extras.as_ref()?.keys.as_ref()
    }

    /// Whether it has such keys and was there when this process started, so that it may have used them before.
    pub fn is_from_before(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.from_before)
    }
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
    keyring: ArcSwap<Keyring>,
    /// Revoked tokens with their `exp`.
    revoked: HashMap<TokenId, i64>,
    /// The revision that has been applied. Not held while a difference is read: a database that hangs must not make
    /// others wait for it.
    seen: Mutex<i64>,
    started: Instant,
    /// Milliseconds after `started` at which the database was last seen to have nothing newer.
    fresh_at: AtomicU64,
}

impl Directory {
    /// A directory that knows nobody yet; the kept keys of the database will join this keyring.
    pub fn new(keyring: Keyring) -> Directory {
        Directory {
            keyring: ArcSwap::from_pointee(keyring),
            revoked: HashMap::new(),
            tenants: HashMap::new(),
            domains: HashMap::new(),
            secrets: HashMap::new(),
            seen: Mutex::new(0),
            started: Instant::now(),
            fresh_at: AtomicU64::new(0),
        }
    }

    /// The keys as they are now.
    pub fn keyring(&self) -> arc_swap::Guard<Arc<Keyring>> {
        self.keyring.load()
    }

    /// Whether that token was revoked. True until its `exp`; who asks looks at `exp` too.
    pub fn is_revoked(&self, token: &TokenId) -> bool {
        self.revoked.pin().contains_key(token)
    }

    /// How many revoked tokens are remembered.
    pub fn revoked_count(&self) -> usize {
        self.revoked.len()
    }

    /// Whether revoked tokens are remembered that have expired by then.
    pub fn has_expired_revocations(&self, now: i64) -> bool {
        self.revoked.pin().values().any(|expires_at| *expires_at <= now)
    }

    /// Forgets revoked tokens that have expired by then.
    pub fn prune(&self, now: i64) {
        self.revoked.pin().retain(|_, expires_at| *expires_at > now);
    }

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
            if delta.revision < base {
                return Err(Error::internal(
                    "the database is older than what this node has seen of it, as after a restored backup: restart this node",
                ));
            }
            let mut seen = seen();
            // Whoever was quicker and has seen as much has applied all of this. If they have seen less, nothing here is
            // older than theirs: what changed after this was read has a later revision than this reaches.
            if delta.revision > *seen {
                let at_start = *seen == 0;
                *seen = delta.revision;
                self.apply(delta, at_start);
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
    fn apply(&self, delta: Delta, at_start: bool) {
        let tenants = self.tenants.pin();
        for tenant in delta.users {
            tenants.insert(tenant.id.get(), Arc::new(tenant));
        }
        let domains = self.domains.pin();
        for domain in delta.domains {
            self.put_domain(domain, at_start);
        }
        let secrets = self.secrets.pin();
        for secret::Secret { digest, domain_id, expires_at, .. } in delta.secrets {
            secrets.insert(digest, Secret { domain_id, expires_at });
        }
        let revoked = self.revoked.pin();
        for Revocation { jti, expires_at } in delta.revocations {
            revoked.insert(jti, expires_at);
        }
        let keys_gone: Vec<String> = delta.gone.iter().filter_map(|gone| gone.kid.clone()).collect();
        self.change_keys(delta.signing_keys, &keys_gone);
        for Tombstone { user_id, domain_id, secret_digest, kid: _ } in delta.gone {
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

    fn change_keys(&self, rows: Vec<SigningKey>, gone: &[String]) {
        if rows.is_empty() && gone.is_empty() {
            return;
        }
        let keyring = self.keyring.load();
        let put = rows.into_iter().filter_map(|row| {
            let known = keyring.kept(&row.kid);
            let key = known.or_else(|| open(&keyring, &row)).map(|key| Kept { key, term: row.term() });
            if key.is_none() {
                log::error!("the signing key {} cannot be opened with this node's JWT_SECRET", row.kid);
            }
            key
        });
        let changed = keyring.changed(put.collect(), gone);
        self.keyring.store(Arc::new(changed));
    }

    fn put_domain(&self, row: domain::Domain, at_start: bool) {
        let domains = self.domains.pin();
        let known = domains.get(&row.id);
        let meter = known.map(|domain| Arc::clone(&domain.meter)).unwrap_or_default();
        let from_before = at_start || known.is_some_and(|domain| domain.is_from_before());
        let domain = Domain {
            id: row.id,
            user_id: row.user_id,
            host: row.host.into(),
            plan: row.plan,
            meter,
            extras: (row.scopes.is_some() || row.audiences.is_some() || row.jwks.is_some()).then(|| {
                Box::new(Extras { from_before, scopes: row.scopes, audiences: row.audiences, keys: row.jwks })
            }),
            proven: row.proven_at.is_some(),
            ousted: row.ousted,
            generation: row.generation,
            suspended: row.suspended,
        };
        domains.insert(row.id, Arc::new(domain));
    }
}

fn open(keyring: &Keyring, row: &SigningKey) -> Option<Arc<Key>> {
    let opened = keyring.seal().open(&row.kid, &row.sealed)?;
    Key::load(row.algorithm, &opened.private).filter(|key| key.kid() == row.kid).map(Arc::new)
}
