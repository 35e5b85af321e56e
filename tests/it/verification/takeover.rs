//! Two users may register a host; one of them can verify it.

use std::sync::Barrier;

use serde_json::json;

use diesel::prelude::*;
use gatebird::db::schema::domains;
use gatebird::db::verified_host;
use gatebird::id::DomainId;
use gatebird::verification::Method;

use super::dns::{Dns, Record};
use super::endpoint::{ask_token, publish, verification_rows};
use super::{server_with_dns, shown, value, verify};
use crate::harness::{Domain, Gate, User};
use crate::write_duration::{long_writes, numbers};

const NAME: &str = "shop.example.test";

fn two_registrations(gate: &Gate) -> [(User, Domain); 2] {
    ["alice", "bob"].map(|name| {
        let user = gate.sign_up(name);
        let domain = gate.register(&user, NAME);
        (user, domain)
    })
}

fn view(gate: &Gate, (owner, domain): &(User, Domain)) -> crate::harness::Value {
    gate.get(&format!("/v1/domains/{}", domain.id)).token(&owner.token).send().expect(200)["payload"].clone()
}

#[test]
fn host_takeover__verification_ends_unverified_registrations() {
    let dns = Dns::with(&[]);
    let gate = server_with_dns(&dns, &[]);
    let [alice, bob] = two_registrations(&gate);
    let other = gate.register(&bob.0, "other.example.test");
    let (his, his_other) = (gate.access_token(&bob.1), gate.access_token(&other));
    gate.get("/v1/test").token(&his).send().expect(200);

    publish(&gate, &dns, &alice.0, &alice.1, NAME);
    verify(&gate, &alice.0, &alice.1).expect(200);
    gate.get("/v1/test").token(&his).send().refused(401, "revoked");
    let refusal = ask_token(&gate, &bob.1).refused(401, "superseded");
    assert_eq!(refusal["error"], json!("invalid_client"));
    assert_eq!(view(&gate, &bob)["superseded"], json!(true));
    assert_eq!(view(&gate, &alice)["superseded"], json!(false));
    gate.access_token(&alice.1);
    gate.get("/v1/test").token(&his_other).send().expect(200);
    gate.access_token(&other);

    // Nor can he register it again, or verify it later, while another user holds it.
    let records = [&alice, &bob].map(|(user, domain)| Record::text(&value(&gate, user, domain)));
    let record = format!("_gatebird.{NAME}");
    dns.set(&records.map(|value| (record.as_str(), value)));
    let refusal = verify(&gate, &bob.0, &bob.1).refused(409, "taken");
    assert_eq!((&refusal["error"], &refusal["field"]), (&json!("conflict"), &json!("host")));
    assert!(!refusal.to_string().contains("alice"), "{refusal}");
    gate.delete(&format!("/v1/domains/{}", bob.1.id)).token(&bob.0.token).send().expect(200);
    let carol = gate.sign_up("carol");
    for user in [&bob.0, &carol] {
        for host in [NAME.to_owned(), format!("{NAME}:443")] {
            let body = json!({"host": host, "type": "free"});
            let refusal = gate.post("/v1/domains").token(&user.token).json(&body).send().refused(409, "taken");
            assert_eq!(refusal["field"], json!("host"));
        }
        gate.register(user, "www.shop.example.test");
    }
    assert_eq!(shown(&gate, &alice.0, &alice.1)["hostVerified"], json!(true));

    // The owner of a superseded domain sees that it is, and not by whom.
    let alices = (format!("usr_{}", alice.0.id), Some(alice.0.id), "domain.verified".into(), alice.1.id.clone());
    let bobs = ("server".into(), Some(bob.0.id), "domain.superseded".into(), bob.1.id.clone());
    assert_eq!(verification_rows(&gate), [alices, bobs]);
}

#[test]
fn host_takeover__lasts_until_the_loser_verifies() {
    let dns = Dns::with(&[]);
    let gate = server_with_dns(&dns, &[]);
    let [alice, bob] = two_registrations(&gate);
    publish(&gate, &dns, &alice.0, &alice.1, NAME);
    verify(&gate, &alice.0, &alice.1).expect(200);
    gate.delete(&format!("/v1/domains/{}", alice.1.id)).token(&alice.0.token).send().expect(200);
    ask_token(&gate, &bob.1).refused(401, "superseded");
    verify(&gate, &bob.0, &bob.1).refused(409, "unverified");
    ask_token(&gate, &bob.1).refused(401, "superseded");
    // A new registration of the host starts unverified.
    let carol = gate.sign_up("carol");
    let hers = gate.register(&carol, NAME);
    gate.access_token(&hers);

    publish(&gate, &dns, &bob.0, &bob.1, NAME);
    verify(&gate, &bob.0, &bob.1).expect(200);
    let token = gate.access_token(&bob.1);
    gate.get("/v1/test").token(&token).send().expect(200);
    assert_eq!(view(&gate, &bob)["superseded"], json!(false));
    ask_token(&gate, &hers).refused(401, "superseded");
}

/// The states survive a restart, and reach other nodes.
#[test]
fn host_takeover__survives_a_restart() {
    let dns = Dns::with(&[]);
    let gate = server_with_dns(&dns, &[("PROOF", "required")]);
    let [alice, bob] = two_registrations(&gate);
    publish(&gate, &dns, &alice.0, &alice.1, NAME);
    verify(&gate, &alice.0, &alice.1).expect(200);
    let gate = gate.restart(&[("PROOF", "optional")]);
    assert_eq!(crate::harness::parts(&gate.access_token(&alice.1)).1["host_verified"], json!(true));
    ask_token(&gate, &bob.1).refused(401, "superseded");
}

#[test]
fn host_takeover__one_of_fifty_concurrent_verifications_wins() {
    let dns = Dns::with(&[]);
    let gate = server_with_dns(&dns, &[]);
    let users: Vec<(User, Domain)> = (0..50)
        .map(|number| {
            let user = gate.sign_up(&format!("user{number}"));
            let domain = gate.register(&user, NAME);
            (user, domain)
        })
        .collect();
    let owner = format!("_gatebird.{NAME}");
    let values = users.iter().map(|(user, domain)| value(&gate, user, domain));
    let records: Vec<_> = values.map(|value| (owner.as_str(), Record::text(&value))).collect();
    dns.set(&records);
    let barrier = Barrier::new(users.len());
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let attempt = |user, domain| {
            barrier.wait();
            loop {
                let reply = verify(&gate, user, domain);
                // The number of concurrent checks is limited.
                if reply.status != 503 {
                    if reply.status != 200 {
                        reply.refused(409, "taken");
                    }
                    return reply.status;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        };
        let attempts: Vec<_> = users.iter().map(|(user, domain)| scope.spawn(move || attempt(user, domain))).collect();
        attempts.into_iter().map(|attempt| attempt.join().expect("no panic")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    let with_tokens = users.iter().filter(|(_, domain)| ask_token(&gate, domain).status == 200).count();
    assert_eq!(with_tokens, 1);
    let recorded = verification_rows(&gate);
    assert_eq!(recorded.iter().filter(|(_, _, action, _)| action == "domain.verified").count(), 1);
    assert_eq!(recorded.iter().filter(|(_, _, action, _)| action == "domain.superseded").count(), 49);
}

/// The database itself allows one, even if two came at the same instant.
#[test]
fn host_takeover__database_allows_one_verified_registration() {
    let gate = server_with_dns(&Dns::with(&[]), &[]);
    let ids = two_registrations(&gate).map(|(_, domain)| DomainId::parse(&domain.id).expect("an id"));
    let prove =
        |id| gate.app.db.change_now(|conn| Ok(verified_host::insert(conn, id, Method::Dns, "x", 1)?), |_| Ok(()));
    prove(ids[0]).expect("the first");
    prove(ids[1]).expect_err("a second claim is refused");
}

const MANY: i64 = 2_000;

/// Inserts many registrations of the host by others directly.
fn insert_registrations(gate: &Gate) {
    let rows = numbers(MANY);
    gate.execute(&format!(
        "INSERT INTO users (id, username, username_key, nick, password_hash, created_at)
                {rows} SELECT i, 'user' || i, 'user' || i, 'user', '', 0 FROM n;
            INSERT INTO domains (id, user_id, host, plan, created_at)
                SELECT 'dom_000000000000000' || (1000000 + id), id, '{NAME}', 'free', 0
                FROM users WHERE username_key LIKE 'user%'"
    ));
}

fn registrations_with_tokens(gate: &Gate) -> i64 {
    let others = domains::table.filter(domains::superseded.eq(false).and(domains::generation.eq(0)));
    gate.app.db.read_now(|conn| Ok(others.count().get_result(conn)?)).expect("the database answers")
}

#[test]
fn host_takeover__many_registrations_of_the_host() {
    let dns = Dns::with(&[]);
    let gate = server_with_dns(&dns, &[]);
    let [alice, bob] = two_registrations(&gate);
    let token = gate.access_token(&bob.1);
    insert_registrations(&gate);
    publish(&gate, &dns, &alice.0, &alice.1, NAME);
    let earlier = long_writes(&gate);
    verify(&gate, &alice.0, &alice.1).expect(200);
    assert_eq!(registrations_with_tokens(&gate), 1);
    assert_eq!(long_writes(&gate) - earlier, 0);
    gate.get("/v1/test").token(&token).send().refused(401, "revoked");
    ask_token(&gate, &bob.1).refused(401, "superseded");
    assert_eq!(verification_rows(&gate).len() as i64, 1 + 1 + MANY);
}

#[test]
fn host_takeover__request_ends_before_all_registrations_of_the_host() {
    let dns = Dns::with(&[]);
    let gate = server_with_dns(&dns, &[]);
    let [alice, bob] = two_registrations(&gate);
    insert_registrations(&gate);
    gate.app.drain();
    let id = DomainId::parse(&alice.1.id).expect("an id");
    let first_transaction = |conn: &mut _| {
        verified_host::insert(conn, id, Method::Dns, "x", 1)?;
        Ok(verified_host::supersede_some(conn, NAME, 10)?.len())
    };
    assert_eq!(gate.app.db.change_now(first_transaction, |_| Ok(())).expect("the database answers"), 10);
    let gate = gate.restart(&[]);
    gate.app.remove_leftovers().expect("the database answers");
    assert_eq!(registrations_with_tokens(&gate), 1);
    gate.access_token(&alice.1);
    ask_token(&gate, &bob.1).refused(401, "superseded");
}
