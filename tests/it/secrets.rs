//! Rotation: several secrets at once, their deadlines to the second, with and without a grace.

use gatebird::App;
use gatebird::db::{Conn, secret};
use gatebird::id::{DomainId, SecretId};
use gatebird::secret::ClientSecret;

use crate::harness::{Domain, Gate, Reply, User, Value, json, needs_postgres};

mod under_load;

fn rotate(gate: &Gate, owner: &User, domain: &Domain, body: &Value) -> Reply {
    gate.post(&format!("/v1/domains/{}/secrets", domain.id)).token(&owner.token).json(body).send()
}

/// A new secret of that domain with that grace.
fn rotated(gate: &Gate, owner: &User, domain: &Domain, grace: i64) -> Domain {
    let answer = rotate(gate, owner, domain, &json!({"graceSeconds": grace})).expect(201);
    Domain { id: domain.id.clone(), secret: answer["payload"]["clientSecret"].as_str().expect("a secret").into() }
}

fn list(gate: &Gate, owner: &User, domain: &Domain) -> Vec<Value> {
    let answer = gate.get(&format!("/v1/domains/{}/secrets", domain.id)).token(&owner.token).send().expect(200);
    answer["payload"].as_array().expect("a list").clone()
}

fn try_secret(gate: &Gate, secret: &str) -> Reply {
    gate.post("/token").json(&json!({"clientSecret": secret})).send()
}

#[test]
fn secret_rotation__both_secrets_work_until_the_deadline() {
    let gate = Gate::start();
    let (alice, old, token) = gate.tenant("alice");
    let new = rotated(&gate, &alice, &old, 100);
    let deadline = list(&gate, &alice, &old)[1]["expiresAt"].as_i64().expect("a deadline");
    assert!((gate.clock.now() + 98..=gate.clock.now() + 100).contains(&deadline));
    gate.clock.advance(deadline - gate.clock.now() - 2);
    gate.get("/v1/test").token(&token).send().refused(419, "expired");
    for secret in [&old.secret, &new.secret] {
        try_secret(&gate, secret).expect(200);
    }
    gate.clock.advance(deadline - gate.clock.now());
    try_secret(&gate, &old.secret).refused(401, "unknown_client");
    try_secret(&gate, &new.secret).expect(200);
}

#[test]
fn secret_rotation__without_grace_ends_old_secrets_and_tokens() {
    let gate = Gate::start();
    let (alice, first, _) = gate.tenant("alice");
    let second = rotated(&gate, &alice, &first, 3600);
    let tokens = [gate.access_token(&first), gate.access_token(&second)];
    let third = rotated(&gate, &alice, &first, 0);
    for secret in [&first.secret, &second.secret] {
        try_secret(&gate, secret).refused(401, "unknown_client");
    }
    for token in &tokens {
        gate.get("/v1/test").token(token).send().refused(401, "revoked");
    }
    gate.get("/v1/test").token(gate.access_token(&third)).send().expect(200);
    assert_eq!(list(&gate, &alice, &first).len(), 1);
}

#[test]
fn secret_rotation__caller_with_a_retiring_secret_is_warned() {
    let gate = Gate::start();
    let (alice, old, _) = gate.tenant("alice");
    assert_eq!(try_secret(&gate, &old.secret).header("x-secret-expires"), None);
    let new = rotated(&gate, &alice, &old, 500);
    let deadline = &list(&gate, &alice, &old)[1]["expiresAt"];
    let form = |domain: &Domain| {
        gate.post("/token").basic(&domain.id, &domain.secret).form("grant_type=client_credentials").send()
    };
    for reply in [try_secret(&gate, &old.secret), form(&old)] {
        assert_eq!(&reply.expect(200)["secretExpiresAt"], deadline);
        assert_eq!(reply.header("x-secret-expires"), Some(deadline.to_string().as_str()));
    }
    for reply in [try_secret(&gate, &new.secret), form(&new)] {
        assert_eq!(reply.expect(200).get("secretExpiresAt"), None);
        assert_eq!(reply.header("x-secret-expires"), None);
    }
}

#[test]
fn secret_rotation__default_and_bounds_of_the_grace() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    rotate(&gate, &alice, &domain, &json!({})).expect(201);
    let deadline = list(&gate, &alice, &domain)[1]["expiresAt"].as_i64().expect("a deadline");
    assert!((86_390..=86_400).contains(&(deadline - gate.clock.now())), "{deadline}");
    for grace in [json!(-1), json!(2_592_001), json!("60"), json!(1.5), json!(null), json!([]), json!(i64::MAX)] {
        let body = rotate(&gate, &alice, &domain, &json!({"graceSeconds": grace})).refused(400, "invalid_field");
        assert_eq!(body["field"], "graceSeconds", "{grace}");
    }
    rotate(&gate, &alice, &domain, &json!({"grace": 1})).refused(400, "invalid_field");
    assert_eq!(list(&gate, &alice, &domain).len(), 2, "a refused request changed nothing");
    rotate(&gate, &alice, &domain, &json!({"graceSeconds": 2_592_000})).expect(201);
}

#[test]
fn secret_rotation__nearer_deadline_is_kept() {
    let gate = Gate::start();
    let (alice, first, _) = gate.tenant("alice");
    rotated(&gate, &alice, &first, 10);
    let third = rotated(&gate, &alice, &first, 1000);
    gate.clock.advance(11);
    try_secret(&gate, &first.secret).refused(401, "unknown_client");
    let left: Vec<i64> = list(&gate, &alice, &first).iter().filter_map(|secret| secret["expiresAt"].as_i64()).collect();
    assert!(left[0] > gate.clock.now() + 900 && left[1] < gate.clock.now(), "{left:?}");
    try_secret(&gate, &third.secret).expect(200);
}

#[test]
fn secret_retirement__single_secret() {
    let gate = Gate::start();
    let (alice, first, token) = gate.tenant("alice");
    let second = rotated(&gate, &alice, &first, 3600);
    let id = list(&gate, &alice, &first)[1]["id"].clone();
    let path = format!("/v1/domains/{}/secrets/{id}", first.id);
    let mallory = gate.sign_up("mallory");
    gate.delete(&path).token(&mallory.token).send().refused(404, "not_found");
    let others = gate.register(&mallory, "mallory.example.com");
    let crossed = format!("/v1/domains/{}/secrets/{id}", others.id);
    gate.delete(&crossed).token(&mallory.token).send().refused(404, "not_found");
    gate.get("/v1/test").token(&token).send().expect(200);
    gate.delete(&path).token(&alice.token).send().expect(200);
    gate.delete(&path).token(&alice.token).send().refused(404, "not_found");
    try_secret(&gate, &first.secret).refused(401, "unknown_client");
    gate.get("/v1/test").token(&token).send().refused(401, "revoked");
    gate.get("/v1/test").token(gate.access_token(&second)).send().expect(200);
}

#[test]
fn secret_list__last_use_and_no_secret() {
    let gate = Gate::with(&[("TRUSTED_PROXIES", "127.0.0.1")]);
    let (alice, domain, _) = gate.tenant("alice");
    let before = list(&gate, &alice, &domain);
    assert_eq!(before[0]["hint"].as_str(), Some(&domain.secret[domain.secret.len() - 4..]));
    let form = gate.post("/token").header("X-Forwarded-For", "1.1.1.1, 203.0.113.9");
    form.json(&json!({"clientSecret": domain.secret})).send().expect(200);
    gate.app.flush().expect("the database answers");
    let after = &list(&gate, &alice, &domain)[0];
    assert_eq!(after["lastUsedFrom"], "203.0.113.9");
    assert!(after["lastUsedAt"].as_i64().is_some_and(|at| (gate.clock.now() - at) < 10), "{after}");
    assert_eq!(after["leakedToBrowser"], false);
    assert!(!after.to_string().contains(&domain.secret) && after.get("clientSecret").is_none());
}

#[test]
fn secret_quota__two_hundred_for_a_domain() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    for _ in 1..200 {
        rotated(&gate, &alice, &domain, 3600);
    }
    rotate(&gate, &alice, &domain, &json!({})).refused(403, "quota");
    gate.clock.advance(3601);
    gate.app.maintain().expect("the database answers");
    let alice = User { token: sign_in(&gate, "alice"), id: alice.id };
    // Each rotation removes only some, so that none takes long.
    rotated(&gate, &alice, &domain, 3600);
    rotated(&gate, &alice, &domain, 3600);
    assert_eq!(list(&gate, &alice, &domain).len(), 23, "recently expired secrets are listed for a while");
    gate.clock.advance(8 * 86_400);
    gate.app.maintain().expect("the database answers");
    let alice = User { token: sign_in(&gate, "alice"), id: alice.id };
    assert_eq!(list(&gate, &alice, &domain).len(), 1);
}

fn sign_in(gate: &Gate, name: &str) -> String {
    let body = json!({"username": name, "password": crate::harness::PASSWORD});
    gate.post("/v1/signin").json(&body).send().expect(200)["token"].as_str().expect("a token").into()
}

#[test]
fn secret_rotation__domain_with_keys_is_refused() {
    let gate = Gate::start();
    let alice = gate.sign_up("alice");
    let key = json!({"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a"});
    let body = json!({"host": "keys.example.com", "type": "free", "jwks": {"keys": [key]}});
    let answer = gate.post("/v1/domains").token(&alice.token).json(&body).send().expect(201);
    let id = answer["payload"]["id"].as_str().expect("an id").to_owned();
    let domain = Domain { id, secret: String::new() };
    rotate(&gate, &alice, &domain, &json!({})).refused(400, "invalid_field");
    assert!(list(&gate, &alice, &domain).is_empty());
}

/// The last rotation wins: one secret is left, and it is an acknowledged one.
#[test]
fn secret_rotation__concurrent_rotations_leave_one_secret() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    let made: Vec<Domain> = std::thread::scope(|scope| {
        let rotate = || scope.spawn(|| rotated(&gate, &alice, &domain, 0));
        let threads: Vec<_> = (0..20).map(|_| rotate()).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let works = made.iter().filter(|domain| try_secret(&gate, &domain.secret).status == 200).count();
    assert_eq!((works, list(&gate, &alice, &domain).len()), (1, 1));
}

/// A rotation on one node is known to the other within two seconds. Each node keeps the deadline by its own clock.
#[test]
fn secret_rotation__deadline_holds_on_every_node() {
    if needs_postgres().is_none() {
        return;
    }
    let gate = Gate::start();
    let other = gate.another_node();
    let (alice, old, _) = gate.tenant("alice");
    let new = rotated(&gate, &alice, &old, 50);
    let known = || try_secret(&other, &new.secret).status == 200;
    assert!((0..40).any(|_| known() || pause()), "the other node knows the new secret within two seconds");
    try_secret(&other, &old.secret).expect(200);
    other.clock.advance(51);
    try_secret(&other, &old.secret).refused(401, "unknown_client");
    try_secret(&gate, &old.secret).expect(200);
}

/// Waits for another node's next look at the database.
fn pause() -> bool {
    std::thread::sleep(std::time::Duration::from_millis(50));
    false
}

/// Flushes the counts.
fn write(app: &std::sync::Arc<App>) {
    app.flush().expect("the database answers");
}

#[test]
fn secret_list__last_use_survives_a_restart() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    write(&gate.app);
    let gate = gate.restart(&[]);
    assert!(list(&gate, &alice, &domain)[0]["lastUsedAt"].is_i64());
}

/// As when an import restores a secret that its owner has just deleted: this node learns of both at once.
#[test]
fn directory_sync__secret_deleted_and_restored_in_one_change() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    let id = DomainId::parse(&domain.id).expect("an id");
    let number = list(&gate, &alice, &domain)[0]["id"].to_string();
    let (number, same) =
        (SecretId::parse(&number).expect("a number"), ClientSecret::parse(&domain.secret).expect("a writable file"));
    let back = |conn: &mut Conn| {
        secret::delete(conn, id, number)?;
        Ok(secret::insert(conn, id, &same, gatebird::db::audit::Actor::SERVER, 0)?)
    };
    gate.app.db.change_now(back, |conn| gate.app.directory.catch_up(conn)).expect("the database answers");
    try_secret(&gate, &domain.secret).expect(200);
}
