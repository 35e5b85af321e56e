//! What was proven is looked at again each day, and ends when it is missing for a week.

use serde_json::json;

use super::dns::{Dns, Kind, Record};
use super::endpoint::{ask_token, publish, told};
use super::host::{Host, ok};
use super::{gate_asking, shown, value, verify};
use crate::harness::{Domain, Gate, User};

const NAME: &str = "shop.example.test";
const DAY: i64 = 86_400;

/// A proven domain, by DNS.
fn proven(dns: &Dns, settings: &[(&str, &str)]) -> (Gate, User, Domain) {
    let settings: Vec<_> = settings.iter().copied().chain([("USER_TOKEN_TTL", "30d")]).collect();
    let gate = gate_asking(dns, &settings);
    let alice = gate.sign_up("alice");
    let domain = gate.register(&alice, NAME);
    publish(&gate, dns, &alice, &domain, NAME);
    verify(&gate, &alice, &domain).expect(200);
    dns.asked();
    (gate, alice, domain)
}

/// Looks at what is due, and says how much that was.
fn recheck(gate: &Gate) -> usize {
    gate.app.recheck_proofs().expect("the database answers")
}

#[test]
fn a_proof_is_looked_at_once_a_day() {
    let dns = Dns::with(&[]);
    let (gate, alice, domain) = proven(&dns, &[]);
    gate.clock.advance(DAY - 60);
    assert_eq!(recheck(&gate), 0);
    gate.clock.advance(60);
    for expected in [1, 0, 0] {
        assert_eq!(recheck(&gate), expected);
    }
    let texts = dns.asked().into_iter().filter(|(_, kind)| *kind == Kind::Txt).count();
    assert_eq!(texts, 1);
    let shown = shown(&gate, &alice, &domain);
    assert_eq!((&shown["proven"], &shown["failingSince"]), (&json!(true), &json!(null)));
}

#[test]
fn a_proof_that_is_missing_for_seven_days_ends() {
    let dns = Dns::with(&[]);
    let (gate, alice, domain) = proven(&dns, &[("PROOF", "required")]);
    dns.set(&[]);
    gate.clock.advance(DAY);
    let since = gate.clock.now();
    for _ in 0..7 {
        recheck(&gate);
        let shown = shown(&gate, &alice, &domain);
        assert_eq!(shown["proven"], json!(true));
        let failing = shown["failingSince"].as_i64().expect("seconds");
        assert!((since..since + 30).contains(&failing), "the first time counts");
        assert!(shown["dns"]["value"].is_string(), "what is missing can be published again");
        gate.access_token(&domain);
        gate.clock.advance(DAY);
    }
    recheck(&gate);
    assert_eq!(shown(&gate, &alice, &domain)["proven"], json!(false));
    ask_token(&gate, &domain).refused(400, "unproven");
    let last = told(&gate).pop().expect("a row");
    assert_eq!(last, ("server".into(), Some(alice.id), "domain.unproven".into(), domain.id.clone()));
    gate.clock.advance(DAY);
    assert_eq!(recheck(&gate), 0, "there is nothing left to look at");

    // Somebody else may have it now; and so may she, once more.
    let bob = gate.sign_up("bob");
    gate.register(&bob, NAME);
    verify(&gate, &alice, &domain).refused(409, "unproven");
    publish(&gate, &dns, &alice, &domain, NAME);
    verify(&gate, &alice, &domain).expect(200);
    gate.access_token(&domain);
}

#[test]
fn a_proof_that_comes_back_in_time_goes_on() {
    let host = Host::answering("");
    let dns = Dns::with(&[]);
    let gate = gate_asking(&dns, &[("USER_TOKEN_TTL", "30d")]);
    let alice = gate.sign_up("alice");
    let domain = gate.register(&alice, &format!("{NAME}:{}", host.port()));
    publish(&gate, &dns, &alice, &domain, NAME);
    verify(&gate, &alice, &domain).expect(200);
    let content = value(&gate, &alice, &domain);
    // Missing for six days; then there again, by the other method; then missing for six days more.
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
        assert_eq!(shown["proven"], json!(true), "day {day}");
        assert_eq!(shown["failingSince"].is_null(), day == 6, "day {day}");
    }
    // By a try of the owner's own, too.
    publish(&gate, &dns, &alice, &domain, NAME);
    verify(&gate, &alice, &domain).expect(200);
    assert!(shown(&gate, &alice, &domain)["failingSince"].is_null());
    assert_eq!(told(&gate).len(), 1, "it was proven all the time");
}

#[test]
fn whoever_looks_at_once_each_proof_is_looked_at_by_one() {
    let dns = Dns::with(&[]);
    let gate = gate_asking(&dns, &[]);
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
