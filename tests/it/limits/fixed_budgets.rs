//! Budgets of accounts and networks whose size no setting changes.

use gatebird::app::Clock;
use gatebird::id::{DomainId, UserId};
use gatebird::shares::{Budget, Network};

use super::retry_after;
use crate::audit::rows;
use crate::harness::{BEHIND_A_PROXY, Domain, Gate, PASSWORD, Reply, from_address, json};

/// Seconds ahead of now at which a test uses up a budget, so that none of it returns during the test.
const AHEAD: u64 = 600;

/// Uses up a budget and returns its size.
fn use_up(gate: &Gate, budget: Budget<'_>) -> usize {
    let now = gate.clock.steady() + AHEAD * 1_000_000_000;
    (0..).take_while(|_| gate.app.budgets.spend(budget, now).is_ok()).count()
}

fn owner(gate: &Gate, domain: &Domain) -> UserId {
    let id = DomainId::parse(&domain.id).expect("an id");
    gate.app.directory.by_id(&id).expect("a live domain").tenant.id
}

#[test]
fn client_change_budget__used_up() {
    let gate = Gate::with(&[("TOKEN_TTL", "1h")]);
    let (alice, domain, token) = gate.tenant("alice");
    let (_, _, other) = gate.tenant("bob");
    let second = gate.access_token(&gate.register(&alice, "second.example.com"));
    let content = json!({"content": "x"});
    let create = |token: &str| gate.post("/v1/posts").token(token).json(&content).send();
    let path = format!("/v1/posts/{}", create(&token).expect(201)["payload"]["id"]);

    assert_eq!(use_up(&gate, Budget::ClientChanges(owner(&gate, &domain))), 600);
    let before = rows(&gate).len();
    for token in [&token, &second] {
        let changes: [Reply; 3] =
            [create(token), gate.put(&path).token(token).json(&content).send(), gate.delete(&path).token(token).send()];
        for reply in changes {
            assert_eq!(reply.refused(429, "account")["error"], "rate_limited");
            assert!(retry_after(&reply) >= 1, "{reply:?}");
        }
        gate.get(&path).token(token).send().expect(200);
    }
    assert_eq!(rows(&gate).len(), before, "a refused change leaves no row");
    create(&alice.token).expect(201);
    create(&other).expect(201);
    gate.app.flush().expect("the database answers");
    let usage = gate.get(&format!("/v1/domains/{}/usage?days=1", domain.id)).token(&alice.token).send().expect(200);
    assert_eq!(usage["payload"][0]["refused"], json!({"account": 3}), "{usage}");

    gate.clock.advance(AHEAD as i64 + 1);
    gate.delete(&path).token(&token).send().expect(200);
}

#[test]
fn read_budget__used_up() {
    let gate = Gate::with(&[("LIMIT_CHANGES", "3/m")]);
    let (alice, domain, token) = gate.tenant("alice");
    let bob = gate.sign_up("bob");
    gate.app.budgets.spend(Budget::Changes(owner(&gate, &domain)), gate.clock.steady()).expect("changes are left");

    assert_eq!(use_up(&gate, Budget::Reads(owner(&gate, &domain))), 30);
    for path in ["/v1/me", "/v1/domains", "/v1/audit", "/v1/posts/my"] {
        let reply = gate.get(path).token(&alice.token).send().refused(429, "account");
        assert_eq!(reply["error"], "rate_limited", "{path}");
        gate.get(path).token(&bob.token).send().expect(200);
    }
    gate.get("/v1/posts/my").token(&token).send().expect(200);
    gate.get("/v1/test").token(&alice.token).send().expect(200);
    let path = format!("/v1/domains/{}", domain.id);
    gate.delete(&path).token(&alice.token).send().expect(200);
}

#[test]
fn revocation_budget__used_up() {
    let gate = Gate::with(&[("TOKEN_TTL", "1h")]);
    let (alice, domain, token) = gate.tenant("alice");
    let second = gate.register(&alice, "second.example.com");
    let seconds = gate.access_token(&second);
    let (_, other, others) = gate.tenant("bob");
    let revoke = |domain: &Domain, token: &str| {
        gate.post("/revoke").basic(&domain.id, &domain.secret).form(format!("token={token}")).send()
    };

    assert_eq!(use_up(&gate, Budget::Revocations(owner(&gate, &domain))), 10_000);
    for (domain, token) in [(&domain, &token), (&second, &seconds)] {
        let reply = revoke(domain, token);
        assert_eq!(reply.refused(429, "account")["error"], "rate_limited");
        assert!(retry_after(&reply) >= 1, "{reply:?}");
        gate.get("/v1/test").token(token).send().expect(200);
    }
    gate.app.flush().expect("the database answers");
    let usage = gate.get(&format!("/v1/domains/{}/usage?days=1", domain.id)).token(&alice.token).send().expect(200);
    assert_eq!(usage["payload"][0]["refused"], json!({"account": 1}), "{usage}");
    revoke(&other, &others).expect(200);
    gate.get("/v1/test").token(&others).send().refused(401, "revoked");
    // Rotation still revokes all tokens of a domain together.
    let path = format!("/v1/domains/{}/secrets", second.id);
    gate.post(&path).token(&alice.token).json(&json!({"graceSeconds": 0})).send().expect(201);
    gate.get("/v1/test").token(&seconds).send().refused(401, "revoked");

    gate.clock.advance(AHEAD as i64 + 1);
    revoke(&domain, &token).expect(200);
    gate.get("/v1/test").token(&token).send().refused(401, "revoked");
}

#[test]
fn new_account_budget__of_the_network_used_up() {
    let (crowd, other) = ("192.0.2.1", "192.0.2.2");
    let gate = Gate::with(&[("LIMIT_SIGNUP", "1000000/m"), BEHIND_A_PROXY]);
    let sign_up = |name: &str, address: &str| {
        let body = json!({"username": name, "password": PASSWORD});
        from_address(gate.post("/v1/signup").json(&body), address).send()
    };
    let network = Network::of(Some(crowd.parse().expect("an address")));
    assert_eq!(use_up(&gate, Budget::NewAccounts(network)), 1_000);
    assert_eq!(sign_up("alice", crowd).refused(429, "ip")["error"], "rate_limited");
    sign_up("alice", other).expect(201);
    sign_up("no", crowd).refused(400, "invalid_field");
    gate.clock.advance(AHEAD as i64 + 90);
    sign_up("bob", crowd).expect(201);
}

#[test]
fn registration_budget__of_the_network_used_up() {
    let (crowd, other) = ("192.0.2.1", "192.0.2.2");
    let gate = Gate::with(&[("LIMIT_CHANGES", "1000000/m"), BEHIND_A_PROXY]);
    let alice = gate.sign_up("alice");
    let register = |host: &str, address: &str| {
        let body = json!({"host": host, "type": "free"});
        from_address(gate.post("/v1/domains").token(&alice.token).json(&body), address).send()
    };
    let network = Network::of(Some(crowd.parse().expect("an address")));
    assert_eq!(use_up(&gate, Budget::Registrations(network)), 10_000);
    assert_eq!(register("one.example.com", crowd).refused(429, "ip")["error"], "rate_limited");
    register("one.example.com", other).expect(201);
    gate.clock.advance(AHEAD as i64 + 10);
    register("two.example.com", crowd).expect(201);
}
