//! The keyring: the signing key and the verifying keys of a node, found by `kid`.
//!
//! A stored key is published before it signs, signs until the next key does, and verifies until the last token that it
//! signed has expired. All of this follows from the timestamps of its row, so late maintenance is harmless.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use serde_json::json;

use super::cache::TokenCache;
use super::private_key::PrivateKey;
use super::public_key::PublicKey;
use super::seal::Seal;
use super::{Kind, MAX_SKEW};
use crate::config::{Algorithm, Config, HmacSecret};
use crate::id::Stamp;

/// Seconds for which verifiers may cache the JWKS.
pub const JWKS_MAX_AGE: i64 = 300;
/// Seconds for which a key is published before it signs: three times the cache lifetime.
pub const PUBLICATION_LEAD: i64 = 3 * JWKS_MAX_AGE;
/// Seconds within which a key starts to sign, if its time was set by a correct clock.
pub const MAX_PLANNED_LEAD: i64 = PUBLICATION_LEAD + 60;
/// Seconds after which every node has read a change.
pub const PROPAGATION_TIME: i64 = 3;

/// A key of the server.
pub struct Key {
    kid: String,
    material: Material,
    /// The encoded header of each kind of token.
    headers: [String; Kind::ALL.len()],
}

/// Keys are parsed once. The library would parse an HMAC secret or a private key for every token.
enum Material {
    Hmac(Box<hmac::Key>),
    Pair { private: PrivateKey, public: PublicKey, jwk: Box<Jwk> },
}

impl Key {
    /// Creates the HS256 key of a secret in an epoch. Its `kid` is derived from both, so that all nodes of a database
    /// agree on it and tokens of an earlier epoch have an unknown `kid`.
    pub fn hs256(secret: &HmacSecret, epoch: Stamp) -> Key {
        let named = [b"gatebird kid\0", epoch.as_bytes().as_slice(), secret.as_bytes()].concat();
        let kid = URL_SAFE_NO_PAD.encode(&digest(&SHA256, &named).as_ref()[..9]);
        Key::new(kid, Material::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))))
    }

    /// Generates a key, and returns it with its PKCS#8 form. `None` for HS256, whose key is JWT_SECRET.
    pub fn generate(algorithm: Algorithm) -> Option<(Key, Vec<u8>)> {
        let private = PrivateKey::generate(algorithm)?;
        let key = Key::load(algorithm, &private).expect("a generated key can be loaded");
        Some((key, private))
    }

    /// Loads a key from PKCS#8. Its `kid` is its RFC 7638 thumbprint.
    pub fn load(algorithm: Algorithm, pkcs8: &[u8]) -> Option<Key> {
        let private = PrivateKey::load(algorithm, pkcs8)?;
        let (public, mut jwk, kid) = PublicKey::new(algorithm, private.public())?;
        jwk.common.key_id = Some(kid.clone());
        Some(Key::new(kid, Material::Pair { private, public, jwk: Box::new(jwk) }))
    }

    fn new(kid: String, material: Material) -> Key {
        let key = Key { kid, material, headers: Default::default() };
        let header = |kind: Kind| json!({"typ": kind.typ(), "alg": key.algorithm().name(), "kid": key.kid});
        let headers = Kind::ALL.map(|kind| URL_SAFE_NO_PAD.encode(header(kind).to_string()));
        Key { headers, ..key }
    }

    /// Returns the name by which a token's header refers to the key.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns the only algorithm that a header with this `kid` may have (RFC 8725 §3.1).
    pub fn algorithm(&self) -> Algorithm {
        match &self.material {
            Material::Hmac(_) => Algorithm::Hs256,
            Material::Pair { public, .. } => public.algorithm,
        }
    }

    /// Returns the public half in PEM; `None` for an HMAC key.
    pub fn public_pem(&self) -> Option<String> {
        match &self.material {
            Material::Hmac(_) => None,
            Material::Pair { private, .. } => Some(private.public_pem()),
        }
    }

    fn jwk(&self) -> Option<&Jwk> {
        match &self.material {
            Material::Hmac(_) => None,
            Material::Pair { jwk, .. } => Some(jwk),
        }
    }

    pub(super) fn header(&self, kind: Kind) -> &str {
        &self.headers[kind as usize]
    }

    /// Returns the signature over `message`.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.material {
            Material::Hmac(key) => hmac::sign(key, message).as_ref().to_vec(),
            Material::Pair { private, .. } => private.sign(message),
        }
    }

    /// Returns whether `signature`, in base64url, is this key's signature over `message`. HMACs are compared in
    /// constant time.
    pub(super) fn verify(&self, message: &[u8], signature: &str) -> bool {
        match &self.material {
            Material::Hmac(key) => {
                // The decoder requires slightly more space than the 32 bytes of the tag.
                let mut tag = [0; 36];
                let length = URL_SAFE_NO_PAD.decode_slice(signature, &mut tag);
                length.is_ok_and(|length| hmac::verify(key, message, &tag[..length]).is_ok())
            }
            Material::Pair { public, .. } => public.verify(message, signature),
        }
    }
}

/// Shows the `kid` only.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.kid)
    }
}

/// When a stored key signs, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTimes {
    /// The key signs from then on, until a key with a later time does.
    pub signs_from: i64,
    /// The key does not sign from then on, even if no other key follows.
    pub signs_until: Option<i64>,
}

/// The state of a stored key at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Published; will sign later.
    Pending,
    /// Signs and verifies.
    Active,
    /// Verifies only what it signed, until that time.
    Retiring {
        /// Unix seconds.
        until: i64,
    },
    /// Neither signs nor verifies.
    Expired,
}

impl KeyTimes {
    /// Returns the state of the key at `now`. `next` is the time from which the next key signs; `max_lifetime` is the
    /// maximum lifetime of a token in seconds.
    fn state(self, next: Option<i64>, max_lifetime: i64, now: i64) -> KeyState {
        let end = [self.signs_until, next].into_iter().flatten().min();
        match end {
            Some(end) if end <= now => {
                let until = verifies_until(end, max_lifetime);
                // A key that was ended before its time has signed nothing. A key that started in the same second may
                // have signed.
                if now < until && self.signs_from <= end { KeyState::Retiring { until } } else { KeyState::Expired }
            }
            _ if self.signs_from > now => KeyState::Pending,
            _ => KeyState::Active,
        }
    }
}

/// Returns the states of all stored keys, given in the order in which they sign. `max_lifetime` is the maximum lifetime
/// of a token in seconds.
pub fn key_states(times: &[KeyTimes], max_lifetime: i64, now: i64) -> Vec<KeyState> {
    let next = |index: usize| times.get(index + 1).map(|next| next.signs_from);
    times.iter().enumerate().map(|(index, times)| times.state(next(index), max_lifetime, now)).collect()
}

/// Returns the time from which a key that signed until `end` need not verify, in Unix seconds. Its last token has
/// expired then, with a margin for a node whose slow clock made it sign a little later.
fn verifies_until(end: i64, max_lifetime: i64) -> i64 {
    end + max_lifetime + 12 * MAX_SKEW
}

/// A key that the database stores.
#[derive(Clone, Debug)]
pub struct StoredKey {
    /// The key.
    pub key: Arc<Key>,
    /// The times of the key.
    pub times: KeyTimes,
}

/// All keys of a node. A change creates a new keyring, so that readers keep the one that they use.
#[derive(Debug)]
pub struct Keyring {
    settings: Arc<Settings>,
    epoch: Stamp,
    /// The keys of JWT_SECRET and JWT_SECRET_PREVIOUS.
    hmac: Arc<[Key]>,
    /// In the order in which they sign.
    stored: Vec<StoredKey>,
    /// The tokens that this keyring has verified. A new keyring starts empty, so a removed key takes its verified
    /// tokens with it.
    pub(super) cache: TokenCache,
}

/// The settings of the process.
struct Settings {
    /// JWT_SECRET and JWT_SECRET_PREVIOUS.
    secrets: Vec<HmacSecret>,
    algorithm: Algorithm,
    max_lifetime: i64,
    seal: Seal,
}

impl Settings {
    fn hmac(&self, epoch: Stamp) -> Arc<[Key]> {
        self.secrets.iter().map(|secret| Key::hs256(secret, epoch)).collect()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings({})", self.algorithm.name())
    }
}

impl Keyring {
    /// Creates a keyring without stored keys, which signs with JWT_SECRET.
    pub fn new(secret: &HmacSecret, config: &Config, epoch: Stamp) -> Keyring {
        let previous = config.jwt_secret_previous.as_ref();
        let settings = Settings {
            secrets: [Some(secret), previous].into_iter().flatten().cloned().collect(),
            algorithm: config.jwt_algorithm,
            max_lifetime: Kind::max_ttl(config),
            seal: Seal::new(secret, previous),
        };
        Keyring {
            hmac: settings.hmac(epoch),
            settings: Arc::new(settings),
            epoch,
            stored: Vec::new(),
            cache: TokenCache::default(),
        }
    }

    /// Returns the epoch whose tokens this keyring signs and verifies.
    pub fn epoch(&self) -> Stamp {
        self.epoch
    }

    /// Returns this keyring in another epoch.
    pub fn in_epoch(&self, epoch: Stamp) -> Keyring {
        let (settings, stored) = (Arc::clone(&self.settings), self.stored.clone());
        Keyring { hmac: settings.hmac(epoch), settings, epoch, stored, cache: TokenCache::default() }
    }

    /// Returns this keyring with some stored keys added or replaced, and some removed.
    pub fn changed(&self, put: Vec<StoredKey>, gone: &[String]) -> Keyring {
        let stays = |stored: &&StoredKey| {
            !gone.contains(&stored.key.kid) && put.iter().all(|new| new.key.kid != stored.key.kid)
        };
        let mut stored: Vec<StoredKey> = self.stored.iter().filter(stays).cloned().collect();
        stored.extend(put.into_iter().filter(|new| !gone.contains(&new.key.kid)));
        stored.sort_by(|a, b| (a.times.signs_from, &a.key.kid).cmp(&(b.times.signs_from, &b.key.kid)));
        let (settings, hmac) = (Arc::clone(&self.settings), Arc::clone(&self.hmac));
        Keyring { settings, hmac, epoch: self.epoch, stored, cache: TokenCache::default() }
    }

    /// Returns a stored key. Used to keep a key when its row changes, because loading it again would take a
    /// millisecond.
    pub fn stored(&self, kid: &str) -> Option<Arc<Key>> {
        self.stored.iter().find(|stored| stored.key.kid == kid).map(|stored| Arc::clone(&stored.key))
    }

    /// Returns what seals and opens private keys.
    pub fn seal(&self) -> &Seal {
        &self.settings.seal
    }

    /// JWT_ALGORITHM.
    pub fn algorithm(&self) -> Algorithm {
        self.settings.algorithm
    }

    /// Returns the maximum lifetime of a token, in seconds.
    pub fn max_lifetime(&self) -> i64 {
        self.settings.max_lifetime
    }

    /// Returns the key that signs at `now`.
    pub(super) fn signing(&self, now: i64) -> &Key {
        if self.settings.algorithm == Algorithm::Hs256 {
            return &self.hmac[0];
        }
        let begun = || self.stored.iter().rev().filter(|stored| stored.times.signs_from <= now);
        let open = begun().find(|stored| stored.times.signs_until.is_none_or(|until| now < until));
        // JWT_SECRET signs until the first stored key starts. If another node has ended all keys, the last one
        // continues until maintenance creates a new key.
        let all_ended = self.stored.iter().all(|stored| stored.times.signs_until.is_some());
        let key = open.or_else(|| begun().next().filter(|_| all_ended));
        key.map_or(&self.hmac[0], |stored| &stored.key)
    }

    /// Returns the kind and the key of tokens with this encoded header, and the Unix seconds from which the key no
    /// longer verifies. `None` if the header is not spelt as in tokens issued here.
    pub(super) fn find_by_header(&self, header: &str, now: i64) -> Option<(Kind, &Key, i64)> {
        Kind::ALL.into_iter().find_map(|kind| {
            let (key, until) = self.find_key(|key| key.header(kind) == header, now)?;
            Some((kind, key, until))
        })
    }

    /// Returns the key with that `kid`, unless it no longer verifies at `now`, and the Unix seconds from which it no
    /// longer verifies.
    pub(super) fn find(&self, kid: &str, now: i64) -> Option<(&Key, i64)> {
        self.find_key(|key| key.kid == kid, now)
    }

    fn find_key(&self, is: impl Fn(&Key) -> bool, now: i64) -> Option<(&Key, i64)> {
        if let Some(key) = self.hmac.iter().find(|key| is(key)) {
            let until = self.hmac_until();
            return (now < until).then_some((key, until));
        }
        let index = self.stored.iter().position(|stored| is(&stored.key))?;
        let next = self.stored.get(index + 1).map(|next| next.times.signs_from);
        let until = match self.stored[index].times.state(next, self.settings.max_lifetime, now) {
            KeyState::Pending | KeyState::Active => i64::MAX,
            KeyState::Retiring { until } => until,
            KeyState::Expired => return None,
        };
        Some((&self.stored[index].key, until))
    }

    /// The time from which HMAC keys no longer verify. After JWT_ALGORITHM has changed from HS256, their tokens stay
    /// valid until the last one has expired.
    fn hmac_until(&self) -> i64 {
        let open = self.stored.iter().filter(|stored| stored.times.signs_until.is_none());
        let ended =
            open.map(|stored| stored.times.signs_from).min().filter(|_| self.settings.algorithm != Algorithm::Hs256);
        ended.map_or(i64::MAX, |end| verifies_until(end, self.settings.max_lifetime))
    }

    /// Returns whether a stored key has expired, or the next one must be created.
    pub fn needs_maintenance(&self, period: Option<i64>, now: i64) -> bool {
        self.key_states(now).contains(&KeyState::Expired) || self.needs_next_key(period, now)
    }

    /// Returns whether the next key must be created now.
    pub fn needs_next_key(&self, period: Option<i64>, now: i64) -> bool {
        self.next_signs_from(&self.times(), period, now).is_some()
    }

    /// Returns the time from which the next key must sign, if it must be created now. That is `period` seconds after
    /// the present key started, or later if the key could not be published long enough. A key that a wrong clock has
    /// put into the far future does not count.
    pub fn next_signs_from(&self, times: &[KeyTimes], period: Option<i64>, now: i64) -> Option<i64> {
        if self.settings.algorithm == Algorithm::Hs256 {
            return None;
        }
        let planned = |times: &&KeyTimes| times.signs_until.is_none() && times.signs_from <= now + MAX_PLANNED_LEAD;
        let Some(last) = times.iter().rev().find(planned) else {
            return Some(now + PROPAGATION_TIME);
        };
        let due = last.signs_from + period?;
        (due - PUBLICATION_LEAD <= now).then(|| due.max(now + PUBLICATION_LEAD))
    }

    fn times(&self) -> Vec<KeyTimes> {
        self.stored.iter().map(|stored| stored.times).collect()
    }

    fn key_states(&self, now: i64) -> Vec<KeyState> {
        key_states(&self.times(), self.settings.max_lifetime, now)
    }

    /// Returns the public keys that verifiers need at `now` or soon, including the next key (RFC 7517 §5).
    pub fn published(&self, now: i64) -> Vec<&Jwk> {
        let key_states = self.key_states(now);
        let stored = self.stored.iter().zip(key_states).filter(|(_, state)| *state != KeyState::Expired);
        stored.filter_map(|(stored, _)| stored.key.jwk()).collect()
    }
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
#[allow(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use super::*;

    const LIFE: i64 = 3600;

    fn times(signs_from: i64, signs_until: Option<i64>) -> KeyTimes {
        KeyTimes { signs_from, signs_until }
    }

    #[test]
    fn key_state__follows_from_the_times_of_the_keys() {
        let times = [times(1000, None), times(2000, None)];
        let over = 2000 + LIFE + 60;
        for (now, expected) in [
            (500, [KeyState::Pending, KeyState::Pending]),
            (1000, [KeyState::Active, KeyState::Pending]),
            (1999, [KeyState::Active, KeyState::Pending]),
            (2000, [KeyState::Retiring { until: over }, KeyState::Active]),
            (over - 1, [KeyState::Retiring { until: over }, KeyState::Active]),
            (over, [KeyState::Expired, KeyState::Active]),
        ] {
            assert_eq!(key_states(&times, LIFE, now), expected, "{now}");
        }
    }

    #[test]
    fn key_state__ended_key_verifies_only_if_it_has_signed() {
        let times = [times(1000, Some(1500)), times(2000, Some(1500))];
        assert_eq!(key_states(&times, LIFE, 1600), [KeyState::Retiring { until: 1500 + LIFE + 60 }, KeyState::Expired]);
    }
}
