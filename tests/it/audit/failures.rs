//! Failed sign-ins: each one of an existing account leaves a row, which is written after the answer.

use diesel::connection::SimpleConnection;

use super::{actions, page, rows, verified};
use crate::accounts::{set_suspended, sign_in};
use crate::binary::{Child, gatebird, run, signal};
use crate::harness::{Database, Gate, PASSWORD, json};

/// The rows of failures that were written: actor, address and target.
fn failures(gate: &Gate) -> Vec<(String, Option<String>, String)> {
    gate.app.write_failures().expect("the database answers");
    let failed = rows(gate).into_iter().filter(|row| row.action.ends_with("_failed"));
    failed.map(|row| (format!("{} by {}", row.action, row.actor), row.address, row.target)).collect()
}

#[test]
fn audit_row__failed_sign_in_of_an_existing_account() {
    let gate = Gate::start();
    let alice = gate.sign_up("alice");
    let suspended = gate.sign_up("suspended");
    set_suspended(&gate, "suspended", true);
    let failed =
        |id: i64| ("user.signin_failed by anyone".to_owned(), Some("127.0.0.1".to_owned()), format!("usr_{id}"));
    let mut expected = Vec::new();
    for (username, password, account) in [
        ("alice", "wrong password", Some(&alice)),
        ("ALICE", "", Some(&alice)),
        ("suspended", PASSWORD, Some(&suspended)),
        ("nobody", PASSWORD, None),
        ("c4nary password", PASSWORD, None),
        // No account has a password that long, so it is not counted as an attempt.
        ("alice", &"x".repeat(257), None),
    ] {
        sign_in(&gate, username, password).refused(401, "credentials");
        expected.extend(account.map(|account| failed(account.id)));
        assert_eq!(failures(&gate), expected, "{username}");
    }
    sign_in(&gate, "alice", PASSWORD).expect(200);
    assert_eq!(failures(&gate), expected, "a successful sign-in is no failure");
    assert_eq!(actions(&page(&gate, &alice.token, "")), ["user.signin_failed", "user.signin_failed", "user.signed_up"]);
    assert!(
        rows(&gate).iter().all(|row| !format!("{row:?}").contains("c4nary")),
        "the rejected username is not logged"
    );
    verified(&gate, None).expect("an intact chain");
}

#[test]
fn audit_row__failed_confirmation_by_a_signed_in_user() {
    let gate = Gate::start();
    let alice = gate.sign_up("alice");
    let user = format!("usr_{}", alice.id);
    let change = json!({"oldPassword": "wrong password", "newPassword": format!("other {PASSWORD}")});
    gate.put("/v1/me/password").token(&alice.token).json(&change).send().refused(403, "credentials");
    gate.delete("/v1/me").token(&alice.token).json(&json!({"password": ""})).send().refused(403, "credentials");
    let failed = (format!("user.confirmation_failed by {user}"), Some("127.0.0.1".to_owned()), user);
    assert_eq!(failures(&gate), [failed.clone(), failed]);
}

/// The row is not a write of the request: the request is answered while the log is locked, and the row is written
/// later.
#[test]
fn audit_row__failed_sign_in_while_the_log_is_locked() {
    let gate = Gate::start();
    gate.sign_up("alice");
    let locked = |conn: &mut gatebird::db::Conn| {
        conn.batch_execute("UPDATE audit_head SET last = last")?;
        sign_in(&gate, "alice", "wrong password").refused(401, "credentials");
        assert!(gate.app.write_failures().is_err(), "the log is locked");
        Ok(())
    };
    gate.app.db.write_now(locked).expect("the change is made");
    assert_eq!(failures(&gate).len(), 1);
    assert_eq!(failures(&gate).len(), 1);
    verified(&gate, None).expect("an intact chain");
}

#[test]
fn audit_row__failed_sign_ins_are_written_at_shutdown() {
    let database = Database::new();
    let child = Child::start(&database, &[]);
    child.client.tenant("alice");
    for _ in 0..5 {
        child.client.sign_in("alice", "wrong password").refused(401, "credentials");
    }
    signal("INT", child.pid());
    child.wait(std::time::Duration::from_secs(15)).good();
    let rows = run(&mut gatebird(&database, &["audit", "list", "--json"], &[]), "").json();
    let failed = rows.as_array().expect("an array").iter().filter(|row| row["action"] == "user.signin_failed");
    assert_eq!(failed.count(), 5, "{rows}");
}
