//! How many accounts and domains there may be in all.
#![allow(non_snake_case, reason = "a test is named after its feature and its condition")]

use crate::binary::{gatebird, run};
use crate::harness::{Gate, PASSWORD, json};

#[test]
fn max_users__reached() {
    let gate = Gate::with(&[("MAX_USERS", "2")]);
    let (alice, _) = (gate.sign_up("alice"), gate.sign_up("bob"));
    let sign_up = |name: &str| gate.post("/v1/signup").json(&json!({"username": name, "password": PASSWORD})).send();
    let refused = sign_up("carol").refused(403, "quota");
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("MAX_USERS")), "{refused}");
    let add = || run(&mut gatebird(&gate.database, &["user", "add", "carol"], &[("MAX_USERS", "2")]), PASSWORD);
    let refused = add();
    assert_eq!(refused.code, Some(64), "{refused:?}");
    assert!(refused.stderr.contains("MAX_USERS"), "{refused:?}");
    let text = gate.app.metrics_text();
    assert!(text.contains("gatebird_users 2\n") && text.contains("gatebird_max_users 2\n"), "{text}");

    let body = json!({"password": PASSWORD});
    gate.delete("/v1/me").token(&alice.token).json(&body).send().expect(200);
    sign_up("dave").expect(201);
}

#[test]
fn max_domains__reached() {
    let gate = Gate::with(&[("MAX_DOMAINS", "2")]);
    let alice = gate.sign_up("alice");
    let first = gate.register(&alice, "one.example.com");
    gate.register(&alice, "two.example.com");
    let register =
        |host: &str| gate.post("/v1/domains").token(&alice.token).json(&json!({"host": host, "type": "free"})).send();
    register("three.example.com").refused(403, "quota");
    let add = ["domain", "add", "three.example.com", "--user", "alice"];
    let refused = run(&mut gatebird(&gate.database, &add, &[("MAX_DOMAINS", "2")]), "");
    assert_eq!(refused.code, Some(64), "{refused:?}");
    assert!(refused.stderr.contains("MAX_DOMAINS"), "{refused:?}");
    let text = gate.app.metrics_text();
    assert!(text.contains("gatebird_domains 2\n") && text.contains("gatebird_max_domains 2\n"), "{text}");

    gate.delete(&format!("/v1/domains/{}", first.id)).token(&alice.token).send().expect(200);
    register("three.example.com").expect(201);
}
