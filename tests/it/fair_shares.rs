//! What one network or account can use up, and what is left for others: promise 13 of the security documentation.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use diesel::prelude::*;
use gatebird::db::schema::audit;

use crate::harness::{BEHIND_A_PROXY, Domain, Gate, PASSWORD, Reply, User, from_address, json};
use crate::verification::dns::{Answer, Dns, Kind, Record};
use crate::verification::endpoint::publish;
use crate::verification::host::Host;

const ATTACKER: &str = "203.0.113.66";
const VICTIM: &str = "192.0.2.1";

/// Runs `act` while that many threads repeat an attack, and waits for all of them.
fn during<T>(threads: usize, attack: impl Fn() + Sync, act: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    attack();
                }
            });
        }
        // The first hashes are done by then.
        std::thread::sleep(Duration::from_millis(500));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        over.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn sign_in(gate: &Gate, username: &str, address: &str) -> Reply {
    let body = json!({"username": username, "password": PASSWORD});
    from_address(gate.post("/v1/signin").json(&body), address).send()
}

#[test]
fn hashing_share__flood_of_unknown_names() {
    let gate = Gate::with(&[("BCRYPT_COST", "9"), BEHIND_A_PROXY]);
    gate.sign_up("alice");
    let flood = || drop(sign_in(&gate, "nobody", ATTACKER));
    during(40, flood, || {
        for _ in 0..10 {
            let began = Instant::now();
            sign_in(&gate, "alice", VICTIM).expect(200);
            assert!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
        }
    });
}

#[test]
fn hashing_share__known_account_in_a_crowded_network() {
    let gate = Gate::with(&[("BCRYPT_COST", "9"), ("LIMIT_PASSWORDS", "100000/m"), BEHIND_A_PROXY]);
    from_address(gate.post("/v1/signup").json(&json!({"username": "alice", "password": PASSWORD})), ATTACKER)
        .send()
        .expect(201);
    let flood = || drop(sign_in(&gate, "nobody", ATTACKER));
    during(40, flood, || (0..5).for_each(|_| drop(sign_in(&gate, "alice", ATTACKER).expect(200))));
}

#[test]
fn hashing_share__flood_from_many_networks() {
    let gate = Gate::with(&[("BCRYPT_COST", "10"), ("LIMIT_PASSWORDS", "100000/m"), BEHIND_A_PROXY]);
    from_address(gate.post("/v1/signup").json(&json!({"username": "alice", "password": PASSWORD})), VICTIM)
        .send()
        .expect(201);
    let timed = || {
        let began = Instant::now();
        sign_in(&gate, "alice", VICTIM).expect(200);
        began.elapsed()
    };
    // In one queue with the flood, alice would wait for 64 other hashes. Other programs slow down both measurements.
    let alone = (0..3).map(|_| timed()).max().expect("three times");
    let limit = Duration::from_millis(1500).max(alone * 15);
    let number = AtomicUsize::new(0);
    let flood = || {
        let number = number.fetch_add(1, Ordering::Relaxed) % 128;
        drop(sign_in(&gate, "nobody", &format!("203.0.113.{number}")));
    };
    during(64, flood, || {
        for _ in 0..5 {
            let took = timed();
            assert!(took < limit, "it took {took:?}, alone {alone:?}");
        }
    });
}

#[test]
fn password_change__weak_new_password_is_not_hashed() {
    let gate = Gate::with(&[("BCRYPT_COST", "13")]);
    let alice = gate.sign_up("alice");
    let change = |old: &str, new: &str| {
        let began = Instant::now();
        let body = json!({"oldPassword": old, "newPassword": new});
        (gate.put("/v1/me/password").token(&alice.token).json(&body).send(), began.elapsed())
    };
    let (refused, quick) = change(PASSWORD, "password");
    assert_eq!(refused.refused(400, "invalid_field")["field"], "newPassword");
    let (wrong, slow) = change("not the password", "another horse battery staple");
    wrong.refused(403, "credentials");
    assert!(quick * 2 < slow, "a refused new password took {quick:?}, a hash takes {slow:?}");
}

#[test]
fn hashing_share__owner_changes_the_password_during_a_flood() {
    let gate = Gate::with(&[("BCRYPT_COST", "9"), BEHIND_A_PROXY]);
    let alice = gate.sign_up("alice");
    let change = |address: &str, new: &str| {
        let body = json!({"oldPassword": PASSWORD, "newPassword": new});
        from_address(gate.put("/v1/me/password").token(&alice.token).json(&body), address).send()
    };
    let flood = || drop(sign_in(&gate, "alice", ATTACKER));
    during(40, flood, || change(VICTIM, "another horse battery staple").expect(200));
}

fn verify(gate: &Gate, user: &User, domain: &Domain, address: &str) -> Reply {
    from_address(gate.post(&format!("/v1/domains/{}/verification", domain.id)).token(&user.token), address).send()
}

/// Runs `act` while accounts of several networks verify hosts whose DNS never answers. `accounts` is the number of
/// accounts in each network.
fn while_dns_hangs(gate: &Gate, dns: &Dns, networks: usize, accounts: usize, act: impl FnOnce()) {
    let greedy: Vec<(User, Domain, String)> = (0..networks * accounts)
        .map(|number| {
            let user = gate.sign_up(&format!("greedy{number}"));
            let domain = gate.register(&user, &format!("hangs{number}.example.test"));
            (user, domain, format!("203.0.113.{}", number / accounts))
        })
        .collect();
    dns.decide(|name, _| if name.contains("hangs") { Answer::Nothing } else { Answer::NoSuchName });
    std::thread::scope(|scope| {
        for (user, domain, address) in &greedy {
            scope.spawn(move || verify(gate, user, domain, address));
        }
        std::thread::sleep(Duration::from_millis(500));
        act();
    });
}

/// Verifies a host without a published challenge, and returns how long that took.
fn failed_verification(gate: &Gate, user: &User, domain: &Domain) -> Duration {
    let began = Instant::now();
    verify(gate, user, domain, VICTIM).refused(409, "unverified");
    began.elapsed()
}

#[test]
fn verification_share__many_accounts_whose_dns_hangs() {
    let dns = Dns::with(&[]);
    let gate = Gate::with(&[("DNS_SERVER", &dns.address.to_string()), BEHIND_A_PROXY]);
    let (victim, domain, _) = gate.tenant("victim");
    while_dns_hangs(&gate, &dns, 1, 32, || {
        for _ in 0..3 {
            let took = failed_verification(&gate, &victim, &domain);
            assert!(took < Duration::from_secs(1), "it took {took:?}");
        }
    });
}

#[test]
fn verification_share__ten_networks_whose_dns_hangs() {
    let dns = Dns::with(&[]);
    let gate = Gate::with(&[("DNS_SERVER", &dns.address.to_string()), BEHIND_A_PROXY]);
    let (victim, domain, _) = gate.tenant("victim");
    while_dns_hangs(&gate, &dns, 10, 8, || {
        let took = failed_verification(&gate, &victim, &domain);
        assert!(took < Duration::from_secs(1), "it took {took:?}");
    });
}

/// More networks than permits. The owner of a verified host has a reserve.
#[test]
fn verification_share__owner_of_a_verified_host_has_a_reserve() {
    let dns = Dns::with(&[]);
    let gate = Gate::with(&[("DNS_SERVER", &dns.address.to_string()), BEHIND_A_PROXY]);
    let (owner, domain, _) = gate.tenant("owner");
    publish(&gate, &dns, &owner, &domain, "owner.example.com");
    verify(&gate, &owner, &domain, VICTIM).expect(200);
    while_dns_hangs(&gate, &dns, 30, 4, || {
        let took = failed_verification(&gate, &owner, &domain);
        assert!(took < Duration::from_secs(1), "it took {took:?}");
    });
}

#[test]
fn verification_share__address_is_contacted_ten_times_a_minute() {
    let dns = Dns::start(|_, kind| match kind {
        Kind::A => Answer::Records(vec![Record::address("127.0.0.1")]),
        _ => Answer::Records(Vec::new()),
    });
    let victim = Host::answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let address = dns.address.to_string();
    let gate = Gate::with(&[("DNS_SERVER", &address), ("ALLOW_LOCAL_HOSTS", "true")]);
    let mut outcomes = Vec::new();
    for number in 0..15 {
        let user = gate.sign_up(&format!("user{number}"));
        let domain = gate.register(&user, &format!("name{number}.example.test:{}", victim.address.port()));
        let body = gate.post(&format!("/v1/domains/{}/verification", domain.id)).token(&user.token).send();
        let body = body.refused(409, "unverified");
        let last = body["payload"]["tried"].as_array().and_then(|tried| tried.last()).expect("a check");
        outcomes.push(last["found"].as_str().expect("a word").to_owned());
    }
    assert_eq!(outcomes, [["status"; 10].as_slice(), ["limited"; 5].as_slice()].concat());
    gate.clock.advance(60);
    let user = gate.sign_up("later");
    let domain = gate.register(&user, &format!("later.example.test:{}", victim.address.port()));
    let body = gate.post(&format!("/v1/domains/{}/verification", domain.id)).token(&user.token).send();
    assert!(!body.refused(409, "unverified").to_string().contains("limited"));
}

#[test]
fn verification_share__user_gets_half_of_an_address() {
    let dns = Dns::start(|_, kind| match kind {
        Kind::A => Answer::Records(vec![Record::address("127.0.0.1")]),
        _ => Answer::Records(Vec::new()),
    });
    let shared = Host::answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let address = dns.address.to_string();
    let gate = Gate::with(&[("DNS_SERVER", &address), ("ALLOW_LOCAL_HOSTS", "true")]);
    let verify = |user: &User, name: String| {
        let domain = gate.register(user, &format!("{name}.example.test:{}", shared.address.port()));
        let reply = gate.post(&format!("/v1/domains/{}/verification", domain.id)).token(&user.token).send();
        reply.refused(409, "unverified").to_string().contains("limited")
    };
    let (greedy, victim) = (gate.sign_up("greedy"), gate.sign_up("victim"));
    let limited = (0..10).filter(|number| verify(&greedy, format!("name{number}"))).count();
    assert_eq!(limited, 5);
    assert!(!verify(&victim, "victim".to_owned()));
}

#[test]
fn hashing_share__flood_with_a_stolen_user_token() {
    let gate = Gate::with(&[("BCRYPT_COST", "9"), BEHIND_A_PROXY]);
    let alice = gate.sign_up("alice");
    let own = sign_in(&gate, "alice", VICTIM).expect(200)["token"].as_str().expect("a token").to_owned();
    let change = |token: &str, address: &str, old: &str| {
        let body = json!({"oldPassword": old, "newPassword": "another horse battery staple"});
        from_address(gate.put("/v1/me/password").token(token).json(&body), address).send()
    };
    let flood = || drop(change(&alice.token, ATTACKER, "not the password"));
    during(40, flood, || {
        let began = Instant::now();
        change(&own, VICTIM, PASSWORD).expect(200);
        assert!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
        change(&alice.token, ATTACKER, PASSWORD).refused(401, "revoked");
    });
}

/// A host can use every address of its /64. Port 22 is refused before any connection, so the test reaches no other
/// machine.
#[test]
fn verification_share__addresses_of_one_ipv6_network() {
    let next = AtomicUsize::new(1);
    let dns = Dns::start(move |name, kind| {
        let address = |network: u8| {
            let number = next.fetch_add(1, Ordering::Relaxed);
            Record::address(&format!("2606:4700:0:{network}::{number:x}"))
        };
        Answer::Records(match (kind, name.split('.').next()) {
            (Kind::Aaaa, Some("pair")) => vec![address(0), address(0)],
            (Kind::Aaaa, Some("far")) => vec![address(1)],
            (Kind::Aaaa, _) => vec![address(0)],
            _ => Vec::new(),
        })
    });
    let gate = Gate::with(&[("DNS_SERVER", &dns.address.to_string())]);
    let verify = |user: &User, name: &str| {
        let domain = gate.register(user, &format!("{name}.example.test:22"));
        let reply = gate.post(&format!("/v1/domains/{}/verification", domain.id)).token(&user.token).send();
        let body = reply.refused(409, "unverified");
        let last = body["payload"]["tried"].as_array().and_then(|tried| tried.last()).expect("a check");
        last["found"].as_str().expect("a word").to_owned()
    };
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| gate.sign_up(name));
    for user in [&alice, &bob] {
        let found = ["pair", "a", "b", "c", "d", "e"].map(|name| verify(user, name));
        assert_eq!(found, ["port", "port", "port", "port", "port", "limited"], "one user has half of the network's");
    }
    assert_eq!(verify(&carol, "a"), "limited");
    for user in [&alice, &carol] {
        assert_eq!(verify(user, "far"), "port", "another network has its own");
    }
}

#[test]
fn verification_share__user_gets_thirty_a_minute() {
    let gate = Gate::start();
    let user = gate.sign_up("alice");
    let verified = (0..35).map(|number| {
        let domain = gate.register(&user, &format!("name{number}.example.test"));
        gate.post(&format!("/v1/domains/{}/verification", domain.id)).token(&user.token).send()
    });
    let replies: Vec<Reply> = verified.collect();
    let passed = replies.iter().filter(|reply| reply.status == 409).count();
    // Some more are allowed while the test runs.
    assert!((30..=33).contains(&passed), "{passed}");
    replies.iter().filter(|reply| reply.status != 409).for_each(|reply| drop(reply.refused(429, "failures")));
}

#[test]
fn revocation__burst_shares_audit_rows() {
    let gate = Gate::with(&[("TOKEN_TTL", "1h"), BEHIND_A_PROXY]);
    let (_, domain, _) = gate.tenant("mallory");
    let (victim, own, _) = gate.tenant("victim");
    let tokens: Vec<String> = (0..240).map(|_| gate.access_token(&domain)).collect();
    let rows = || gate.app.db.read_now(|conn| Ok(audit::table.count().get_result::<i64>(conn)?)).expect("an answer");
    let before = rows();
    let revoke = |token: &String| {
        let form = format!("token={token}&client_id={}&client_secret={}", domain.id, domain.secret);
        from_address(gate.post("/revoke").form(form), ATTACKER).send().expect(200);
        gate.get("/v1/test").token(token).send().refused(401, "revoked");
    };
    std::thread::scope(|scope| {
        for part in tokens.chunks(3) {
            scope.spawn(move || part.iter().for_each(revoke));
        }
        for _ in 0..5 {
            let path = format!("/v1/domains/{}/secrets", own.id);
            let began = Instant::now();
            from_address(gate.post(&path).token(&victim.token).json(&json!({"graceSeconds": 60})), VICTIM)
                .send()
                .expect(201);
            assert!(began.elapsed() < Duration::from_millis(1400), "it took {:?}", began.elapsed());
            gate.app
                .write_now(|conn| Ok(gatebird::db::audit::Audited::nothing(prune(conn)?)))
                .expect("secrets are deleted");
        }
    });
    let written = rows() - before - 5;
    assert!(written <= 120, "{written} audit rows for 240 revocations by 80 connections");
}

/// Deletes retiring secrets, to make room for more.
fn prune(conn: &mut gatebird::db::Conn) -> QueryResult<()> {
    use gatebird::db::schema::secrets;
    diesel::delete(secrets::table.filter(secrets::expires_at.is_not_null())).execute(conn).map(drop)
}
