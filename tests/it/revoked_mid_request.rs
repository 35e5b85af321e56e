//! A decision on a request's head must still hold when the body has come, and an abandoned write is not made later.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use gatebird::db::user;

use crate::accounts::sign_in;
use crate::harness::{Database, Domain, Gate, PASSWORD, User, check_all, json};

/// Sends the head of a request and the first byte of its body, runs `between`, sends the rest and returns the status.
fn half_then_rest(gate: &Gate, line: &str, token: &str, body: &str, between: impl FnOnce()) -> u16 {
    let mut stream = TcpStream::connect(gate.url.trim_start_matches("http://")).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    let head = format!(
        "{line} HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let (first, rest) = body.split_at(1);
    stream.write_all(format!("{head}{first}").as_bytes()).expect("the first half goes out");
    // The extractors must have run before; that cannot be observed from outside.
    std::thread::sleep(Duration::from_millis(200));
    between();
    stream.write_all(rest.as_bytes()).expect("the rest goes out");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

fn change_password(gate: &Gate, user: &User) {
    let body = json!({"oldPassword": PASSWORD, "newPassword": format!("new {PASSWORD}")});
    gate.put("/v1/me/password").token(&user.token).json(&body).send().expect(200);
}

#[test]
fn revocation__between_head_and_body_is_in_force() {
    type Prepare = fn(&Domain, &str) -> (String, String);
    let rows: &[(&str, Prepare)] = &[
        ("registers", |_, _| {
            ("POST /v1/domains".into(), json!({"host": "late.example.com", "type": "free"}).to_string())
        }),
        ("changes a domain", |domain, _| {
            (format!("PATCH /v1/domains/{}", domain.id), json!({"type": "premium"}).to_string())
        }),
        ("writes", |_, _| ("POST /v1/posts".into(), json!({"content": "too late"}).to_string())),
        ("changes a post", |_, post| (format!("PUT /v1/posts/{post}"), json!({"content": "too late"}).to_string())),
        ("changes the password", |_, _| {
            let body = json!({"oldPassword": format!("new {PASSWORD}"), "newPassword": format!("late {PASSWORD}")});
            ("PUT /v1/me/password".into(), body.to_string())
        }),
        ("deletes the account", |_, _| {
            ("DELETE /v1/me".into(), json!({"password": format!("new {PASSWORD}")}).to_string())
        }),
    ];
    let gate = Gate::start();
    check_all(rows.iter().enumerate(), |(number, (name, prepare))| {
        let (user, domain, token) = gate.tenant(&format!("alice{number}"));
        let post = gate.post("/v1/posts").token(&token).json(&json!({"content": "in time"})).send().expect(201);
        let (line, body) = prepare(&domain, &post["payload"]["id"].to_string());
        let status = half_then_rest(&gate, &line, &user.token, &body, || change_password(&gate, &user));
        assert_eq!(status, 401, "{name}");
    });
    let (user, domain, token) = gate.tenant("bob");
    let between = || drop(gate.delete(&format!("/v1/domains/{}", domain.id)).token(&user.token).send().expect(200));
    let body = json!({"content": "from a domain that is gone"}).to_string();
    assert_eq!(half_then_rest(&gate, "POST /v1/posts", &token, &body, between), 401);
}

/// Otherwise a concurrent sign-in with the old password would restore that password.
#[test]
fn password_hash__rehash_does_not_undo_a_password_change() {
    let gate = Gate::start();
    let user = gate.sign_up("alice");
    let find = |gate: &Gate| {
        let found = gate.app.db.read_now(|conn| Ok(user::find_by_name(conn, "alice")?));
        found.expect("the database answers").expect("alice")
    };
    let before = find(&gate);
    change_password(&gate, &user);
    let after = find(&gate).password_hash;
    let late =
        |conn: &mut gatebird::db::Conn| Ok(user::set_hash(conn, before.tenant.id, &before.password_hash, "gb1old")?);
    gate.app.db.change_now(late, |_| Ok(())).expect("nothing fails");
    assert_eq!(find(&gate).password_hash, after);
    sign_in(&gate, "alice", &format!("new {PASSWORD}")).expect(200);
    sign_in(&gate, "alice", PASSWORD).refused(401, "credentials");
}

#[test]
fn password_change__one_of_many_concurrent_changes_wins() {
    let gate = Gate::start();
    let user = gate.sign_up("alice");
    let change = |number: usize| {
        let body = json!({"oldPassword": PASSWORD, "newPassword": format!("{number} {PASSWORD}")});
        gate.put("/v1/me/password").token(&user.token).json(&body).send().status
    };
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let change = &change;
        let threads: Vec<_> = (0..6).map(|number| scope.spawn(move || change(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    let done: Vec<usize> = (0..6).filter(|number| statuses[*number] == 200).collect();
    assert_eq!(done.len(), 1, "{statuses:?}");
    sign_in(&gate, "alice", &format!("{} {PASSWORD}", done[0])).expect(200);
}

/// A request that waits for its turn and then for the lock can be abandoned before it begins to write.
#[test]
fn write_timeout__write_answered_503_is_not_done() {
    let gate = Gate::on(Arc::new(Database::sqlite()), &[]);
    let (_, _, token) = gate.tenant("alice");
    let mut other = SqliteConnection::establish(gate.database.url.trim_start_matches("sqlite://")).expect("a database");
    for (round, millis) in [1500, 1600, 1800].into_iter().enumerate() {
        other.batch_execute("BEGIN IMMEDIATE").expect("the lock");
        let write = |number: usize| {
            let content = format!("round {round} number {number}");
            let status = gate.post("/v1/posts").token(&token).json(&json!({"content": content})).send().status;
            (content, status)
        };
        let answers: Vec<(String, u16)> = std::thread::scope(|scope| {
            let write = &write;
            let threads: Vec<_> = (0..3).map(|number| scope.spawn(move || write(number))).collect();
            std::thread::sleep(Duration::from_millis(millis));
            other.batch_execute("COMMIT").expect("the lock is given back");
            threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
        });
        // Once a later write is committed, no earlier one is pending.
        gate.post("/v1/posts").token(&token).json(&json!({"content": "settled"})).send().expect(201);
        let posts = gate.get("/v1/posts/my?limit=100").token(&token).send().expect(200).to_string();
        for (content, status) in answers {
            assert_eq!(posts.contains(&content), status == 201, "{content} was answered {status}");
        }
    }
}
