//! Accounts under attack: what a refused sign-in reveals, and floods.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{passwords, row_counts, set_suspended, sign_in};
use crate::harness::{Gate, PASSWORD, Reply, concurrently, json};
use crate::tenancy::comparable;

#[test]
fn sign_in__refusals_are_indistinguishable() {
    let gate = Gate::start();
    gate.sign_up("alice");
    gate.sign_up("suspended");
    set_suspended(&gate, "suspended", true);
    let too_long = "x".repeat(257);
    let expected = comparable(&sign_in(&gate, "nobody", PASSWORD));
    assert!(expected.contains("\"reason\":\"credentials\""), "{expected}");
    for (username, password) in [
        ("nobody", "wrong"),
        ("alice", "wrong"),
        ("alice", ""),
        ("alice", &too_long),
        ("nobody", &too_long),
        ("suspended", PASSWORD),
        ("suspended", "wrong"),
        ("", PASSWORD),
        ("a", PASSWORD),
        ("no such\0name", PASSWORD),
        ("' OR 1=1 --", PASSWORD),
        ("alice ", PASSWORD),
        ("al%", PASSWORD),
        ("\u{ff41}lice", PASSWORD),
        (&"x".repeat(10_000), PASSWORD),
    ] {
        let reply = sign_in(&gate, username, password);
        reply.refused(401, "credentials");
        assert_eq!(comparable(&reply), expected, "{username:.20} {password:.20}");
    }
}

/// Compares the quickest of many refused sign-ins for each name, taken in turns. Other load on the machine slows most
/// of them, so this finds only differences of several times. A unit test of `password` measures 5 % by processor time.
fn assert_alike(gate: &Gate, names: &[&str]) {
    let mut quickest = vec![Duration::MAX; names.len()];
    for round in 0.. {
        for (name, quickest) in names.iter().zip(&mut quickest) {
            let start = Instant::now();
            sign_in(gate, name, "wrong\0password").refused(401, "credentials");
            *quickest = start.elapsed().min(*quickest);
        }
        let (least, most) = (quickest.iter().min().expect("some"), quickest.iter().max().expect("some"));
        if round >= 5 && most.as_secs_f64() <= least.as_secs_f64() * 6.0 {
            return;
        }
        assert!(round < 50, "{names:?}: {quickest:?}");
    }
}

#[test]
fn sign_in__unknown_user_takes_as_long_as_a_wrong_password() {
    let gate = Gate::with(&[("BCRYPT_COST", "10")]);
    gate.sign_up("alice");
    gate.sign_up("suspended");
    set_suspended(&gate, "suspended", true);
    assert_alike(&gate, &["alice", "suspended", "nobody", "no name"]);
}

/// The duration of a refusal must not reveal accounts from before a change of `BCRYPT_COST`, or imported ones.
#[test]
fn sign_in__every_kind_of_hash_takes_equally_long() {
    let gate = Gate::with(&[("BCRYPT_COST", "5")]);
    gate.sign_up("current");
    for (name, cost) in [("cheaper", 4), ("dearer", 11)] {
        passwords::insert_user(&gate, name, passwords::hash(PASSWORD, cost));
        let plain = bcrypt::non_truncating_hash(PASSWORD, cost).expect("hashes");
        passwords::insert_user(&gate, &format!("{name}-imported"), plain.replace("$2b$", "$2y$"));
    }
    assert_alike(&gate, &["nobody", "no name", "current", "cheaper", "cheaper-imported", "dearer", "dearer-imported"]);
}

/// The number of replies with that status. Every other one must be in `others`, and a 503 must have a valid
/// `Retry-After`.
fn count(replies: &[Reply], status: u16, others: &[u16]) -> usize {
    for reply in replies {
        assert!(reply.status == status || others.contains(&reply.status), "{} {}", reply.status, reply.text());
        if reply.status == 503 {
            reply.refused(503, "busy");
            let wait = reply.header("retry-after").and_then(|value| value.parse::<u32>().ok());
            assert!(wait.is_some_and(|seconds| seconds >= 1), "{:?}", reply.headers);
        }
    }
    replies.iter().filter(|reply| reply.status == status).count()
}

#[test]
fn sign_up__one_of_many_concurrent_requests_gets_the_username() {
    let gate = Gate::start();
    let body = json!({"username": "Wanted", "password": PASSWORD});
    let replies = concurrently(50, || gate.post("/v1/signup").json(&body).send());
    assert_eq!(count(&replies, 201, &[409, 503]), 1);
    assert_eq!(row_counts(&gate)[0], 1);
    sign_in(&gate, "wanted", PASSWORD).expect(200);
}

/// Runs `work`, and returns the median duration of `/v1/test` meanwhile.
fn verification_during<T>(gate: &Gate, token: &str, work: impl FnOnce() -> T) -> (T, Duration) {
    let over = AtomicBool::new(false);
    let (result, mut times) = std::thread::scope(|scope| {
        let bystander = scope.spawn(|| {
            let mut times = Vec::new();
            // A deadline of the thread itself, in case `work` fails.
            let deadline = Instant::now() + Duration::from_secs(60);
            while !over.load(Ordering::Relaxed) && Instant::now() < deadline {
                let start = Instant::now();
                gate.get("/v1/test").token(token).send().expect(200);
                times.push(start.elapsed());
            }
            times
        });
        let result = work();
        over.store(true, Ordering::Relaxed);
        (result, bystander.join().expect("no panic"))
    });
    times.sort();
    (result, times[times.len() / 2])
}

#[test]
fn sign_in__flood_is_shed_and_verification_stays_fast() {
    let gate = Gate::with(&[("BCRYPT_COST", "10")]);
    let (_, _, token) = gate.tenant("alice");
    let flood = || concurrently(100, || sign_in(&gate, "alice", "wrong password"));
    let (replies, median) = verification_during(&gate, &token, flood);
    let worked = count(&replies, 401, &[503]);
    assert!((1..100).contains(&worked), "{worked} requests were answered: the queue must be bounded");
    assert!(median < Duration::from_millis(500), "{median:?}");
    sign_in(&gate, "alice", PASSWORD).expect(200);
}

/// Estimating the strength of a password takes time: look-alike characters allow many readings.
#[test]
fn sign_up__passwords_that_are_slow_to_estimate_leave_verification_fast() {
    let gate = Gate::start();
    let (_, _, token) = gate.tenant("alice");
    let slow: String = "4@8({[<369!|1i7l0$5+%2z".chars().cycle().take(256).collect();
    let body = json!({"username": "mallory", "password": slow});
    let flood = || concurrently(4, || gate.post("/v1/signup").json(&body).send());
    let (replies, median) = verification_during(&gate, &token, flood);
    count(&replies, 201, &[400, 409, 503]);
    assert!(median < Duration::from_millis(500), "{median:?}");
}
