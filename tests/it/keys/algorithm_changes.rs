//! JWT_ALGORITHM changes at a restart: earlier tokens are valid until they expire.

use gatebird::config::Algorithm;

use super::{RETENTION, published, retire};
use crate::forgery::signer::{Signer, hmac_kid, stored_keys};
use crate::forgery::time::at;
use crate::forgery::{ALGORITHMS, GOOD, INVALID, Target, kid};
use crate::harness::{JWT_SECRET, parts};

fn expires(token: &str) -> i64 {
    parts(token).1["exp"].as_i64().expect("a number")
}

fn names(algorithm: Algorithm, kid: &str) -> Option<String> {
    (algorithm != Algorithm::Hs256).then(|| kid.to_owned())
}

#[test]
fn algorithm_change__old_tokens_are_valid_until_they_expire() {
    let others = |from| ALGORITHMS.into_iter().filter(move |to| *to != from).map(move |to| (from, to));
    for (from, to) in ALGORITHMS.into_iter().flat_map(others) {
        println!("from {from:?} to {to:?}");
        let target = Target::of(from);
        let (token, user_token, old) = (target.token.clone(), target.user.token.clone(), kid(&target.token));
        let old_key = Signer::of(&target.gate, &old);
        target.gate.clock.advance(1);
        let target = target.restart(&[("JWT_ALGORITHM", to.name())]);
        let gate = &target.gate;
        target.gets("of before", &token, GOOD);
        target.gets("the user's of before", &user_token, GOOD);
        let rows = stored_keys(gate);
        let next = rows.iter().find(|row| row.algorithm == to);
        // HS256 signs at once. It has no JWKS that verifiers keep, so only the nodes must know it.
        let ahead = match (from, to) {
            (_, Algorithm::Hs256) => 0,
            (Algorithm::Hs256, _) => 3,
            _ => 900,
        };
        let begins = next.map_or_else(|| gate.clock.now(), |next| next.signs_from);
        let new = next.map_or_else(|| hmac_kid(gate, JWT_SECRET), |next| next.kid.clone());
        let (mut last, mut last_of_user) = (token, user_token);
        if ahead > 0 {
            assert!(next.is_some_and(|next| begins - next.created_at == ahead), "published first");
            assert_eq!(kid(&target.token), old);
            last = at(gate, begins - 1, || gate.access_token(&target.domain));
            last_of_user = at(gate, begins - 1, || target.sign_in());
            assert_eq!((kid(&last), kid(&last_of_user)), (old.clone(), old.clone()));
        }
        let first = at(gate, begins, || gate.access_token(&target.domain));
        assert_eq!((kid(&first), &parts(&first).0["alg"]), (new.clone(), &to.name().into()));
        at(gate, begins, || target.gets("of after", &first, GOOD));
        let mut both: Vec<String> = [names(from, &old), names(to, &new)].into_iter().flatten().collect();
        both.sort();
        assert_eq!(published(gate), both);

        for last in [&last, &last_of_user] {
            let end = expires(last);
            assert_eq!(at(gate, end - 1, || target.status(last)), 200);
            assert_eq!(at(gate, end, || target.status(last)), 419);
        }
        // From then on a token of the old key is invalid, not expired.
        let over = match (next, rows.iter().find(|row| row.kid == old)) {
            (Some(next), _) => next.signs_from + RETENTION,
            (None, row) => row.and_then(|row| row.signs_until).expect("it has ended") + RETENTION,
        };
        assert_eq!(at(gate, over - 1, || target.status(&last_of_user)), 419);
        assert_eq!(at(gate, over, || target.status(&last_of_user)), 401);
        target.gets("what the old key might sign", &target.fresh(&old_key, &old), INVALID);
        assert_eq!(published(gate), names(to, &new).into_iter().collect::<Vec<_>>());
        gate.app.maintain().expect("the database answers");
        assert!(stored_keys(gate).iter().all(|row| row.kid == new));
        target.gets("what the old key might sign, later", &target.fresh(&old_key, &old), INVALID);
    }
}

#[test]
fn algorithm_change__reverted() {
    let target = Target::of(Algorithm::Es256);
    let first = kid(&target.token);
    let before = target.token.clone();
    // The same algorithm changes nothing.
    let target = target.restart(&[("JWT_ALGORITHM", "ES256")]);
    assert_eq!((stored_keys(&target.gate).len(), kid(&target.token)), (1, first.clone()));
    // Before the new key has signed anything.
    let target = target.restart(&[("JWT_ALGORITHM", "RS256")]);
    assert_eq!((stored_keys(&target.gate).len(), kid(&target.token)), (2, first.clone()));
    let target = target.restart(&[("JWT_ALGORITHM", "ES256")]);
    assert_eq!((stored_keys(&target.gate).len(), target.signs()), (1, first.clone()));
    assert_eq!(published(&target.gate), [first.as_str()]);
    target.gate.clock.advance(1000);
    assert_eq!(target.signs(), first);

    // Afterwards: the old key does not sign again, and the new one is published first.
    let target = target.restart(&[("JWT_ALGORITHM", "EdDSA")]);
    target.gate.clock.advance(900);
    let second = target.signs();
    assert_ne!(second, first);
    let target = target.restart(&[("JWT_ALGORITHM", "ES256")]);
    assert_eq!(target.signs(), second);
    target.gate.clock.advance(900);
    let third = target.signs();
    assert!(third != first && third != second);
    assert_eq!(parts(&target.gate.access_token(&target.domain)).0["alg"], "ES256");

    // Via HS256 as well.
    target.gate.clock.advance(1);
    let target = target.restart(&[("JWT_ALGORITHM", "HS256")]);
    let hmac = target.token.clone();
    target.gate.clock.advance(1);
    let target = target.restart(&[("JWT_ALGORITHM", "ES256")]);
    assert_eq!(target.signs(), kid(&hmac), "until every node can know the new key");
    target.gate.clock.advance(3);
    let fourth = target.gate.access_token(&target.domain);
    assert_eq!(parts(&fourth).0["alg"], "ES256");
    assert!(![first, second, third].contains(&kid(&fourth)));
    target.gets("of HS256", &hmac, GOOD);
    assert_ne!(target.status(&before), 200);
}

/// The successor of a retired key has the algorithm of JWT_ALGORITHM, whatever other keys are stored.
#[test]
fn key_retirement__successor_has_the_configured_algorithm() {
    let target = Target::of(Algorithm::Es256).restart(&[("JWT_ALGORITHM", "EdDSA")]);
    target.gate.clock.advance(900);
    let token = target.gate.access_token(&target.domain);
    assert_eq!(parts(&token).0["alg"], "EdDSA");
    assert!(retire(&target.gate, &kid(&token)));
    let next = target.gate.access_token(&target.domain);
    assert_eq!(parts(&next).0["alg"], "EdDSA");
    target.gets("of the key that took over", &next, GOOD);
}
