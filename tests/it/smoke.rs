//! The main use case once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Gate, check_all, check_each, json};

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

/// Every row is checked, and one that fails makes the test fail.
#[test]
fn check_of_rows__one_row_fails() {
    let checked = AtomicUsize::new(0);
    let check = |row: i32| {
        checked.fetch_add(1, Ordering::SeqCst);
        assert_ne!(row, 2);
    };
    assert!(catch_unwind(AssertUnwindSafe(|| check_each([1, 2, 3], check))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| check_all([1, 2, 3], check))).is_err());
    assert_eq!(checked.load(Ordering::SeqCst), 6);
    check_each([1, 3], check);
    check_all([1, 3], check);
}
