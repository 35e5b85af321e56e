//! What a refused client learns: the fault and the remedy, and nothing untrue. A refusal that certainly concerns a
//! domain is counted in its usage.

use gatebird::db::{Conn, verified_host};
use gatebird::secret::ClientSecret;

use super::{
    ClientKey, ENDPOINTS, GRANT, ISSUER, KeyClient, assert_error_response, asserting, encoded, form, gate, granted,
    long_running, register_with, rest_of_form, set_suspended, with,
};
use crate::harness::{Domain, Gate, JWT_SECRET, Reply, Request, User, Value, json, mint_bytes, parts, resigned};
use crate::http::raw;

/// Checks a refusal of the client, and that its message has those words.
#[track_caller]
fn says(reply: &Reply, reason: &str, words: &[&str]) {
    let body = reply.refused(401, reason);
    assert_eq!(body["error"], "invalid_client", "{body}");
    assert_error_response(reason, reply);
    let message = body["message"].as_str().expect("text");
    assert!(words.iter().all(|word| message.contains(word)), "{message:?} lacks one of {words:?}");
}

#[track_caller]
fn refusals(gate: &Gate, owner: &User, id: &str) -> Value {
    gate.app.flush().expect("the database answers");
    let path = format!("/v1/domains/{id}/usage?days=1");
    gate.get(&path).token(&owner.token).send().expect(200)["payload"][0]["refused"].clone()
}

fn supersede(gate: &Gate, host: &str) {
    let end = |conn: &mut Conn| Ok(verified_host::supersede_some(conn, host, 1)?);
    gate.app.db.change_now(end, |conn| gate.app.directory.catch_up(conn)).expect("the database answers");
}

/// Every way to send a secret: JSON, form and Basic, with the client's id where there is one.
fn ways<'a>(gate: &'a Gate, path: &'a str, id: &'a str, secret: &'a str) -> Vec<(&'static str, Request)> {
    let rest = rest_of_form(path);
    let fields = format!("{rest}&client_id={}&client_secret={}", encoded(id), encoded(secret));
    let mut ways =
        vec![("form", gate.post(path).form(fields)), ("Basic", gate.post(path).form(rest).basic(id, secret))];
    if path.ends_with("/token") {
        ways.push(("JSON", gate.post(path).json(&json!({"clientSecret": secret}))));
    }
    ways
}

#[test]
fn client_secret__malformed() {
    let gate = gate(&[]);
    let (user, domain, _) = gate.tenant("alice");
    let Domain { id, secret } = &domain;
    let wrong = [
        format!("{secret}\n"),
        format!("{secret}\r\n"),
        format!(" {secret}"),
        format!("{secret} "),
        format!("\"{secret}\""),
        secret[..41].to_owned(),
        secret[..20].to_owned(),
        secret[4..].to_owned(),
        format!("{secret}{secret}"),
        "YOUR_CLIENT_SECRET".to_owned(),
        "gbs_...".to_owned(),
        "6f9619ff-8b86-4011-b42d-00cf4fc964f".to_owned(),
        "{6f9619ff-8b86-4011-b42d-00cf4fc964ff}".to_owned(),
        "${CLIENT_SECRET}".to_owned(),
    ];
    for path in ENDPOINTS {
        for wrong in &wrong {
            for (_, request) in ways(&gate, path, id, wrong) {
                says(&request.send(), "malformed_secret", &["gbs_ and 38", "UUID"]);
            }
        }
    }
    let korean = gate.post("/token").json(&json!({"clientSecret": "x"})).header("Accept-Language", "ko").send();
    assert!(korean.json()["message"].as_str().is_some_and(|text| text.contains("gbs_") && text.contains("38자")));
    assert_eq!(refusals(&gate, &user, id), json!({}), "without a valid signature the client is unknown");
}

#[test]
fn client_secret__unknown() {
    let gate = gate(&[]);
    let (_, domain, _) = gate.tenant("alice");
    for path in ENDPOINTS {
        for (_, request) in ways(&gate, path, &domain.id, ClientSecret::random().reveal()) {
            says(&request.send(), "unknown_client", &["client secret", "active domain", "new"]);
        }
    }
}

#[test]
fn client_secret__ended_by_a_rotation() {
    let gate = gate(&[]);
    let (user, domain, _) = gate.tenant("alice");
    let path = format!("/v1/domains/{}/secrets", domain.id);
    gate.post(&path).token(&user.token).json(&json!({"graceSeconds": 60})).send().expect(201);
    gate.clock.advance(61);
    let mut sent = 0;
    for path in ENDPOINTS {
        for (_, request) in ways(&gate, path, &domain.id, &domain.secret) {
            says(&request.send(), "unknown_client", &["replaced", "newest"]);
            sent += 1;
        }
    }
    assert_eq!(refusals(&gate, &user, &domain.id), json!({"unknown_client": sent}));
}

#[test]
fn client_id__malformed_or_of_another_client() {
    let gate = gate(&[]);
    let (user, domain, _) = gate.tenant("alice");
    let (_, other, _) = gate.tenant("bob");
    let mut sent = 0;
    for path in ENDPOINTS {
        for id in ["alice.example.com", "https://alice.example.com", "alice", "dom_", &domain.secret] {
            for (way, request) in ways(&gate, path, id, &domain.secret) {
                // In Basic, the id ends at the first colon.
                if way == "form" || way == "Basic" && !id.contains(':') {
                    says(&request.send(), "unknown_client", &["client_id", "dom_"]);
                    sent += 1;
                }
            }
        }
        for (way, request) in ways(&gate, path, &other.id, &domain.secret) {
            if way != "JSON" {
                says(&request.send(), "unknown_client", &["client_id", "different clients"]);
                sent += 1;
            }
        }
    }
    assert_eq!(refusals(&gate, &user, &domain.id), json!({"unknown_client": sent}));
}

#[test]
fn client_credentials__missing() {
    let gate = gate(&[]);
    let (_, domain, token) = gate.tenant("alice");
    for path in ENDPOINTS {
        let rest = rest_of_form(path);
        for request in [
            gate.post(path).form(rest),
            gate.post(path).form(format!("{rest}&client_id={}", domain.id)),
            gate.post(path).form(format!("{rest}&client_id=&client_secret=")),
            gate.post(path).form(rest).token(&token),
        ] {
            let reply = request.send();
            says(&reply, "missing", &["client_id", "client_secret"]);
            assert!(
                reply.header("www-authenticate").is_some_and(|value| value.starts_with("Basic ")),
                "{path}: {reply:?}"
            );
        }
    }
}

/// RFC 9110 §11.6.1: libraries wait for a challenge before they send credentials.
#[test]
fn www_authenticate__basic_for_every_refused_form() {
    let gate = long_running();
    let (user, domain, _) = gate.tenant("alice");
    let client = KeyClient::register(&gate, &user, "keys.example.com", ClientKey::es256());
    let challenge = |reply: Reply| {
        reply.refused(401, reply.json()["reason"].as_str().expect("a reason"))["reason"]
            .as_str()
            .map(|_| reply.header("www-authenticate").expect("a challenge").to_owned())
    };
    for path in ENDPOINTS {
        for (way, request) in ways(&gate, path, &domain.id, "wrong") {
            let challenge = challenge(request.send()).expect("a reason");
            assert_eq!(challenge.starts_with("Basic realm="), way != "JSON", "{way}: {challenge}");
        }
        let expired = with(client.claims(), json!({"exp": 1, "iat": 0}));
        let reply = client.present(path, &client.sign(&client.header(), &expired));
        assert!(challenge(reply).is_some_and(|value| value.starts_with("Basic realm=")));
    }
}

/// A client that waits for the challenge fails once for each token. That must not use up its network's budget.
#[test]
fn client_credentials__missing_spends_no_failure_budget() {
    let gate = Gate::with(&[("LIMIT_FAILURES", "2/h")]);
    let (_, domain, _) = gate.tenant("alice");
    for _ in 0..10 {
        says(&gate.post("/token").form(GRANT).send(), "missing", &[]);
        gate.post("/token").form(GRANT).basic(&domain.id, &domain.secret).send().expect(200);
    }
    for reason in ["malformed_secret", "malformed_secret"] {
        says(&gate.post("/token").json(&json!({"clientSecret": "x"})).send(), reason, &[]);
    }
    gate.post("/token").json(&json!({"clientSecret": "x"})).send().refused(429, "failures");
}

#[test]
fn client__suspended_or_superseded() {
    let gate = long_running();
    let (user, domain, _) = gate.tenant("alice");
    let client = KeyClient::register(&gate, &user, "keys.example.com", ClientKey::es256());
    let (mut by_secret, mut by_key) = (0, 0);
    let mut each = |reason: &str, words: &[&str]| {
        for path in ENDPOINTS {
            for (_, request) in ways(&gate, path, &domain.id, &domain.secret) {
                says(&request.send(), reason, words);
                by_secret += 1;
            }
            says(&client.present(path, &client.assertion()), reason, words);
            by_key += 1;
        }
    };
    for id in [&domain.id, &client.id] {
        set_suspended(&gate, id, true);
    }
    each("suspended", &["operator"]);
    for id in [&domain.id, &client.id] {
        set_suspended(&gate, id, false);
    }
    for host in ["alice.example.com", "keys.example.com"] {
        supersede(&gate, host);
    }
    each("superseded", &["host", "verif"]);
    let of_each = |count: u32| json!({"superseded": count / 2, "suspended": count / 2});
    assert_eq!(refusals(&gate, &user, &domain.id), of_each(by_secret));
    assert_eq!(refusals(&gate, &user, &client.id), of_each(by_key));
    // A caller that does not authenticate does not learn the state of the client.
    says(
        &gate.post("/token").form(GRANT).basic(&domain.id, ClientSecret::random().reveal()).send(),
        "unknown_client",
        &[],
    );
    let stranger = KeyClient { gate: &gate, id: client.id.clone(), key: ClientKey::es256() };
    says(&stranger.present("/token", &stranger.assertion()), "unknown_client", &[]);
}

/// The reason of the refusal, the claims at a time, and a word of the message.
type ClaimsRow = (&'static str, fn(i64) -> Value, &'static str);

#[test]
fn client_assertion__fault_is_named_once_the_signature_is_valid() {
    let gate = long_running();
    let user = gate.sign_up("alice");
    for (number, key) in ClientKey::each().into_iter().enumerate() {
        let client = KeyClient::register(&gate, &user, &format!("h{number}.example.com"), key);
        let stranger = KeyClient { gate: &gate, id: client.id.clone(), key: ClientKey::es256() };
        // The times are relative to each request: the clock continues, and a skew of 10 seconds is allowed.
        let rows: [ClaimsRow; 10] = [
            ("assertion_audience", |_| json!({"aud": "https://other.example"}), "aud"),
            ("assertion_audience", |_| json!({"aud": ["https://other.example", "alice"]}), "aud"),
            ("assertion_audience", |_| json!({"aud": []}), "aud"),
            ("assertion_expired", |now| json!({"exp": now, "iat": now - 60}), "exp"),
            ("assertion_expired", |now| json!({"exp": now - 900, "iat": now - 960}), "exp"),
            ("assertion_not_yet", |now| json!({"nbf": now + 13}), "nbf"),
            ("assertion_not_yet", |now| json!({"iat": now + 13}), "iat"),
            ("assertion_not_yet", |now| json!({"nbf": now + 900}), "nbf"),
            ("assertion_lifetime", |now| json!({"exp": now + 3700}), "3600"),
            ("assertion_lifetime", |now| json!({"exp": now + 60, "iat": now - 7200}), "3600"),
        ];
        let mut sent = 0;
        for path in ENDPOINTS {
            for (reason, members, word) in rows {
                let claims = with(client.claims(), members(gate.clock.now()));
                says(&client.present(path, &client.sign(&client.header(), &claims)), reason, &[word]);
                says(&stranger.present(path, &stranger.sign(&client.header(), &claims)), "unknown_client", &["signed"]);
                sent += 1;
            }
            let used = client.assertion();
            client.present(path, &used).expect(200);
            says(&client.present(path, &used), "assertion_replayed", &["jti"]);
            let unknown_key = json!({"alg": client.key.alg, "kid": "another"});
            says(&client.present(path, &client.sign(&unknown_key, &client.claims())), "unknown_client", &["key"]);
            for (name, value) in [("iss", json!("dom_0000000000000000000000")), ("jti", json!(""))] {
                let claims = with(client.claims(), json!({name: value}));
                says(&client.present(path, &client.sign(&client.header(), &claims)), "unknown_client", &[name]);
            }
        }
        let counted = refusals(&gate, &user, &client.id);
        assert_eq!(counted["assertion_replayed"], 4, "{counted}");
        let total: i64 = counted.as_object().expect("counts").values().filter_map(Value::as_i64).sum();
        assert_eq!(total, sent + 12, "{counted}");
    }
}

/// FAPI 2.0 §5.3.2.1: clocks differ by up to 10 seconds.
#[test]
fn client_assertion__clocks_differ_by_ten_seconds() {
    let gate = long_running();
    let client = KeyClient::register(&gate, &gate.sign_up("alice"), "keys.example.com", ClientKey::es256());
    for path in ENDPOINTS {
        let now = gate.clock.now();
        for members in [json!({"nbf": now + 10}), json!({"iat": now + 10}), json!({"iat": now + 10, "exp": now + 3610})]
        {
            let claims = with(client.claims(), members);
            client.present(path, &client.sign(&client.header(), &claims)).expect(200);
        }
    }
}

/// RFC 7009 §2.1: the token of another client is refused, and a text that is no token of the caller is not reported as
/// revoked.
#[test]
fn revocation__token_of_another_client_is_refused() {
    let gate = gate(&[]);
    let (user, domain, token) = gate.tenant("alice");
    let (_, _, others) = gate.tenant("mallory");
    let seconds = gate.access_token(&gate.register(&user, "second.example.com"));
    let revoke = |token: &str| gate.post("/revoke").form(form(&domain, &format!("token={}", encoded(token)))).send();
    for foreign in [&others, &seconds, &user.token] {
        let reply = revoke(foreign);
        let body = reply.refused(400, "other_client");
        assert_eq!(body["error"], "unauthorized_client", "{body}");
        assert_error_response("another's", &reply);
        gate.get("/v1/test").token(foreign).send().expect(200);
    }
    for nothing in ["garbage", &format!("{token}\n"), &format!("{token} "), &format!("Bearer {token}")] {
        let body = revoke(nothing).expect(200);
        assert!(body["message"].as_str().is_some_and(|text| text.starts_with("Nothing was revoked")), "{body}");
        gate.get("/v1/test").token(&token).send().expect(200);
    }
    assert_eq!(revoke(&token).expect(200)["message"], "The token has been revoked");
    gate.get("/v1/test").token(&token).send().refused(401, "revoked");
    // Revoking the expired token of another client is no error.
    gate.clock.advance(61);
    revoke(&others).expect(200);
    assert_eq!(refusals(&gate, &user, &domain.id), json!({"other_client": 3, "revoked": 1}));
}

#[test]
fn request_body__json_without_its_content_type() {
    let gate = gate(&[]);
    let (_, domain, _) = gate.tenant("alice");
    let body = json!({"clientSecret": domain.secret}).to_string();
    let form_type = "application/x-www-form-urlencoded";
    for path in ["/token", "/v1/token"] {
        for body in [body.clone(), format!("\r\n {body}"), "{".into(), "{}".into()] {
            for kind in [form_type, "text/plain", "text/json", ""] {
                let refused = gate.post(path).body(kind, body.clone()).send().refused(415, "media_type");
                assert!(refused["message"].as_str().is_some_and(|text| text.contains("application/json")), "{refused}");
            }
        }
        let bare = format!("POST {path} HTTP/1.1\r\nHost: gate\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let refused = raw(&gate, bare.as_bytes())[0].refused(415, "media_type");
        assert!(refused["message"].as_str().is_some_and(|text| text.contains("application/json")), "{refused}");
    }
    // Another content type is answered with both types or, where only a form is read, with that one.
    let neither = gate.post("/token").body("text/plain", "x").send().refused(415, "media_type");
    assert!(
        neither["message"].as_str().is_some_and(|text| text.contains("application/json") && text.contains(form_type))
    );
    for path in ["/introspect", "/revoke"] {
        let body = json!({"token": "x", "client_id": domain.id, "client_secret": domain.secret}).to_string();
        for kind in [form_type, "application/json", "text/plain"] {
            let refused = gate.post(path).body(kind, body.clone()).send().refused(415, "media_type");
            let message = refused["message"].as_str().expect("text");
            assert!(message.contains(form_type) && !message.contains("application/json"), "{path} {kind}: {message}");
        }
    }
}

#[test]
fn request_body__oauth_members_as_json() {
    let gate = gate(&[]);
    let (_, domain, _) = gate.tenant("alice");
    let Domain { id, secret } = &domain;
    for (field, body) in [
        ("grant_type", json!({"grant_type": "client_credentials", "client_id": id, "client_secret": secret})),
        ("client_id", json!({"client_id": id, "client_secret": secret})),
        ("scope", json!({"clientSecret": secret, "scope": "posts:read"})),
    ] {
        let first = gate.post("/token").json(&body).send();
        let refused = first.refused(400, "invalid_field");
        let message = refused["message"].as_str().expect("text");
        assert!(message.contains("application/x-www-form-urlencoded"), "{message}");
        // serde_json sorts the members.
        assert_eq!(
            refused["field"],
            body.as_object().expect("members").keys().find(|key| *key != "clientSecret").map_or(field, |key| key)
        );
    }
}

#[test]
fn request_body__content_encoding_charset_and_two_types() {
    let gate = gate(&[]);
    let (user, domain, token) = gate.tenant("alice");
    let secret = json!({"clientSecret": domain.secret});
    let post = json!({"content": "hello"});
    type Row<'a> = (&'a str, Box<dyn Fn() -> Request + 'a>, &'a str, String);
    let requests: Vec<Row<'_>> = vec![
        ("/token", Box::new(|| gate.post("/token")), "application/json", secret.to_string()),
        ("/token", Box::new(|| gate.post("/token")), "application/x-www-form-urlencoded", form(&domain, GRANT)),
        (
            "/introspect",
            Box::new(|| gate.post("/introspect")),
            "application/x-www-form-urlencoded",
            form(&domain, "token=x"),
        ),
        ("/v1/posts", Box::new(|| gate.post("/v1/posts").token(&token)), "application/json", post.to_string()),
        ("/v1/signin", Box::new(|| gate.post("/v1/signin")), "application/json", "{}".into()),
        ("/v1/me", Box::new(|| gate.delete("/v1/me").token(&user.token)), "application/json", "{}".into()),
    ];
    for (name, request, kind, body) in &requests {
        let gzip = request().body(kind, body.clone()).header("Content-Encoding", "gzip").send();
        let refused = gzip.refused(415, "media_type");
        assert!(refused["message"].as_str().is_some_and(|text| text.contains("Content-Encoding")), "{name}: {refused}");
        for charset in ["utf-16", "UTF-16LE", "iso-8859-1", "euc-kr", "\"utf-16\"", "x", "utf-8; charset=utf-16"] {
            let refused = request().body(&format!("{kind}; charset={charset}"), body.clone()).send();
            let refused = refused.refused(415, "media_type");
            assert!(
                refused["message"].as_str().is_some_and(|text| text.contains("UTF-8")),
                "{name} {charset}: {refused}"
            );
        }
        for second in [*kind, "application/json", "text/plain"] {
            let twice = request().body(kind, body.clone()).header("Content-Type", second).send();
            let refused = twice.refused(400, "malformed");
            assert!(refused["message"].as_str().is_some_and(|text| text.contains("Content-Type")), "{name}: {refused}");
        }
        for charset in ["utf-8", "UTF-8", "\"utf-8\""] {
            let status = request().body(&format!("{kind}; charset={charset}"), body.clone()).send().status;
            assert!(![400, 415].contains(&status) || body == "{}", "{name} {charset}: {status}");
        }
    }
}

#[test]
fn request_body__missing() {
    let gate = gate(&[]);
    let (user, _, token) = gate.tenant("alice");
    for request in [
        gate.delete("/v1/me").token(&user.token),
        gate.post("/v1/domains").token(&user.token),
        gate.post("/v1/posts").token(&token),
        gate.post("/v1/signin"),
        gate.delete("/v1/me").token(&user.token).header("Content-Type", "application/json"),
    ] {
        let refused = request.send().refused(400, "malformed");
        let message = refused["message"].as_str().expect("text");
        assert!(message.contains("body") && message.contains("application/json"), "{message}");
    }
}

#[test]
fn request_body__malformed_json_by_line_and_column() {
    let gate = gate(&[]);
    for (body, place) in [
        ("{", "line 1, column 1"),
        ("{\n  \"clientSecret\": \"x\",\n}", "line 3, column 1"),
        ("{\"clientSecret\": x}", "line 1, column 18"),
        ("[]", "object"),
    ] {
        let refused = gate.post("/token").body("application/json", body).send().refused(400, "malformed");
        assert!(refused["message"].as_str().is_some_and(|text| text.contains(place)), "{body}: {refused}");
    }
}

/// RFC 6749 §3.3 allows one blank between scopes; more of them are ignored.
#[test]
fn scope__blanks_are_ignored() {
    let gate = gate(&[]);
    let (_, domain, _) = gate.tenant("alice");
    for (scope, granted_scope) in [
        ("+posts:read+", "posts:read"),
        ("posts:read++posts:write", "posts:read posts:write"),
        ("++posts:write+++posts:read++", "posts:write posts:read"),
        ("%20posts:read%20", "posts:read"),
        ("+", "posts:read posts:write"),
    ] {
        let token = granted(&gate, &domain, &format!("&scope={scope}"));
        assert_eq!(parts(&token).1["scope"], granted_scope, "{scope:?}");
    }
    for scope in ["posts:read%09posts:write", "posts:read%0A", "posts:read,posts:write"] {
        let reply = gate.post("/token").form(form(&domain, &format!("{GRANT}&scope={scope}"))).send();
        reply.refused(400, "scope");
    }
}

/// Auth0 and others use this name.
#[test]
fn audience_parameter__read_as_resource() {
    let gate = gate(&[("AUDIENCES", "urn:example:api urn:example:other")]);
    let (_, domain, _) = gate.tenant("alice");
    let audiences = |rest: &str| parts(&granted(&gate, &domain, rest)).1["aud"].clone();
    assert_eq!(audiences("&audience=urn:example:api"), json!(["urn:example:api"]));
    assert_eq!(
        audiences("&audience=urn:example:api&audience=urn:example:other"),
        json!(["urn:example:api", "urn:example:other"])
    );
    assert_eq!(
        audiences("&resource=urn:example:api&audience=urn:example:other"),
        json!(["urn:example:api", "urn:example:other"])
    );
    assert_eq!(audiences("&resource=urn:example:api&audience=urn:example:api"), json!(["urn:example:api"]));
    assert_eq!(audiences("&audience="), json!([ISSUER]));
    let unknown = gate.post("/token").form(form(&domain, &format!("{GRANT}&audience=urn:unknown"))).send();
    assert_eq!(unknown.refused(400, "target")["error"], "invalid_target");
}

#[test]
fn introspection__names_no_user() {
    let gate = gate(&[]);
    let (_, domain, token) = gate.tenant("admin");
    let answer = gate.post("/introspect").form(form(&domain, &format!("token={token}"))).send().expect(200);
    let members: Vec<&str> = answer.as_object().expect("members").keys().map(String::as_str).collect();
    assert!(!["username", "nick", "id", "user_id"].iter().any(|name| members.contains(name)), "{answer}");
    assert_eq!((&answer["host"], &answer["host_verified"]), (&json!("admin.example.com"), &json!(false)), "{answer}");
}

/// An API that checks its audience must not accept a user's token.
#[test]
fn user_token__audience_is_the_account() {
    let gate = gate(&[("AUDIENCES", "urn:example:api")]);
    let (user, _, token) = gate.tenant("alice");
    let body = json!({"username": "alice", "password": crate::harness::PASSWORD});
    let signed_in = gate.post("/v1/signin").json(&body).send().expect(200)["token"].as_str().expect("text").to_owned();
    for user_token in [&user.token, &signed_in] {
        assert_eq!(parts(user_token).1["aud"], json!([format!("{ISSUER}/account")]));
        for path in ["/v1/test", "/v1/me", "/v1/domains", "/v1/posts/my"] {
            gate.get(path).token(user_token).send().expect(200);
        }
        let encoded = encoded(ISSUER);
        assert_eq!(
            gate.get("/verify").token(user_token).send().status,
            200,
            "the token names its caller, but no audience of an API"
        );
        for path in ["/verify?audience=urn:example:api", &format!("/verify?audience={encoded}")] {
            gate.get(path).token(user_token).send().refused(401, "invalid");
        }
    }
    // A proxy that protects something for users states so.
    let account = format!("/verify?audience={}", encoded(&format!("{ISSUER}/account")));
    assert_eq!(gate.get(&account).token(&user.token).send().status, 200);
    gate.get(&account).token(&token).send().refused(401, "invalid");
    // A token of one kind with the audience of the other is refused.
    let as_ours = resigned(&user.token, |_, claims| claims["aud"] = json!([ISSUER]));
    let as_account = resigned(&token, |_, claims| claims["aud"] = json!([format!("{ISSUER}/account")]));
    for token in [as_ours, as_account] {
        gate.get("/v1/test").token(&token).send().refused(401, "invalid");
    }
}

#[test]
fn metadata__has_what_openid_libraries_read() {
    for (algorithm, has_keys) in [("HS256", false), ("ES256", true), ("EdDSA", true), ("RS256", true)] {
        let gate = gate(&[("JWT_ALGORITHM", algorithm)]);
        let one = gate.get("/.well-known/oauth-authorization-server").send();
        let other = gate.get("/.well-known/openid-configuration").send();
        let metadata = other.expect(200);
        assert_eq!(one.text(), other.text());
        assert_eq!(one.header("cache-control"), other.header("cache-control"));
        assert_eq!(metadata["id_token_signing_alg_values_supported"], json!([algorithm]));
        assert_eq!(metadata["subject_types_supported"], json!(["public"]));
        assert_eq!(metadata["response_types_supported"], json!([]));
        assert_eq!(metadata.get("jwks_uri").is_some(), has_keys, "{algorithm}: {metadata}");
    }
}

#[test]
fn token__not_utf_8() {
    let gate = gate(&[]);
    let (_, _, token) = gate.tenant("alice");
    let (header, claims) = parts(&token);
    let (header, claims) = (header.to_string(), claims.to_string());
    let with_member = |object: &str, member: &[u8]| [&object.as_bytes()[..object.len() - 1], member, b"}"].concat();
    let sign = |header: &[u8], claims: &[u8]| mint_bytes(header, claims, JWT_SECRET.as_bytes());
    let good = sign(&with_member(&header, b",\"x\":\"y\""), claims.as_bytes());
    gate.get("/v1/test").token(&good).send().expect(200);
    for member in [
        &b",\"x\":\"\xff\""[..],
        b",\"x\":\"\xc3\"",
        b",\"x\":\"\xed\xa0\x80\"",
        b",\"x\":\"\xc0\xaf\"",
        b",\"x\":\"\xf4\x90\x80\x80\"",
        b",\"x\":{\"y\":[\"\xfe\"]}",
        b",\"\xff\":1",
    ] {
        let in_header = sign(&with_member(&header, member), claims.as_bytes());
        let in_payload = sign(header.as_bytes(), &with_member(&claims, member));
        for token in [in_header, in_payload] {
            gate.get("/v1/test").token(&token).send().refused(401, "invalid");
        }
    }
}

/// A page of a registered host, but over plain HTTP.
#[test]
fn preflight__registered_host_over_http() {
    let gate = gate(&[]);
    gate.tenant("alice");
    let ask = |origin: &str| {
        let request = gate.request("OPTIONS", "/v1/posts").header("Origin", origin);
        request.header("Access-Control-Request-Method", "POST").send()
    };
    assert_eq!(ask("https://alice.example.com").status, 204);
    let message = |origin: &str| ask(origin).refused(403, "origin")["message"].as_str().expect("text").to_owned();
    assert!(message("http://alice.example.com").contains("https"), "{}", message("http://alice.example.com"));
    for other in ["http://other.example.com", "https://other.example.com", "null"] {
        assert_ne!(message(other), message("http://alice.example.com"), "{other}");
    }
}

/// A host instead of the id of a client with keys.
#[test]
fn client_id__host_instead_of_the_id() {
    let gate = long_running();
    let user = gate.sign_up("alice");
    let client = KeyClient::register(&gate, &user, "keys.example.com", ClientKey::ed_dsa());
    register_with(&gate, &user, "secret.example.com", json!({})).expect(201);
    let body = format!("{GRANT}&client_id=keys.example.com&{}", asserting(&client.assertion()));
    says(&gate.post("/token").form(body).send(), "unknown_client", &["client_id", "dom_"]);
}
