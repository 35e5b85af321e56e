//! `GET /verify` as a reverse proxy calls it: the caller's identity, the decision and its reason. The behaviour of
//! nginx itself is tested in `tests/proxy`.

mod requirements;

use diesel::{ExpressionMethods, RunQueryDsl};
use gatebird::db::schema::users;

use crate::harness::{Domain, Gate, PASSWORD, Reply, Request, User, Value, check_each, json, parts, resigned};
use crate::http::raw;
use crate::oauth::out_of_reach;

/// The headers that the proxy passes on to the API.
const IDENTITY: [&str; 7] = [
    "x-gatebird-user",
    "x-gatebird-nick",
    "x-gatebird-domain",
    "x-gatebird-host",
    "x-gatebird-host-verified",
    "x-gatebird-scope",
    "x-gatebird-token-expires",
];

/// The headers about the caller, in that order. Each must be there once, and no other of that kind.
#[track_caller]
fn identity(reply: &Reply) -> [String; 7] {
    assert_eq!((reply.status, reply.body.len()), (200, 0), "{}", reply.text());
    let ours = reply.headers.iter().filter(|(name, _)| name.starts_with("x-gatebird-"));
    assert_eq!(ours.count(), IDENTITY.len(), "{reply:?}");
    IDENTITY.map(|name| reply.header(name).unwrap_or_else(|| panic!("no {name} in {reply:?}")).to_owned())
}

/// Checks a refusal for proxies: 401 or 403 with the reason in a header, and without an identity.
#[track_caller]
fn refused(name: &str, reply: &Reply, status: u16, reason: &str) -> Value {
    assert_eq!(reply.status, status, "{name}: {}", reply.text());
    let body = reply.refused(status, reason);
    assert_eq!(reply.header("x-gatebird-reason"), Some(reason), "{name}");
    assert!(IDENTITY.iter().all(|identity| reply.header(identity).is_none()), "{name}: {reply:?}");
    let challenge = reply.header("www-authenticate").unwrap_or_default();
    match (status, reason) {
        (401, "missing") => assert_eq!(challenge, "Bearer realm=\"gatebird\"", "{name}"),
        (401, _) => {
            assert!(challenge.starts_with("Bearer realm=\"gatebird\", error=\"invalid_token\""), "{name}: {challenge}")
        }
        (403, "scope") => assert!(challenge.contains("error=\"insufficient_scope\""), "{name}: {challenge}"),
        _ => {}
    }
    not_kept(name, reply);
    body
}

#[track_caller]
fn not_kept(name: &str, reply: &Reply) {
    assert_eq!((reply.header("cache-control"), reply.header("pragma")), (Some("no-store"), Some("no-cache")), "{name}");
    assert!(reply.header("vary").is_some_and(|vary| vary.contains("Authorization")), "{name}: {reply:?}");
    assert!(reply.header("set-cookie").is_none() && reply.header("x-injected").is_none(), "{name}: {reply:?}");
}

fn form_token(gate: &Gate, domain: &Domain, rest: &str) -> String {
    let body = format!("grant_type=client_credentials&client_id={}&client_secret={}{rest}", domain.id, domain.secret);
    gate.post("/token").form(body).send().expect(200)["access_token"].as_str().expect("a token").into()
}

fn sign_up(gate: &Gate, username: &str, nick: &str) -> User {
    let body = json!({"username": username, "password": PASSWORD, "nick": nick});
    let answer = gate.post("/v1/signup").json(&body).send().expect(201);
    User {
        token: answer["token"].as_str().expect("a token").into(),
        id: answer["payload"]["id"].as_i64().expect("a number"),
    }
}

#[test]
fn verify__good_token_yields_its_identity() {
    let names = [
        ("korean", "앨리스 킴", "%EC%95%A8%EB%A6%AC%EC%8A%A4%20%ED%82%B4"),
        ("alice", "alice", "alice"),
        ("percent", "100% a%20b+c", "100%25%20a%2520b%2Bc"),
        ("quotes", "\"a\", b=c; \\d/<e>&'f'", "%22a%22%2C%20b%3Dc%3B%20%5Cd%2F%3Ce%3E%26%27f%27"),
        ("emoji", "👩💻\u{e9}e\u{301}", "%F0%9F%91%A9%F0%9F%92%BB%C3%A9%C3%A9"),
        ("plain", "A-z0.9_~!*()", "A-z0.9_~%21%2A%28%29"),
    ];
    for (algorithm, names) in
        [("HS256", &names[..]), ("ES256", &names[..1]), ("EdDSA", &names[..1]), ("RS256", &names[..1])]
    {
        let gate = Gate::with(&[("JWT_ALGORITHM", algorithm), ("SCOPES", "posts:read posts:write orders")]);
        for (name, nick, encoded) in names {
            let user = sign_up(&gate, name, nick);
            let domain = gate.register(&user, &format!("{name}.example.com"));
            let id = user.id.to_string();
            let exp = |token: &str| parts(token).1["exp"].to_string();
            for (rest, scope) in [
                ("", "posts:read posts:write orders"),
                ("&scope=orders+posts:read", "orders posts:read"),
                ("&scope=posts:read", "posts:read"),
            ] {
                let token = form_token(&gate, &domain, rest);
                let reply = gate.get("/verify").token(&token).send();
                let host = format!("{name}.example.com");
                assert_eq!(identity(&reply), [&id, *encoded, &domain.id, &host, "false", scope, &exp(&token)]);
                not_kept(name, &reply);
                assert!(reply.header("x-gatebird-reason").is_none() && reply.header("www-authenticate").is_none());
                // The bare token works like everywhere.
                assert_eq!(identity(&gate.get("/verify").header("Authorization", &token).send()), identity(&reply));
            }
            // A user has no domain and no host, and the headers say so.
            let reply = gate.get("/verify").token(&user.token).send();
            assert_eq!(
                identity(&reply),
                [&id, *encoded, "", "", "false", "posts:read posts:write orders", &exp(&user.token)]
            );
        }
    }
}

/// No nick can end its line, not even one that reached the database without the checks.
#[test]
fn verify__nick_cannot_inject_a_header() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    for (nick, encoded) in [
        ("a\r\nX-Injected: 1", "a%0D%0AX-Injected%3A%201"),
        ("\n\nSet-Cookie: a=b", "%0A%0ASet-Cookie%3A%20a%3Db"),
        ("\u{0}\u{7f}\u{85}\u{2028}", "%00%7F%C2%85%E2%80%A8"),
        ("", ""),
    ] {
        // PostgreSQL stores no NUL.
        let (nick, encoded) = match gate.database.is_postgres() {
            true => (nick.trim_start_matches('\0'), encoded.trim_start_matches("%00")),
            false => (nick, encoded),
        };
        let rename =
            |conn: &mut gatebird::db::Conn| Ok(diesel::update(users::table).set(users::nick.eq(nick)).execute(conn)?);
        gate.app.db.change_now(rename, |conn| gate.app.directory.catch_up(conn)).expect("the database answers");
        let reply = gate.get("/verify").token(gate.access_token(&domain)).send();
        assert_eq!(identity(&reply)[1], encoded);
        not_kept(nick, &reply);
    }
}

#[test]
fn verify__spoofed_headers_are_ignored() {
    let gate = Gate::start();
    let (user, _, token) = gate.tenant("alice");
    let (_, domain, _) = gate.tenant("victim");
    let spoofed = |mut request: Request| {
        let claims = ["999", "admin", &domain.id, "victim.example.com", "true", "posts:write admin", "9999999999"];
        for (name, value) in IDENTITY.iter().zip(claims) {
            request =
                request.header(name, value).header(&name.to_uppercase(), value).header(&name.replace('-', "_"), value);
        }
        for (name, value) in [
            ("X-Gatebird-Tenant", "1"),
            ("X-Gatebird-Reason", "ok"),
            ("X-Original-URI", "/verify?scope="),
            ("X-Original-URL", "/healthz"),
            ("X-Rewrite-URL", "/healthz"),
            ("X-Forwarded-Uri", "/healthz"),
            ("X-Forwarded-Host", "victim.example.com"),
            ("X-Forwarded-User", "1"),
            ("X-HTTP-Method-Override", "POST"),
            ("Forwarded", "host=victim.example.com"),
            ("X-Access-Token", &token),
            ("Proxy-Authorization", &format!("Bearer {token}")),
            ("Cookie", &format!("token={token}; access_token={token}; Authorization=Bearer {token}")),
        ] {
            request = request.header(name, value);
        }
        request
    };
    for token in [&token, &user.token] {
        for query in ["", "?scope=posts:read"] {
            let path = format!("/verify{query}");
            let honest = identity(&gate.get(&path).token(token).send());
            assert_eq!(identity(&spoofed(gate.get(&path)).token(token).send()), honest);
        }
    }
    refused("no token", &spoofed(gate.get("/verify")).send(), 401, "missing");
    refused("no such token", &spoofed(gate.get("/verify")).token("x").send(), 401, "invalid");
    let narrow = spoofed(gate.get("/verify?scope=admin")).token(&token).send();
    refused("a scope that only the header has", &narrow, 403, "scope");
    let host = spoofed(gate.get("/verify?host=victim.example.com")).token(&token).send();
    refused("a host that only the header has", &host, 403, "host");
    // A token is read only from `Authorization`.
    for name in ["access_token", "token", "jwt", "authorization"] {
        let reply = gate.get(&format!("/verify?{name}={token}")).send();
        refused(name, &reply, 403, "malformed");
        refused(
            name,
            &gate.get("/verify").header(name.replace("authorization", "auth").as_str(), &token).send(),
            401,
            "missing",
        );
    }
    refused("a body", &gate.get("/verify").form(format!("access_token={token}")).send(), 401, "missing");
}

#[test]
fn verify__bad_token_is_401_with_its_reason() {
    for status in ["419", "401"] {
        let gate = Gate::with(&[("EXPIRED_TOKEN_STATUS", status), ("AUDIENCES", "urn:example:api")]);
        let (user, domain, token) = gate.tenant("alice");
        let earlier = |token: &str| {
            resigned(token, |_, claims| {
                for member in ["iat", "exp"] {
                    claims[member] = json!(claims[member].as_i64().expect("a number") - 3600);
                }
            })
        };
        let revoked = gate.access_token(&domain);
        let body = format!("token={revoked}&client_id={}&client_secret={}", domain.id, domain.secret);
        gate.post("/revoke").form(body).send().expect(200);
        let change = |member: &'static str, value: Value| resigned(&token, move |_, claims| claims[member] = value);
        let elsewhere = form_token(&gate, &domain, "&resource=urn:example:api");
        let header = |value: &str| gate.get("/verify").header("Authorization", value);
        let bearer = |token: &str| gate.get("/verify").token(token);
        let rows: Vec<(&str, Request, &str)> = vec![
            ("nothing", gate.get("/verify"), "missing"),
            ("an empty header", header(""), "missing"),
            ("blanks", header("   "), "missing"),
            ("a scheme only", header("Bearer"), "invalid"),
            ("a scheme and a blank", header("Bearer "), "invalid"),
            ("text", bearer("x"), "invalid"),
            ("three dots", bearer("..."), "invalid"),
            ("another scheme", header(&format!("Basic {token}")), "invalid"),
            ("another scheme, of RFC 9449", header(&format!("DPoP {token}")), "invalid"),
            ("the scheme twice", header(&format!("Bearer Bearer {token}")), "invalid"),
            ("two tokens in one", header(&format!("Bearer {token} {token}")), "invalid"),
            ("a list", header(&format!("Bearer {token}, Bearer {token}")), "invalid"),
            ("one and a blank one", bearer(&token).header("Authorization", ""), "invalid"),
            ("one twice", bearer(&token).token(&token), "invalid"),
            ("a good and a bad one", bearer(&token).token("x"), "invalid"),
            ("a bad and a good one", bearer("x").token(&token), "invalid"),
            ("two tenants'", bearer(&token).token(&user.token), "invalid"),
            ("a secret", bearer(&domain.secret), "invalid"),
            ("Basic credentials", gate.get("/verify").basic(&domain.id, &domain.secret), "invalid"),
            ("a changed one", bearer(&format!("{}x", &token[..token.len() - 1])), "invalid"),
            ("another issuer's", bearer(&change("iss", json!("https://other.test"))), "invalid"),
            ("for another audience", bearer(&elsewhere), "invalid"),
            ("for another audience, expired", bearer(&earlier(&elsewhere)), "invalid"),
            ("too long", bearer(&"a".repeat(9000)), "invalid"),
            ("revoked", bearer(&revoked), "revoked"),
            ("revoked and expired", bearer(&earlier(&revoked)), "revoked"),
            ("an earlier generation", bearer(&change("gen", json!(-1))), "revoked"),
            ("expired", bearer(&earlier(&token)), "expired"),
            ("a person's, expired", bearer(&earlier(&user.token)), "expired"),
        ];
        check_each(rows, |(name, request, reason)| {
            refused(name, &request.send(), 401, reason);
        });
        // No client library sends this one.
        let bytes =
            b"GET /verify HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer \xe9\xff.a.b\r\nConnection: close\r\n\r\n";
        refused("bytes", &raw(&gate, bytes)[0], 401, "invalid");
        // An invalid token is reported before a missing scope.
        for query in ["scope=admin", "host=other.example.com", "scope=posts:read"] {
            let path = format!("/verify?{query}");
            refused(query, &gate.get(&path).send(), 401, "missing");
            refused(query, &gate.get(&path).token(earlier(&token)).send(), 401, "expired");
            refused(query, &gate.get(&path).token(&revoked).send(), 401, "revoked");
        }
        gate.clock.advance(60);
        refused("a minute later", &bearer(&token).send(), 401, "expired");
        gate.delete(&format!("/v1/domains/{}", domain.id)).token(&user.token).send().expect(200);
        refused("its domain is gone", &bearer(&token).send(), 401, "revoked");
    }
}

#[test]
fn verify__requirements_in_the_query() {
    let gate = Gate::with(&[
        ("SCOPES", "posts:read posts:write orders"),
        ("AUDIENCES", "https://api.example.com/v1 urn:example:api"),
        ("UNVERIFIED_HOSTS", "allow"),
    ]);
    let (user, domain, token) = gate.tenant("alice");
    gate.tenant("mallory");
    let reader = form_token(&gate, &domain, "&scope=posts:read");
    let elsewhere = form_token(&gate, &domain, "&scope=posts:read&resource=urn:example:api");
    let everywhere = form_token(
        &gate,
        &domain,
        "&resource=urn:example:api&resource=https://gate.test&resource=https://api.example.com/v1",
    );
    let long = format!("scope={}", "a".repeat(4000));
    let rows: Vec<(&str, &String, u16, &str)> = vec![
        ("", &reader, 200, ""),
        ("&&", &reader, 200, ""),
        ("scope=posts:read", &reader, 200, ""),
        ("scope=posts%3Aread", &reader, 200, ""),
        ("scope=posts:read+posts:read", &reader, 200, ""),
        ("scope=posts:write", &reader, 403, "scope"),
        ("scope=posts:read+posts:write", &reader, 403, "scope"),
        ("scope=posts:write%20posts:read", &reader, 403, "scope"),
        ("scope=posts:read+posts:write", &token, 200, ""),
        ("scope=orders%20posts:write+posts:read", &token, 200, ""),
        ("scope=orders", &user.token, 200, ""),
        ("scope=admin", &user.token, 403, "scope"),
        ("scope=admin", &token, 403, "scope"),
        ("scope=POSTS:READ", &token, 403, "scope"),
        ("scope=posts", &token, 403, "scope"),
        ("scope=posts:read,posts:write", &token, 403, "scope"),
        ("scope=posts:read%00", &token, 403, "scope"),
        ("scope=%ff", &token, 403, "scope"),
        ("scope=*", &token, 403, "scope"),
        (&long, &token, 403, "scope"),
        ("host=alice.example.com", &token, 200, ""),
        ("host=ALICE.Example.COM", &token, 200, ""),
        ("host=mallory.example.com", &token, 403, "host"),
        ("host=alice.example.com.", &token, 403, "host"),
        ("host=Alice.example.com:443", &token, 200, ""),
        ("host=alice.example.com%3A443", &token, 200, ""),
        ("host=alice.example.com:80", &token, 403, "host"),
        ("host=alice.example.com:8443", &token, 403, "host"),
        ("host=mallory.example.com:443", &token, 403, "host"),
        ("host=.alice.example.com", &token, 403, "host"),
        ("host=example.com", &token, 403, "host"),
        ("host=www.alice.example.com", &token, 403, "host"),
        ("host=%20alice.example.com", &token, 403, "host"),
        ("host=*", &token, 403, "host"),
        ("host=alice.example.com", &user.token, 403, "host"),
        ("audience=https://gate.test", &token, 200, ""),
        ("audience=https%3A%2F%2Fgate.test%2Faccount", &user.token, 200, ""),
        ("audience=https%3A%2F%2Fgate.test", &user.token, 401, "invalid"),
        ("audience=https://gate.test/account", &token, 401, "invalid"),
        ("audience=urn:example:api", &elsewhere, 200, ""),
        ("audience=https://api.example.com/v1", &everywhere, 200, ""),
        ("", &everywhere, 200, ""),
        ("", &elsewhere, 401, "invalid"),
        ("audience=urn:example:api", &token, 401, "invalid"),
        ("audience=urn:example:api", &user.token, 401, "invalid"),
        ("audience=https://api.example.com/v1", &elsewhere, 401, "invalid"),
        ("audience=https://api.example.com", &everywhere, 401, "invalid"),
        ("audience=https://gate.test/", &everywhere, 401, "invalid"),
        ("audience=urn:example:api+https://gate.test", &everywhere, 401, "invalid"),
        ("scope=posts:read&host=alice.example.com&audience=urn:example:api", &elsewhere, 200, ""),
        ("scope=posts:write&host=alice.example.com&audience=urn:example:api", &elsewhere, 403, "scope"),
        ("scope=posts:read&host=mallory.example.com&audience=urn:example:api", &elsewhere, 403, "host"),
        // Requirements that are not understood are refused.
        ("scope=", &token, 403, "malformed"),
        ("scope", &token, 403, "malformed"),
        ("host=", &token, 403, "malformed"),
        ("audience=", &token, 403, "malformed"),
        ("scope=+", &token, 403, "malformed"),
        ("scope=%20%20", &token, 403, "malformed"),
        ("scope=%09", &token, 403, "malformed"),
        ("scope=posts:read&scope=posts:read", &token, 403, "malformed"),
        ("scope=posts:read&scope=admin", &token, 403, "malformed"),
        ("scope=posts:read&sc%6Fpe=posts:write", &token, 403, "malformed"),
        ("host=alice.example.com&host=mallory.example.com", &token, 403, "malformed"),
        ("audience=https://gate.test&audience=urn:example:api", &everywhere, 403, "malformed"),
        ("scopes=posts:read", &token, 403, "malformed"),
        ("Scope=posts:read", &token, 403, "malformed"),
        ("scope[]=posts:read", &token, 403, "malformed"),
        ("role=admin", &token, 403, "malformed"),
        ("scope=posts:read&x=1", &token, 403, "malformed"),
        ("scope=posts:read;host=mallory.example.com", &token, 403, "scope"),
        ("=", &token, 403, "malformed"),
        ("x", &token, 403, "malformed"),
        ("%00", &token, 403, "malformed"),
    ];
    check_each(rows, |(query, token, status, reason)| {
        let reply = gate.get(&format!("/verify?{query}")).token(token).send();
        match status {
            200 => drop(identity(&reply)),
            _ => drop(refused(query, &reply, status, reason)),
        }
    });
}

#[test]
fn verify__over_the_plan_limit_is_403_with_retry_after() {
    let gate = Gate::with(&[("LIMIT_FREE", "5/h")]);
    let (user, _, token) = gate.tenant("alice");
    // An unauthenticated request spends nothing.
    for token in ["x", &resigned(&token, |_, claims| claims["gen"] = json!(-1))] {
        for _ in 0..10 {
            assert_eq!(gate.get("/verify").token(token).send().status, 401);
        }
    }
    for _ in 0..4 {
        identity(&gate.get("/verify").token(&token).send());
    }
    for path in ["/verify", "/verify?scope=posts:read", "/verify?host=alice.example.com"] {
        let reply = gate.get(path).token(&token).send();
        assert_eq!(refused(path, &reply, 403, "plan")["error"], "rate_limited");
        let wait = reply.header("retry-after").and_then(|wait| wait.parse::<u64>().ok());
        assert!(wait.is_some_and(|wait| (1..=3600).contains(&wait)), "{wait:?}");
        assert!(reply.header("www-authenticate").is_none(), "a new token would not help");
    }
    // Other routes answer as usual, and a user has no plan.
    gate.get("/v1/test").token(&token).send().refused(429, "plan");
    identity(&gate.get("/verify").token(&user.token).send());
    // Expiry is reported before the limit.
    gate.clock.advance(60);
    refused("expired", &gate.get("/verify").token(&token).send(), 401, "expired");
}

#[test]
fn verify__needs_no_database() {
    let gate = Gate::with(&[("JWT_ALGORITHM", "ES256")]);
    let (user, domain, token) = gate.tenant("alice");
    let revoked = gate.access_token(&domain);
    let body = format!("token={revoked}&client_id={}&client_secret={}", domain.id, domain.secret);
    gate.post("/revoke").form(body).send().expect(200);
    out_of_reach(&gate);
    gate.get("/v1/domains").token(&user.token).send().refused(500, "internal");
    for _ in 0..20 {
        for token in [&token, &user.token, &gate.access_token(&domain)] {
            identity(&gate.get("/verify?scope=posts:read").token(token).send());
        }
        refused("revoked", &gate.get("/verify").token(&revoked).send(), 401, "revoked");
        refused("a host", &gate.get("/verify?host=x").token(&token).send(), 403, "host");
    }
    gate.clock.advance(60);
    refused("expired", &gate.get("/verify").token(&token).send(), 401, "expired");
}

#[test]
fn verify__refusals_are_localised() {
    let gate = Gate::with(&[("LIMIT_FREE", "1/h")]);
    let (user, _, token) = gate.tenant("alice");
    let expired = resigned(&user.token, |_, claims| {
        for member in ["iat", "exp"] {
            claims[member] = json!(claims[member].as_i64().expect("a number") - 3600);
        }
    });
    let rows = [
        ("", "", 401, "Send a token in the Authorization header", "Authorization 헤더에 토큰을 담아 보내세요"),
        (
            "",
            "x",
            401,
            "The token is not valid: send a token of this server, as it was issued",
            "유효하지 않은 토큰입니다. 이 서버에서 발급한 토큰을 그대로 보내세요",
        ),
        (
            "",
            &*expired,
            401,
            "The token has expired: request a new one",
            "토큰이 만료되었습니다. 새 토큰을 발급받으세요",
        ),
        (
            "?scope=admin",
            &*user.token,
            403,
            "The token lacks the scope for this: request a token that has it",
            "토큰에 필요한 권한 범위가 없습니다. 해당 범위의 토큰을 발급받으세요",
        ),
        (
            "?host=x",
            &*user.token,
            403,
            "The token was issued to a domain of another host: use a token of this host's domain",
            "다른 호스트의 도메인에 발급된 토큰입니다. 이 호스트의 도메인에 발급된 토큰을 사용하세요",
        ),
        ("?x=y", &*user.token, 403, "The request is malformed", "요청 형식이 올바르지 않습니다"),
        (
            "",
            &*token,
            403,
            "The domain's plan allows no more requests now: wait as long as Retry-After says",
            "도메인 요금제의 요청 한도를 초과했습니다. Retry-After만큼 기다린 후 다시 시도하세요",
        ),
    ];
    for (query, token, status, english, korean) in rows {
        for (language, message) in [("en", english), ("ko-KR, en;q=0.5", korean)] {
            let request = gate.get(&format!("/verify{query}")).header("Accept-Language", language);
            let request = if token.is_empty() { request } else { request.token(token) };
            let body = request.send().expect(status);
            assert_eq!((&body["message"], &body["error_description"]), (&json!(message), &json!(english)), "{query}");
        }
    }
}
