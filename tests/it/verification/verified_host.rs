//! The holder of a verified host, a second domain that verifies it, and the operator's commands.

use serde_json::json;

use super::dns::{Dns, Record};
use super::endpoint::{ask_token, publish, verification_rows};
use super::{server_with_dns, shown, value, verify};
use crate::binary::{gatebird, run};
use crate::harness::{Domain, Gate, User};

const NAME: &str = "shop.example.test";

/// Alice, who has verified the host, and Bob, who has registered it.
fn holder_and_challenger(gate: &Gate, dns: &Dns) -> [(User, Domain); 2] {
    let [alice, bob] = ["alice", "bob"].map(|name| {
        let user = gate.sign_up(name);
        let domain = gate.register(&user, NAME);
        (user, domain)
    });
    publish(gate, dns, &alice.0, &alice.1, NAME);
    verify(gate, &alice.0, &alice.1).expect(200);
    [alice, bob]
}

/// Publishes the challenges of both.
fn publish_both(gate: &Gate, dns: &Dns, alice: &(User, Domain), bob: &(User, Domain)) {
    let record = format!("_gatebird.{NAME}");
    let both = [alice, bob].map(|(user, domain)| Record::text(&value(gate, user, domain)));
    dns.set(&both.map(|value| (record.as_str(), value)));
}

fn is_verified(gate: &Gate, (user, domain): &(User, Domain)) -> bool {
    shown(gate, user, domain)["hostVerified"] == json!(true)
}

/// A temporary controller of a host loses it once the owner verifies the host again.
#[test]
fn verified_host__taken_over_when_the_holders_challenge_is_gone() {
    let dns = Dns::with(&[]);
    let gate = server_with_dns(&dns, &[]);
    let [alice, bob] = holder_and_challenger(&gate, &dns);
    let hers = gate.access_token(&alice.1);

    publish(&gate, &dns, &bob.0, &bob.1, NAME);
    verify(&gate, &bob.0, &bob.1).expect(200);
    assert!(!is_verified(&gate, &alice) && is_verified(&gate, &bob));
    gate.get("/v1/test").token(&hers).send().refused(401, "revoked");

    // A minute later Alice has her host again.
    publish(&gate, &dns, &alice.0, &alice.1, NAME);
    verify(&gate, &alice.0, &alice.1).expect(200);
    assert!(is_verified(&gate, &alice) && !is_verified(&gate, &bob));
    gate.access_token(&alice.1);
    let bobs: Vec<_> =
        verification_rows(&gate).into_iter().filter(|(_, tenant, ..)| *tenant == Some(bob.0.id)).collect();
    let actions: Vec<_> = bobs.iter().map(|(actor, _, action, _)| (actor.as_str(), action.as_str())).collect();
    let me = format!("usr_{}", bob.0.id);
    assert_eq!(
        actions[..3],
        [("server", "domain.superseded"), (&*me, "domain.verified"), ("server", "domain.unverified")]
    );
}

#[test]
fn verified_host__kept_while_the_holders_challenge_is_published() {
    let dns = Dns::with(&[]);
    let gate = server_with_dns(&dns, &[]);
    let [alice, bob] = holder_and_challenger(&gate, &dns);
    publish_both(&gate, &dns, &alice, &bob);
    verify(&gate, &bob.0, &bob.1).refused(409, "taken");
    assert!(is_verified(&gate, &alice));
    gate.access_token(&alice.1);
}

#[test]
fn verified_host__of_a_suspended_holder() {
    for suspended in ["user", "domain"] {
        let dns = Dns::with(&[]);
        let gate = server_with_dns(&dns, &[]);
        let [alice, bob] = holder_and_challenger(&gate, &dns);
        publish_both(&gate, &dns, &alice, &bob);
        let name = if suspended == "user" { "alice" } else { &alice.1.id };
        run(&mut gatebird(&gate.database, &[suspended, "suspend", name], &[]), "").good();

        let carol = gate.sign_up("carol");
        gate.register(&carol, NAME);
        verify(&gate, &bob.0, &bob.1).expect(200);
        gate.access_token(&bob.1);
        run(&mut gatebird(&gate.database, &[suspended, "resume", name], &[]), "").good();
        let ends =
            verification_rows(&gate).into_iter().filter(|(_, tenant, ..)| *tenant == Some(alice.0.id)).map(|row| row.2);
        assert!(ends.collect::<Vec<_>>().contains(&"domain.unverified".to_owned()), "{suspended}");
        crate::binary::within(crate::binary::PROMISED, "she is back", || {
            ask_token(&gate, &alice.1).json()["reason"] == "superseded"
        });
        assert!(is_verified(&gate, &bob));
    }
}

#[test]
fn domain_unverify__ends_the_verification() {
    let dns = Dns::with(&[]);
    let gate = server_with_dns(&dns, &[("PROOF", "required")]);
    let [alice, _] = holder_and_challenger(&gate, &dns);
    let token = gate.access_token(&alice.1);
    let unverify = |id: &str| run(&mut gatebird(&gate.database, &["domain", "unverify", id], &[]), "");
    let line = unverify(&alice.1.id).good();
    assert!(line.contains(NAME), "{line}");
    crate::binary::within(crate::binary::PROMISED, "no token", || ask_token(&gate, &alice.1).status == 400);
    gate.get("/v1/test").token(&token).send().refused(401, "revoked");
    assert!(!is_verified(&gate, &alice));
    let last = verification_rows(&gate).pop().expect("a row");
    assert_eq!(last, ("operator".into(), Some(alice.0.id), "domain.unverified".into(), alice.1.id.clone()));

    let again = unverify(&alice.1.id);
    assert_eq!(again.code, Some(64), "{again:?}");
    assert!(again.stderr.contains("not verified"), "{again:?}");
    assert_eq!(unverify("dom_0000000000000000000000").code, Some(64));
    // She can verify it again.
    publish(&gate, &dns, &alice.0, &alice.1, NAME);
    verify(&gate, &alice.0, &alice.1).expect(200);
    gate.access_token(&alice.1);
}
