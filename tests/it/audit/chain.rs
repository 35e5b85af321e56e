//! `verify` finds every change of the log by a person with access to the database, and names the row.

use aws_lc_rs::digest::{SHA256, digest};
use diesel::connection::SimpleConnection;
use gatebird::db::audit::AuditRow;
use gatebird::db::audit::chain::{Broken, Head, verify};
use gatebird::error::Error;

use super::{rows, verified};
use crate::harness::{Gate, json, postgres};
use crate::posts::write;

/// Six rows: a sign-up, two domains (with detail) and three posts.
fn server_with_six_rows() -> Gate {
    let gate = Gate::start();
    let (user, _, token) = gate.tenant("alice");
    gate.register(&user, "other.example.com");
    for _ in 0..3 {
        write(&gate, &token, "hello");
    }
    assert_eq!(rows(&gate).len(), 6);
    gate
}

/// The result of `verify` after those statements, which are then rolled back.
fn verify_after(gate: &Gate, sql: &str, known: Option<&Head>) -> Result<Head, Broken> {
    let mut found = None;
    let undone = gate.app.db.write_now(|conn| {
        conn.batch_execute(sql)?;
        found = Some(verify(conn, known)?);
        Err::<(), _>(Error::Busy)
    });
    assert!(matches!(undone, Err(Error::Busy)), "{sql}: {undone:?}");
    found.expect("the chain was verified")
}

/// Statements, the first row that is not as it was, and a word of the problem.
#[rustfmt::skip]
const TAMPERED: &[(&str, i64, &str)] = &[
    ("UPDATE audit SET at = at + 1 WHERE id = 3", 3, "edited"),
    ("UPDATE audit SET actor = 'operator' WHERE id = 3", 3, "edited"),
    ("UPDATE audit SET address = '127.0.0.2' WHERE id = 3", 3, "edited"),
    ("UPDATE audit SET address = NULL WHERE id = 3", 3, "edited"),
    ("UPDATE audit SET address = '' WHERE id = 3", 3, "edited"),
    ("UPDATE audit SET tenant = tenant + 1 WHERE id = 3", 3, "edited"),
    ("UPDATE audit SET tenant = NULL WHERE id = 3", 3, "edited"),
    ("UPDATE audit SET action = 'domain.changed' WHERE id = 3", 3, "edited"),
    ("UPDATE audit SET target = 'dom_0000000000000000000000' WHERE id = 3", 3, "edited"),
    ("UPDATE audit SET action = action || target, target = '' WHERE id = 3", 3, "edited"),
    ("UPDATE audit SET action = 'domain.register', target = 'ed' || target WHERE id = 3", 3, "edited"),
    ("UPDATE audit SET detail = NULL WHERE id = 3", 3, "edited"),
    ("UPDATE audit SET detail = '' WHERE id = 4", 4, "edited"),
    ("UPDATE audit SET detail = '{}' WHERE id = 4", 4, "edited"),
    ("UPDATE audit SET hash = (SELECT hash FROM audit WHERE id = 2) WHERE id = 3", 3, "edited"),
    ("UPDATE audit SET target = target WHERE id = 3", 0, ""),
    ("UPDATE audit SET target = 'x' WHERE id = 1", 1, "edited"),
    ("UPDATE audit SET target = 'x' WHERE id = 6", 6, "edited"),
    ("UPDATE audit SET target = 'x' WHERE id IN (5, 2)", 2, "edited"),
    ("DELETE FROM audit WHERE id = 1", 1, "missing"),
    ("DELETE FROM audit WHERE id = 3", 3, "missing"),
    ("DELETE FROM audit WHERE id = 6", 6, "missing"),
    ("DELETE FROM audit WHERE id >= 4", 4, "missing"),
    ("DELETE FROM audit", 1, "missing"),
    // The following row takes the place of the deleted one, and so on.
    ("DELETE FROM audit WHERE id = 3; UPDATE audit SET id = 3 WHERE id = 4; UPDATE audit SET id = 4 WHERE id = 5; \
      UPDATE audit SET id = 5 WHERE id = 6; UPDATE audit_head SET last = 5", 3, "edited"),
    ("UPDATE audit SET id = -1 WHERE id = 2; UPDATE audit SET id = 2 WHERE id = 4; UPDATE audit SET id = 4 WHERE id = -1", 2, "edited"),
    ("UPDATE audit SET id = 7 WHERE id = 3", 3, "missing"),
    ("INSERT INTO audit SELECT 7, at, actor, address, tenant, action, target, detail, hash FROM audit WHERE id = 6", 7, "edited"),
    ("INSERT INTO audit SELECT 0, at, actor, address, tenant, action, target, detail, hash FROM audit WHERE id = 6", 0, "number"),
    ("INSERT INTO audit SELECT -9, at, actor, address, tenant, action, target, detail, hash FROM audit WHERE id = 6", -9, "number"),
    ("UPDATE audit SET id = 8 WHERE id = 6; UPDATE audit SET id = 6 WHERE id = 5; \
      INSERT INTO audit SELECT 5, at, actor, address, tenant, action, target, detail, hash FROM audit WHERE id = 4", 5, "edited"),
    ("UPDATE audit_head SET last = 7", 7, "missing"),
    ("UPDATE audit_head SET last = 5", 6, "end"),
    ("UPDATE audit_head SET last = 0", 1, "end"),
    ("UPDATE audit_head SET hash = (SELECT hash FROM audit WHERE id = 5)", 6, "end"),
    ("UPDATE audit_head SET last = 5, hash = (SELECT hash FROM audit WHERE id = 5)", 6, "end"),
    ("DELETE FROM audit_head", 6, "end"),
    ("DELETE FROM audit; UPDATE audit_head SET last = 1", 1, "missing"),
];

#[test]
fn audit_verify__every_tampering_is_found_at_its_row() {
    let gate = server_with_six_rows();
    let whole = verified(&gate, None).expect("an intact chain");
    assert_eq!(whole.id, 6);
    for (sql, id, problem) in TAMPERED {
        let found = verify_after(&gate, sql, None);
        match id {
            // A row that changes nothing: otherwise the table would prove nothing.
            0 if problem.is_empty() => assert_eq!(found.as_ref(), Ok(&whole), "{sql}"),
            _ => {
                let broken = found.expect_err(sql);
                assert_eq!(broken.id, *id, "{sql}: {broken}");
                assert!(broken.problem.contains(problem), "{sql}: {broken}");
            }
        }
    }
    assert_eq!(verified(&gate, None), Ok(whole), "each change was rolled back");
}

#[test]
fn audit_verify__values_of_another_type() {
    if postgres().is_some() {
        return;
    }
    let gate = server_with_six_rows();
    let whole = verified(&gate, None).expect("an intact chain");
    // The tables are STRICT.
    for sql in [
        "UPDATE audit SET target = x'ff' WHERE id = 3",
        "UPDATE audit SET at = 'now' WHERE id = 3",
        "UPDATE audit SET tenant = 1.5 WHERE id = 3",
        "UPDATE audit SET id = 3.5 WHERE id = 3",
        "UPDATE audit SET action = CAST(action AS BLOB) WHERE id IN (3, 5)",
        "UPDATE audit SET hash = 'x' WHERE id = 3",
        "UPDATE audit SET detail = x'' WHERE id = 3",
    ] {
        let refused = gate.app.db.write_now(|conn| Ok(conn.batch_execute(sql)?));
        assert!(refused.is_err(), "{sql}");
    }
    assert_eq!(verified(&gate, None), Ok(whole));
    let no_text = "UPDATE audit SET target = CAST(x'ff' AS TEXT) WHERE id = 3";
    assert_eq!(verify_after(&gate, no_text, None).expect_err("the change is detected").id, 3);
}

/// A second implementation of the documented hash.
fn hash(before: &[u8], row: &AuditRow) -> Vec<u8> {
    let mut bytes = before.to_vec();
    let number = |number: i64| Some(number.to_string());
    let text = |text: &str| Some(text.to_owned());
    for member in [
        number(row.id),
        number(row.at),
        text(&row.actor),
        row.address.clone(),
        row.tenant.and_then(number),
        text(&row.action),
        text(&row.target),
        row.detail.clone(),
    ] {
        match member {
            Some(member) => {
                bytes.extend((member.len() as u64).to_be_bytes());
                bytes.extend(member.as_bytes());
            }
            None => bytes.extend([0xFF; 8]),
        }
    }
    digest(&SHA256, &bytes).as_ref().to_vec()
}

/// A SQL literal of those bytes.
fn literal(hash: &[u8], on_postgres: bool) -> String {
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    if on_postgres { format!("'\\x{digits}'") } else { format!("x'{digits}'") }
}

/// Statements by which a person who knows the chain recomputes it from a row on.
fn recomputed_from(gate: &Gate, from: i64, change: impl Fn(&mut AuditRow)) -> String {
    let mut before = Vec::new();
    let mut sql = String::new();
    for mut row in rows(gate) {
        if row.id == from {
            change(&mut row);
            sql += &format!("UPDATE audit SET target = '{}' WHERE id = {from};", row.target);
        }
        before = hash(&before, &row);
        sql += &format!(
            "UPDATE audit SET hash = {} WHERE id = {};",
            literal(&before, gate.database.is_postgres()),
            row.id
        );
    }
    sql + &format!("UPDATE audit_head SET hash = {}", literal(&before, gate.database.is_postgres()))
}

#[test]
fn audit_verify__recomputed_chain_is_found_by_a_noted_head() {
    let gate = server_with_six_rows();
    let noted = verified(&gate, None).expect("an intact chain");
    let mut before = Vec::new();
    for row in rows(&gate) {
        before = hash(&before, &row);
        assert_eq!(row.hash, before, "row {} hashes as documented", row.id);
    }
    let nothing = recomputed_from(&gate, 3, |_| {});
    assert_eq!(verify_after(&gate, &nothing, Some(&noted)), Ok(noted.clone()));
    let recomputed = recomputed_from(&gate, 3, |row| row.target = "dom_0000000000000000000000".into());
    assert!(verify_after(&gate, &recomputed, None).is_ok(), "undetectable without the known head");
    let broken = verify_after(&gate, &recomputed, Some(&noted)).expect_err("found");
    assert_eq!(broken.id, 6, "{broken}");
    let shorter =
        "DELETE FROM audit WHERE id > 4; UPDATE audit_head SET last = 4, hash = (SELECT hash FROM audit WHERE id = 4)";
    assert!(verify_after(&gate, shorter, None).is_ok(), "undetectable without the known head");
    assert_eq!(verify_after(&gate, shorter, Some(&noted)).expect_err("found").id, 5);

    // The log continues, and the noted head is still in it.
    let alice = gate.sign_up("bob");
    gate.post("/v1/posts").token(&alice.token).json(&json!({"content": "more"})).send().expect(201);
    assert_eq!(verified(&gate, Some(&noted)).expect("an intact chain").id, 8);
    assert_eq!(verified(&gate, Some(&Head::default())).expect("an intact chain").id, 8);
    let other = Head { id: 3, ..noted };
    assert_eq!(verified(&gate, Some(&other)).expect_err("another row's hash").id, 3);
}
