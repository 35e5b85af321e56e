//! The audit log: each change leaves one row, tampering is found, and users see only their own rows.

pub mod actions;
mod archive;
mod chain;
mod command_line;
mod failures;
mod parallel;

use gatebird::db::audit::chain::{Broken, Head, verify};
use gatebird::db::audit::{Actor, AuditRow, Audited, Who, list_from};

use crate::accounts::stored;
use crate::harness::{Gate, Value, json};
use crate::posts::write;

/// Every row in the order of writing.
pub fn rows(gate: &Gate) -> Vec<AuditRow> {
    gate.app.db.read_now(|conn| Ok(list_from(conn, i64::MIN, 100_000)?)).expect("the database answers")
}

fn verified(gate: &Gate, known: Option<&Head>) -> Result<Head, Broken> {
    gate.app.db.read_now(|conn| Ok(verify(conn, known)?)).expect("the database answers")
}

/// A page of the user's own log.
fn page(gate: &Gate, token: &str, query: &str) -> Value {
    gate.get(&format!("/v1/audit{query}")).token(token).send().expect(200)
}

fn actions(page: &Value) -> Vec<&str> {
    let events = page["payload"].as_array().expect("an array");
    events.iter().map(|event| event["action"].as_str().expect("a string")).collect()
}

#[test]
fn audit_log__user_sees_only_own_rows() {
    let gate = Gate::start();
    let (alice, domain, access) = gate.tenant("alice");
    let bob = gate.sign_up("bob");
    let post = write(&gate, &access, "hello");
    let now = gate.clock.now();
    let seen = page(&gate, &alice.token, "");
    assert_eq!(actions(&seen), ["post.created", "domain.registered", "user.signed_up"]);
    let at = seen["payload"][0]["at"].as_i64().expect("seconds");
    assert!((now - 30..=now).contains(&at), "{at}");
    let event = |actor: &str, action: &str, target: &str| json!({"at": at, "actor": actor, "address": "127.0.0.1", "action": action, "target": target});
    assert_eq!(seen["payload"][0], event(&domain.id, "post.created", &post.to_string()));
    assert!(seen.get("nextCursor").is_none(), "{seen}");
    assert_eq!(actions(&page(&gate, &bob.token, "")), ["user.signed_up"]);

    // The cursor of another user does not lead to that user's rows: it is a position and grants nothing.
    for _ in 0..3 {
        write(&gate, &alice.token, "more");
    }
    let cursor = page(&gate, &alice.token, "?limit=1")["nextCursor"].as_str().expect("another page").to_owned();
    let places = page(&gate, &bob.token, &format!("?cursor={cursor}"));
    assert_eq!(actions(&places), ["user.signed_up"]);
    // A domain's token does not act as the user, whatever its scopes.
    gate.get("/v1/audit").token(&access).send().refused(403, "kind");
}

#[test]
fn audit_log__other_actors_are_anonymous() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    gate.sign_up("bob");
    let (owner, other) = (stored(&gate, "alice").tenant.id, stored(&gate, "bob").tenant.id);
    let now = gate.clock.now();
    let address = Some("203.0.113.9".parse().expect("an address"));
    for (actor, shown) in [
        (Actor { who: Who::User(other), address }, json!(["other", null])),
        (Actor { who: Who::User(owner), address }, json!([owner.to_string(), "203.0.113.9"])),
        (Actor { who: Who::Anyone, address }, json!(["anyone", "203.0.113.9"])),
        (Actor::OPERATOR, json!(["operator", null])),
        (Actor::SERVER, json!(["server", null])),
    ] {
        let entry = actor.event("domain.suspended", &domain.id, Some(owner), now);
        gate.app.db.write_now(|conn| Audited::new((), entry).record(conn)).expect("it is written");
        let event = &page(&gate, &alice.token, "?limit=1")["payload"][0];
        assert_eq!(json!([event["actor"], event["address"]]), shown);
        assert!(!event.to_string().contains(&other.to_string()), "{event}");
    }
    verified(&gate, None).expect("an intact chain");
}

#[test]
fn audit_log__pages_neither_skip_nor_repeat() {
    let gate = Gate::start();
    let (alice, _, _) = gate.tenant("alice");
    let bob = gate.sign_up("bob");
    let written: Vec<String> = (0..20)
        .map(|number| {
            write(&gate, &bob.token, "between");
            write(&gate, &alice.token, &number.to_string()).to_string()
        })
        .collect();
    let (mut walked, mut query) = (Vec::new(), "?limit=7".to_owned());
    loop {
        let part = page(&gate, &alice.token, &query);
        let events = part["payload"].as_array().expect("an array").clone();
        walked.extend(events.into_iter().filter(|event| event["action"] == "post.created"));
        let Some(cursor) = part["nextCursor"].as_str() else { break };
        query = format!("?limit=7&cursor={cursor}");
        write(&gate, &alice.token, "too late for this walk");
    }
    let walked: Vec<&str> = walked.iter().rev().map(|event| event["target"].as_str().expect("a string")).collect();
    assert_eq!(walked, written);
}

#[test]
fn audit_log__rows_of_a_deleted_account_stay() {
    let gate = Gate::start();
    let (alice, _, _) = gate.tenant("alice");
    let confirm = json!({"password": crate::harness::PASSWORD});
    gate.delete("/v1/me").token(&alice.token).json(&confirm).send().expect(200);
    let again = gate.sign_up("alice2");
    assert_ne!(again.id, alice.id, "an id is never reused");
    assert_eq!(actions(&page(&gate, &again.token, "")), ["user.signed_up"]);
    let kept: Vec<String> =
        rows(&gate).into_iter().filter(|row| row.tenant == Some(alice.id)).map(|row| row.action).collect();
    assert_eq!(kept, ["user.signed_up", "domain.registered", "user.deleted"]);
}

#[test]
fn audit_log__address_from_trusted_proxies() {
    let forwarded = |gate: &Gate, name: &str| {
        let body = json!({"username": name, "password": crate::harness::PASSWORD});
        let request = gate.post("/v1/signup").json(&body);
        request.header("X-Forwarded-For", "198.51.100.1, 203.0.113.7").send().expect(201);
        rows(gate).pop().and_then(|row| row.address)
    };
    let behind = Gate::with(&[("TRUSTED_PROXIES", "127.0.0.0/8")]);
    assert_eq!(forwarded(&behind, "alice").as_deref(), Some("203.0.113.7"));
    let direct = Gate::start();
    assert_eq!(forwarded(&direct, "alice").as_deref(), Some("127.0.0.1"), "the header of an untrusted peer is ignored");
}
