//! Signs any header and claims like the server, with the server's own keys or a forger's. The public half of a key is
//! encoded here independently, to be compared with what the server publishes.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gatebird::config::{Algorithm, HmacSecret};
use gatebird::db::signing_key::{self, SigningKey};
use gatebird::token::keyring::Key;
use gatebird::token::seal::Seal;

use crate::harness::{Gate, JWT_SECRET, Value, json, parts};

/// A key in a forger's hand.
pub enum Signer {
    Hs256(Vec<u8>),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

/// The stored keys of a server, in the order in which they sign.
pub fn stored_keys(gate: &Gate) -> Vec<SigningKey> {
    gate.app.db.read_now(|conn| Ok(signing_key::list(conn)?)).expect("the database answers")
}

/// The private key of a row in PKCS#8, opened as the server does.
pub fn private_key(row: &SigningKey) -> Vec<u8> {
    seal().open(&row.kid, &row.sealed).expect("it is sealed with JWT_SECRET").private
}

/// The seal of the keys of every server under test.
pub fn seal() -> Seal {
    Seal::new(&hmac_secret(JWT_SECRET), None)
}

pub fn hmac_secret(text: &str) -> HmacSecret {
    HmacSecret::parse(text).expect("a good secret")
}

/// The `kid` of HS256 with that secret at that server.
pub fn hmac_kid(gate: &Gate, secret: &str) -> String {
    Key::hs256(&hmac_secret(secret), gate.app.directory.keyring().epoch()).kid().to_owned()
}

impl Signer {
    /// The server's key of that id: a stored one, or else JWT_SECRET.
    pub fn of(gate: &Gate, kid: &str) -> Signer {
        match stored_keys(gate).iter().find(|row| row.kid == kid) {
            Some(row) => Signer::load(row.algorithm, &private_key(row)),
            None => Signer::Hs256(JWT_SECRET.into()),
        }
    }

    /// A key of a stranger.
    pub fn random(algorithm: Algorithm) -> Signer {
        match Key::generate(algorithm) {
            Some((_, private)) => Signer::load(algorithm, &private),
            None => Signer::Hs256(b"a stranger's key, of 32 and more bytes".into()),
        }
    }

    pub fn load(algorithm: Algorithm, pkcs8: &[u8]) -> Signer {
        const READABLE: &str = "a key of ours";
        match algorithm {
            Algorithm::Hs256 => panic!("no PKCS#8 is for HS256"),
            Algorithm::Es256 => {
                Signer::Es256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).expect(READABLE))
            }
            Algorithm::EdDsa => Signer::EdDsa(Ed25519KeyPair::from_pkcs8(pkcs8).expect(READABLE)),
            Algorithm::Rs256 => Signer::Rs256(RsaKeyPair::from_pkcs8(pkcs8).expect(READABLE)),
        }
    }

    pub fn algorithm(&self) -> Algorithm {
        match self {
            Signer::Hs256(_) => Algorithm::Hs256,
            Signer::Es256(_) => Algorithm::Es256,
            Signer::EdDsa(_) => Algorithm::EdDsa,
            Signer::Rs256(_) => Algorithm::Rs256,
        }
    }

    /// The raw signature of a message.
    pub fn sign(&self, message: &str) -> Vec<u8> {
        const SIGNS: &str = "a key signs";
        let bytes = message.as_bytes();
        match self {
            Signer::Hs256(key) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes).as_ref().into(),
            Signer::Es256(key) => key.sign(&SystemRandom::new(), bytes).expect(SIGNS).as_ref().into(),
            Signer::EdDsa(key) => key.sign(bytes).as_ref().into(),
            Signer::Rs256(key) => rsa(key, &RSA_PKCS1_SHA256, message),
        }
    }

    /// A message with its signature.
    pub fn signed(&self, message: &str) -> String {
        with_signature(message, &self.sign(message))
    }

    /// Any header and claims.
    pub fn mint(&self, header: &str, claims: &str) -> String {
        self.signed(&message(header, claims))
    }

    /// A token with changed header and claims, signed again.
    pub fn resigned(&self, token: &str, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let (mut header, mut claims) = parts(token);
        change(&mut header, &mut claims);
        self.mint(&header.to_string(), &claims.to_string())
    }

    /// The public key in DER (RFC 5280's SubjectPublicKeyInfo).
    pub fn spki(&self) -> Vec<u8> {
        let der: Result<PublicKeyX509Der<'_>, _> = match self {
            Signer::Hs256(_) => panic!("an HMAC key has no public half"),
            Signer::Es256(key) => key.public_key().as_der(),
            Signer::EdDsa(key) => key.public_key().as_der(),
            Signer::Rs256(key) => key.public_key().as_der(),
        };
        der.expect("a public key can be written").as_ref().into()
    }

    /// Exactly the required members of the public JWK (RFC 7518 §6, RFC 8037 §2).
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Signer::Hs256(_) => panic!("an HMAC key has no public half"),
            Signer::Es256(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Signer::EdDsa(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": text(key.public_key().as_ref())}),
            Signer::Rs256(key) => {
                let key = key.public_key();
                let (n, e) = (key.modulus(), key.exponent());
                json!({"kty": "RSA", "n": text(n.big_endian_without_leading_zero()), "e": text(e.big_endian_without_leading_zero())})
            }
        }
    }

    /// The thumbprint of [`Signer::jwk`].
    pub fn thumbprint(&self) -> String {
        thumbprint(&self.jwk())
    }
}

/// The thumbprint of a JWK that has only its required members (RFC 7638 §3).
pub fn thumbprint(jwk: &Value) -> String {
    let members = jwk.as_object().expect("an object").iter().map(|(name, value)| format!("\"{name}\":{value}"));
    let mut members: Vec<String> = members.collect();
    members.sort();
    URL_SAFE_NO_PAD.encode(digest(&SHA256, format!("{{{}}}", members.join(",")).as_bytes()))
}

/// An RSA signature with any padding.
pub fn rsa(key: &RsaKeyPair, padding: &'static dyn RsaEncoding, message: &str) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(padding, &SystemRandom::new(), message.as_bytes(), &mut signature).expect("a key signs");
    signature
}

/// The signed part of a token.
pub fn message(header: &str, claims: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

pub fn with_signature(message: &str, signature: &[u8]) -> String {
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}
