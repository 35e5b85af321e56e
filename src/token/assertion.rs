//! Client assertions: a client's own signature in place of a secret (`private_key_jwt`, RFC 7523 §2.2 and §3).
//!
//! An assertion is good once. Each node remembers in memory what was used, until it expires. After a restart it cannot know
//! what was used before, so an assertion that may be older is not taken then, unless its client is younger than that.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use papaya::HashMap;
use serde::Deserialize;

use super::client_keys::ClientKeys;
use super::{Header, MOST_BYTES, SKEW, decode, present, split, strict};
use crate::id::{DomainId, UserId};

/// The value of `client_assertion_type`.
pub const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How far ahead `exp` may be, in seconds: so long a used one has to be remembered.
const LONGEST_LIFE: i64 = 3600;
/// So many used ones are remembered at most, of some 100 bytes each; nobody gets in beyond.
const MOST_USED: usize = 1 << 20;
/// And so many of one tenant, so that nobody takes the others' room.
const MOST_OF_ONE: u32 = 1 << 15;

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
    /// It was made when this process could remember its use.
    remembered: bool,
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
        let fingerprint = digest(&SHA256, &named).as_ref()[..16].try_into().expect("sixteen bytes");
        // Clocks that are ahead make assertions that look younger than they are.
        let since = at.remembers_since.saturating_add(SKEW) as f64;
        let made = claims.iat.or(claims.nbf).unwrap_or(claims.exp - LONGEST_LIFE as f64);
        Use { fingerprint, expires_at: claims.exp.ceil() as i64, remembered: made > since }
    })
}

/// The assertions that were used.
#[derive(Debug, Default)]
pub struct Used {
    noted: HashMap<[u8; 16], Noted>,
    /// How many of each tenant are noted.
    held: HashMap<i64, AtomicU32>,
}

#[derive(Debug)]
struct Noted {
    expires_at: i64,
    tenant: i64,
}

/// Nobody can say whether an assertion was used before, or will be able to later: so it cannot be taken now.
#[derive(Debug)]
pub struct Forgetful;

impl Used {
    /// Takes note of a use; whether it is the first.
    ///
    /// # Errors
    /// When that is not known, or cannot be remembered.
    pub fn is_first(&self, used: &Use, tenant: UserId) -> Result<bool, Forgetful> {
        let tenant = tenant.get();
        let (noted, held) = (self.noted.pin(), self.held.pin());
        if noted.contains_key(&used.fingerprint) {
            return Ok(false);
        }
        let held = held.get_or_insert_with(tenant, AtomicU32::default);
        if !used.remembered || noted.len() >= MOST_USED || held.load(Ordering::Relaxed) >= MOST_OF_ONE {
            return Err(Forgetful);
        }
        held.fetch_add(1, Ordering::Relaxed);
        Ok(noted.try_insert(used.fingerprint, Noted { expires_at: used.expires_at, tenant }).is_ok())
    }

    /// Forgets what has expired.
    pub fn prune(&self, now: i64) {
        let (noted, held) = (self.noted.pin(), self.held.pin());
        noted.retain(|_, noted| noted.expires_at > now);
        let mut counts: std::collections::HashMap<i64, u32> = std::collections::HashMap::new();
        for noted in noted.values() {
            *counts.entry(noted.tenant).or_default() += 1;
        }
        held.retain(|tenant, _| counts.contains_key(tenant));
        for (tenant, count) in counts {
            held.get_or_insert_with(tenant, AtomicU32::default).store(count, Ordering::Relaxed);
        }
    }
}
