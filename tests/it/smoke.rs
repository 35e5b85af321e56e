//! The main use case once.

use crate::harness::{Gate, json};

#[test]
fn smoke__domain_token_shows_its_owners_data_only() {
    let gate = Gate::start();
    let alice = gate.sign_up("alice");
    let domain = gate.register(&alice, "shop.example.com");
    let token = gate.access_token(&domain);

    let claims = gate.get("/v1/test").token(&token).send().expect(200);
    assert_eq!(claims["client_id"], json!(domain.id));
    assert_eq!(claims["id"], json!(alice.id));

    let post = gate.post("/v1/posts").token(&token).json(&json!({"content": "hello #world"})).send().expect(201);
    let mallory = gate.sign_up("mallory");
    let path = format!("/v1/posts/{}", post["payload"]["id"]);
    gate.get(&path).token(&alice.token).send().expect(200);
    gate.get(&path).token(&mallory.token).send().expect(404);
}
