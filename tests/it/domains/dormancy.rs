//! Domains that are neither verified nor used for 90 days leave the memory of every node, until the owner or the
//! operator changes them.

use crate::binary::{PROMISED, gatebird, run, within};
use crate::harness::{Domain, Gate, PASSWORD, Value, json, needs_postgres};

const DAY: i64 = 86_400;

/// Lets that many days pass.
fn pass_days(gate: &Gate, days: i64) {
    gate.app.flush().expect("the database answers");
    gate.app.maintain().expect("the database answers");
    gate.clock.advance(days * DAY);
    gate.app.maintain().expect("the database answers");
}

fn works(gate: &Gate, domain: &Domain) -> bool {
    gate.post("/token").json(&json!({"clientSecret": domain.secret})).send().status == 200
}

#[track_caller]
fn is_dormant(gate: &Gate, domain: &Domain) -> bool {
    let listed = gate.get("/v1/domains").token(token(gate)).send().expect(200);
    let listed = listed["payload"].as_array().expect("domains");
    let domain = listed.iter().find(|row| row["id"] == *domain.id).expect("the domain");
    domain["dormant"].as_bool().expect("a truth value")
}

/// A new token of the only user, whose first token has expired.
fn token(gate: &Gate) -> String {
    let body = json!({"username": "alice", "password": PASSWORD});
    gate.post("/v1/signin").json(&body).send().expect(200)["token"].as_str().expect("a token").to_owned()
}

#[test]
fn dormancy__unused_domain_after_90_days() {
    let gate = Gate::start();
    let (_, domain, access) = gate.tenant("alice");
    pass_days(&gate, 89);
    assert!(!is_dormant(&gate, &domain));
    pass_days(&gate, 2);
    assert!(is_dormant(&gate, &domain));
    gate.post("/token").json(&json!({"clientSecret": domain.secret})).send().refused(401, "unknown_client");
    gate.get("/v1/test").token(&access).send().refused(401, "revoked");
    assert_eq!(gate.app.directory.domain_count(), 0, "the dormant domain is not in memory");
    // The audit log shows the owner since when.
    let audit = gate.get("/v1/audit?limit=1").token(token(&gate)).send().expect(200);
    assert_eq!(
        (&audit["payload"][0]["action"], &audit["payload"][0]["target"]),
        (&json!("domain.dormant"), &json!(domain.id))
    );
    // Nor is it loaded after a restart.
    let gate = gate.restart(&[]);
    assert_eq!(gate.app.directory.domain_count(), 0);
    assert!(!works(&gate, &domain) && is_dormant(&gate, &domain));
}

/// An action on a domain.
type Act<'a> = &'a dyn Fn(&Gate, &Domain);

/// By a change of its owner or of the operator.
#[test]
fn dormancy__ended_by_a_change() {
    let by_change = |gate: &Gate, domain: &Domain| {
        let path = format!("/v1/domains/{}", domain.id);
        let shown = gate.get(&path).token(token(gate)).send();
        let tag = shown.header("etag").expect("a tag");
        let body = json!({"type": "free"});
        let changed = gate.patch(&path).token(token(gate)).header("If-Match", tag).json(&body).send();
        assert_eq!(changed.expect(200)["payload"]["dormant"], false);
    };
    let by_rotation = |gate: &Gate, domain: &Domain| {
        let path = format!("/v1/domains/{}/secrets", domain.id);
        gate.post(&path).token(token(gate)).json(&json!({})).send().expect(201);
    };
    let by_operator = |gate: &Gate, domain: &Domain| {
        let listed = run(&mut gatebird(&gate.database, &["domain", "list"], &[]), "").good();
        assert!(listed.trim_end().ends_with("dormant"), "{listed}");
        run(&mut gatebird(&gate.database, &["domain", "allow", &domain.id, "--all"], &[]), "").good();
        within(PROMISED, "the domain is in memory again", || works(gate, domain));
    };
    let ways: [Act<'_>; 3] = [&by_change, &by_rotation, &by_operator];
    for wake in ways {
        let gate = Gate::start();
        let (_, domain, _) = gate.tenant("alice");
        pass_days(&gate, 91);
        assert!(is_dormant(&gate, &domain) && !works(&gate, &domain));
        wake(&gate, &domain);
        assert!(works(&gate, &domain) && !is_dormant(&gate, &domain));
        gate.get("/v1/test").token(gate.access_token(&domain)).send().expect(200);
        pass_days(&gate, 89);
        assert!(!is_dormant(&gate, &domain), "the 90 days start again");
        pass_days(&gate, 2);
        assert!(is_dormant(&gate, &domain));
    }
}

#[test]
fn dormancy__not_for_a_used_or_verified_domain() {
    let gate = Gate::start();
    let (owner, used, _) = gate.tenant("alice");
    let [changed, verified, counted, idle] =
        ["changed", "verified", "counted", "idle"].map(|name| gate.register(&owner, &format!("{name}.example.com")));
    gate.execute(&format!("UPDATE domains SET verified_at = 1 WHERE id = '{}'", verified.id));
    pass_days(&gate, 60);
    assert!(works(&gate, &used));
    let path = format!("/v1/domains/{}", changed.id);
    gate.patch(&path).token(token(&gate)).json(&json!({"type": "free"})).send().expect(200);
    let day = gate.clock.now() / DAY;
    let count =
        format!("INSERT INTO usage (domain_id, day, kind, count) VALUES ('{}', {day}, 'tokens', 1)", counted.id);
    gate.execute(&count);
    pass_days(&gate, 40);
    let dormant = |domain: &Domain| is_dormant(&gate, domain);
    assert!(!dormant(&used) && !dormant(&changed) && !dormant(&verified) && !dormant(&counted) && dormant(&idle));
    pass_days(&gate, 52);
    assert!(dormant(&used) && dormant(&changed) && !dormant(&verified) && dormant(&counted));
}

#[test]
fn dormancy__not_by_a_wrong_clock() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    pass_days(&gate, 0);
    for wrong in [91 * DAY, 500 * DAY, 1000 - gate.clock.now()] {
        gate.clock.set_wrong(wrong);
        (0..3).for_each(|_| pass_days(&gate, 0));
        gate.clock.set_wrong(0);
        assert!(works(&gate, &domain) && !is_dormant(&gate, &domain), "{wrong}");
    }
}

/// Only on PostgreSQL.
#[test]
fn dormancy__reaches_other_nodes_within_two_seconds() {
    if needs_postgres().is_none() {
        return;
    }
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    let other = gate.another_node();
    within(PROMISED, "the other node knows it", || works(&other, &domain));
    pass_days(&gate, 91);
    within(PROMISED, "the other node forgets it", || {
        !works(&other, &domain) && other.app.directory.domain_count() == 0
    });
    let path = format!("/v1/domains/{}", domain.id);
    let changed: Value = gate.patch(&path).token(token(&gate)).json(&json!({"type": "free"})).send().expect(200);
    assert_eq!(changed["payload"]["dormant"], false);
    within(PROMISED, "the other node knows it again", || works(&other, &domain));
}
