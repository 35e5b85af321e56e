//! `POST /token`, the main job: both forms of the request, their answers, and the claims of the token.

mod limits;
mod malformed;
mod secrets;

use std::collections::HashSet;

use gatebird::id::DomainId;

use crate::harness::{Domain, Gate, Reply, Request, Value, json, parts};

const GRANT: &str = "grant_type=client_credentials";
/// The default of the setting `SCOPES`.
const SCOPES: &str = "posts:read posts:write";

/// A form with the credentials in the body.
fn form(domain: &Domain, rest: &str) -> String {
    format!("{GRANT}&client_id={}&client_secret={}{rest}", domain.id, domain.secret)
}

/// Checks a refusal of the client: 401 and `invalid_client`.
#[track_caller]
fn invalid_client(name: &str, reply: &Reply) {
    assert_eq!(reply.status, 401, "{name}: {}", reply.text());
    let reason = reply.json()["reason"].as_str().map(str::to_owned).unwrap_or_default();
    assert_eq!(reply.refused(401, &reason)["error"], "invalid_client", "{name}");
}

#[track_caller]
fn is_not_stored(reply: &Reply) {
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

#[track_caller]
fn members(value: &Value) -> Vec<&str> {
    let mut members: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    members.sort_unstable();
    members
}

#[test]
fn token_endpoint__json() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    for path in ["/token", "/v1/token"] {
        let reply = gate.post(path).json(&json!({"clientSecret": domain.secret})).send();
        let answer = reply.expect(200);
        assert_eq!(members(&answer), ["code", "expiresIn", "message", "token", "tokenType"]);
        assert_eq!(answer["code"], 200);
        assert_eq!(answer["tokenType"], "Bearer");
        assert_eq!(answer["expiresIn"], 60);
        assert_eq!(answer["message"], "Token issued");
        is_not_stored(&reply);
        assert_eq!(reply.header("pragma"), Some("no-cache"));
        gate.get("/v1/test").token(answer["token"].as_str().expect("a token")).send().expect(200);
        let korean = gate.post(path).json(&json!({"clientSecret": domain.secret})).header("Accept-Language", "ko");
        assert_eq!(korean.send().expect(200)["message"], "토큰이 발급되었습니다");
    }
}

#[test]
fn token_endpoint__form() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    for path in ["/token", "/v1/token"] {
        for request in
            [gate.post(path).form(form(&domain, "")), gate.post(path).form(GRANT).basic(&domain.id, &domain.secret)]
        {
            let reply = request.send();
            let answer = reply.expect(200);
            assert_eq!(members(&answer), ["access_token", "expires_in", "scope", "token_type"]);
            assert_eq!(answer["token_type"], "Bearer");
            assert_eq!(answer["expires_in"], 60);
            assert_eq!(answer["scope"], SCOPES);
            is_not_stored(&reply);
            assert_eq!(reply.header("pragma"), Some("no-cache"));
            gate.get("/v1/test").token(answer["access_token"].as_str().expect("a token")).send().expect(200);
        }
    }
}

#[test]
fn token_endpoint__media_type_parameters() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    let body = json!({"clientSecret": domain.secret}).to_string();
    for content_type in ["application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON"] {
        gate.post("/token").body(content_type, body.clone()).send().expect(200);
    }
    let content_type = "application/x-www-form-urlencoded; charset=utf-8";
    gate.post("/token").body(content_type, form(&domain, "")).send().expect(200);
    let identity =
        gate.post("/token").json(&json!({"clientSecret": domain.secret})).header("Content-Encoding", "identity");
    identity.send().expect(200);
}

#[test]
fn access_token__claims() {
    for (setting, seconds) in [("30s", 30), ("1m", 60), ("1h", 3600), ("1d", 86_400)] {
        let gate = Gate::with(&[("TOKEN_TTL", setting)]);
        let (user, domain, _) = gate.tenant("alice");
        let before = gate.clock.now();
        let answer = gate.post("/token").json(&json!({"clientSecret": domain.secret})).send().expect(200);
        assert_eq!(answer["expiresIn"], seconds);
        let (header, claims) = parts(answer["token"].as_str().expect("a token"));
        assert_eq!(members(&header), ["alg", "kid", "typ"]);
        assert_eq!((&header["alg"], &header["typ"]), (&json!("HS256"), &json!("at+jwt")));
        assert!(header["kid"].as_str().is_some_and(|kid| !kid.is_empty()));

        let expected = [
            "aud",
            "client_id",
            "exp",
            "gen",
            "host",
            "host_verified",
            "iat",
            "id",
            "iss",
            "jti",
            "nick",
            "scope",
            "sub",
            "username",
        ];
        assert_eq!(members(&claims), expected);
        assert_eq!(claims["iss"], "https://gate.test");
        assert_eq!(claims["aud"], json!(["https://gate.test"]));
        assert_eq!(claims["sub"], domain.id);
        assert_eq!(claims["client_id"], domain.id);
        assert_eq!(claims["scope"], SCOPES);
        assert_eq!(claims["id"], user.id);
        assert_eq!(claims["nick"], "alice");
        assert_eq!(claims["username"], "alice");
        assert_eq!(claims["host"], "alice.example.com");
        assert_eq!(claims["host_verified"], false);
        assert_eq!(claims["gen"], 0);
        let (iat, exp) = (claims["iat"].as_i64().expect("a number"), claims["exp"].as_i64().expect("a number"));
        assert!((before..=gate.clock.now()).contains(&iat), "{iat}");
        assert_eq!(exp - iat, seconds);
        let jti = claims["jti"].as_str().expect("a string");
        assert!(
            jti.len() == 32 && jti.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)),
            "{jti}"
        );
    }
}

#[test]
fn user_token__claims() {
    let gate = Gate::with(&[("USER_TOKEN_TTL", "1d"), ("TOKEN_TTL", "30s")]);
    let user = gate.sign_up("alice");
    let (header, claims) = parts(&user.token);
    assert_eq!((&header["alg"], &header["typ"]), (&json!("HS256"), &json!("JWT")));
    let expected = ["aud", "exp", "gen", "iat", "id", "iss", "jti", "nick", "scope", "sub", "username"];
    assert_eq!(members(&claims), expected);
    assert_eq!(claims["sub"], format!("usr_{}", user.id));
    assert_eq!(claims["exp"].as_i64().expect("a number") - claims["iat"].as_i64().expect("a number"), 86_400);
    assert_eq!(claims["scope"], SCOPES, "a user token carries every scope");
}

/// `/v1/test` shows the verified claims unchanged and unwrapped.
#[test]
fn test_route__shows_the_claims() {
    let gate = Gate::start();
    let (user, _, token) = gate.tenant("alice");
    for token in [&token, &user.token] {
        assert_eq!(gate.get("/v1/test").token(token).send().expect(200), parts(token).1);
    }
}

#[test]
fn jti_claim__unique() {
    let gate = Gate::start();
    let (_, domain, token) = gate.tenant("alice");
    let id = DomainId::parse(&domain.id).expect("an id");
    let live = gate.app.directory.by_id(&id).expect("alice's domain");
    let mut seen = HashSet::from([parts(&token).1["jti"].to_string()]);
    for _ in 0..1000 {
        let (token, _) = gate.app.access_token(&live, SCOPES, &["https://gate.test"]);
        assert!(seen.insert(parts(&token).1["jti"].to_string()));
    }
    for _ in 0..10 {
        assert!(seen.insert(parts(&gate.access_token(&domain)).1["jti"].to_string()));
    }
}

#[test]
fn scope_and_resource__narrowed() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    for (asked, granted) in [
        ("&scope=posts:read", "posts:read"),
        ("&scope=posts:write", "posts:write"),
        ("&scope=posts%3Aread", "posts:read"),
        ("&scope=posts:read+posts:write", "posts:read posts:write"),
        ("&scope=posts:write%20posts:read", "posts:write posts:read"),
        ("&scope=posts:read+posts:read", "posts:read"),
        ("&scope=", SCOPES),
        ("", SCOPES),
        ("&scope=&resource=", SCOPES),
        ("&resource=https://gate.test", SCOPES),
        ("&resource=https%3A%2F%2Fgate.test&scope=posts:read", "posts:read"),
    ] {
        let reply = gate.post("/token").form(form(&domain, asked)).send();
        assert_eq!(reply.status, 200, "{asked}: {}", reply.text());
        let answer = reply.json();
        assert_eq!(answer["scope"], granted, "{asked}");
        let (_, claims) = parts(answer["access_token"].as_str().expect("a token"));
        assert_eq!(claims["scope"], granted, "{asked}");
        assert_eq!(claims["aud"], json!(["https://gate.test"]), "{asked}");
    }
    // A scope that was not granted cannot be used.
    let answer = gate.post("/token").form(form(&domain, "&scope=posts:read")).send().expect(200);
    let narrow = answer["access_token"].as_str().expect("a token");
    gate.get("/v1/posts/my").token(narrow).send().expect(200);
    let refused = gate.post("/v1/posts").token(narrow).json(&json!({"content": "hi"})).send();
    assert_eq!(refused.refused(403, "scope")["error"], "insufficient_scope");
}

#[test]
fn scope_and_resource__widened_is_refused() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    for (asked, error, reason) in [
        ("&scope=admin", "invalid_scope", "scope"),
        ("&scope=posts:read+admin", "invalid_scope", "scope"),
        ("&scope=POSTS:READ", "invalid_scope", "scope"),
        ("&scope=posts", "invalid_scope", "scope"),
        ("&scope=posts:*", "invalid_scope", "scope"),
        ("&scope=*", "invalid_scope", "scope"),
        ("&scope=posts:read,posts:write", "invalid_scope", "scope"),
        ("&scope=posts:read%09posts:write", "invalid_scope", "scope"),
        ("&scope=posts:read%00", "invalid_scope", "scope"),
        ("&scope=posts:read%0d%0aX: y", "invalid_scope", "scope"),
        ("&scope=%22%3E%3Cscript%3E", "invalid_scope", "scope"),
        ("&resource=https://other.test", "invalid_target", "target"),
        ("&resource=https://gate.test/", "invalid_target", "target"),
        ("&resource=HTTPS://GATE.TEST", "invalid_target", "target"),
        ("&resource=*", "invalid_target", "target"),
        ("&resource=https://gate.test+https://other.test", "invalid_target", "target"),
    ] {
        let reply = gate.post("/token").form(form(&domain, asked)).send();
        assert_eq!(reply.status, 400, "{asked}: {}", reply.text());
        assert_eq!(reply.refused(400, reason)["error"], error, "{asked}");
        is_not_stored(&reply);
    }
}

#[test]
fn grant_type__only_client_credentials() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    let credentials = format!("client_id={}&client_secret={}", domain.id, domain.secret);
    for missing in ["", "&grant_type=", "&grant_type", "&grantType=client_credentials"] {
        let reply = gate.post("/token").form(format!("{credentials}{missing}")).send();
        let body = reply.refused(400, "invalid_field");
        assert_eq!((&body["error"], &body["field"]), (&json!("invalid_request"), &json!("grant_type")), "{missing}");
    }
    for grant in [
        "password",
        "authorization_code",
        "refresh_token",
        "implicit",
        "CLIENT_CREDENTIALS",
        "client_credentials%20",
        "%00",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "urn:ietf:params:oauth:grant-type:token-exchange",
        "client%2Bcredentials",
        "x%0d%0aSet-Cookie:%20a=b",
        "%22%5C%7F",
        "키",
    ] {
        let reply = gate.post("/token").form(format!("{credentials}&grant_type={grant}")).send();
        assert_eq!(reply.status, 400, "{grant}: {}", reply.text());
        let body = reply.refused(400, "grant_type");
        assert_eq!(body["error"], "unsupported_grant_type", "{grant}");
        assert!(reply.header("set-cookie").is_none());
        assert_eq!(body["error_description"], "grant_type must be client_credentials", "nothing is repeated");
    }
    // An unsigned assertion does not authenticate a client.
    let assertion = "client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer\
         &client_assertion=eyJhbGciOiJub25lIn0.e30.";
    invalid_client("alg none", &gate.post("/token").form(format!("{GRANT}&{assertion}")).send());
}

#[test]
fn basic_credentials__form_encoded() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    let all = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    for (id, secret) in [
        (domain.id.clone(), domain.secret.clone()),
        (domain.id.replace('_', "%5F"), domain.secret.replace('_', "%5f")),
        (all(&domain.id), all(&domain.secret)),
    ] {
        gate.post("/token").form(GRANT).basic(&id, &secret).send().expect(200);
    }
    for scheme in ["basic", "BASIC", "bAsIc"] {
        gate.post("/token").form(GRANT).header("Authorization", encoded(scheme, &domain)).send().expect(200);
    }
    gate.post("/token").form(GRANT).header("Authorization", encoded("Basic ", &domain)).send().expect(200);
}

fn encoded(scheme: &str, domain: &Domain) -> String {
    use base64::Engine;
    let credentials = format!("{}:{}", domain.id, domain.secret);
    format!("{scheme} {}", base64::engine::general_purpose::STANDARD.encode(credentials))
}

#[test]
fn basic_credentials__wrong() {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    let (_, other, _) = gate.tenant("mallory");
    let (id, secret) = (&domain.id, &domain.secret);
    let good = STANDARD.encode(format!("{id}:{secret}"));
    let basic = |text: String| format!("Basic {}", STANDARD.encode(text));
    for value in [
        basic(format!("{}:{secret}", other.id)),
        basic(format!(":{secret}")),
        basic(format!("{id}:")),
        basic(":".into()),
        basic(String::new()),
        basic(format!("{id}{secret}")),
        basic(format!("{id}:{secret}:")),
        basic(format!(":{id}:{secret}")),
        basic(format!("{secret}:{id}")),
        basic(format!("{id}: {secret}")),
        basic(format!("{id}:{secret}\n")),
        basic(format!("{id}:{secret}\0")),
        basic(format!("{id}:{secret}+")),
        basic(format!("{id}:{secret}%00")),
        basic(format!("{id}:{secret}%")),
        basic(format!("{id}:{secret}&x")),
        basic(format!("{id}:{secret}=")),
        basic(format!("{}:{secret}", id.to_lowercase())),
        basic("alice:correct horse battery staple".into()),
        format!("Basic {}", STANDARD.encode(b"\xFF\xFE:\xFF")),
        format!("Basic {}", STANDARD_NO_PAD.encode(format!("{id}:{}", &secret[..41]))),
        format!("Basic {good}="),
        format!("Basic {}!", &good[..good.len() - 1]),
        format!("Basic {id}:{secret}"),
        format!("Basic \"{good}\""),
        format!("Basic {good},{good}"),
        format!("Basic {good} {good}"),
        "Basic ".to_owned(),
        "Basic =".to_owned(),
        "Basic".to_owned(),
    ] {
        let reply = gate.post("/token").form(GRANT).header("Authorization", &value).send();
        invalid_client(&value, &reply);
        let challenge = reply.header("www-authenticate").expect("a challenge");
        assert!(challenge.starts_with("Basic realm="), "{value}: {challenge}");
    }
    // Other schemes do not authenticate a client, even with a good secret.
    for scheme in ["Bearer", "Digest", "Token", "Basics"] {
        let reply = gate.post("/token").form(GRANT).header("Authorization", format!("{scheme} {good}")).send();
        invalid_client(scheme, &reply);
    }
}

#[test]
fn client_authentication__two_methods_in_one_request() {
    let gate = Gate::start();
    let (_, domain, token) = gate.tenant("alice");
    let (_, other, _) = gate.tenant("mallory");
    let json = |domain: &Domain| json!({"clientSecret": domain.secret});
    let requests: [(&str, Request); 6] = [
        ("Basic and a form", gate.post("/token").form(form(&domain, "")).basic(&domain.id, &domain.secret)),
        ("Basic and another's form", gate.post("/token").form(form(&other, "")).basic(&domain.id, &domain.secret)),
        ("Basic and JSON", gate.post("/token").json(&json(&domain)).basic(&domain.id, &domain.secret)),
        ("Basic and another's JSON", gate.post("/token").json(&json(&other)).basic(&domain.id, &domain.secret)),
        (
            "Basic twice",
            gate.post("/token").form(GRANT).basic(&domain.id, &domain.secret).basic(&domain.id, &domain.secret),
        ),
        (
            "Basic twice, another's",
            gate.post("/token").form(GRANT).basic(&domain.id, &domain.secret).basic(&other.id, &other.secret),
        ),
    ];
    for (name, request) in requests {
        let reply = request.send();
        assert_eq!(reply.status, 400, "{name}: {}", reply.text());
        assert_eq!(reply.refused(400, "malformed")["error"], "invalid_request", "{name}");
    }
    // A client_id beside Basic must name the same client.
    let named =
        |id: &str| gate.post("/token").form(format!("{GRANT}&client_id={id}")).basic(&domain.id, &domain.secret);
    named(&domain.id).send().expect(200);
    invalid_client("Basic of one, client_id of another", &named(&other.id).send());
    // A token is no credential of a client, and is ignored beside one.
    gate.post("/token").json(&json(&domain)).token(&token).send().expect(200);
    invalid_client("a token only", &gate.post("/token").form(GRANT).token(&token).send());
}

/// Issuing and verifying need no database: its tables are out of reach.
#[test]
fn tokens__issued_and_verified_without_sql() {
    use diesel::connection::SimpleConnection;
    let gate = Gate::start();
    let (user, domain, token) = gate.tenant("alice");
    let app = &gate.app;
    let renamed = app.db.write_now(|conn| Ok(conn.batch_execute("ALTER TABLE secrets RENAME TO away")?));
    renamed.expect("the database answers");
    let fresh = gate.access_token(&domain);
    for token in [&token, &fresh, &user.token] {
        gate.get("/v1/test").token(token).send().expect(200);
    }
    invalid_client("wrong", &gate.post("/token").json(&json!({"clientSecret": "wrong"})).send());
}
