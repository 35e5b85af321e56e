//! A wrong wall clock: ahead or behind, at the start or later, on one node or in the database. It must not delete or
//! end anything before its real time.

use std::path::Path;
use std::process::Command;

use diesel::{QueryDsl, RunQueryDsl};
use gatebird::db::schema::{revocations, secrets, signing_keys, tombstones, usage, used_assertions};

use crate::binary::{Child, gatebird, run};
use crate::harness::{Database, Domain, Gate, json, needs_postgres, parts, postgres};
use crate::log_recorder;
use crate::oauth::revocation::{is_revoked, works};
use crate::programs;

const HOUR: i64 = 3600;
const DAY: i64 = 86_400;
/// Longer than any retention of the maintenance.
const FAR: i64 = 500 * DAY;

fn maintain(gate: &Gate) {
    gate.app.maintain().expect("the database answers");
}

fn revoke(gate: &Gate, domain: &Domain, token: &str) {
    gate.post("/revoke").basic(&domain.id, &domain.secret).form(format!("token={token}")).send().expect(200);
}

/// The number of rows in each table that the maintenance deletes from.
fn rows(gate: &Gate) -> Vec<(&'static str, i64)> {
    macro_rules! count {
        ($($table:ident)*) => {
            gate.app.db.read_now(|conn| Ok(vec![$((stringify!($table), $table::table.count().get_result(conn)?)),*]))
        };
    }
    count!(revocations secrets signing_keys tombstones usage used_assertions).expect("the database answers")
}

/// A server with rows in every table that the maintenance deletes from, and a revoked token.
fn server_with_rows(settings: &[(&str, &str)]) -> (Gate, Domain, String) {
    let common = [("TOKEN_TTL", "1h"), ("JWT_ALGORITHM", "ES256"), ("KEY_ROTATION", "30d")];
    let gate = Gate::with(&[&common, settings].concat());
    let (user, domain, token) = gate.tenant("alice");
    let path = format!("/v1/domains/{}/secrets", domain.id);
    let body = json!({"graceSeconds": 60});
    let rotated = gate.post(&path).token(&user.token).json(&body).send().expect(201);
    let secret = rotated["payload"]["clientSecret"].as_str().expect("a secret").to_owned();
    let gone = gate.register(&user, "gone.example.com");
    gate.delete(&format!("/v1/domains/{}", gone.id)).token(&user.token).send().expect(200);
    works(&gate, &token);
    revoke(&gate, &domain, &token);
    // The rows that the tests count later exist from here on.
    is_revoked(&gate, &token);
    gate.app.flush().expect("the database answers");
    // The server knows the time from the first maintenance on.
    maintain(&gate);
    (gate, Domain { id: domain.id, secret }, token)
}

#[test]
fn revocation__clock_ahead_for_some_seconds() {
    for ahead in [HOUR + 60, 2 * HOUR, 40 * DAY] {
        let (gate, domain, token) = server_with_rows(&[]);
        gate.clock.set_wrong(ahead);
        maintain(&gate);
        maintain(&gate);
        gate.clock.set_wrong(0);
        is_revoked(&gate, &token);
        let gate = gate.restart(&[]);
        is_revoked(&gate, &token);
        works(&gate, &gate.access_token(&domain));
        // It is deleted once the real time has passed.
        gate.clock.advance(HOUR + 200);
        maintain(&gate);
        assert_eq!(gate.app.directory.revoked_count(), 0);
        assert_eq!(rows(&gate)[0], ("revocations", 0));
    }
}

#[test]
fn revocation__made_while_the_clock_is_ahead() {
    let (gate, domain, _) = server_with_rows(&[]);
    let token = gate.access_token(&domain);
    gate.clock.set_wrong(2 * HOUR);
    revoke(&gate, &domain, &token);
    gate.clock.set_wrong(0);
    is_revoked(&gate, &token);
}

#[test]
fn maintenance__clock_500_days_ahead_deletes_nothing() {
    let (gate, domain, token) = server_with_rows(&[]);
    let before = rows(&gate);
    gate.clock.set_wrong(FAR);
    for _ in 0..3 {
        maintain(&gate);
    }
    assert_eq!(rows(&gate), before);
    gate.clock.set_wrong(0);
    maintain(&gate);
    assert_eq!(rows(&gate), before);
    is_revoked(&gate, &token);
    works(&gate, &gate.access_token(&domain));
    // Keys are still rotated on time.
    gate.clock.advance(30 * DAY);
    maintain(&gate);
    assert_eq!(rows(&gate)[2], ("signing_keys", 2));
}

#[test]
fn maintenance__clock_wrong_at_the_start_deletes_nothing() {
    for wrong in [2 * HOUR, FAR] {
        let (gate, domain, token) = server_with_rows(&[]);
        let before = rows(&gate);
        gate.clock.set_wrong(wrong);
        let gate = gate.restart(&[]);
        maintain(&gate);
        maintain(&gate);
        assert_eq!(rows(&gate), before);
        gate.clock.set_wrong(0);
        maintain(&gate);
        is_revoked(&gate, &token);
        works(&gate, &gate.access_token(&domain));
        assert_eq!(rows(&gate), before);
    }
}

#[test]
fn maintenance__clock_in_1970_deletes_nothing() {
    let (gate, domain, token) = server_with_rows(&[]);
    let before = rows(&gate);
    gate.clock.set_wrong(1000 - gate.clock.now());
    maintain(&gate);
    let gate = gate.restart(&[]);
    maintain(&gate);
    assert_eq!(rows(&gate), before);
    gate.clock.set_wrong(0);
    maintain(&gate);
    assert_eq!(rows(&gate), before);
    is_revoked(&gate, &token);
    works(&gate, &gate.access_token(&domain));
    // The maintenance continues at once.
    gate.clock.advance(30 * DAY);
    maintain(&gate);
    assert_eq!(rows(&gate)[0], ("revocations", 0));
    assert_eq!(rows(&gate)[2], ("signing_keys", 2));
}

#[test]
fn key_rotation__key_made_while_the_clock_was_ahead() {
    for restarted in [false, true] {
        let gate = Gate::with(&[("KEY_ROTATION", "30d")]);
        let (_, domain, _) = gate.tenant("alice");
        maintain(&gate);
        gate.clock.set_wrong(FAR);
        let gate = gate.restart(&[("JWT_ALGORITHM", "ES256")]);
        gate.clock.set_wrong(0);
        let gate = if restarted { gate.restart(&[]) } else { gate };
        maintain(&gate);
        gate.clock.advance(10);
        let algorithm = || parts(&gate.access_token(&domain)).0["alg"].clone();
        assert_eq!(algorithm(), "ES256", "no key that signs now");
        let before = rows(&gate)[2].1;
        gate.clock.advance(30 * DAY);
        maintain(&gate);
        assert_eq!(rows(&gate)[2].1, before + 1, "the next key follows");
    }
}

#[test]
fn trusted_time__follows_a_changed_clock_after_a_day() {
    let (gate, _, token) = server_with_rows(&[]);
    let offset = || {
        let text = gate.app.metrics_text();
        let line = text.lines().find_map(|line| line.strip_prefix("gatebird_clock_offset_seconds "));
        line.expect("the gauge").parse::<f64>().expect("a number") as i64
    };
    assert!(offset().abs() <= 1);
    gate.clock.set_wrong(2 * HOUR);
    gate.clock.set_database_wrong(2 * HOUR);
    maintain(&gate);
    assert!((offset() - 2 * HOUR).abs() <= 1, "{}", offset());
    is_revoked_or_expired(&gate, &token);
    gate.clock.advance(DAY - 60);
    maintain(&gate);
    assert!((offset() - 2 * HOUR).abs() <= 1, "{}", offset());
    gate.clock.advance(120);
    maintain(&gate);
    assert!(offset().abs() <= 1, "{}", offset());
}

/// Two nodes with rows in every table that the maintenance deletes from.
struct Nodes {
    gate: Gate,
    other: Gate,
    /// The result of [`rows`].
    before: Vec<(&'static str, i64)>,
    domain: Domain,
    /// A revoked token.
    token: String,
}

/// Two nodes that deleted nothing while clocks were wrong.
#[track_caller]
fn nodes_with_wrong(clocks: impl Fn(&Gate, &Gate)) -> Nodes {
    let (gate, domain, token) = server_with_rows(&[]);
    let before = rows(&gate);
    let other = gate.another_node();
    clocks(&gate, &other);
    for _ in 0..3 {
        maintain(&other);
        maintain(&gate);
    }
    assert_eq!(rows(&gate), before);
    is_revoked(&gate, &token);
    works(&gate, &gate.access_token(&domain));
    Nodes { gate, other, before, domain, token }
}

/// Only on PostgreSQL.
#[test]
fn maintenance__database_clock_wrong_on_two_nodes() {
    if needs_postgres().is_none() {
        return;
    }
    for wrong in [2 * HOUR, FAR, -FAR] {
        let clocks = |gate: &Gate, other: &Gate| {
            gate.clock.set_database_wrong(wrong);
            other.clock.set_database_wrong(wrong);
        };
        let Nodes { gate, other, .. } = nodes_with_wrong(clocks);
        for node in [&gate, &other] {
            node.clock.set_database_wrong(0);
            node.clock.advance(2 * HOUR);
        }
        maintain(&other);
        maintain(&gate);
        assert_eq!(rows(&gate)[0], ("revocations", 0), "{wrong}: maintenance continues");
    }
}

/// Only on PostgreSQL.
#[test]
fn node_clock__wrong_on_one_node_tokens_still_verify() {
    if needs_postgres().is_none() {
        return;
    }
    for wrong in [2 * HOUR, FAR, -2 * HOUR, -FAR] {
        let (gate, domain, _) = server_with_rows(&[]);
        let other = gate.another_node();
        other.clock.set_wrong(wrong);
        maintain(&other);
        let token = other.access_token(&domain);
        works(&gate, &token);
        works(&other, &token);
        works(&other, &gate.access_token(&domain));
        let bob = other.sign_up("bob");
        let theirs = other.register(&bob, "bob.example.com");
        let path = format!("/v1/domains/{}/secrets", theirs.id);
        other.post(&path).token(&bob.token).json(&json!({"graceSeconds": 3600})).send().expect(201);
        let listed = other.get(&path).token(&bob.token).send().expect(200);
        let deadlines: Vec<i64> =
            listed["payload"].as_array().expect("secrets").iter().filter_map(|one| one["expiresAt"].as_i64()).collect();
        let expected = gate.clock.now() + HOUR;
        assert!(deadlines.len() == 1 && (deadlines[0] - expected).abs() < 30, "{wrong}: {listed}");
        // It still works after its clock has been corrected.
        other.clock.set_wrong(0);
        works(&gate, &other.access_token(&domain));
        maintain(&other);
        works(&gate, &other.access_token(&domain));
    }
}

fn is_revoked_or_expired(gate: &Gate, token: &str) {
    let status = gate.get("/v1/test").token(token).send().status;
    assert!([401, 419].contains(&status), "{status}");
}

/// Only on PostgreSQL.
#[test]
fn maintenance__clock_of_one_node_wrong() {
    if needs_postgres().is_none() {
        return;
    }
    for wrong in [2 * HOUR, FAR, -FAR] {
        let Nodes { gate, other, before, domain, token } = nodes_with_wrong(|_, other| other.clock.set_wrong(wrong));
        // The same for a node that starts with a wrong clock.
        let other = other.restart(&[]);
        maintain(&other);
        maintain(&gate);
        assert_eq!(rows(&gate), before, "{wrong}");
        is_revoked(&gate, &token);
        works(&gate, &gate.access_token(&domain));
        drop(gate);
        maintain(&other);
        assert_eq!(rows(&other), before, "{wrong}: alone, too");
    }
}

/// Runs the commands of a section of `docs/operations.md`.
pub fn run_section(title: &str, database: &Database, settings: &[(&str, &str)]) {
    let manual = include_str!("../../docs/operations.md");
    let (_, section) = manual.split_once(&format!("## {title}\n")).expect("the section");
    let section = section.split("\n## ").next().expect("its text");
    let (_, script) = section.split_once("```sh\n").expect("commands");
    let script = script.split("```").next().expect("the end of the block");
    let binary = Path::new(env!("CARGO_BIN_EXE_gatebird"));
    let path = programs::path_with(binary.parent().expect("a folder"));
    let mut shell = Command::new("sh");
    // The settings of the command line, which the shell passes on.
    let settings_of = gatebird(database, &[], settings);
    shell.envs(settings_of.get_envs().filter_map(|(key, value)| Some((key, value?))));
    shell.env("PATH", path).current_dir(&database.dir).args(["-euc", script]);
    run(&mut shell, "").good();
}

#[test]
fn operations_page__after_a_wrong_clock() {
    let database = Database::new();
    let settings = [("JWT_ALGORITHM", "ES256")];
    let child = Child::start(&database, &settings);
    child.client.tenant("alice");
    run_section("After a wrong clock", &database, &settings);
}

/// Whether the line was logged for one of the last two seconds of the server's clock.
fn is_logged(gate: &Gate, says: impl Fn(i64) -> String) -> bool {
    let now = gate.clock.now();
    (now - 2..=now).any(|second| log_recorder::count(&says(second)) > 0)
}

#[test]
fn clock_jump__is_logged() {
    log_recorder::record();
    for wrong in [HOUR + 1234, -1234] {
        let (gate, ..) = server_with_rows(&[]);
        gate.clock.set_wrong(wrong);
        maintain(&gate);
        if postgres().is_some() {
            // The clock of the database is right, and the node uses it instead.
            assert!(
                log_recorder::count("ERROR the clock of this node is wrong; this node uses the clock of the database")
                    > 0
            );
            gate.clock.set_wrong(0);
            maintain(&gate);
            assert!(log_recorder::count("INFO the clock of this node is right again") > 0);
            continue;
        }
        assert!(is_logged(&gate, |now| format!("WARN the clock ({now}) disagrees with the trusted time")), "{wrong}");
        gate.clock.set_wrong(0);
        maintain(&gate);
        let agree = |now| format!("INFO the clock agrees with the trusted time again: {now}");
        assert!(is_logged(&gate, agree), "{wrong}");
    }
}
