//! Keys: the one that signs and those that verify, found by `kid`.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use serde_json::json;

use super::Kind;
use crate::config::HmacSecret;

/// One key with the only algorithm it may be used with (RFC 8725 §3.1).
pub struct Key {
    kid: String,
    algorithm: Algorithm,
    signing: EncodingKey,
    verifying: DecodingKey,
    /// The encoded headers, which are the same for each token of a kind.
    access_header: String,
    user_header: String,
}

impl Key {
    /// A key for HS256. Its `kid` is derived from it, so that nodes with the same secret agree on it.
    pub fn hs256(secret: &HmacSecret) -> Key {
        let named = [b"gatebird kid\0", secret.as_bytes()].concat();
        let kid = URL_SAFE_NO_PAD.encode(&digest(&SHA256, &named).as_ref()[..9]);
        let header = |kind: Kind| {
            let header = json!({"typ": kind.typ(), "alg": "HS256", "kid": kid});
            URL_SAFE_NO_PAD.encode(header.to_string())
        };
        Key {
            access_header: header(Kind::Access),
            user_header: header(Kind::User),
            kid,
            algorithm: Algorithm::HS256,
            signing: EncodingKey::from_secret(secret.as_bytes()),
            verifying: DecodingKey::from_secret(secret.as_bytes()),
        }
    }

    /// The `alg` that a header naming this key has to have.
    pub fn algorithm_name(&self) -> &'static str {
        match self.algorithm {
            Algorithm::HS256 => "HS256",
            _ => unreachable!("no constructor makes a key of another algorithm"),
        }
    }

    pub(super) fn header(&self, kind: Kind) -> &str {
        match kind {
            Kind::Access => &self.access_header,
            Kind::User => &self.user_header,
        }
    }

    /// The signature over `message` in base64url.
    pub(super) fn sign(&self, message: &[u8]) -> String {
        crypto::sign(message, &self.signing, self.algorithm).expect("the key fits its algorithm")
    }

    /// Whether `signature`, in base64url, is this key's over `message`; compared in constant time.
    pub(super) fn verify(&self, message: &[u8], signature: &str) -> bool {
        crypto::verify(signature, message, &self.verifying, self.algorithm).unwrap_or(false)
    }
}

/// Shows which key it is and nothing of the key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.kid)
    }
}

/// The signing key, and the earlier ones that still verify.
#[derive(Debug)]
pub struct Keyring {
    signing: Key,
    earlier: Vec<Key>,
}

impl Keyring {
    /// A keyring of one signing key and some earlier ones.
    pub fn new(signing: Key, earlier: Vec<Key>) -> Keyring {
        Keyring { signing, earlier }
    }

    pub(super) fn signing(&self) -> &Key {
        &self.signing
    }

    pub(super) fn find(&self, kid: &str) -> Option<&Key> {
        std::iter::once(&self.signing).chain(&self.earlier).find(|key| key.kid == kid)
    }
}
