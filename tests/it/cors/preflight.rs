//! Pre-flights: answered from memory, for the page of each registered host, with the methods of the path.

use std::collections::BTreeSet;

use super::{HOST, OWN, from, readable, tenant};
use crate::harness::{Gate, Reply, Request};
use crate::matrix::Cast;
use crate::oauth::out_of_reach;
use crate::openapi::Document;

fn preflight(gate: &Gate, path: &str, method: &str) -> Request {
    gate.request("OPTIONS", path).header("Access-Control-Request-Method", method)
}

fn list<'a>(reply: &'a Reply, name: &str) -> BTreeSet<&'a str> {
    reply.header(name).unwrap_or_else(|| panic!("no {name}: {reply:?}")).split(", ").collect()
}

#[test]
fn preflight__registered_page_gets_the_allowed_methods() {
    let gate = Gate::start();
    tenant(&gate, "bob", HOST);
    let cast = Cast::new(&gate, 0);
    let document = Document::of(&gate);
    let paths = ["/token", "/v1/token", "/introspect", "/v1/test", "/v1/posts", "/v1/posts/my", "/v1/posts/{id}"];
    for pattern in paths {
        let path = cast.fill(pattern, 0);
        for method in ["GET", "PUT", "DELETE", "BOGUS", "", "*"] {
            let request = preflight(&gate, &path, method)
                .header("Access-Control-Request-Headers", "authorization, x-evil, cookie")
                .header("Access-Control-Request-Private-Network", "true")
                .header("Access-Control-Request-Local-Network", "true");
            let reply = from(request, OWN).send();
            assert_eq!((reply.status, reply.text().as_str()), (204, ""), "{method} {path}");
            assert!(readable(&reply, OWN), "{method} {path}");
            let mut methods = document.methods(pattern);
            if methods.contains("GET") {
                methods.insert("HEAD".into());
            }
            assert_eq!(list(&reply, "access-control-allow-methods"), methods.iter().map(String::as_str).collect());
            let headers = ["authorization", "content-type", "accept-language", "if-match", "x-request-id"];
            assert_eq!(list(&reply, "access-control-allow-headers"), BTreeSet::from(headers));
            assert_eq!(reply.header("access-control-max-age"), Some("600"));
        }
        let reply = from(preflight(&gate, &path, "GET"), "https://evil.com").send();
        let body = reply.refused(403, "origin");
        assert_eq!(body["error"], "access_denied");
        assert!(!readable(&reply, ""), "{path}");
    }
}

/// A request without both headers is no pre-flight, so OPTIONS is not allowed. An unknown path is not found.
#[test]
fn preflight__incomplete_preflight_is_an_ordinary_request() {
    let gate = Gate::start();
    let (_, _, token) = tenant(&gate, "alice", HOST);
    for path in ["/token", "/v1/test", "/v1/posts/1", "/v1/signin", "/healthz"] {
        gate.request("OPTIONS", path).send().refused(405, "method");
        gate.request("OPTIONS", path).token(&token).send().refused(405, "method");
        preflight(&gate, path, "GET").send().refused(405, "method");
        from(gate.request("OPTIONS", path), OWN).send().refused(405, "method");
        from(gate.request("OPTIONS", path), "https://evil.com").send().refused(405, "method");
    }
    for path in ["/nowhere", "/v1", "/v1/", "/v1/nowhere", "//token", "/token/", "/V1/test"] {
        let reply = from(preflight(&gate, path, "GET"), OWN).send();
        reply.refused(404, "not_found");
        assert!(readable(&reply, OWN), "{path}");
        assert!(!readable(&from(preflight(&gate, path, "GET"), "https://evil.com").send(), ""), "{path}");
    }
    // The header has no effect on other methods.
    let get = from(gate.get("/v1/test").token(&token), OWN).header("Access-Control-Request-Method", "GET");
    get.send().expect(200);
    let get =
        from(gate.get("/v1/test").token(&token), "https://evil.com").header("Access-Control-Request-Method", "GET");
    assert!(!readable(&get.send(), ""));
}

#[test]
fn preflight__needs_no_database_and_spends_no_limit() {
    let gate = Gate::with(&[("LIMIT_FREE", "2/h")]);
    let (_, _, token) = tenant(&gate, "alice", HOST);
    out_of_reach(&gate);
    for _ in 0..20 {
        let reply = from(preflight(&gate, "/v1/posts", "POST").token(&token), OWN).send();
        assert_eq!(reply.status, 204, "{}", reply.text());
        from(preflight(&gate, "/v1/posts", "POST"), "https://evil.com").send().refused(403, "origin");
    }
    gate.get("/v1/test").token(&token).send().expect(200);
    gate.get("/v1/test").token(&token).send().refused(429, "plan");
}

#[test]
fn preflight__refusal_is_localised() {
    let gate = Gate::start();
    let ask = |language| {
        from(preflight(&gate, "/token", "POST"), OWN).header("Accept-Language", language).send().refused(403, "origin")
    };
    let (english, korean) = (ask("en"), ask("ko"));
    assert_eq!(english["message"], "No domain is registered for the host of this web page: register it first");
    assert_eq!(korean["message"], "이 웹 페이지의 호스트는 등록된 도메인이 아닙니다. 먼저 등록하세요");
    assert_eq!(english["error_description"], korean["error_description"]);
}
