//! The cache of verified tokens. A cached token is refused by everything that refuses a new one, and no other text
//! finds it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use gatebird::config::Algorithm;
use gatebird::db::domain;

use crate::binary::Child;
use crate::forgery::revoked::{change, domain_id};
use crate::forgery::signer::{Signer, message, with_signature};
use crate::forgery::time::at;
use crate::forgery::{ALGORITHMS, EXPIRED, GOOD, INVALID, REVOKED, Target, Verdict, kid, split, texts};
use crate::harness::{Database, Domain, Gate, JWT_SECRET, PASSWORD, json, parts};
use crate::keys::{RETENTION, retire, rotate};

impl Target {
    /// Revokes a token as its client does.
    pub fn revoke(&self, token: &str) {
        revoke(&self.gate, &self.domain, token);
    }
}

fn revoke(gate: &Gate, domain: &Domain, token: &str) {
    let form = gate.post("/revoke").form(format!("token={token}"));
    form.basic(&domain.id, &domain.secret).send().expect(200);
}

/// A name, how a token of that domain is ended, and the verdict afterwards.
type End = (&'static str, fn(&Target, &Domain, &str), Verdict);

#[test]
fn token_cache__revoked_or_expired_token_is_refused() {
    let ends: [End; 5] = [
        ("revoked", |target, domain, token| revoke(&target.gate, domain, token), REVOKED),
        (
            "suspended",
            |target, domain, _| {
                change(&target.gate, |conn| Ok(domain::set_suspended(conn, domain_id(domain), true)?));
            },
            REVOKED,
        ),
        (
            "deleted",
            |target, domain, _| {
                let path = format!("/v1/domains/{}", domain.id);
                target.gate.delete(&path).token(&target.user.token).send().expect(200);
            },
            REVOKED,
        ),
        ("expired", |target, _, _| target.gate.clock.advance(60), EXPIRED),
        (
            "password changed",
            |target, _, _| {
                let body = json!({"oldPassword": PASSWORD, "newPassword": "another correct horse battery staple"});
                target.gate.put("/v1/me/password").token(&target.user.token).json(&body).send().expect(200);
            },
            REVOKED,
        ),
    ];
    Target::each(|target| {
        for (number, (name, end, verdict)) in ends.into_iter().enumerate() {
            let domain = target.gate.register(&target.user, &format!("h{number}.example.com"));
            let token = target.gate.access_token(&domain);
            for _ in 0..3 {
                target.gets(name, &token, GOOD);
            }
            end(target, &domain, &token);
            for _ in 0..2 {
                target.gets(name, &token, verdict);
            }
        }
    });
}

#[test]
fn token_cache__token_of_a_retired_key_is_refused() {
    for algorithm in Algorithm::PUBLIC {
        let target = Target::of(algorithm);
        let gate = &target.gate;
        target.gets("before", &target.token, GOOD);
        target.gets("the user's before", &target.user.token, GOOD);
        assert!(retire(gate, &kid(&target.token)));
        target.gets("after", &target.token, INVALID);
        target.gets("the user's after", &target.user.token, INVALID);
        target.gets("never seen, of that key", &target.with_claims(|claims| claims["scope"] = "".into()), INVALID);
        target.gets("of the next key", &gate.access_token(&target.domain), GOOD);
    }
}

/// A key past its retention verifies nothing, not even a token that it verified a second before.
#[test]
fn token_cache__key_past_its_retention_verifies_nothing() {
    for algorithm in Algorithm::PUBLIC {
        let target = Target::of(algorithm);
        let gate = &target.gate;
        let over = rotate(gate, false).signs_from + RETENTION;
        let fresh = || target.fresh(&target.key, &kid(&target.token));
        let status = |token: &str| gate.get("/v1/test").token(token).send().status;
        let last = at(gate, over - 1, || {
            let token = fresh();
            status(&token);
            token
        });
        assert_eq!(at(gate, over, || status(&last)), 401, "{algorithm:?}, seen a second ago");
        assert_eq!(at(gate, over, || status(&fresh())), 401, "{algorithm:?}, new");
        gate.app.maintain().expect("the database answers");
        target.gets("after its row is gone", &fresh(), INVALID);
        target.gets("of the next key", &gate.access_token(&target.domain), GOOD);
    }
}

/// A token that was verified for one audience is not valid for another.
#[test]
fn token_cache__audience_is_checked_for_each_request() {
    const API: &str = "https://api.test";
    for algorithm in ALGORITHMS {
        let gate = Gate::with(&[("JWT_ALGORITHM", algorithm.name()), ("AUDIENCES", "https://api.test https://b.test")]);
        let target = Target::at(gate, algorithm);
        let verify = |token: &str, audience: &str| {
            target.gate.get(&format!("/verify?audience={audience}")).token(token).send().status
        };
        let form = "grant_type=client_credentials&resource=https://api.test";
        let answer = target.gate.post("/token").form(form).basic(&target.domain.id, &target.domain.secret).send();
        let token = answer.expect(200)["access_token"].as_str().expect("a token").to_owned();
        for _ in 0..2 {
            assert_eq!(verify(&token, API), 200);
            assert_eq!(verify(&token, "https://b.test"), 401);
            target.gets("for another audience", &token, INVALID);
            target.gets("for the issuer", &target.token, GOOD);
            assert_eq!(verify(&target.token, API), 401);
        }
    }
}

/// A changed text never finds the cached token.
#[test]
fn token_cache__lookup_is_by_the_exact_text() {
    for algorithm in ALGORITHMS {
        let target = Target::of(algorithm);
        let first = &target.token;
        let second = target.gate.access_token(&target.domain);
        for token in [first, &second] {
            target.gets("seen", token, GOOD);
            let shown = target.gate.get("/v1/test").token(token).send().expect(200);
            assert_eq!(shown["jti"], parts(token).1["jti"], "each token is verified as itself");
        }
        let swapped = |text: &str, signature: &str| [&split(text)[..2], &split(signature)[2..]].concat().join(".");
        target.gets("one's text, the other's signature", &swapped(first, &second), INVALID);
        target.gets("the other way around", &swapped(&second, first), INVALID);
        for at in (0..first.len()).step_by(23).chain([first.len() - 1]) {
            let mut other = first.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).expect("ASCII");
            target.gets(&format!("another character at {at}"), &other, INVALID);
        }
        target.gets("longer", &format!("{first}A"), INVALID);
        target.gets("shorter", &first[..first.len() - 1], INVALID);
        // The same claims signed again are another text of the same token.
        let fresh = target.with_claims(|_| {});
        target.gets("signed anew", &fresh, GOOD);
        target.revoke(first);
        target.gets("revoked", first, REVOKED);
        target.gets("signed anew, revoked", &fresh, REVOKED);
        target.gets("the other one", &second, GOOD);
    }
}

/// Shows the server many good tokens. They are signed here, because requesting them would take too long.
fn flood(child: &Child, token: &str, numbers: std::ops::Range<u32>) {
    const AT_ONCE: u32 = 50;
    let key = Signer::Hs256(JWT_SECRET.into());
    let (header, claims) = texts(token);
    let jti = parts(token).1["jti"].as_str().expect("a string").to_owned();
    let address = child.client.url.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut answers = String::new();
    let mut chunk = [0; 1 << 16];
    for start in numbers.clone().step_by(AT_ONCE as usize) {
        let mut requests = String::new();
        let batch = start..(start + AT_ONCE).min(numbers.end);
        for number in batch.clone() {
            let message = message(&header, &claims.replace(&jti, &format!("{number:032x}")));
            let token = with_signature(&message, &key.sign(&message));
            requests += &format!("GET /verify HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {token}\r\n\r\n");
        }
        stream.write_all(requests.as_bytes()).expect("it is read");
        answers.clear();
        // An answer to /verify has no body, so the blank line ends it.
        while answers.matches("\r\n\r\n").count() < batch.len() {
            let read = stream.read(&mut chunk).expect("answers");
            assert!(read > 0, "the server hung up");
            answers.push_str(std::str::from_utf8(&chunk[..read]).expect("ASCII"));
        }
        assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), batch.len(), "{answers}");
    }
}

#[test]
fn token_cache__memory_is_bounded_under_a_flood() {
    let database = Database::new();
    let child = Child::start(&database, &[("TOKEN_TTL", "1h"), ("ACCESS_LOG", "off")]);
    let (_, domain, token) = child.client.tenant("alice");
    flood(&child, &token, 0..500);
    let before = child.resident_kib();
    flood(&child, &token, 500..17_000);
    let full = child.resident_kib();
    flood(&child, &token, 17_000..20_500);
    let all = child.resident_kib().saturating_sub(before);
    let full = full.saturating_sub(before);
    let more = all.saturating_sub(full);
    assert!(all < 40 * 1024, "20,000 tokens took {all} KiB");
    // The cache holds 16,384 tokens. If it held all, the last 3,500 would take three quarters of a kilobyte each.
    assert!(more < 1400, "3,500 tokens after the first 17,000 took {more} KiB, those {full}");
    child.client.get("/v1/test", &token).expect(200);
    child.client.exchange(&domain.secret).expect(200);
}
