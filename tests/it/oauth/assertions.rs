//! `private_key_jwt` (RFC 7523 §2.2 and §3): which signatures authenticate a client, each of them once.

mod nodes;
mod refused;

use std::time::Duration;

use super::{
    ClientKey, ENDPOINTS, GRANT, ISSUER, JWT_BEARER, KeyClient, PUBLIC_URL, assert_error_response, asserting, encoded,
    gate, invalid_client, long_running, rest_of_form, set_suspended, with,
};
use crate::binary::{Child, PROMISED, text, within};
use crate::harness::{Database, Reply, Value, json, mint_with};

/// A change of the header and the claims of a good assertion.
type Change<'a> = Box<dyn Fn(&mut Value, &mut Value) + 'a>;

fn claims<'a>(members: Value) -> Change<'a> {
    Box::new(move |_, claims| *claims = with(claims.clone(), members.clone()))
}

fn header<'a>(members: Value) -> Change<'a> {
    Box::new(move |header, _| *header = with(header.clone(), members.clone()))
}

fn without<'a>(name: &'static str) -> Change<'a> {
    Box::new(move |header, claims| {
        for part in [header, claims] {
            part.as_object_mut().expect("an object").remove(name);
        }
    })
}

fn changed(client: &KeyClient<'_>, change: &Change<'_>) -> String {
    let (mut header, mut claims) = (client.header(), client.claims());
    change(&mut header, &mut claims);
    client.sign(&header, &claims)
}

#[test]
fn client_assertion__valid_at_every_endpoint() {
    let gate = long_running();
    let user = gate.sign_up("alice");
    for (number, key) in ClientKey::each().into_iter().enumerate() {
        let client = KeyClient::register(&gate, &user, &format!("h{number}.example.com"), key);
        let now = gate.clock.now();
        for path in ENDPOINTS {
            let called = format!("{PUBLIC_URL}{path}");
            let good: Vec<(&str, Change<'_>)> = vec![
                ("unchanged", claims(json!({}))),
                ("for the base of the endpoints", claims(json!({"aud": PUBLIC_URL}))),
                ("for the token endpoint", claims(json!({"aud": format!("{PUBLIC_URL}/token")}))),
                ("for the endpoint that is called", claims(json!({"aud": called}))),
                ("for several", claims(json!({"aud": ["https://other.example", called, "x"]}))),
                ("for the issuer alone, in an array", claims(json!({"aud": [ISSUER]}))),
                ("without typ", without("typ")),
                ("in small letters", header(json!({"typ": "jwt"}))),
                ("by its own typ", header(json!({"typ": "client-authentication+jwt"}))),
                ("by the key's thumbprint", header(json!({"kid": client.key.thumbprint()}))),
                ("with unknown header members", header(json!({"x": 1, "cty": "JWT"}))),
                ("with unknown claims", claims(json!({"x": {"y": [1]}, "azp": null, "scope": "admin"}))),
                ("without iat", without("iat")),
                ("with nbf", claims(json!({"nbf": now}))),
                ("a little ahead of our clock", claims(json!({"nbf": now + 9, "iat": now + 9}))),
                ("with fractions of a second", claims(json!({"exp": now as f64 + 30.5, "iat": now as f64 - 0.5}))),
                ("for an hour", claims(json!({"exp": now + 3600}))),
                ("some time ago", claims(json!({"iat": now - 900}))),
                ("with a long jti", claims(json!({"jti": format!("{number}{path}{}", "j".repeat(240))}))),
                ("with an odd jti", claims(json!({"jti": format!("{number}{path}키\u{0}\" ' \\")}))),
            ];
            for (name, change) in good {
                let reply = client.present(path, &changed(&client, &change));
                assert_eq!(reply.status, 200, "{} {path}: {name}: {}", client.key.alg, reply.text());
            }
            // RFC 9864 has another name for the same algorithm.
            let renamed = client.present(path, &changed(&client, &header(json!({"alg": "Ed25519"}))));
            match client.key.alg {
                "EdDSA" => drop(renamed.expect(200)),
                _ => invalid_client("Ed25519", &renamed),
            }
            // Its own client_id may stand beside it, in one spelling only.
            let named = |id: &str| {
                let body = format!("{}&client_id={id}&{}", rest_of_form(path), asserting(&client.assertion()));
                gate.post(path).form(body).send()
            };
            named(&client.id).expect(200);
            named("").expect(200);
            invalid_client("another's name", &named("dom_0000000000000000000000"));
            invalid_client("its name in other letters", &named(&client.id.to_uppercase()));
        }
        let token = client.token();
        assert_eq!(gate.get("/v1/test").token(&token).send().expect(200)["client_id"], client.id);
    }
}

#[test]
fn client_assertion__used_twice() {
    let gate = long_running();
    let user = gate.sign_up("alice");
    for (number, key) in ClientKey::each().into_iter().enumerate() {
        let client = KeyClient::register(&gate, &user, &format!("h{number}.example.com"), key);
        for first in ENDPOINTS {
            let assertion = client.assertion();
            client.present(first, &assertion).expect(200);
            for again in ENDPOINTS {
                invalid_client(again, &client.present(again, &assertion));
            }
        }
        // The `jti` identifies an assertion, not its bytes.
        let claims = client.claims();
        client.present("/token", &client.sign(&client.header(), &claims)).expect(200);
        let later = with(claims.clone(), json!({"exp": gate.clock.now() + 600, "aud": PUBLIC_URL}));
        for claims in [&claims, &later] {
            invalid_client(
                "the same jti",
                &client.present("/token", &client.sign(&json!({"alg": client.key.alg}), claims)),
            );
        }
        // Each client has its own `jti`s.
        let other = KeyClient::register(&gate, &user, &format!("o{number}.example.com"), ClientKey::es256());
        let same = with(other.claims(), json!({"jti": claims["jti"]}));
        other.present("/token", &other.sign(&other.header(), &same)).expect(200);
        invalid_client("its second use", &other.present("/token", &other.sign(&other.header(), &same)));

        let assertion = client.assertion();
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let present = |number: usize| client.present(ENDPOINTS[number % 4], &assertion).status;
            let threads: Vec<_> = (0..50).map(|number| scope.spawn(move || present(number))).collect();
            threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 49, "{statuses:?}");
    }
}

#[test]
fn used_assertions__deleted_after_expiry() {
    let gate = long_running();
    let user = gate.sign_up("alice");
    let client = KeyClient::register(&gate, &user, "shop.example.com", ClientKey::es256());
    let [short, long] = [60, 600].map(|life| {
        let claims = with(client.claims(), json!({"exp": gate.clock.now() + life}));
        client.sign(&client.header(), &claims)
    });
    let remembered = || gate.app.directory.used_assertions.count();
    for assertion in [&short, &long] {
        client.present("/token", assertion).expect(200);
    }
    gate.clock.advance(50);
    gate.app.maintain().expect("the database answers");
    assert_eq!(remembered(), 2, "neither assertion has expired");
    invalid_client("in the last seconds of its life", &client.present("/token", &short));
    gate.clock.advance(10);
    gate.app.maintain().expect("the database answers");
    assert_eq!(remembered(), 1, "one assertion has expired");
    // It does not become valid again.
    invalid_client("expired", &client.present("/token", &short));
    invalid_client("used", &client.present("/token", &long));
    gate.clock.advance(600);
    gate.app.maintain().expect("the database answers");
    assert_eq!(remembered(), 0);
    invalid_client("expired", &client.present("/token", &long));
    assert_eq!(remembered(), 0, "refused assertions are not remembered");
}

/// A client over its plan's limit must not fill the memory of used assertions, and can present the same assertion
/// later.
#[test]
fn client_assertion__request_over_the_plans_limit() {
    let gate = gate(&[("LIMIT_FREE", "2/m")]);
    gate.clock.advance(1000);
    let client = KeyClient::register(&gate, &gate.sign_up("alice"), "shop.example.com", ClientKey::es256());
    let used = || gate.app.directory.used_assertions.count();
    for path in ["/token", "/v1/token", "/introspect"] {
        while client.present(path, &client.assertion()).status == 200 {}
        let (before, assertion) = (used(), client.assertion());
        for _ in 0..3 {
            client.present(path, &assertion).refused(429, "plan");
        }
        assert_eq!(used(), before, "{path}");
        // `/revoke` spends nothing of the plan, so its assertions are used up regardless of the limit.
        let revoking = client.assertion();
        client.present("/revoke", &revoking).expect(200);
        client.present("/revoke", &revoking).refused(401, "assertion_replayed");
        assert_eq!(used(), before + 1, "{path}");
        gate.clock.advance(30);
        client.present(path, &assertion).expect(200);
        client.present(path, &assertion).refused(401, "assertion_replayed");
        assert_eq!(used(), before + 2, "{path}");
    }
}

/// A restarted server may not know all used assertions. It refuses older ones, and the client must make a new one.
#[test]
fn client_assertion__used_before_a_restart() {
    let gate = long_running();
    let user = gate.sign_up("alice");
    let client = KeyClient::register(&gate, &user, "h.example.com", ClientKey::es256());
    let without = |names: &[&str]| {
        let mut claims = client.claims();
        for name in names {
            claims.as_object_mut().expect("an object").remove(*name);
        }
        client.sign(&client.header(), &claims)
    };
    let ahead = with(client.claims(), json!({"iat": gate.clock.now() + 4}));
    let used = [client.assertion(), without(&["iat", "nbf"]), client.sign(&client.header(), &ahead)];
    for assertion in &used {
        client.present("/token", assertion).expect(200);
    }
    let KeyClient { id, key, .. } = client;
    let gate = gate.restart(&[]);
    let client = KeyClient { gate: &gate, id, key };
    // It knows the assertions that were written to the database.
    let refused = |reply: Reply| match gate.database.is_postgres() && reply.status == 401 {
        true => invalid_client("used", &reply),
        false => drop(reply.refused(503, "busy")),
    };
    for assertion in &used {
        refused(client.present("/token", assertion));
    }
    gate.clock.advance(11);
    for assertion in &used {
        refused(client.present("/token", assertion));
    }
    client.present("/token", &client.assertion()).expect(200);
}

/// Clients with a secret use secrets, and clients with keys use signatures; RFC 7521 §4.2.
#[test]
fn client_authentication__one_method_per_client() {
    let gate = long_running();
    let (user, domain, _) = gate.tenant("alice");
    let client = KeyClient::register(&gate, &user, "keys.example.com", ClientKey::es256());
    let (id, secret) = (&client.id, &domain.secret);
    // A secret, even a good one, for a client with a key.
    for path in ENDPOINTS {
        let rest = rest_of_form(path);
        for body in [format!("{rest}&client_id={id}&client_secret={secret}"), format!("{rest}&client_id={id}")] {
            invalid_client(&body, &gate.post(path).form(body.clone()).send());
        }
        invalid_client("Basic", &gate.post(path).form(rest).basic(id, secret).send());
        invalid_client("Basic without a secret", &gate.post(path).form(rest).basic(id, "").send());
        let basic = gate.post(path).form(rest).basic(id, &client.assertion()).send();
        invalid_client("an assertion in Basic", &basic);
        let body = format!("{rest}&client_id={id}&client_secret={}", encoded(&client.assertion()));
        invalid_client("an assertion as a secret", &gate.post(path).form(body).send());
        invalid_client("as a bearer token", &gate.post(path).form(rest).token(client.assertion()).send());
        // A signature for a client with a secret.
        let other = KeyClient { gate: &gate, id: domain.id.clone(), key: ClientKey::es256() };
        invalid_client("an assertion for a secret", &other.present(path, &other.assertion()));
        let hs256 = json!({"alg": "HS256", "typ": "JWT"}).to_string();
        for key in [secret.as_bytes(), &[]] {
            let assertion = mint_with(&hs256, &other.claims().to_string(), key);
            invalid_client("client_secret_jwt", &other.present(path, &assertion));
        }
        // Both at once, or one of them incomplete.
        let assertion = client.assertion();
        let good = format!("{rest}&{}", asserting(&assertion));
        let alone = format!("{rest}&client_assertion={assertion}");
        let twice = format!("{good}&client_assertion={assertion}");
        let typed = |kind: &str| format!("{alone}&client_assertion_type={}", encoded(kind));
        for (name, reply, status) in [
            ("and Basic", gate.post(path).form(&*good).basic(id, secret).send(), 400),
            ("and Basic of another", gate.post(path).form(&*good).basic(&domain.id, secret).send(), 400),
            ("and a secret", gate.post(path).form(format!("{good}&client_secret={secret}")).send(), 400),
            ("and another client", gate.post(path).form(super::form(&domain, &good)).send(), 400),
            ("without its type", gate.post(path).form(&*alone).send(), 400),
            ("with an empty type", gate.post(path).form(typed("")).send(), 400),
            ("twice", gate.post(path).form(twice).send(), 400),
            (
                "SAML",
                gate.post(path).form(typed("urn:ietf:params:oauth:client-assertion-type:saml2-bearer")).send(),
                401,
            ),
            ("grant type", gate.post(path).form(typed("urn:ietf:params:oauth:grant-type:jwt-bearer")).send(), 401),
            ("a type in capitals", gate.post(path).form(typed(&JWT_BEARER.to_uppercase())).send(), 401),
            ("another's name", gate.post(path).form(format!("{good}&client_id={}", domain.id)).send(), 401),
        ] {
            assert_eq!(reply.status, status, "{path} {name}: {}", reply.text());
            assert_error_response(name, &reply);
        }
    }
    for path in ["/token", "/v1/token"] {
        for secret in [client.assertion(), client.id.clone(), client.key.thumbprint()] {
            invalid_client("JSON", &gate.post(path).json(&json!({"clientSecret": secret})).send());
        }
        let body = json!({"clientAssertion": client.assertion(), "clientSecret": ""});
        gate.post(path).json(&body).send().refused(400, "invalid_field");
    }
    // An assertion is no grant here (RFC 7523 §2.1).
    let grant = format!(
        "grant_type={}&assertion={}",
        encoded("urn:ietf:params:oauth:grant-type:jwt-bearer"),
        client.assertion()
    );
    let reply = gate.post("/token").form(format!("{grant}&{}", asserting(&client.assertion()))).send();
    assert_eq!(reply.refused(400, "grant_type")["error"], "unsupported_grant_type");
    // It gets scopes and resources like any client.
    let body = format!("{GRANT}&scope=posts:read&resource={ISSUER}&{}", asserting(&client.assertion()));
    assert_eq!(gate.post("/token").form(body).send().expect(200)["scope"], "posts:read");
    let body = format!("{GRANT}&scope=admin&{}", asserting(&client.assertion()));
    assert_eq!(gate.post("/token").form(body).send().refused(400, "scope")["error"], "invalid_scope");
}

#[test]
fn client_assertion__suspended_or_deleted_client() {
    let gate = long_running();
    let user = gate.sign_up("alice");
    let client = KeyClient::register(&gate, &user, "keys.example.com", ClientKey::ed_dsa());
    let token = client.token();
    set_suspended(&gate, &client.id, true);
    for path in ENDPOINTS {
        invalid_client("suspended", &client.present(path, &client.assertion()));
    }
    gate.get("/v1/test").token(&token).send().refused(401, "revoked");
    set_suspended(&gate, &client.id, false);
    let again = client.token();
    gate.get("/v1/test").token(&token).send().refused(401, "revoked");
    gate.get("/v1/test").token(&again).send().expect(200);
    gate.delete(&format!("/v1/domains/{}", client.id)).token(&user.token).send().expect(200);
    for path in ENDPOINTS {
        invalid_client("deleted", &client.present(path, &client.assertion()));
    }
    gate.get("/v1/test").token(&again).send().refused(401, "revoked");
}

/// A client's assertion is stored or logged nowhere.
#[test]
fn client_assertion__never_in_logs_or_files() {
    let database = Database::new();
    let settings = [("RUST_LOG", "trace"), ("ACCESS_LOG", "all"), ("PUBLIC_URL", PUBLIC_URL), ("JWT_ISSUER", ISSUER)];
    let child = Child::start(&database, &settings);
    let client = &child.client;
    let (user, _, _) = client.tenant("alice");
    let key = ClientKey::es256();
    let private = "c4naryc4naryc4naryc4naryc4naryc4naryc4naryc";
    let body = |jwk: Value| json!({"host": "keys.example.com", "type": "free", "jwks": {"keys": [jwk]}});
    client.post("/v1/domains", &user.token, body(with(key.jwk(), json!({"d": private})))).refused(400, "invalid_field");
    let id = text(&client.post("/v1/domains", &user.token, body(key.jwk())).expect(201)["payload"]["id"]);
    #[expect(clippy::disallowed_methods, reason = "the binary goes by the real time")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let assertion = |jti: &str, aud: &str| {
        let claims = json!({"iss": id, "sub": id, "aud": aud, "iat": now, "exp": now + 60, "jti": jti});
        key.sign(&json!({"alg": "ES256", "c4nary": true}).to_string(), &claims.to_string())
    };
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let post = |path: &str, body: &str| client.send("POST", path, &form, body).expect("an answer");
    let (good, wrong) = (assertion("c4nary-1", ISSUER), assertion("c4nary-2", "https://c4nary.example"));
    let body = |path: &str, assertion: &str| format!("{}&{}", rest_of_form(path), asserting(assertion));
    for path in ENDPOINTS {
        for assertion in [&good, &good, &wrong, &format!("{good}x")] {
            post(path, &body(path, assertion));
        }
        post(&format!("{path}?client_assertion={good}"), &body(path, "x"));
        client.get(&format!("{path}/{good}"), "");
        client.get(path, &good);
        client.post(path, "", json!({"clientSecret": good, "clientAssertion": wrong}));
        client.post(path, "", json!({"clientSecret": good}));
    }
    let fresh = assertion("c4nary-3", ISSUER);
    post("/token", &body("/token", &fresh)).expect(200);
    client.send("GET", "/healthz", &[("X-Request-Id", "the-last")], "").expect("an answer");
    within(PROMISED, "the log is written", || child.stdout().contains("the-last"));
    let parts = [&good, &wrong, &fresh].map(|assertion| assertion.split('.').map(str::to_owned).collect::<Vec<_>>());
    let canaries: Vec<String> = parts.concat().into_iter().chain(["c4nary".to_owned()]).collect();
    let assert_absent = |place: &str, text: &str| {
        for canary in &canaries {
            assert!(!text.contains(canary.as_str()), "{canary} stands in {place}");
        }
    };
    crate::binary::signal("TERM", child.pid());
    let outcome = child.wait(Duration::from_secs(10));
    assert!(!outcome.stderr.is_empty() && outcome.stdout.contains("/introspect"), "the logs are empty");
    assert_absent("the access log", &outcome.stdout);
    assert_absent("the log", &outcome.stderr);
    if !database.is_postgres() {
        for entry in std::fs::read_dir(database.dir.path().join("data")).expect("a folder") {
            let path = entry.expect("an entry").path();
            assert_absent(
                &path.display().to_string(),
                &String::from_utf8_lossy(&std::fs::read(&path).expect("readable")),
            );
        }
    }
}

/// After a start with any clock, the server refuses assertions that may have been used before.
#[test]
fn client_assertion__restart_with_a_clock_that_is_behind() {
    let gate = long_running();
    let user = gate.sign_up("alice");
    let client = KeyClient::register(&gate, &user, "shop.example.com", ClientKey::es256());
    let claims = with(client.claims(), json!({"exp": gate.clock.now() + 1800}));
    let assertion = client.sign(&client.header(), &claims);
    client.present("/token", &assertion).expect(200);
    gate.app.maintain().expect("the database answers");
    let (id, clock) = (client.id.clone(), gate.clock.clone());
    clock.set_wrong(-7200);
    let gate = gate.restart(&[]);
    clock.set_wrong(0);
    let form = format!("grant_type=client_credentials&client_id={id}&{}", super::asserting(&assertion));
    let again = gate.post("/token").form(form).send();
    assert!([401, 503].contains(&again.status), "{}", again.text());
}
