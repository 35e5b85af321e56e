//! A database that goes back under running nodes.

use super::*;
use crate::harness::needs_postgres;
use gatebird::db::audit::Audited;

/// Goes back by one revision, like a failover that lost the last transactions.
fn go_back_one_revision(database: &Database) {
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
        go_back_one_revision(&database);
        let outcome = child.wait(Duration::from_secs(10));
        assert_eq!(outcome.code, Some(75), "{outcome:?}");
        assert!(outcome.stderr.contains("older than what this"), "{outcome:?}");
        let child = Child::start(&database, &settings);
        refused(&child.client, &[&token, &user.token]);
        assert_still_works(&child.client, &domain);
    }
}

#[test]
fn database_that_went_back__is_not_ready_and_refuses_everything() {
    let gate = Gate::start();
    let (user, domain, token) = gate.tenant("alice");
    go_back_one_revision(&gate.database);
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
    gate.app.write_now(|_| Ok(Audited::nothing(()))).expect("the revision is checked");
    let back = "UPDATE audit_head SET last = (SELECT last FROM audit_head_before)";
    gate.app.db.write_now(|conn| Ok(conn.batch_execute(back)?)).expect("the revision goes back");
    within(PROMISED, "it is not ready", || gate.get("/readyz").send().status == 503);
    assert_eq!(gate.get("/readyz").send().expect(503)["payload"]["database"], "older");
}

#[test]
fn lost_revisions__reused_ones_are_noticed() {
    // As many as were lost, more, and so many at once that none of them reuses the number of a lost one.
    for others in [
        "UPDATE users SET nick = 'b'",
        "UPDATE users SET nick = 'b'; UPDATE users SET nick = 'c'; UPDATE users SET nick = 'd'",
        "UPDATE revision SET value = value + 1000",
    ] {
        let gate = Gate::start();
        let (_, _, token) = gate.tenant("alice");
        gate.app.db.read_now(|conn| gate.app.directory.catch_up(conn)).expect("the change is read");
        // The lost change takes the counter from n to n + 1 and back to n, and later changes continue from there.
        let lost = "UPDATE users SET nick = 'a'";
        gate.app.write_now(|conn| Ok(Audited::nothing(conn.batch_execute(lost)?))).expect("a change");
        let back = format!("UPDATE revision SET value = value - 1; {others}");
        let fail_over = |conn: &mut gatebird::db::Conn| Ok(conn.batch_execute(&back)?);
        gate.app.db.write_now(fail_over).expect("a failover");
        within(PROMISED, "it is not ready", || gate.get("/readyz").send().status == 503);
        assert_eq!(gate.get("/readyz").send().expect(503)["payload"]["database"], "older", "{others}");
        gate.get("/v1/test").token(&token).send().refused(503, "busy");
    }
}

#[test]
fn lost_audit_rows__reused_ids_are_noticed() {
    let gate = Gate::start();
    let (_, _, token) = gate.tenant("alice");
    let post =
        |content: &str| gate.post("/v1/posts").token(&token).json(&json!({"content": content})).send().expect(201);
    post("lost");
    gate.app.write_now(|_| Ok(Audited::nothing(()))).expect("the revision is checked");
    // Another row reuses the id of the lost one, and one more follows.
    let others =
        "UPDATE audit SET hash = (SELECT hash FROM audit WHERE id = 1) WHERE id = (SELECT last FROM audit_head);
        INSERT INTO audit (id, at, actor, action, target, hash)
            SELECT last + 1, 1, 'x', 'x', 'x', hash FROM audit_head;
        UPDATE audit_head SET last = last + 1";
    gate.app.db.write_now(|conn| Ok(conn.batch_execute(others)?)).expect("a failover");
    within(PROMISED, "it is not ready", || gate.get("/readyz").send().status == 503);
    assert_eq!(gate.get("/readyz").send().expect(503)["payload"]["database"], "older");
}

/// The whole course on a real PostgreSQL: the tables are reset, and later changes are made before any node checks.
#[test]
fn lost_transactions__end_the_process_and_the_epoch() {
    if needs_postgres().is_none() {
        return;
    }
    const TABLES: [&str; 7] = ["users", "domains", "secrets", "revocations", "audit", "audit_head", "revision_stamps"];
    let database = Database::new();
    let child = Child::start(&database, &[]);
    let (user, domain, token) = child.client.tenant("alice");
    let db = database.open();
    let run = |statements: &str| db.write_now(|conn| Ok(conn.batch_execute(statements)?)).expect("statements");
    let each = |make: fn(&str) -> String| TABLES.iter().map(|table| make(table)).collect::<String>();
    let copy = each(|table| format!("CREATE TABLE {table}_before AS SELECT * FROM {table};"));
    run(&format!("{copy} CREATE TABLE revision_before AS SELECT * FROM revision"));
    let bob = child.client.tenant("bob").2;
    within(PROMISED, "the change is read", || child.client.get("/v1/test", &bob).status == 200);
    let back = each(|table| format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM {table}_before;"));
    run(&format!(
        "SET LOCAL session_replication_role = replica; {back}
         UPDATE revision SET value = (SELECT value FROM revision_before);
         SET LOCAL session_replication_role = origin;
         UPDATE users SET nick = 'a'; UPDATE users SET nick = 'b'; UPDATE users SET nick = 'c'; UPDATE users SET nick = 'd';
         UPDATE users SET nick = 'e'; UPDATE users SET nick = 'f';
         INSERT INTO audit (id, at, actor, action, target, hash)
             SELECT last + n, 1, 'x', 'x', 'x', int8send(n) FROM audit_head, generate_series(1, 9) AS n;
         UPDATE audit_head SET last = last + 9, hash = int8send(9)"
    ));
    let outcome = child.wait(Duration::from_secs(10));
    assert_eq!(outcome.code, Some(75), "{outcome:?}");
    let child = Child::start(&database, &[]);
    refused(&child.client, &[&token, &user.token, &bob]);
    assert_still_works(&child.client, &domain);
}

#[test]
fn several_nodes__renew_the_epoch_once() {
    if needs_postgres().is_none() {
        return;
    }
    let database = Database::new();
    let nodes = [0, 1, 2].map(|_| Child::start(&database, &[]));
    let (user, domain, token) = nodes[0].client.tenant("alice");
    within(PROMISED, "all know her", || nodes.iter().all(|node| node.client.get("/v1/test", &token).status == 200));
    go_back_one_revision(&database);
    for node in nodes {
        assert_eq!(node.wait(Duration::from_secs(10)).code, Some(75));
    }
    let rows = run(&mut gatebird(&database, &["audit", "list", "--json"], &[]), "").json();
    let renewed = rows.as_array().expect("rows").iter().filter(|row| row["action"] == "epoch.renewed");
    assert_eq!(renewed.count(), 1);
    let child = Child::start(&database, &[]);
    refused(&child.client, &[&token, &user.token]);
    assert_still_works(&child.client, &domain);
}
