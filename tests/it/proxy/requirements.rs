//! Requirements of an operator at `/verify`, which no caller can state or weaken; the method and the path that proxies
//! forward; and pre-flights.

use diesel::{ExpressionMethods, RunQueryDsl};
use gatebird::db::schema::domains;

use super::{IDENTITY, form_token, identity, refused};
use crate::harness::{Gate, Reply, Request};

const METHODS: [&str; 11] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "get"];
const PAGE: &str = "https://alice.example.com";

/// Paths below `/verify`, as proxies append the path of a request.
const PATHS: [&str; 9] = [
    "/verify/",
    "/verify/posts",
    "/verify/posts/1/comments",
    "/verify//posts",
    "/verify/verify",
    "/verify/%2e%2e/token",
    "/verify/a%2Fb",
    "/verify/%EA%B2%80%EC%83%89",
    "/verify/v1/token",
];

#[test]
fn verify__answers_every_method_and_every_path_below_it() {
    let gate = Gate::start();
    let (user, _, token) = gate.tenant("alice");
    for path in ["/verify"].iter().chain(&PATHS) {
        let of_get = identity(&gate.get(path).token(&token).send());
        for method in METHODS {
            let ask = || gate.request(method, path);
            assert_eq!(identity(&ask().token(&token).send()), of_get, "{method} {path}");
            identity(&ask().token(&user.token).send());
            identity(&ask().token(&token).body("text/plain", "a body").send());
            for (refusal, reason) in [(ask().send(), "missing"), (ask().token("x").send(), "invalid")] {
                assert_eq!(
                    (refusal.status, refusal.header("x-gatebird-reason")),
                    (401, Some(reason)),
                    "{method} {path}"
                );
            }
        }
    }
    for path in ["/verify-x", "/verifyx", "/v1/verify", "/Verify", "//verify", "/verify%2Fx"] {
        gate.get(path).token(&token).send().refused(404, "not_found");
    }
    let metrics = gate.app.metrics_text();
    assert!(metrics.contains("gatebird_requests_total{route=\"/verify\",method=\"HEAD\",status=\"200\"}"), "{metrics}");
}

/// A proxy may ask as often as a user calls: a forwarded method changes nothing.
#[test]
fn verify__forwarded_method_spends_no_change_budget() {
    let gate = Gate::with(&[("LIMIT_CHANGES", "3/h")]);
    let user = gate.sign_up("alice");
    for _ in 0..20 {
        identity(&gate.post("/verify").token(&user.token).send());
        identity(&gate.delete("/verify/posts/1").token(&user.token).send());
    }
}

#[test]
fn verify__query_behind_an_appended_path_is_the_callers() {
    let gate = Gate::with(&[("AUDIENCES", "urn:example:api")]);
    let (_, domain, token) = gate.tenant("alice");
    let elsewhere = form_token(&gate, &domain, "&resource=urn:example:api");
    for path in PATHS {
        for query in ["a=b", "limit=1&cursor=x", "scop=x", "", "&&", "=", "%ff"] {
            identity(&gate.get(&format!("{path}?{query}")).token(&token).send());
            refused(query, &gate.get(&format!("{path}?{query}")).token(&elsewhere).send(), 401, "invalid");
        }
        for query in [
            "audience=urn:example:api",
            "a=b&audience=urn:example:api",
            "aud%69ence=urn:example:api",
            "audience=urn:example:api&audience=x",
            "scope=posts:read",
            "host=alice.example.com",
            "scope",
        ] {
            for token in [&token, &elsewhere] {
                refused(query, &gate.get(&format!("{path}?{query}")).token(token).send(), 403, "malformed");
            }
        }
    }
}

/// As forwarded by a Caddy with `uri /verify`, a Traefik or an nginx.
#[test]
fn verify__requirement_in_the_callers_query_is_refused() {
    let gate = Gate::with(&[("AUDIENCES", "urn:example:api")]);
    let (_, domain, token) = gate.tenant("alice");
    let elsewhere = form_token(&gate, &domain, "&resource=urn:example:api");
    for header in ["X-Forwarded-Uri", "X-Original-URI", "x-original-url"] {
        for (query, target) in [
            ("audience=urn:example:api", "/x?audience=urn:example:api"),
            ("audience=urn:example:api", "/x?audience=urn%3Aexample%3Aapi"),
            ("audience=urn:example:api", "/x?a=b&audience=urn:example:api"),
            ("audience=urn:example:api", "/x?audience=urn:example:api#fragment"),
            ("audience=urn:example:api", "/x#?audience=urn:example:api"),
            ("audience=urn:example:api", "/#/x?audience=urn:example:api"),
            ("audience=urn:example:api", "/x?a=b#audience=urn:example:api"),
            ("audience=urn:example:api", "https://api.example.com/x?audience=urn:example:api"),
            ("scope=posts:read&audience=urn:example:api", "/x?audience=urn:example:api"),
        ] {
            let request = gate.get(&format!("/verify?{query}")).header(header, target);
            let body = refused(target, &request.token(&elsewhere).send(), 403, "malformed");
            assert_eq!(body["message"], "A request cannot state requirements for its own token in its query");
        }
        // A second header hides nothing.
        let request = gate.get("/verify?audience=urn:example:api").header(header, "/x").token(&elsewhere);
        refused("twice", &request.header(header, "/x?audience=urn:example:api").send(), 403, "malformed");
        for (query, target) in [
            ("scope=posts:read", "/posts"),
            ("scope=posts:read", "/posts?"),
            ("scope=posts:read", "/posts?scope=posts:write&page=2"),
            ("scope=posts:read", "/posts?page=2"),
            ("", "/posts?page=2"),
            ("", "/posts?scope=posts:read"),
            ("", "?"),
            ("", ""),
        ] {
            identity(&gate.get(&format!("/verify?{query}")).header(header, target).token(&token).send());
        }
    }
}

fn demanding(gate: &Gate, token: &str, query: &str, headers: &[(&str, &str)]) -> Reply {
    let request = gate.get(&format!("/verify{query}")).token(token);
    headers
        .iter()
        .fold(request, |request, (name, value)| request.header(&format!("X-Gatebird-Require-{name}"), value))
        .send()
}

#[test]
fn verify__requirement_headers_never_weaken_the_query() {
    let gate = Gate::with(&[("AUDIENCES", "urn:example:api"), ("UNVERIFIED_HOSTS", "allow")]);
    let (user, domain, token) = gate.tenant("alice");
    let reader = form_token(&gate, &domain, "&scope=posts:read");
    let elsewhere = form_token(&gate, &domain, "&resource=urn:example:api");
    let both = form_token(&gate, &domain, "&resource=urn:example:api&resource=https://gate.test");
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], u16, &'a str);
    let rows: &[Row<'_>] = &[
        (&token, "", &[("Scope", "posts:read posts:write")], 200, ""),
        (&reader, "", &[("Scope", "posts:read")], 200, ""),
        (&reader, "", &[("scope", "posts:write")], 403, "scope"),
        (&reader, "", &[("SCOPE", "posts:read  posts:write")], 403, "scope"),
        (&reader, "", &[("Scope", "posts:read+posts:write")], 403, "scope"),
        (&reader, "?scope=posts:read", &[("Scope", "posts:write")], 403, "scope"),
        (&reader, "?scope=posts:write", &[("Scope", "posts:read")], 403, "scope"),
        (&token, "?scope=posts:write", &[("Scope", "posts:read")], 200, ""),
        (&token, "", &[("Host", "alice.example.com")], 200, ""),
        (&token, "", &[("Host", "mallory.example.com")], 403, "host"),
        (&token, "?host=alice.example.com", &[("Host", "mallory.example.com")], 403, "host"),
        (&token, "?host=mallory.example.com", &[("Host", "alice.example.com")], 403, "host"),
        (&user.token, "", &[("Host", "alice.example.com")], 403, "host"),
        // The audience is the issuer unless the query names another one. A header can only add.
        (&elsewhere, "", &[("Audience", "urn:example:api")], 401, "invalid"),
        (&elsewhere, "?audience=urn:example:api", &[("Audience", "https://gate.test")], 401, "invalid"),
        (&elsewhere, "?audience=urn:example:api", &[("Audience", "urn:example:api")], 200, ""),
        (&token, "", &[("Audience", "urn:example:api")], 401, "invalid"),
        (&both, "", &[("Audience", "urn:example:api")], 200, ""),
        (&token, "", &[("Audience", "https://gate.test")], 200, ""),
        // Requirements that are not understood are refused.
        (&token, "", &[("Scope", "")], 403, "malformed"),
        (&token, "", &[("Host", "")], 403, "malformed"),
        (&token, "", &[("Audience", " ")], 403, "malformed"),
        (&token, "", &[("Scope", "posts:read"), ("Scope", "posts:read")], 403, "malformed"),
        (&token, "", &[("Scope", "검색")], 403, "malformed"),
        (&token, "", &[("Scopes", "posts:read")], 403, "malformed"),
        (&token, "?scope=posts:read", &[("aud", "urn:example:api")], 403, "malformed"),
        (&token, "", &[("", "posts:read")], 403, "malformed"),
        (&token, "", &[("Scope", "posts:read"), ("Host", "alice.example.com")], 200, ""),
    ];
    for (token, query, headers, status, reason) in rows {
        let reply = demanding(&gate, token, query, headers);
        match status {
            200 => drop(identity(&reply)),
            _ => drop(refused(&format!("{query} {headers:?}"), &reply, *status, reason)),
        }
    }
    // Also behind an appended path, where headers are the only way.
    let below = || gate.get("/verify/posts?page=2").token(&reader);
    refused("below", &below().header("X-Gatebird-Require-Scope", "posts:write").send(), 403, "scope");
    refused("below", &below().header("X-Gatebird-Require-Scopes", "posts:read").send(), 403, "malformed");
}

/// Makes the control of every host verified.
fn verify_hosts(gate: &Gate) {
    let verify = |conn: &mut gatebird::db::Conn| {
        Ok(diesel::update(domains::table).set(domains::verified_at.eq(Some(1_i64))).execute(conn)?)
    };
    gate.app.db.change_now(verify, |conn| gate.app.directory.catch_up(conn)).expect("the database answers");
}

#[test]
fn verify__required_host_must_be_verified() {
    for allowed in [false, true] {
        let setting = [("UNVERIFIED_HOSTS", "allow")];
        let gate = Gate::with(if allowed { &setting[..] } else { &[] });
        let (user, _, token) = gate.tenant("alice");
        let by_query = || gate.get("/verify?host=alice.example.com");
        let by_header = || gate.get("/verify").header("X-Gatebird-Require-Host", "alice.example.com");
        let answer = |request: Request| {
            let reply = request.send();
            identity(&reply);
            reply.header("x-gatebird-host-verified").map(str::to_owned)
        };
        assert_eq!(answer(gate.get("/verify").token(&token)).as_deref(), Some("false"));
        assert_eq!(answer(gate.get("/verify").token(&user.token)).as_deref(), Some("false"));
        for request in [by_query().token(&token), by_header().token(&token)] {
            match allowed {
                true => assert_eq!(answer(request).as_deref(), Some("false")),
                false => {
                    let body = refused("unverified", &request.send(), 403, "unverified");
                    assert_eq!(
                        body["message"],
                        "Control of the token's host is not verified: the domain's owner must verify it"
                    );
                }
            }
        }
        // The host is compared first.
        refused("another", &gate.get("/verify?host=other.example.com").token(&token).send(), 403, "host");
        verify_hosts(&gate);
        for request in [gate.get("/verify"), by_query(), by_header()] {
            assert_eq!(answer(request.token(&token)).as_deref(), Some("true"));
        }
        refused("another", &gate.get("/verify?host=other.example.com").token(&token).send(), 403, "host");
        assert_eq!(answer(gate.get("/verify").token(&user.token)).as_deref(), Some("false"));
    }
}

fn preflight(gate: &Gate, path: &str, origin: &str) -> Request {
    let request = gate.request("OPTIONS", path).header("Access-Control-Request-Method", "PUT");
    request.header("Access-Control-Request-Headers", "authorization,x-idempotency-key").header("Origin", origin)
}

#[test]
fn preflight__answered_at_verify_for_a_registered_host() {
    let gate = Gate::start();
    gate.tenant("alice");
    for path in ["/verify", "/verify?page=2", "/verify?audience=x"] {
        let reply = preflight(&gate, path, PAGE).send();
        assert_eq!((reply.status, reply.text().as_str()), (204, ""), "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), Some(PAGE));
        let methods = reply.header("access-control-allow-methods").expect("methods");
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            assert!(methods.split(", ").any(|one| one == method), "{method}: {methods}");
        }
        let headers = reply.header("access-control-allow-headers").expect("headers");
        assert!(headers.split(", ").any(|one| one == "authorization") && headers.ends_with(", *"), "{headers}");
        assert!(IDENTITY.iter().all(|name| reply.header(name).is_none()), "{reply:?}");
        let reply = preflight(&gate, path, "https://evil.example.com").send();
        reply.refused(403, "origin");
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
}

/// Some proxies treat every 2xx as permission, so a forwarded pre-flight is checked like any request.
#[test]
fn preflight__forwarded_by_a_proxy_needs_a_token() {
    let gate = Gate::start();
    let (_, _, token) = gate.tenant("alice");
    for header in ["X-Forwarded-Uri", "X-Original-URI", "X-Original-URL"] {
        let asked =
            || preflight(&gate, "/verify", PAGE).header(header, "/posts").header("X-Forwarded-Method", "OPTIONS");
        refused(header, &asked().send(), 401, "missing");
        identity(&asked().token(&token).send());
    }
    for path in PATHS {
        refused(path, &preflight(&gate, path, PAGE).send(), 401, "missing");
    }
    for request in [
        gate.request("OPTIONS", "/verify").header("Origin", PAGE),
        gate.request("OPTIONS", "/verify").header("Access-Control-Request-Method", "GET"),
        gate.request("OPTIONS", "/verify"),
        gate.get("/verify").header("Origin", PAGE).header("Access-Control-Request-Method", "GET"),
        gate.post("/verify").header("Origin", PAGE).header("Access-Control-Request-Method", "GET"),
    ] {
        refused("no pre-flight", &request.send(), 401, "missing");
    }
}
