//! Concurrent requests: every interleaving ends in one of the allowed results.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use diesel::prelude::*;
use gatebird::db::{Conn, schema, secret};
use gatebird::id::DomainId;
use gatebird::secret::ClientSecret;

use crate::accounts::{change, exchange, row_counts, sign_in};
use crate::harness::{Domain, Gate, PASSWORD, Reply, User, json};
use crate::posts::write;
use crate::{accounts, domains};

fn delete_account(gate: &Gate, user: &User) -> Reply {
    gate.delete("/v1/me").token(&user.token).json(&json!({ "password": PASSWORD })).send()
}

/// Rows whose owner is missing.
pub fn orphans(gate: &Gate) -> [i64; 4] {
    use schema::{domains, post_hashtags, posts, secrets, users};
    let count = |conn: &mut Conn| {
        let of_user = users::table.select(users::id);
        Ok([
            domains::table.filter(domains::user_id.ne_all(of_user)).count().get_result(conn)?,
            secrets::table
                .filter(secrets::domain_id.ne_all(domains::table.select(domains::id)))
                .count()
                .get_result(conn)?,
            posts::table.filter(posts::user_id.ne_all(of_user)).count().get_result(conn)?,
            post_hashtags::table
                .filter(post_hashtags::post_id.ne_all(posts::table.select(posts::id)))
                .count()
                .get_result(conn)?,
        ])
    };
    gate.app.db.read_now(count).expect("the database answers")
}

/// Sends the request until it is refused. The only allowed reason is that its sender is gone.
fn until_refused(over: &AtomicBool, send: impl Fn() -> Reply) {
    while !over.load(Ordering::Relaxed) {
        let reply = send();
        assert!(matches!(reply.status, 200 | 201 | 401 | 404), "{} {}", reply.status, reply.text());
        if reply.status >= 400 {
            break;
        }
    }
}

/// Every kind of write of a tenant during the deletion of its account. A 503 would mean that two transactions waited
/// for each other, because nothing is overloaded.
#[test]
fn account_deletion__concurrent_writes_leave_no_orphans() {
    let gate = Gate::start();
    for round in 0..50 {
        let name = format!("user{round}");
        let (user, domain, access) = gate.tenant(&name);
        let post = format!("/v1/posts/{}", write(&gate, &user.token, "#a"));
        let path = format!("/v1/domains/{}", domain.id);
        let over = AtomicBool::new(false);
        let number = AtomicUsize::new(0);
        let content = json!({"content": "#a #b #c #d"});
        let create = || gate.post("/v1/posts").token(&access).json(&content).send();
        let replace = || gate.put(&post).token(&user.token).json(&content).send();
        let change = || gate.patch(&path).token(&user.token).json(&json!({"type": "premium"})).send();
        let register = || {
            let host = format!("h{}.example.com", number.fetch_add(1, Ordering::Relaxed));
            gate.post("/v1/domains").token(&user.token).json(&json!({"host": host, "type": "free"})).send()
        };
        std::thread::scope(|scope| {
            scope.spawn(|| until_refused(&over, create));
            scope.spawn(|| until_refused(&over, replace));
            scope.spawn(|| until_refused(&over, change));
            scope.spawn(|| until_refused(&over, register));
            let deleted = delete_account(&gate, &user);
            let first = gate.get("/v1/test").token(&access).send();
            // Before any check can fail, because the threads wait for the flag.
            over.store(true, Ordering::Relaxed);
            deleted.expect(200);
            first.refused(401, "revoked");
        });
        exchange(&gate, &domain).refused(401, "unknown_client");
    }
    gate.app.remove_leftovers().expect("the database answers");
    assert_eq!(orphans(&gate), [0; 4]);
    assert_eq!(row_counts(&gate), [0; 5]);
}

#[test]
fn secret_rotation__one_of_twenty_concurrent_rotations_wins() {
    let gate = Gate::start();
    let (_, domain, token) = gate.tenant("alice");
    let id = DomainId::parse(&domain.id).expect("an id");
    let now = gate.clock.now();
    let together = Barrier::new(20);
    let rotate = || {
        let new = ClientSecret::random();
        let secret = new.reveal().to_owned();
        together.wait();
        change(&gate, move |conn| Ok(secret::rotate(conn, id, &new, 0, gatebird::db::audit::Actor::SERVER, now)?));
        // Even the winner's secret may have ended already, but a token of an earlier secret never outlives it.
        let domain = Domain { id: domain.id.clone(), secret };
        let token = exchange(&gate, &domain).json()["token"].as_str().map(str::to_owned);
        (domain, token)
    };
    let rotated: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(rotate)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });

    let works = |domain: &Domain| match exchange(&gate, domain) {
        reply if reply.status == 200 => true,
        reply => reply.refused(401, "unknown_client")["reason"].is_null(),
    };
    assert!(!works(&domain), "the oldest secret is retired");
    gate.get("/v1/test").token(&token).send().refused(401, "revoked");
    let (winners, losers): (Vec<_>, Vec<_>) = rotated.iter().partition(|(domain, _)| works(domain));
    assert_eq!(winners.len(), 1);
    for token in losers.iter().filter_map(|(_, token)| token.as_ref()) {
        gate.get("/v1/test").token(token).send().refused(401, "revoked");
    }
    assert_eq!(row_counts(&gate)[2], 1);
}

/// The first request after the answer to a change sees the change, also during other changes.
#[test]
fn revocation__first_request_afterwards_is_refused() {
    let gate = Gate::start();
    let late = AtomicUsize::new(0);
    let trials = |thread: usize| {
        let name = format!("user{thread}");
        let (mut user, home, _) = gate.tenant(&name);
        for trial in 0..75 {
            let passing = (trial % 3 == 0).then(|| gate.register(&user, &format!("t{trial}.example.com")));
            let domain = passing.as_ref().unwrap_or(&home);
            let token = gate.access_token(domain);
            gate.get("/v1/test").token(&token).send().expect(200);
            match trial % 3 {
                0 => drop(gate.delete(&format!("/v1/domains/{}", domain.id)).token(&user.token).send().expect(200)),
                1 => domains::set_suspended(&gate, &domain.id, true),
                _ => accounts::set_suspended(&gate, &name, true),
            }
            let first = gate.get("/v1/test").token(&token).send();
            late.fetch_add(usize::from(first.status != 401), Ordering::Relaxed);
            let reason = if trial % 3 == 0 { "unknown_client" } else { "suspended" };
            exchange(&gate, domain).refused(401, reason);
            match trial % 3 {
                0 => {}
                1 => domains::set_suspended(&gate, &domain.id, false),
                _ => {
                    gate.get("/v1/me").token(&user.token).send().refused(401, "revoked");
                    accounts::set_suspended(&gate, &name, false);
                    let again = sign_in(&gate, &name, PASSWORD).expect(200);
                    user.token = again["token"].as_str().expect("a token").into();
                }
            }
            gate.get("/v1/test").token(&token).send().refused(401, "revoked");
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let trials = &trials;
            scope.spawn(move || trials(thread));
        }
    });
    assert_eq!(late.into_inner(), 0);
}

#[test]
fn post_creation__parallel_writers_all_succeed() {
    let gate = Gate::start();
    let tenants: Vec<_> = (0..8).map(|number| gate.tenant(&format!("user{number}"))).collect();
    std::thread::scope(|scope| {
        for (_, _, token) in &tenants {
            scope.spawn(|| {
                for number in 0..25 {
                    write(&gate, token, &format!("{number} #parallel"));
                }
            });
        }
    });
    for (user, _, _) in &tenants {
        let list = gate.get("/v1/posts/my").token(&user.token).send().expect(200);
        assert_eq!(list["payload"].as_array().map(Vec::len), Some(25));
    }
    assert_eq!(row_counts(&gate)[3..], [200, 200]);
}

/// Accounts come and go while others register domains: changes of the directory do not deadlock.
#[test]
fn directory_changes__concurrent_accounts_do_not_deadlock() {
    let gate = Gate::start();
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let gate = &gate;
            scope.spawn(move || {
                for round in 0..5 {
                    let user = gate.sign_up(&format!("user{thread}.{round}"));
                    let first = gate.register(&user, "shop.example.com");
                    gate.register(&user, "other.example.com");
                    gate.access_token(&first);
                    let path = format!("/v1/domains/{}", first.id);
                    gate.patch(&path).token(&user.token).json(&json!({"type": "premium"})).send().expect(200);
                    gate.delete(&path).token(&user.token).send().expect(200);
                    delete_account(gate, &user).expect(200);
                }
            });
        }
    });
    gate.app.remove_leftovers().expect("the database answers");
    assert_eq!(row_counts(&gate), [0; 5]);
    assert_eq!(gate.app.directory.domain_count(), 0);
}
