//! What all answers have in common: shape, language, headers and request id; also when the framework, a malformed
//! request or a panic is the cause.

mod connections;
mod flood;
mod head_method;
pub mod keep_alive;
mod malformed_head;
mod panics;
mod raw;
mod request_head;
mod smuggling;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

pub use raw::{raw, raw_at, replies};

use crate::harness::{Gate, PASSWORD, Reply, Request, json, resigned};

#[test]
fn routing__unknown_path_is_404() {
    let gate = Gate::start();
    let (user, _, _) = gate.tenant("alice");
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v2/test",
        "/token/",
        "//token",
        "/TOKEN",
        "/Token",
        "/v1//test",
        "/v1/./test",
        "/v1/x/../test",
        "/v1/test/",
        "/v1/test;x=1",
        "/v1/%74est/x",
        "/v1/test%2f",
        "/v1%2ftest",
        "/v1/test%00",
        "/%2e%2e/token",
        "/metrics",
        "/v1/metrics",
        "/debug",
        "/.env",
        "/.git/config",
        "/data/gatebird.db",
        "/v1/users",
        "/v1/domains/",
        "/v1/posts/hashtag/",
        "/v1/posts/1/2",
        "/favicon.ico",
        "/%c0%ae%c0%ae/token",
        "/v1/..%2ftoken",
        "/*",
        "/v1/*",
    ] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BOGUS"] {
            let reply = gate.request(method, path).token(&user.token).send();
            assert_eq!(reply.status, 404, "{method} {path}: {}", reply.text());
            let body = reply.refused(404, "not_found");
            assert_eq!(body["error"], "not_found");
        }
    }
}

#[test]
fn routing__wrong_method_is_405_with_allow() {
    let gate = Gate::start();
    for (path, allowed) in [
        ("/token", "POST"),
        ("/v1/token", "POST"),
        ("/v1/test", "GET"),
        ("/v1/signup", "POST"),
        ("/v1/signin", "POST"),
        ("/v1/me", "GET, DELETE"),
        ("/v1/me/password", "PUT"),
        ("/v1/domains", "GET, POST"),
        ("/v1/domains/dom_0000000000000000000000", "GET, PATCH, DELETE"),
        ("/v1/posts", "POST"),
        ("/v1/posts/1", "GET, PUT, DELETE"),
        ("/v1/posts/hashtag/rust", "GET"),
        ("/healthz", "GET"),
        ("/readyz", "GET"),
        ("/openapi.json", "GET"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "BOGUS", "get"]
        {
            // HEAD is allowed wherever GET is.
            if allowed.split(", ").any(|allowed| allowed == method) || method == "HEAD" {
                continue;
            }
            let reply = gate.request(method, path).send();
            assert_eq!(reply.status, 405, "{method} {path}: {}", reply.text());
            reply.refused(405, "method");
            let mut methods: Vec<&str> = reply.header("allow").expect("Allow").split(", ").collect();
            methods.retain(|method| *method != "HEAD" && *method != "OPTIONS");
            assert_eq!(methods.join(", "), allowed, "{method} {path}");
        }
    }
    // No header or parameter changes the method.
    let (user, _, _) = gate.tenant("alice");
    let post = gate.post("/v1/posts").token(&user.token).json(&json!({"content": "stays"})).send().expect(201);
    let path = format!("/v1/posts/{}?_method=DELETE", post["payload"]["id"]);
    let request = gate.get(&path).token(&user.token).header("X-HTTP-Method-Override", "DELETE");
    request.header("X-Method-Override", "DELETE").header("X-HTTP-Method", "DELETE").send().expect(200);
    gate.get(&path).token(&user.token).send().expect(200);
}

#[test]
fn json_body__malformed_or_of_another_type() {
    let gate = Gate::start();
    let behind = json!({"username": "alice", "password": PASSWORD}).to_string() + "}";
    let invalid: [&[u8]; 12] = [
        b"",
        b" ",
        b"{",
        b"{\"username\":",
        b"{\"username\":\"a\xFF\",\"password\":\"b\"}",
        b"\xFF\xFE{\0}\0",
        b"\xEF\xBB\xBF{}",
        behind.as_bytes(),
        b"{'username':'a'}",
        b"{\"username\":\"\\ud800\"}",
        b"{\"username\":\"a\nb\"}",
        b"username=a&password=b",
    ];
    for body in invalid {
        let reply = gate.post("/v1/signup").body("application/json", body).send();
        assert_eq!(reply.status, 400, "{:?}: {}", String::from_utf8_lossy(body), reply.text());
        reply.refused(400, "malformed");
    }
    for (content_type, status) in [
        ("application/json", 201),
        ("application/json; charset=utf-8", 201),
        ("application/json;charset=UTF-8", 201),
        ("text/plain", 415),
        ("text/json", 415),
        ("application/jsonp", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/xml", 415),
        ("*/*", 415),
        ("", 415),
    ] {
        let name = format!("user{}", content_type.len());
        let body = json!({"username": name, "password": PASSWORD}).to_string();
        let reply = gate.post("/v1/signup").body(content_type, body).send();
        assert_eq!(reply.status, status, "{content_type}: {}", reply.text());
        if status == 415 {
            reply.refused(415, "media_type");
        }
    }
}

#[test]
fn json_body__invalid_member_is_named() {
    let gate = Gate::start();
    for (body, field) in [
        (json!({"password": PASSWORD}), "username"),
        (json!({"username": "alice"}), "password"),
        (json!({"username": 1, "password": PASSWORD}), "username"),
        (json!({"username": "alice", "password": null}), "password"),
        (json!({"username": "alice", "password": PASSWORD, "nick": []}), "nick"),
        (json!({"username": "alice", "password": PASSWORD, "admin": true}), "admin"),
    ] {
        let reply = gate.post("/v1/signup").json(&body).send();
        assert_eq!(reply.status, 400, "{body}: {}", reply.text());
        assert_eq!(reply.refused(400, "invalid_field")["field"], field, "{body}");
    }
}

#[test]
fn path__decoded_once() {
    let gate = Gate::start();
    let user = gate.sign_up("alice");
    for segment in ["%zz", "%", "%F", "%FF", "%00", "%C0%AE", "%25%46%46", "%0d%0aX-Injected:%201", "%e2%80%ae"] {
        for path in ["/v1/posts/", "/v1/domains/", "/v1/posts/hashtag/"] {
            let reply = gate.get(&format!("{path}{segment}")).token(&user.token).send();
            assert!(matches!(reply.status, 400 | 404), "{path}{segment}: {}", reply.text());
            assert_eq!(reply.json()["requestId"].as_str(), reply.header("x-request-id"));
            assert!(reply.header("x-injected").is_none());
        }
    }
}

#[test]
fn request_head__over_16_kib_is_refused() {
    let gate = Gate::start();
    let (user, _, _) = gate.tenant("alice");
    let filled = |size: usize| gate.get("/v1/me").token(&user.token).header("X-Filler", "a".repeat(size)).send();
    filled(14 * 1024).expect(200);
    filled(17 * 1024).refused(431, "too_large");
    filled(100 * 1024).refused(431, "too_large");
    // More than the framework reads at all, and more lines than it counts.
    for head in [format!("X-Filler: {}\r\n", "a".repeat(1 << 20)), "X-Filler: a\r\n".repeat(1000)] {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: gate\r\n{head}\r\n");
        let replies = raw(&gate, request.as_bytes());
        assert!(replies.iter().all(|reply| matches!(reply.status, 400 | 431)), "{replies:?}");
        filled(0).expect(200);
    }
    let long_path = format!("/v1/posts/{}", "a".repeat(15 * 1024));
    let reply = gate.get(&long_path).token(&user.token).send();
    assert!(matches!(reply.status, 404 | 414 | 431), "{}", reply.status);
}

#[test]
fn connection__client_disconnects_mid_request() {
    let gate = Gate::start();
    let address = gate.url.strip_prefix("http://").expect("plain HTTP");
    for part in [
        "",
        "G",
        "POST /v1/signup HTTP/1.1\r\n",
        "POST /v1/signup HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"user",
        "POST /token HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a",
    ] {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream.write_all(part.as_bytes()).expect("sent");
        drop(stream);
    }
    gate.get("/healthz").send().expect(200);
}

/// Takes ten seconds of real time once.
#[test]
fn body_timeout__incomplete_body_is_408() {
    const HEAD: &str =
        "POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n";
    let gate = Gate::start();
    let address = gate.url.strip_prefix("http://").expect("plain HTTP");
    let timed_out = |what: &str, begin: &str, dribble: bool| {
        let (mut stream, started) = (TcpStream::connect(address).expect("the server listens"), Instant::now());
        stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
        stream.write_all(begin.as_bytes()).expect("the server reads");
        let (mut answer, mut part) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&answer).contains("\"timeout\"") {
            assert!(started.elapsed() < Duration::from_secs(15), "{what}: {:?}", String::from_utf8_lossy(&answer));
            match stream.read(&mut part) {
                Ok(0) => panic!("{what}: the connection was closed without an answer"),
                Ok(read) => answer.extend_from_slice(&part[..read]),
                Err(_) if dribble => stream.write_all(b" ").expect("the server reads"),
                Err(_) => {}
            }
        }
        let (last, took) = (replies(&answer).pop().expect("an answer"), started.elapsed());
        last.refused(408, "timeout");
        assert_eq!(last.header("connection"), Some("close"), "{what}");
        assert!(took > Duration::from_secs(8), "{what}: after {took:?}");
    };
    let chunked = HEAD.replace("Content-Length: 60", "Transfer-Encoding: chunked");
    let clients = [
        ("no part of it", HEAD.to_owned(), false),
        ("a part of it", format!("{HEAD}{{\"clientSecret\":"), false),
        ("a byte each second", HEAD.to_owned(), true),
        ("behind another request", format!("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n{HEAD}"), false),
        ("chunks that stop", format!("{chunked}2\r\n{{ \r\n"), false),
    ];
    std::thread::scope(|scope| {
        for (what, begin, dribble) in &clients {
            scope.spawn(|| timed_out(what, begin, *dribble));
        }
    });
}

#[test]
fn request_id__well_formed_one_is_kept() {
    let gate = Gate::start();
    for id in ["a", "req-1_2.3", "0af7651916cd43dd8448eb211c80319c", &"x".repeat(64)] {
        let reply = gate.get("/v1/test").header("X-Request-Id", id).send();
        assert_eq!(reply.header("x-request-id"), Some(id));
        assert_eq!(reply.refused(401, "missing")["requestId"], id);
        assert_eq!(gate.get("/healthz").header("X-Request-Id", id).send().header("x-request-id"), Some(id));
    }
    let mut seen = std::collections::HashSet::new();
    for id in ["", " ", "a b", "a\"b", "a;b", "a<b>", "é", "키", "a/b", "${x}", &"x".repeat(65), "a\tb"] {
        let reply = gate.get("/v1/test").header("X-Request-Id", id).send();
        let given = reply.header("x-request-id").expect("an id").to_owned();
        assert_ne!(given, id);
        assert!(given.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{given}");
        assert!(seen.insert(given), "an id came twice");
    }
    assert!(seen.insert(gate.get("/healthz").send().header("x-request-id").expect("an id").to_owned()));
}

#[test]
fn messages__language_by_accept_language() {
    const EN: &str = "The token is not valid: send a token of this server, as it was issued";
    const KO: &str = "유효하지 않은 토큰입니다. 이 서버에서 발급한 토큰을 그대로 보내세요";
    for (default, rows) in [
        ("en", [(None, EN), (Some("fr, de;q=0.9"), EN), (Some("*"), EN), (Some(""), EN), (Some("ko;q=0"), EN)]),
        ("ko", [(None, KO), (Some("fr, de;q=0.9"), KO), (Some("*"), KO), (Some(""), KO), (Some("en;q=0"), KO)]),
    ] {
        let gate = Gate::with(&[("DEFAULT_LOCALE", default)]);
        let always = [
            (Some("en"), EN),
            (Some("ko"), KO),
            (Some("ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7"), KO),
            (Some("en-GB,en;q=0.9,ko;q=0.8"), EN),
            (Some("en;q=0.1, ko;q=0.9"), KO),
            (Some("fr;q=1, ko;q=0.2, en;q=0.1"), KO),
            (Some("KO"), KO),
        ];
        for (asked, message) in rows.into_iter().chain(always) {
            let mut request = gate.get("/v1/test").token("x");
            if let Some(asked) = asked {
                request = request.header("Accept-Language", asked);
            }
            let body = request.send().refused(401, "invalid");
            assert_eq!(body["message"], message, "default {default}, asked {asked:?}");
            assert_eq!(body["error"], "invalid_token");
            assert_eq!(body["error_description"], EN, "the description is always English");
        }
        let hello = gate.get("/healthz").header("Accept-Language", "ko").send().expect(200);
        assert_eq!(hello["message"], "요청이 처리되었습니다");
    }
    let gate = Gate::start();
    let requests: [fn(&Gate) -> Request; 6] = [
        |gate| gate.get("/nowhere"),
        |gate| gate.get("/token"),
        |gate| gate.post("/token").json(&json!({"clientSecret": "x"})),
        |gate| gate.post("/token").json(&json!({})),
        |gate| gate.post("/v1/signup").body("text/plain", "x"),
        |gate| gate.post("/v1/signup").body("application/json", "x".repeat(17 * 1024)),
    ];
    for request in requests {
        let in_language = |language| request(&gate).header("Accept-Language", language).send().json();
        let (english, korean) = (in_language("en"), in_language("ko"));
        for member in ["code", "error", "error_description", "reason", "field"] {
            assert_eq!(english[member], korean[member], "{english}");
        }
        assert_ne!(english["message"], korean["message"], "{english}");
        assert_eq!(english["message"], english["error_description"]);
    }
}

#[test]
fn security_headers__on_every_answer() {
    let gate = Gate::start();
    let (_, domain, token) = gate.tenant("alice");
    let replies = [
        gate.get("/healthz").send(),
        gate.get("/v1/test").token(&token).send(),
        gate.get("/v1/test").token("x").send(),
        gate.get("/nowhere").send(),
        gate.get("/token").send(),
        gate.post("/token").json(&json!({"clientSecret": domain.secret})).send(),
        gate.post("/token").json(&json!({"clientSecret": "x"})).send(),
        gate.post("/token").body("text/plain", "x").send(),
        gate.post("/v1/signup").body("application/json", "x".repeat(17 * 1024)).send(),
        gate.get("/v1/posts/my").token(&token).send(),
        gate.get("/healthz").header("X-Filler", "a".repeat(17 * 1024)).send(),
    ];
    for reply in replies {
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{reply:?}");
        assert_eq!(reply.header("referrer-policy"), Some("no-referrer"), "{reply:?}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{reply:?}");
        assert_eq!(reply.header("content-type"), Some("application/json"), "{reply:?}");
        let vary = reply.header("vary").expect("Vary");
        for name in ["Origin", "Authorization"] {
            assert!(vary.split(", ").any(|part| part == name), "{vary}");
        }
        assert!(reply.header("strict-transport-security").is_none(), "not under http");
        assert!(reply.header("server").is_none() && reply.header("x-powered-by").is_none(), "{reply:?}");
    }
    let gate = Gate::with(&[("PUBLIC_URL", "https://gate.test")]);
    for reply in [gate.get("/healthz").send(), gate.get("/nowhere").send()] {
        let hsts = reply.header("strict-transport-security").expect("HSTS under https");
        let age: u64 =
            hsts.strip_prefix("max-age=").and_then(|age| age.split(';').next()?.parse().ok()).expect("an age");
        assert!(age >= 31_536_000, "{hsts}");
    }
}

#[test]
fn www_authenticate__on_every_401_and_419() {
    let gate = Gate::start();
    let (user, domain, token) = gate.tenant("alice");
    let challenge = |reply: &Reply| reply.header("www-authenticate").expect("a challenge").to_owned();
    let bearer =
        |reason: &str| format!("Bearer realm=\"gatebird\", error=\"invalid_token\", error_description=\"{reason}\"");

    let nothing = gate.get("/v1/test").send();
    nothing.refused(401, "missing");
    assert_eq!(challenge(&nothing), "Bearer realm=\"gatebird\"");
    let invalid = gate.get("/v1/test").token("x").send();
    invalid.refused(401, "invalid");
    assert_eq!(challenge(&invalid), bearer("The token is not valid: send a token of this server, as it was issued"));
    let korean = gate.get("/v1/test").token("x").header("Accept-Language", "ko").send();
    assert_eq!(
        challenge(&korean),
        bearer("The token is not valid: send a token of this server, as it was issued"),
        "a header is ASCII in every language"
    );
    let forged = resigned(&token, |_, claims| claims["gen"] = json!(-1));
    let revoked = gate.get("/v1/test").token(forged).send();
    revoked.refused(401, "revoked");
    assert_eq!(challenge(&revoked), bearer("The token has been revoked: request a new one"));

    let basic = gate.post("/token").basic(&domain.id, "wrong").form("grant_type=client_credentials").send();
    basic.refused(401, "malformed_secret");
    assert!(challenge(&basic).starts_with("Basic realm=\"gatebird\""), "{basic:?}");
    for reply in [
        gate.post("/token").json(&json!({"clientSecret": "wrong"})).send(),
        gate.post("/token")
            .form(format!("grant_type=client_credentials&client_id={}&client_secret=x", domain.id))
            .send(),
        gate.post("/token").form("grant_type=client_credentials").send(),
        gate.post("/v1/signin").json(&json!({"username": "alice", "password": "wrong password"})).send(),
    ] {
        assert_eq!(reply.status, 401, "{}", reply.text());
        assert!(reply.header("www-authenticate").is_some(), "RFC 9110 §15.5.2 demands a challenge: {reply:?}");
    }

    gate.clock.advance(61);
    let expired = gate.get("/v1/test").token(&token).send();
    expired.refused(419, "expired");
    assert_eq!(challenge(&expired), bearer("The token has expired: request a new one"));
    gate.get("/v1/me").token(&user.token).send().expect(200);
}
