//! How long a write transaction holds the writer. It is short, however much there is to write.

use diesel::prelude::*;
use gatebird::db::schema::{challenges, revocations, secrets, usage, used_assertions};

use crate::accounts::exchange;
use crate::harness::{Domain, Gate};

const USAGE_DAYS: i64 = 400;
/// Expired challenges and rows of usage.
const MANY_ROWS: i64 = 20_000;
/// Expired rows of each table with revisions, which are slow to insert.
const EXPIRED_ROWS: i64 = 2_000;

/// The number of write transactions that took at most that many seconds, which must be a bucket of the metric or
/// `+Inf`.
pub fn writes_within(gate: &Gate, seconds: &str) -> usize {
    let text = gate.app.metrics_text();
    let series = format!("gatebird_db_write_seconds_bucket{{le=\"{seconds}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&series)).unwrap_or_else(|| panic!("{series}: {text}"));
    line.parse().expect("a number")
}

/// The number of write transactions that were too long. The limit is 100 ms for an optimised build. It is 250 ms for a
/// debug build, whose SQLite is not optimised and which other tests slow down.
pub fn long_writes(gate: &Gate) -> usize {
    let limit = if cfg!(debug_assertions) { "0.25" } else { "0.1" };
    writes_within(gate, "+Inf") - writes_within(gate, limit)
}

/// The numbers from 1 to `last`, as a table `n` of either database.
pub fn numbers(last: i64) -> String {
    format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {last})")
}

/// Inserts usage of 16 kinds for each of those days directly.
pub fn insert_usage(gate: &Gate, domain: &Domain, days: i64) {
    let id = &domain.id;
    let kinds = numbers(16);
    let today = gate.clock.now() / 86_400;
    gate.execute(&format!(
        "INSERT INTO usage (domain_id, day, kind, count)
                {kinds}, d(day) AS (SELECT {today} UNION ALL SELECT day - 1 FROM d WHERE day > {today} - {days} + 1)
                SELECT '{id}', day, 'kind' || i, 1 FROM n, d"
    ));
}

fn usage_rows(gate: &Gate) -> i64 {
    gate.app.db.read_now(|conn| Ok(usage::table.count().get_result(conn)?)).expect("the database answers")
}

#[test]
fn domain_deletion__usage_of_400_days() {
    let gate = Gate::start();
    let (alice, domain, token) = gate.tenant("alice");
    let (_, other, _) = gate.tenant("bob");
    gate.app.flush().expect("the database answers");
    gate.execute("DELETE FROM usage");
    insert_usage(&gate, &domain, USAGE_DAYS);
    insert_usage(&gate, &other, 1);
    let earlier = long_writes(&gate);
    gate.delete(&format!("/v1/domains/{}", domain.id)).token(&alice.token).send().expect(200);
    gate.get("/v1/test").token(&token).send().refused(401, "revoked");
    exchange(&gate, &domain).refused(401, "unknown_client");
    // Completes the work of the removal thread.
    gate.app.remove_leftovers().expect("the database answers");
    assert_eq!(usage_rows(&gate), 16, "usage of the other domain");
    assert_eq!(long_writes(&gate) - earlier, 0);
}

#[test]
fn domain_deletion__restart_before_its_usage_is_removed() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    gate.app.flush().expect("the database answers");
    insert_usage(&gate, &domain, 1);
    gate.app.drain();
    gate.delete(&format!("/v1/domains/{}", domain.id)).token(&alice.token).send().expect(200);
    assert!(usage_rows(&gate) >= 16, "a server that stops deletes nothing");
    let gate = gate.restart(&[]);
    gate.app.remove_leftovers().expect("the database answers");
    assert_eq!(usage_rows(&gate), 0);
}

#[test]
fn maintenance__many_expired_rows() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    // The server's own maintenance does nothing until the restart.
    gate.app.drain();
    let (user, id) = (alice.id, &domain.id);
    // The text of a number, as bytes of the column's type.
    let bytes = match gate.database.is_postgres() {
        true => "CAST(CAST(1000000000000000 + i AS TEXT) AS BYTEA)",
        false => "CAST(1000000000000000 + i AS BLOB)",
    };
    let digest = match gate.database.is_postgres() {
        true => "CAST(lpad(CAST(i AS TEXT), 32, '0') AS BYTEA)",
        false => "CAST(printf('%032d', i) AS BLOB)",
    };
    let rows = numbers(MANY_ROWS);
    for statement in [
        format!("INSERT INTO challenges (user_id, host, token, expires_at) {rows} SELECT {user}, i, '', 0 FROM n"),
        format!("INSERT INTO usage (domain_id, day, kind, count) {rows} SELECT '{id}', i / 16, i % 16, 1 FROM n"),
    ] {
        gate.execute(&statement);
    }
    let rows = numbers(EXPIRED_ROWS);
    for statement in [
        format!("INSERT INTO revocations (jti, expires_at) {rows} SELECT {bytes}, 0 FROM n"),
        format!(
            "INSERT INTO used_assertions (fingerprint, tenant, expires_at) {rows} SELECT {bytes}, {user}, 0 FROM n"
        ),
        format!(
            "INSERT INTO secrets (domain_id, digest, hint, created_at, expires_at)
                {rows} SELECT '{id}', {digest}, '', 0, 0 FROM n"
        ),
    ] {
        gate.execute(&statement);
    }
    let gate = gate.restart(&[]);
    let earlier = long_writes(&gate);
    gate.app.maintain().expect("the database answers");
    assert_eq!(long_writes(&gate) - earlier, 0);
    let left = gate.app.db.read_now(|conn| {
        Ok([
            challenges::table.filter(challenges::expires_at.eq(0)).count().get_result::<i64>(conn)?,
            revocations::table.count().get_result(conn)?,
            used_assertions::table.filter(used_assertions::tenant.ne(0)).count().get_result(conn)?,
            usage::table.filter(usage::day.lt(10_000)).count().get_result(conn)?,
            secrets::table.filter(secrets::expires_at.is_not_null()).count().get_result(conn)?,
        ])
    });
    assert_eq!(left.expect("the database answers"), [0; 5]);
}
