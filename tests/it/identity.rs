//! After a restored backup, a failover that lost transactions or a leaked secret, every earlier token is refused, and
//! no id or username is given to another account.

mod crash_recovery;
mod failover;
mod restore;
mod sqlite_file;

use std::path::PathBuf;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

use crate::binary::{Child, Client, PROMISED, gatebird, run, signal, text, within};
use crate::forgery::kid;
use crate::harness::{Database, Domain, Gate, PASSWORD, User, json};

/// Stops the server; it must end with success.
#[track_caller]
fn stop(child: Child) {
    signal("INT", child.pid());
    let outcome = child.wait(Duration::from_secs(10));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

/// The SQLite file of that database.
fn path(database: &Database) -> PathBuf {
    database.url.trim_start_matches("sqlite://").into()
}

/// A backup as `sqlite3 FILE ".backup COPY"` makes it, also beside a running server.
fn back_up(database: &Database) -> PathBuf {
    let copy = database.dir.path().join("copy.db");
    let mut conn = SqliteConnection::establish(&path(database).to_string_lossy()).expect("a database");
    drop(std::fs::remove_file(&copy));
    conn.batch_execute(&format!("VACUUM INTO '{}'", copy.display())).expect("a copy");
    copy
}

/// Creates a post and returns its id.
fn post(client: &Client, token: &str, content: &str) -> i64 {
    let answer = client.post("/v1/posts", token, json!({ "content": content })).expect(201);
    answer["payload"]["id"].as_i64().expect("a number")
}

fn change_password(client: &Client, user: &User, old: &str, new: &str) -> String {
    let body = json!({"oldPassword": old, "newPassword": new});
    client.call("PUT", "/v1/me/password", &user.token, &body).expect(200);
    text(&client.sign_in("alice", new).expect(200)["token"])
}

#[track_caller]
fn refused(client: &Client, tokens: &[&str]) {
    for token in tokens {
        client.get("/v1/test", token).refused(401, "invalid");
    }
}

/// Tokens from after the renewal are valid, if account and secret still exist.
#[track_caller]
fn assert_still_works(client: &Client, domain: &Domain) {
    let token = text(&client.exchange(&domain.secret).expect(200)["token"]);
    client.get("/v1/test", &token).expect(200);
    let signed_in = client.sign_in("alice", PASSWORD).expect(200);
    client.get("/v1/me", &text(&signed_in["token"])).expect(200);
}

#[test]
fn user_ids__random_and_safe_in_javascript() {
    let gate = Gate::start();
    let ids: Vec<i64> = (0..20).map(|number| gate.sign_up(&format!("user{number}")).id).collect();
    assert!(ids.iter().all(|id| (1 << 52..1 << 53).contains(id)), "{ids:?}");
    assert!(!ids.is_sorted(), "the ids are sequential: {ids:?}");
    let database = &gate.database;
    let listed = run(&mut gatebird(database, &["user", "list", "--json"], &[]), "").json();
    assert_eq!(listed.as_array().map(Vec::len), Some(20));
}

#[test]
fn user_list__is_in_order_of_creation() {
    let gate = Gate::start();
    let names: Vec<String> = (0..8).map(|number| format!("user{number}")).collect();
    for name in &names {
        gate.sign_up(name);
        gate.clock.advance(1);
    }
    let listed = run(&mut gatebird(&gate.database, &["user", "list", "--json"], &[]), "").json();
    let listed: Vec<String> = listed.as_array().expect("a list").iter().map(|user| text(&user["username"])).collect();
    assert_eq!(listed, names);
}

/// Running servers continue, and follow within two seconds.
#[test]
fn restore_after__beside_running_servers() {
    for algorithm in ["HS256", "ES256"] {
        let database = Database::new();
        let settings = [("JWT_ALGORITHM", algorithm)];
        let child = Child::start(&database, &settings);
        let client = &child.client;
        let (user, domain, token) = client.tenant("alice");
        let (posted, key) = (post(client, &token, "before"), kid(&token));
        run(&mut gatebird(&database, &["restore", "--after"], &settings), "").good();
        within(PROMISED, "earlier tokens are refused", || client.get("/v1/test", &token).status == 401);
        refused(client, &[&token, &user.token]);
        assert_still_works(client, &domain);
        let fresh = text(&client.exchange(&domain.secret).expect(200)["token"]);
        assert_ne!(kid(&fresh), key, "{algorithm}");
        // Ids continue far ahead, and JavaScript can represent them.
        let next = post(client, &fresh, "after");
        assert!(next > posted + (1 << 40) && next < 1 << 53, "{posted} {next}");
        stop(child);
        // The epoch is in the database, not in the process.
        let child = Child::start(&database, &settings);
        refused(&child.client, &[&token, &user.token]);
        child.client.get("/v1/test", &fresh).expect(200);
    }
}

/// An attacker has JWT_SECRET and signs tokens with it.
#[test]
fn leaked_jwt_secret__signs_no_valid_token_after_the_change() {
    const NEW: (&str, &str) = ("JWT_SECRET", "T9vX2mK7pQ4sW8zB5nR1cF6yH3jL0dG-new-key");
    for algorithm in ["HS256", "ES256"] {
        let database = Database::new();
        let settings = [("JWT_ALGORITHM", algorithm)];
        let child = Child::start(&database, &settings);
        let (user, domain, token) = child.client.tenant("alice");
        stop(child);
        let new = [settings[0], NEW];
        let look_back = [settings[0], NEW, ("JWT_SECRET_PREVIOUS", crate::harness::JWT_SECRET)];
        let outcome = run(&mut gatebird(&database, &["key", "replace-all"], &look_back), "");
        assert!(outcome.code == Some(78) && outcome.stderr.contains("JWT_SECRET_PREVIOUS"), "{outcome:?}");
        run(&mut gatebird(&database, &["key", "replace-all"], &new), "").good();
        let child = Child::start(&database, &new);
        refused(&child.client, &[&token, &user.token]);
        assert_still_works(&child.client, &domain);
    }
}
