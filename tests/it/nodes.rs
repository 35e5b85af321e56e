//! Several nodes on one PostgreSQL see each other's changes; and operation during a database outage.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::connection::SimpleConnection;

use crate::binary::{Child, PROMISED, gatebird, within};
use crate::harness::{Database, Gate, PASSWORD, beside, json, needs_postgres};

pub mod cluster;
mod db_outage;
mod half_open;

#[test]
fn nodes__changes_reach_other_nodes_in_time() {
    if needs_postgres().is_none() {
        return;
    }
    let here = Gate::start();
    let there = here.another_node();
    let mut slowest = Duration::ZERO;
    let mut soon = |what: &str, done: &mut dyn FnMut() -> bool| slowest = slowest.max(within(PROMISED, what, done));
    // In both directions: the node that serves the request is not the one that made the change.
    for (name, one, other) in [("alice", &here, &there), ("bob", &there, &here)] {
        let (user, domain, token) = one.tenant(name);
        let status = |token: &str, path: &str| other.get(path).token(token).send().status;
        let exchange = |secret: &str| other.post("/token").json(&json!({"clientSecret": secret})).send().status;
        soon("a new user", &mut || status(&user.token, "/v1/me") == 200);
        soon("a new domain", &mut || exchange(&domain.secret) == 200);
        soon("a new token", &mut || status(&token, "/v1/test") == 200);

        let id = format!("/v1/domains/{}", domain.id);
        one.patch(&id).token(&user.token).json(&json!({"type": "premium"})).send().expect(200);
        let plan = |gate: &Gate| {
            let id = gatebird::id::DomainId::parse(&domain.id).expect("an id");
            gate.app.directory.by_id(&id).map(|live| live.domain.plan)
        };
        soon("a changed plan", &mut || plan(other) == gatebird::plan::Plan::parse("premium"));

        let cli = |args: &[&str]| {
            crate::binary::run(&mut gatebird(&here.database, args, &[]), "").good();
        };
        cli(&["domain", "suspend", &domain.id]);
        soon("a suspended domain", &mut || status(&token, "/v1/test") == 401 && exchange(&domain.secret) == 401);
        cli(&["domain", "resume", &domain.id]);
        soon("a resumed domain", &mut || exchange(&domain.secret) == 200);
        assert_eq!(status(&token, "/v1/test"), 401, "earlier tokens stay revoked");

        let second = one.register(&user, &format!("second.{name}.example.com"));
        let token = one.access_token(&second);
        soon("a second domain", &mut || status(&token, "/v1/test") == 200);
        one.delete(&format!("/v1/domains/{}", second.id)).token(&user.token).send().expect(200);
        soon("a deleted domain", &mut || status(&token, "/v1/test") == 401 && exchange(&second.secret) == 401);

        let third = one.register(&user, &format!("third.{name}.example.com"));
        let token = one.access_token(&third);
        soon("a third domain", &mut || status(&token, "/v1/test") == 200);
        let body = json!({"oldPassword": PASSWORD, "newPassword": format!("{PASSWORD} anew")});
        one.put("/v1/me/password").token(&user.token).json(&body).send().expect(200);
        soon("a changed password", &mut || status(&user.token, "/v1/me") == 401 && status(&token, "/v1/test") == 401);
        let body = json!({"username": name, "password": format!("{PASSWORD} anew")});
        other.post("/v1/signin").json(&body).send().expect(200);

        let token = one.access_token(&third);
        soon("a token of now", &mut || status(&token, "/v1/test") == 200);
        cli(&["user", "suspend", name]);
        soon("a suspended user", &mut || status(&token, "/v1/test") == 401 && exchange(&third.secret) == 401);
        cli(&["user", "resume", name]);
        // The command line is a third node: both servers must learn of it.
        let body_of_third = json!({"clientSecret": third.secret});
        let resumed = |gate: &Gate| gate.post("/token").json(&body_of_third).send().status == 200;
        soon("a resumed user", &mut || resumed(one) && resumed(other));

        let token = one.access_token(&third);
        let signed_in = one.post("/v1/signin").json(&body).send().expect(200);
        let user_token = signed_in["token"].as_str().expect("a token");
        soon("tokens of now", &mut || status(&token, "/v1/test") == 200 && status(user_token, "/v1/me") == 200);
        let body = json!({"password": format!("{PASSWORD} anew")});
        one.delete("/v1/me").token(user_token).json(&body).send().expect(200);
        soon("a deleted user", &mut || {
            status(&token, "/v1/test") == 401 && status(user_token, "/v1/me") == 401 && exchange(&third.secret) == 401
        });
    }
    println!("the slowest change took {slowest:?}");
}

#[test]
fn nodes__concurrent_writes_are_all_seen() {
    if needs_postgres().is_none() {
        return;
    }
    let here = Gate::start();
    let there = here.another_node();
    let alice = here.sign_up("alice");
    within(PROMISED, "a new user", || there.get("/v1/me").token(&alice.token).send().status == 200);
    // A reader that continues from the highest revision would miss commits that overtake each other.
    let secrets: Vec<String> = std::thread::scope(|scope| {
        let register = |gate, writer: u32| {
            let alice = &alice;
            let registered =
                move |number| Gate::register(gate, alice, &format!("h{writer}-{number}.example.com")).secret;
            scope.spawn(move || (0..25).map(registered).collect::<Vec<_>>())
        };
        let threads: Vec<_> =
            (0..4).map(|writer| register(if writer % 2 == 0 { &here } else { &there }, writer)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(secrets.len(), 100);
    for gate in [&here, &there] {
        let known = |secret: &String| gate.post("/token").json(&json!({"clientSecret": secret})).send().status == 200;
        within(PROMISED, "every domain", || secrets.iter().all(known));
    }
}

#[test]
fn nodes__changes_of_one_domain_do_not_deadlock() {
    if needs_postgres().is_none() {
        return;
    }
    let gate = Gate::start();
    let (user, domain, _) = gate.tenant("alice");
    let path = format!("/v1/domains/{}", domain.id);
    let rotated = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A change of the plan locks the domain's row and then the revision; a rotation could lock them the other way
        // around.
        for _ in 0..3 {
            scope.spawn(|| {
                while !rotated.load(Ordering::Relaxed) {
                    gate.patch(&path).token(&user.token).json(&json!({"type": "premium"})).send().expect(200);
                }
            });
        }
        let rotations = scope.spawn(|| {
            let rotate = ["domain", "rotate", &domain.id, "--grace", "0"];
            (0..10).map(|_| crate::binary::run(&mut gatebird(&gate.database, &rotate, &[]), "")).collect::<Vec<_>>()
        });
        let outcomes = rotations.join();
        rotated.store(true, Ordering::Relaxed);
        for outcome in outcomes.expect("no panic") {
            outcome.good();
        }
    });
}

#[test]
fn nodes__concurrent_start_on_an_empty_database() {
    if needs_postgres().is_none() {
        return;
    }
    for round in 0..3 {
        let database = Arc::new(Database::new());
        let start = || Child::spawn(&mut gatebird(&database, &[], &[]), "");
        let (one, other) = (start(), start());
        let (one, other) = (one.wait_until_serving(), other.wait_until_serving());
        let (_, _, token) = one.client.tenant(&format!("alice{round}"));
        within(PROMISED, "both serve one database", || other.client.get("/v1/test", &token).status == 200);
    }
}

/// Reading a million domains takes longer than a request may wait. A lock simulates that.
#[test]
fn directory_load__slow_read_succeeds() {
    let Some(base) = needs_postgres() else { return };
    let here = Gate::start();
    let (_, _, token) = here.tenant("alice");
    let (mut conn, schema) = beside(&here, &base);
    conn.batch_execute(&format!("BEGIN; LOCK TABLE {schema}.domains IN ACCESS EXCLUSIVE MODE")).expect("a lock");
    let there = std::thread::scope(|scope| {
        let there = scope.spawn(|| here.another_node());
        std::thread::sleep(Duration::from_millis(1800));
        conn.batch_execute("COMMIT").expect("the lock is given back");
        there.join().expect("the second node starts")
    });
    there.get("/v1/test").token(&token).send().expect(200);
}
