//! Sign-in and sign-up: what a network may request, and how often passwords of one account may be tried.

use std::time::{Duration, Instant};

use super::{passed, retry_after};
use crate::harness::{BEHIND_A_PROXY, Gate, PASSWORD, Reply, Request, concurrently, from_address, json};
use crate::tenancy::comparable;

const HOME: &str = "192.0.2.1";

fn sign_in(gate: &Gate, username: &str, password: &str) -> Request {
    gate.post("/v1/signin").json(&json!({"username": username, "password": password}))
}

fn sign_up_at(gate: &Gate, username: &str, address: &str) -> Reply {
    from_address(gate.post("/v1/signup").json(&json!({"username": username, "password": PASSWORD})), address).send()
}

fn guess(gate: &Gate, username: &str, address: &str) -> Reply {
    from_address(sign_in(gate, username, "wrong password"), address).send()
}

/// NIST SP 800-63B: at most 100 consecutive wrong passwords for an account, from all addresses together; here with the
/// default.
#[test]
fn password_budget__brute_force_does_not_lock_out_the_owner() {
    let gate = Gate::with(&[("LIMIT_PASSWORDS", "50/d"), BEHIND_A_PROXY]);
    sign_up_at(&gate, "alice", HOME).expect(201);
    let from_one: Vec<Reply> = (0..300).map(|_| guess(&gate, "Alice", "203.0.113.1")).collect();
    let from_many: Vec<Reply> = (0..300).map(|n| guess(&gate, "alice", &format!("10.{}.{}.1", n % 9, n))).collect();
    assert_eq!(passed(&from_one, 401, "failures"), 50);
    assert_eq!(passed(&from_many, 401, "failures"), 0);

    let at = |address: &str| from_address(sign_in(&gate, "alice", PASSWORD), address).send();
    for _ in 0..60 {
        at(HOME).expect(200);
    }
    let elsewhere = at("198.51.100.7");
    elsewhere.refused(429, "failures");
    let wait = retry_after(&elsewhere);
    assert!((1..=1728).contains(&wait), "{wait}");
    gate.clock.advance(wait);
    at("198.51.100.7").expect(200);
    for _ in 0..60 {
        at("198.51.100.7").expect(200);
    }
    // The owner's network offers no more attempts, and other accounts are not affected.
    let at_home: Vec<Reply> = (0..60).map(|_| guess(&gate, "alice", HOME)).collect();
    assert_eq!(passed(&at_home, 401, "failures"), 50);
    sign_up_at(&gate, "bob", "198.51.100.9").expect(201);
    guess(&gate, "bob", "203.0.113.1").refused(401, "credentials");
}

#[test]
fn password_budget__exact_under_concurrency() {
    let gate = Gate::with(&[("LIMIT_PASSWORDS", "10/d"), BEHIND_A_PROXY]);
    sign_up_at(&gate, "alice", HOME).expect(201);
    let replies = concurrently(50, || guess(&gate, "alice", "203.0.113.1"));
    assert_eq!(passed(&replies, 401, "failures"), 10);
    let korean = from_address(sign_in(&gate, "alice", "wrong").header("Accept-Language", "ko"), "203.0.113.1").send();
    let message = korean.refused(429, "failures")["message"].clone();
    assert_eq!(message, "비밀번호를 너무 여러 번 틀렸습니다. 잠시 후 다시 시도하세요");
}

#[test]
fn password_budget__unknown_username_is_limited_alike() {
    let gate = Gate::with(&[("LIMIT_PASSWORDS", "5/d"), BEHIND_A_PROXY]);
    sign_up_at(&gate, "alice", HOME).expect(201);
    let answers = |name: &str| -> Vec<String> {
        let replies = (0..8).map(|number| guess(&gate, name, &format!("203.0.113.{number}")));
        replies.map(|reply| comparable(&reply).replace("17279", "17280")).collect()
    };
    let known = answers("alice");
    let statuses: Vec<&str> = known.iter().map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["401", "401", "401", "401", "401", "429", "429", "429"]);
    for name in ["nobody", "no name", "", "' OR 1=1 --"] {
        assert_eq!(answers(name), known, "{name}");
    }
}

/// No password is hashed once the budget is used up, for any account.
#[test]
fn password_budget__refused_try_is_not_hashed() {
    let gate = Gate::with(&[("LIMIT_PASSWORDS", "1/d"), ("BCRYPT_COST", "13"), BEHIND_A_PROXY]);
    sign_up_at(&gate, "alice", HOME).expect(201);
    for name in ["alice", "nobody"] {
        guess(&gate, name, "203.0.113.1").refused(401, "credentials");
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            guess(&gate, name, "203.0.113.1").refused(429, "failures");
            times.push(start.elapsed());
        }
        let quickest = times.iter().min().expect("five times");
        assert!(*quickest < Duration::from_millis(100), "{name}: {times:?}");
    }
}

/// A stolen token allows no further attempts.
#[test]
fn password_budget__spent_by_confirmations() {
    let gate = Gate::with(&[("LIMIT_PASSWORDS", "5/d"), ("USER_TOKEN_TTL", "1d")]);
    let user = gate.sign_up("alice");
    let change = |old: &str| {
        let body = json!({"oldPassword": old, "newPassword": "staple battery horse correct"});
        gate.put("/v1/me/password").token(&user.token).json(&body).send()
    };
    let delete = |password: &str| gate.delete("/v1/me").token(&user.token).json(&json!({"password": password})).send();
    for _ in 0..2 {
        change("wrong password").refused(403, "credentials");
        delete("wrong password").refused(403, "credentials");
    }
    change("wrong password").refused(403, "credentials");
    for reply in [change("wrong password"), delete(PASSWORD)] {
        reply.refused(429, "failures");
    }
    sign_in(&gate, "alice", PASSWORD).send().expect(200);
    gate.clock.advance(86_400 / 5);
    change(PASSWORD).expect(200);
}

#[test]
fn sign_in_limit__right_and_wrong_passwords_count() {
    let gate = Gate::with(&[("LIMIT_SIGNIN", "10/h"), BEHIND_A_PROXY]);
    sign_up_at(&gate, "alice", HOME).expect(201);
    let replies = concurrently(50, || from_address(sign_in(&gate, "alice", PASSWORD), HOME).send());
    assert_eq!(passed(&replies, 200, "ip"), 10);
    guess(&gate, "nobody", HOME).refused(429, "ip");
    from_address(sign_in(&gate, "alice", PASSWORD), "192.0.2.2").send().expect(200);
    gate.clock.advance(360);
    from_address(sign_in(&gate, "alice", PASSWORD), HOME).send().expect(200);
    from_address(sign_in(&gate, "alice", PASSWORD), HOME).send().refused(429, "ip");
}

#[test]
fn sign_up_limit__refused_sign_ups_count() {
    let gate = Gate::with(&[("LIMIT_SIGNUP", "5/h"), BEHIND_A_PROXY]);
    sign_up_at(&gate, "alice", HOME).expect(201);
    sign_up_at(&gate, "alice", HOME).refused(409, "taken");
    sign_up_at(&gate, "no", HOME).refused(400, "invalid_field");
    sign_up_at(&gate, "bob", HOME).expect(201);
    sign_up_at(&gate, "carol", HOME).expect(201);
    sign_up_at(&gate, "dave", HOME).refused(429, "ip");
    sign_up_at(&gate, "dave", "192.0.2.2").expect(201);
    from_address(sign_in(&gate, "alice", PASSWORD), HOME).send().expect(200);
    gate.clock.advance(720);
    sign_up_at(&gate, "erin", HOME).expect(201);
}
