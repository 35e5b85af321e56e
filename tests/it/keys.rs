//! The life of a signing key: created, published, signing, verifying, deleted; by command, by schedule, and after a
//! change of the settings. Its publication is tested in [`discovery`].

mod algorithm_changes;
mod command_line;
mod discovery;
mod nodes;
mod sealing;
mod under_load;

use gatebird::app::keys::{self, NewKey};
use gatebird::config::Algorithm;
use gatebird::db::signing_key::SigningKey;

use crate::forgery::revoked::change;
use crate::forgery::signer::{Signer, hmac_kid, stored_keys};
use crate::forgery::time::at;
use crate::forgery::{EXPIRED, GOOD, INVALID, Target, kid};
use crate::harness::{Gate, JWT_SECRET, PASSWORD, Reply, Value, json, parts};

/// The longest life of a token here, in seconds.
const LONGEST_LIFE: i64 = 3600;
/// A key verifies for this long after it has stopped signing: the life of a token, and a minute for clock differences.
pub const RETENTION: i64 = LONGEST_LIFE + 60;

/// `gatebird key rotate`, in this process.
pub fn rotate(gate: &Gate, at_once: bool) -> SigningKey {
    let keyring = gate.app.directory.keyring().clone();
    let (new_key, mut made) = (NewKey::new(&keyring), None);
    change(gate, |conn| {
        made = Some(keys::rotate(conn, &keyring, new_key, at_once, gate.clock.now())?);
        Ok(())
    });
    made.expect("a key")
}

/// `gatebird key retire`, in this process. Returns whether the key existed.
pub fn retire(gate: &Gate, kid: &str) -> bool {
    let keyring = gate.app.directory.keyring().clone();
    let (new_key, mut retired) = (NewKey::new(&keyring), false);
    change(gate, |conn| {
        retired = keys::retire(conn, &keyring, new_key, kid, gate.clock.now())?;
        Ok(())
    });
    retired
}

fn jwks(gate: &Gate) -> Reply {
    gate.get("/.well-known/jwks.json").send()
}

/// The ids of the published keys, sorted.
fn published(gate: &Gate) -> Vec<String> {
    names(&jwks(gate).expect(200))
}

fn names(jwks: &Value) -> Vec<String> {
    let keys = jwks["keys"].as_array().expect("an array");
    let mut names: Vec<String> = keys.iter().map(|key| key["kid"].as_str().expect("a string").to_owned()).collect();
    names.sort();
    names
}

fn sorted(names: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    names.sort();
    names
}

/// The seconds for which a cache may keep an answer.
fn max_age(reply: &Reply) -> i64 {
    let control = reply.header("cache-control").expect("Cache-Control");
    let age = control.strip_prefix("public, max-age=").unwrap_or_else(|| panic!("{control}"));
    age.parse().expect("a number")
}

impl Target {
    /// The id of the key that signs now.
    fn signs(&self) -> String {
        kid(&self.gate.access_token(&self.domain))
    }

    /// The target after a restart with these settings, with a new token.
    fn restart(self, settings: &[(&str, &str)]) -> Target {
        let Target { gate, user, domain, .. } = self;
        let gate = gate.restart(settings);
        let token = gate.access_token(&domain);
        let key = Signer::of(&gate, &kid(&token));
        Target { algorithm: key.algorithm(), gate, user, domain, token, key }
    }

    /// A new user token.
    fn sign_in(&self) -> String {
        let answer = crate::accounts::sign_in(&self.gate, "alice", PASSWORD).expect(200);
        answer["token"].as_str().expect("a token").into()
    }

    fn status(&self, token: &str) -> u16 {
        self.gate.get("/v1/test").token(token).send().status
    }

    /// A token that this key could have signed at this second.
    pub fn fresh(&self, key: &Signer, kid: &str) -> String {
        let now = self.gate.clock.now();
        key.resigned(&self.token, |header, claims| {
            header["alg"] = key.algorithm().name().into();
            header["kid"] = kid.into();
            claims["iat"] = now.into();
            claims["exp"] = (now + 60).into();
        })
    }
}

#[test]
fn signing_key__first_one_signs_at_once() {
    for algorithm in Algorithm::PUBLIC {
        let target = Target::of(algorithm);
        let kept = stored_keys(&target.gate);
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].algorithm, kept[0].kid.clone()), (algorithm, kid(&target.token)));
        assert_eq!(kid(&target.user.token), kept[0].kid);
        let (header, _) = parts(&target.user.token);
        assert_eq!(header, json!({"alg": algorithm.name(), "kid": kept[0].kid, "typ": "JWT"}));
        assert_eq!(published(&target.gate), [kept[0].kid.as_str()]);
        target.gets("of the first key", &target.token, GOOD);
    }
    assert!(stored_keys(&Target::new().gate).is_empty(), "HS256 has no stored key");
}

/// To the second: published, signing, verifying only, deleted.
#[test]
fn signing_key__published_before_it_signs_and_verifies_after() {
    let target = Target::of(Algorithm::Es256);
    let gate = &target.gate;
    let old = kid(&target.token);
    let next = rotate(gate, false);
    let reply = jwks(gate);
    assert_eq!(names(&reply.expect(200)), sorted(&[&old, &next.kid]), "published as soon as it exists");
    let ahead = next.signs_from - next.created_at;
    assert!(ahead >= max_age(&reply) && max_age(&reply) >= 300, "{ahead}");

    let (from, over) = (next.signs_from, next.signs_from + RETENTION);
    assert_eq!(at(gate, from - 1, || target.signs()), old);
    let last = at(gate, from - 1, || gate.access_token(&target.domain));
    let last_of_user = at(gate, from - 1, || target.sign_in());
    assert_eq!(at(gate, from, || target.signs()), next.kid);

    // Its tokens are valid until they expire, and then only expired.
    assert_eq!(at(gate, from + 58, || target.status(&last)), 200);
    assert_eq!(at(gate, from + 59, || target.status(&last)), 419);
    assert_eq!(at(gate, from + LONGEST_LIFE - 2, || target.status(&last_of_user)), 200);
    assert_eq!(at(gate, from + LONGEST_LIFE - 1, || target.status(&last_of_user)), 419);
    gate.app.maintain().expect("the database answers");
    assert_eq!(at(gate, over - 1, || published(gate)), sorted(&[&old, &next.kid]));

    // Past its retention it verifies nothing, neither its earlier tokens nor new ones.
    assert_eq!(at(gate, over - 1, || target.status(&last_of_user)), 419);
    assert_eq!(at(gate, over, || target.status(&last_of_user)), 401);
    assert_eq!(at(gate, over, || target.status(&target.fresh(&target.key, &old))), 401);
    assert_eq!(at(gate, over, || published(gate)), [next.kid.as_str()]);
    gate.app.maintain().expect("the database answers");
    assert_eq!(stored_keys(gate).iter().map(|row| row.kid.as_str()).collect::<Vec<_>>(), [&next.kid]);
    assert_eq!(target.status(&target.fresh(&target.key, &old)), 401);
    assert_eq!(target.signs(), next.kid);
}

/// A key is generated outside the transaction, because that can take a second while others wait for the lock.
#[test]
fn key_rotation__without_a_prepared_key_waits_for_the_next_run() {
    let target = Target::of(Algorithm::Es256);
    let gate = &target.gate;
    let (keyring, period) = (gate.app.directory.keyring().clone(), 86_400);
    let due = gate.clock.now() + period;
    for (new_key, keys) in [(None, 1), (NewKey::new(&keyring), 2)] {
        change(gate, |conn| keys::maintain(conn, &keyring, new_key, Some(period), due));
        assert_eq!(stored_keys(gate).len(), keys);
    }
}

#[test]
fn key_rotation__repeated_makes_no_second_pending_key() {
    let target = Target::of(Algorithm::Es256);
    let gate = &target.gate;
    let next = rotate(gate, false);
    gate.clock.advance(30);
    let again = rotate(gate, false);
    assert_eq!((again.kid, again.signs_from), (next.kid.clone(), next.signs_from));
    assert_eq!(stored_keys(gate).len(), 2);

    // A rotation at once makes another key, which signs as soon as all nodes know it. The pending key still follows.
    let now = rotate(gate, true);
    assert_ne!(now.kid, next.kid);
    assert_eq!(now.signs_from - now.created_at, 3);
    let first = kid(&target.token);
    assert_eq!(published(gate), sorted(&[&first, &now.kid, &next.kid]));
    for (signs_from, before, then) in [(now.signs_from, &first, &now.kid), (next.signs_from, &now.kid, &next.kid)] {
        assert_eq!(at(gate, signs_from - 1, || target.signs()), *before);
        let token = gate.access_token(&target.domain);
        assert_eq!(at(gate, signs_from, || target.signs()), *then);
        target.gets("of before", &token, GOOD);
    }
}

#[test]
fn key_rotation__by_schedule() {
    for (setting, period) in [("1h", 3600), ("30d", 30 * 86_400), ("", 30 * 86_400)] {
        let gate = Gate::with(&[("JWT_ALGORITHM", "EdDSA"), ("KEY_ROTATION", setting)]);
        let target = Target::at(gate, Algorithm::EdDsa);
        let gate = &target.gate;
        let maintain = || gate.app.maintain().expect("the database answers");
        let first = stored_keys(gate).remove(0);
        let due = first.signs_from + period;
        // The clock continues while maintenance runs.
        at(gate, due - 930, maintain);
        assert_eq!(stored_keys(gate).len(), 1, "{setting}: not yet");
        at(gate, due - 900, maintain);
        let both = stored_keys(gate);
        assert_eq!(both.len(), 2, "{setting}: published in time");
        assert_eq!(both[1].signs_from, due, "{setting}");
        maintain();
        assert_eq!(stored_keys(gate).len(), 2, "{setting}: one next key is enough");
        assert_eq!(at(gate, due - 1, || target.signs()), first.kid);
        assert_eq!(at(gate, due, || target.signs()), both[1].kid);
        // A server without maintenance for a long time still publishes a key first. Its domain must not become dormant
        // meanwhile.
        gate.clock.advance((10 * period).min(80 * 86_400));
        maintain();
        let late = stored_keys(gate);
        let names: Vec<&str> = late.iter().map(|row| row.kid.as_str()).collect();
        assert_eq!(
            (names.len(), names[0]),
            (2, both[1].kid.as_str()),
            "{setting}: the first key has expired and is deleted"
        );
        assert_eq!(late[1].signs_from - late[1].created_at, 900, "{setting}");
        assert_eq!(target.signs(), both[1].kid);
    }
}

#[test]
fn key_rotation__off_or_hs256() {
    for (algorithm, setting) in [("ES256", "off"), ("HS256", "1h"), ("HS256", "off")] {
        let gate = Gate::with(&[("JWT_ALGORITHM", algorithm), ("KEY_ROTATION", setting)]);
        let (_, domain, token) = gate.tenant("alice");
        let before = stored_keys(&gate).len();
        gate.clock.advance(400 * 86_400);
        gate.app.maintain().expect("the database answers");
        assert_eq!(stored_keys(&gate).len(), before, "{algorithm}");
        assert_eq!(kid(&gate.access_token(&domain)), kid(&token), "{algorithm}");
    }
}

#[test]
fn key_retirement__tokens_are_refused_and_another_key_signs() {
    let target = Target::of(Algorithm::Es256);
    let gate = &target.gate;
    let first = kid(&target.token);
    gate.clock.advance(1);
    assert!(retire(gate, &first));
    let second = target.signs();
    assert_ne!(second, first);
    assert_eq!(published(gate), [second.as_str()]);
    target.gets("of the retired key", &target.token, INVALID);
    target.gets("made with the retired key", &target.fresh(&target.key, &first), INVALID);
    let token = gate.access_token(&target.domain);
    target.gets("of the one that took over", &token, GOOD);
    assert!(!retire(gate, &first), "the key is deleted already");
    assert!(!retire(gate, "unknown"));

    // The pending key is retired before it has signed anything, and another one can be made.
    let next = rotate(gate, false);
    assert!(retire(gate, &next.kid));
    assert_eq!(published(gate), [second.as_str()]);
    assert_eq!(target.signs(), second);
    assert_ne!(rotate(gate, false).kid, next.kid);

    // A key that only verifies.
    let third = rotate(gate, true);
    at(gate, third.signs_from, || target.gets("of the one before", &token, GOOD));
    assert!(retire(gate, &second));
    target.gets("of the one before, retired", &token, INVALID);
    assert_eq!(target.signs(), third.kid);
}

/// Two keys never start in the same second. Otherwise their ids would decide which one signs, and tokens of the other
/// one would be lost.
#[test]
fn key_rotation__twice_in_one_second() {
    for _ in 0..8 {
        let target = Target::of(Algorithm::EdDsa);
        let gate = &target.gate;
        let second = gate.clock.now() + 1;
        let (one, other) = at(gate, second, || (rotate(gate, true), rotate(gate, true)));
        assert!(other.signs_from > one.signs_from);
        let token = at(gate, one.signs_from, || gate.access_token(&target.domain));
        assert_eq!(kid(&token), one.kid);
        at(gate, other.signs_from, || target.gets("of the first", &token, GOOD));
        assert_eq!(target.signs(), other.kid);
    }
}

/// A change of JWT_ALGORITHM just after the first start keeps the tokens of that start valid.
#[test]
fn signing_key__used_for_less_than_a_second_still_verifies() {
    for _ in 0..20 {
        let before = Target::of(Algorithm::Es256);
        let (token, user) = (before.token.clone(), before.user.token.clone());
        let target = before.restart(&[("JWT_ALGORITHM", "HS256")]);
        let row = stored_keys(&target.gate).remove(0);
        target.gets("the client's", &token, GOOD);
        target.gets("the user's", &user, GOOD);
        if row.signs_until == Some(row.signs_from) {
            return;
        }
    }
    panic!("no restart within a second");
}

/// After a change of JWT_ALGORITHM the HMAC key verifies earlier tokens until its retention ends. It never returns,
/// whatever happens to later keys.
#[test]
fn hmac_key__does_not_return_after_its_retention() {
    let end_now: fn(&Target) = |target| assert!(retire(&target.gate, &target.signs()));
    let replace: fn(&Target) = |target| {
        let old = target.signs();
        target.gate.clock.advance(rotate(&target.gate, true).signs_from - target.gate.clock.now());
        assert!(retire(&target.gate, &old));
    };
    let pass_on: fn(&Target) = |target| {
        let next = rotate(&target.gate, false);
        target.gate.clock.advance(next.signs_from + RETENTION - target.gate.clock.now());
    };
    for (name, then) in
        [("nothing", (|_| {}) as fn(&Target)), ("rotated", pass_on), ("replaced", replace), ("retired", end_now)]
    {
        let target = Target::new().restart(&[("JWT_ALGORITHM", "ES256")]);
        let changed = target.gate.clock.now();
        let (hmac, hmac_kid) = (Signer::Hs256(JWT_SECRET.into()), hmac_kid(&target.gate, JWT_SECRET));
        target.gets("of before the change", &target.fresh(&hmac, &hmac_kid), GOOD);
        target.gate.clock.advance(changed + 3 + RETENTION + 1 - target.gate.clock.now());
        target.gets("an hour after the change", &target.fresh(&hmac, &hmac_kid), INVALID);
        then(&target);
        target.gets(name, &target.fresh(&hmac, &hmac_kid), INVALID);
        target.gate.app.maintain().expect("the database answers");
        target.gets(name, &target.fresh(&hmac, &hmac_kid), INVALID);
    }
}

/// HS256 has one key that signs and a previous one that verifies.
#[test]
fn hs256__rotation_by_the_previous_secret() {
    const NEW: &str = "T9vX2mK7pQ4sW8zB5nR1cF6yH3jL0dG-new-key";
    let target = Target::new();
    let (domain, user, old) = (target.domain, target.user, target.token);
    let gate = target.gate.restart(&[("JWT_SECRET", NEW), ("JWT_SECRET_PREVIOUS", JWT_SECRET)]);
    let status = |gate: &Gate, token: &str| gate.get("/v1/test").token(token).send().status;
    assert_eq!((status(&gate, &old), status(&gate, &user.token)), (200, 200), "signed before");
    let new = gate.access_token(&domain);
    assert_eq!((kid(&new), kid(&old)), (hmac_kid(&gate, NEW), hmac_kid(&gate, JWT_SECRET)));
    assert_eq!(status(&gate, &new), 200);
    gate.clock.advance(60);
    assert_eq!(status(&gate, &old), EXPIRED.0, "the token is valid until its own expiry");

    let gate = gate.restart(&[("JWT_SECRET_PREVIOUS", "")]);
    gate.get("/v1/test").token(&user.token).send().refused(401, "invalid");
    assert_eq!(status(&gate, &gate.access_token(&domain)), 200);
    // Without the previous secret, its tokens are refused at once.
    let gate = gate.restart(&[("JWT_SECRET", JWT_SECRET)]);
    assert_eq!(status(&gate, &user.token), 200);
    gate.get("/v1/test").token(&new).send().refused(401, "invalid");
}
