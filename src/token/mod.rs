//! Tokens: claims, signing and verification, without HTTP, SQL or a clock.
//!
//! `jsonwebtoken::decode` is not used. Its defaults accept what Gatebird must refuse (leeway, a missing `iss` or a list
//! in it, `crit`, any `typ`), and it reports an expired token before it has checked the rest. This module checks the
//! parts in the order of their cost and uses the library for signatures only.

pub mod assertion;
mod cache;
pub mod client_keys;
pub mod keyring;
mod private_key;
mod public_key;
pub mod replay;
pub mod seal;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::{ACCOUNT_SUFFIX, Config};
use crate::id::{DomainId, TokenId};
use keyring::{Key, Keyring};

/// Maximum length of a token. Longer tokens are refused unread.
const MAX_BYTES: usize = 8 * 1024;
/// Maximum clock skew of `iat` and `nbf`, in seconds. `exp` has no leeway.
const MAX_SKEW: i64 = 5;

/// The kind of a token, which the header member `typ` states (RFC 8725 §3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Issued by `/token` to a domain (RFC 9068).
    Access,
    /// Issued by sign-in to a user.
    User,
}

impl Kind {
    const ALL: [Kind; 2] = [Kind::Access, Kind::User];

    /// Returns the value of `typ`.
    pub fn typ(self) -> &'static str {
        match self {
            Kind::Access => "at+jwt",
            Kind::User => "JWT",
        }
    }

    /// Returns the lifetime of such a token, in seconds.
    pub fn ttl(self, config: &Config) -> i64 {
        match self {
            Kind::Access => config.token_ttl,
            Kind::User => config.user_token_ttl,
        }
    }

    /// Returns the lifetime of the longest-lived tokens, in seconds.
    pub fn max_ttl(config: &Config) -> i64 {
        Kind::Access.ttl(config).max(Kind::User.ttl(config))
    }
}

/// The claims of a token. The members and their order are public behavior.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[non_exhaustive]
pub struct Claims<'a> {
    /// The issuer: `JWT_ISSUER`.
    pub iss: Cow<'a, str>,
    /// The domain's public id, or `usr_` and the user's number.
    pub sub: Cow<'a, str>,
    /// The audiences that may accept the token.
    pub aud: Vec<Cow<'a, str>>,
    /// Unix seconds from which the token has expired.
    pub exp: i64,
    /// Unix seconds at which the token was issued.
    pub iat: i64,
    /// Unix seconds before which the token is not valid. Gatebird issues no token with it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub nbf: Option<i64>,
    /// 128 random bits in hexadecimal.
    pub jti: Cow<'a, str>,
    /// The same as `sub`, in access tokens only.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub client_id: Option<Cow<'a, str>>,
    /// The scopes of the token, separated by spaces.
    pub scope: Cow<'a, str>,
    /// The number of the user to whom the data belongs.
    pub id: i64,
    /// The user's display name; `usr_` and the number if the name contains `@` or looks like such an id.
    pub nick: Cow<'a, str>,
    /// The user's name; `usr_` and the number if the name contains `@`, as an e-mail address does. No other user's name
    /// looks like such an id.
    pub username: Cow<'a, str>,
    /// The domain's host, in access tokens only.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub host: Option<Cow<'a, str>>,
    /// Whether the host is verified, in access tokens only.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub host_verified: Option<bool>,
    /// The generation of the domain and the user. Tokens of an earlier generation are revoked.
    #[serde(rename = "gen")]
    pub generation: i64,
}

/// Signs claims with the key that signs at their `iat`.
pub fn issue(keyring: &Keyring, kind: Kind, claims: &Claims<'_>) -> String {
    let key = keyring.signing(claims.iat);
    let header = key.header(kind);
    // Large enough for most tokens, because growing a buffer costs more than encoding. An RSA signature does not fit,
    // but takes a hundred times as long. Larger blocks, from 1 KiB, cost the allocator more.
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

/// A token with a valid signature, well-formed claims and the right kind. The caller must still check the audience, the
/// owner, revocation and, last, `exp`.
#[derive(Debug)]
pub struct VerifiedToken {
    /// The kind of the token.
    pub kind: Kind,
    /// The domain or user that the token was issued to.
    pub subject: Subject,
    /// The `jti`.
    pub id: TokenId,
    /// The claims.
    pub claims: Claims<'static>,
    /// Unix seconds from which the key no longer verifies.
    key_until: i64,
}

/// The owner of a token.
#[derive(Clone, Copy, Debug)]
pub enum Subject {
    /// A domain.
    Domain(DomainId),
    /// A user's number.
    User(i64),
}

impl VerifiedToken {
    /// Returns whether this server itself may accept the token.
    pub fn is_for_us(&self, config: &Config) -> bool {
        match self.kind {
            Kind::Access => self.is_for(&config.issuer),
            Kind::User => {
                self.claims.aud.iter().any(|named| named.strip_prefix(&*config.issuer) == Some(ACCOUNT_SUFFIX))
            }
        }
    }

    /// Returns whether the token is for that audience.
    pub fn is_for(&self, audience: &str) -> bool {
        self.claims.aud.iter().any(|named| named == audience)
    }

    /// Returns whether the token has that scope.
    pub fn allows(&self, scope: &str) -> bool {
        self.claims.scope.split(' ').any(|carried| carried == scope)
    }

    /// Returns whether the token has expired at `now`. Only a token that is valid in every other respect may be
    /// reported as expired.
    pub fn has_expired(&self, now: i64) -> bool {
        now >= self.claims.exp
    }
}

/// Verifies a token, except for its audience, owner, revocation and `exp`. `None` does not say why a token is refused.
/// A token that was verified before is found by its digest.
pub fn verify(token: &str, keyring: &Keyring, config: &Config, now: i64) -> Option<Arc<VerifiedToken>> {
    if token.len() > MAX_BYTES {
        return None;
    }
    let fingerprint = cache::fingerprint(token);
    if let Some(known) = keyring.cache.get(&fingerprint, now) {
        return Some(known);
    }
    let token = Arc::new(verify_uncached(token, keyring, config, now)?);
    keyring.cache.put(fingerprint, &token);
    Some(token)
}

fn verify_uncached(token: &str, keyring: &Keyring, config: &Config, now: i64) -> Option<VerifiedToken> {
    let (header, payload, signature) = split(token)?;
    let message = &token[..header.len() + 1 + payload.len()];
    // Headers of tokens issued here are spelt in one way and are found without parsing.
    let (kind, key, key_until) = keyring.find_by_header(header, now).or_else(|| read_header(header, keyring, now))?;
    if !key.verify(message.as_bytes(), signature) {
        return None;
    }
    let claims: Claims<'static> = parse_strict(&decode(payload)?)?;
    let (subject, id) = (subject(kind, &claims)?, TokenId::parse(&claims.jti)?);
    let past = 0..=now + MAX_SKEW;
    let acceptable = claims.iss == config.issuer
        && past.contains(&claims.iat)
        && claims.nbf.is_none_or(|nbf| past.contains(&nbf))
        && claims.exp.checked_sub(claims.iat).is_some_and(|life| (1..=kind.ttl(config)).contains(&life));
    acceptable.then_some(VerifiedToken { kind, subject, id, claims, key_until })
}

/// Reads a header. Returns the kind, the key that must have signed the token, and the Unix seconds from which that key
/// no longer verifies.
fn read_header<'a>(header: &str, keyring: &'a Keyring, now: i64) -> Option<(Kind, &'a Key, i64)> {
    let header = decode(header)?;
    let header: Header<'_> = parse_strict(&header)?;
    let kind = Kind::ALL.into_iter().find(|kind| Some(kind.typ()) == header.typ.as_deref())?;
    let (key, until) = keyring.find(header.kid.as_deref()?, now)?;
    (key.algorithm().name() == header.alg).then_some((kind, key, until))
}

/// Splits a compact JWS into header, payload and signature.
fn split(token: &str) -> Option<(&str, &str, &str)> {
    let (message, signature) = token.rsplit_once('.')?;
    // A fourth part would be in the header or the payload, and a dot is not valid base64url.
    let (header, payload) = message.split_once('.')?;
    Some((header, payload, signature))
}

/// Deserializes a member that may be absent but not `null`.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Returns the owner of a token, if the claims that name the owner agree with each other and with the kind.
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

/// Decodes canonical base64url: padding and stray bits are refused, so that no token has a second spelling.
fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// Parses an object without repeated members. All of it must be UTF-8, including ignored members (RFC 8259 §8.1).
fn parse_strict<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Option<T> {
    let json = str::from_utf8(json).ok()?;
    let UniqueMembers = serde_json::from_str(json).ok()?;
    serde_json::from_str(json).ok()
}

/// The header members that are used, and those that are refused.
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

/// A member that would change the meaning of a token. Its presence is refused, even with `null`.
#[derive(Default)]
struct Forbidden;

impl<'de> Deserialize<'de> for Forbidden {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("this member is refused"))
    }
}

/// Proves that an object has no repeated member. Derived parsers notice only repetitions of members that they know.
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
        // The order does not matter, and most names differ in length.
        names.sort_unstable_by(|Name(a), Name(b)| (a.len(), a).cmp(&(b.len(), b)));
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            Err(A::Error::custom("a member is repeated"))
        } else {
            Ok(UniqueMembers)
        }
    }
}

/// A member's name, borrowed from the text unless it has escapes.
#[derive(PartialEq, Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
