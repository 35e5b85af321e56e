//! A database that goes back under running nodes (B6).

use super::*;
use crate::harness::postgres;
use gatebird::db::audit::Audited;

/// As a failover that lost the last transactions does.
fn go_back(database: &Database) {
    let back = "UPDATE revision SET value = value - 1";
    database.open().write_now(|conn| Ok(conn.batch_execute(back)?)).expect("the database answers");
}

#[test]
fn database_that_went_back__ends_the_process_and_the_epoch() {
    for algorithm in ["HS256", "ES256"] {
        let database = Database::new();
        let settings = [("JWT_ALGORITHM", algorithm)];
        let child = Child::start(&database, &settings);
        let (user, domain, token) = child.client.tenant("alice");
        go_back(&database);
        let outcome = child.wait(Duration::from_secs(10));
        assert_eq!(outcome.code, Some(75), "{outcome:?}");
        assert!(outcome.stderr.contains("older than what this"), "{outcome:?}");
        let child = Child::start(&database, &settings);
        refused(&child.client, &[&token, &user.token]);
        goes_on(&child.client, &domain);
    }
}

#[test]
fn database_that_went_back__is_not_ready_and_refuses_everything() {
    let gate = Gate::start();
    let (user, domain, token) = gate.tenant("alice");
    go_back(&gate.database);
    within(PROMISED, "it is not ready", || gate.get("/readyz").send().status == 503);
    assert_eq!(gate.get("/readyz").send().expect(503)["payload"]["database"], "older");
    gate.get("/healthz").send().expect(200);
    gate.get("/v1/test").token(&token).send().refused(503, "busy");
    gate.get("/v1/me").token(&user.token).send().refused(503, "busy");
    gate.post("/token").json(&json!({"clientSecret": domain.secret})).send().refused(503, "busy");
}

#[test]
fn database_that_went_back__by_posts_only_is_noticed() {
    let gate = Gate::start();
    let (_, _, token) = gate.tenant("alice");
    let post =
        |content: &str| gate.post("/v1/posts").token(&token).json(&json!({"content": content})).send().expect(201);
    post("kept");
    let copy = "CREATE TABLE audit_head_before AS SELECT * FROM audit_head";
    gate.app.db.write_now(|conn| Ok(conn.batch_execute(copy)?)).expect("a copy");
    post("lost");
    gate.app.change_now(|_| Ok(Audited::nothing(()))).expect("the node looks");
    let back = "UPDATE audit_head SET last = (SELECT last FROM audit_head_before)";
    gate.app.db.write_now(|conn| Ok(conn.batch_execute(back)?)).expect("it is lost");
    within(PROMISED, "it is not ready", || gate.get("/readyz").send().status == 503);
    assert_eq!(gate.get("/readyz").send().expect(503)["payload"]["database"], "older");
}

#[test]
fn several_nodes__renew_the_epoch_once() {
    if postgres().is_none() {
        return;
    }
    let database = Database::new();
    let nodes = [0, 1, 2].map(|_| Child::start(&database, &[]));
    let (user, domain, token) = nodes[0].client.tenant("alice");
    within(PROMISED, "all know her", || nodes.iter().all(|node| node.client.get("/v1/test", &token).status == 200));
    go_back(&database);
    for node in nodes {
        assert_eq!(node.wait(Duration::from_secs(10)).code, Some(75));
    }
    let rows = run(&mut gatebird(&database, &["audit", "list", "--json"], &[]), "").json();
    let renewed = rows.as_array().expect("rows").iter().filter(|row| row["action"] == "epoch.renewed");
    assert_eq!(renewed.count(), 1);
    let child = Child::start(&database, &[]);
    refused(&child.client, &[&token, &user.token]);
    goes_on(&child.client, &domain);
}
