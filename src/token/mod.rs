//! Tokens: what they say, how they are signed and when they are ours. Pure: no HTTP, no SQL, no clock.
//!
//! Why not `jsonwebtoken::decode`: its defaults let through what the contract refuses (leeway, an absent or listed
//! `iss`, `crit`, any `typ`), and it says "expired" before it has looked at the rest. So the parts are checked
//! here, in the order of cost, and the library does what it is for: signatures.

pub mod assertion;
pub mod client_keys;
pub mod keyring;
mod private_key;
pub mod replay;
pub mod seal;
mod verified;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::{ACCOUNT, Config};
use crate::id::{DomainId, TokenId};
use keyring::{Key, Keyring};

/// Longer tokens are not looked at.
const MOST_BYTES: usize = 8 * 1024;
/// How far the clock that wrote `iat` or `nbf` may be ahead of ours, in seconds. For `exp` there is no leeway.
const SKEW: i64 = 5;

/// The two kinds of token; the `typ` of the header tells them apart (RFC 8725 §3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Issued by `/token` to a domain (RFC 9068).
    Access,
    /// Issued by sign-in to a person.
    User,
}

impl Kind {
    /// Both of them.
    const ALL: [Kind; 2] = [Kind::Access, Kind::User];

    /// The value of `typ`.
    pub fn typ(self) -> &'static str {
        match self {
            Kind::Access => "at+jwt",
            Kind::User => "JWT",
        }
    }

    /// The life of such a token in seconds.
    pub fn ttl(self, config: &Config) -> i64 {
        match self {
            Kind::Access => config.token_ttl,
            Kind::User => config.user_token_ttl,
        }
    }

    /// The life of the longest-lived token in seconds.
    pub fn longest_ttl(config: &Config) -> i64 {
        Kind::Access.ttl(config).max(Kind::User.ttl(config))
    }
}

/// What a token says. The members and their order are the contract's.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Claims<'a> {
    /// The issuer: `JWT_ISSUER`.
    pub iss: Cow<'a, str>,
    /// The domain's public id, or `usr_` and the user's number.
    pub sub: Cow<'a, str>,
    /// Who may accept the token.
    pub aud: Vec<Cow<'a, str>>,
    /// Unix seconds from which the token is dead.
    pub exp: i64,
    /// Unix seconds at which it was issued.
    pub iat: i64,
    /// Unix seconds before which it is not valid; we issue none.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub nbf: Option<i64>,
    /// 128 random bits in hexadecimal.
    pub jti: Cow<'a, str>,
    /// The same as `sub`, in access tokens only.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub client_id: Option<Cow<'a, str>>,
    /// What it allows, separated by spaces.
    pub scope: Cow<'a, str>,
    /// The number of the user to whom the data belongs.
    pub id: i64,
    /// How that user wants to be called; `usr_` and the number where that has an `@` or reads like such an id.
    pub nick: Cow<'a, str>,
    /// That user's name; `usr_` and the number where that has an `@`, as an e-mail address does. Nobody else's name reads
    /// like that.
    pub username: Cow<'a, str>,
    /// The domain's host, in access tokens only.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub host: Option<Cow<'a, str>>,
    /// Whether control of that host was proven, in access tokens only.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub host_verified: Option<bool>,
    /// The generation of domain and user; tokens of an earlier one are revoked.
    #[serde(rename = "gen")]
    pub generation: i64,
}

/// Signs the claims with the key of the time at which they say to be issued.
pub fn issue(keyring: &Keyring, kind: Kind, claims: &Claims<'_>) -> String {
    let key = keyring.signing(claims.iat);
    let header = key.header(kind);
    // Enough for most, so that neither grows: that costs more than the encoding. An RSA signature does not fit, but that
    // one takes a hundred times as long; blocks above a KiB cost the allocator more than those below.
    let mut payload = Vec::with_capacity(640);
    serde_json::to_writer(&mut payload, claims).expect("claims are plain JSON");
    let mut token = String::with_capacity(header.len() + payload.len() * 4 / 3 + 96);
    token.push_str(header);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(&payload, &mut token);
    let signature = key.sign(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(&signature, &mut token);
    token
}

/// Claims that carry our signature and are well-formed and of the right kind. Whom the token is for, whether its owner
/// still exists, whether it was revoked, and last of all whether it has expired, is not yet known.
#[derive(Debug)]
pub struct Authentic {
    /// Which kind it is.
    pub kind: Kind,
    /// Whose token it is.
    pub subject: Subject,
    /// Its `jti`.
    pub id: TokenId,
    /// What it says.
    pub claims: Claims<'static>,
    /// The second from which its key verifies nothing.
    key_until: i64,
}

/// Whose token it is.
#[derive(Clone, Copy, Debug)]
pub enum Subject {
    /// A domain.
    Domain(DomainId),
    /// A user, by number.
    User(i64),
}

impl Authentic {
    /// Whether this server itself may accept it.
    pub fn is_for_us(&self, config: &Config) -> bool {
        match self.kind {
            Kind::Access => self.is_for(&config.issuer),
            Kind::User => self.claims.aud.iter().any(|named| named.strip_prefix(&*config.issuer) == Some(ACCOUNT)),
        }
    }

    /// Whether it may be accepted by that audience.
    pub fn is_for(&self, audience: &str) -> bool {
        self.claims.aud.iter().any(|named| named == audience)
    }

    /// Whether it carries that scope.
    pub fn allows(&self, scope: &str) -> bool {
        self.claims.scope.split(' ').any(|carried| carried == scope)
    }

    /// Whether the token is dead at `now`. Say so only of a token that is live in every other respect.
    pub fn has_expired(&self, now: i64) -> bool {
        now >= self.claims.exp
    }
}

/// Verifies all of a token but its audience, its owner and `exp`. `None` is any token that is not ours; why is not told.
/// A token that was verified before is found again by its digest.
pub fn verify(token: &str, keyring: &Keyring, config: &Config, now: i64) -> Option<Arc<Authentic>> {
    if token.len() > MOST_BYTES {
        return None;
    }
    // The HMAC of a token is as quick as the digest by which it would be found.
    if !keyring.has_kept_keys() {
        return verify_anew(token, keyring, config, now).map(Arc::new);
    }
    let fingerprint = verified::fingerprint(token);
    if let Some(known) = keyring.verified.get(&fingerprint, now) {
        return Some(known);
    }
    let token = Arc::new(verify_anew(token, keyring, config, now)?);
    keyring.verified.put(fingerprint, &token);
    Some(token)
}

fn verify_anew(token: &str, keyring: &Keyring, config: &Config, now: i64) -> Option<Authentic> {
    let (header, payload, signature) = split(token)?;
    let message = &token[..header.len() + 1 + payload.len()];
    // Ours are spelt in one way, which is found without reading it.
    let (kind, key, key_until) = keyring.find_by_header(header, now).or_else(|| read_header(header, keyring, now))?;
    if !key.verify(message.as_bytes(), signature) {
        return None;
    }
    let claims: Claims<'static> = strict(&decode(payload)?)?;
    let (subject, id) = (subject(kind, &claims)?, TokenId::parse(&claims.jti)?);
    let past = 0..=now + SKEW;
    let acceptable = claims.iss == config.issuer
        && past.contains(&claims.iat)
        && claims.nbf.is_none_or(|nbf| past.contains(&nbf))
        && claims.exp.checked_sub(claims.iat).is_some_and(|life| (1..=kind.ttl(config)).contains(&life));
    acceptable.then_some(Authentic { kind, subject, id, claims, key_until })
}

/// What a header says: the kind of the token, the key that is to have signed it, and the second from which it may not.
fn read_header<'a>(header: &str, keyring: &'a Keyring, now: i64) -> Option<(Kind, &'a Key, i64)> {
    let header = decode(header)?;
    let header: Header<'_> = strict(&header)?;
    let kind = Kind::ALL.into_iter().find(|kind| Some(kind.typ()) == header.typ.as_deref())?;
    let (key, until) = keyring.find(header.kid.as_deref()?, now)?;
    (key.algorithm().name() == header.alg).then_some((kind, key, until))
}

/// The three parts of a compact JWS.
fn split(token: &str) -> Option<(&str, &str, &str)> {
    let (message, signature) = token.rsplit_once('.')?;
    // A fourth part would stand in one of these, and a dot is no base64url.
    let (header, payload) = message.split_once('.')?;
    Some((header, payload, signature))
}

/// A member that may be absent, but not `null`.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The members that tie a token to its owner have to agree with its kind and with each other.
fn subject(kind: Kind, claims: &Claims<'_>) -> Option<Subject> {
    match kind {
        Kind::Access => {
            let consistent = claims.client_id.as_ref() == Some(&claims.sub) && claims.host.is_some();
            DomainId::parse(&claims.sub).filter(|_| consistent).map(Subject::Domain)
        }
        Kind::User => {
            let number = claims.sub.strip_prefix("usr_")?;
            let of_a_client = claims.client_id.is_some() || claims.host.is_some() || claims.host_verified.is_some();
            let consistent = !of_a_client && number == claims.id.to_string();
            consistent.then_some(Subject::User(claims.id))
        }
    }
}

/// Canonical base64url only: no padding, no stray bits, so that no two strings are one token.
fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// Parses an object in which no member occurs twice. All of it must be UTF-8, also what nobody reads (RFC 8259 §8.1).
fn strict<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Option<T> {
    let json = str::from_utf8(json).ok()?;
    let UniqueMembers = serde_json::from_str(json).ok()?;
    serde_json::from_str(json).ok()
}

/// The header members that count, and those that may not be there.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    kid: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    typ: Option<Cow<'a, str>>,
    #[serde(default, rename = "crit")]
    _crit: Forbidden,
    #[serde(default, rename = "jku")]
    _jku: Forbidden,
    #[serde(default, rename = "jwk")]
    _jwk: Forbidden,
    #[serde(default, rename = "x5u")]
    _x5u: Forbidden,
    #[serde(default, rename = "x5c")]
    _x5c: Forbidden,
    #[serde(default, rename = "zip")]
    _zip: Forbidden,
    #[serde(default, rename = "b64")]
    _b64: Forbidden,
}

/// A member that would change how a token is read, which we never do; `null` is no exception.
#[derive(Default)]
struct Forbidden;

impl<'de> Deserialize<'de> for Forbidden {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("this member is not accepted"))
    }
}

/// Proof that an object has no member twice; derived parsers see that only of members they know.
struct UniqueMembers;

impl<'de> Deserialize<'de> for UniqueMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueMembers)
    }
}

impl<'de> Visitor<'de> for UniqueMembers {
    type Value = UniqueMembers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object without repeated members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMembers, A::Error> {
        let mut names: Vec<Name<'de>> = Vec::with_capacity(16);
        while let Some((name, IgnoredAny)) = map.next_entry()? {
            names.push(name);
        }
        // The order is no matter, and most names differ in their length.
        names.sort_unstable_by(|Name(a), Name(b)| (a.len(), a).cmp(&(b.len(), b)));
        match names.windows(2).any(|pair| pair[0] == pair[1]) {
            true => Err(A::Error::custom("a member is repeated")),
            false => Ok(UniqueMembers),
        }
    }
}

/// A member's name, borrowed from the text where it has no escapes.
#[derive(PartialEq, Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
