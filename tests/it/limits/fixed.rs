//! Budgets of an account that no setting changes.
#![allow(non_snake_case, reason = "a test is named after its feature and its condition")]

use gatebird::app::Clock;
use gatebird::id::{DomainId, UserId};
use gatebird::shares::Budget;

use super::retry_after;
use crate::audit::rows;
use crate::harness::{Domain, Gate, Reply, json};

/// Seconds from now at which a test uses up a budget, so that none of it comes back while the test runs.
const AHEAD: u64 = 600;

/// Uses up a budget of the domain's owner and returns how much it was.
fn use_up(gate: &Gate, domain: &Domain, budget: fn(UserId) -> Budget<'static>) -> usize {
    let id = DomainId::parse(&domain.id).expect("an id");
    let owner = gate.app.directory.by_id(&id).expect("a live domain").tenant.id;
    let now = gate.clock.steady() + AHEAD * 1_000_000_000;
    (0..).take_while(|_| gate.app.budgets.spend(budget(owner), now).is_ok()).count()
}

#[test]
fn changes_by_clients__budget_used_up() {
    let gate = Gate::with(&[("TOKEN_TTL", "1h")]);
    let (alice, domain, token) = gate.tenant("alice");
    let (_, _, other) = gate.tenant("bob");
    let second = gate.access_token(&gate.register(&alice, "second.example.com"));
    let content = json!({"content": "x"});
    let create = |token: &str| gate.post("/v1/posts").token(token).json(&content).send();
    let path = format!("/v1/posts/{}", create(&token).expect(201)["payload"]["id"]);

    assert_eq!(use_up(&gate, &domain, Budget::ClientChanges), 600);
    let before = rows(&gate).len();
    for token in [&token, &second] {
        let changes: [Reply; 3] = [
            create(token),
            gate.put(&path).token(token).json(&content).send(),
            gate.delete(&path).token(token).send(),
        ];
        for reply in changes {
            assert_eq!(reply.refused(429, "account")["error"], "rate_limited");
            assert!(retry_after(&reply) >= 1, "{reply:?}");
        }
        gate.get(&path).token(token).send().expect(200);
    }
    assert_eq!(rows(&gate).len(), before, "a refused change leaves no row");
    create(&alice.token).expect(201);
    create(&other).expect(201);
    gate.app.write_ledger().expect("the database answers");
    let usage = gate.get(&format!("/v1/domains/{}/usage?days=1", domain.id)).token(&alice.token).send().expect(200);
    assert_eq!(usage["payload"][0]["refused"], json!({"account": 3}), "{usage}");

    gate.clock.advance(AHEAD as i64 + 1);
    gate.delete(&path).token(&token).send().expect(200);
}

#[test]
fn revocations__budget_used_up() {
    let gate = Gate::with(&[("TOKEN_TTL", "1h")]);
    let (alice, domain, token) = gate.tenant("alice");
    let second = gate.register(&alice, "second.example.com");
    let seconds = gate.access_token(&second);
    let (_, other, others) = gate.tenant("bob");
    let revoke = |domain: &Domain, token: &str| {
        gate.post("/revoke").basic(&domain.id, &domain.secret).form(format!("token={token}")).send()
    };

    assert_eq!(use_up(&gate, &domain, Budget::Revocations), 10_000);
    for (domain, token) in [(&domain, &token), (&second, &seconds)] {
        let reply = revoke(domain, token);
        assert_eq!(reply.refused(429, "account")["error"], "rate_limited");
        assert!(retry_after(&reply) >= 1, "{reply:?}");
        gate.get("/v1/test").token(token).send().expect(200);
    }
    revoke(&other, &others).expect(200);
    gate.get("/v1/test").token(&others).send().refused(401, "revoked");
    // All tokens of a domain can still be revoked together.
    let path = format!("/v1/domains/{}/secrets", second.id);
    gate.post(&path).token(&alice.token).json(&json!({"graceSeconds": 0})).send().expect(201);
    gate.get("/v1/test").token(&seconds).send().refused(401, "revoked");

    gate.clock.advance(AHEAD as i64 + 1);
    revoke(&domain, &token).expect(200);
    gate.get("/v1/test").token(&token).send().refused(401, "revoked");
}
