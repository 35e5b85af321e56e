//! Private keys: generation, loading, signing and their public halves.
//!
//! Signing does not use `jsonwebtoken`, which parses the private key for every signature. That costs as much as an
//! EdDSA signature and more than twice an RSA signature. Keys are parsed once, into key pairs of the underlying
//! library.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use jsonwebtoken::DecodingKey;
use pem::{EncodeConfig, LineEnding, Pem};

use crate::config::Algorithm;

pub(super) enum PrivateKey {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

impl PrivateKey {
    /// Generates a key in PKCS#8. `None` for HS256, whose key is JWT_SECRET. RS256 takes up to a second.
    pub(super) fn generate(algorithm: Algorithm) -> Option<Vec<u8>> {
        const RANDOM: &str = "the system's random source must answer";
        let random = SystemRandom::new();
        let document = match algorithm {
            Algorithm::Hs256 => return None,
            Algorithm::Es256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect(RANDOM).as_ref().to_vec()
            }
            Algorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&random).expect(RANDOM).as_ref().to_vec(),
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect(RANDOM);
                let document: Pkcs8V1Der<'_> = pair.as_der().expect("a generated key can be encoded");
                document.as_ref().to_vec()
            }
        };
        Some(document)
    }

    /// Loads a key from PKCS#8.
    pub(super) fn load(algorithm: Algorithm, pkcs8: &[u8]) -> Option<PrivateKey> {
        match algorithm {
            Algorithm::Hs256 => None,
            Algorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).ok().map(PrivateKey::Es256)
            }
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8(pkcs8).ok().map(PrivateKey::EdDsa),
            Algorithm::Rs256 => RsaKeyPair::from_pkcs8(pkcs8).ok().map(PrivateKey::Rs256),
        }
    }

    /// Returns the public half for verification.
    pub(super) fn public(&self) -> DecodingKey {
        match self {
            PrivateKey::Es256(pair) => DecodingKey::from_ec_der(pair.public_key().as_ref()),
            PrivateKey::EdDsa(pair) => DecodingKey::from_ed_der(pair.public_key().as_ref()),
            PrivateKey::Rs256(pair) => DecodingKey::from_rsa_der(pair.public_key().as_ref()),
        }
    }

    /// Returns the public half in PEM (RFC 7468 §13).
    pub(super) fn public_pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = match self {
            PrivateKey::Es256(pair) => pair.public_key().as_der(),
            PrivateKey::EdDsa(pair) => pair.public_key().as_der(),
            PrivateKey::Rs256(pair) => pair.public_key().as_der(),
        }
        .expect("a generated key can be encoded");
        let pem = Pem::new("PUBLIC KEY", der.as_ref());
        pem::encode_config(&pem, EncodeConfig::new().set_line_ending(LineEnding::LF))
    }

    /// Returns the signature over `message`.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        const SIGNS: &str = "a loaded key can sign";
        let random = SystemRandom::new();
        match self {
            PrivateKey::Es256(pair) => pair.sign(&random, message).expect(SIGNS).as_ref().to_vec(),
            PrivateKey::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
            PrivateKey::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect(SIGNS);
                signature
            }
        }
    }
}
