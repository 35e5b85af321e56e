//! `POST /introspect` (RFC 7662): a client gets the members of §2.2 for its own active tokens, and the same inactive
//! answer for everything else, from memory.

use gatebird::db::domain;
use gatebird::id::DomainId;

use super::{
    ClientKey, GRANT, ISSUER, KeyClient, asserting, encoded, form, gate, granted, out_of_reach, set_suspended,
};
use crate::harness::{Domain, Gate, Reply, Value, check_each, json, parts, resigned};

fn introspect(gate: &Gate, domain: &Domain, token: &str) -> Reply {
    gate.post("/introspect").form(form(domain, &format!("token={}", encoded(token)))).send()
}

#[track_caller]
fn inactive(name: &str, reply: &Reply) {
    assert_eq!((reply.status, reply.text().as_str()), (200, "{\"active\":false}"), "{name}");
    assert_eq!(reply.header("content-type"), Some("application/json"), "{name}");
    assert_eq!(reply.header("cache-control"), Some("no-store"), "{name}");
}

#[test]
fn introspection__active_token() {
    for algorithm in ["HS256", "ES256", "EdDSA", "RS256"] {
        let gate = gate(&[("JWT_ALGORITHM", algorithm), ("AUDIENCES", "urn:example:api")]);
        let (user, domain, plain) = gate.tenant("alice");
        let elsewhere = granted(&gate, &domain, "&resource=urn:example:api&scope=posts:read");
        let both = granted(&gate, &domain, &format!("&resource=urn:example:api&resource={ISSUER}"));
        for token in [&plain, &elsewhere, &both] {
            let reply = introspect(&gate, &domain, token);
            let answer = reply.expect(200);
            let (_, claims) = parts(token);
            let mut expected = json!({"active": true, "token_type": "Bearer"});
            for member in ["scope", "client_id", "exp", "iat", "sub", "aud", "iss", "jti", "host", "host_verified"] {
                expected[member] = claims[member].clone();
            }
            assert_eq!(answer, expected, "exactly these members");
            assert_eq!((reply.header("cache-control"), reply.header("pragma")), (Some("no-store"), Some("no-cache")));
        }
        assert_eq!(introspect(&gate, &domain, &elsewhere).json()["aud"], json!(["urn:example:api"]));
        // Every form of the request has the same answer.
        let expected = introspect(&gate, &domain, &plain).json();
        let client = KeyClient::register(&gate, &user, "keys.example.com", ClientKey::es256());
        let body = format!("token={plain}");
        assert_eq!(gate.post("/introspect").form(&*body).basic(&domain.id, &domain.secret).send().json(), expected);
        for hint in ["access_token", "refresh_token", "x", "%22%5C%0D%0A", ""] {
            let body = form(&domain, &format!("{body}&token_type_hint={hint}&resource=a&resource=b&more=1"));
            assert_eq!(gate.post("/introspect").form(body).send().expect(200), expected, "{hint}");
        }
        let by_key = client.token();
        let body = format!("token={by_key}&{}", asserting(&client.assertion()));
        assert_eq!(gate.post("/introspect").form(body).send().expect(200)["client_id"], client.id);
        // Introspection changes nothing.
        gate.get("/v1/test").token(&plain).send().expect(200);
        gate.clock.advance(50);
        assert_eq!(introspect(&gate, &domain, &plain).json(), expected, "in the last seconds of its life");
        gate.clock.advance(10);
        inactive("expired", &introspect(&gate, &domain, &plain));
    }
}

#[test]
fn introspection__other_tokens_are_inactive() {
    let gate = gate(&[]);
    let (user, domain, token) = gate.tenant("alice");
    let (mallory, other, others) = gate.tenant("mallory");
    let second = gate.register(&user, "second.example.com");
    let seconds = gate.access_token(&second);
    let revoked = gate.access_token(&domain);
    gate.post("/revoke").form(form(&domain, &format!("token={revoked}"))).send().expect(200);
    let change = |member: &'static str, value: Value| resigned(&token, move |_, claims| claims[member] = value);
    let [head, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let rows: Vec<(&str, String)> = vec![
        ("another domain's, of the same owner", seconds.clone()),
        ("another tenant's", others.clone()),
        ("its owner's user token", user.token.clone()),
        ("another user's", mallory.token),
        ("revoked", revoked),
        ("of an earlier generation", change("gen", json!(-1))),
        ("of another issuer", change("iss", json!("https://other.example"))),
        ("of another owner", change("id", json!(user.id + 1))),
        (
            "expired",
            resigned(&token, |_, claims| {
                for member in ["iat", "exp"] {
                    claims[member] = json!(claims[member].as_i64().expect("a number") - 60);
                }
            }),
        ),
        (
            "expired and revoked",
            resigned(&token, |_, claims| {
                claims["gen"] = json!(-1);
                for member in ["iat", "exp"] {
                    claims[member] = json!(claims[member].as_i64().expect("a number") - 60);
                }
            }),
        ),
        (
            "of an unknown domain",
            resigned(&token, |_, claims| {
                claims["sub"] = json!("dom_0000000000000000000000");
                claims["client_id"] = claims["sub"].clone();
            }),
        ),
        ("alg none", format!("eyJhbGciOiJub25lIn0.{payload}.")),
        ("a changed signature", format!("{head}.{payload}.{}", signature.chars().rev().collect::<String>())),
        ("without its signature", format!("{head}.{payload}.")),
        ("with a scheme", format!("Bearer {token}")),
        ("with a blank", format!("{token} ")),
        ("with a line end", format!("{token}\n")),
        ("with NUL", format!("{token}\0")),
        ("padded", format!("{token}=")),
        ("twice in one", format!("{token} {token}")),
        ("its jti", parts(&token).1["jti"].as_str().expect("text").to_owned()),
        ("its claims", parts(&token).1.to_string()),
        ("the secret", domain.secret.clone()),
        ("the id", domain.id.clone()),
        ("a dot", ".".into()),
        ("dots", "..".into()),
        ("text", "x".into()),
        ("Korean", "토큰".into()),
        ("SQL", "' OR '1'='1".into()),
        ("more than a token may have", "a".repeat(8 * 1024 + 1)),
        ("more, with dots", format!("{head}.{}.{signature}", "a".repeat(12 * 1024))),
    ];
    check_each(&rows, |(name, text)| {
        inactive(name, &introspect(&gate, &domain, text));
    });
    // Three clients and their tokens: a token is active for its own client only.
    for (owner, client) in [&domain, &second, &other].into_iter().enumerate() {
        for (asked, token) in [&token, &seconds, &others].into_iter().enumerate() {
            let reply = introspect(&gate, client, token);
            match owner == asked {
                true => assert_eq!(reply.expect(200)["client_id"], client.id),
                false => inactive("another's", &reply),
            }
        }
    }
}

#[test]
fn introspection__revoked_token_is_inactive() {
    let gate = gate(&[]);
    let (user, domain, token) = gate.tenant("alice");
    let id = DomainId::parse(&domain.id).expect("an id");
    let raise = |conn: &mut gatebird::db::Conn| Ok(domain::raise_generation(conn, id)?);
    assert_eq!(introspect(&gate, &domain, &token).expect(200)["active"], true);
    gate.app.db.change_now(raise, |conn| gate.app.directory.catch_up(conn)).expect("the database answers");
    inactive("an earlier generation", &introspect(&gate, &domain, &token));
    let token = gate.access_token(&domain);
    assert_eq!(introspect(&gate, &domain, &token).expect(200)["active"], true);
    set_suspended(&gate, &domain.id, true);
    set_suspended(&gate, &domain.id, false);
    inactive("before a suspension", &introspect(&gate, &domain, &token));
    let token = gate.access_token(&domain);
    let passwords = json!({"oldPassword": crate::harness::PASSWORD, "newPassword": "another horse battery staple"});
    gate.put("/v1/me/password").token(&user.token).json(&passwords).send().expect(200);
    inactive("before a change of the password", &introspect(&gate, &domain, &token));
}

#[test]
fn introspection__spends_the_plan_limit() {
    let gate = gate(&[("LIMIT_FREE", "10/h")]);
    let (_, domain, token) = gate.tenant("alice");
    let (_, mallory, _) = gate.tenant("mallory");
    for _ in 0..20 {
        // A failed authentication spends nothing of the client's limit. A request about another client's token spends
        // the caller's own limit.
        let body = format!("token={token}&client_id={}&client_secret={}", domain.id, mallory.secret);
        gate.post("/introspect").form(body).send().refused(401, "unknown_client");
        introspect(&gate, &mallory, &token);
    }
    let statuses: Vec<u16> = (0..12).map(|_| introspect(&gate, &domain, &token).status).collect();
    assert_eq!(statuses, [[200; 9].as_slice(), &[429; 3]].concat(), "the exchange used one request");
    let limited = introspect(&gate, &domain, &token);
    assert_eq!(limited.refused(429, "plan")["error"], "rate_limited");
    assert!(
        limited.header("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait >= 1)),
        "{limited:?}"
    );
    gate.post("/token").form(form(&domain, GRANT)).send().refused(429, "plan");
}

#[test]
fn introspection__needs_no_database() {
    let gate = gate(&[("JWT_ALGORITHM", "ES256")]);
    let (user, domain, token) = gate.tenant("alice");
    let client = KeyClient::register(&gate, &user, "keys.example.com", ClientKey::rs256());
    let revoked = gate.access_token(&domain);
    gate.post("/revoke").form(form(&domain, &format!("token={revoked}"))).send().expect(200);
    out_of_reach(&gate);
    gate.get("/v1/domains").token(&user.token).send().refused(500, "internal");
    for _ in 0..20 {
        assert_eq!(introspect(&gate, &domain, &token).expect(200)["active"], true);
        inactive("revoked", &introspect(&gate, &domain, &revoked));
        let fresh = client.token();
        let body = format!("token={fresh}&{}", asserting(&client.assertion()));
        assert_eq!(gate.post("/introspect").form(body).send().expect(200)["active"], true);
    }
    gate.clock.advance(60);
    inactive("expired", &introspect(&gate, &domain, &token));
}
