//! Client assertions: a client's signature in place of a secret (`private_key_jwt`, RFC 7523 §2.2 and §3).
//!
//! An assertion is accepted once; [`super::replay`] remembers used assertions until they expire. A restarted process
//! does not know those of its last half second, or those it accepted while the database did not answer. So it refuses
//! an assertion that may be older than the process, unless the client was registered later.

use serde::Deserialize;

use super::client_keys::ClientKeys;
use super::replay::Fingerprint;
use super::{Header, MAX_BYTES, decode, parse_strict, present, split};
use crate::error::ClientProblem;
use crate::id::DomainId;

/// The value of `client_assertion_type`.
pub const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Maximum time until `exp`, in seconds. Used assertions are remembered for that long.
pub(crate) const MAX_LIFETIME: i64 = 3600;
/// Maximum skew of the client's clock, in seconds (FAPI 2.0 Security Profile §5.3.2.1).
const MAX_SKEW: i64 = 10;

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: f64,
    #[serde(default, deserialize_with = "present")]
    iat: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<f64>,
    jti: String,
}

/// One audience or several (RFC 7519 §4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn names_one_of(&self, accepted: &[&str]) -> bool {
        match self {
            Audience::One(audience) => accepted.contains(&audience.as_str()),
            Audience::Several(audiences) => audiences.iter().any(|audience| accepted.contains(&audience.as_str())),
        }
    }
}

/// A valid assertion that may have been used before.
#[derive(Debug)]
pub struct AssertionUse {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) expires_at: i64,
    /// Whether the assertion was made when this process already remembered used ones.
    pub(super) remembered: bool,
}

/// The time and place at which an assertion is verified.
#[derive(Clone, Copy, Debug)]
pub struct AssertionContext<'a> {
    /// Accepted values of `aud`: the issuer and the called endpoint.
    pub audiences: &'a [&'a str],
    /// Unix seconds.
    pub now: i64,
    /// Unix seconds from which all used assertions of this client are remembered.
    pub remembers_since: i64,
}

/// A well-formed assertion. Its signature and claims are not verified.
pub struct Assertion<'a> {
    message: &'a str,
    signature: &'a str,
    header: Vec<u8>,
    claims: Claims,
}

impl Assertion<'_> {
    /// Parses an assertion.
    pub fn parse(text: &str) -> Option<Assertion<'_>> {
        let (header, payload, signature) = split(text).filter(|_| text.len() <= MAX_BYTES)?;
        let message = &text[..header.len() + 1 + payload.len()];
        Some(Assertion { message, signature, header: decode(header)?, claims: parse_strict(&decode(payload)?)? })
    }

    /// Returns the client that the assertion claims to be from.
    pub fn client(&self) -> Option<DomainId> {
        DomainId::parse(&self.claims.sub)
    }

    /// Verifies the assertion with the keys of its client, except whether it was used before. `None` if the client did not
    /// sign it. Otherwise the client may learn what is wrong with it.
    pub fn verify(&self, keys: &ClientKeys, at: AssertionContext<'_>) -> Option<Result<AssertionUse, ClientProblem>> {
        let header: Header<'_> = parse_strict(&self.header)?;
        let types = ["JWT", "client-authentication+jwt"];
        let typed = header.typ.is_none_or(|typ| types.iter().any(|known| known.eq_ignore_ascii_case(&typ)));
        let signed = || keys.verify(&header.alg, header.kid.as_deref(), self.message.as_bytes(), self.signature);
        (typed && signed()).then(|| self.claims.judge(at))
    }
}

impl Claims {
    fn judge(&self, at: AssertionContext<'_>) -> Result<AssertionUse, ClientProblem> {
        let now = at.now as f64;
        let latest = now + MAX_SKEW as f64;
        let is_ahead = |time: Option<f64>| time.is_some_and(|time| time > latest);
        let life = self.iat.map_or(0.0, |iat| self.exp - iat);
        let problem = match self {
            _ if self.iss != self.sub || !(1..=256).contains(&self.jti.len()) => ClientProblem::Assertion,
            _ if !self.aud.names_one_of(at.audiences) => ClientProblem::AssertionAudience,
            _ if self.exp <= now => ClientProblem::AssertionExpired,
            _ if is_ahead(self.nbf) || is_ahead(self.iat) => ClientProblem::AssertionNotYet,
            _ if self.exp > latest + MAX_LIFETIME as f64 || life > (MAX_LIFETIME + MAX_SKEW) as f64 => {
                ClientProblem::AssertionLifetime
            }
            _ => return Ok(self.used(at.remembers_since)),
        };
        Err(problem)
    }

    fn used(&self, remembers_since: i64) -> AssertionUse {
        let fingerprint = Fingerprint::of(&[self.sub.as_bytes(), self.jti.as_bytes()].concat());
        // A fast clock makes an assertion look younger than it is.
        let since = remembers_since.saturating_add(MAX_SKEW) as f64;
        let made = self.iat.or(self.nbf).unwrap_or(self.exp - MAX_LIFETIME as f64);
        AssertionUse { fingerprint, expires_at: self.exp.ceil() as i64, remembered: made > since }
    }
}
