//! A limit belongs to a user and a host: a domain that is deleted and registered again keeps what was left.

use super::exchange;
use crate::harness::{Domain, Gate, User, needs_postgres};

fn use_up(gate: &Gate, domain: &Domain) -> usize {
    (0..70).filter(|_| exchange(gate, domain).send().status == 200).count()
}

fn delete(gate: &Gate, user: &User, domain: &Domain) {
    gate.delete(&format!("/v1/domains/{}", domain.id)).token(&user.token).send().expect(200);
}

#[test]
fn plan_limit__domain_registered_again() {
    let gate = Gate::with(&[("LIMIT_FREE", "60/h"), ("USER_TOKEN_TTL", "1d")]);
    let (alice, bob) = (gate.sign_up("alice"), gate.sign_up("bob"));
    let mut domain = gate.register(&alice, "shop.example.com");
    assert_eq!(use_up(&gate, &domain), 60);
    for _ in 0..10 {
        delete(&gate, &alice, &domain);
        gate.app.maintain().expect("the database answers");
        domain = gate.register(&alice, "shop.example.com");
        exchange(&gate, &domain).send().refused(429, "plan");
    }
    // Other hosts and other users have their own limits.
    exchange(&gate, &gate.register(&alice, "other.example.com")).send().expect(200);
    exchange(&gate, &gate.register(&bob, "shop.example.com")).send().expect(200);
    // One request is restored each minute, whether the domain is registered or not.
    delete(&gate, &alice, &domain);
    gate.clock.advance(120);
    domain = gate.register(&alice, "shop.example.com");
    assert_eq!(use_up(&gate, &domain), 2);
    delete(&gate, &alice, &domain);
    gate.clock.advance(3_600);
    gate.app.maintain().expect("the database answers");
    domain = gate.register(&alice, "shop.example.com");
    assert_eq!(use_up(&gate, &domain), 60);
}

/// Only on PostgreSQL.
#[test]
fn plan_limit__domain_registered_again_at_another_node() {
    if needs_postgres().is_none() {
        return;
    }
    let gate = Gate::with(&[("LIMIT_FREE", "60/h"), ("USER_TOKEN_TTL", "1d")]);
    let other = gate.another_node();
    let alice = gate.sign_up("alice");
    let domain = gate.register(&alice, "shop.example.com");
    assert_eq!(use_up(&gate, &domain), 60);
    let follow = |node: &Gate| {
        let mut conn = node.app.db.sync_connection().expect("the database answers");
        node.app.directory.catch_up(&mut conn).expect("the database answers");
    };
    follow(&other);
    delete(&other, &alice, &domain);
    let domain = other.register(&alice, "shop.example.com");
    follow(&gate);
    exchange(&gate, &domain).send().refused(429, "plan");
}
