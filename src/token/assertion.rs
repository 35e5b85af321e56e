//! Client assertions: a client's own signature in place of a secret (`private_key_jwt`, RFC 7523 §2.2 and §3).
//!
//! An assertion is good once; [`super::replay`] remembers what was used, until it expires. After a restart it cannot know
//! all that was used before: not what this node took in its last half second or while the database was away. So an assertion
//! that may be older than the process is not taken, unless its client is younger than that.

use std::borrow::Cow;

use serde::Deserialize;

use super::client_keys::ClientKeys;
use super::replay::Fingerprint;
use super::{Header, MOST_BYTES, SKEW, decode, present, split, strict};
use crate::id::DomainId;

/// The value of `client_assertion_type`.
pub const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How far ahead `exp` may be, in seconds: so long a used one has to be remembered.
pub(crate) const LONGEST_LIFE: i64 = 3600;

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
    pub(super) fingerprint: Fingerprint,
    pub(super) expires_at: i64,
    /// It was made when this process could remember its use.
    pub(super) remembered: bool,
}

/// When and where an assertion is judged.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// What `aud` may name: the issuer, or the endpoint that is called.
    pub audiences: &'a [&'a str],
    /// Unix seconds.
    pub now: i64,
    /// Unix seconds from which on every use of this client's assertions is remembered.
    pub remembers_since: i64,
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
        && claims.iat.is_none_or(|iat| iat <= latest && claims.exp - iat <= (LONGEST_LIFE + SKEW) as f64)
        && claims.nbf.is_none_or(|nbf| nbf <= latest)
        && (1..=256).contains(&claims.jti.len());
    good.then(|| {
        let named = [client.as_str().as_bytes(), claims.jti.as_bytes()].concat();
        let fingerprint = Fingerprint::of(&named);
        // Clocks that are ahead make assertions that look younger than they are.
        let since = at.remembers_since.saturating_add(SKEW) as f64;
        let made = claims.iat.or(claims.nbf).unwrap_or(claims.exp - LONGEST_LIFE as f64);
        Use { fingerprint, expires_at: claims.exp.ceil() as i64, remembered: made > since }
    })
}
