//! A deletion is short, however much there is to delete: the data of a deleted account is removed later, in batches.

use std::time::{Duration, Instant};

use diesel::prelude::*;
use gatebird::db::schema::users;
use gatebird::db::{Conn, user, verified_host};
use gatebird::error::Result;
use gatebird::id::DomainId;
use gatebird::verification::Method;

use crate::accounts::{exchange, row_counts, sign_in};
use crate::binary::{PROMISED, gatebird, run, within};
use crate::harness::{Domain, Gate, PASSWORD, Reply, User, json};
use crate::write_duration::{insert_usage, numbers, writes_within};

/// A tenth of 40,000, which took a minute in one transaction. Even this many take longer than a request may.
const POSTS: i64 = 4_000;
const HASHTAGS: i64 = 70;
const DOMAINS: usize = 100;
const USAGE_DAYS: i64 = 400;
/// PostgreSQL inserts this many within its statement timeout.
const POSTS_PER_BATCH: i64 = 100;

fn delete_account(gate: &Gate, user: &User) -> Reply {
    gate.delete("/v1/me").token(&user.token).json(&json!({ "password": PASSWORD })).send()
}

/// Inserts posts with hashtags directly.
fn insert_posts(gate: &Gate, user: &User, posts: i64, hashtags: i64) {
    let user = user.id;
    let mut left = posts;
    while left > 0 {
        let batch = left.min(POSTS_PER_BATCH);
        left -= batch;
        gate.execute(&format!(
            "INSERT INTO posts (user_id, content, created_at, updated_at)
                    {} SELECT {user}, 'a post', 0, 0 FROM n;
                INSERT INTO post_hashtags (user_id, title, post_id)
                    {} SELECT {user}, 'hashtag' || i, id FROM n, (SELECT id FROM posts WHERE user_id = {user}
                        ORDER BY id DESC LIMIT {batch}) AS newest",
            numbers(batch),
            numbers(hashtags),
        ));
    }
}

/// A large account, and one of its domains.
fn large_account(gate: &Gate, name: &str) -> (User, Domain) {
    let user = gate.sign_up(name);
    let mut domains: Vec<Domain> =
        (0..DOMAINS).map(|number| gate.register(&user, &format!("d{number}.{name}.example.com"))).collect();
    domains.iter().take(10).for_each(|domain| insert_usage(gate, domain, USAGE_DAYS));
    insert_posts(gate, &user, POSTS, HASHTAGS);
    (user, domains.remove(0))
}

/// The 99th percentile.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[test]
fn account_deletion__large_account() {
    let gate = Gate::start();
    let (bystander, shop, _) = gate.tenant("bystander");
    let (user, domain) = large_account(&gate, "collector");
    let access = gate.access_token(&domain);

    let began = Instant::now();
    delete_account(&gate, &user).expect(200);
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    for token in [&user.token, &access] {
        gate.get("/v1/test").token(token).send().refused(401, "revoked");
    }
    exchange(&gate, &domain).refused(401, "unknown_client");
    sign_in(&gate, "collector", PASSWORD).refused(401, "credentials");

    let earlier = (writes_within(&gate, "+Inf"), writes_within(&gate, "0.5"));
    let mut times = Vec::new();
    let mut shop = shop;
    let secrets = format!("/v1/domains/{}/secrets", shop.id);
    // Domains are removed last.
    while gate.app.directory.domain_count() > 1 {
        let began = Instant::now();
        let rotated = gate.post(&secrets).token(&bystander.token).json(&json!({"graceSeconds": 0})).send().expect(201);
        times.push(began.elapsed());
        shop.secret = rotated["payload"]["clientSecret"].as_str().expect("a secret").to_owned();
        let token = gate.access_token(&shop);
        let began = Instant::now();
        gate.post("/revoke").basic(&shop.id, &shop.secret).form(format!("token={token}")).send().expect(200);
        times.push(began.elapsed());
    }
    let count = times.len();
    let p99 = p99(times);
    println!("{count} rotations and revocations meanwhile, p99 {p99:?}");
    assert!(count >= 20, "{count}");
    assert!(p99 < Duration::from_millis(500), "{p99:?}");
    assert_eq!(row_counts(&gate), [1, 1, 1, 0, 0]);
    let (all, short) = (writes_within(&gate, "+Inf") - earlier.0, writes_within(&gate, "0.5") - earlier.1);
    assert!(all >= count && short * 100 >= all * 99, "of {all} write transactions, {short} are short");
}

#[test]
fn write_time__one_change() {
    let gate = Gate::start();
    let before = writes_within(&gate, "+Inf");
    gate.sign_up("alice");
    assert!(writes_within(&gate, "+Inf") > before);
}

#[test]
fn account_deletion__restart_before_the_data_is_removed() {
    let gate = Gate::start();
    let user = gate.sign_up("alice");
    gate.register(&user, "shop.example.com");
    insert_posts(&gate, &user, 300, 20);
    // A stopping server removes nothing, so the next one does all.
    gate.app.drain();
    delete_account(&gate, &user).expect(200);
    gate.app.remove_leftovers().expect("the database answers");
    assert_eq!(row_counts(&gate), [0, 1, 1, 300, 6_000]);
    let gate = gate.restart(&[]);
    gate.get("/v1/me").token(&user.token).send().refused(401, "revoked");
    gate.app.remove_leftovers().expect("the database answers");
    assert_eq!(row_counts(&gate), [0; 5]);
    assert!(gate.app.directory.user_count() <= 1, "the domain, which was there at the start, names its owner");
    gate.clock.advance(61);
    gate.app.remove_leftovers().expect("the database answers");
    assert_eq!(gate.app.directory.user_count(), 0);
}

/// Deletes an account whose removal takes a while, so that its domains still exist afterwards.
fn delete_slowly(gate: &Gate, user: &User) {
    insert_posts(gate, user, 1_000, 70);
    delete_account(gate, user).expect(200);
}

#[test]
fn account_deletion__host_is_free_before_the_data_is_removed() {
    let gate = Gate::start();
    let prove = |domain: &Domain| {
        let id = DomainId::parse(&domain.id).expect("an id");
        let insert = move |conn: &mut Conn| {
            verified_host::end_suspended(conn, "shop.example.com")?;
            Ok(verified_host::insert(conn, id, Method::Dns, "x", 1)?)
        };
        gate.app.db.change_now(insert, |_| Ok(()))
    };
    let alice = gate.sign_up("alice");
    prove(&gate.register(&alice, "shop.example.com")).expect("it is the first");
    let bob = gate.sign_up("bob");
    let body = json!({"host": "shop.example.com", "type": "free"});
    gate.post("/v1/domains").token(&bob.token).json(&body).send().refused(409, "taken");
    delete_slowly(&gate, &alice);
    let domain = gate.register(&bob, "shop.example.com");
    prove(&domain).expect("the earlier holder is superseded");
    assert!(row_counts(&gate)[1] == 2, "the test is too slow: the data was removed before");
    gate.access_token(&domain);
}

#[test]
fn account_deletion__command_line() {
    let gate = Gate::start();
    let alice = gate.sign_up("alice");
    gate.register(&alice, "shop.example.com");
    gate.sign_up("bob");
    delete_slowly(&gate, &alice);
    let output = |arguments: &[&str]| run(&mut gatebird(&gate.database, arguments, &[]), "");
    let users = output(&["user", "list", "--json"]).json();
    assert_eq!(users.as_array().map(Vec::len), Some(1), "{users}");
    assert_eq!(users[0]["username"], "bob");
    assert_eq!(output(&["domain", "list", "--json"]).json(), json!([]));
    let add = run(&mut gatebird(&gate.database, &["user", "add", "Alice"], &[]), &format!("{PASSWORD}\n"));
    assert_eq!(add.code, Some(64), "{add:?}");
    assert!(add.stderr.contains("taken"), "{add:?}");
}

#[test]
fn suspension__while_a_large_account_is_removed() {
    let gate = Gate::start();
    let (_, _, access) = gate.tenant("bob");
    delete_slowly(&gate, &gate.sign_up("collector"));
    for command in ["suspend", "resume", "suspend"] {
        let began = Instant::now();
        run(&mut gatebird(&gate.database, &["user", command, "bob"], &[]), "").good();
        assert!(began.elapsed() < PROMISED, "{command} took {:?}", began.elapsed());
    }
    assert!(row_counts(&gate)[4] > 0, "the test is too slow: the data was removed before");
    within(PROMISED, "bob is suspended", || gate.get("/v1/test").token(&access).send().status == 401);
    gate.get("/v1/test").token(&access).send().refused(401, "revoked");
}

#[test]
fn account_deletion__right_password_again_and_again() {
    let gate = Gate::with(&[("LIMIT_PASSWORDS", "2/d")]);
    let user = gate.sign_up("alice");
    let beside = gate.database.open();
    let blocked = beside.change_now(
        |_| {
            for _ in 0..2 {
                delete_account(&gate, &user).refused(503, "busy");
            }
            Ok(())
        },
        |_| Ok(()),
    );
    blocked.expect("the database answers");
    delete_account(&gate, &user).refused(429, "failures");
    gate.clock.advance(43_200);
    let user = User {
        token: sign_in(&gate, "alice", PASSWORD).expect(200)["token"].as_str().expect("a token").into(),
        ..user
    };
    delete_account(&gate, &user).expect(200);
}

#[test]
fn post_quota__reached() {
    let gate = Gate::with(&[("POSTS_PER_USER", "2")]);
    let (alice, _, access) = gate.tenant("alice");
    let write = |token: &str| gate.post("/v1/posts").token(token).json(&json!({"content": "a post"})).send();
    write(&alice.token).expect(201);
    let second = write(&access).expect(201)["payload"]["id"].to_string();
    for token in [&alice.token, &access] {
        assert_eq!(write(token).refused(403, "quota")["error"], "access_denied");
    }
    write(&gate.sign_up("bob").token).expect(201);
    gate.delete(&format!("/v1/posts/{second}")).token(&access).send().expect(200);
    write(&access).expect(201);
    for (setting, status) in [("0", 403), ("off", 201)] {
        let gate = Gate::with(&[("POSTS_PER_USER", setting)]);
        assert_eq!(write_status(&gate, "alice"), status, "{setting}");
    }
}

fn write_status(gate: &Gate, name: &str) -> u16 {
    let user = gate.sign_up(name);
    gate.post("/v1/posts").token(&user.token).json(&json!({"content": "a post"})).send().status
}

#[test]
fn account__deleted_one_is_not_found_and_not_resumed() {
    let gate = Gate::start();
    let alice = gate.sign_up("alice");
    let id = gate.app.directory.tenant(alice.id).expect("alice").id;
    let found = |conn: &mut Conn| -> Result<(usize, bool, usize)> {
        let by_name = [user::find_by_name(conn, "alice")?, user::find_by_name(conn, &user::reserved_key("alice"))?];
        let found = user::find(conn, id)?.into_iter().chain(by_name.into_iter().flatten()).chain(user::list(conn)?);
        Ok((found.count(), user::any(conn)?, user::count_all(conn)?))
    };
    assert_eq!(gate.app.db.read_now(found).expect("the database answers"), (3, true, 1));
    delete_account(&gate, &alice).expect(200);
    assert_eq!(gate.app.db.read_now(found).expect("the database answers"), (0, false, 0));
    let resume = |conn: &mut Conn| -> Result<bool> {
        user::set_suspended(conn, id, false)?;
        Ok(users::table.find(id).select(users::suspended).first::<bool>(conn)?)
    };
    let is_suspended = gate.app.db.change_now(resume, |_| Ok(())).expect("the database answers");
    assert!(is_suspended, "a deleted account stays suspended");
}
