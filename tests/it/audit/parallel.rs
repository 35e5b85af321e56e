//! Many concurrent changes: as many rows, one chain and no deadlock.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{rows, verified};
use crate::harness::{Gate, PASSWORD, Reply, Request, json};

#[test]
fn audit_log__two_thousand_concurrent_changes() {
    const THREADS: usize = 8;
    const EACH: usize = 250;
    // The tokens outlive the test on a busy machine.
    let gate = Gate::with(&[("TOKEN_TTL", "1h"), ("USER_TOKEN_TTL", "1h")]);
    let tenants: Vec<_> = (0..THREADS).map(|number| gate.tenant(&format!("user{number}"))).collect();
    let before = rows(&gate).len();
    let done = AtomicUsize::new(0);
    let work = |thread: usize| {
        let (user, _, token) = &tenants[thread];
        let (mut post, mut path, mut passing) = (String::new(), String::new(), None);
        for number in 0..EACH {
            let content = json!({"content": format!("{number} #mixed")});
            let reply = retried(|| match number % 10 {
                0 => gate.post("/v1/posts").token(token).json(&content).send(),
                1 => gate.put(&post).token(&user.token).json(&content).send(),
                2 => gate.delete(&post).token(token).send(),
                // This request is refused and not counted.
                3 => gate.delete(&post).token(token).send(),
                4 => {
                    let body = json!({"host": format!("h{number}.example.com"), "type": "free"});
                    gate.post("/v1/domains").token(&user.token).json(&body).send()
                }
                5 => gate.patch(&path).token(&user.token).json(&json!({"type": "premium"})).send(),
                6 => {
                    let domain: &crate::harness::Domain = passing.as_ref().expect("registered before");
                    let form = format!("token={}", gate.access_token(domain));
                    gate.post("/revoke").basic(&domain.id, &domain.secret).form(form).send()
                }
                7 => gate.delete(&path).token(&user.token).send(),
                8 => {
                    let body = json!({"username": format!("u{thread}.{number}"), "password": PASSWORD});
                    gate.post("/v1/signup").json(&body).send()
                }
                _ => {
                    let body = json!({"username": format!("user{thread}"), "password": "wrong password"});
                    gate.post("/v1/signin").json(&body).send()
                }
            });
            match number % 10 {
                3 => assert_eq!(reply.status, 404, "{}", reply.text()),
                9 => {
                    assert_eq!(reply.status, 401, "{}", reply.text());
                    done.fetch_add(1, Ordering::Relaxed);
                }
                _ => {
                    assert!(reply.status < 300, "{number}: {}", reply.text());
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
            let id = || reply.json()["payload"]["id"].to_string().trim_matches('"').to_owned();
            if number % 10 == 0 {
                post = format!("/v1/posts/{}", id());
            }
            if number % 10 == 4 {
                path = format!("/v1/domains/{}", id());
                let secret = reply.json()["payload"]["clientSecret"].as_str().expect("a secret").to_owned();
                passing = Some(crate::harness::Domain { id: id(), secret });
            }
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let work = &work;
            scope.spawn(move || work(thread));
        }
    });
    gate.app.write_failures().expect("the database answers");
    let all = rows(&gate);
    assert_eq!(all.len() - before, done.into_inner());
    assert_eq!(verified(&gate, None).expect("an intact chain").id, all.len() as i64);
    let number = |thread: usize| tenants[thread].0.id;
    for thread in 0..THREADS {
        let own = all.iter().filter(|row| row.tenant == Some(number(thread)));
        // Two rows of the set-up, and of ten changes all except the refused one and the sign-up, which belongs to
        // another user.
        assert_eq!(own.count(), 2 + EACH / 10 * 8, "user {thread}");
    }
}

/// Repeats a request that was answered 503 and so changed nothing. Too many passwords are being checked, or the machine is
/// busy.
fn retried(send: impl Fn() -> Reply) -> Reply {
    loop {
        let reply = send();
        if reply.status != 503 {
            return reply;
        }
        reply.refused(503, "busy");
    }
}

/// The end of the chain is locked last in each transaction. On PostgreSQL a 503 would mean that two transactions waited for
/// each other. SQLite has only one writer, whose turn can come too late on a busy machine.
#[test]
fn audit_log__concurrent_writers_do_not_deadlock() {
    let gate = Gate::start();
    let (other, _, _) = gate.tenant("other");
    let content = json!({"content": "#a #b"});
    let send = |request: &dyn Fn() -> Request, statuses: &[u16]| {
        let send = || request().send();
        let reply = if gate.database.is_postgres() { send() } else { retried(send) };
        assert!(statuses.contains(&reply.status), "{} {}", reply.status, reply.text());
    };
    for round in 0..200 {
        let (user, domain, token) = gate.tenant(&format!("user{round}"));
        let confirm = json!({"password": PASSWORD});
        std::thread::scope(|scope| {
            scope.spawn(|| send(&|| gate.post("/v1/posts").token(&token).json(&content), &[201, 401]));
            scope.spawn(|| send(&|| gate.post("/v1/posts").token(&other.token).json(&content), &[201]));
            scope.spawn(|| {
                let form = format!("token={token}");
                send(&|| gate.post("/revoke").basic(&domain.id, &domain.secret).form(form.clone()), &[200, 401]);
            });
            send(&|| gate.delete("/v1/me").token(&user.token).json(&confirm), &[200]);
        });
    }
    verified(&gate, None).expect("an intact chain");
}
