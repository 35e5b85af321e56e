//! Which secrets work, until which second, and that a refusal does not say why.

use gatebird::db::domain;
use gatebird::secret::ClientSecret;

use super::{GRANT, invalid_client};
use crate::forgery::revoked::{change, domain_id, rotate};
use crate::forgery::time::at;
use crate::harness::{Domain, Gate, PASSWORD, Reply, json};

fn exchange(gate: &Gate, domain: &Domain) -> Reply {
    gate.post("/token").json(&json!({"clientSecret": domain.secret})).send()
}

#[test]
fn client_secret__retiring_works_until_its_deadline() {
    let gate = Gate::start();
    let (_, first, token) = gate.tenant("alice");
    let now = gate.clock.now();
    let second = at(&gate, now, || rotate(&gate, &first, 600));
    let deadline = now + 600;
    let status = |second_: i64, domain: &Domain| at(&gate, second_, || exchange(&gate, domain).status);
    // `at` may have rotated twice; the nearer deadline of the first secret stays, and that is this one.
    assert_eq!(status(now, &first), 200);
    assert_eq!(status(now, &second), 200);
    assert_eq!(status(deadline - 1, &first), 200);
    assert_eq!(status(deadline, &first), 401);
    assert_eq!(status(deadline + 1, &first), 401);
    at(&gate, deadline, || invalid_client("at the deadline", &exchange(&gate, &first)));
    assert_eq!(status(deadline, &second), 200);
    // Its tokens stay valid: a grace is planned.
    gate.clock.advance(now - gate.clock.now());
    gate.get("/v1/test").token(&token).send().expect(200);
}

#[test]
fn client_secret__nearer_deadline_is_kept() {
    let gate = Gate::start();
    let (_, first, _) = gate.tenant("alice");
    let now = gate.clock.now();
    let second = rotate(&gate, &first, 60);
    let third = rotate(&gate, &first, 6000);
    let status = |second: i64, domain: &Domain| at(&gate, second, || exchange(&gate, domain).status);
    assert_eq!((status(now + 50, &first), status(now + 70, &first)), (200, 401));
    assert_eq!((status(now + 5990, &second), status(now + 6010, &second)), (200, 401));
    assert_eq!(status(now + 100_000_000, &third), 200);
}

#[test]
fn client_secret__rotated_without_grace_ends_at_once() {
    let gate = Gate::start();
    let (_, first, _) = gate.tenant("alice");
    let second = rotate(&gate, &first, 600);
    let third = rotate(&gate, &first, 0);
    invalid_client("the first", &exchange(&gate, &first));
    invalid_client("the second, in its grace", &exchange(&gate, &second));
    exchange(&gate, &third).expect(200);
}

/// Never issued, or of a deleted domain or account: the refusals are equal.
#[test]
fn client_secret__former_and_unknown_are_indistinguishable() {
    let gate = Gate::start();
    let (user, deleted, _) = gate.tenant("alice");
    let named = |host: &str| gate.register(&user, host);
    let rotated = named("c.example.com");
    gate.delete(&format!("/v1/domains/{}", deleted.id)).token(&user.token).send().expect(200);
    rotate(&gate, &rotated, 0);
    let (gone, of_gone_user, _) = gate.tenant("gone-user");
    gate.delete("/v1/me").token(&gone.token).json(&json!({"password": PASSWORD})).send().expect(200);
    gate.clock.advance(120);

    let unknown = Domain { id: format!("dom_{}", "0".repeat(22)), secret: ClientSecret::random().reveal().into() };
    let all = [&unknown, &deleted, &rotated, &of_gone_user];
    let seen = |request: crate::harness::Request| {
        let reply = request.header("X-Request-Id", "the-same").send();
        invalid_client("refused", &reply);
        let mut headers = reply.headers.clone();
        headers.retain(|(name, _)| name != "date");
        headers.sort();
        (headers, reply.body)
    };
    for domain in all {
        let json = |domain: &Domain| seen(gate.post("/token").json(&json!({"clientSecret": domain.secret})));
        assert_eq!(json(domain), json(&unknown));
        let form = |domain: &Domain| {
            let body = format!("{GRANT}&client_id={}&client_secret={}", domain.id, domain.secret);
            seen(gate.post("/token").form(body))
        };
        assert_eq!(form(domain), form(&unknown));
        let basic = |domain: &Domain| seen(gate.post("/token").form(GRANT).basic(&domain.id, &domain.secret));
        assert_eq!(basic(domain), basic(&unknown));
    }
}

#[test]
fn domain_suspension__resumed_domain_gets_tokens() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    let id = domain_id(&domain);
    change(&gate, |conn| Ok(domain::set_suspended(conn, id, true)?));
    invalid_client("suspended", &exchange(&gate, &domain));
    change(&gate, |conn| Ok(domain::set_suspended(conn, id, false)?));
    exchange(&gate, &domain).expect(200);
}

#[test]
fn client_secret__shown_only_when_created() {
    let gate = Gate::start();
    let (user, domain, token) = gate.tenant("alice");
    for path in ["/v1/domains".to_owned(), format!("/v1/domains/{}", domain.id)] {
        let reply = gate.get(&path).token(&user.token).send();
        reply.expect(200);
        assert!(!reply.text().contains("gbs_") && !reply.text().contains("clientSecret"), "{}", reply.text());
    }
    let body = json!({"type": "premium"});
    let reply = gate.patch(&format!("/v1/domains/{}", domain.id)).token(&user.token).json(&body).send();
    reply.expect(200);
    assert!(!reply.text().contains("gbs_"), "{}", reply.text());
    let (_, claims) = crate::harness::parts(&token);
    assert!(!claims.to_string().contains(&domain.secret));
}
