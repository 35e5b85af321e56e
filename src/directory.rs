//! In memory, for the hot path: tenants and domains by id, domains by the digest of a secret, keys, revoked tokens, used
//! assertions. Readers take no lock; a change costs what changed, not what there is.
//!
//! A place is where the present state of a domain or a user stands. A secret points to its domain's place, and a domain to
//! its owner's: so a client costs one look-up, however many there are, and a change of one is a change for all who
//! point to it.
//!
//! Why it may be trusted: it is filled before the first request, the node that writes applies its change before it
//! answers, and every other node reads the difference twice a second (see [`crate::db::revision`]).

mod difference;
mod hosts;

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use compact_str::CompactString;
use papaya::HashMap;

use self::difference::Seen;
use self::hosts::Hosts;
use crate::db::revision::{Change, Tombstone};
use crate::db::revocation::Revocation;
use crate::db::signing_key::SigningKey;
use crate::db::used_assertion::UsedAssertion;
pub use crate::db::user::{Standing, Tenant};
use crate::db::{domain, secret};
use crate::host::Host;
use crate::id::{DomainId, SecretId, TokenId, UserId};
use crate::plan::{Meter, Plan};
use crate::secret::SecretDigest;
use crate::shares::Table;
use crate::token::client_keys::ClientKeys;
use crate::token::keyring::{Kept, Key, Keyring};
use crate::token::replay::Used;

/// Where the present state of something stands, for all who point to it; empty once it is gone.
struct Place<T>(ArcSwapOption<T>);

impl<T> Place<T> {
    fn empty() -> Arc<Place<T>> {
        Arc::new(Place(ArcSwapOption::empty()))
    }
}

impl<T: fmt::Debug> fmt::Debug for Place<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.load().fmt(f)
    }
}

/// What the hot path needs of a domain.
#[derive(Debug)]
pub struct Domain {
    /// Its public id.
    pub id: DomainId,
    /// Where its owner stands.
    owner: Arc<Place<Tenant>>,
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

    /// Its host, unless it is suspended or ousted.
    fn live_host(&self) -> Option<&str> {
        (!self.suspended && !self.ousted).then_some(&*self.host)
    }

    /// Whether it has such keys and was there when this process started, so that it may have used them before.
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
    /// The same, unless the operator suspended the domain or its owner.
    pub fn live(self) -> Option<Live> {
        let Registered { domain, tenant } = self;
        (!domain.suspended && !tenant.suspended).then_some(Live { domain, tenant })
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

/// A secret that works or did so, and whose it is.
#[derive(Debug)]
pub struct Known {
    /// The domain.
    pub client: Registered,
    /// Which of its secrets.
    pub secret: SecretId,
    /// Unix seconds from which it no longer works, if it was retired.
    pub expires_at: Option<i64>,
}

#[derive(Debug)]
struct Secret {
    id: SecretId,
    domain: Arc<Place<Domain>>,
    /// `i64::MAX` is never.
    expires_at: i64,
}

/// What changed of the keys.
#[derive(Debug, Default)]
struct KeyChanges {
    put: Vec<SigningKey>,
    gone: Vec<String>,
}

impl KeyChanges {
    /// Instead of what was put aside of the same key before.
    fn put(&mut self, row: SigningKey) {
        self.put.retain(|former| former.kid != row.kid);
        self.put.push(row);
    }
}

/// What domains that are gone have used of their limits, by owner and host: who deletes a domain and registers it again gets
/// no fresh limit. Bounded, and of this process.
#[derive(Debug)]
struct FormerMeters {
    hash: RandomState,
    /// When nothing is used any more.
    full_at: Table,
}

/// How many are remembered at most, 17 to 34 bytes each. One account can delete a few of them a minute.
const MAX_FORMER_METERS: usize = 1 << 18;

impl Default for FormerMeters {
    fn default() -> FormerMeters {
        FormerMeters { hash: RandomState::new(), full_at: Table::new(MAX_FORMER_METERS) }
    }
}

impl FormerMeters {
    fn keep(&self, domain: &Domain) {
        let full_at = domain.meter.full_at();
        if full_at > 0
            && let Some(owner) = domain.owner.0.load().as_ref()
        {
            self.full_at.put(self.key(owner.id, &domain.host), full_at, 0);
        }
    }

    fn of(&self, owner: UserId, host: &str) -> Meter {
        Meter::with(self.full_at.get(self.key(owner, host)))
    }

    fn key(&self, owner: UserId, host: &str) -> u64 {
        self.hash.hash_one((owner, host))
    }
}

/// What is kept in mind while rows are applied one after the other.
struct Pass<'a> {
    /// All is read, before the first request.
    at_start: bool,
    /// Changes of keys are put aside.
    keys: &'a mut KeyChanges,
    /// The owner of the domain before: most often the next one's too.
    owner: Option<(UserId, Arc<Place<Tenant>>)>,
}

impl Pass<'_> {
    fn new(keys: &mut KeyChanges, at_start: bool) -> Pass<'_> {
        Pass { at_start, keys, owner: None }
    }
}

/// The tables of the hot path.
#[derive(Debug)]
pub struct Directory {
    tenants: HashMap<i64, Arc<Place<Tenant>>>,
    domains: HashMap<DomainId, Arc<Place<Domain>>>,
    secrets: HashMap<SecretDigest, Secret>,
    hosts: Hosts,
    former_meters: FormerMeters,
    keyring: ArcSwap<Keyring>,
    /// Revoked tokens with their `exp`.
    revoked: HashMap<TokenId, i64>,
    /// The client assertions that were used, here or on another node.
    pub used_assertions: Used,
    /// What has been applied. Not held while a difference is read: a database that hangs must not make others wait for it.
    seen: Mutex<Seen>,
    /// See [`Directory::has_gone_back`].
    went_back: AtomicBool,
    /// See [`Directory::is_outdated`].
    outdated: AtomicBool,
    started: Instant,
    /// Milliseconds after `started` at which the database was last seen to have nothing newer.
    fresh_at: AtomicU64,
}

impl Directory {
    /// A directory that knows nobody yet; the kept keys of the database will join this keyring.
    pub fn new(keyring: Keyring, used_assertions: Used) -> Directory {
        Directory {
            used_assertions,
            keyring: ArcSwap::from_pointee(keyring),
            revoked: HashMap::new(),
            tenants: HashMap::new(),
            domains: HashMap::new(),
            secrets: HashMap::new(),
            hosts: Hosts::default(),
            former_meters: FormerMeters::default(),
            seen: Mutex::default(),
            went_back: AtomicBool::new(false),
            outdated: AtomicBool::new(false),
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

    /// Forgets the limits of former domains of which nothing is used any more (nanoseconds of the meters' clock).
    pub fn prune_former_meters(&self, now: u64) {
        self.former_meters.full_at.prune(now);
    }

    /// Forgets revoked tokens that have expired by then.
    pub fn prune(&self, now: i64) {
        self.revoked.pin().retain(|_, expires_at| *expires_at > now);
    }

    /// The domain whose secret this is. The secret may have been replaced.
    pub fn by_secret(&self, digest: &SecretDigest) -> Option<Known> {
        let secrets = self.secrets.pin();
        let secret = secrets.get(digest)?;
        let expires_at = Some(secret.expires_at).filter(|deadline| *deadline < i64::MAX);
        Some(Known { client: registered(&secret.domain)?, secret: secret.id, expires_at })
    }

    /// The domain of that id.
    pub fn registered(&self, id: &DomainId) -> Option<Registered> {
        registered(self.domains.pin().get(id)?)
    }

    /// Whether `origin`, the value of an `Origin` header, is that of a registered host whose domain is not suspended; its
    /// owner may be.
    pub fn has_live_host(&self, origin: &str) -> bool {
        Host::of_origin(origin).any(|host| self.hosts.contains(host.as_str()))
    }

    /// The domain of that id, if neither it nor its owner is suspended.
    pub fn by_id(&self, id: &DomainId) -> Option<Live> {
        self.registered(id)?.live()
    }

    /// The user of that number, if not suspended.
    pub fn tenant(&self, number: i64) -> Option<Arc<Tenant>> {
        self.tenants.pin().get(&number)?.0.load_full().filter(|tenant| !tenant.suspended)
    }

    /// Whether the database was once found to be older than what has been read of it, or to have forgotten what has not been
    /// read. What was revoked since is not known here, and cannot be learned without a new start.
    pub fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Relaxed)
    }

    /// Whether the database was once found to be older than what has been read of it.
    pub fn has_gone_back(&self) -> bool {
        self.went_back.load(Ordering::Relaxed)
    }

    fn was_fresh_at(&self, asked_at: Duration) {
        self.fresh_at.fetch_max(asked_at.as_millis() as u64, Ordering::Relaxed);
    }

    /// How long ago it was known to be up to date.
    pub fn age(&self) -> Duration {
        let fresh_at = Duration::from_millis(self.fresh_at.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(fresh_at)
    }

    /// How many users there are.
    pub fn user_count(&self) -> usize {
        self.tenants.len()
    }

    /// How many domains there are that are not dormant.
    pub fn domain_count(&self) -> usize {
        self.domains.len()
    }

    /// Applies all but a change of keys, which is put aside.
    fn apply(&self, change: Change, pass: &mut Pass<'_>) {
        match change {
            Change::User(row) if row.ended => self.remove_user(row.id),
            Change::User(row) => {
                let number = row.id.get();
                place(&self.tenants, number).0.store(Some(Arc::new(row)));
            }
            Change::Domain(row) if row.dormant => self.remove_domain(&row.id),
            Change::Domain(row) => self.put_domain(row, pass),
            Change::Secret(row) if row.dormant => drop(self.secrets.pin().remove(&row.digest)),
            Change::Secret(secret::Secret { id, digest, domain_id, expires_at, .. }) => {
                let domain = place(&self.domains, domain_id);
                let expires_at = expires_at.unwrap_or(i64::MAX);
                self.secrets.pin().insert(digest, Secret { id, domain, expires_at });
            }
            Change::SigningKey(row) => pass.keys.put(row),
            Change::Revocation(Revocation { jti, expires_at }) => drop(self.revoked.pin().insert(jti, expires_at)),
            Change::UsedAssertion(UsedAssertion { fingerprint, tenant, expires_at }) => {
                self.used_assertions.learn(fingerprint, tenant, expires_at);
            }
            Change::Gone(gone) => self.remove(gone, pass),
        }
    }

    fn remove(&self, gone: Tombstone, pass: &mut Pass<'_>) {
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
        pass.keys.gone.extend(kid);
    }

    fn remove_domain(&self, id: &DomainId) {
        if let Some(place) = self.domains.pin().remove(id).cloned() {
            let gone = place.0.swap(None);
            if let Some(domain) = &gone {
                self.former_meters.keep(domain);
            }
            self.hosts.change(gone.as_ref().and_then(|domain| domain.live_host()), None);
        }
    }

    fn remove_user(&self, id: UserId) {
        if let Some(place) = self.tenants.pin().remove(&id.get()) {
            place.0.store(None);
        }
    }

    /// All at once: between the end of one key and the beginning of the next there must be no moment without.
    fn change_keys(&self, changes: KeyChanges) {
        if changes.put.is_empty() && changes.gone.is_empty() {
            return;
        }
        let keyring = self.keyring.load();
        let put = changes.put.into_iter().filter_map(|row| {
            let known = keyring.kept(&row.kid);
            let key = known.or_else(|| open(&keyring, &row)).map(|key| Kept { key, term: row.term() });
            if key.is_none() {
                log::error!("the signing key {} cannot be opened with this node's JWT_SECRET", row.kid);
            }
            key
        });
        let changed = keyring.changed(put.collect(), &changes.gone);
        self.keyring.store(Arc::new(changed));
    }

    fn owner(&self, id: UserId, pass: &mut Pass<'_>) -> Arc<Place<Tenant>> {
        let before = pass.owner.take().filter(|(before, _)| *before == id);
        let (_, place) = pass.owner.insert(before.unwrap_or_else(|| (id, place(&self.tenants, id.get()))));
        Arc::clone(place)
    }

    fn put_domain(&self, row: domain::Domain, pass: &mut Pass<'_>) {
        let place_of_it = place(&self.domains, row.id);
        let known = place_of_it.0.load();
        let meter = known.as_ref().map(|domain| Arc::clone(&domain.meter));
        let meter = meter.unwrap_or_else(|| Arc::new(self.former_meters.of(row.user_id, &row.host)));
        let from_before = pass.at_start || known.as_ref().is_some_and(|domain| domain.is_from_before());
        let domain = Domain {
            id: row.id,
            owner: self.owner(row.user_id, pass),
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
        self.hosts.change(known.as_ref().and_then(|domain| domain.live_host()), domain.live_host());
        place_of_it.0.store(Some(Arc::new(domain)));
    }
}

/// The place of that, made where there is none yet.
fn place<K: Hash + Eq, T>(places: &HashMap<K, Arc<Place<T>>>, key: K) -> Arc<Place<T>> {
    Arc::clone(places.pin().get_or_insert_with(key, Place::empty))
}

/// The domain that stands there, if neither it nor its owner is gone.
fn registered(place: &Place<Domain>) -> Option<Registered> {
    let domain = place.0.load_full()?;
    let tenant = domain.owner.0.load_full()?;
    Some(Registered { domain, tenant })
}

fn open(keyring: &Keyring, row: &SigningKey) -> Option<Arc<Key>> {
    let opened = keyring.seal().open(&row.kid, &row.sealed)?;
    Key::load(row.algorithm, &opened.private).filter(|key| key.kid() == row.kid).map(Arc::new)
}
