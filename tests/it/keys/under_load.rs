//! A hundred rotations while clients get and use tokens, and verifiers keep the key set for as long as they may: no
//! valid token is refused.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};

use super::{max_age, rotate, stored_keys};
use crate::binary::Client;
use crate::forgery::kid;
use crate::harness::{Clock, Gate, Value, json, parts};

const ROTATIONS: usize = 100;
const THREADS: usize = 2;

/// A verifier that keeps the key set until its `max-age` has passed, and does not refresh it for an unknown key id.
struct Verifier<'a> {
    client: &'a Client,
    clock: &'a Clock,
    keys: Option<(JwkSet, i64)>,
}

impl Verifier<'_> {
    fn verify(&mut self, token: &str) -> Result<(), String> {
        let now = self.clock.now();
        if self.keys.as_ref().is_none_or(|(_, stale_at)| *stale_at <= now) {
            let reply = self.client.get("/.well-known/jwks.json", "");
            let keys = serde_json::from_slice(&reply.body).expect("a JWK Set");
            self.keys = Some((keys, now + max_age(&reply)));
        }
        let (keys, _) = self.keys.as_ref().expect("keys were fetched");
        let header = decode_header(token).expect("a header");
        let kid = header.kid.expect("a name");
        let jwk = keys.find(&kid).ok_or_else(|| format!("unknown kid {kid}"))?;
        let mut validation = Validation::new(jsonwebtoken::Algorithm::ES256);
        validation.set_issuer(&["https://gate.test"]);
        validation.set_audience(&["https://gate.test"]);
        // `exp` is checked by the server's clock, which this machine's clock does not follow.
        validation.validate_exp = false;
        let key = DecodingKey::from_jwk(jwk).map_err(|error| error.to_string())?;
        decode::<Value>(token, &key, &validation).map(drop).map_err(|error| error.to_string())
    }
}

/// The number of rounds that each worker has completed.
#[derive(Default)]
struct Rounds {
    ended: Mutex<[usize; THREADS]>,
    changed: Condvar,
}

impl Rounds {
    fn end(&self, worker: usize) {
        self.ended.lock().expect("no panic")[worker] += 1;
        self.changed.notify_all();
    }

    /// Waits until every worker has begun and completed a round at the present time of the server.
    fn wait_for_all(&self) {
        let before = *self.ended.lock().expect("no panic");
        let behind = |ended: &mut [usize; THREADS]| ended.iter().zip(before).any(|(ended, before)| *ended < before + 2);
        let (_ended, timeout) = self
            .changed
            .wait_timeout_while(self.ended.lock().expect("no panic"), Duration::from_secs(10), behind)
            .expect("no panic");
        assert!(!timeout.timed_out(), "a worker has failed");
    }
}

/// One client with one verifier. Each round gets a token and uses it; every other round also uses the oldest token that
/// is still valid.
fn work(gate: &Gate, secret: &str, worker: usize, rounds: &Rounds, over: &AtomicBool) {
    let client = Client::new(&gate.url);
    let mut verifier = Verifier { client: &client, clock: &gate.clock, keys: None };
    let mut tokens: Vec<(String, i64)> = Vec::new();
    let mut oldest = 0;
    for round in 0.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let answer = client.post("/token", "", json!({ "clientSecret": secret })).expect(200);
        let token = answer["token"].as_str().expect("a token").to_owned();
        let exp = parts(&token).1["exp"].as_i64().expect("a number");
        tokens.push((token, exp));
        tokens.retain(|(_, exp)| *exp > gate.clock.now());
        let old = tokens.first().filter(|_| round % 2 == 0);
        for (token, exp) in [old, tokens.last()].into_iter().flatten() {
            assert_eq!(verifier.verify(token), Ok(()), "at the verifier");
            let reply = client.get("/v1/test", token);
            // It may have expired meanwhile.
            let expired = reply.status == 419 && gate.clock.now() >= *exp;
            assert!(reply.status == 200 || expired, "{} {}", reply.status, reply.text());
            oldest = oldest.max(gate.clock.now() - (exp - 3600));
        }
        rounds.end(worker);
    }
    assert!(oldest > 3000, "tokens were used until near their end: {oldest}");
}

#[test]
fn key_rotation__a_hundred_under_load_refuse_no_token() {
    let settings = [("JWT_ALGORITHM", "ES256"), ("TOKEN_TTL", "1h"), ("KEY_ROTATION", "off")];
    let gate = Gate::with(&settings);
    let (_, domain, token) = gate.tenant("alice");
    let (over, rounds) = (AtomicBool::new(false), Rounds::default());
    let mut signed_by = vec![kid(&token)];
    std::thread::scope(|scope| {
        let work = |worker| work(&gate, &domain.secret, worker, &rounds, &over);
        let workers: Vec<_> = (0..THREADS).map(|worker| scope.spawn(move || work(worker))).collect();
        let rotations = || {
            for _ in 0..ROTATIONS {
                let next = rotate(&gate, false);
                // As late as a key set from before the rotation may be in use, and around the change.
                let ahead = next.signs_from - gate.clock.now();
                for seconds in [299, ahead - 300, 1] {
                    gate.clock.advance(seconds);
                    rounds.wait_for_all();
                }
                gate.app.maintain().expect("the database answers");
                let signs = kid(&gate.access_token(&domain));
                assert_eq!(signs, next.kid);
                signed_by.push(signs);
            }
        };
        let rotated = catch_unwind(AssertUnwindSafe(rotations));
        over.store(true, Ordering::SeqCst);
        for worker in workers {
            worker.join().expect("no request was refused");
        }
        rotated.expect("all rotations went well");
    });
    signed_by.sort();
    signed_by.dedup();
    assert_eq!(signed_by.len(), ROTATIONS + 1, "each key has signed");
    assert!(stored_keys(&gate).len() <= 7, "expired keys are deleted");
}
