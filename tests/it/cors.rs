//! Which web page may read which answer: the page of the domain whose token or secret the request has. An answer to a
//! request of no known domain may be read by the page of each registered host.

use crate::harness::{Domain, Gate, Reply, Request, User, json, resigned};
use crate::matrix::expired_copy;
use crate::oauth::out_of_reach;

mod browser_secrets;
mod hosts;
mod preflight;
mod routes;

/// A user with a domain of that host, and a token of it.
fn tenant(gate: &Gate, name: &str, host: &str) -> (User, Domain, String) {
    let user = gate.sign_up(name);
    let domain = gate.register(&user, host);
    let token = gate.access_token(&domain);
    (user, domain, token)
}

/// Whether the page of that origin may read the answer. Also checks what holds for every answer.
#[track_caller]
fn readable(reply: &Reply, origin: &str) -> bool {
    let vary: Vec<&str> = reply.header("vary").expect("Vary on every answer").split(", ").collect();
    assert!(vary.contains(&"Origin") && vary.contains(&"Authorization"), "{reply:?}");
    let about: Vec<_> = reply.headers.iter().filter(|(name, _)| name.starts_with("access-control-")).collect();
    for (name, _) in &about {
        assert!(!name.contains("credentials") && !name.contains("private"), "{reply:?}");
        assert_eq!(about.iter().filter(|(other, _)| other == name).count(), 1, "{name} twice: {reply:?}");
    }
    let allowed = reply.header("access-control-allow-origin");
    match allowed {
        None => assert!(about.is_empty(), "{reply:?}"),
        Some(allowed) => assert_eq!(allowed, origin, "{reply:?}"),
    }
    allowed.is_some()
}

fn from(request: Request, origin: impl AsRef<[u8]>) -> Request {
    request.header("Origin", origin)
}

const HOST: &str = "shop.example.com";
const OWN: &str = "https://shop.example.com";

/// Texts that are close to the origin of [`HOST`], but not equal.
fn not_own() -> Vec<Vec<u8>> {
    let mut origins: Vec<Vec<u8>> = [
        "null",
        "NULL",
        "*",
        "undefined",
        "shop.example.com",
        "//shop.example.com",
        "https:shop.example.com",
        "https:/shop.example.com",
        "https:///shop.example.com",
        "https://",
        "://shop.example.com",
        "http://shop.example.com",
        "http://shop.example.com:443",
        "HTTPS://shop.example.com",
        "wss://shop.example.com",
        "ftp://shop.example.com",
        "file://shop.example.com",
        "chrome-extension://shop.example.com",
        "https://shop.example.com:443",
        "https://shop.example.com:80",
        "https://shop.example.com:8443",
        "https://shop.example.com:",
        "https://shop.example.com.",
        "https://.shop.example.com",
        "https://SHOP.example.com",
        "https://Shop.Example.Com",
        "https://shop.example.com/",
        "https://shop.example.com/path",
        "https://shop.example.com?",
        "https://shop.example.com#",
        "https://shop.example.com%00",
        "https://shop%2eexample.com",
        "https://evil-shop.example.com",
        "https://evilshop.example.com",
        "https://shop.example.com.evil.com",
        "https://shop.example.comevil.com",
        "https://shop.example.co",
        "https://example.com",
        "https://www.shop.example.com",
        "https://shopxexample.com",
        "https://shop_example.com",
        "https://shop.example.com@evil.com",
        "https://evil.com@shop.example.com",
        "https://user:password@shop.example.com",
        "https://evil.com/https://shop.example.com",
        "https://evil.com#https://shop.example.com",
        "https://shop.example.com https://evil.com",
        "https://evil.com https://shop.example.com",
        "https://shop.example.com, https://shop.example.com",
        "https://shop.example.com,https://evil.com",
        "https://shop.example.com;",
        "https://shop.example.com\tx",
        "https://localhost",
        "http://localhost:3000",
        "https://127.0.0.1",
        "https://[::1]",
        "https://xn--shop-.example.com",
    ]
    .map(|origin| origin.as_bytes().to_vec())
    .into();
    origins.push("https://ѕhop.example.com".into());
    origins.push("https://shop。example.com".into());
    origins.push(b"https://shop.example.com\xFF".into());
    origins.push(format!("https://{}shop.example.com", "a.".repeat(4000)).into());
    origins
}

#[test]
fn cors__only_the_exact_origin_is_allowed() {
    let gate = Gate::start();
    let (_, domain, token) = tenant(&gate, "alice", HOST);
    let secret = json!({"clientSecret": domain.secret});
    let requests: [(&str, &dyn Fn() -> Request, u16); 5] = [
        ("a good token", &|| gate.get("/v1/test").token(&token), 200),
        ("a good secret", &|| gate.post("/token").json(&secret), 200),
        ("a forged token", &|| gate.get("/v1/test").token("x"), 401),
        ("an unknown path", &|| gate.get("/nowhere"), 404),
        ("a pre-flight", &|| gate.request("OPTIONS", "/v1/test").header("Access-Control-Request-Method", "GET"), 403),
    ];
    for (name, request, status) in requests {
        for origin in not_own() {
            let shown = String::from_utf8_lossy(&origin).into_owned();
            let reply = from(request(), &origin).send();
            assert_eq!(reply.status, status, "{name} from {shown}: {}", reply.text());
            assert!(!readable(&reply, ""), "{name} from {shown}");
        }
        for more in [OWN, "https://evil.com", "null"] {
            for twice in [[OWN, more], [more, OWN]] {
                let reply = twice.into_iter().fold(request(), from).send();
                assert_eq!(reply.status, status, "{name} from {twice:?}: {}", reply.text());
                assert!(!readable(&reply, ""), "{name} from {twice:?}");
            }
        }
        let reply = from(request(), OWN).send();
        assert!(readable(&reply, OWN), "{name} from its own host: {reply:?}");
        let reply = request().send();
        assert!(!readable(&reply, ""), "{name} without an origin");
    }
}

/// A server sends no `Origin` and needs none.
#[test]
fn cors__requests_without_an_origin() {
    let gate = Gate::start();
    let (user, domain, token) = tenant(&gate, "alice", HOST);
    for (name, request, status) in [
        ("a good token", gate.get("/v1/test").token(&token), 200),
        ("a user's", gate.get("/v1/me").token(&user.token), 200),
        ("a good secret", gate.post("/token").json(&json!({"clientSecret": domain.secret})), 200),
        ("no token", gate.get("/v1/test"), 401),
    ] {
        let reply = request.send();
        assert_eq!(reply.status, status, "{name}: {}", reply.text());
        assert!(!readable(&reply, ""), "{name}");
    }
}

/// Requests of a page of [`HOST`], whose domain has that token: the status, and whether the domain is known when the
/// answer is made. If it is, no other page can read the answer.
#[test]
fn cors__errors_are_readable_by_the_right_page_only() {
    let gate = Gate::start();
    let limited = Gate::with(&[("LIMIT_FREE", "1/h")]);
    let broken = Gate::start();
    let (_, spent, spent_token) = tenant(&limited, "alice", HOST);
    let (_, _, unserved) = tenant(&broken, "alice", HOST);
    let (user, domain, token) = tenant(&gate, "alice", HOST);
    for gate in [&gate, &limited, &broken] {
        tenant(gate, "mallory", "mallory.example.org");
    }
    out_of_reach(&broken);
    broken.app.drain();
    let earlier = resigned(&token, |_, claims| claims["gen"] = json!(-1));
    let elsewhere = resigned(&token, |_, claims| claims["aud"] = json!(["https://other.test"]));
    let narrow = resigned(&token, |_, claims| claims["scope"] = json!("posts:read"));
    let secret = |domain: &Domain| json!({"clientSecret": domain.secret});
    let large = "x".repeat(70_000);
    let head = "x".repeat(17_000);
    let form = |rest: &str| format!("client_id={}&client_secret={}{rest}", domain.id, domain.secret);
    type Row<'a> = (&'a str, &'a dyn Fn() -> Request, u16, bool);
    let rows: &[Row<'_>] = &[
        ("a good token", &|| gate.get("/v1/test").token(&token), 200, true),
        ("a post", &|| gate.post("/v1/posts").token(&token).json(&json!({"content": "x"})), 201, true),
        ("for a proxy", &|| gate.get("/verify").token(&token), 200, true),
        ("a good secret", &|| gate.post("/token").json(&secret(&domain)), 200, true),
        ("the same under /v1", &|| gate.post("/v1/token").json(&secret(&domain)), 200, true),
        ("in a form", &|| gate.post("/token").form(form("&grant_type=client_credentials")), 200, true),
        ("introspection", &|| gate.post("/introspect").form(form("&token=x")), 200, true),
        ("revocation", &|| gate.post("/revoke").form(form("&token=x")), 200, true),
        ("no token", &|| gate.get("/v1/test"), 401, false),
        ("a forged token", &|| gate.get("/v1/test").token("x"), 401, false),
        ("an earlier generation", &|| gate.get("/v1/test").token(&earlier), 401, true),
        ("for another audience", &|| gate.get("/v1/test").token(&elsewhere), 401, true),
        ("an expired token", &|| gate.get("/v1/test").token(expired_copy(&token)), 419, true),
        ("an expired token, for a proxy", &|| gate.get("/verify").token(expired_copy(&token)), 401, true),
        ("a scope too little", &|| gate.post("/v1/posts").token(&narrow).json(&json!({"content": "x"})), 403, true),
        ("of the wrong kind", &|| gate.get("/v1/me").token(&token), 403, true),
        ("no such post", &|| gate.get("/v1/posts/1000000").token(&token), 404, true),
        ("a bad member", &|| gate.post("/v1/posts").token(&token).json(&json!({"content": 1})), 400, true),
        ("a token's body too large", &|| gate.post("/v1/posts").token(&token).json(&json!(large)), 413, true),
        ("a bad query", &|| gate.get("/v1/posts/my?limit=0").token(&token), 400, true),
        ("an unsupported grant", &|| gate.post("/token").form(form("&grant_type=password")), 400, true),
        ("a wrong secret", &|| gate.post("/token").json(&json!({"clientSecret": "x"})), 401, false),
        ("no JSON", &|| gate.post("/token").body("application/json", "{"), 400, false),
        ("a wrong type", &|| gate.post("/token").body("text/plain", "x"), 415, false),
        ("too large", &|| gate.post("/token").body("application/json", large.as_str()), 413, false),
        ("an unknown path", &|| gate.get("/nowhere").token(&token), 404, false),
        ("a wrong method", &|| gate.delete("/v1/test").token(&token), 405, false),
        ("too large a head", &|| gate.get("/v1/test").token(&token).header("X-Filler", &head), 431, false),
        ("over the limit", &|| limited.get("/v1/test").token(&spent_token), 429, true),
        ("over the limit, for a proxy", &|| limited.get("/verify").token(&spent_token), 403, true),
        ("over the limit at /token", &|| limited.post("/token").json(&secret(&spent)), 429, true),
        ("a failure", &|| broken.post("/v1/posts").token(&unserved).json(&json!({"content": "x"})), 500, true),
        ("unavailable", &|| broken.get("/readyz"), 503, false),
        ("a user's error", &|| gate.get("/v1/posts/1000000").token(&user.token), 404, false),
        ("wrong credentials", &|| gate.post("/v1/signin").json(&json!({"username": "x", "password": "y"})), 401, false),
    ];
    // The posts, which are to fail.
    broken.app.db.write_now(rename_posts).expect("the database answers");
    for (name, request, status, known) in rows {
        for (origin, expected) in
            [(OWN, true), ("https://mallory.example.org", !known), ("https://evil.com", false), ("null", false)]
        {
            let reply = from(request(), origin).send();
            assert_eq!(reply.status, *status, "{name} from {origin}: {}", reply.text());
            assert_eq!(readable(&reply, origin), expected, "{name} from {origin}: {reply:?}");
            if expected {
                let exposed = reply.header("access-control-expose-headers").expect("Access-Control-Expose-Headers");
                for header in ["X-Request-Id", "Retry-After", "WWW-Authenticate", "Sunset", "Link"] {
                    assert!(exposed.split(", ").any(|name| name == header), "{name}: {header} in {exposed}");
                }
            }
        }
    }
}

fn rename_posts(conn: &mut gatebird::db::Conn) -> gatebird::error::Result<()> {
    Ok(diesel::connection::SimpleConnection::batch_execute(conn, "ALTER TABLE posts RENAME TO posts_away")?)
}

/// Answers that belong to no domain are readable by no page.
#[test]
fn cors__answers_to_users_are_readable_by_no_page() {
    let gate = Gate::start();
    let (user, _, _) = tenant(&gate, "alice", HOST);
    let credentials = |name: &str| json!({"username": name, "password": crate::harness::PASSWORD});
    for (name, request, status) in [
        ("the account", gate.get("/v1/me").token(&user.token), 200),
        ("the claims", gate.get("/v1/test").token(&user.token), 200),
        ("the domains", gate.get("/v1/domains").token(&user.token), 200),
        ("for a proxy", gate.get("/verify").token(&user.token), 200),
        ("sign-in", gate.post("/v1/signin").json(&credentials("alice")), 200),
        ("sign-up", gate.post("/v1/signup").json(&credentials("bob")), 201),
        ("health", gate.get("/healthz"), 200),
        ("readiness", gate.get("/readyz"), 200),
    ] {
        let reply = from(request, OWN).send();
        assert_eq!(reply.status, status, "{name}: {}", reply.text());
        assert!(!readable(&reply, OWN), "{name}");
    }
}
