//! Routes that a page can reach: those that take a domain's token or secret, and public documents.

use std::collections::BTreeSet;

use super::{HOST, OWN, from, tenant};
use crate::harness::Gate;
use crate::matrix::Cast;
use crate::openapi::Document;

const DOCUMENTS: [&str; 4] = [
    "/.well-known/jwks.json",
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
    "/openapi.json",
];

#[test]
fn preflight__passes_only_where_a_domains_credential_is_taken() {
    let gate = Gate::start();
    tenant(&gate, "bob", HOST);
    let cast = Cast::new(&gate, 0);
    let document = Document::of(&gate);
    let mut passed = BTreeSet::new();
    for (operation, _) in document.operations() {
        let (method, pattern) = operation.split_once(' ').expect("two words");
        let path = cast.fill(pattern, 0);
        let request = gate.request("OPTIONS", &path).header("Access-Control-Request-Method", method);
        let reply = from(request, OWN).send();
        match reply.status {
            204 => drop(passed.insert(pattern.to_owned())),
            _ => drop(reply.refused(405, "method")),
        }
    }
    let taken = [
        "/introspect",
        "/revoke",
        "/token",
        "/v1/posts",
        "/v1/posts/hashtag/{title}",
        "/v1/posts/my",
        "/v1/posts/{id}",
        "/v1/test",
        "/v1/token",
        "/verify",
    ];
    let expected: BTreeSet<String> = taken.into_iter().chain(DOCUMENTS).map(str::to_owned).collect();
    assert_eq!(passed, expected);
}

/// A request that `fetch` sends without a pre-flight cannot try passwords.
#[test]
fn sign_in__from_a_page_cannot_be_sent_without_a_preflight() {
    let gate = Gate::with(&[("LIMIT_PASSWORDS", "2/d")]);
    tenant(&gate, "alice", HOST);
    let body = "{\"username\":\"alice\",\"password\":\"wrong wrong wrong\"}";
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        for _ in 0..5 {
            let reply = from(gate.post("/v1/signin").body(kind, body), OWN).send();
            assert_eq!(reply.status, 415, "{kind}: {}", reply.text());
        }
    }
    let credentials = crate::harness::json!({"username": "alice", "password": crate::harness::PASSWORD});
    gate.post("/v1/signin").json(&credentials).send().expect(200);
}

#[test]
fn document__is_read_by_every_page() {
    let gate = Gate::start();
    tenant(&gate, "alice", HOST);
    for path in DOCUMENTS {
        for origin in [OWN, "https://evil.com", "null", "http://localhost:3000", "https://a.test, https://b.test"] {
            for method in ["GET", "HEAD"] {
                let reply = from(gate.request(method, path), origin).send();
                assert_eq!(reply.status, 200, "{path}");
                assert_eq!(reply.header("access-control-allow-origin"), Some("*"), "{method} {path} from {origin}");
                let asked = gate.request("OPTIONS", path).header("Access-Control-Request-Method", method);
                let preflight = from(asked, origin).send();
                assert_eq!(preflight.status, 204, "{path} from {origin}");
                assert_eq!(preflight.header("access-control-allow-origin"), Some("*"), "{path} from {origin}");
                assert_eq!(preflight.header("access-control-allow-methods"), Some("GET, HEAD"), "{path}");
            }
            // A refusal is as public as the document.
            let refusal = from(gate.post(path), origin).send();
            refusal.refused(405, "method");
            assert_eq!(refusal.header("access-control-allow-origin"), Some("*"), "{path} from {origin}");
        }
        // A cache may hand the answer to any page.
        assert_eq!(gate.get(path).send().header("access-control-allow-origin"), Some("*"), "{path}");
    }
    for path in ["/healthz", "/readyz", "/v1/test"] {
        let reply = from(gate.get(path), "https://evil.com").send();
        assert_eq!(reply.header("access-control-allow-origin"), None, "{path}");
    }
}
