//! What a client may request: scopes (RFC 6749 §3.3), resources (RFC 8707 §2), and the resulting token (RFC 9068).

use gatebird::Config;

use super::{GRANT, ISSUER, PUBLIC_URL, assert_error_response, claim, encoded, form, gate, granted, register_with};
use crate::binary::{Child, PROMISED, gatebird, run, text, within};
use crate::harness::{Database, Domain, Gate, Reply, User, Value, json, parts};

const API: &str = "https://api.example.com/v1?x=1";
const URN: &str = "urn:example:api";
const SETTINGS: [(&str, &str); 2] =
    [("SCOPES", "posts:read posts:write orders"), ("AUDIENCES", "https://api.example.com/v1?x=1 urn:example:api")];

/// Registers a domain that is limited by those members.
#[track_caller]
fn limited(gate: &Gate, owner: &User, host: &str, members: Value) -> Domain {
    let answer = register_with(gate, owner, host, members).expect(201);
    Domain { id: text(&answer["payload"]["id"]), secret: text(&answer["payload"]["clientSecret"]) }
}

fn ask(gate: &Gate, domain: &Domain, rest: &str) -> Reply {
    gate.post("/token").form(form(domain, &format!("{GRANT}{rest}"))).send()
}

/// A refusal by RFC 6749 §5.2 or RFC 8707 §2.
#[track_caller]
fn refused(name: &str, reply: &Reply, error: &str) {
    assert_eq!(reply.status, 400, "{name}: {}", reply.text());
    assert_eq!(reply.json()["error"], error, "{name}");
    assert_error_response(name, reply);
}

#[test]
fn scopes_and_audiences_settings__invalid() {
    let many = |count: usize, of: &str| (0..count).map(|number| format!("{of}{number} ")).collect::<String>();
    let load = |key: &str, value: &str| {
        Config::load(|name| if name == key { Some(value.to_owned()) } else { None })
            .map_err(|problems| problems.to_string())
    };
    for (text, scopes) in [
        ("a", "a"),
        ("a b", "a b"),
        ("  a \t b\n", "a b"),
        ("b a", "b a"),
        (
            "!#$%&'()*+-./:<=>?@[]^_`{|}~ https://example.com/scope",
            "!#$%&'()*+-./:<=>?@[]^_`{|}~ https://example.com/scope",
        ),
        (many(64, "s").trim(), many(64, "s").trim()),
        ("", "posts:read posts:write"),
        (" ", "posts:read posts:write"),
    ] {
        assert_eq!(load("SCOPES", text).expect(text).scopes, scopes);
    }
    for text in
        ["a,b", "a;b", "a a", "a \"b\"", "a\\b", "키", "a\u{a0}b", "a\u{7f}", "a\0b", &many(400, "s"), &"s".repeat(65)]
    {
        let problems = load("SCOPES", text).expect_err(text);
        assert!(problems.starts_with("SCOPES ") && problems.lines().count() == 1, "{text:?}: {problems}");
    }
    for text in
        ["https://a.example", "urn:x:y", "https://a.example/?a=b&c", "tag:a.example,2026:x", &many(64, "urn:x:"), ""]
    {
        let config = load("AUDIENCES", text).expect(text);
        assert_eq!(config.audiences[0], config.issuer, "the issuer is always an audience");
        assert_eq!(config.audiences[1..], *text.split_whitespace().collect::<Vec<_>>(), "{text}");
    }
    let long = format!("https://a.example/{}", "a".repeat(200));
    let bad = [
        "https://a.example,https://b.example",
        "urn:x:y, urn:x:z",
        "a",
        "/v1",
        "//a.example",
        "a.example",
        "https://",
        "https://a.example#b",
        "https://a.example/#",
    ];
    for text in bad.iter().chain(&["urn:x:y #", "https://a.example/\"", "https://a.example/\\", "https://키.example"])
    {
        let problems = load("AUDIENCES", text).expect_err(text);
        assert!(problems.starts_with("AUDIENCES ") && problems.lines().count() == 1, "{text:?}: {problems}");
    }
    for text in [&long, &many(400, "urn:x:")] {
        assert!(load("AUDIENCES", text).is_err(), "{text:?}");
    }
    let database = Database::sqlite();
    let outcome = run(&mut gatebird(&database, &[], &[("SCOPES", "a \"b\""), ("AUDIENCES", "v1")]), "");
    assert_eq!(outcome.code, Some(78), "{outcome:?}");
    let keys: Vec<_> = outcome.stderr.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(keys, ["SCOPES", "AUDIENCES"], "{outcome:?}");
}

#[test]
fn scope__requested_and_allowed() {
    let gate = gate(&SETTINGS);
    let user = gate.sign_up("alice");
    let any = gate.register(&user, "any.example.com");
    let narrow = limited(&gate, &user, "narrow.example.com", json!({"scopes": ["posts:write", "posts:read"]}));
    let (all, own) = ("posts:read posts:write orders", "posts:write posts:read");
    for (domain, asked, granted) in [
        (&any, "", all),
        (&any, "&scope=", all),
        (&any, "&scope=orders", "orders"),
        (&any, "&scope=orders+posts%3Aread", "orders posts:read"),
        (&any, "&scope=posts:write%20orders%20posts:read", "posts:write orders posts:read"),
        (&narrow, "", own),
        (&narrow, "&scope", own),
        (&narrow, "&scope=posts:read", "posts:read"),
        (&narrow, "&scope=posts:read+posts:write", "posts:read posts:write"),
        (&narrow, "&scope=posts:read+posts:read+posts:write+posts:read", "posts:read posts:write"),
    ] {
        let answer = ask(&gate, domain, asked).expect(200);
        assert_eq!(answer["scope"], granted, "{asked}");
        assert_eq!(claim(&text(&answer["access_token"]), "scope"), granted, "{asked}");
    }
    // The JSON form requests nothing, and gets what the domain may have.
    assert_eq!(claim(&gate.access_token(&narrow), "scope"), own);
    for (domain, asked) in [
        (&narrow, "orders"),
        (&narrow, "posts:read orders"),
        (&narrow, "orders posts:read"),
        (&any, "admin"),
        (&any, "posts:read admin"),
        (&any, "posts:read\tposts:write"),
        (&any, "posts:read\nposts:write"),
        (&any, "posts:read\u{a0}posts:write"),
        (&any, "posts:read,posts:write"),
        (&any, "posts:read+posts:write"),
        (&any, "POSTS:READ"),
        (&any, "posts"),
        (&any, "posts:rea"),
        (&any, "posts:reads"),
        (&any, "*"),
        (&any, "\"posts:read\""),
        (&any, "posts:read\""),
        (&any, "posts:read\\"),
        (&any, "posts:read\" error=\"none"),
        (&any, "posts:read\r\nX-Injected: 1"),
        (&any, "posts:read\0"),
        (&any, "게시글"),
    ] {
        refused(asked, &ask(&gate, domain, &format!("&scope={}", encoded(asked))), "invalid_scope");
    }
    // A scope that was not granted cannot be used.
    let reader = granted(&gate, &narrow, "&scope=posts:read");
    gate.get("/v1/posts/my").token(&reader).send().expect(200);
    gate.post("/v1/posts").token(&reader).json(&json!({"content": "x"})).send().refused(403, "scope");
    let orders = granted(&gate, &any, "&scope=orders");
    gate.get("/v1/posts/my").token(&orders).send().refused(403, "scope");
}

#[test]
fn resource__requested_and_allowed() {
    let gate = gate(&SETTINGS);
    let user = gate.sign_up("alice");
    let any = gate.register(&user, "any.example.com");
    let narrow = limited(&gate, &user, "narrow.example.com", json!({"audiences": [URN]}));
    let both = limited(&gate, &user, "both.example.com", json!({"audiences": [URN, ISSUER]}));
    let rows: &[(&Domain, &[&str], &[&str])] = &[
        (&any, &[], &[ISSUER]),
        (&any, &[""], &[ISSUER]),
        (&any, &[ISSUER], &[ISSUER]),
        (&any, &[API], &[API]),
        (&any, &["", API], &[API]),
        (&any, &[URN, API], &[URN, API]),
        (&any, &[API, URN, ISSUER], &[API, URN, ISSUER]),
        (&any, &[API, API, URN, API], &[API, URN]),
        (&narrow, &[], &[URN]),
        (&narrow, &[URN, URN], &[URN]),
        (&both, &[], &[ISSUER]),
        (&both, &[URN, ISSUER], &[URN, ISSUER]),
    ];
    let asking =
        |resources: &[&str]| resources.iter().map(|uri| format!("&resource={}", encoded(uri))).collect::<String>();
    for (domain, asked, granted) in rows {
        let answer = ask(&gate, domain, &asking(asked)).expect(200);
        assert_eq!(claim(&text(&answer["access_token"]), "aud"), json!(granted), "{asked:?}");
    }
    assert_eq!(claim(&gate.access_token(&narrow), "aud"), json!([URN]), "plain JSON");
    let pair = format!("{API} {URN}");
    let rows: &[(&Domain, &[&str])] = &[
        (&narrow, &[ISSUER]),
        (&narrow, &[URN, ISSUER]),
        (&both, &[API]),
        (&any, &["https://other.example"]),
        (&any, &[API, "https://other.example"]),
        (&any, &["https://other.example", API]),
        (&any, &[&pair]),
        (&any, &["/v1"]),
        (&any, &["v1"]),
        (&any, &["?x=1"]),
        (&any, &["//api.example.com/v1?x=1"]),
        (&any, &["api.example.com/v1?x=1"]),
        (&any, &["https://api.example.com/v1?x=1#"]),
        (&any, &["https://api.example.com/v1?x=1#a"]),
        (&any, &["https://api.example.com/v1"]),
        (&any, &["https://api.example.com/"]),
        (&any, &["https://API.example.com/v1?x=1"]),
        (&any, &["https://api.example.com:443/v1?x=1"]),
        (&any, &["https://api.example.com/%76%31?x=1"]),
        (&any, &["https://api.example.com/v1/../v1?x=1"]),
        (&any, &["https://gate.test/"]),
        (&any, &["urn:example:API"]),
        (&any, &[" urn:example:api"]),
        (&any, &["*"]),
        (&any, &["null"]),
        (&any, &["urn:example:api\0"]),
        (&any, &["urn:example:api\r\nX-Injected: 1"]),
        (&any, &[PUBLIC_URL]),
    ];
    for (domain, asked) in rows {
        refused(&format!("{asked:?}"), &ask(&gate, domain, &asking(asked)), "invalid_target");
    }
}

#[test]
fn aud_claim__token_is_valid_only_for_its_audience() {
    let gate = gate(&SETTINGS);
    let (_, domain, plain) = gate.tenant("alice");
    let elsewhere = granted(&gate, &domain, &format!("&resource={}", encoded(URN)));
    let both = granted(&gate, &domain, &format!("&resource={}&resource={ISSUER}", encoded(URN)));
    for (token, here, there) in [(&plain, true, false), (&elsewhere, false, true), (&both, true, true)] {
        for (path, good) in [
            ("/v1/test", here),
            ("/v1/posts/my", here),
            ("/verify", here),
            ("/verify?audience=https://gate.test", here),
            ("/verify?audience=urn:example:api", there),
            ("/verify?audience=urn%3Aexample%3Aapi&scope=posts:read", there),
            ("/verify?audience=urn:example:api:", false),
            ("/verify?audience=https://api.example.com/v1", false),
        ] {
            let reply = gate.get(path).token(token).send();
            match good {
                true => assert_eq!(reply.status, 200, "{path}: {}", reply.text()),
                false => drop(reply.refused(401, "invalid")),
            }
        }
    }
    // Only a token for the right audience is reported as expired.
    gate.clock.advance(60);
    gate.get("/v1/test").token(&elsewhere).send().refused(401, "invalid");
    gate.get("/v1/test").token(&both).send().refused(419, "expired");
    gate.get("/verify?audience=urn:example:api").token(&elsewhere).send().refused(401, "expired");
    gate.get("/verify?audience=urn:example:api").token(&plain).send().refused(401, "invalid");
}

/// RFC 9068 §2.
#[test]
fn access_token__profile_of_rfc_9068() {
    for algorithm in ["HS256", "ES256", "EdDSA", "RS256"] {
        let gate = gate(&[SETTINGS[0], SETTINGS[1], ("JWT_ALGORITHM", algorithm), ("TOKEN_TTL", "30s")]);
        let (_, domain, _) = gate.tenant("alice");
        let before = gate.clock.now();
        let request = format!("{GRANT}&scope=orders&resource={}&resource={}", encoded(URN), encoded(API));
        let reply = gate.post("/token").form(form(&domain, &request)).send();
        let answer = reply.expect(200);
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!((reply.header("cache-control"), reply.header("pragma")), (Some("no-store"), Some("no-cache")));
        let members: Vec<&String> = answer.as_object().expect("an object").keys().collect();
        assert_eq!(members, ["access_token", "expires_in", "scope", "token_type"]);
        assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(30)));

        let (header, claims) = parts(&text(&answer["access_token"]));
        assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!(algorithm)));
        assert!(header["kid"].as_str().is_some_and(|kid| !kid.is_empty()), "{header}");
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!(ISSUER), &json!([URN, API])));
        assert_eq!((&claims["sub"], &claims["client_id"]), (&json!(domain.id), &json!(domain.id)));
        assert_eq!(claims["scope"], "orders");
        let [iat, exp] = ["iat", "exp"].map(|name| claims[name].as_i64().expect("whole seconds"));
        assert!((before..=gate.clock.now()).contains(&iat) && exp == iat + 30, "{claims}");
        assert_eq!(claims["jti"].as_str().map(str::len), Some(32), "{claims}");
        for absent in ["secret", "email", "password", "nbf", "cnf", "act"] {
            assert!(claims.get(absent).is_none(), "{claims}");
        }
    }
}

#[test]
fn domain_scopes_and_audiences__set_at_registration() {
    let gate = gate(&SETTINGS);
    let user = gate.sign_up("alice");
    let good = [
        json!({"scopes": ["posts:read"]}),
        json!({"scopes": ["orders", "posts:read"], "audiences": [URN, ISSUER]}),
        json!({"audiences": [API]}),
    ];
    for (number, members) in good.iter().enumerate() {
        let reply = register_with(&gate, &user, &format!("good{number}.example.com"), members.clone());
        let payload = reply.expect(201)["payload"].clone();
        let path = format!("/v1/domains/{}", text(&payload["id"]));
        let shown = gate.get(&path).token(&user.token).send().expect(200)["payload"].clone();
        for member in ["scopes", "audiences"] {
            assert_eq!(payload.get(member), members.get(member), "{payload}");
            assert_eq!(shown.get(member), members.get(member), "{shown}");
        }
        // Its owner cannot widen it.
        for widened in ["scopes", "audiences", "scope"] {
            let reply = gate.patch(&path).token(&user.token).json(&json!({widened: ["orders"]})).send();
            assert_eq!(reply.refused(400, "invalid_field")["field"], widened);
        }
    }
    let bad = [
        ("scopes", json!([])),
        ("scopes", json!(["admin"])),
        ("scopes", json!(["posts:read", "admin"])),
        ("scopes", json!(["posts:read", "posts:read"])),
        ("scopes", json!(["posts:read orders"])),
        ("scopes", json!([""])),
        ("scopes", json!([" posts:read"])),
        ("scopes", json!("posts:read")),
        ("scopes", json!({"posts:read": true})),
        ("scopes", json!([1])),
        ("scopes", json!([null])),
        ("scopes", json!([["posts:read"]])),
        ("scopes", json!(1)),
        ("scopes", json!(true)),
        ("scopes", json!(null)),
        ("audiences", json!([])),
        ("audiences", json!(["https://other.example"])),
        ("audiences", json!([URN, "https://other.example"])),
        ("audiences", json!([URN, URN])),
        ("audiences", json!([format!("{URN} {ISSUER}")])),
        ("audiences", json!(["https://gate.test/"])),
        ("audiences", json!([""])),
        ("audiences", json!(URN)),
        ("audiences", json!([false])),
        ("audiences", json!({})),
        ("audiences", json!(null)),
        ("scope", json!("posts:read")),
        ("aud", json!(URN)),
    ];
    for (member, value) in bad {
        let reply = register_with(&gate, &user, "bad.example.com", json!({member: value}));
        assert_eq!(reply.status, 400, "{member}: {value}: {}", reply.text());
        let body = reply.refused(400, "invalid_field");
        assert!(body["field"].as_str().is_some_and(|field| field.starts_with(member)), "{value}: {body}");
    }
    assert_eq!(gate.app.directory.domain_count(), good.len(), "nothing else was registered");
}

#[test]
fn domain_scopes_and_audiences__set_by_the_operator() {
    let database = Database::new();
    let settings = [SETTINGS[0], SETTINGS[1], ("JWT_ISSUER", ISSUER)];
    let child = Child::start(&database, &settings);
    let (user, domain, token) = child.client.tenant("alice");
    let allow = |options: &[&str]| {
        let args = [&["domain", "allow", &domain.id, "--json"], options].concat();
        run(&mut gatebird(&database, &args, &settings), "")
    };
    let form_kind = [("Content-Type", "application/x-www-form-urlencoded")];
    let ask = |rest: &str| {
        let body = form(&domain, &format!("{GRANT}{rest}"));
        child.client.send("POST", "/token", &form_kind, &body).expect("an answer")
    };
    let has = |scope: &str, audience: &str| {
        let token = text(&ask("").expect(200)["access_token"]);
        claim(&token, "scope") == scope && claim(&token, "aud") == json!([audience])
    };
    assert!(has("posts:read posts:write orders", ISSUER));

    let output = allow(&["--scopes", "orders posts:read", "--audiences", URN]).json();
    assert_eq!(output, json!({"id": domain.id, "scopes": "orders posts:read", "audiences": URN}));
    within(PROMISED, "it is limited", || has("orders posts:read", URN));
    refused("a scope that it had", &ask("&scope=posts:write"), "invalid_scope");
    refused("an audience that it had", &ask(&format!("&resource={ISSUER}")), "invalid_target");
    // Existing tokens are not changed.
    child.client.get("/v1/test", &token).expect(200);
    let shown = child.client.get(&format!("/v1/domains/{}", domain.id), &user.token).expect(200)["payload"].clone();
    assert_eq!((&shown["scopes"], &shown["audiences"]), (&json!(["orders", "posts:read"]), &json!([URN])));

    // An option that is not given changes nothing.
    allow(&["--audiences", &format!("{API}  {ISSUER}")]).json();
    within(PROMISED, "another limit", || has("orders posts:read", ISSUER));
    refused("an audience that it had", &ask(&format!("&resource={}", encoded(URN))), "invalid_target");
    let output = allow(&["--scopes", "orders"]).json();
    assert_eq!(output, json!({"id": domain.id, "scopes": "orders", "audiences": format!("{API} {ISSUER}")}));
    within(PROMISED, "fewer scopes", || has("orders", ISSUER));
    refused("an audience that it had", &ask(&format!("&resource={}", encoded(URN))), "invalid_target");
    assert_eq!(allow(&["--all"]).json(), json!({"id": domain.id, "scopes": null, "audiences": null}));
    within(PROMISED, "no limit", || ask(&format!("&resource={}", encoded(URN))).status == 200);

    for (options, says) in [
        (&["--scopes", "admin"][..], "scopes"),
        (&["--scopes", "orders admin"], "scopes"),
        (&["--scopes", "orders orders"], "scopes"),
        (&["--scopes", ""], "scopes"),
        (&["--scopes", " "], "scopes"),
        (&["--scopes", "orders,posts:read"], "scopes"),
        (&["--audiences", "https://other.example"], "audiences"),
        (&["--audiences", "urn:example:api urn:example:api"], "audiences"),
        (&["--audiences", ""], "audiences"),
        (&["--scopes", "orders", "--audiences", "x"], "audiences"),
        (&["--scope", "orders"], "--scope"),
        (&["--scopes"], "--scopes"),
    ] {
        let outcome = allow(options);
        assert_eq!(outcome.code, Some(64), "{options:?} {outcome:?}");
        assert!(outcome.stderr.contains(says) && outcome.stdout.is_empty(), "{options:?} {outcome:?}");
    }
    for id in ["dom_0000000000000000000000", "x"] {
        let outcome = run(&mut gatebird(&database, &["domain", "allow", id, "--scopes", "orders"], &settings), "");
        assert_eq!(outcome.code, Some(64), "{outcome:?}");
    }
    // The limit can be set at the creation.
    let add = ["domain", "add", "new.example.com", "--user", "alice", "--scopes", "orders", "--json"];
    let added = run(&mut gatebird(&database, &add, &settings), "").json();
    let exchange = || child.client.exchange(added["clientSecret"].as_str().expect("a secret"));
    within(PROMISED, "a domain with a limit", || exchange().status == 200);
    assert_eq!(claim(&text(&exchange().expect(200)["token"]), "scope"), "orders");
}

/// A domain's limit survives a change of SCOPES and AUDIENCES. A token never has a removed scope or audience, and never
/// none at all.
#[test]
fn domain_scopes_and_audiences__removed_from_the_settings() {
    let first = gate(&SETTINGS);
    let user = first.sign_up("alice");
    let any = first.register(&user, "any.example.com");
    let some = limited(
        &first,
        &user,
        "some.example.com",
        json!({"scopes": ["orders", "posts:read"], "audiences": [URN, API]}),
    );
    let one = limited(&first, &user, "one.example.com", json!({"scopes": ["orders"]}));
    let urn = limited(&first, &user, "urn.example.com", json!({"audiences": [URN]}));
    let early = first.access_token(&any);

    let gate = first.restart(&[("SCOPES", "posts:read posts:new"), ("AUDIENCES", API)]);
    for (domain, scope, audience) in [(&any, "posts:read posts:new", ISSUER), (&some, "posts:read", API)] {
        let token = granted(&gate, domain, "");
        assert_eq!((claim(&token, "scope"), claim(&token, "aud")), (json!(scope), json!([audience])));
    }
    refused("orders", &ask(&gate, &any, "&scope=orders"), "invalid_scope");
    refused("orders", &ask(&gate, &some, "&scope=orders"), "invalid_scope");
    refused("posts:new", &ask(&gate, &some, "&scope=posts:new"), "invalid_scope");
    refused("URN", &ask(&gate, &any, &format!("&resource={}", encoded(URN))), "invalid_target");
    // Earlier tokens stay valid until they expire.
    gate.get("/v1/test").token(&early).send().expect(200);
    // Nothing is left for these two, which is an error instead of an empty token.
    refused("no audience left", &ask(&gate, &urn, ""), "invalid_target");
    assert_eq!(gate.post("/token").json(&json!({"clientSecret": urn.secret})).send().json()["error"], "invalid_target");
    refused("no scope left", &ask(&gate, &one, ""), "invalid_scope");
    assert_eq!(gate.post("/token").json(&json!({"clientSecret": one.secret})).send().json()["error"], "invalid_scope");
}
