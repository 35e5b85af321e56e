//! Signatures by other keys, and the change of the server's own key.

use std::sync::Arc;

use diesel::prelude::*;
use gatebird::config::Algorithm;
use gatebird::db::schema::revision;
use gatebird::db::signing_key;

use super::revoked::change;
use super::signer::{Signer, stored_keys};
use super::{GOOD, INVALID, Target, kid, split, texts};
use crate::harness::{Database, Gate, JWT_SECRET, mint_with, parts};

/// Keys from tutorials, frameworks and lists for guessing.
#[rustfmt::skip]
const WEAK: &[&str] = &[
    "secret", "Secret", "SECRET", "secret1", "secret123", "secretkey", "secret_key", "secret-key", "secretsecret",
    "mysecret", "my_secret", "my-secret", "my_secret_key", "mySecretKey", "supersecret", "super-secret", "supersecretkey",
    "topsecret", "jwtSecret", "jwtsecret", "jwt_secret", "jwt-secret", "JWT_SECRET", "jwt", "JWT", "jwtkey", "jwt-key",
    "nodebird", "nodebirdsecret", "nodebird-secret", "gatebird", "gatebirdsecret", "cookiesecret", "COOKIE_SECRET",
    "your-256-bit-secret", "your-384-bit-secret", "your-512-bit-secret", "your_secret", "your-secret-key", "yoursecret",
    "a-string-secret-at-least-256-bits-long", "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    "changeme", "change-me", "change_me", "ChangeMe", "change this", "replace-me", "example", "example_key", "example-key-1234",
    "password", "Password1", "passw0rd", "p@ssw0rd", "letmein", "qwerty", "abc123", "123", "1234", "12345", "123456",
    "1234567890", "0123456789", "admin", "administrator", "root", "test", "testing", "test123", "default", "demo", "dev",
    "development", "production", "staging", "local", "private", "privatekey", "private_key", "key", "token", "tokensecret",
    "hmac", "HS256", "hs256-secret", "AC8d83&21Almnis710sds", "W7zVbBgVa9dIt7T5n1Yx", "gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr9C",
    "bar", "foo", "foobar", "none", "null", "undefined", "true", "false", "0", " ", "\n", "\0", "{}", "[]",
    "0000000000000000", "00000000000000000000000000000000", "00000000000000000000000000000000000000000000000000000000",
    "ThisIsMySecretKey", "this-is-a-secret", "thisisasecret", "app.secret", "app_secret", "APP_SECRET", "shhhhh", "shhh",
    "node", "express", "django-insecure", "laravel", "spring", "rails", "flask", "symfony", "keycloak", "hasura", "supabase",
];

/// The good token's claims, signed with an HMAC key under the `kid` of the server's key.
fn hmac(target: &Target, key: impl AsRef<[u8]>) -> String {
    let (mut header, claims) = parts(&target.token);
    header["alg"] = "HS256".into();
    mint_with(&header.to_string(), &claims.to_string(), key.as_ref())
}

#[test]
fn signature__by_another_key() {
    Target::each(|target| {
        // These can only be HMAC keys; for other algorithms a few suffice.
        let tried = if target.algorithm == Algorithm::Hs256 { WEAK.len() } else { 5 };
        for key in &WEAK[..tried] {
            target.gets(key, &hmac(target, key), INVALID);
        }
        let near: [(&str, Vec<u8>); 12] = [
            ("empty", vec![]),
            ("32 zero bytes", vec![0; 32]),
            ("64 zero bytes", vec![0; 64]),
            ("32 bytes of 0xFF", vec![0xFF; 32]),
            ("in other case", JWT_SECRET.to_uppercase().into()),
            ("one byte short", JWT_SECRET[1..].into()),
            ("one byte longer", format!("{JWT_SECRET}!").into()),
            ("with a line end", format!("{JWT_SECRET}\n").into()),
            ("twice", JWT_SECRET.repeat(2).into()),
            ("the issuer", "https://gate.test".into()),
            ("the client's secret", target.domain.secret.clone().into()),
            ("the client's id", target.domain.id.clone().into()),
        ];
        for (name, key) in near {
            target.gets(name, &hmac(target, key), INVALID);
        }
        let stranger = Signer::random(target.algorithm);
        target.gets("a stranger's key", &stranger.resigned(&target.token, |_, _| {}), INVALID);
        target.gets("the gate's own key", &target.with_header(|_| {}), GOOD);
    });
}

/// RFC 2104 pads a short key with zero bytes, so a key with zero bytes appended is the same key. An environment
/// variable cannot contain a zero byte.
#[test]
fn hs256__zero_padded_key_is_equal() {
    let target = Target::new();
    target.gets("the key", &hmac(&target, JWT_SECRET), GOOD);
    target.gets("zero byte behind", &hmac(&target, format!("{JWT_SECRET}\0")), GOOD);
    target.gets("zero byte before", &hmac(&target, format!("\0{JWT_SECRET}")), INVALID);
}

#[test]
fn signature__over_changed_parts() {
    Target::each(|target| {
        let other = target.gate.access_token(&target.domain);
        let escalated = target.gate.post("/token").form(format!(
            "grant_type=client_credentials&client_id={}&client_secret={}&scope=posts:read",
            target.domain.id, target.domain.secret
        ));
        let narrow = escalated.send().expect(200)["access_token"].as_str().expect("a token").to_owned();
        let [header, _, signature] = split(&narrow);
        let (_, mut claims) = parts(&narrow);
        claims["scope"] = "posts:read posts:write".into();
        let [_, wide, _] = {
            let minted = mint_with("{}", &claims.to_string(), b"");
            split(&minted).map(str::to_owned)
        };
        target.gets("scope escalated", &format!("{header}.{wide}.{signature}"), INVALID);
        target.gets("as issued", &narrow, GOOD);

        let [header, payload, signature] = split(&target.token);
        let [other_header, other_payload, other_signature] = split(&other);
        assert_eq!(header, other_header, "one kind of token has one header");
        for (name, token) in [
            ("payload of another", format!("{header}.{other_payload}.{signature}")),
            ("signature of another", format!("{header}.{payload}.{other_signature}")),
            ("parts in another order", format!("{payload}.{header}.{signature}")),
            ("header twice", format!("{header}.{header}.{signature}")),
            ("signature in the payload's place", format!("{header}.{signature}.{payload}")),
        ] {
            target.gets(name, &token, INVALID);
        }
    });
}

const NEW: &str = "T9vX2mK7pQ4sW8zB5nR1cF6yH3jL0dG-new-key";
const OLD: &str = "B4nM8kJ1hG5fD9sA2qW6eR3tY7uI0oP-old-key";
const THIRD: &str = "Z1xC5vB9nM3aS7dF2gH6jK0lQ4wE8rT-third";

#[test]
fn previous_secret__verifies_and_does_not_sign() {
    let database = Arc::new(Database::new());
    let header_under =
        |name: &str, key: &str| texts(&Gate::on(Arc::clone(&database), &[("JWT_SECRET", key)]).tenant(name).2).0;
    let (new_header, old_header) = (header_under("new", NEW), header_under("old", OLD));
    let third_header = header_under("third", THIRD);

    let gate = Gate::on(Arc::clone(&database), &[("JWT_SECRET", NEW), ("JWT_SECRET_PREVIOUS", OLD)]);
    let target = Target::at(gate, Algorithm::Hs256);
    let (header, claims) = texts(&target.token);
    assert_eq!(header, new_header, "the new key signs");
    assert_eq!(mint_with(&header, &claims, NEW.as_bytes()), target.token);
    for (name, header, key, verdict) in [
        ("new", &new_header, NEW, GOOD),
        ("old", &old_header, OLD, GOOD),
        ("third", &third_header, THIRD, INVALID),
        ("old key under the new kid", &new_header, OLD, INVALID),
        ("new key under the old kid", &old_header, NEW, INVALID),
        ("third key under the new kid", &new_header, THIRD, INVALID),
        ("third key under the old kid", &old_header, THIRD, INVALID),
    ] {
        target.gets(name, &mint_with(header, &claims, key.as_bytes()), verdict);
    }

    // Without JWT_SECRET_PREVIOUS the old key verifies nothing.
    let retired = mint_with(&old_header, &claims, OLD.as_bytes());
    let gate = target.gate.restart(&[("JWT_SECRET_PREVIOUS", "")]);
    gate.get("/v1/test").token(&retired).send().refused(401, "invalid");
    gate.get("/v1/test").token(&target.token).send().expect(200);
}

/// Two servers that share a key by mistake still tell their tokens apart.
#[test]
fn iss_claim__other_issuer_with_the_same_key() {
    Target::each(|target| {
        let other = Gate::with(&[
            ("JWT_ISSUER", "https://other.test"),
            ("AUDIENCES", "https://gate.test"),
            ("JWT_ALGORITHM", target.algorithm.name()),
        ]);
        let (own, shared) = (stored_keys(&other), stored_keys(&target.gate));
        change(&other, |conn| {
            own.iter().try_for_each(|row| signing_key::delete(conn, &row.kid).map(drop))?;
            shared.iter().try_for_each(|row| signing_key::insert(conn, row))?;
            let epoch = target.gate.app.directory.keyring().epoch();
            let share = (revision::epoch.eq(epoch), revision::value.eq(revision::value + 1));
            Ok(diesel::update(revision::table).set(share).execute(conn).map(drop)?)
        });
        let (user, domain, token) = other.tenant("alice");
        assert_eq!(kid(&token), kid(&target.token), "the key is shared");
        target.gets("access token", &token, INVALID);
        let form = "grant_type=client_credentials&resource=https://gate.test";
        let for_us = other.post("/token").form(form).basic(&domain.id, &domain.secret).send().expect(200);
        target.gets("made for us by another", for_us["access_token"].as_str().expect("a token"), INVALID);
        target.gets("user token", &user.token, INVALID);
        other.get("/v1/test").token(&token).send().expect(200);
        other.get("/v1/test").token(&target.token).send().refused(401, "invalid");
    });
}
