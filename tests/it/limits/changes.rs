//! The number of changes that an account may make in a time.

use super::{passed, retry_after};
use crate::audit::rows;
use crate::harness::{Gate, PASSWORD, Reply, User, concurrently, json};
use crate::openapi::Document;

/// A request that spends from the budget and changes nothing.
fn spend_one(gate: &Gate, user: &User) -> Reply {
    gate.post("/v1/domains").token(&user.token).json(&json!({})).send()
}

#[test]
fn change_budget__exact_under_concurrency() {
    let gate = Gate::with(&[("LIMIT_CHANGES", "10/h"), ("USER_TOKEN_TTL", "1d")]);
    let (alice, bob) = (gate.sign_up("alice"), gate.sign_up("bob"));
    assert_eq!(passed(&concurrently(50, || spend_one(&gate, &alice)), 400, "account"), 10);
    spend_one(&gate, &bob).refused(400, "invalid_field");

    let before = rows(&gate).len();
    let register = || {
        let body = json!({"host": "shop.example.com", "type": "free"});
        gate.post("/v1/domains").token(&alice.token).json(&body)
    };
    let refused = register().send();
    assert_eq!(refused.refused(429, "account")["error"], "rate_limited");
    let wait = retry_after(&refused);
    assert!((1..=360).contains(&wait), "{wait}");
    let korean = register().header("Accept-Language", "ko").send().refused(429, "account");
    assert_eq!(korean["message"], "계정에서 변경 요청을 너무 많이 보냈습니다. 잠시 후 다시 시도하세요");
    assert_eq!(rows(&gate).len(), before, "a refused request changes nothing");
    gate.get("/v1/domains").token(&alice.token).send().expect(200);

    gate.clock.advance(wait);
    register().send().expect(201);
    register().send().refused(429, "account");
}

/// Every change by a user spends from the budget; reading, revocation and changes by domains do not.
#[test]
fn change_budget__spent_by_every_change_of_a_user_only() {
    let gate = Gate::with(&[("LIMIT_CHANGES", "1/d")]);
    let document = Document::of(&gate);
    let mut changes = 0;
    for (number, (operation, described)) in document.operations().enumerate() {
        let demanded = described["security"].to_string();
        if !demanded.contains("oken\"") {
            continue;
        }
        let (method, path) = operation.split_once(' ').expect("a method and a path");
        let path = path.replace("{id}", "1").replace("{secretId}", "1").replace("{title}", "x");
        let user = gate.sign_up(&format!("user{number}"));
        let send = || gate.request(method, &path).token(&user.token).send();
        let first = send();
        assert_ne!(first.status, 429, "{operation}");
        match (method, path.as_str()) {
            // It revokes its own token.
            ("POST", "/v1/signout") => drop(send().refused(401, "revoked")),
            ("GET" | "DELETE", _) | ("PUT", "/v1/me/password") => {
                send();
                assert_ne!(send().status, 429, "{operation}");
                spend_one(&gate, &user).refused(400, "invalid_field");
            }
            _ => {
                changes += 1;
                send().refused(429, "account");
                spend_one(&gate, &user).refused(429, "account");
            }
        }
    }
    assert!(changes >= 6, "{changes}");
}

/// A thief with a token may use up the budget, and the owner can still end the access.
#[test]
fn change_budget__not_spent_by_deletion_or_password_change() {
    let gate = Gate::with(&[("LIMIT_CHANGES", "5/d"), ("BCRYPT_COST", "4")]);
    let (thief, domain, _) = gate.tenant("alice");
    while spend_one(&gate, &thief).status != 429 {}
    let owner = gate.post("/v1/signin").json(&json!({"username": "alice", "password": PASSWORD})).send().expect(200);
    let owner = owner["token"].as_str().expect("a token");
    gate.delete(&format!("/v1/domains/{}", domain.id)).token(owner).send().expect(200);
    let passwords = json!({"oldPassword": PASSWORD, "newPassword": "another horse battery staple"});
    gate.put("/v1/me/password").token(owner).json(&passwords).send().expect(200);
    gate.get("/v1/me").token(&thief.token).send().refused(401, "revoked");
}

#[test]
fn change_budget__not_spent_by_clients() {
    let gate = Gate::with(&[("LIMIT_CHANGES", "2/d")]);
    let (user, _, token) = gate.tenant("alice");
    let write = |token: &str| gate.post("/v1/posts").token(token).json(&json!({"content": "x"})).send();
    for _ in 0..5 {
        write(&token).expect(201);
    }
    write(&user.token).expect(201);
    write(&user.token).refused(429, "account");
    write(&token).expect(201);
}

#[test]
fn change_budget__off() {
    let gate = Gate::with(&[("LIMIT_CHANGES", "off")]);
    let user = gate.sign_up("alice");
    for _ in 0..150 {
        spend_one(&gate, &user).refused(400, "invalid_field");
    }
}
