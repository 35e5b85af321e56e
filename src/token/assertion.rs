//! Client assertions: a client's own signature in place of a secret (`private_key_jwt`, RFC 7523 §2.2 and §3).
//!
//! An assertion is good once. What was used is remembered in memory until it expires, so: on one node, up to a restart. An
//! assertion that says to be older than this process is refused, because nobody remembers whether it was used.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};
use papaya::HashMap;
use serde::Deserialize;

use super::client_keys::ClientKeys;
use super::{Header, MOST_BYTES, SKEW, decode, present, split, strict};
use crate::id::DomainId;

/// The value of `client_assertion_type`.
pub const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How far ahead `exp` may be, in seconds: so long a used one has to be remembered.
const LONGEST_LIFE: i64 = 3600;
/// So many used ones are remembered at most, of some 100 bytes each; nobody gets in beyond.
const MOST_USED: usize = 1 << 20;

#[derive(Deserialize)]
struct Claims<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
    #[serde(borrow)]
    sub: Cow<'a, str>,
    #[serde(borrow)]
    aud: Audience<'a>,
    exp: f64,
    #[serde(default, deserialize_with = "present")]
    iat: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<f64>,
    #[serde(borrow)]
    jti: Cow<'a, str>,
}

/// One audience or several (RFC 7519 §4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(#[serde(borrow)] Cow<'a, str>),
    Several(#[serde(borrow)] Vec<Cow<'a, str>>),
}

impl Audience<'_> {
    fn names_one_of(&self, accepted: &[&str]) -> bool {
        match self {
            Audience::One(audience) => accepted.contains(&audience.as_ref()),
            Audience::Several(audiences) => audiences.iter().any(|audience| accepted.contains(&audience.as_ref())),
        }
    }
}

/// The client that an assertion says to be of; nothing of it has been checked.
pub fn claimed_client(assertion: &str) -> Option<DomainId> {
    let (_, payload, _) = split(assertion).filter(|_| assertion.len() <= MOST_BYTES)?;
    let payload = decode(payload)?;
    let claims: Claims<'_> = strict(&payload)?;
    DomainId::parse(&claims.sub)
}

/// One use of an assertion that is good, unless it was used before.
#[derive(Debug)]
pub struct Use {
    fingerprint: [u8; 16],
    expires_at: i64,
}

/// When and where an assertion is judged.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// What `aud` may name: the issuer, or the endpoint that is called.
    pub audiences: &'a [&'a str],
    /// Unix seconds.
    pub now: i64,
    /// Unix seconds at which this process began to remember.
    pub started_at: i64,
}

/// Verifies all of an assertion but whether it was used before. `None` is any that is not good; why is not told.
pub fn verify(assertion: &str, client: &DomainId, keys: &ClientKeys, at: Circumstances<'_>) -> Option<Use> {
    let (header, payload, signature) = split(assertion).filter(|_| assertion.len() <= MOST_BYTES)?;
    let message = &assertion[..header.len() + 1 + payload.len()];
    let (header, payload) = (decode(header)?, decode(payload)?);
    let header: Header<'_> = strict(&header)?;
    let typed = header
        .typ
        .is_none_or(|typ| ["JWT", "client-authentication+jwt"].iter().any(|known| known.eq_ignore_ascii_case(&typ)));
    if !typed || !keys.verify(&header.alg, header.kid.as_deref(), message.as_bytes(), signature) {
        return None;
    }
    let claims: Claims<'_> = strict(&payload)?;
    let now = at.now as f64;
    let latest = now + SKEW as f64;
    let good = claims.iss == client.as_str()
        && claims.sub == client.as_str()
        && claims.aud.names_one_of(at.audiences)
        && claims.exp > now
        && claims.exp <= latest + LONGEST_LIFE as f64
        && claims.iat.is_none_or(|iat| iat <= latest && iat >= at.started_at as f64)
        && claims.nbf.is_none_or(|nbf| nbf <= latest)
        && (1..=256).contains(&claims.jti.len());
    good.then(|| {
        let named = [client.as_str().as_bytes(), claims.jti.as_bytes()].concat();
        let fingerprint = digest(&SHA256, &named).as_ref()[..16].try_into().expect("sixteen bytes");
        Use { fingerprint, expires_at: claims.exp.ceil() as i64 }
    })
}

/// The assertions that were used.
#[derive(Debug, Default)]
pub struct Used(HashMap<[u8; 16], i64>);

/// There is no room to remember a use, so it cannot be accepted.
#[derive(Debug)]
pub struct Full;

impl Used {
    /// Takes note of a use; whether it is the first.
    ///
    /// # Errors
    /// When it cannot be remembered.
    pub fn is_first(&self, used: &Use) -> Result<bool, Full> {
        let noted = self.0.pin();
        match noted.len() < MOST_USED {
            true => Ok(noted.try_insert(used.fingerprint, used.expires_at).is_ok()),
            false => Err(Full),
        }
    }

    /// Forgets what has expired.
    pub fn prune(&self, now: i64) {
        self.0.pin().retain(|_, expires_at| *expires_at > now);
    }
}
