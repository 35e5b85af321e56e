//! The public keys of a domain that authenticates with `private_key_jwt` (RFC 7517, RFC 7523).

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, VerificationAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use serde_json::Value;

use super::public_key::PublicKey;
use crate::config::Algorithm;

/// Maximum number of keys, which allows a client to replace its keys without interruption.
const MAX_KEYS: usize = 4;
/// Members that only a private or a symmetric key has (RFC 7518 §6).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// Allowed length of an RSA modulus, in bytes. Longer keys would cost this server more than the client.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// Why a JWK Set is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysProblem {
    /// A key is private or symmetric.
    Private,
    /// Not one to four well-formed public keys for ES256, EdDSA or RS256.
    Shape,
}

/// One to four public keys; none if a domain's keys were removed after a theft.
#[derive(Clone)]
pub struct ClientKeys {
    /// The JWK Set as it is stored and shown.
    text: String,
    keys: Vec<ClientKey>,
}

#[derive(Clone)]
struct ClientKey {
    kid: Option<String>,
    thumbprint: String,
    public: PublicKey,
}

/// Shows the thumbprints of the keys.
impl fmt::Debug for ClientKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.thumbprint)).finish()
    }
}

impl ClientKeys {
    /// Parses a JWK Set from a client.
    ///
    /// # Errors
    /// If the JWK Set must be corrected.
    pub fn parse(set: &Value) -> Result<ClientKeys, KeysProblem> {
        let keys = set.get("keys").and_then(Value::as_array).ok_or(KeysProblem::Shape)?;
        if PRIVATE.iter().any(|member| keys.iter().any(|key| key.get(member).is_some())) {
            return Err(KeysProblem::Private);
        }
        if !(1..=MAX_KEYS).contains(&keys.len()) {
            return Err(KeysProblem::Shape);
        }
        let parsed: Option<Vec<(Jwk, ClientKey)>> = keys.iter().map(ClientKey::parse).collect();
        let (jwks, keys): (Vec<Jwk>, Vec<ClientKey>) = parsed.ok_or(KeysProblem::Shape)?.into_iter().unzip();
        let mut names: Vec<&str> = keys.iter().map(ClientKey::name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(KeysProblem::Shape);
        }
        let text = serde_json::to_string(&JwkSet { keys: jwks }).expect("public keys are plain JSON");
        Ok(ClientKeys { text, keys })
    }

    /// Returns an empty set, which verifies nothing.
    pub fn none() -> ClientKeys {
        ClientKeys { text: r#"{"keys":[]}"#.to_owned(), keys: Vec::new() }
    }

    /// Reads the form of [`ClientKeys::as_json`], which may be the empty set.
    ///
    /// # Errors
    /// If the text has another form.
    pub fn from_json(text: &str) -> Result<ClientKeys, String> {
        let none = ClientKeys::none();
        if text == none.text {
            return Ok(none);
        }
        let set = serde_json::from_str(text).map_err(|error| error.to_string())?;
        ClientKeys::parse(&set).map_err(|problem| format!("not one to four public keys: {problem:?}"))
    }

    /// Returns the JWK Set as JSON, with public members only.
    pub fn as_json(&self) -> &str {
        &self.text
    }

    /// Returns whether every key of `other` is in this set.
    pub fn contains(&self, other: &ClientKeys) -> bool {
        other.keys.iter().all(|key| self.keys.iter().any(|own| own.thumbprint == key.thumbprint))
    }

    /// Returns whether a key verifies `signature`, in base64url, over `message`. Only the key `kid` is tried, or every
    /// key if it is `None`.
    pub(super) fn verify(&self, algorithm: &str, kid: Option<&str>, message: &[u8], signature: &str) -> bool {
        let named = |key: &&ClientKey| kid.is_none_or(|kid| kid == key.name() || kid == key.thumbprint);
        let mut fitting = self.keys.iter().filter(named).filter(|key| key.public.algorithm.has_name(algorithm));
        fitting.any(|key| key.public.verify(message, signature))
    }
}

impl ClientKey {
    fn parse(value: &Value) -> Option<(Jwk, ClientKey)> {
        let says = |member: &str, allowed: &str| value.get(member).is_none_or(|said| said == allowed);
        let parsed: Jwk = serde_json::from_value(value.clone()).ok()?;
        let algorithm = algorithm(&parsed.algorithm)?;
        let verifies =
            value.get("key_ops").is_none_or(|uses| uses.as_array().is_some_and(|uses| uses.contains(&"verify".into())));
        let named = value.get("alg").is_none_or(|said| said.as_str().is_some_and(|said| algorithm.has_name(said)));
        if !says("use", "sig") || !named || !verifies {
            return None;
        }
        let kid = parsed
            .common
            .key_id
            .filter(|kid| (1..=128).contains(&kid.len()) && kid.bytes().all(|byte| byte.is_ascii_graphic()));
        if kid.is_none() && value.get("kid").is_some() {
            return None;
        }
        let verifying =
            DecodingKey::from_jwk(&Jwk { common: Default::default(), algorithm: parsed.algorithm.clone() }).ok()?;
        let (public, mut jwk, thumbprint) = PublicKey::new(algorithm, verifying)?;
        jwk.common.key_id = kid.clone();
        Some((jwk, ClientKey { kid, thumbprint, public }))
    }

    /// Returns the `kid`, or the thumbprint if there is none.
    fn name(&self) -> &str {
        self.kid.as_deref().unwrap_or(&self.thumbprint)
    }
}

/// Returns the algorithm of a key, if the key is valid.
fn algorithm(parameters: &AlgorithmParameters) -> Option<Algorithm> {
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    let valid =
        |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| ParsedPublicKey::new(algorithm, key).is_ok();
    match parameters {
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            let (x, y) = (bytes(&key.x)?, bytes(&key.y)?);
            let point = [&[4][..], &x, &y].concat();
            (x.len() == 32 && y.len() == 32 && valid(&ECDSA_P256_SHA256_FIXED, &point)).then_some(Algorithm::Es256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            let key = bytes(&key.x)?;
            (key.len() == 32 && valid(&ED25519, &key)).then_some(Algorithm::EdDsa)
        }
        AlgorithmParameters::RSA(key) => {
            let (modulus, exponent) = (bytes(&key.n)?, bytes(&key.e)?);
            let odd = modulus.last().is_some_and(|last| last % 2 == 1);
            let full = modulus.first().is_some_and(|first| *first >= 0x80);
            (RSA_BYTES.contains(&modulus.len()) && full && odd && exponent == [1, 0, 1]).then_some(Algorithm::Rs256)
        }
        _ => None,
    }
}
