//! An assertion is accepted once by all nodes together, also across a restart. Only on PostgreSQL, because there have
//! to be several nodes.

use std::sync::Arc;
use std::time::Duration;

use diesel::{QueryDsl, RunQueryDsl, SelectableHelper};
use gatebird::db::schema::used_assertions;
use gatebird::db::used_assertion::{self, UsedAssertion};
use gatebird::id::DomainId;

use super::super::{
    ClientKey, ENDPOINTS, ISSUER, KeyClient, asserting, invalid_client, long_running, rest_of_form, with,
};
use crate::binary::{Child, PROMISED, signal, text, within};
use crate::harness::{Clock, Database, Gate, Reply, json, needs_postgres};
use crate::nodes::cluster::{self, Cluster};

/// Another node on the same database, which has been up for as long.
fn long_running_node(gate: &Gate) -> Gate {
    let node = gate.another_node();
    node.clock.advance(1000);
    node
}

fn present(gate: &Gate, path: &str, assertion: &str) -> Reply {
    gate.post(path).form(format!("{}&{}", rest_of_form(path), asserting(assertion))).send()
}

/// An assertion that is valid for that many seconds.
fn assertion_valid_for(client: &KeyClient<'_>, seconds: i64) -> String {
    let claims = with(client.claims(), json!({"exp": client.gate.clock.now() + seconds}));
    client.sign(&client.header(), &claims)
}

fn known_count(gate: &Gate) -> usize {
    gate.app.directory.used_assertions.count()
}

fn stored_count(gate: &Gate) -> i64 {
    let count = gate.app.db.read_now(|conn| Ok(used_assertions::table.count().get_result(conn)?));
    count.expect("the database answers")
}

fn publish(gate: &Gate) {
    gate.app.publish_used_assertions().expect("the database answers");
}

fn wait_until_known(client: &KeyClient<'_>, gate: &Gate) {
    let id = DomainId::parse(&client.id).expect("an id");
    within(PROMISED, "a new client", || gate.app.directory.by_id(&id).is_some());
}

#[test]
fn client_assertion__used_on_another_node() {
    if needs_postgres().is_none() {
        return;
    }
    let here = long_running();
    let there = long_running_node(&here);
    let user = here.sign_up("alice");
    let (mut taken, mut slowest) = (0, Duration::ZERO);
    for (number, key) in ClientKey::each().into_iter().enumerate() {
        let client = KeyClient::register(&here, &user, &format!("h{number}.example.com"), key);
        wait_until_known(&client, &there);
        for (one, other) in [(&here, &there), (&there, &here)] {
            let assertions = ENDPOINTS.map(|path| (path, client.assertion()));
            for (path, assertion) in &assertions {
                present(one, path, assertion).expect(200);
            }
            taken += assertions.len();
            slowest = slowest.max(within(PROMISED, "used assertions are known", || known_count(other) == taken));
            for (path, assertion) in &assertions {
                invalid_client(path, &present(other, path, assertion));
                invalid_client(path, &present(one, path, assertion));
            }
            present(other, "/token", &client.assertion()).expect(200);
            taken += 1;
        }
    }
    println!("the slowest took {slowest:?}");
    // Two nodes that accepted the same assertion both write it.
    publish(&here);
    publish(&there);
    let all = |conn: &mut gatebird::db::Conn| -> gatebird::error::Result<Vec<UsedAssertion>> {
        Ok(used_assertions::table.select(UsedAssertion::as_select()).load(conn)?)
    };
    let (before, all) = (stored_count(&here), here.app.db.read_now(all).expect("the database answers"));
    here.app.db.change_now(|conn| Ok(used_assertion::insert(conn, &all)?), |_| Ok(())).expect("duplicates are ignored");
    assert_eq!((before, stored_count(&here)), (taken as i64, taken as i64));
}

#[test]
fn used_assertions__known_to_a_new_node() {
    if needs_postgres().is_none() {
        return;
    }
    let gate = long_running();
    let user = gate.sign_up("alice");
    let client = KeyClient::register(&gate, &user, "h.example.com", ClientKey::es256());
    let [used, unused] = [client.assertion(), client.assertion()];
    present(&gate, "/token", &used).expect(200);
    publish(&gate);
    let KeyClient { id, key, .. } = client;
    let other = long_running_node(&gate);
    let gate = gate.restart(&[]);
    for gate in [&gate, &other] {
        assert_eq!(known_count(gate), 1);
        invalid_client("used before", &present(gate, "/token", &used));
    }
    // Some used assertions may not have been written, so the restarted node refuses older ones.
    present(&gate, "/token", &unused).refused(503, "busy");
    gate.clock.advance(11);
    let client = KeyClient { gate: &gate, id, key };
    present(&gate, "/token", &client.assertion()).expect(200);
}

/// A server in its own process on that database, and a good assertion for it.
fn child(database: &Database) -> (Child, String) {
    let key = ClientKey::es256();
    let child = Child::start(database, &[("JWT_ISSUER", ISSUER)]);
    let (user, _, _) = child.client.tenant("alice");
    let body = json!({"host": "keys.example.com", "type": "free", "jwks": {"keys": [key.jwk()]}});
    let id = text(&child.client.post("/v1/domains", &user.token, body).expect(201)["payload"]["id"]);
    let now = Clock::default().now();
    let claims = json!({"iss": id, "sub": id, "aud": ISSUER, "iat": now, "exp": now + 60, "jti": "x"});
    let assertion = key.sign(&json!({"alg": key.alg}).to_string(), &claims.to_string());
    (child, assertion)
}

/// Uses the assertion at the server and stops the server at once.
fn use_and_stop(child: Child, assertion: &str) {
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = format!("{}&{}", rest_of_form("/token"), asserting(assertion));
    child.client.send("POST", "/token", &form, &body).expect("an answer").expect(200);
    signal("INT", child.pid());
    assert_eq!(child.wait(Duration::from_secs(15)).code, Some(0));
}

#[test]
fn used_assertions__published_at_shutdown() {
    if needs_postgres().is_none() {
        return;
    }
    let database = Database::new();
    let (child, assertion) = child(&database);
    let other = Gate::on(Arc::new(database), &[]);
    use_and_stop(child, &assertion);
    assert_eq!(stored_count(&other), 1);
    within(PROMISED, "the other node knows", || known_count(&other) == 1);
    invalid_client("used", &present(&other, "/token", &assertion));
}

#[test]
fn shutdown__database_hangs() {
    if !cluster::is_available() {
        return;
    }
    let cluster = Cluster::start();
    let (child, assertion) = child(&Database::in_schema(&cluster.url()));
    cluster.freeze();
    use_and_stop(child, &assertion);
}

/// Rows are deleted when no node's clock can accept their assertion; memory is freed when the node's own clock cannot.
#[test]
fn used_assertions__deleted_after_expiry_on_every_node() {
    if needs_postgres().is_none() {
        return;
    }
    let here = long_running();
    let there = long_running_node(&here);
    let user = here.sign_up("alice");
    let client = KeyClient::register(&here, &user, "h.example.com", ClientKey::es256());
    for assertion in [assertion_valid_for(&client, 60), assertion_valid_for(&client, 600)] {
        present(&here, "/token", &assertion).expect(200);
    }
    publish(&here);
    within(PROMISED, "both assertions are known there", || known_count(&there) == 2);
    let later = |seconds: i64, of_rows: i64, of_memory: usize| {
        for gate in [&here, &there] {
            gate.clock.advance(seconds);
        }
        for gate in [&there, &here] {
            gate.app.maintain().expect("the database answers");
            assert_eq!((stored_count(gate), known_count(gate)), (of_rows, of_memory), "{seconds} later");
        }
    };
    later(50, 2, 2);
    later(11, 2, 1);
    later(180, 1, 1);
    later(360, 1, 0);
    later(181, 0, 0);
}

#[test]
fn used_assertions__published_after_a_database_outage() {
    if !cluster::is_available() {
        return;
    }
    let mut cluster = Cluster::start();
    let here = Gate::on(Arc::new(Database::in_schema(&cluster.url())), &[]);
    let there = here.another_node();
    let user = here.sign_up("alice");
    let client = KeyClient::register(&here, &user, "h.example.com", ClientKey::es256());
    wait_until_known(&client, &there);
    cluster.stop();
    let assertions = [assertion_valid_for(&client, 50), assertion_valid_for(&client, 600)];
    for assertion in &assertions {
        present(&here, "/token", assertion).expect(200);
        invalid_client("used", &present(&here, "/token", assertion));
    }
    here.app.publish_used_assertions().expect_err("the database is unavailable");
    // An assertion that expires meanwhile need not be published.
    for gate in [&here, &there] {
        gate.clock.advance(51);
        gate.app.maintain().expect_err("the database is unavailable");
    }
    assert_eq!((known_count(&here), known_count(&there)), (1, 0));
    cluster.resume();
    within(Duration::from_secs(10), "the other node knows", || known_count(&there) == 1);
    assert_eq!(stored_count(&there), 1);
    invalid_client("used", &present(&there, "/token", &assertions[1]));
    here.app.maintain().expect("the database is back");
}
