//! `POST /revoke` (RFC 7009): a revoked token is refused from the answer on, on every node and for good; and a client
//! can revoke only its own tokens.

mod bounds;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, QueryDsl, RunQueryDsl, SqliteConnection};
use gatebird::db::{revocation, schema::revocations};
use gatebird::id::TokenId;

use super::{ClientKey, GRANT, KeyClient, asserting, encoded, form, gate, granted, invalid_client};
use crate::binary::{Child, Client, text, within};
use crate::harness::{Database, Domain, Gate, Reply, json, parts, postgres, resigned};

fn revoke(gate: &Gate, domain: &Domain, token: &str) -> Reply {
    gate.post("/revoke").form(form(domain, &format!("token={}", encoded(token)))).send()
}

#[track_caller]
pub fn works(gate: &Gate, token: &str) {
    gate.get("/v1/test").token(token).send().expect(200);
}

#[track_caller]
pub fn is_revoked(gate: &Gate, token: &str) {
    gate.get("/v1/test").token(token).send().refused(401, "revoked");
}

fn rows(gate: &Gate) -> i64 {
    let count = gate.app.db.read_now(|conn| Ok(revocations::table.count().get_result(conn)?));
    count.expect("the database answers")
}

fn maintain(gate: &Gate) {
    gate.app.maintain().expect("the database answers");
}

/// An answer without its request id and date.
fn comparable_parts(reply: &Reply) -> (u16, String, Vec<(String, String)>) {
    let own = ["x-request-id", "date"];
    let headers = reply.headers.iter().filter(|(name, _)| !own.contains(&name.as_str()));
    let mut headers: Vec<(String, String)> = headers.cloned().collect();
    headers.sort();
    (reply.status, reply.text(), headers)
}

#[test]
fn revocation__own_tokens_only() {
    for algorithm in ["HS256", "ES256", "EdDSA", "RS256"] {
        let gate = gate(&[("JWT_ALGORITHM", algorithm), ("AUDIENCES", "urn:example:api")]);
        let (user, domain, token) = gate.tenant("alice");
        let (_, mallory, others) = gate.tenant("mallory");
        let second = gate.register(&user, "second.example.com");
        let seconds = gate.access_token(&second);
        let sibling = gate.access_token(&domain);
        let nothing = revoke(&gate, &domain, "garbage");
        nothing.expect(200);
        // Another client's token, or no token: nothing changes.
        for token in [&others, &seconds, &user.token] {
            revoke(&gate, &domain, token).refused(400, "other_client");
        }
        let forged = format!("{}x", token);
        for token in [&forged, &domain.secret, &"a".repeat(10_000)] {
            assert_eq!(comparable_parts(&revoke(&gate, &domain, token)), comparable_parts(&nothing));
        }
        for token in [&token, &sibling, &others, &seconds, &user.token] {
            works(&gate, token);
        }
        assert_eq!((rows(&gate), gate.app.directory.revoked_count()), (0, 0));
        // Its own token: that one and no other.
        revoke(&gate, &domain, &token).expect(200);
        is_revoked(&gate, &token);
        gate.get("/verify").token(&token).send().refused(401, "revoked");
        gate.get("/v1/posts/my").token(&token).send().refused(401, "revoked");
        for token in [&sibling, &others, &seconds, &user.token] {
            works(&gate, token);
        }
        // A repetition is no error, and adds no row.
        assert_eq!(comparable_parts(&revoke(&gate, &domain, &token)), comparable_parts(&nothing));
        assert_eq!((rows(&gate), gate.app.directory.revoked_count()), (1, 1));
        works(&gate, &gate.access_token(&domain));
        // With every authentication method, hint and audience.
        let client = KeyClient::register(&gate, &user, "keys.example.com", ClientKey::ed_dsa());
        let by_key = client.token();
        let body = format!("token={by_key}&token_type_hint=access_token&{}", asserting(&client.assertion()));
        gate.post("/revoke").form(body).send().expect(200);
        is_revoked(&gate, &by_key);
        let body = format!("token={sibling}&token_type_hint=refresh_token");
        gate.post("/revoke").form(body).basic(&domain.id, &domain.secret).send().expect(200);
        is_revoked(&gate, &sibling);
        let elsewhere = granted(&gate, &domain, "&resource=urn:example:api");
        gate.get("/verify?audience=urn:example:api").token(&elsewhere).send();
        revoke(&gate, &domain, &elsewhere).expect(200);
        gate.get("/verify?audience=urn:example:api").token(&elsewhere).send().refused(401, "revoked");
        // Another signature over the same claims is the same token.
        let again = resigned(&token, |header, _| header["alg"] = json!("HS256"));
        if algorithm == "HS256" {
            is_revoked(&gate, &again);
        }
        // An unauthenticated caller revokes nothing.
        let alive = gate.access_token(&domain);
        for (name, body) in [
            ("nobody", format!("token={alive}")),
            ("a name only", format!("token={alive}&client_id={}", domain.id)),
            ("another's secret", format!("token={alive}&client_id={}&client_secret={}", domain.id, mallory.secret)),
            ("the token itself", format!("token={alive}&client_id={}&client_secret={alive}", domain.id)),
        ] {
            invalid_client(name, &gate.post("/revoke").form(&*body).send());
            invalid_client(name, &gate.post("/revoke").form(body).token(&alive).send());
        }
        works(&gate, &alive);
    }
}

/// A thief with a token may have used up the plan's limit.
#[test]
fn revocation__over_the_plan_limit() {
    let gate = gate(&[("LIMIT_FREE", "3/h")]);
    let (_, domain, token) = gate.tenant("alice");
    while gate.get("/v1/test").token(&token).send().status == 200 {}
    gate.get("/v1/test").token(&token).send().refused(429, "plan");
    for _ in 0..5 {
        revoke(&gate, &domain, "x").expect(200);
    }
    revoke(&gate, &domain, &token).expect(200);
    is_revoked(&gate, &token);
}

#[test]
fn revocation__survives_a_restart() {
    let first = gate(&[("TOKEN_TTL", "1h")]);
    let (user, domain, token) = first.tenant("alice");
    let sibling = first.access_token(&domain);
    revoke(&first, &domain, &token).expect(200);
    let second = first.restart(&[]);
    // The first request of the new process.
    is_revoked(&second, &token);
    works(&second, &sibling);
    works(&second, &user.token);
    assert_eq!(second.app.directory.revoked_count(), 1);
}

/// The process is killed while tokens are revoked on several connections. Every answer 200 must hold.
#[test]
fn revocation__survives_kill_9() {
    let database = Database::new();
    let settings = [("TOKEN_TTL", "1h")];
    let mut child = Child::start(&database, &settings);
    let (_, domain, _) = child.client.tenant("alice");
    let mut shown = 0;
    for round in 0..4 {
        let tokens: Vec<String> =
            (0..120).map(|_| text(&child.client.exchange(&domain.secret).expect(200)["token"])).collect();
        let (answered, going) = (AtomicU64::new(0), AtomicBool::new(true));
        let revoked: Vec<&String> = std::thread::scope(|scope| {
            let threads: Vec<_> = tokens
                .chunks(30)
                .map(|tokens| {
                    let (client, domain) = (Client::new(&child.client.url), &domain);
                    let (answered, going) = (&answered, &going);
                    scope.spawn(move || {
                        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
                        let mut done = Vec::new();
                        for token in tokens {
                            let body = form(domain, &format!("token={token}"));
                            match client.send("POST", "/revoke", &headers, &body) {
                                Ok(reply) => drop(reply.expect(200)),
                                Err(_gone) => break,
                            }
                            done.push(token);
                            answered.fetch_add(1, Ordering::Relaxed);
                            if !going.load(Ordering::Relaxed) {
                                break;
                            }
                        }
                        done
                    })
                })
                .collect();
            within(Duration::from_secs(10), "some revocations", || answered.load(Ordering::Relaxed) > 5 + 10 * round);
            crate::binary::signal("KILL", child.pid());
            going.store(false, Ordering::Relaxed);
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
        });
        child.kill();
        child = Child::start(&database, &settings);
        shown += revoked.len();
        for token in &tokens {
            let reply = child.client.get("/v1/test", token);
            match revoked.contains(&token) {
                true => drop(reply.refused(401, "revoked")),
                // A revocation without an answer may or may not be in force.
                false => assert!(matches!(reply.status, 200 | 401), "{}", reply.text()),
            }
        }
    }
    println!("{shown} revocations before four kills");
    assert!(shown > 20);
}

#[test]
fn revocation__row_is_deleted_after_expiry() {
    let first = gate(&[("TOKEN_TTL", "1m")]);
    let (_, domain, early) = first.tenant("alice");
    first.clock.advance(45);
    let late = first.access_token(&domain);
    for token in [&early, &late] {
        revoke(&first, &domain, token).expect(200);
    }
    let count = |gate: &Gate| (rows(gate), gate.app.directory.revoked_count());
    first.clock.advance(5);
    maintain(&first);
    assert_eq!(count(&first), (2, 2), "in the last seconds of its life");
    is_revoked(&first, &early);
    // An expired token that was revoked is still reported as revoked; and for three more minutes, because clocks
    // differ.
    for seconds in [10, 20, 149] {
        first.clock.advance(seconds);
        maintain(&first);
        assert_eq!(count(&first), (2, 2));
        is_revoked(&first, &early);
    }
    first.clock.advance(12);
    maintain(&first);
    assert_eq!(count(&first), (1, 1));
    assert!(matches!(first.get("/v1/test").token(&early).send().status, 401 | 419));
    is_revoked(&first, &late);
    // An expired token needs no revocation.
    for token in [&early, &resigned(&late, |_, claims| claims["exp"] = json!(first.clock.now()))] {
        revoke(&first, &domain, token).expect(200);
    }
    assert_eq!(count(&first), (1, 1));
    // Nor after a restart, which loads the remaining rows.
    let now = first.clock.now();
    let insert = |conn: &mut gatebird::db::Conn| {
        for age in 1..100 {
            revocation::insert(conn, TokenId::random(), now - 10 * age - 180)?;
        }
        Ok(())
    };
    first.app.db.change_now(insert, |_| Ok(())).expect("the database answers");
    let second = first.restart(&[]);
    maintain(&second);
    assert_eq!(count(&second), (1, 1));
    is_revoked(&second, &late);
    second.clock.advance(120);
    maintain(&second);
    assert_eq!(count(&second), (0, 0));
}

/// A transaction of another client that blocks all writes until it ends.
enum WriteLock {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl WriteLock {
    fn database(database: &Database) -> WriteLock {
        match postgres() {
            None => {
                let mut conn =
                    SqliteConnection::establish(database.url.trim_start_matches("sqlite://")).expect("a database");
                conn.batch_execute("PRAGMA busy_timeout = 5000").expect("SQLite");
                conn.batch_execute("BEGIN EXCLUSIVE").expect("no other write transaction");
                WriteLock::Sqlite(conn)
            }
            Some(_) => {
                let mut conn = PgConnection::establish(&database.url).expect("PostgreSQL answers");
                let lock = "BEGIN; LOCK TABLE revision, revocations IN ACCESS EXCLUSIVE MODE";
                conn.batch_execute(lock).expect("no other write transaction");
                WriteLock::Postgres(conn)
            }
        }
    }

    fn open(self) {
        match self {
            WriteLock::Sqlite(mut conn) => conn.batch_execute("ROLLBACK").expect("SQLite"),
            WriteLock::Postgres(mut conn) => conn.batch_execute("ROLLBACK").expect("PostgreSQL"),
        }
    }
}

#[test]
fn revocation__deletion_is_retried() {
    let gate = gate(&[]);
    let (_, domain, token) = gate.tenant("alice");
    revoke(&gate, &domain, &token).expect(200);
    gate.clock.advance(250);
    let locked = WriteLock::database(&gate.database);
    gate.app.maintain().expect_err("the database does not answer");
    assert_eq!(gate.app.directory.revoked_count(), 1, "a failed deletion is retried");
    locked.open();
    maintain(&gate);
    assert_eq!((rows(&gate), gate.app.directory.revoked_count()), (0, 0));
}

/// RFC 7009 §2.2.1: the client must learn that the token is still valid.
#[test]
fn revocation__failed_write_is_503() {
    let gate = gate(&[]);
    let (_, domain, token) = gate.tenant("alice");
    let (_, mallory, _) = gate.tenant("mallory");
    let locked = WriteLock::database(&gate.database);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let started = Instant::now();
                let reply = revoke(&gate, &domain, &token);
                assert_eq!(reply.refused(503, "busy")["error"], "temporarily_unavailable");
                assert!(reply.header("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok()), "{reply:?}");
                assert!(started.elapsed() < Duration::from_secs(2), "it took {:?}", started.elapsed());
            });
        }
    });
    works(&gate, &token);
    // A request that revokes nothing needs no database.
    revoke(&gate, &domain, "garbage").expect(200);
    revoke(&gate, &domain, &gate.access_token(&mallory)).refused(400, "other_client");
    locked.open();
    works(&gate, &token);
    assert_eq!(
        (rows(&gate), gate.app.directory.revoked_count()),
        (0, 0),
        "a change that was answered 503 is not made later"
    );
    within(Duration::from_secs(5), "the write works again", || revoke(&gate, &domain, &token).status == 200);
    is_revoked(&gate, &token);
}

/// A revocation names the token's id, which is unique.
#[test]
fn revocation__affects_one_token() {
    let gate = gate(&[]);
    let (_, domain, _) = gate.tenant("alice");
    let tokens: Vec<String> = (0..8).map(|_| granted(&gate, &domain, "")).collect();
    for (number, token) in tokens.iter().enumerate() {
        assert_eq!(revoke(&gate, &domain, token).status, 200);
        for (other, token) in tokens.iter().enumerate() {
            let status = gate.get("/v1/test").token(token).send().status;
            assert_eq!(status, if other <= number { 401 } else { 200 });
        }
    }
    let jti = parts(&tokens[0]).1["jti"].as_str().expect("text").to_owned();
    assert!(gate.app.directory.is_revoked(&TokenId::parse(&jti).expect("an id")));
    assert_eq!(gate.post("/token").form(form(&domain, GRANT)).send().status, 200);
}
