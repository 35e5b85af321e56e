//! What owners see of the use of their domains, and operators of the use of an API version.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{QueryDsl, RunQueryDsl};
use gatebird::db::Conn;
use gatebird::db::domain::{self, NewDomain};
use gatebird::db::schema::usage as rows_of_usage;
use gatebird::host::Host;
use gatebird::id::DomainId;
use gatebird::plan::Plan;
use gatebird::usage::Kind;

use crate::binary::{Child, gatebird, run, signal};
use crate::harness::{Database, Domain, Gate, User, Value, json};

/// Flushes the counts, and reads the usage of the last days.
fn usage(gate: &Gate, owner: &User, domain: &Domain, days: i64) -> Vec<Value> {
    gate.app.flush().expect("the database answers");
    let path = format!("/v1/domains/{}/usage?days={days}", domain.id);
    gate.get(&path).token(&owner.token).send().expect(200)["payload"].as_array().expect("days").clone()
}

#[test]
fn usage__each_request_is_counted_once() {
    let gate = Gate::with(&[("LIMIT_FREE", "8/h")]);
    let (alice, domain, token) = gate.tenant("alice");
    let form = |form: &str| gate.post("/token").basic(&domain.id, &domain.secret).form(form).send();
    form("grant_type=client_credentials&scope=nothing").refused(400, "scope");
    let reader = form("grant_type=client_credentials&scope=posts:read").expect(200);
    let reader = reader["access_token"].as_str().expect("a token").to_owned();
    gate.get("/v1/test").token(&token).send().expect(200);
    assert_eq!(gate.get("/verify").token(&token).send().status, 200);
    gate.post("/v1/posts").token(&reader).json(&json!({"content": "x"})).send().refused(403, "scope");
    gate.get("/v1/me").token(&token).send().refused(403, "kind");
    gate.clock.advance(3);
    gate.post("/v1/token").json(&json!({"clientSecret": domain.secret})).send().expect(200);
    gate.get("/v1/test").token(&token).send().refused(429, "plan");
    gate.clock.advance(120);
    gate.get("/v1/test").token(&token).send().refused(419, "expired");
    // Requests without a domain: no usage.
    gate.get("/v1/test").token("garbage").send().refused(401, "invalid");
    gate.post("/token").json(&json!({"clientSecret": "x"})).send().refused(401, "malformed_secret");
    let today = &usage(&gate, &alice, &domain, 1)[0];
    assert_eq!(today["tokens"], 3, "{today}");
    assert_eq!(today["calls"], 4, "{today}");
    assert_eq!(today["refused"], json!({"scope": 2, "kind": 1, "plan": 1, "expired": 1}), "{today}");
    assert_eq!(today["versions"], json!({"v1": 6}), "{today}");
}

#[test]
fn usage__days_are_utc_and_complete() {
    let gate = Gate::start();
    let alice = gate.sign_up("alice");
    let domain = gate.register(&alice, "alice.example.com");
    gate.access_token(&domain);
    gate.clock.advance(86_400);
    gate.access_token(&domain);
    gate.access_token(&domain);
    let body = json!({"username": "alice", "password": crate::harness::PASSWORD});
    let token = gate.post("/v1/signin").json(&body).send().expect(200)["token"].as_str().expect("a token").to_owned();
    let alice = User { token, ..alice };
    let days = usage(&gate, &alice, &domain, 30);
    assert_eq!(days.len(), 30);
    let tokens: Vec<&Value> = days.iter().take(3).map(|day| &day["tokens"]).collect();
    assert_eq!(tokens, [2, 1, 0]);
    let names: Vec<&str> = days.iter().map(|day| day["day"].as_str().expect("a date")).collect();
    assert!(names.windows(2).all(|pair| pair[0] > pair[1]), "most recent first: {names:?}");
    assert_eq!(names[0].len(), "2026-11-22".len());
}

#[test]
fn usage__days_parameter_is_bounded() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    let ask = |days: &str| gate.get(&format!("/v1/domains/{}/usage?days={days}", domain.id)).token(&alice.token).send();
    assert_eq!(ask("401").refused(400, "invalid_field")["field"], "days");
    assert_eq!(ask("400").expect(200)["payload"].as_array().map(Vec::len), Some(400));
    let unsaid = gate.get(&format!("/v1/domains/{}/usage", domain.id)).token(&alice.token).send().expect(200);
    assert_eq!(unsaid["payload"].as_array().map(Vec::len), Some(30));
}

/// Counts from several threads during repeated flushes.
#[test]
fn usage__exact_under_concurrency() {
    let gate = Gate::start();
    let (alice, domain, token) = gate.tenant("alice");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    gate.get("/v1/test").token(&token).send().expect(200);
                }
            });
        }
        for _ in 0..20 {
            gate.app.flush().expect("the database answers");
        }
    });
    assert_eq!(usage(&gate, &alice, &domain, 1)[0]["calls"], 400);
}

/// Counts that cannot be written are kept.
#[test]
fn usage__database_outage_loses_nothing() {
    let gate = Gate::start();
    let (alice, domain, token) = gate.tenant("alice");
    let rename = |from: &str, to: &str| {
        let statement = format!("ALTER TABLE {from} RENAME TO {to}");
        gate.app.db.write_now(|conn| Ok(conn.batch_execute(&statement)?)).expect("the database answers");
    };
    rename("usage", "away");
    gate.get("/v1/test").token(&token).send().expect(200);
    assert!(gate.app.flush().is_err());
    gate.get("/v1/test").token(&token).send().expect(200);
    rename("away", "usage");
    assert_eq!(usage(&gate, &alice, &domain, 1)[0]["calls"], 2);
}

/// A domain that is deleted before the flush does not affect the counts of others.
#[test]
fn usage__deleted_domain_is_skipped() {
    let gate = Gate::start();
    let (alice, domain, token) = gate.tenant("alice");
    let other = gate.register(&alice, "other.example.com");
    gate.access_token(&other);
    gate.get("/v1/test").token(&token).send().expect(200);
    gate.delete(&format!("/v1/domains/{}", domain.id)).token(&alice.token).send().expect(200);
    assert_eq!(usage(&gate, &alice, &other, 1)[0]["tokens"], 1);
    gate.get(&format!("/v1/domains/{}/usage", domain.id)).token(&alice.token).send().refused(404, "not_found");
}

/// After the sunset of a version, operator and owner still see its calls.
#[test]
fn usage__calls_of_an_ended_version() {
    let gate = Gate::start();
    let (alice, domain, token) = gate.tenant("alice");
    let gate = gate.restart(&[("API_V1_SUNSET", "2000-01-01")]);
    gate.get("/v1/test").token(&token).send().refused(410, "sunset");
    gate.get("/v1/test").token("garbage").send().refused(410, "sunset");
    gate.app.flush().expect("the database answers");
    let gate = gate.restart(&[("API_V1_SUNSET", "")]);
    let today = &usage(&gate, &alice, &domain, 1)[0];
    assert_eq!(today["refused"], json!({"sunset": 1}), "{today}");
    assert_eq!(today["versions"], json!({"v1": 1}), "{today}");
}

/// Every answered request is counted exactly once after a shutdown. After SIGKILL, at most those of the last second are
/// missing.
#[test]
fn usage__shutdown_loses_nothing_and_a_crash_at_most_a_second() {
    let database = Database::new();
    let seen = |child: &Child, owner: &str, domain: &str| {
        let reply = child.client.get(&format!("/v1/domains/{domain}/usage?days=2"), owner).expect(200);
        let days = reply["payload"].as_array().expect("days").clone();
        days.iter().map(|day| day["calls"].as_u64().expect("a number")).sum::<u64>()
    };
    let settings = [("LIMIT_FREE", "off"), ("TOKEN_TTL", "1h")];
    let child = Child::start(&database, &settings);
    let (alice, domain, token) = child.client.tenant("alice");
    let call_for = |child: &Child, time: Duration| {
        let began = Instant::now();
        let mut calls: Vec<Duration> = Vec::new();
        while began.elapsed() < time {
            child.client.get("/v1/test", &token).expect(200);
            calls.push(began.elapsed());
        }
        calls
    };
    let mut answered = call_for(&child, Duration::from_millis(1300)).len() as u64;
    signal("TERM", child.pid());
    child.wait(Duration::from_secs(10)).good();
    let child = Child::start(&database, &settings);
    assert_eq!(seen(&child, &alice.token, &domain.id), answered);

    let calls = call_for(&child, Duration::from_millis(2500));
    child.kill();
    let last_second = calls.iter().filter(|at| **at + Duration::from_secs(1) > *calls.last().expect("some")).count();
    answered += calls.len() as u64;
    let child = Child::start(&database, &settings);
    let counted = seen(&child, &alice.token, &domain.id);
    let least = answered - last_second as u64;
    assert!((least..=answered).contains(&counted), "{counted} of {answered} counted, {last_second} in the last second");
}

#[test]
fn version_use__lists_the_callers_of_a_version() {
    let database = Database::new();
    let child = Child::start(&database, &[]);
    let (_, domain, token) = child.client.tenant("alice");
    child.client.get("/v1/test", &token).expect(200);
    child.client.tenant("bob");
    signal("TERM", child.pid());
    child.wait(Duration::from_secs(10)).good();
    let listed = run(&mut gatebird(&database, &["version-use", "v1", "--json"], &[]), "").json();
    let rows = listed.as_array().expect("a list");
    assert_eq!(rows.len(), 1, "bob's domain only asked at /token, which has no version: {listed}");
    assert_eq!(rows[0]["id"], domain.id.as_str());
    assert_eq!((rows[0]["user"].as_str(), rows[0]["requests"].as_i64()), (Some("alice"), Some(1)), "{listed}");
    let lines = run(&mut gatebird(&database, &["version-use", "--days", "1"], &[]), "").good();
    assert!(lines.contains("alice.example.com") && lines.contains("alice"), "{lines}");
    for wrong in [["version-use", "v9"], ["version-use", "--days=0"]] {
        assert_eq!(run(&mut gatebird(&database, &wrong, &[]), "").code, Some(64), "{wrong:?}");
    }
}

/// The usage of more domains than one transaction writes is shown at once, also after a restart, and counted once.
#[test]
fn usage__of_more_domains_than_one_batch() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    let owner = gate.app.directory.tenant(alice.id).expect("alice").id;
    let insert = |conn: &mut Conn| {
        let new = |number: usize| NewDomain {
            host: Host::from_stored(format!("h{number}.example.com")),
            plan: Plan::default(),
            scopes: None,
            audiences: None,
            jwks: None,
        };
        Ok((0..2_500).map(|number| domain::insert(conn, owner, &new(number), 0)).collect::<Result<Vec<_>, _>>()?)
    };
    let app = &gate.app;
    app.flush().expect("the database answers");
    let domains = app.db.change_now(insert, |conn| app.directory.catch_up(conn)).expect("the domains");
    let count_all = |gate: &Gate| {
        let count = |id| gate.app.usage.count(id, Kind::Token, gate.clock.now());
        domains.iter().for_each(|domain| count(domain.id));
        count(DomainId::parse(&domain.id).expect("an id"));
        gate.app.flush().expect("the database answers");
    };
    let of = |gate: &Gate, kind: &str| {
        let sum = format!("SELECT CAST(COALESCE(SUM(count), 0) AS BIGINT) AS number FROM usage WHERE kind = '{kind}'");
        let number = gate.app.db.read_now(|conn| match conn {
            Conn::Sqlite(conn) => Ok(diesel::sql_query(sum).get_result::<Number>(conn)?),
            Conn::Postgres(conn) => Ok(diesel::sql_query(sum).get_result::<Number>(conn)?),
        });
        number.expect("a sum").number
    };
    count_all(&gate);
    assert_eq!(of(&gate, "tokens"), 2_501 + 1);
    let shown = |gate: &Gate, id: &str| {
        let answer = gate.get(&format!("/v1/domains/{id}/usage?days=2")).token(&alice.token).send().expect(200);
        answer["payload"]
            .as_array()
            .expect("days")
            .iter()
            .map(|day| day["tokens"].as_i64().expect("a number"))
            .sum::<i64>()
    };
    assert_eq!(shown(&gate, &domain.id), 2, "counted with the secret that was exchanged for the token");
    let some: Vec<i64> = domains.iter().step_by(311).map(|domain| shown(&gate, domain.id.as_str())).collect();
    assert!(some.iter().all(|tokens| *tokens == 1), "{some:?}");
    count_all(&gate);
    let gate = gate.restart(&[]);
    assert_eq!(of(&gate, "tokens"), 2 * 2_501 + 1);
    assert_eq!(shown(&gate, &domain.id), 3);
}

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    number: i64,
}

/// Even if a day has many rows.
#[test]
fn usage__old_rows_are_deleted() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    gate.app.flush().expect("the database answers");
    let day = gate.clock.now() / 86_400;
    let rows = |from: i64, count: i64| {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
             INSERT INTO usage SELECT '{}', {from}, 'k' || i, 1 FROM n",
            domain.id
        )
    };
    let count =
        || gate.app.db.read_now(|conn| Ok(rows_of_usage::table.count().get_result::<i64>(conn)?)).expect("a number");
    let before = count();
    for (day, number) in [(day - 405, 6_000), (day - 404, 10), (day - 399, 7)] {
        gate.app.db.write_now(|conn| Ok(conn.batch_execute(&rows(day, number))?)).expect("rows");
    }
    gate.app.maintain().expect("the database answers");
    assert_eq!(count(), before + 7);
}
