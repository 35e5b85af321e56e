//! Public keys: those of the server's key pairs, and those of clients that sign assertions.

use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{DecodingKey, crypto};

use crate::config::Algorithm;

/// A public key with the only algorithm that it may be used with (RFC 8725 §3.1).
#[derive(Clone)]
pub(super) struct PublicKey {
    pub(super) algorithm: Algorithm,
    key: DecodingKey,
}

impl PublicKey {
    /// Returns the key, its JWK, and its RFC 7638 thumbprint.
    pub(super) fn new(algorithm: Algorithm, key: DecodingKey) -> Option<(PublicKey, Jwk, String)> {
        let mut jwk = Jwk::from_decoding_key(&key, Some(algorithm.to_jsonwebtoken())).ok()?;
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let thumbprint = jwk.thumbprint(ThumbprintHash::SHA256).ok()?;
        Some((PublicKey { algorithm, key }, jwk, thumbprint))
    }

    /// Returns whether `signature`, in base64url, is the signature over `message`.
    pub(super) fn verify(&self, message: &[u8], signature: &str) -> bool {
        crypto::verify(signature, message, &self.key, self.algorithm.to_jsonwebtoken()).unwrap_or(false)
    }
}
