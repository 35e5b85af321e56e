//! Resources below the domain of another tenant, requested with every method; and enumeration of ids.

use super::assert_no_server_error;
use crate::accounts::row_counts;
use crate::harness::{Gate, Reply, User, json};
use crate::http::keep_alive::KeepAlive;
use crate::matrix::{Cast, good_body};
use crate::openapi::Document;
use crate::posts::write;
use crate::tenancy::comparable;

/// Every method that a route, a cache or a proxy may know, with valid and invalid bodies.
const ASKED: &[(&str, &str)] = &[
    ("GET", ""),
    ("HEAD", ""),
    ("OPTIONS", ""),
    ("QUERY", ""),
    ("TRACE", ""),
    ("BOGUS", ""),
    ("POST", ""),
    ("POST", "{}"),
    ("POST", r#"{"graceSeconds":0}"#),
    ("POST", r#"{"graceSeconds":-1}"#),
    ("POST", "{"),
    ("PUT", r#"{"content":"stolen"}"#),
    ("PATCH", r#"{"type":"premium"}"#),
    ("PATCH", r#"{"type":"gold"}"#),
    ("DELETE", ""),
    ("DELETE", "{}"),
];

fn asked(gate: &Gate, path: &str, token: &str) -> Vec<(String, Reply)> {
    let send = |(method, body): &(&str, &str)| {
        let request = gate.request(method, path).token(token);
        let request = if body.is_empty() { request } else { request.body("application/json", *body) };
        (format!("{method} {path} {body}"), request.send())
    };
    ASKED.iter().map(send).collect()
}

/// Everything that the owner sees of a domain.
fn owner_view(gate: &Gate, owner: &User, domain: &str) -> Vec<String> {
    let places = ["", "/secrets", "/verification", "/usage?days=1"].map(|rest| format!("/v1/domains/{domain}{rest}"));
    let places = places.iter().map(String::as_str).chain(["/v1/domains", "/v1/posts/my", "/v1/audit", "/v1/me"]);
    places.map(|place| gate.get(place).token(&owner.token).send().expect(200)["payload"].to_string()).collect()
}

#[test]
fn idor__resources_of_another_tenants_domain_are_not_found() {
    let gate = Gate::start();
    let document = Document::of(&gate);
    let cast = Cast::new(&gate, 0);
    let mallory = gate.sign_up("eve");
    let own = gate.register(&mallory, "eve.example.com").id;
    let unknown = "dom_0123456789ABCDEFGHIJkl";
    // Usage shows once it is flushed.
    gate.app.flush().expect("the database answers");
    let before = (owner_view(&gate, &cast.user, &cast.domain.id), row_counts(&gate));
    let mut paths: Vec<String> =
        document.operations().map(|(name, _)| name.split(' ').nth(1).unwrap_or("").into()).collect();
    paths.sort();
    paths.dedup();
    let mut tried = 0;
    for path in paths.iter().filter(|path| path.starts_with("/v1/domains/{id}")) {
        let filled = |domain: &str, secret: &str| path.replace("{id}", domain).replace("{secretId}", secret);
        // Another tenant's domain against an unknown one; and, where the path has a second id, another tenant's secret
        // below the caller's own domain.
        let mut pairs = vec![(filled(&cast.domain.id, &cast.secret), filled(unknown, &cast.secret))];
        if path.contains("{secretId}") {
            pairs.push((filled(&own, &cast.secret), filled(&own, "4611686018427387904")));
            pairs.push((filled(&cast.domain.id, "4611686018427387904"), filled(unknown, "4611686018427387904")));
        }
        for (theirs, none) in pairs {
            for ((what, one), (_, other)) in
                asked(&gate, &theirs, &mallory.token).into_iter().zip(asked(&gate, &none, &mallory.token))
            {
                assert!((400..500).contains(&one.status), "{what}: {one:?}");
                assert_eq!(comparable(&one), comparable(&other), "{what}");
                assert!(!one.text().contains(&cast.name), "{what}: {}", one.text());
                assert_no_server_error(&what, &one);
                tried += 1;
            }
        }
    }
    assert!(tried >= 100, "{tried}");
    assert_eq!((owner_view(&gate, &cast.user, &cast.domain.id), row_counts(&gate)), before);
    // The refused requests had bodies that would have changed something.
    assert!(!good_body("POST /v1/domains/{id}/secrets").is_empty());
    gate.get("/v1/test").token(&cast.client).send().expect(200);
}

#[test]
fn idor__audit_cursor_of_another_tenant_shows_own_rows() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    let (mallory, _, _) = gate.tenant("mallory");
    for _ in 0..5 {
        write(&gate, &alice.token, "x");
    }
    let page = gate.get("/v1/audit?limit=2").token(&alice.token).send().expect(200);
    let cursor = page["nextCursor"].as_str().expect("another page").to_owned();
    let theirs = gate.get(&format!("/v1/audit?cursor={cursor}")).token(&mallory.token).send();
    let text = theirs.expect(200).to_string();
    assert!(!text.contains(&domain.id) && !text.contains(&format!("usr_{}", alice.id)), "{text}");
    assert!(!theirs.expect(200)["payload"].to_string().contains("post.created"), "{text}");
    for request in [gate.get("/v1/audit/1"), gate.delete("/v1/audit/1"), gate.get("/v1/audit/")] {
        request.token(&mallory.token).send().refused(404, "not_found");
    }
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        gate.request(method, "/v1/audit").token(&mallory.token).json(&json!({})).send().refused(405, "method");
    }
}

/// Ids of posts can be guessed. Each id of another tenant's post answers like an unknown one.
#[test]
fn idor__enumerating_post_ids_reveals_nothing() {
    let gate = Gate::start();
    let (alice, _, _) = gate.tenant("alice");
    let (mallory, _, _) = gate.tenant("mallory");
    let posts: Vec<i64> = (0..50).map(|number| write(&gate, &alice.token, &format!("canary {number} #x"))).collect();
    let mut connection = KeepAlive::to(&gate.url);
    let head = |number: &i64| {
        format!("GET /v1/posts/{number} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n", mallory.token)
    };
    let missing = gate.get("/v1/posts/4611686018427387904").token(&mallory.token).send();
    let first = posts[0] - 100;
    let numbers: Vec<i64> = (first.max(1)..first.max(1) + 10_000).collect();
    assert!(posts.iter().all(|post| numbers.contains(post)), "{posts:?}");
    for part in numbers.chunks(250) {
        let heads: Vec<String> = part.iter().map(head).collect();
        for (number, reply) in part.iter().zip(connection.ask_all(&heads)) {
            assert_eq!(comparable(&reply), comparable(&missing), "{number}");
        }
    }
    let own = gate.get("/v1/posts/my?limit=100").token(&alice.token).send().expect(200);
    assert_eq!(own["payload"].as_array().map(Vec::len), Some(50));
}
