//! Following the database in steps gives the same directory as reading everything: for every step, for concurrent
//! steps, and after deletions of tombstones.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use gatebird::config::HmacSecret;
use gatebird::db::revision::{self, Change, TableGroup};
use gatebird::db::{Conn, schema, secret};
use gatebird::directory::Directory;
use gatebird::error::Error;
use gatebird::id::DomainId;
use gatebird::secret::ClientSecret;
use gatebird::token::keyring::Keyring;

use crate::binary::{Child, PROMISED, within};
use crate::harness::{Database, Gate, JWT_SECRET};
use crate::random::Random;

/// Seconds after which a tombstone is deleted.
const TOMBSTONE_LIFE: i64 = 7 * 86_400;

/// A node's directory that only the test updates.
fn node(gate: &Gate) -> Directory {
    let secret = HmacSecret::parse(JWT_SECRET).expect("a good secret");
    let directory = Directory::new(Keyring::new(&secret, &gate.app.config, gate.app.directory.keyring().epoch()));
    directory.fill(&gate.app.db).expect("the database answers");
    directory
}

fn run(gate: &Gate, statement: &str) {
    gate.app.db.change_now(|conn| Ok(conn.batch_execute(statement)?), |_| Ok(())).expect("the database answers");
}

/// Deletes the secret, and restores it if the domain exists.
fn replace_secret(gate: &Gate, secret: &ClientSecret, domain: DomainId) {
    use schema::{domains, secrets};
    let moved = |conn: &mut Conn| {
        diesel::delete(secrets::table.filter(secrets::digest.eq(secret.digest()))).execute(conn)?;
        if domains::table.find(domain).count().get_result::<i64>(conn)? > 0 {
            secret::insert(conn, domain, secret, gatebird::db::audit::Actor::SERVER, 0)?;
        }
        Ok(())
    };
    gate.app.db.change_now(moved, |_| Ok(())).expect("the database answers");
}

#[test]
fn directory_sync__steps_of_any_length_are_equivalent() {
    let gate = Gate::start();
    let users: Vec<i64> = (0..3).map(|number| gate.sign_up(&format!("user{number}")).id).collect();
    let domains: Vec<DomainId> = (0..6).map(|_| DomainId::random()).collect();
    let secrets: Vec<ClientSecret> = (0..6).map(|_| ClientSecret::random()).collect();
    let followers: Vec<(Directory, i64)> = [1, 2, 3, 7, 1000].map(|step| (node(&gate), step)).into();
    let mut random = Random::seeded(1);
    for round in 0..60 {
        for _ in 0..random.below(8) {
            let (user, number) = (users[random.below(3)], random.below(6));
            let (domain, secret) = (domains[number], &secrets[random.below(6)]);
            let statement = match random.below(8) {
                0 => format!("DELETE FROM domains WHERE id = '{domain}'"),
                1 => format!("UPDATE domains SET generation = generation + 1 WHERE id = '{domain}'"),
                2 => format!("UPDATE users SET suspended = NOT suspended WHERE id = {user}"),
                3 => format!("UPDATE domains SET suspended = NOT suspended WHERE id = '{domain}'"),
                4 | 5 => {
                    replace_secret(&gate, secret, domain);
                    continue;
                }
                _ => format!(
                    "INSERT INTO domains (id, user_id, host, plan, created_at)
                     VALUES ('{domain}', {user}, 'h{number}.example.com', 'free', 0) ON CONFLICT DO NOTHING"
                ),
            };
            run(&gate, &statement);
        }
        let whole = node(&gate);
        for (directory, step) in &followers {
            gate.app.db.read_now(|conn| directory.catch_up_in_steps(conn, *step)).expect("the database answers");
            assert_eq!(directory.revision(), whole.revision());
            for id in &domains {
                let seen = |directory: &Directory| {
                    let live = directory.by_id(id)?;
                    Some((live.tenant.id, live.generation(), live.domain.host.clone()))
                };
                assert_eq!(seen(directory), seen(&whole), "round {round}, step {step}: {id}");
            }
            for secret in &secrets {
                let seen = |directory: &Directory| {
                    let known = directory.by_secret(&secret.digest())?;
                    Some((known.client.domain.id, known.secret))
                };
                assert_eq!(seen(directory), seen(&whole), "round {round}, step {step}: a secret");
            }
            for user in &users {
                assert_eq!(
                    directory.tenant(*user).is_some(),
                    whole.tenant(*user).is_some(),
                    "round {round}, step {step}"
                );
            }
        }
    }
}

/// An empty directory has nothing to delete, but it may no longer be empty when the difference is applied.
#[test]
fn directory_sync__initial_load_includes_tombstones() {
    let gate = Gate::start();
    let (user, domain, _) = gate.tenant("alice");
    gate.delete(&format!("/v1/domains/{}", domain.id)).token(&user.token).send().expect(200);
    let gone = |group| {
        let mut gone = 0;
        let mut count = |change| gone += i32::from(matches!(change, Change::Gone(_)));
        let read = gate.app.db.read_now(|conn| Ok(revision::changes(conn, group, 0, i64::MAX, &mut count)?));
        read.expect("the database answers");
        gone
    };
    assert_eq!(gone(TableGroup::All), 2, "the domain and its secret");
    assert_eq!((gone(TableGroup::AllButDomains), gone(TableGroup::Domains)), (0, 0), "these fill an empty directory");
}

/// A failover to a copy that lacks the end of a view, after a part of it was applied.
#[test]
fn directory_sync__database_that_lost_revisions_is_refused() {
    let gate = Gate::start();
    let user = gate.sign_up("alice").id;
    let directory = node(&gate);
    let seen = directory.revision();
    run(&gate, &format!("UPDATE users SET nick = 'x' WHERE id = {user}"));
    // This row cannot be read: the step before it is applied, and its own step is not.
    run(
        &gate,
        &format!("INSERT INTO domains (id, user_id, host, plan, created_at) VALUES ('?', {user}, 'x', 'free', 0)"),
    );
    let follow = |step| gate.app.db.read_now(|conn| directory.catch_up_in_steps(conn, step));
    follow(1).expect_err("a row that cannot be read");
    assert_eq!(directory.revision(), seen + 1);
    run(&gate, &format!("UPDATE revision SET value = {}", seen + 1));
    let refused = follow(1).expect_err("the end of the feed is missing");
    let tells = |refused: &Error| refused.cause().is_some_and(|cause| cause.contains("must be restarted"));
    assert!(tells(&refused), "{refused:?}");
    // Later writes reuse revisions under which this node has seen other changes.
    for ahead in 1..4 {
        run(&gate, &format!("UPDATE revision SET value = {}", seen + ahead));
        let refused = follow(1).expect_err("the end of the feed differs");
        assert!(tells(&refused), "{refused:?}");
        let asked = gate.app.db.read_now(|conn| directory.is_up_to_date(conn)).expect("the database answers");
        assert!(!asked, "the directory considers itself up to date at {ahead}");
    }
}

/// A node that may have missed changes does not confirm that a revocation is in force.
#[test]
fn directory_sync__stale_node_confirms_no_revocation() {
    let gate = Gate::start();
    let (_, domain, token) = gate.tenant("alice");
    let revision = gate.app.directory.revision();
    let write = |value: i64| {
        let statement = format!("UPDATE revision SET value = {value}");
        gate.app.db.write_now(|conn| Ok(conn.batch_execute(&statement)?)).expect("the database answers");
    };
    write(1);
    gate.app.db.read_now(|conn| gate.app.directory.catch_up(conn)).expect_err("the database is older");
    // Later writes: as many as were lost, and more.
    write(revision);
    let asked = gate.app.db.read_now(|conn| gate.app.directory.is_up_to_date(conn)).expect("the database answers");
    assert!(!asked, "the directory considers itself up to date");
    write(revision + 5);
    let body = format!("token={token}&client_id={}&client_secret={}", domain.id, domain.secret);
    gate.post("/revoke").form(body).send().refused(503, "busy");
}

/// A mere check for changes notices it, too.
#[test]
fn directory_sync__up_to_date_check_notices_an_older_database() {
    let gate = Gate::start();
    gate.sign_up("alice");
    let directory = node(&gate);
    let seen = directory.revision();
    let glance_at = |revision: i64| {
        run(&gate, &format!("UPDATE revision SET value = {revision}"));
        gate.app.db.read_now(|conn| directory.is_up_to_date(conn)).expect("the database answers")
    };
    assert!(!glance_at(seen - 1));
    assert!(!glance_at(seen) && !glance_at(seen + 1));
    gate.app.db.read_now(|conn| directory.catch_up(conn)).expect_err("the database was older");
}

/// It is logged although another failure came before, and the process ends.
#[test]
fn directory_sync__restart_is_demanded_after_other_failures() {
    let database = Database::new();
    let child = Child::start(&database, &[]);
    child.client.tenant("alice");
    let db = database.open();
    let run = |statement: &str| db.write_now(|conn| Ok(conn.batch_execute(statement)?)).expect("a statement");
    run("ALTER TABLE used_assertions RENAME TO out_of_reach");
    run("UPDATE revision SET value = value + 1");
    within(PROMISED, "it cannot read what is new", || child.stderr().matches("cannot be refreshed").count() == 1);
    run("UPDATE revision SET value = 1");
    run("ALTER TABLE out_of_reach RENAME TO used_assertions");
    let outcome = child.wait(Duration::from_secs(10));
    assert_eq!(outcome.code, Some(75), "{outcome:?}");
    assert_eq!(outcome.stderr.matches("must be restarted").count(), 1, "{outcome:?}");
}

/// A caller that made a change and caught up sees it, although others change the same rows and catch up concurrently.
#[test]
fn directory_sync__catching_up_includes_own_changes() {
    let gate = Gate::start();
    let user = gate.sign_up("alice");
    let ids: Vec<DomainId> = (0..3)
        .map(|number| DomainId::parse(&gate.register(&user, &format!("h{number}.example.com")).id).expect("an id"))
        .collect();
    let directory = node(&gate);
    let (started, over, mut missed) = (Instant::now(), AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        let (gate, ids, directory, over) = (&gate, &ids, &directory, &over);
        // Another node, which changes the same rows and does not apply the change here.
        let others = scope.spawn(move || {
            let mut random = Random::seeded(9);
            while !over.load(Ordering::Relaxed) && started.elapsed() < Duration::from_secs(60) {
                let id = ids[random.below(3)];
                drop(gate.app.db.change_now(|conn| Ok(raise(conn, id)?), |_| Ok(())));
            }
        });
        // A slower reader never reverts what others applied.
        let watching = scope.spawn(move || {
            let mut known = [0; 3];
            while !over.load(Ordering::Relaxed) && started.elapsed() < Duration::from_secs(60) {
                for (id, before) in ids.iter().zip(&mut known) {
                    let now = directory.by_id(id).expect("a live domain").generation();
                    assert!(now >= *before, "the generation went back from {before} to {now}");
                    *before = now;
                }
            }
        });
        for round in 0..10 {
            // Many steps, so that the steps of different callers interleave.
            let many = |conn: &mut Conn| Ok((0..150).try_for_each(|number| raise(conn, ids[number % 3]).map(drop))?);
            gate.app.db.change_now(many, |_| Ok(())).expect("the database answers");
            let catches_up = |number: u64| {
                let id = ids[Random::seeded(round * 4 + number).below(3)];
                let mut conn = gate.app.db.sync_connection().expect("the database answers");
                // A very busy database refuses the change, which then needs not be seen.
                let Ok(raised) = gate.app.db.change_now(|conn| Ok(raise(conn, id)?), |_| Ok(())) else { return true };
                directory.catch_up_in_steps(&mut conn, 1).expect("the database answers");
                let known = directory.by_id(&id).expect("a live domain").generation();
                known >= raised
            };
            let catches_up = &catches_up;
            let know = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || catches_up(number))).collect();
                threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|knows| *knows).count()
            });
            missed += 4 - know;
        }
        over.store(true, Ordering::Relaxed);
        others.join().expect("no panic");
        watching.join().expect("no change was undone");
        assert_eq!(missed, 0, "writers whose own change was not yet in the directory");
    });
}

/// Increments a domain's generation, and returns it.
fn raise(conn: &mut Conn, id: DomainId) -> QueryResult<i64> {
    use schema::domains;
    diesel::update(domains::table.find(id))
        .set(domains::generation.eq(domains::generation + 1))
        .returning(domains::generation)
        .get_result(conn)
}

/// A clock that was ahead dated more tombstones than one run deletes.
#[test]
fn tombstones__dated_by_a_wrong_clock_are_deleted() {
    let gate = Gate::start();
    let many = format!(
        "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 12000)
         INSERT INTO tombstones (revision) SELECT -x FROM n;
         UPDATE tombstones SET buried_at = {} WHERE revision <> -1",
        gate.clock.now() + 500 * 86_400
    );
    run(&gate, &many);
    let maintain = || gate.app.maintain().expect("the database answers");
    maintain();
    assert_eq!(tombstones(&gate), 12_000, "no tombstone is known to be old yet");
    gate.clock.advance(TOMBSTONE_LIFE + 60);
    maintain();
    assert_eq!(tombstones(&gate), 0);
}

/// A node that returns later cannot compare its last revision, and continues.
#[test]
fn revision_stamps__old_ones_are_deleted() {
    let gate = Gate::start();
    gate.sign_up("alice");
    let (behind, last) = (node(&gate), node(&gate));
    let ask = |directory: &Directory| gate.app.db.read_now(|conn| directory.is_up_to_date(conn)).expect("an answer");
    assert!(ask(&behind) && ask(&last));
    run(&gate, "UPDATE revision SET value = value + 99999");
    gate.app.maintain().expect("the database answers");
    ask(&last);
    run(&gate, "UPDATE revision SET value = value + 2");
    gate.app.maintain().expect("the database answers");
    let count = "SELECT count(*) AS number FROM revision_stamps";
    let count = gate.app.db.read_now(|conn| Ok(diesel::sql_query(count).get_result::<Number>(conn)?));
    assert_eq!(count.expect("the database answers").number, 2);
    for directory in [&behind, &last] {
        ask(directory);
        assert!(!directory.is_stale());
    }
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

fn tombstones(gate: &Gate) -> i64 {
    let count = "SELECT count(*) AS number FROM tombstones";
    let count = gate.app.db.read_now(|conn| Ok(diesel::sql_query(count).get_result::<Number>(conn)?));
    count.expect("the database answers").number
}

#[test]
fn tombstones__deleted_after_a_week() {
    let gate = Gate::start();
    let (user, domain, token) = gate.tenant("alice");
    let id = DomainId::parse(&domain.id).expect("an id");
    let (behind, last) = (node(&gate), node(&gate));
    gate.delete(&format!("/v1/domains/{}", domain.id)).token(&user.token).send().expect(200);
    gate.get("/v1/test").token(&token).send().refused(401, "revoked");
    assert_eq!(tombstones(&gate), 2);
    let follow = |directory: &Directory| gate.app.db.read_now(|conn| directory.catch_up(conn));

    gate.clock.advance(TOMBSTONE_LIFE - 60);
    gate.app.maintain().expect("the database answers");
    assert_eq!(tombstones(&gate), 2, "a node that lags may still need the tombstone");
    follow(&last).expect("all that was missed is there");
    assert!(last.by_id(&id).is_none() && behind.by_id(&id).is_some());

    // More than one batch; older than the two, and without content.
    let many = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 6000)
        INSERT INTO tombstones (revision) SELECT -x FROM n";
    run(&gate, many);
    gate.clock.advance(120);
    gate.app.maintain().expect("the database answers");
    assert_eq!(tombstones(&gate), 0);
    // A node that has read the deletion continues. A node that missed it must not continue.
    run(&gate, "UPDATE users SET nick = 'x'");
    follow(&last).expect("no deletion was missed");
    let refused = follow(&behind).expect_err("deletions were missed");
    assert!(refused.cause().is_some_and(|cause| cause.contains("must be restarted")), "{refused:?}");
    follow(&node(&gate)).expect("a new node has no gap");
    gate.app.db.read_now(|conn| gate.app.directory.catch_up(conn)).expect("the running node has no gap either");
}
