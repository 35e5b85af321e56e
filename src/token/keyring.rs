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
use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{DecodingKey, crypto};
use serde_json::json;

use super::private_key::PrivateKey;
use super::seal::Seal;
use super::verified::Verified;
use super::{Kind, MAX_SKEW};
use crate::config::{Algorithm, Config, HmacSecret};
use crate::id::Stamp;

/// Seconds for which verifiers may cache the JWKS.
pub const JWKS_MAX_AGE: i64 = 300;
/// Seconds for which a key is published before it signs: three times the cache lifetime.
pub const PUBLISHED_AHEAD: i64 = 3 * JWKS_MAX_AGE;
/// Seconds within which a key starts to sign, if its time was set by a correct clock.
pub const PLANNED_WITHIN: i64 = PUBLISHED_AHEAD + 60;
/// Seconds after which every node has read a change.
pub const KNOWN_TO_ALL: i64 = 3;

/// A key with the only algorithm that it may be used with (RFC 8725 §3.1).
pub struct Key {
    kid: String,
    algorithm: Algorithm,
    signing: Signing,
    verifying: Verifying,
    /// The public half; `None` for an HMAC key.
    jwk: Option<Jwk>,
    /// The encoded headers of the two kinds of token.
    access_header: String,
    user_header: String,
}

enum Signing {
    Hmac(Box<hmac::Key>),
    Private(PrivateKey),
}

/// An HMAC is verified with the parsed key, because the library would parse the secret for every token.
enum Verifying {
    Hmac(Box<hmac::Key>),
    Public(DecodingKey),
}

impl Key {
    /// Creates the HS256 key of a secret in an epoch. Its `kid` is derived from both, so that all nodes of a database
    /// agree on it and tokens of an earlier epoch have an unknown `kid`.
    pub fn hs256(secret: &HmacSecret, epoch: Stamp) -> Key {
        let named = [b"gatebird kid\0", epoch.as_bytes().as_slice(), secret.as_bytes()].concat();
        let kid = URL_SAFE_NO_PAD.encode(&digest(&SHA256, &named).as_ref()[..9]);
        let key = Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
        Key::new(kid, Algorithm::Hs256, Signing::Hmac(key.clone()), Verifying::Hmac(key), None)
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
        let public = private.public();
        let mut jwk = Jwk::from_decoding_key(&public, Some(algorithm.of_library())).ok()?;
        let kid = jwk.thumbprint(ThumbprintHash::SHA256).ok()?;
        jwk.common.key_id = Some(kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Some(Key::new(kid, algorithm, Signing::Private(private), Verifying::Public(public), Some(jwk)))
    }

    fn new(kid: String, algorithm: Algorithm, signing: Signing, verifying: Verifying, jwk: Option<Jwk>) -> Key {
        let header = |kind: Kind| {
            let header = json!({"typ": kind.typ(), "alg": algorithm.name(), "kid": kid});
            URL_SAFE_NO_PAD.encode(header.to_string())
        };
        let (access_header, user_header) = (header(Kind::Access), header(Kind::User));
        Key { access_header, user_header, kid, algorithm, signing, verifying, jwk }
    }

    /// Returns the name by which a token's header refers to the key.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns the only algorithm that a header with this `kid` may have.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the public half in PEM; `None` for an HMAC key.
    pub fn public_pem(&self) -> Option<String> {
        match &self.signing {
            Signing::Hmac(_) => None,
            Signing::Private(key) => Some(key.public_pem()),
        }
    }

    pub(super) fn header(&self, kind: Kind) -> &str {
        match kind {
            Kind::Access => &self.access_header,
            Kind::User => &self.user_header,
        }
    }

    /// Returns the signature over `message`.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.signing {
            Signing::Hmac(key) => hmac::sign(key, message).as_ref().to_vec(),
            Signing::Private(key) => key.sign(message),
        }
    }

    /// Returns whether `signature`, in base64url, is this key's signature over `message`. HMACs are compared in
    /// constant time.
    pub(super) fn verify(&self, message: &[u8], signature: &str) -> bool {
        match &self.verifying {
            Verifying::Hmac(key) => {
                // The decoder requires slightly more space than the 32 bytes of the tag.
                let mut tag = [0; 36];
                let length = URL_SAFE_NO_PAD.decode_slice(signature, &mut tag);
                length.is_ok_and(|length| hmac::verify(key, message, &tag[..length]).is_ok())
            }
            Verifying::Public(key) => {
                crypto::verify(signature, message, key, self.algorithm.of_library()).unwrap_or(false)
            }
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
pub struct Term {
    /// The key signs from then on, until a key with a later time does.
    pub signs_from: i64,
    /// The key does not sign from then on, even if no other key follows.
    pub signs_until: Option<i64>,
}

/// The state of a stored key at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Published; will sign later.
    Next,
    /// Signs and verifies.
    Signing,
    /// Verifies only what it signed, until that time.
    Verifying {
        /// Unix seconds.
        until: i64,
    },
    /// Neither signs nor verifies.
    Over,
}

impl Term {
    /// Returns the state of the key at `now`. `next` is the time from which the next key signs; `longest_life` is the
    /// maximum lifetime of a token in seconds.
    fn phase(self, next: Option<i64>, longest_life: i64, now: i64) -> Phase {
        let end = [self.signs_until, next].into_iter().flatten().min();
        match end {
            Some(end) if end <= now => {
                let until = last_use(end, longest_life);
                // A key that was ended before its time has signed nothing. A key that started in the same second may
                // have signed.
                if now < until && self.signs_from <= end { Phase::Verifying { until } } else { Phase::Over }
            }
            _ if self.signs_from > now => Phase::Next,
            _ => Phase::Signing,
        }
    }
}

/// Returns the states of all stored keys, given in the order in which they sign. `longest_life` is the maximum lifetime
/// of a token in seconds.
pub fn phases(terms: &[Term], longest_life: i64, now: i64) -> Vec<Phase> {
    let next = |index: usize| terms.get(index + 1).map(|next| next.signs_from);
    terms.iter().enumerate().map(|(index, term)| term.phase(next(index), longest_life, now)).collect()
}

/// Returns the time from which a key that signed until `end` need not verify, in Unix seconds. Its last token has
/// expired then, with a margin for a node whose slow clock made it sign a little later.
fn last_use(end: i64, longest_life: i64) -> i64 {
    end + longest_life + 12 * MAX_SKEW
}

#[derive(Clone, Debug)]
pub struct Kept {
    pub key: Arc<Key>,
    pub term: Term,
}

/// All keys of a node. A change creates a new keyring, so that readers keep the one that they use.
#[derive(Debug)]
pub struct Keyring {
    root: Arc<Root>,
    epoch: Stamp,
    /// The keys of JWT_SECRET and JWT_SECRET_PREVIOUS.
    hmac: Arc<[Key]>,
    /// In the order in which they sign.
    kept: Vec<Kept>,
    /// The tokens that this keyring has verified. A new keyring starts empty, so a removed key takes its verified
    /// tokens with it.
    pub(super) verified: Verified,
}

/// The settings of the process.
struct Root {
    /// JWT_SECRET and JWT_SECRET_PREVIOUS.
    secrets: Vec<HmacSecret>,
    algorithm: Algorithm,
    longest_life: i64,
    seal: Seal,
}

impl Root {
    fn hmac(&self, epoch: Stamp) -> Arc<[Key]> {
        self.secrets.iter().map(|secret| Key::hs256(secret, epoch)).collect()
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root({})", self.algorithm.name())
    }
}

impl Keyring {
    /// Creates a keyring without stored keys, which signs with JWT_SECRET.
    pub fn new(secret: &HmacSecret, config: &Config, epoch: Stamp) -> Keyring {
        let previous = config.jwt_secret_previous.as_ref();
        let root = Root {
            secrets: [Some(secret), previous].into_iter().flatten().cloned().collect(),
            algorithm: config.jwt_algorithm,
            longest_life: Kind::longest_ttl(config),
            seal: Seal::new(secret, previous),
        };
        Keyring { hmac: root.hmac(epoch), root: Arc::new(root), epoch, kept: Vec::new(), verified: Verified::default() }
    }

    /// Returns the epoch whose tokens this keyring signs and verifies.
    pub fn epoch(&self) -> Stamp {
        self.epoch
    }

    /// Returns this keyring in another epoch.
    pub fn in_epoch(&self, epoch: Stamp) -> Keyring {
        let (root, kept) = (Arc::clone(&self.root), self.kept.clone());
        Keyring { hmac: root.hmac(epoch), root, epoch, kept, verified: Verified::default() }
    }

    /// Returns this keyring with some stored keys added or replaced, and some removed.
    pub fn changed(&self, put: Vec<Kept>, gone: &[String]) -> Keyring {
        let stays = |kept: &&Kept| !gone.contains(&kept.key.kid) && put.iter().all(|new| new.key.kid != kept.key.kid);
        let mut kept: Vec<Kept> = self.kept.iter().filter(stays).cloned().collect();
        kept.extend(put.into_iter().filter(|new| !gone.contains(&new.key.kid)));
        kept.sort_by(|a, b| (a.term.signs_from, &a.key.kid).cmp(&(b.term.signs_from, &b.key.kid)));
        let (root, hmac) = (Arc::clone(&self.root), Arc::clone(&self.hmac));
        Keyring { root, hmac, epoch: self.epoch, kept, verified: Verified::default() }
    }

    /// Returns a stored key. Used to keep a key when its row changes, because loading it again would take a
    /// millisecond.
    pub fn kept(&self, kid: &str) -> Option<Arc<Key>> {
        self.kept.iter().find(|kept| kept.key.kid == kid).map(|kept| Arc::clone(&kept.key))
    }

    /// Returns what seals and opens private keys.
    pub fn seal(&self) -> &Seal {
        &self.root.seal
    }

    /// JWT_ALGORITHM.
    pub fn algorithm(&self) -> Algorithm {
        self.root.algorithm
    }

    /// Returns the maximum lifetime of a token, in seconds.
    pub fn longest_life(&self) -> i64 {
        self.root.longest_life
    }

    /// Returns the key that signs at `now`.
    pub(super) fn signing(&self, now: i64) -> &Key {
        if self.root.algorithm == Algorithm::Hs256 {
            return &self.hmac[0];
        }
        let begun = || self.kept.iter().rev().filter(|kept| kept.term.signs_from <= now);
        let open = begun().find(|kept| kept.term.signs_until.is_none_or(|until| now < until));
        // JWT_SECRET signs until the first stored key starts. If another node has ended all keys, the last one
        // continues until maintenance creates a new key.
        let all_ended = self.kept.iter().all(|kept| kept.term.signs_until.is_some());
        let key = open.or_else(|| begun().next().filter(|_| all_ended));
        key.map_or(&self.hmac[0], |kept| &kept.key)
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
        let index = self.kept.iter().position(|kept| is(&kept.key))?;
        let next = self.kept.get(index + 1).map(|next| next.term.signs_from);
        let until = match self.kept[index].term.phase(next, self.root.longest_life, now) {
            Phase::Next | Phase::Signing => i64::MAX,
            Phase::Verifying { until } => until,
            Phase::Over => return None,
        };
        Some((&self.kept[index].key, until))
    }

    /// The time from which HMAC keys no longer verify. After JWT_ALGORITHM has changed from HS256, their tokens stay
    /// valid until the last one has expired.
    fn hmac_until(&self) -> i64 {
        let open = self.kept.iter().filter(|kept| kept.term.signs_until.is_none());
        let ended = open.map(|kept| kept.term.signs_from).min().filter(|_| self.root.algorithm != Algorithm::Hs256);
        ended.map_or(i64::MAX, |end| last_use(end, self.root.longest_life))
    }

    /// Returns whether a stored key has expired, or the next one must be created.
    pub fn needs_upkeep(&self, period: Option<i64>, now: i64) -> bool {
        self.phases(now).contains(&Phase::Over) || self.wants_next(period, now)
    }

    /// Returns whether the next key must be created now.
    pub fn wants_next(&self, period: Option<i64>, now: i64) -> bool {
        self.next_signs_from(&self.terms(), period, now).is_some()
    }

    /// Returns the time from which the next key must sign, if it must be created now. That is `period` seconds after
    /// the present key started, or later if the key could not be published long enough. A key that a wrong clock has
    /// put into the far future does not count.
    pub fn next_signs_from(&self, terms: &[Term], period: Option<i64>, now: i64) -> Option<i64> {
        if self.root.algorithm == Algorithm::Hs256 {
            return None;
        }
        let planned = |term: &&Term| term.signs_until.is_none() && term.signs_from <= now + PLANNED_WITHIN;
        let Some(last) = terms.iter().rev().find(planned) else {
            return Some(now + KNOWN_TO_ALL);
        };
        let due = last.signs_from + period?;
        (due - PUBLISHED_AHEAD <= now).then(|| due.max(now + PUBLISHED_AHEAD))
    }

    fn terms(&self) -> Vec<Term> {
        self.kept.iter().map(|kept| kept.term).collect()
    }

    fn phases(&self, now: i64) -> Vec<Phase> {
        phases(&self.terms(), self.root.longest_life, now)
    }

    /// Returns the public keys that verifiers need at `now` or soon, including the next key (RFC 7517 §5).
    pub fn published(&self, now: i64) -> Vec<&Jwk> {
        let phases = self.phases(now);
        let kept = self.kept.iter().zip(phases).filter(|(_, phase)| *phase != Phase::Over);
        kept.filter_map(|(kept, _)| kept.key.jwk.as_ref()).collect()
    }
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
#[allow(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use super::*;

    const LIFE: i64 = 3600;

    fn term(signs_from: i64, signs_until: Option<i64>) -> Term {
        Term { signs_from, signs_until }
    }

    #[test]
    fn key_state__follows_from_the_times_of_the_keys() {
        let terms = [term(1000, None), term(2000, None)];
        let over = 2000 + LIFE + 60;
        for (now, expected) in [
            (500, [Phase::Next, Phase::Next]),
            (1000, [Phase::Signing, Phase::Next]),
            (1999, [Phase::Signing, Phase::Next]),
            (2000, [Phase::Verifying { until: over }, Phase::Signing]),
            (over - 1, [Phase::Verifying { until: over }, Phase::Signing]),
            (over, [Phase::Over, Phase::Signing]),
        ] {
            assert_eq!(phases(&terms, LIFE, now), expected, "{now}");
        }
    }

    #[test]
    fn key_state__ended_key_verifies_only_if_it_has_signed() {
        let terms = [term(1000, Some(1500)), term(2000, Some(1500))];
        assert_eq!(phases(&terms, LIFE, 1600), [Phase::Verifying { until: 1500 + LIFE + 60 }, Phase::Over]);
    }
}
