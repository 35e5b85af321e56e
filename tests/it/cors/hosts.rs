//! Which hosts are allowed: registered ones of active domains, in the notation of a browser's `Origin`.

use super::{HOST, OWN, from, readable, tenant};
use crate::accounts;
use crate::binary::{PROMISED, within};
use crate::domains::set_suspended;
use crate::harness::{Gate, PASSWORD, json, needs_postgres};

/// The status of a pre-flight from that page.
fn asked(gate: &Gate, origin: &str) -> u16 {
    let reply = from(gate.request("OPTIONS", "/token"), origin).header("Access-Control-Request-Method", "POST").send();
    assert_eq!(readable(&reply, origin), reply.status == 204, "{reply:?}");
    reply.status
}

#[test]
fn cors__origins_of_a_host() {
    let gate = Gate::start();
    let all = ["https://a.example.com", "https://a.example.com:8443", "http://localhost", "https://localhost:3000"];
    for (number, (host, own)) in [
        ("a.example.com", vec!["https://a.example.com"]),
        ("a.example.com:443", vec!["https://a.example.com"]),
        ("a.example.com:8443", vec!["https://a.example.com:8443"]),
        ("a.example.com:80", vec!["https://a.example.com:80"]),
        ("A.Example.COM:8443", vec!["https://a.example.com:8443"]),
        ("bücher.example.com", vec!["https://xn--bcher-kva.example.com"]),
        ("localhost", vec!["http://localhost", "https://localhost"]),
        ("localhost:80", vec!["http://localhost", "https://localhost"]),
        ("localhost:443", vec!["https://localhost", "http://localhost"]),
        ("localhost:3000", vec!["http://localhost:3000", "https://localhost:3000"]),
    ]
    .into_iter()
    .enumerate()
    {
        let (user, domain, token) = tenant(&gate, &format!("user{number}"), host);
        for origin in own.iter().chain(&all) {
            let is_own = own.contains(origin);
            let reply = from(gate.get("/v1/test").token(&token), origin).send();
            assert_eq!((reply.status, readable(&reply, origin)), (200, is_own), "{host} and {origin}");
            assert_eq!(asked(&gate, origin), if is_own { 204 } else { 403 }, "{host} and {origin}");
        }
        gate.delete(&format!("/v1/domains/{}", domain.id)).token(&user.token).send().expect(200);
        assert!(own.iter().all(|origin| asked(&gate, origin) == 403), "{host} is gone");
    }
}

#[test]
fn cors__page_of_another_tenant_reads_nothing() {
    let gate = Gate::start();
    let (_, mine, token) = tenant(&gate, "alice", HOST);
    let (_, _, their_token) = tenant(&gate, "mallory", "mallory.example.org");
    let theirs = "https://mallory.example.org";
    let introspect = format!("client_id={}&client_secret={}&token={their_token}", mine.id, mine.secret);
    for (name, request) in [
        ("my token", gate.get("/v1/test").token(&token)),
        ("my secret", gate.post("/token").json(&json!({"clientSecret": mine.secret}))),
        ("my secret, their token beside it", gate.post("/introspect").token(&their_token).form(introspect)),
    ] {
        let reply = from(request, theirs).send();
        assert_eq!((reply.status, readable(&reply, theirs)), (200, false), "{name}: {reply:?}");
    }
    let reply = from(gate.get("/v1/test").token(&their_token), theirs).send();
    assert!(readable(&reply, theirs));
    // A browser does not send the request of a page whose pre-flight was refused.
    assert_eq!(asked(&gate, "https://evil.com"), 403);
}

#[test]
fn cors__host_is_allowed_while_an_active_domain_has_it() {
    let gate = Gate::start();
    assert_eq!(asked(&gate, OWN), 403);
    let (alice, first, token) = tenant(&gate, "alice", HOST);
    assert_eq!(asked(&gate, OWN), 204);
    gate.patch(&format!("/v1/domains/{}", first.id))
        .token(&alice.token)
        .json(&json!({"type": "premium"}))
        .send()
        .expect(200);
    assert_eq!(asked(&gate, OWN), 204, "a change of something else");
    for _ in 0..2 {
        set_suspended(&gate, &first.id, true);
        assert_eq!(asked(&gate, OWN), 403);
        let reply = from(gate.get("/v1/test").token(&token), OWN).send();
        assert_eq!((reply.status, readable(&reply, OWN)), (401, false));
        set_suspended(&gate, &first.id, false);
        assert_eq!(asked(&gate, OWN), 204);
    }

    // Two domains of one host: one active domain suffices.
    let (bob, _, bobs) = tenant(&gate, "bob", HOST);
    let token = gate.access_token(&first);
    for token in [&token, &bobs] {
        let reply = from(gate.get("/v1/test").token(token), OWN).send();
        assert_eq!((reply.status, readable(&reply, OWN)), (200, true));
    }
    gate.delete(&format!("/v1/domains/{}", first.id)).token(&alice.token).send().expect(200);
    assert_eq!(asked(&gate, OWN), 204);
    let reply = from(gate.get("/v1/test").token(&token), OWN).send();
    assert_eq!((reply.status, readable(&reply, OWN)), (401, false), "the domain of the token is deleted");
    let gate = gate.restart(&[]);
    assert_eq!(asked(&gate, OWN), 204);
    let account = gate.delete("/v1/me").token(&bob.token).json(&json!({"password": PASSWORD}));
    account.send().expect(200);
    gate.app.remove_leftovers().expect("the database answers");
    assert_eq!(asked(&gate, OWN), 403, "the account and its domains were deleted");
}

/// A pre-flight names no domain; the request of a suspended owner's page is refused.
#[test]
fn cors__page_of_a_suspended_owner_gets_nothing() {
    let gate = Gate::start();
    let (_, domain, token) = tenant(&gate, "alice", HOST);
    accounts::set_suspended(&gate, "alice", true);
    let reply = from(gate.get("/v1/test").token(&token), OWN).send();
    assert_eq!((reply.status, readable(&reply, OWN)), (401, false));
    from(gate.post("/token").json(&json!({"clientSecret": domain.secret})), OWN).send().refused(401, "suspended");
}

#[test]
fn cors__hosts_reach_other_nodes_in_time() {
    if needs_postgres().is_none() {
        return;
    }
    let here = Gate::start();
    let other_node = here.another_node();
    let (alice, domain, _) = tenant(&here, "alice", HOST);
    within(PROMISED, "a registered host", || asked(&other_node, OWN) == 204);
    here.delete(&format!("/v1/domains/{}", domain.id)).token(&alice.token).send().expect(200);
    within(PROMISED, "a host that is gone", || asked(&other_node, OWN) == 403);
}
