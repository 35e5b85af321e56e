//! Keys: the one that signs and those that verify, found by `kid`, each within its time.
//!
//! A kept key is published before it signs, signs until the next one does, and verifies until the longest-lived token of
//! it has expired. All of that follows from the times in its row, so nothing has to happen on time.

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
use super::{Kind, SKEW};
use crate::config::{Algorithm, Config, HmacSecret};
use crate::id::Stamp;

/// Seconds that a JWKS may be cached.
pub const JWKS_MAX_AGE: i64 = 300;
/// Seconds that a key is published before it signs: three times as long as anybody may go on without it.
pub const PUBLISHED_AHEAD: i64 = 3 * JWKS_MAX_AGE;
/// Seconds within which each key that was planned by a right clock signs.
pub const PLANNED_WITHIN: i64 = PUBLISHED_AHEAD + 60;
/// Seconds after which every node of ours has heard of a change.
pub const KNOWN_TO_ALL: i64 = 3;

/// One key with the only algorithm it may be used with (RFC 8725 §3.1).
pub struct Key {
    kid: String,
    algorithm: Algorithm,
    signing: Signing,
    verifying: Verifying,
    /// The public half; an HMAC key has none.
    jwk: Option<Jwk>,
    /// The encoded headers, which are the same for each token of a kind.
    access_header: String,
    user_header: String,
}

enum Signing {
    Hmac(Box<hmac::Key>),
    Private(PrivateKey),
}

/// An HMAC is verified by what made it: the library would take the secret apart again for every token.
enum Verifying {
    Hmac(Box<hmac::Key>),
    Public(DecodingKey),
}

impl Key {
    /// A key for HS256. Its `kid` is derived from the secret and the epoch: nodes of one database agree on it, and a token of
    /// an earlier epoch names an unknown key.
    pub fn hs256(secret: &HmacSecret, epoch: Stamp) -> Key {
        let named = [b"gatebird kid\0", epoch.as_bytes().as_slice(), secret.as_bytes()].concat();
        let kid = URL_SAFE_NO_PAD.encode(&digest(&SHA256, &named).as_ref()[..9]);
        let key = Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
        Key::new(kid, Algorithm::Hs256, Signing::Hmac(key.clone()), Verifying::Hmac(key), None)
    }

    /// Makes a key and gives it as PKCS#8 as well; `None` for HS256, whose key is JWT_SECRET.
    pub fn generate(algorithm: Algorithm) -> Option<(Key, Vec<u8>)> {
        let private = PrivateKey::generate(algorithm)?;
        let key = Key::load(algorithm, &private).expect("what was just made can be read");
        Some((key, private))
    }

    /// Reads a key in PKCS#8. Its `kid` is its thumbprint (RFC 7638).
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

    /// The name by which a token's header finds it.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The one algorithm that a header naming this key has to have.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public half in PEM; an HMAC key has none.
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

    /// The signature over `message`.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.signing {
            Signing::Hmac(key) => hmac::sign(key, message).as_ref().to_vec(),
            Signing::Private(key) => key.sign(message),
        }
    }

    /// Whether `signature`, in base64url, is this key's over `message`; an HMAC is compared in constant time.
    pub(super) fn verify(&self, message: &[u8], signature: &str) -> bool {
        match &self.verifying {
            Verifying::Hmac(key) => {
                // The decoder asks for a little more room than the 32 bytes need.
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

/// Shows which key it is and nothing of the key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.kid)
    }
}

/// When a kept key signs, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// From then on, until a key with a later time does.
    pub signs_from: i64,
    /// Not from then on, whether or not another key follows.
    pub signs_until: Option<i64>,
}

/// What a kept key is for at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Published, and signs later.
    Next,
    /// Signs.
    Signing,
    /// Only verifies what it signed, until that second.
    Verifying {
        /// Unix seconds.
        until: i64,
    },
    /// Does nothing any more.
    Over,
}

impl Term {
    /// What the key is for; `next` is when the one after it signs from, and `longest_life` is that of a token, in seconds.
    fn phase(self, next: Option<i64>, longest_life: i64, now: i64) -> Phase {
        let end = [self.signs_until, next].into_iter().flatten().min();
        match end {
            Some(end) if end <= now => {
                let until = last_use(end, longest_life);
                // One that was given up before its time has signed nothing; one that began in the very second may have.
                if now < until && self.signs_from <= end { Phase::Verifying { until } } else { Phase::Over }
            }
            _ if self.signs_from > now => Phase::Next,
            _ => Phase::Signing,
        }
    }
}

/// The phases of all kept keys, given in the order in which they sign; `longest_life` is that of a token, in seconds.
pub fn phases(terms: &[Term], longest_life: i64, now: i64) -> Vec<Phase> {
    let next = |index: usize| terms.get(index + 1).map(|next| next.signs_from);
    terms.iter().enumerate().map(|(index, term)| term.phase(next(index), longest_life, now)).collect()
}

/// The second from which a key that signed until `end` need not verify: its last token has expired, and a node whose
/// clock is a little behind may have signed a little later.
fn last_use(end: i64, longest_life: i64) -> i64 {
    end + longest_life + 12 * SKEW
}

/// A kept key with its times.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The key.
    pub key: Arc<Key>,
    /// When it signs.
    pub term: Term,
}

/// All keys of this node. A changed one is a new one; readers of the old are not disturbed.
#[derive(Debug)]
pub struct Keyring {
    root: Arc<Root>,
    epoch: Stamp,
    /// Of JWT_SECRET, and of JWT_SECRET_PREVIOUS.
    hmac: Arc<[Key]>,
    /// In the order in which they sign.
    kept: Vec<Kept>,
    /// What this keyring has verified. A new keyring begins with none, so what a key has verified goes with it.
    pub(super) verified: Verified,
}

/// What does not change while the process runs.
struct Root {
    /// JWT_SECRET, and JWT_SECRET_PREVIOUS.
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
    /// A keyring without kept keys, which signs with JWT_SECRET for lack of another key.
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

    /// The epoch whose tokens it signs and verifies.
    pub fn epoch(&self) -> Stamp {
        self.epoch
    }

    /// This keyring in another epoch.
    pub fn in_epoch(&self, epoch: Stamp) -> Keyring {
        let (root, kept) = (Arc::clone(&self.root), self.kept.clone());
        Keyring { hmac: root.hmac(epoch), root, epoch, kept, verified: Verified::default() }
    }

    /// This keyring after a change of the kept keys: some put in, some gone.
    pub fn changed(&self, put: Vec<Kept>, gone: &[String]) -> Keyring {
        let stays = |kept: &&Kept| !gone.contains(&kept.key.kid) && put.iter().all(|new| new.key.kid != kept.key.kid);
        let mut kept: Vec<Kept> = self.kept.iter().filter(stays).cloned().collect();
        kept.extend(put.into_iter().filter(|new| !gone.contains(&new.key.kid)));
        kept.sort_by(|a, b| (a.term.signs_from, &a.key.kid).cmp(&(b.term.signs_from, &b.key.kid)));
        let (root, hmac) = (Arc::clone(&self.root), Arc::clone(&self.hmac));
        Keyring { root, hmac, epoch: self.epoch, kept, verified: Verified::default() }
    }

    /// A kept key as it was: parsing one again would cost a millisecond.
    pub fn kept(&self, kid: &str) -> Option<Arc<Key>> {
        self.kept.iter().find(|kept| kept.key.kid == kid).map(|kept| Arc::clone(&kept.key))
    }

    /// Whether a token may carry a signature that costs more than an HMAC.
    pub(super) fn has_kept_keys(&self) -> bool {
        !self.kept.is_empty()
    }

    /// What seals and opens private keys.
    pub fn seal(&self) -> &Seal {
        &self.root.seal
    }

    /// JWT_ALGORITHM.
    pub fn algorithm(&self) -> Algorithm {
        self.root.algorithm
    }

    /// The longest life of a token in seconds.
    pub fn longest_life(&self) -> i64 {
        self.root.longest_life
    }

    /// The key that signs at `now`.
    pub(super) fn signing(&self, now: i64) -> &Key {
        if self.root.algorithm == Algorithm::Hs256 {
            return &self.hmac[0];
        }
        let begun = || self.kept.iter().rev().filter(|kept| kept.term.signs_from <= now);
        let open = begun().find(|kept| kept.term.signs_until.is_none_or(|until| now < until));
        // Where one is about to begin, JWT_SECRET signs until then; where all were ended from elsewhere a moment ago, the last
        // one goes on until upkeep makes another.
        let all_ended = self.kept.iter().all(|kept| kept.term.signs_until.is_some());
        let key = open.or_else(|| begun().next().filter(|_| all_ended));
        key.map_or(&self.hmac[0], |kept| &kept.key)
    }

    /// The kind and the key of the tokens whose encoded header is this one, as far as they are ours; and the second from
    /// which the key verifies nothing.
    pub(super) fn find_by_header(&self, header: &str, now: i64) -> Option<(Kind, &Key, i64)> {
        Kind::ALL.into_iter().find_map(|kind| {
            let (key, until) = self.find_key(|key| key.header(kind) == header, now)?;
            Some((kind, key, until))
        })
    }

    /// The key of that name, if a token may still carry it at `now`, and the second from which it may not.
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

    /// With another JWT_ALGORITHM, tokens of before that hold until the last of them has expired.
    fn hmac_until(&self) -> i64 {
        let open = self.kept.iter().filter(|kept| kept.term.signs_until.is_none());
        let ended = open.map(|kept| kept.term.signs_from).min().filter(|_| self.root.algorithm != Algorithm::Hs256);
        ended.map_or(i64::MAX, |end| last_use(end, self.root.longest_life))
    }

    /// Whether a kept key is over, or the next one has to be made.
    pub fn needs_upkeep(&self, period: Option<i64>, now: i64) -> bool {
        self.phases(now).contains(&Phase::Over) || self.wants_next(period, now)
    }

    /// Whether the next key has to be made now.
    pub fn wants_next(&self, period: Option<i64>, now: i64) -> bool {
        self.next_signs_from(&self.terms(), period, now).is_some()
    }

    /// From when the next key has to sign, if it has to be made now: `period` seconds after the present one began, and
    /// published for long enough by then. A key that a wrong clock has put into the far future is none to wait for.
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

    /// The public keys that a verifier needs at `now` or soon, the next one included (RFC 7517 §5).
    pub fn published(&self, now: i64) -> Vec<&Jwk> {
        let phases = self.phases(now);
        let kept = self.kept.iter().zip(phases).filter(|(_, phase)| *phase != Phase::Over);
        kept.filter_map(|(kept, _)| kept.key.jwk.as_ref()).collect()
    }
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: i64 = 3600;

    fn term(signs_from: i64, signs_until: Option<i64>) -> Term {
        Term { signs_from, signs_until }
    }

    #[test]
    fn a_key_is_published_signs_verifies_and_is_over() {
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
    fn an_ended_key_verifies_only_what_it_has_signed() {
        let terms = [term(1000, Some(1500)), term(2000, Some(1500))];
        assert_eq!(phases(&terms, LIFE, 1600), [Phase::Verifying { until: 1500 + LIFE + 60 }, Phase::Over]);
    }
}
