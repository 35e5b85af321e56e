//! A committed change is never answered as failed, however slow the database is afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use actix_web::rt::System;
use diesel::connection::SimpleConnection;
use gatebird::error::Error;

use crate::binary::{PROMISED, within};
use crate::harness::{Gate, beside, holder, json, needs_postgres};

/// The steps after a commit fail a few times, as after a lost connection, and take longer than a request may wait for
/// the commit.
#[test]
fn apply_after_commit__is_retried_and_awaited() {
    let gate = Gate::start();
    let tries = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&tries);
    let after = move |_: &mut gatebird::db::Conn| match counted.fetch_add(1, Ordering::SeqCst) {
        0..3 => Err(Error::Busy),
        _ => {
            std::thread::sleep(Duration::from_millis(1500));
            Ok(())
        }
    };
    let (value, applied) =
        System::new().block_on(gate.app.db.change(holder(), |_| Ok("made"), after)).expect("it is committed");
    assert_eq!((value, applied.is_ok(), tries.load(Ordering::SeqCst)), ("made", true, 4));

    let started = Instant::now();
    let (value, applied) = System::new()
        .block_on(gate.app.db.change(holder(), |_| Ok("made"), |_| Err(Error::Busy)))
        .expect("it is committed");
    assert!(value == "made" && matches!(applied, Err(Error::CommitUnknown)), "{applied:?}");
    let took = started.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(7)).contains(&took), "{took:?}");
}

#[test]
fn write_timeout__abandoned_write_is_not_committed() {
    let gate = Gate::start();
    let user = gate.sign_up("alice");
    let late = |conn: &mut gatebird::db::Conn| {
        conn.batch_execute("UPDATE users SET nick = 'late'")?;
        std::thread::sleep(Duration::from_millis(1700));
        Ok(())
    };
    let given_up = System::new().block_on(gate.app.db.write(holder(), late));
    assert!(matches!(given_up, Err(Error::Busy)), "{given_up:?}");
    // The late write has ended once another write has been committed.
    std::thread::sleep(Duration::from_millis(500));
    let body = json!({"host": "later.example.com", "type": "free"});
    gate.post("/v1/domains").token(&user.token).json(&body).send().expect(201);
    assert_eq!(gate.get("/v1/me").token(&user.token).send().expect(200)["payload"]["nick"], "alice");
}

/// It is unknown then whether the commit succeeded.
#[test]
fn commit__connection_lost_is_answered_as_unknown() {
    let Some(base) = needs_postgres() else { return };
    let gate = Gate::start();
    let (_, _, token) = gate.tenant("alice");
    let (mut conn, schema) = beside(&gate, &base);
    let dies = format!(
        "SET search_path = {schema};
         CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
         CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON posts DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION die()"
    );
    conn.batch_execute(&dies).expect("a trigger");
    let post = |content: &str| gate.post("/v1/posts").token(&token).json(&json!({"content": content})).send();
    post("perhaps").refused(500, "commit_unknown");
    conn.batch_execute("DROP TRIGGER at_commit ON posts").expect("no trigger");
    post("certainly").expect(201);
}

/// The commit itself is slow: deferred constraints are checked at that point.
#[test]
fn commit__slow_commit_is_awaited() {
    let Some(base) = needs_postgres() else { return };
    let gate = Gate::start();
    let (_, _, token) = gate.tenant("alice");
    let (mut conn, schema) = beside(&gate, &base);
    let slow = format!(
        "SET search_path = {schema};
         CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.9); RETURN NEW; END $$;
         CREATE TRIGGER before BEFORE INSERT ON posts FOR EACH ROW EXECUTE FUNCTION nap();
         CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON posts DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION nap()"
    );
    conn.batch_execute(&slow).expect("triggers");
    let reply = gate.post("/v1/posts").token(&token).json(&json!({"content": "slow"})).send();
    let posts = gate.get("/v1/posts/my").token(&token).send().expect(200).to_string();
    assert!(posts.contains("slow"), "the change was committed: {}", reply.text());
    reply.expect(201);
}

/// Reading back a change waits for a lock. The statement times out, and is retried until the lock is released.
#[test]
fn apply_after_commit__slow_read_delays_the_answer() {
    let Some(base) = needs_postgres() else { return };
    let gate = Gate::start();
    let (user, domain, token) = gate.tenant("alice");
    let (mut other, schema) = beside(&gate, &base);
    // A table that these requests do not change.
    let lock = format!("BEGIN; LOCK TABLE {schema}.used_assertions IN ACCESS EXCLUSIVE MODE");
    other.batch_execute(&lock).expect("a lock");
    std::thread::scope(|scope| {
        let registered = scope.spawn(|| gate.register(&user, "second.example.com"));
        let revoked = scope.spawn(|| {
            let body = format!("token={token}&client_id={}&client_secret={}", domain.id, domain.secret);
            gate.post("/revoke").form(body).send().expect(200);
            gate.get("/v1/test").token(&token).send().refused(401, "revoked");
        });
        std::thread::sleep(Duration::from_millis(2500));
        other.batch_execute("COMMIT").expect("the lock is given back");
        gate.access_token(&registered.join().expect("it is answered"));
        revoked.join().expect("it is answered");
    });
}

#[test]
fn apply_after_commit__failed_read_is_an_error_only_for_revocations() {
    let gate = Gate::start();
    let (user, domain, token) = gate.tenant("alice");
    let secrets = format!("/v1/domains/{}/secrets", domain.id);
    let rotate = |grace: i64| gate.post(&secrets).token(&user.token).json(&json!({"graceSeconds": grace})).send();
    let run = |statement| gate.app.db.write_now(|conn| Ok(conn.batch_execute(statement)?)).expect("a statement");
    // A table that these requests do not change, but that reading back reads.
    run("ALTER TABLE used_assertions RENAME TO out_of_reach");
    let added = std::thread::scope(|scope| {
        let added = scope.spawn(|| rotate(60).expect(201)["payload"]["clientSecret"].as_str().map(str::to_owned));
        let registered = scope.spawn(|| gate.register(&user, "second.example.com"));
        let revoked = scope.spawn(|| {
            let body = format!("token={token}&client_id={}&client_secret={}", domain.id, domain.secret);
            let reply = gate.post("/revoke").form(body).send();
            reply.refused(500, "commit_unknown");
            assert_eq!(reply.header("retry-after"), None, "the change may have been committed");
        });
        revoked.join().expect("it is answered");
        registered.join().expect("it is answered");
        added.join().expect("it is answered").expect("a secret")
    });
    std::thread::scope(|scope| {
        // The request with 59 seconds ends the old secrets earlier than before, so it revokes, too.
        for grace in [0, 59] {
            scope.spawn(move || rotate(grace).refused(500, "commit_unknown"));
        }
    });
    run("ALTER TABLE out_of_reach RENAME TO used_assertions");
    within(PROMISED, "the token is revoked", || gate.get("/v1/test").token(&token).send().status == 401);
    gate.post("/token").json(&json!({"clientSecret": added})).send().refused(401, "unknown_client");
}
