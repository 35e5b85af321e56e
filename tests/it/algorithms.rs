//! Attacks on one algorithm or on the choice between several: a public key used as an HMAC key, a key under the name of
//! another algorithm, a key inside the token, signatures that a library might accept, and the cache of verified tokens.
//! Attacks that are the same for all algorithms are in [`crate::forgery`].
//!
//! Wycheproof's vectors for ECDSA in IEEE P1363 form, Ed25519, RSA PKCS#1 v1.5 and JWS are generated here with keys of
//! the tests, as far as that needs no arithmetic on curve points and no raw RSA.

mod signatures;
mod token_cache;

use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gatebird::config::Algorithm;

use crate::forgery::signer::{Signer, hmac_kid, message, rsa, with_signature};
use crate::forgery::{ALGORITHMS, GOOD, INVALID, Target, kid};
use crate::harness::{Gate, JWT_SECRET, Value, json, mint_with, parts};

/// Everything that could pass for "the key" of a verifier, in every notation.
fn public_forms(target: &Target) -> Vec<(&'static str, Vec<u8>)> {
    let spki = target.key.spki();
    let base64 = STANDARD.encode(&spki);
    let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    let pem = |label: &str, end: &str| {
        [&[format!("-----BEGIN {label}-----")][..], &lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>()]
            .concat()
            .join(end)
            + &format!("{end}-----END {label}-----")
    };
    let [unix, windows] = ["\n", "\r\n"].map(|end| pem("PUBLIC KEY", end));
    let published = target.gate.get("/.well-known/jwks.json").send();
    let jwk = published.json()["keys"][0].clone();
    let text = published.text();
    let as_published = text.strip_prefix(r#"{"keys":["#).and_then(|text| text.strip_suffix("]}")).expect("one key");
    let mut forms: Vec<(&str, Vec<u8>)> = vec![
        ("PEM", unix.clone().into()),
        ("PEM with a line end", format!("{unix}\n").into()),
        ("PEM with two line ends", format!("{unix}\n\n").into()),
        ("PEM with CRLF", windows.clone().into()),
        ("PEM with CRLF and a line end", format!("{windows}\r\n").into()),
        ("PEM in one line", unix.replace('\n', "").into()),
        ("PEM of another label", pem("RSA PUBLIC KEY", "\n").into()),
        ("SPKI", spki.clone()),
        ("SPKI in base64", base64.into()),
        ("SPKI in hexadecimal", spki.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()),
        ("the JWK as it is published", as_published.into()),
        ("the JWK with its members in order", jwk.to_string().into()),
        ("the JWK with its members only", target.key.jwk().to_string().into()),
        ("the JWK Set", published.body.clone()),
        ("the kid", kid(&target.token).into()),
    ];
    for member in ["x", "y", "n", "e"] {
        let Some(text) = jwk[member].as_str() else { continue };
        forms.push(("a member as it is written", text.into()));
        forms.push(("a member's bytes", decoded(text)));
    }
    match &target.key {
        Signer::Hs256(_) => {}
        Signer::Es256(key) => {
            let point = key.public_key().as_ref();
            forms.push(("the point", point.into()));
            forms.push(("the point without its first byte", point[1..].into()));
            forms.push(("the point, compressed", [&[2 + point[64] % 2], &point[1..33]].concat()));
        }
        Signer::EdDsa(key) => forms.push(("the point", key.public_key().as_ref().into())),
        Signer::Rs256(key) => forms.push(("PKCS#1", key.public_key().as_ref().into())),
    }
    forms
}

fn decoded(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).expect("base64url")
}

/// RFC 8725 §2.1: a verifier that lets the token choose the algorithm would use the public key as the secret.
#[test]
fn algorithm_confusion__public_key_as_hmac_key() {
    for algorithm in Algorithm::PUBLIC {
        let target = Target::of(algorithm);
        let own = kid(&target.token);
        for (form, key) in public_forms(&target) {
            for (alg, kid) in
                [("HS256", own.clone()), (algorithm.name(), own.clone()), ("HS256", hmac_kid(&target.gate, JWT_SECRET))]
            {
                let (mut header, claims) = parts(&target.token);
                header["alg"] = alg.into();
                header["kid"] = kid.into();
                let forged = mint_with(&header.to_string(), &claims.to_string(), &key);
                target.gets(&format!("{form} as {alg}"), &forged, INVALID);
            }
        }
        target.gets("the good token", &target.token, GOOD);
    }
}

/// A server that has signed with each algorithm within the last hour, and a key of each that still verifies.
fn with_a_key_of_each() -> (Gate, Vec<(String, Signer)>) {
    let mut gate = Gate::start();
    let mut keys = Vec::new();
    let mut user = gate.sign_up("alice");
    for algorithm in ALGORITHMS {
        gate = gate.restart(&[("JWT_ALGORITHM", algorithm.name())]);
        // After HS256 the next key signs at once. After another algorithm the next key is published first.
        gate.clock.advance(if algorithm == Algorithm::Hs256 { 0 } else { 900 });
        let body = json!({"username": "alice", "password": crate::harness::PASSWORD});
        let answer = gate.post("/v1/signin").json(&body).send().expect(200);
        user.token = answer["token"].as_str().expect("a token").into();
        let kid = kid(&user.token);
        let key = Signer::of(&gate, &kid);
        assert_eq!(key.algorithm(), algorithm);
        keys.push((kid, key));
    }
    gate.register(&user, "alice.example.com");
    (gate, keys)
}

/// RFC 8725 §3.1: of all combinations of key, name and algorithm, only matching ones are accepted.
#[test]
fn algorithm_confusion__key_kid_and_alg_must_belong_together() {
    let (gate, keys) = with_a_key_of_each();
    let body = json!({"username": "alice", "password": crate::harness::PASSWORD});
    let token = gate.post("/v1/signin").json(&body).send().expect(200)["token"].as_str().expect("a token").to_owned();
    let mut accepted = 0;
    for (_, signer) in &keys {
        for (kid, named) in &keys {
            for alg in ALGORITHMS {
                let forged = signer.resigned(&token, |header, _| {
                    header["kid"] = kid.as_str().into();
                    header["alg"] = alg.name().into();
                });
                let fits = signer.algorithm() == alg && named.algorithm() == alg;
                let reply = gate.get("/v1/test").token(&forged).send();
                let name = format!("key of {:?}, kid of {:?}, alg {alg:?}", signer.algorithm(), named.algorithm());
                assert_eq!(reply.status, if fits { 200 } else { 401 }, "{name}: {}", reply.text());
                accepted += usize::from(fits);
            }
        }
    }
    assert_eq!(accepted, 4);
}

/// The key pair and its type are right; the algorithm is another one of the family.
#[test]
fn rs256__accepts_only_pkcs1_with_sha256() {
    let target = Target::of(Algorithm::Rs256);
    let Signer::Rs256(key) = &target.key else { panic!("RS256") };
    for (name, padding) in [
        ("PS256", &RSA_PSS_SHA256 as &'static dyn aws_lc_rs::signature::RsaEncoding),
        ("RS384", &RSA_PKCS1_SHA384),
        ("RS512", &RSA_PKCS1_SHA512),
    ] {
        for alg in [name, "RS256"] {
            let (mut header, claims) = parts(&target.token);
            header["alg"] = alg.into();
            let message = message(&header.to_string(), &claims.to_string());
            target.gets(name, &with_signature(&message, &rsa(key, padding, &message)), INVALID);
        }
    }
    target.gets("the good token", &target.token, GOOD);
}

/// RFC 8725 §3.10: a key inside the token does not verify it.
#[test]
fn token_header__key_inside_the_token_is_ignored() {
    for algorithm in Algorithm::PUBLIC {
        let target = Target::of(algorithm);
        let stranger = Signer::random(algorithm);
        let mut jwk = stranger.jwk();
        jwk["kid"] = stranger.thumbprint().into();
        jwk["alg"] = algorithm.name().into();
        let certificate = STANDARD.encode(stranger.spki());
        let url = format!("{}/.well-known/jwks.json", target.gate.url);
        let brought: [(&str, Value); 7] = [
            ("nothing", Value::Null),
            ("jwk", jwk.clone()),
            ("jwk", json!({"keys": [jwk]})),
            ("jku", url.clone().into()),
            ("jku", "https://evil.test/jwks.json".into()),
            ("x5u", url.into()),
            // Not a certificate, but the verifier must not get as far as parsing it.
            ("x5c", json!([certificate])),
        ];
        for (member, value) in brought {
            for named in [kid(&target.token), stranger.thumbprint(), String::new()] {
                let forged = stranger.resigned(&target.token, |header, _| {
                    header[member] = value.clone();
                    header["kid"] = named.as_str().into();
                });
                target.gets(&format!("{member} with kid {named:?}"), &forged, INVALID);
            }
            let nameless = stranger.resigned(&target.token, |header, _| {
                header[member] = value.clone();
                header.as_object_mut().expect("an object").remove("kid");
            });
            target.gets(&format!("{member} without kid"), &nameless, INVALID);
        }
        target.gets("the good token", &target.token, GOOD);
    }
}
