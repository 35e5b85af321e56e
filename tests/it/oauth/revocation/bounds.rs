//! How soon a revocation is in force, here and on other nodes, and its memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, SqliteConnection};
use gatebird::id::DomainId;

use super::super::{ISSUER, form, gate};
use crate::binary::{Child, PROMISED, gatebird, run, within};
use crate::harness::{Database, Reply, needs_postgres};
use crate::http::keep_alive::KeepAlive;

fn get(connection: &mut KeepAlive, path: &str, token: &str) -> Reply {
    connection.ask("GET", path, &format!("Authorization: Bearer {token}\r\n"), b"").expect("an answer")
}

fn post(connection: &mut KeepAlive, path: &str, form: &str) -> Reply {
    let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
    connection.ask("POST", path, kind, form.as_bytes()).expect("an answer")
}

/// The node that answered accepts no further request with the token: at any endpoint, and whether or not the token was
/// verified before. A debug build stops when its time is over.
#[test]
fn revocation__in_force_for_the_next_request() {
    const THREADS: usize = 8;
    const TRIALS: u64 = 10_000;
    let time_limit = Duration::from_secs(if cfg!(debug_assertions) { 4 } else { 60 });
    let gate = gate(&[]);
    let (_, domain, _) = gate.tenant("alice");
    let live = gate.app.directory.by_id(&DomainId::parse(&domain.id).expect("an id")).expect("alice's domain");
    let (begun, started) = (AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let (mut one, mut other) = (KeepAlive::to(&gate.url), KeepAlive::to(&gate.url));
                loop {
                    let trial = begun.fetch_add(1, Ordering::Relaxed);
                    if trial >= TRIALS || started.elapsed() > time_limit {
                        break;
                    }
                    let (token, _) = gate.app.access_token(&live, "posts:read", &[ISSUER]);
                    if trial.is_multiple_of(2) {
                        get(&mut other, "/v1/test", &token).expect(200);
                    }
                    assert_eq!(post(&mut one, "/revoke", &form(&domain, &format!("token={token}"))).status, 200);
                    // On the same connection, and on one that may belong to another worker.
                    let connection = if trial.is_multiple_of(3) { &mut one } else { &mut other };
                    let reply = match trial % 4 {
                        0 => get(connection, "/verify", &token),
                        1 => post(connection, "/introspect", &form(&domain, &format!("token={token}"))),
                        _ => get(connection, "/v1/test", &token),
                    };
                    match trial % 4 {
                        1 => assert_eq!(reply.text(), "{\"active\":false}", "trial {trial}"),
                        _ => drop(reply.refused(401, "revoked")),
                    }
                }
            });
        }
    });
    let trials = gate.app.directory.revoked_count();
    println!("0 late accepts in {trials} trials, {:?}", started.elapsed());
    assert!(trials as u64 >= TRIALS / 100, "only {trials} trials");
}

#[test]
fn revocation__reaches_other_nodes_within_two_seconds() {
    if needs_postgres().is_none() {
        return;
    }
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 5;
    const TOGETHER: usize = 25;
    let here = gate(&[]);
    let there = here.another_node();
    let (_, domain, token) = here.tenant("alice");
    within(PROMISED, "a new domain", || there.get("/v1/test").token(&token).send().status == 200);
    let live = here.app.directory.by_id(&DomainId::parse(&domain.id).expect("an id")).expect("alice's domain");
    let mut took = std::thread::scope(|scope| {
        let trials = |thread: u64| {
            let (here, there, domain, live) = (&here, &there, &domain, &live);
            // The threads start at different times within a second.
            std::thread::sleep(Duration::from_millis(thread * 131));
            let mut took = Vec::new();
            for round in 0..ROUNDS {
                let (one, other) = if round.is_multiple_of(2) { (here, there) } else { (there, here) };
                let (mut one, mut other) = (KeepAlive::to(&one.url), KeepAlive::to(&other.url));
                let mut revoked = Vec::new();
                for _ in 0..TOGETHER {
                    let (token, _) = here.app.access_token(live, "posts:read", &[ISSUER]);
                    get(&mut other, "/v1/test", &token).expect(200);
                    assert_eq!(post(&mut one, "/revoke", &form(domain, &format!("token={token}"))).status, 200);
                    revoked.push((token, Instant::now()));
                }
                while !revoked.is_empty() {
                    revoked.retain(|(token, at)| {
                        let accepted = get(&mut other, "/v1/test", token).status == 200;
                        let late = at.elapsed();
                        assert!(!accepted || late < PROMISED, "still accepted after {late:?}");
                        took.extend((!accepted).then_some(late));
                        accepted
                    });
                    // Leaves the database some time.
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            took
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || trials(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    took.sort_unstable();
    let (count, middle) = (took.len(), took[took.len() / 2]);
    println!(
        "{count} revocations were known elsewhere after {middle:?} in the middle and {:?} at most",
        took[count - 1]
    );
    assert_eq!(count as u64, THREADS * ROUNDS * TOGETHER as u64);
}

/// One revision for all rows, in a table without the trigger that would number them.
#[test]
fn revocation__memory_at_most_64_bytes() {
    const COUNT: usize = 1_000_000;
    let database = Database::new();
    run(&mut gatebird(&database, &["migrate"], &[]), "").good();
    let before = Child::start(&database, &[]).resident_kib();
    let filled = Instant::now();
    // Consecutive ids are inserted faster; the server does not care.
    let (numbers, jti) = match database.is_postgres() {
        true => (format!("(SELECT generate_series(1, {COUNT}) AS i) AS n"), "decode(lpad(to_hex(i), 32, '0'), 'hex')"),
        false => (
            format!(
                "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {COUNT}) SELECT i FROM n)"
            ),
            "CAST(printf('%016d', i) AS BLOB)",
        ),
    };
    let fill = format!(
        "UPDATE revision SET value = value + 1;
         ALTER TABLE revocations RENAME TO revocations_before;
         CREATE TABLE revocations AS
         SELECT {jti} AS jti, CAST(4102444800 AS BIGINT) AS expires_at, value AS revision FROM revision, {numbers}"
    );
    match database.is_postgres() {
        true => PgConnection::establish(&database.url).expect("PostgreSQL answers").batch_execute(&fill),
        false => SqliteConnection::establish(database.url.trim_start_matches("sqlite://"))
            .expect("a database")
            .batch_execute(&format!("PRAGMA synchronous = OFF; {fill}")),
    }
    .expect("a million rows");
    let filled = filled.elapsed();
    let started = Instant::now();
    let child = Child::start(&database, &[]);
    let started = started.elapsed();
    let after = child.resident_kib();
    let each = (after.saturating_sub(before) * 1024) as f64 / COUNT as f64;
    println!("{COUNT} revocations: {each:.1} bytes each, filled in {filled:?}, started in {started:?}");
    assert!(each <= 64.0, "{each} bytes each: {before} kB before, {after} kB after");
    // An id and a time alone need as much; with less, the rows were not loaded.
    assert!(each > 24.0, "{each} bytes each is implausibly little: {before} kB before, {after} kB after");
}
