//! `gatebird audit` through the real binary.

use std::process::Stdio;

use crate::binary::{Child, Outcome, gatebird, run, text};
use crate::harness::{Database, PASSWORD, Value, json};

fn cli(database: &Database, args: &[&str]) -> Outcome {
    run(&mut gatebird(database, &[&["audit"], args].concat(), &[]), "")
}

/// A database with three rows: two of alice and one of bob.
fn written() -> Database {
    written_by().0
}

/// The same, with the public ids of both.
fn written_by() -> (Database, [String; 2]) {
    let database = Database::new();
    let child = Child::start(&database, &[]);
    let (alice, ..) = child.client.tenant("alice");
    let bob = child.client.post("/v1/signup", "", json!({"username": "bob", "password": PASSWORD})).expect(201);
    drop(child);
    (database, [format!("usr_{}", alice.id), format!("usr_{}", bob["payload"]["id"])])
}

#[test]
fn audit_list__all_users_or_one() {
    let (database, [alice, bob]) = written_by();
    let actions = |args: &[&str]| -> Vec<String> {
        let rows = cli(&database, &[args, &["--json"]].concat()).json();
        rows.as_array().expect("an array").iter().map(|row| text(&row["action"])).collect()
    };
    assert_eq!(actions(&["list"]), ["user.signed_up", "domain.registered", "user.signed_up"]);
    assert_eq!(actions(&["list", "--limit", "2"]), ["user.signed_up", "domain.registered"]);
    assert_eq!(actions(&["list", "--user", "Alice"]), ["domain.registered", "user.signed_up"]);
    assert_eq!(actions(&["list", "--user", &bob]), ["user.signed_up"]);
    assert_eq!(actions(&["list", "--user", "usr_99"]), [""; 0]);
    let lines = cli(&database, &["list"]).good();
    assert!(lines.lines().count() == 3 && lines.contains(&format!("{alice} domain.registered dom_")), "{lines}");
    // A username cannot hide another user's rows, not even one from before such names were refused.
    let outcome = run(&mut gatebird(&database, &["user", "add", "usr_2"], &[]), PASSWORD);
    assert!(outcome.code == Some(64) && outcome.stderr.contains("usr_ and digits"), "{outcome:?}");
    database.execute(&format!("UPDATE users SET username = '{bob}', username_key = '{bob}' WHERE username = 'alice'"));
    assert_eq!(actions(&["list", "--user", &bob]), ["user.signed_up"]);
    for (args, says) in [
        (&["list", "--user", "nobody"][..], "nobody"),
        (&["list", "--limit", "0"], "--limit"),
        (&["verify", "--after", "7"], "--after"),
        (&["verify", "--after", "7:00"], "--after"),
    ] {
        let outcome = cli(&database, args);
        assert!(outcome.code == Some(64) && outcome.stderr.contains(says), "{args:?} {outcome:?}");
    }
}

#[test]
fn audit_verify__prints_the_head_or_the_first_bad_row() {
    let database = written();
    let good = cli(&database, &["verify"]).good();
    let head = good.trim_end().strip_prefix("3 rows, head ").unwrap_or_else(|| panic!("{good}")).to_owned();
    assert_eq!(cli(&database, &["verify", "--json"]).json(), json!({"rows": 3, "head": head}));
    assert_eq!(cli(&database, &["verify", "--after", &head]).good(), good);
    run(&mut gatebird(&database, &["user", "suspend", "bob"], &[]), "").good();
    assert!(cli(&database, &["verify", "--after", &head]).good().starts_with("4 rows, head 4:"));

    let other = format!("3:{}", "0".repeat(64));
    for (sql, args, row) in [
        ("SELECT 1", &["verify", "--after", &other][..], "row 3"),
        ("UPDATE audit SET actor = 'usr_2' WHERE id = 2", &["verify"], "row 2"),
        ("DELETE FROM audit WHERE id = 1", &["verify"], "row 1"),
    ] {
        if sql != "SELECT 1" {
            database.execute(sql);
        }
        let outcome = cli(&database, args);
        assert_eq!(outcome.code, Some(65), "{sql}: {outcome:?}");
        assert!(outcome.stderr.contains(row) && outcome.stderr.lines().count() == 1, "{sql}: {outcome:?}");
        assert!(outcome.stdout.is_empty(), "{sql}: {outcome:?}");
    }
}

#[test]
fn audit_export__every_row_up_to_the_head() {
    let database = written();
    // More rows than one read returns. The chain is not under test here.
    let many =
        "INSERT INTO audit SELECT id + {by}, at, actor, address, tenant, action, target, detail, hash FROM audit";
    for power in 0..10 {
        database.execute(&many.replace("{by}", &(3 << power).to_string()));
    }
    let out = cli(&database, &["export"]).good();
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().expect("a number")).collect();
    assert_eq!(ids, (1..=3 << 10).collect::<Vec<_>>());
    database.execute("DELETE FROM audit WHERE id > 3");
    let head = format!("3:{}", text(&rows[2]["hash"]));
    assert_eq!(cli(&database, &["verify", "--json"]).json()["head"], json!(head));
    let members: Vec<&str> = rows[1].as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(members, ["action", "actor", "address", "at", "detail", "hash", "id", "target", "tenant"]);
    assert_eq!(rows[1]["detail"], json!(r#"{"host":"alice.example.com","type":"free"}"#));
}

#[test]
fn audit_output__closed_pipe_is_no_failure() {
    let database = written();
    for args in [&["audit", "list"][..], &["audit", "verify"], &["audit", "export"]] {
        let mut command = gatebird(&database, args, &[]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(process.stdout.take());
        let output = process.wait_with_output().expect("it ends");
        assert!(output.status.success() && output.stderr.is_empty(), "{args:?} {output:?}");
    }
}
