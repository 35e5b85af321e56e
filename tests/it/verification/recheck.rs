//! A verified host is checked again each day. The verification ends after a week of failures.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use gatebird::db::verified_host;
use gatebird::id::DomainId;
use gatebird::verification::Method;
use serde_json::json;

use super::dns::{Answer, Dns, Kind, Record};
use super::endpoint::{ask_token, publish, verification_rows};
use super::host::{Host, ok};
use super::{server_with_dns, shown, value, verify};
use crate::harness::{Domain, Gate, User};

const NAME: &str = "shop.example.test";
const DAY: i64 = 86_400;

/// A verified domain, by DNS.
fn verified(dns: &Dns, settings: &[(&str, &str)]) -> (Gate, User, Domain) {
    let settings: Vec<_> = settings.iter().copied().chain([("USER_TOKEN_TTL", "30d")]).collect();
    let gate = server_with_dns(dns, &settings);
    let alice = gate.sign_up("alice");
    let domain = gate.register(&alice, NAME);
    publish(&gate, dns, &alice, &domain, NAME);
    verify(&gate, &alice, &domain).expect(200);
    dns.asked();
    (gate, alice, domain)
}

/// Checks the hosts that are due, and returns their number.
fn recheck(gate: &Gate) -> usize {
    gate.app.recheck_hosts().expect("the database answers")
}

#[test]
fn recheck__once_a_day() {
    let dns = Dns::with(&[]);
    let (gate, alice, domain) = verified(&dns, &[]);
    gate.clock.advance(DAY - 60);
    assert_eq!(recheck(&gate), 0);
    gate.clock.advance(60);
    for expected in [1, 0, 0] {
        assert_eq!(recheck(&gate), expected);
    }
    let texts = dns.asked().into_iter().filter(|(_, kind)| *kind == Kind::Txt).count();
    assert_eq!(texts, 1);
    let shown = shown(&gate, &alice, &domain);
    assert_eq!((&shown["hostVerified"], &shown["failingSince"]), (&json!(true), &json!(null)));
}

#[test]
fn recheck__verification_ends_after_seven_days_of_failures() {
    let dns = Dns::with(&[]);
    let (gate, alice, domain) = verified(&dns, &[("PROOF", "required")]);
    dns.set(&[]);
    gate.clock.advance(DAY);
    let since = gate.clock.now();
    for _ in 0..7 {
        recheck(&gate);
        let shown = shown(&gate, &alice, &domain);
        assert_eq!(shown["hostVerified"], json!(true));
        let failing = shown["failingSince"].as_i64().expect("seconds");
        assert!((since..since + 30).contains(&failing), "the time of the first failure is kept");
        assert!(shown["dns"]["value"].is_string(), "the challenge is shown again");
        gate.access_token(&domain);
        gate.clock.advance(DAY);
    }
    recheck(&gate);
    assert_eq!(shown(&gate, &alice, &domain)["hostVerified"], json!(false));
    ask_token(&gate, &domain).refused(400, "unverified");
    let last = verification_rows(&gate).pop().expect("a row");
    assert_eq!(last, ("server".into(), Some(alice.id), "domain.unverified".into(), domain.id.clone()));
    gate.clock.advance(DAY);
    assert_eq!(recheck(&gate), 0, "no host is due");

    // Another user may verify it now, and so may the former holder.
    let bob = gate.sign_up("bob");
    gate.register(&bob, NAME);
    verify(&gate, &alice, &domain).refused(409, "unverified");
    publish(&gate, &dns, &alice, &domain, NAME);
    verify(&gate, &alice, &domain).expect(200);
    gate.access_token(&domain);
}

#[test]
fn recheck__recovered_challenge_resets_the_deadline() {
    let host = Host::answering("");
    let dns = Dns::with(&[]);
    let gate = server_with_dns(&dns, &[("USER_TOKEN_TTL", "30d")]);
    let alice = gate.sign_up("alice");
    let domain = gate.register(&alice, &format!("{NAME}:{}", host.port()));
    publish(&gate, &dns, &alice, &domain, NAME);
    verify(&gate, &alice, &domain).expect(200);
    let content = value(&gate, &alice, &domain);
    // Missing for six days, then found by the other method, then missing for six more days.
    for day in 0..13 {
        match day {
            6 => {
                dns.set(&[(NAME, Record::address("127.0.0.1"))]);
                host.answer(ok(&content));
            }
            _ => dns.set(&[]),
        }
        gate.clock.advance(DAY);
        assert_eq!(recheck(&gate), 1);
        let shown = shown(&gate, &alice, &domain);
        assert_eq!(shown["hostVerified"], json!(true), "day {day}");
        assert_eq!(shown["failingSince"].is_null(), day == 6, "day {day}");
    }
    // The owner's own attempt resets it, too.
    publish(&gate, &dns, &alice, &domain, NAME);
    verify(&gate, &alice, &domain).expect(200);
    assert!(shown(&gate, &alice, &domain)["failingSince"].is_null());
    assert_eq!(verification_rows(&gate).len(), 1, "the domain was verified all the time");
}

#[test]
fn recheck__concurrent_nodes_check_each_host_once() {
    let dns = Dns::with(&[]);
    let gate = server_with_dns(&dns, &[]);
    let alice = gate.sign_up("alice");
    let names: Vec<String> = (0..20).map(|number| format!("shop{number}.example.test")).collect();
    for name in &names {
        let domain = gate.register(&alice, name);
        publish(&gate, &dns, &alice, &domain, name);
        verify(&gate, &alice, &domain).expect(200);
    }
    let nodes = match gate.database.is_postgres() {
        true => vec![gate.another_node(), gate.another_node()],
        false => Vec::new(),
    };
    for gate in nodes.iter().chain([&gate]) {
        gate.clock.advance(DAY);
    }
    dns.asked();
    std::thread::scope(|scope| {
        for gate in nodes.iter().chain([&gate, &gate, &gate]) {
            scope.spawn(move || while recheck(gate) > 0 {});
        }
    });
    let mut asked: Vec<String> =
        dns.asked().into_iter().filter(|(_, kind)| *kind == Kind::Txt).map(|(name, _)| name).collect();
    asked.sort();
    let mut expected: Vec<String> = names.iter().map(|name| format!("_gatebird.{name}")).collect();
    expected.sort();
    assert_eq!(asked, expected);
}

/// The result of the owner's own attempt is newer than that of the check that began before.
#[test]
fn recheck__outdated_result_is_dropped() {
    let dns = Dns::with(&[]);
    let (gate, alice, domain) = verified(&dns, &[]);
    gate.clock.advance(DAY);
    let (app, now) = (gate.app.clone(), gate.clock.now());
    let id = DomainId::parse(&domain.id).expect("an id");
    dns.decide(move |_, _| {
        let found = app.db.write_now(|conn| Ok(verified_host::record_success(conn, id, Method::Dns, now)?));
        found.expect("the database answers");
        Answer::NoSuchName
    });
    assert_eq!(recheck(&gate), 1);
    let shown = shown(&gate, &alice, &domain);
    assert_eq!((&shown["hostVerified"], &shown["failingSince"]), (&json!(true), &json!(null)));
}

/// A slow host does not delay the others.
#[test]
fn recheck__hosts_are_checked_in_parallel() {
    const AT_ONCE: usize = 8;
    let dns = Dns::with(&[]);
    let gate = server_with_dns(&dns, &[("USER_TOKEN_TTL", "30d")]);
    let alice = gate.sign_up("alice");
    for number in 0..=AT_ONCE {
        let name = format!("shop{number}.example.test");
        let domain = gate.register(&alice, &name);
        publish(&gate, &dns, &alice, &domain, &name);
        verify(&gate, &alice, &domain).expect(200);
    }
    gate.clock.advance(DAY);
    dns.decide(|_, _| Answer::Nothing);
    let began = Instant::now();
    assert_eq!(recheck(&gate), AT_ONCE);
    let took = began.elapsed();
    // Each waits two seconds for its answer.
    assert!((Duration::from_secs(1)..Duration::from_secs(8)).contains(&took), "{took:?}");
    assert_eq!(recheck(&gate), 1);
    assert_eq!(recheck(&gate), 0);
}

/// The database was away at the end of the check: it is repeated a minute later, not a day later.
#[test]
fn recheck__failed_write_is_retried_after_a_minute() {
    let dns = Dns::with(&[]);
    let (gate, alice, domain) = verified(&dns, &[]);
    let rename = |from: &'static str, to: &'static str| {
        let app = gate.app.clone();
        move || {
            let renamed =
                app.db.write_now(|conn| Ok(conn.batch_execute(&format!("ALTER TABLE {from} RENAME TO {to}"))?));
            renamed.expect("the database answers");
        }
    };
    let come_back = rename("verified_hosts_away", "verified_hosts");
    for is_there in [false, true] {
        gate.clock.advance(DAY);
        let mut go_away = Some(rename("verified_hosts", "verified_hosts_away"));
        let value = super::value(&gate, &alice, &domain);
        dns.decide(move |_, kind| {
            if let Some(go_away) = go_away.take() {
                go_away();
            }
            match kind {
                Kind::Txt if is_there => Answer::Records(vec![Record::text(&value)]),
                _ => Answer::NoSuchName,
            }
        });
        assert!(gate.app.recheck_hosts().is_err(), "the result could not be stored");
        come_back();
        let failing = |gate: &Gate| !shown(gate, &alice, &domain)["failingSince"].is_null();
        assert_eq!(failing(&gate), is_there, "the state is unchanged");
        assert_eq!(recheck(&gate), 0, "the failed recheck still holds the host");
        gate.clock.advance(60);
        assert_eq!(recheck(&gate), 1);
        assert_eq!(failing(&gate), !is_there);
        assert_eq!(recheck(&gate), 0);
        gate.clock.advance(60);
        assert_eq!(recheck(&gate), 0, "the host was rechecked for that day");
    }
}

/// A momentarily wrong clock does not end a verification whose challenge is missing for a day, and the daily checks
/// continue.
#[test]
fn recheck__clock_ahead_for_some_seconds() {
    let dns = Dns::with(&[]);
    let (gate, alice, domain) = verified(&dns, &[]);
    gate.app.maintain().expect("the database answers");
    dns.set(&[]);
    gate.clock.advance(DAY);
    recheck(&gate);
    for wrong in [8 * DAY, 500 * DAY, -500 * DAY] {
        gate.clock.set_wrong(wrong);
        recheck(&gate);
        gate.clock.set_wrong(0);
        assert_eq!(shown(&gate, &alice, &domain)["hostVerified"], json!(true), "{wrong}");
    }
    publish(&gate, &dns, &alice, &domain, NAME);
    gate.clock.advance(DAY);
    assert_eq!(recheck(&gate), 1);
    assert_eq!(shown(&gate, &alice, &domain)["failingSince"], json!(null));
}

/// The challenge is the same after a verification while the clock was ahead.
#[test]
fn challenge__clock_ahead_for_some_seconds() {
    let dns = Dns::with(&[]);
    let gate = server_with_dns(&dns, &[("USER_TOKEN_TTL", "30d")]);
    let alice = gate.sign_up("alice");
    let domain = gate.register(&alice, NAME);
    publish(&gate, &dns, &alice, &domain, NAME);
    gate.app.maintain().expect("the database answers");
    let before = value(&gate, &alice, &domain);
    gate.clock.set_wrong(20 * DAY);
    gate.app.maintain().expect("the database answers");
    verify(&gate, &alice, &domain).expect(200);
    gate.clock.set_wrong(0);
    assert_eq!(value(&gate, &alice, &domain), before);
    // A host that was verified while the clock was ahead is checked again too.
    gate.clock.advance(DAY);
    assert_eq!(recheck(&gate), 1);
}
