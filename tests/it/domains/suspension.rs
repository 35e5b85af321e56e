//! Only the operator ends a suspension, whatever the owner does.

use std::sync::mpsc;
use std::time::Duration;

use gatebird::db::audit::Audited;
use gatebird::db::domain;
use gatebird::id::DomainId;

use super::{exchange, path, register, set_suspended};
use crate::accounts::row_counts;
use crate::audit::rows;
use crate::harness::{Gate, json};

#[test]
fn domain_suspension__owner_cannot_end_it_by_deletion() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    set_suspended(&gate, &domain.id, true);
    let (before, audit_rows) = (row_counts(&gate), rows(&gate).len());
    let delete = || gate.delete(&path(&domain)).token(&alice.token);
    assert_eq!(delete().send().refused(403, "suspended")["error"], "access_denied");
    let korean = delete().header("Accept-Language", "ko").send().refused(403, "suspended");
    assert_eq!(korean["message"], "운영자가 정지한 도메인입니다. 운영자만 정지를 해제할 수 있습니다");
    delete().header("If-Match", "*").send().refused(403, "suspended");
    for host in ["alice.example.com", "ALICE.example.com:443"] {
        register(&gate, &alice, &json!({"host": host, "type": "free"})).refused(409, "taken");
    }
    assert_eq!((row_counts(&gate), rows(&gate).len()), (before, audit_rows), "no row was changed");

    // Harmless changes are still allowed to the owner, and grant no access.
    gate.patch(&path(&domain)).token(&alice.token).json(&json!({"type": "premium"})).send().expect(200);
    let secrets = format!("{}/secrets", path(&domain));
    let rotated = gate.post(&secrets).token(&alice.token).json(&json!({"graceSeconds": 0})).send().expect(201);
    let secret = rotated["payload"]["clientSecret"].as_str().expect("a secret").to_owned();
    let domain = crate::harness::Domain { id: domain.id, secret };
    exchange(&gate, &domain).refused(401, "suspended");

    set_suspended(&gate, &domain.id, false);
    exchange(&gate, &domain).expect(200);
    gate.delete(&path(&domain)).token(&alice.token).send().expect(200);
}

/// The deletion starts while the suspension is being committed, and waits for it.
#[test]
fn domain_suspension__concurrent_deletion_waits() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    let id = DomainId::parse(&domain.id).expect("an id");
    let (sender, began) = mpsc::channel();
    std::thread::scope(|scope| {
        let app = &gate.app;
        scope.spawn(move || {
            let suspended = app.write_now(|conn| {
                domain::set_suspended(conn, id, true)?;
                sender.send(()).expect("the receiver is waiting");
                // Long enough for the deletion to reach the lock, which cannot be observed from outside.
                std::thread::sleep(Duration::from_millis(300));
                Ok(Audited::nothing(()))
            });
            suspended.expect("the database answers");
        });
        began.recv().expect("it begins");
        gate.delete(&path(&domain)).token(&alice.token).send().refused(403, "suspended");
    });
}
