//! Commands of an operator for users and domains, beside a running server.

use std::sync::mpsc;
use std::time::Duration;

use gatebird::db::audit::Audited;
use gatebird::db::{Conn, domain};
use gatebird::id::DomainId;

use super::{Child, Outcome, PROMISED, gatebird, run, text, within};
use crate::audit::rows;
use crate::harness::{Database, Gate, PASSWORD, Value, json};

fn cli(database: &Database, args: &[&str], stdin: &str) -> Outcome {
    run(&mut gatebird(database, args, &[]), stdin)
}

#[track_caller]
fn refused(outcome: Outcome, says: &str) {
    assert_eq!(outcome.code, Some(64), "{outcome:?}");
    assert!(outcome.stderr.contains(says) && outcome.stdout.is_empty(), "{outcome:?}");
}

#[test]
fn user_add__password_from_standard_input() {
    let database = Database::new();
    let added =
        cli(&database, &["user", "add", "alice", "--nick", "앨리스", "--json"], &format!("{PASSWORD}\n")).json();
    assert_eq!((&added["username"], &added["nick"]), (&json!("alice"), &json!("앨리스")));
    let line = cli(&database, &["user", "add", "bob"], PASSWORD).good();
    assert!(line.starts_with("added user bob ("), "{line}");

    refused(cli(&database, &["user", "add", "carol"], "password\n"), "password");
    refused(cli(&database, &["user", "add", "carol"], "c4ro\n"), "password");
    refused(cli(&database, &["user", "add", "carol"], ""), "password");
    refused(cli(&database, &["user", "add", "ALICE"], PASSWORD), "username");
    refused(cli(&database, &["user", "add", "a b"], PASSWORD), "username");
    refused(cli(&database, &["user", "add", "USR_1"], PASSWORD), "username");
    refused(cli(&database, &["user", "add", "carol", "--nick", ""], PASSWORD), "nick");

    let users = cli(&database, &["user", "list", "--json"], "").json();
    let mut names: Vec<_> = users.as_array().expect("an array").iter().map(|user| text(&user["username"])).collect();
    // They may have been created in the same second.
    names.sort();
    assert_eq!(names, ["alice", "bob"]);
    assert_eq!(users[0]["suspended"], json!(false));
    let lines = cli(&database, &["user", "list"], "").good();
    assert!(lines.lines().count() == 2 && lines.contains("alice") && !lines.contains("gb1$"), "{lines}");

    // The password is the first line without its end, also in Windows notation.
    cli(&database, &["user", "add", "dave"], &format!("{PASSWORD}\r\nand more\n")).good();
    let child = Child::start(&database, &[]);
    for name in ["alice", "bob", "dave"] {
        child.client.sign_in(name, PASSWORD).expect(200);
    }
}

#[test]
fn command_line__unknown_user_or_domain_is_a_usage_error() {
    let database = Database::new();
    cli(&database, &["user", "add", "alice"], PASSWORD).good();
    let cases: &[(&[&str], &str)] = &[
        (&["user", "suspend", "nobody"], "nobody"),
        (&["user", "resume", "nobody"], "nobody"),
        (&["domain", "add", "shop.example.com", "--user", "nobody"], "nobody"),
        (&["domain", "add", "shop.example.com"], "--user"),
        (&["domain", "add", "http://shop.example.com", "--user", "alice"], "host"),
        (&["domain", "add", "com", "--user", "alice"], "host"),
        (&["domain", "add", "shop.example.com", "--user", "alice", "--type", "gold"], "type"),
        (&["domain", "suspend", "dom_0000000000000000000000"], "dom_"),
        (&["domain", "resume", "x"], "x"),
        (&["domain", "rotate", "x"], "x"),
        (&["domain", "rotate", "x", "--grace", "soon"], "--grace"),
        (&["domain", "rotate", "x", "--grace", "-1"], ""),
    ];
    for (args, says) in cases {
        refused(cli(&database, args, ""), says);
    }
    cli(&database, &["domain", "add", "shop.example.com", "--user", "alice"], "").good();
    refused(cli(&database, &["domain", "add", "SHOP.example.com", "--user", "Alice"], ""), "host");
}

#[test]
fn user_commands__take_effect_in_a_running_server() {
    let database = Database::new();
    let child = Child::start(&database, &[]);
    let client = &child.client;
    cli(&database, &["user", "add", "alice"], PASSWORD).good();
    client.sign_in("alice", PASSWORD).expect(200);

    let (user, domain, token) = client.tenant("bob");
    cli(&database, &["user", "suspend", "BOB"], "").good();
    within(PROMISED, "the access token is revoked", || client.get("/v1/test", &token).status == 401);
    client.get("/v1/test", &token).refused(401, "revoked");
    client.get("/v1/me", &user.token).refused(401, "revoked");
    client.exchange(&domain.secret).refused(401, "suspended");
    client.sign_in("bob", PASSWORD).refused(401, "credentials");
    let listed = cli(&database, &["user", "list", "--json"], "").json();
    let bob = listed.as_array().expect("users").iter().find(|user| user["username"] == "bob").expect("bob");
    assert_eq!(bob["suspended"], json!(true));
    assert!(cli(&database, &["user", "list"], "").good().contains("suspended"));

    let resumed = cli(&database, &["user", "resume", "bob", "--json"], "").json();
    assert_eq!(resumed, json!({"username": "bob", "suspended": false}));
    within(PROMISED, "the secret works again", || client.exchange(&domain.secret).status == 200);
    client.sign_in("bob", PASSWORD).expect(200);
    client.get("/v1/test", &token).refused(401, "revoked");
    client.get("/v1/me", &user.token).refused(401, "revoked");
}

#[test]
fn domain_commands__take_effect_in_a_running_server() {
    let database = Database::new();
    let child = Child::start(&database, &[]);
    let client = &child.client;
    cli(&database, &["user", "add", "alice"], PASSWORD).good();
    let args = ["domain", "add", "shop.example.com", "--user", "alice", "--type", "premium", "--json"];
    let added = cli(&database, &args, "").json();
    let (id, secret) = (text(&added["id"]), text(&added["clientSecret"]));
    within(PROMISED, "the new secret works", || client.exchange(&secret).status == 200);
    let token = text(&client.exchange(&secret).expect(200)["token"]);
    assert_eq!(client.get("/v1/test", &token).expect(200)["host"], json!("shop.example.com"));

    let listed = cli(&database, &["domain", "list", "--json"], "").json();
    let expected = [("id", &*id), ("host", "shop.example.com"), ("type", "premium"), ("user", "alice")];
    for (member, value) in expected {
        assert_eq!(listed[0][member], json!(value), "{listed}");
    }
    let lines = cli(&database, &["domain", "list"], "").good();
    assert!(lines.contains(&id) && lines.contains("active"), "{lines}");
    assert!(!lines.contains("gbs_") && !listed.to_string().contains("gbs_"), "a secret is shown once only");

    cli(&database, &["domain", "suspend", &id], "").good();
    within(PROMISED, "the token is revoked", || client.get("/v1/test", &token).status == 401);
    client.get("/v1/test", &token).refused(401, "revoked");
    client.exchange(&secret).refused(401, "suspended");
    assert!(cli(&database, &["domain", "list"], "").good().contains("suspended"));
    cli(&database, &["domain", "resume", &id, "--json"], "").json();
    within(PROMISED, "the secret works again", || client.exchange(&secret).status == 200);
    client.get("/v1/test", &token).refused(401, "revoked");
}

/// The secret in the output of `rotate`.
fn rotated(database: &Database, id: &str, grace: &[&str]) -> String {
    let args = [&["domain", "rotate", id], grace].concat();
    let lines = cli(database, &args, "").good();
    let word = lines.split_whitespace().find(|word| word.starts_with("gbs_"));
    word.unwrap_or_else(|| panic!("no secret: {lines}")).to_owned()
}

#[test]
fn domain_rotate__old_secret_ends_after_its_grace() {
    let database = Database::new();
    let child = Child::start(&database, &[]);
    let client = &child.client;
    let (user, domain, token) = client.tenant("alice");

    let second = rotated(&database, &domain.id, &["--grace", "1h"]);
    within(PROMISED, "the new secret works", || client.exchange(&second).status == 200);
    client.exchange(&domain.secret).expect(200);
    client.get("/v1/test", &token).expect(200);

    let third = rotated(&database, &domain.id, &["--grace", "0"]);
    within(PROMISED, "the new secret works", || client.exchange(&third).status == 200);
    for old in [&domain.secret, &second] {
        client.exchange(old).refused(401, "unknown_client");
    }
    client.get("/v1/test", &token).refused(401, "revoked");
    let fresh = text(&client.exchange(&third).expect(200)["token"]);
    client.get("/v1/test", &fresh).expect(200);
    client.get("/v1/me", &user.token).expect(200);

    // The default has a grace, and a short grace ends by itself.
    let fourth = rotated(&database, &domain.id, &[]);
    within(PROMISED, "the new secret works", || client.exchange(&fourth).status == 200);
    client.exchange(&third).expect(200);
    let last = cli(&database, &["domain", "rotate", &domain.id, "--grace", "1s", "--json"], "").json();
    assert_eq!(last["id"], json!(domain.id));
    within(2 * PROMISED, "the old secret ends", || client.exchange(&third).status == 401);
    client.exchange(last["clientSecret"].as_str().expect("a string")).expect(200);
    client.get("/v1/test", &fresh).expect(200);
    let posts: Value = client.get("/v1/posts/my", &fresh).expect(200);
    assert_eq!(posts["payload"], json!([]));
}

/// Runs a command while `change` is in an open transaction, and waits for the command.
fn run_during_transaction(
    gate: &Gate,
    args: &[&str],
    change: impl FnOnce(&mut Conn) -> gatebird::error::Result<()> + Send,
) -> Outcome {
    let (sender, began) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let changed = gate.app.write_now(|conn| {
                change(conn)?;
                sender.send(()).expect("the receiver is waiting");
                // Long enough for the command to reach the lock, which cannot be observed from outside.
                std::thread::sleep(Duration::from_millis(700));
                Ok(Audited::nothing(()))
            });
            changed.expect("the database answers");
        });
        began.recv().expect("it begins");
        run(&mut gatebird(&gate.database, args, &[("JWT_ISSUER", "https://gate.test")]), "")
    })
}

#[test]
fn operator_commands__concurrent_change_is_not_overwritten() {
    let gate = Gate::start();
    let (user, first, _) = gate.tenant("alice");
    let limited = DomainId::parse(&first.id).expect("an id");
    let allow = ["domain", "allow", &first.id, "--audiences", "https://gate.test", "--json"];
    let outcome =
        run_during_transaction(&gate, &allow, |conn| Ok(domain::set_allowed(conn, limited, Some("posts:read"), None)?))
            .json();
    assert_eq!(outcome["scopes"], "posts:read", "the concurrent change of the limit is kept");

    for (number, command) in ["suspend", "resume", "allow --all", "plan premium", "rotate"].iter().enumerate() {
        let gone = gate.register(&user, &format!("gone{number}.example.com"));
        let id = DomainId::parse(&gone.id).expect("an id");
        let before = rows(&gate).len();
        let words: Vec<&str> = command.split(' ').collect();
        let args = [&["domain", words[0], &gone.id], &words[1..]].concat();
        let tenant = gate.app.directory.tenant(user.id).expect("there").id;
        let outcome = run_during_transaction(&gate, &args, move |conn| {
            assert!(domain::delete(conn, tenant, id)?, "it exists");
            Ok(())
        });
        refused(outcome, "there is no domain");
        assert_eq!(rows(&gate).len(), before, "{command} recorded a change that it did not make");
    }
    for command in ["suspend", "resume"] {
        let name = format!("{command}ed");
        let id = gate.sign_up(&name).id;
        let (before, whom) = (rows(&gate).len(), name.clone());
        let outcome = run_during_transaction(&gate, &["user", command, &name], move |conn| {
            use diesel::prelude::*;
            use gatebird::db::schema::users;
            diesel::delete(users::table.filter(users::username.eq(&whom))).execute(conn)?;
            Ok(())
        });
        refused(outcome, "there is no user");
        assert_eq!(rows(&gate).len(), before, "{command} of user {id} recorded a change that it did not make");
    }
}
