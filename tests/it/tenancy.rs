//! Tenants are separate: a resource of another tenant behaves as if it did not exist.

mod model;

use crate::accounts::{exchange, row_counts};
use crate::domains::set_suspended;
use crate::harness::{Gate, Reply, Request, Value, json, resigned};
use crate::posts::write;

/// Everything that could distinguish two answers: all except id, date, and whether the connection stays open, which
/// depends on how much of an unread body had arrived.
pub fn comparable(reply: &Reply) -> String {
    let id = reply.header("x-request-id").expect("every answer has an id");
    let header = |(name, value): &(String, String)| match name.as_str() {
        "x-request-id" | "date" | "connection" => None,
        // Ids get longer as they go up.
        "content-length" => {
            value.parse().ok().map(|length: usize| format!("{name}: {}", length.saturating_sub(id.len())))
        }
        _ => Some(format!("{name}: {value}")),
    };
    let mut headers: Vec<String> = reply.headers.iter().filter_map(header).collect();
    headers.sort();
    format!("{} {headers:?} {}", reply.status, reply.text().replace(id, "<id>"))
}

/// Methods on an id, of the routes and of others.
const METHODS: &[(&str, Option<&str>)] = &[
    ("GET", None),
    ("HEAD", None),
    ("OPTIONS", None),
    ("QUERY", None),
    ("POST", Some(r#"{"content":"stolen #x"}"#)),
    ("PUT", Some(r#"{"content":"stolen #x"}"#)),
    ("PUT", Some(r#"{"content":""}"#)),
    ("PUT", Some("{")),
    ("PUT", None),
    ("PATCH", Some(r#"{"type":"premium"}"#)),
    ("PATCH", Some(r#"{"type":"enterprise"}"#)),
    ("PATCH", Some(r#"{"content":"stolen"}"#)),
    ("DELETE", None),
    ("DELETE", Some(r#"{"force":true}"#)),
];

/// Headers with which a cache or a proxy could ask for more.
const HEADERS: &[(&str, &str)] = &[
    ("If-None-Match", "*"),
    ("If-Match", "*"),
    ("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("Range", "bytes=0-0"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("X-Original-URL", "/v1/posts/my"),
];

fn attempts(gate: &Gate, path: &str) -> Vec<(String, Request)> {
    let with = METHODS.iter().map(|(method, body)| {
        let request = gate.request(method, path);
        let request = match body {
            Some(body) => request.body("application/json", *body),
            None => request,
        };
        (format!("{method} {body:?}"), request)
    });
    let headers = HEADERS.iter().map(|(name, value)| (format!("GET {name}"), gate.get(path).header(name, value)));
    with.chain(headers).collect()
}

#[test]
fn tenancy__resources_of_another_tenant_are_not_found() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    let (mallory, _, mallorys_access) = gate.tenant("mallory");
    let post = write(&gate, &alice.token, "alice's #x");
    let deleted = write(&gate, &mallory.token, "gone");
    gate.delete(&format!("/v1/posts/{deleted}")).token(&mallory.token).send().expect(200);
    let dead = gate.register(&mallory, "dead.example.com");
    gate.delete(&format!("/v1/domains/{}", dead.id)).token(&mallory.token).send().expect(200);

    let (own_post, own_domain) = (format!("/v1/posts/{post}"), format!("/v1/domains/{}", domain.id));
    let before = [&own_post, &own_domain].map(|path| gate.get(path).token(&alice.token).send().expect(200));
    let rows = row_counts(&gate);
    let unknown = "/v1/domains/dom_0123456789ABCDEFGHIJkl".to_owned();
    for (foreign, missing, tokens) in [
        (&own_post, "/v1/posts/4611686018427387904".into(), vec![&mallory.token, &mallorys_access]),
        (&own_post, format!("/v1/posts/{deleted}"), vec![&mallory.token, &mallorys_access]),
        (&own_domain, unknown, vec![&mallory.token]),
        (&own_domain, format!("/v1/domains/{}", dead.id), vec![&mallory.token]),
    ] {
        for token in tokens {
            for ((what, one), (_, other)) in attempts(&gate, foreign).into_iter().zip(attempts(&gate, &missing)) {
                let (one, other) = (one.token(token).send(), other.token(token).send());
                assert!((400..500).contains(&one.status) || what.starts_with("OPTIONS"), "{what} {one:?}");
                assert_eq!(comparable(&one), comparable(&other), "{what} {foreign}");
            }
        }
    }
    let after = [&own_post, &own_domain].map(|path| gate.get(path).token(&alice.token).send().expect(200));
    assert_eq!(after, before);
    assert_eq!(row_counts(&gate), rows);
    exchange(&gate, &domain).expect(200);
}

fn contents(list: &Value) -> Vec<&str> {
    let posts = list["payload"].as_array().expect("an array");
    posts.iter().map(|post| post["content"].as_str().expect("a string")).collect()
}

#[test]
fn tenancy__hashtag_and_cursor_show_own_posts_only() {
    let gate = Gate::start();
    let (alice, _, alices) = gate.tenant("alice");
    let (bob, _, bobs) = gate.tenant("bob");
    let (_, _, unknown) = gate.tenant("carol");
    for round in 0..4 {
        write(&gate, &alice.token, &format!("alice {round} #rust"));
        write(&gate, &bob.token, &format!("bob {round} #rust"));
    }
    write(&gate, &alice.token, "alice #secret");
    for list in ["/v1/posts/my", "/v1/posts/hashtag/rust"] {
        let get = |token: &str, query: &str| gate.get(&format!("{list}{query}")).token(token).send();
        for (token, name) in [(&alices, "alice"), (&alice.token, "alice"), (&bobs, "bob"), (&bob.token, "bob")] {
            let list = get(token, "").expect(200);
            assert!(contents(&list).len() >= 4 && contents(&list).iter().all(|post| post.starts_with(name)), "{list}");
        }
        let alices_page = get(&alices, "?limit=2").expect(200);
        let cursor = alices_page["nextCursor"].as_str().expect("another page");
        let page = get(&bobs, &format!("?cursor={cursor}")).expect(200);
        assert!(!contents(&page).is_empty() && contents(&page).iter().all(|post| post.starts_with("bob")), "{page}");
        // A cursor does not reveal whether its post exists: a position without a post continues at the same post.
        let reply = get(&unknown, &format!("?cursor={cursor}"));
        let none = get(&unknown, "?cursor=P_________8");
        assert_eq!(comparable(&reply), comparable(&none));
    }
    let foreign = gate.get("/v1/posts/hashtag/secret").token(&bobs).send();
    let missing = gate.get("/v1/posts/hashtag/nosuch").token(&bobs).send();
    assert_eq!((foreign.status, comparable(&foreign)), (404, comparable(&missing)));
}

#[test]
fn tenancy__claims_of_another_tenant_are_refused() {
    let gate = Gate::start();
    let (alice, alices, _) = gate.tenant("alice");
    let (mallory, mallorys, access) = gate.tenant("mallory");
    let post = format!("/v1/posts/{}", write(&gate, &alice.token, "#x"));
    // Even with a good signature, the claims about the owner must agree with the directory.
    for (token, member, value) in [
        (&mallory.token, "id", json!(alice.id)),
        (&mallory.token, "id", json!(alice.id.to_string())),
        (&mallory.token, "id", json!([mallory.id, alice.id])),
        (&mallory.token, "id", json!(null)),
        (&mallory.token, "id", json!(-1)),
        (&mallory.token, "sub", json!(format!("usr_{}", alice.id))),
        (&mallory.token, "sub", json!(alices.id)),
        (&access, "id", json!(alice.id)),
        (&access, "sub", json!(alices.id)),
        (&access, "client_id", json!(alices.id)),
        (&access, "sub", json!(format!("usr_{}", alice.id))),
    ] {
        let forged = resigned(token, |_, claims| claims[member] = value.clone());
        for request in [gate.get(&post), gate.get("/v1/posts/my"), gate.delete(&post)] {
            request.token(&forged).send().refused(401, "invalid");
        }
    }
    gate.get(&post).token(&alice.token).send().expect(200);
    exchange(&gate, &mallorys).expect(200);
}

#[test]
fn tenancy__two_identities_in_one_request_are_refused() {
    let gate = Gate::start();
    let (alice, _, _) = gate.tenant("alice");
    let (bob, _, _) = gate.tenant("bob");
    for (first, second) in [(&alice.token, &bob.token), (&bob.token, &alice.token), (&alice.token, &alice.token)] {
        gate.get("/v1/me").token(first).token(second).send().refused(401, "invalid");
    }
    // Tokens are read from nowhere else, so a second one there has no effect.
    let path = format!("/v1/me?access_token={}&token={}", bob.token, bob.token);
    let reply = gate.get(&path).token(&alice.token).header("Cookie", format!("token={}", bob.token)).send();
    assert_eq!(reply.expect(200)["payload"]["id"], json!(alice.id));
    gate.get(&path).header("Cookie", format!("token={}", bob.token)).send().refused(401, "missing");
}

#[test]
fn tenancy__domain_changes_within_the_life_of_a_token() {
    let gate = Gate::with(&[("LIMIT_FREE", "3/h"), ("LIMIT_PREMIUM", "off")]);
    let owner = gate.sign_up("owner");
    let body = json!({"host": "shop.example.com", "type": "premium"});
    let answer = gate.post("/v1/domains").token(&owner.token).json(&body).send().expect(201);
    let text = |member: &str| answer["payload"][member].as_str().expect("a string").to_owned();
    let domain = crate::harness::Domain { id: text("id"), secret: text("clientSecret") };
    let token = gate.access_token(&domain);
    let path = format!("/v1/domains/{}", domain.id);
    let test = || gate.get("/v1/test").token(&token).send();

    for _ in 0..10 {
        test().expect(200);
    }
    gate.patch(&path).token(&owner.token).json(&json!({"type": "free"})).send().expect(200);
    for _ in 0..3 {
        test().expect(200);
    }
    test().refused(429, "plan");
    gate.patch(&path).token(&owner.token).json(&json!({"type": "premium"})).send().expect(200);
    test().expect(200);

    set_suspended(&gate, &domain.id, true);
    test().refused(401, "revoked");
    set_suspended(&gate, &domain.id, false);
    test().refused(401, "revoked");
    gate.delete(&path).token(&owner.token).send().expect(200);
    test().refused(401, "revoked");
}

#[test]
fn tenancy__no_caching_and_no_operator_routes() {
    let gate = Gate::start();
    let (alice, domain, access) = gate.tenant("alice");
    let post = format!("/v1/posts/{}", write(&gate, &alice.token, "#x"));
    let domain = format!("/v1/domains/{}", domain.id);
    for path in
        ["/v1/me", "/v1/domains", &domain, "/v1/posts/my", "/v1/posts/hashtag/x", &post, "/v1/test", "/v1/posts/0"]
    {
        let reply = gate.get(path).token(&alice.token).send();
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
        let vary = reply.header("vary").unwrap_or_default().to_ascii_lowercase();
        assert!(vary.contains("authorization"), "{path}: {vary}");
    }
    for path in ["/metrics", "/admin", "/v1/admin", "/v1/users", &format!("/v1/users/{}", alice.id), "/setup", "/debug"]
    {
        for token in [&alice.token, &access] {
            gate.get(path).token(token).send().refused(404, "not_found");
        }
    }
}
