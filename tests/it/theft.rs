//! What an owner can do about a stolen password, token or client secret.

use crate::accounts::{exchange, sign_in};
use crate::audit::rows;
use crate::binary::{PROMISED, within};
use crate::harness::{BEHIND_A_PROXY, Domain, Gate, PASSWORD, Reply, User, Value, from_address, json, needs_postgres};
use crate::oauth::{ClientKey, ISSUER, KeyClient};

const NEW_PASSWORD: &str = "paper lantern winter orchard";
const HOME: &str = "192.0.2.1";

fn sign_in_at(gate: &Gate, username: &str, password: &str, address: &str) -> Reply {
    from_address(gate.post("/v1/signin").json(&json!({"username": username, "password": password})), address).send()
}

/// Uses up the attempts of all networks that are unknown to an account.
fn exhaust(gate: &Gate, username: &str) {
    while sign_in_at(gate, username, "wrong password", "203.0.113.1").status == 401 {}
}

fn change_password(gate: &Gate, token: &str, body: &Value) -> Reply {
    let mut body = body.clone();
    body["newPassword"] = json!(NEW_PASSWORD);
    gate.put("/v1/me/password").token(token).json(&body).send()
}

fn token_of(reply: &Reply) -> String {
    reply.expect(200)["token"].as_str().expect("a token").to_owned()
}

fn secrets(gate: &Gate, token: &str, domain: &Domain) -> Vec<Value> {
    let answer = gate.get(&format!("/v1/domains/{}/secrets", domain.id)).token(token).send().expect(200);
    answer["payload"].as_array().expect("a list").clone()
}

fn make_secret(gate: &Gate, token: &str, domain: &Domain, address: &str) -> Domain {
    let request = gate.post(&format!("/v1/domains/{}/secrets", domain.id)).token(token);
    let answer = from_address(request.json(&json!({"graceSeconds": 86_400})), address).send().expect(201);
    let secret = answer["payload"]["clientSecret"].as_str().expect("a secret").to_owned();
    Domain { id: domain.id.clone(), secret }
}

#[test]
fn known_network__survives_a_restart() {
    let gate = Gate::with(&[("LIMIT_PASSWORDS", "5/d"), BEHIND_A_PROXY]);
    from_address(gate.post("/v1/signup").json(&json!({"username": "alice", "password": PASSWORD})), HOME)
        .send()
        .expect(201);
    sign_in_at(&gate, "alice", PASSWORD, "198.51.100.7").expect(200);
    let gate = gate.restart(&[]);
    exhaust(&gate, "alice");
    for address in [HOME, "198.51.100.7"] {
        sign_in_at(&gate, "alice", PASSWORD, address).expect(200);
    }
    sign_in_at(&gate, "alice", PASSWORD, "198.51.100.8").refused(429, "failures");
    // A guesser in the owner's network has no more attempts than elsewhere.
    let tried = (0..20).filter(|_| sign_in_at(&gate, "alice", "wrong password", HOME).status == 401).count();
    assert_eq!(tried, 5);
}

#[test]
fn known_network__on_another_node() {
    if needs_postgres().is_none() {
        return;
    }
    let here = Gate::with(&[("LIMIT_PASSWORDS", "5/d"), BEHIND_A_PROXY]);
    let there = here.another_node();
    from_address(here.post("/v1/signup").json(&json!({"username": "alice", "password": PASSWORD})), HOME)
        .send()
        .expect(201);
    exhaust(&there, "alice");
    sign_in_at(&there, "alice", PASSWORD, HOME).expect(200);
}

#[test]
fn known_network__forgotten_after_a_month() {
    let gate = Gate::with(&[("LIMIT_PASSWORDS", "5/d"), BEHIND_A_PROXY]);
    for name in ["alice", "bob"] {
        from_address(gate.post("/v1/signup").json(&json!({"username": name, "password": PASSWORD})), HOME)
            .send()
            .expect(201);
    }
    gate.clock.advance(20 * 86_400);
    sign_in_at(&gate, "bob", PASSWORD, HOME).expect(200);
    gate.clock.advance(11 * 86_400);
    gate.app.maintain().expect("the database answers");
    for name in ["alice", "bob"] {
        exhaust(&gate, name);
    }
    sign_in_at(&gate, "alice", PASSWORD, HOME).refused(429, "failures");
    sign_in_at(&gate, "bob", PASSWORD, HOME).expect(200);
}

/// From any network, during attempts of others.
#[test]
fn user_token__while_others_guess() {
    let gate = Gate::with(&[("LIMIT_PASSWORDS", "5/d"), BEHIND_A_PROXY]);
    for name in ["alice", "bob"] {
        let user = gate.sign_up(name);
        let gate = &gate;
        exhaust(gate, name);
        let elsewhere = "198.51.100.7";
        for _ in 0..4 {
            let body = json!({"oldPassword": "wrong password", "newPassword": NEW_PASSWORD});
            from_address(gate.put("/v1/me/password").token(&user.token).json(&body), elsewhere)
                .send()
                .refused(403, "credentials");
        }
        match name {
            "alice" => {
                let body = json!({"oldPassword": PASSWORD, "newPassword": NEW_PASSWORD});
                from_address(gate.put("/v1/me/password").token(&user.token).json(&body), elsewhere).send().expect(200);
            }
            _ => {
                let body = json!({"password": PASSWORD});
                from_address(gate.delete("/v1/me").token(&user.token).json(&body), elsewhere).send().expect(200);
            }
        }
    }
}

/// Attempts with a stolen token count for that token; another token of the owner is not affected.
#[test]
fn user_token__stolen_and_used_for_guesses() {
    let gate = Gate::with(&[("LIMIT_PASSWORDS", "5/d"), BEHIND_A_PROXY]);
    let alice = gate.sign_up("alice");
    let other = token_of(&sign_in(&gate, "alice", PASSWORD));
    let guess = |number: usize| {
        let body = json!({"oldPassword": "wrong password", "newPassword": NEW_PASSWORD});
        from_address(gate.put("/v1/me/password").token(&alice.token).json(&body), &format!("203.0.113.{number}")).send()
    };
    let statuses: Vec<u16> = (0..20).map(|number| guess(number).status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 403).count(), 5, "{statuses:?}");
    assert_eq!(statuses[19], 429);
    change_password(&gate, &other, &json!({"oldPassword": PASSWORD})).expect(200);
}

#[test]
fn secrets__who_made_them_and_from_where() {
    let gate = Gate::with(&[BEHIND_A_PROXY]);
    let alice = gate.sign_up("alice");
    let body = json!({"host": "shop.example.com", "type": "free"});
    let request = gate.post("/v1/domains").token(&alice.token).json(&body);
    let id = from_address(request, HOME).send().expect(201)["payload"]["id"].as_str().expect("an id").to_owned();
    let domain = Domain { id, secret: String::new() };
    make_secret(&gate, &alice.token, &domain, "203.0.113.66");
    crate::binary::run(&mut crate::binary::gatebird(&gate.database, &["domain", "rotate", &domain.id], &[]), "").good();
    let me = format!("usr_{}", alice.id);
    let made: Vec<_> = secrets(&gate, &alice.token, &domain)
        .into_iter()
        .map(|secret| (secret["createdBy"].clone(), secret["createdFrom"].clone()))
        .collect();
    assert_eq!(made, [(json!("operator"), json!(null)), (json!(me), json!("203.0.113.66")), (json!(me), json!(HOME))]);
}

#[test]
fn password_change__ends_the_secrets_made_since() {
    let gate = Gate::with(&[("USER_TOKEN_TTL", "30d"), BEHIND_A_PROXY]);
    let (alice, domain, _) = gate.tenant("alice");
    let second = gate.register(&alice, "second.example.com");
    let (_, others, _) = gate.tenant("bob");
    gate.clock.advance(1_000);
    let others_token = gate.access_token(&others);
    let theft = gate.clock.now();
    let stolen = [
        make_secret(&gate, &alice.token, &domain, "203.0.113.66"),
        make_secret(&gate, &alice.token, &second, "203.0.113.66"),
        gate.register(&alice, "third.example.com"),
    ];
    let bad = [json!(-1), json!(1.5), json!("1"), json!(null)];
    for since in bad {
        let body = json!({"oldPassword": PASSWORD, "endSecretsSince": since});
        let refusal = change_password(&gate, &alice.token, &body).refused(400, "invalid_field");
        assert_eq!(refusal["field"], json!("endSecretsSince"));
    }
    let body = json!({"oldPassword": "wrong password", "endSecretsSince": theft});
    change_password(&gate, &alice.token, &body).refused(403, "credentials");
    exchange(&gate, &stolen[0]).expect(200);

    let body = json!({"oldPassword": PASSWORD, "endSecretsSince": theft});
    change_password(&gate, &alice.token, &body).expect(200);
    for secret in &stolen {
        exchange(&gate, secret).refused(401, "unknown_client");
    }
    for secret in [&domain, &second, &others] {
        exchange(&gate, secret).expect(200);
    }
    gate.get("/v1/test").token(&others_token).send().expect(200);
    let recorded: Vec<_> = rows(&gate).into_iter().filter(|row| row.tenant == Some(alice.id)).rev().take(8).collect();
    let actions: Vec<_> = recorded.iter().map(|row| row.action.as_str()).collect();
    assert_eq!(actions.iter().filter(|action| **action == "secret.retired").count(), 3, "{actions:?}");
    assert!(actions.contains(&"user.password_changed"), "{actions:?}");

    // Without the member the secrets stay, and 0 ends all.
    let token = token_of(&sign_in(&gate, "alice", NEW_PASSWORD));
    let late = make_secret(&gate, &token, &domain, HOME);
    let body = json!({"oldPassword": NEW_PASSWORD, "newPassword": PASSWORD});
    gate.put("/v1/me/password").token(&token).json(&body).send().expect(200);
    exchange(&gate, &late).expect(200);
    let token = token_of(&sign_in(&gate, "alice", PASSWORD));
    change_password(&gate, &token, &json!({"oldPassword": PASSWORD, "endSecretsSince": 0})).expect(200);
    for secret in [&late, &domain, &second] {
        exchange(&gate, secret).refused(401, "unknown_client");
    }
}

#[test]
fn password_change__removes_the_public_keys_set_since() {
    let gate = Gate::with(&[("USER_TOKEN_TTL", "30d"), ("TOKEN_TTL", "1h"), ("JWT_ISSUER", ISSUER)]);
    let alice = gate.sign_up("alice");
    let untouched = KeyClient::register(&gate, &alice, "untouched.example.com", ClientKey::es256());
    let changed = KeyClient::register(&gate, &alice, "changed.example.com", ClientKey::es256());
    gate.clock.advance(1_000);
    let theft = gate.clock.now();
    let made = KeyClient::register(&gate, &alice, "made.example.com", ClientKey::es256());
    let set_keys = |token: &str, id: &str, key: &ClientKey| {
        let body = json!({"jwks": {"keys": [key.jwk()]}});
        gate.request("PATCH", &format!("/v1/domains/{id}")).token(token).json(&body).send().expect(200)
    };
    let set = KeyClient { gate: &gate, id: changed.id.clone(), key: ClientKey::es256() };
    set_keys(&alice.token, &set.id, &set.key);
    let stolen = [made.token(), set.token()];

    change_password(&gate, &alice.token, &json!({"oldPassword": PASSWORD, "endSecretsSince": theft})).expect(200);
    for token in &stolen {
        gate.get("/v1/test").token(token).send().refused(401, "revoked");
    }
    for client in [&made, &set] {
        client.present("/token", &client.assertion()).refused(401, "unknown_client");
    }
    untouched.token();
    let removed = rows(&gate).into_iter().filter(|row| row.action == "domain.keys_removed").count();
    assert_eq!(removed, 2);

    // The owner sees that there are none, and sets others.
    let token = token_of(&sign_in(&gate, "alice", NEW_PASSWORD));
    let shown = gate.get(&format!("/v1/domains/{}", set.id)).token(&token).send().expect(200);
    assert_eq!(shown["payload"]["jwks"], json!({"keys": []}));
    set_keys(&token, &changed.id, &changed.key);
    changed.token();
    let path = format!("/v1/domains/{}", made.id);
    let gate = gate.restart(&[]);
    let body = json!({"jwks": {"keys": []}});
    gate.request("PATCH", &path).token(&token).json(&body).send().refused(400, "invalid_field");
}

/// More than one transaction may change.
#[test]
fn password_change__ends_many_secrets() {
    let gate = Gate::with(&[("USER_TOKEN_TTL", "30d")]);
    let (alice, domain, _) = gate.tenant("alice");
    for _ in 0..150 {
        make_secret(&gate, &alice.token, &domain, HOME);
    }
    let earlier = crate::write_duration::long_writes(&gate);
    change_password(&gate, &alice.token, &json!({"oldPassword": PASSWORD, "endSecretsSince": 0})).expect(200);
    assert_eq!(crate::write_duration::long_writes(&gate) - earlier, 0);
    let token = token_of(&sign_in(&gate, "alice", NEW_PASSWORD));
    assert_eq!(secrets(&gate, &token, &domain).len(), 0);
}

fn sign_out(gate: &Gate, token: &str, body: Option<&Value>) -> Reply {
    let request = gate.post("/v1/signout").token(token);
    match body {
        Some(body) => request.json(body).send(),
        None => request.send(),
    }
}

#[test]
fn sign_out__this_token() {
    let gate = Gate::start();
    let (alice, domain, access) = gate.tenant("alice");
    for body in [None, Some(json!({})), Some(json!({"everywhere": false}))] {
        let token = token_of(&sign_in(&gate, "alice", PASSWORD));
        sign_out(&gate, &token, body.as_ref()).expect(200);
        gate.get("/v1/me").token(&token).send().refused(401, "revoked");
        sign_out(&gate, &token, None).refused(401, "revoked");
        for other in [&alice.token, &access] {
            gate.get("/v1/test").token(other).send().expect(200);
        }
    }
    for body in [json!({"everywhere": "yes"}), json!({"everywhere": null}), json!({"all": true})] {
        sign_out(&gate, &alice.token, Some(&body)).refused(400, "invalid_field");
    }
    sign_out(&gate, &access, None).refused(403, "kind");
    exchange(&gate, &domain).expect(200);
    let last = rows(&gate).pop().expect("a row");
    assert_eq!(
        (&*last.action, last.actor, last.tenant),
        ("user.signed_out", format!("usr_{}", alice.id), Some(alice.id))
    );
    let gate = gate.restart(&[]);
    gate.get("/v1/me").token(&alice.token).send().expect(200);
}

#[test]
fn sign_out__everywhere() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    let bob = gate.sign_up("bob");
    let other = token_of(&sign_in(&gate, "alice", PASSWORD));
    sign_out(&gate, &alice.token, Some(&json!({"everywhere": true}))).expect(200);
    for token in [&alice.token, &other] {
        gate.get("/v1/me").token(token).send().refused(401, "revoked");
    }
    gate.get("/v1/me").token(&bob.token).send().expect(200);
    // Domains and owner continue with new tokens.
    exchange(&gate, &domain).expect(200);
    let token = token_of(&sign_in(&gate, "alice", PASSWORD));
    gate.get("/v1/me").token(&token).send().expect(200);
    let gate = gate.restart(&[]);
    gate.get("/v1/me").token(&other).send().refused(401, "revoked");
    gate.get("/v1/me").token(&token).send().expect(200);
}

/// A thief cannot use up the request that ends the theft.
#[test]
fn sign_out__while_the_account_is_over_its_limit() {
    let gate = Gate::with(&[("LIMIT_CHANGES", "3/h")]);
    let (alice, _, _) = gate.tenant("alice");
    let post = || gate.post("/v1/posts").token(&alice.token).json(&json!({"content": "more"})).send();
    while post().status != 429 {}
    sign_out(&gate, &alice.token, Some(&json!({"everywhere": true}))).expect(200);
    gate.get("/v1/me").token(&alice.token).send().refused(401, "revoked");
}

#[test]
fn sign_out__on_another_node() {
    if needs_postgres().is_none() {
        return;
    }
    let here = Gate::start();
    let there = here.another_node();
    let User { token, .. } = here.sign_up("alice");
    let status = |token: &str| there.get("/v1/me").token(token).send().status;
    for body in [json!({}), json!({"everywhere": true})] {
        let token = token_of(&sign_in(&here, "alice", PASSWORD));
        within(PROMISED, "a new token", || status(&token) == 200);
        sign_out(&here, &token, Some(&body)).expect(200);
        within(PROMISED, "a token that was signed out", || status(&token) == 401);
    }
    within(PROMISED, "all tokens", || status(&token) == 401);
}
