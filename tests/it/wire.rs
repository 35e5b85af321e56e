//! Every body on the wire, compared with snapshots: each success, each kind of refusal, in both languages, and the
//! headers that OAuth 2.0 and reverse proxies use. One set of snapshots for both databases.
//!
//! An intended change is accepted with `INSTA_UPDATE=always cargo test --test it wire::`, and read in the diff.

use std::collections::BTreeMap;

use diesel::connection::SimpleConnection;
use insta::internals::{Content, ContentPath};
use serde::Serialize;

use crate::domains::set_suspended;
use crate::harness::{Gate, PASSWORD, Reply, Request, Value, json};
use crate::matrix::expired_copy;
use crate::verification::dns::{Dns, Record};

/// The name of the redacted value if it is well-formed; else the value itself, which no snapshot has.
fn named(content: Content, name: &str, good: bool) -> Content {
    if good { Content::from(format!("[{name}]")) } else { content }
}

fn token(content: Content, _: ContentPath<'_>) -> Content {
    let good = content.as_str().is_some_and(|text| text.starts_with("eyJ") && text.split('.').count() == 3);
    named(content, "token", good)
}

fn secret(content: Content, _: ContentPath<'_>) -> Content {
    let good = content.as_str().is_some_and(|text| text.starts_with("gbs_") && text.len() == 42);
    named(content, "secret", good)
}

/// A domain's public id, a user token's subject, or a number.
fn id(content: Content, _: ContentPath<'_>) -> Content {
    match content.as_str().map(str::to_owned) {
        None => {
            let good = content.as_i64().is_some_and(|number| number > 0);
            named(content, "number", good)
        }
        Some(text) if text.starts_with("usr_") => named(content, "user", text[4..].parse::<u64>().is_ok()),
        Some(text) => named(content, "domain", text.starts_with("dom_") && text.len() == 26),
    }
}

/// A user's id in a header.
fn user(content: Content, _: ContentPath<'_>) -> Content {
    let good = content.as_str().is_some_and(|text| text.parse::<u64>().is_ok());
    named(content, "user", good)
}

/// Unix seconds, as a number or in a header.
fn time(content: Content, _: ContentPath<'_>) -> Content {
    let seconds = content.as_i64().or_else(|| content.as_str()?.parse().ok());
    let good = seconds.is_some_and(|seconds| seconds > 1_700_000_000);
    named(content, "time", good)
}

fn jti(content: Content, _: ContentPath<'_>) -> Content {
    let good = content.as_str().is_some_and(|text| text.len() == 32 && u128::from_str_radix(text, 16).is_ok());
    named(content, "jti", good)
}

/// The value that a host must publish.
fn challenge(content: Content, _: ContentPath<'_>) -> Content {
    let token = content.as_str().and_then(|text| text.strip_prefix("gatebird-challenge=")).unwrap_or_default();
    let good = token.len() == 32 && u128::from_str_radix(token, 16).is_ok();
    named(content, "challenge", good)
}

/// Compares with the stored snapshot. Values that differ from run to run are replaced by their names.
fn snapshot(name: &str, value: &impl Serialize) {
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    for (member, fixed) in [("requestId", "[request id]"), ("nextCursor", "[cursor]"), ("directoryAgeSeconds", "[age]")]
    {
        settings.add_redaction(&format!(".**.{member}"), fixed);
    }
    type Redaction = fn(Content, ContentPath<'_>) -> Content;
    let redactions: [(&[&str], Redaction); 7] = [
        (&["token", "access_token"], token),
        (&["clientSecret"], secret),
        (&["id", "client_id", "sub", "actor", "target", "x-gatebird-domain"], id),
        (&["x-gatebird-user"], user),
        (&["value", "content"], challenge),
        (&["createdAt", "updatedAt", "expiresAt", "verifiedAt", "at", "iat", "exp", "x-gatebird-token-expires"], time),
        (&["jti"], jti),
    ];
    for (members, redaction) in redactions {
        for member in members {
            settings.add_dynamic_redaction(&format!(".**[\"{member}\"]"), redaction);
        }
    }
    settings.bind(|| insta::assert_json_snapshot!(name, value));
}

/// The keys of RFC 7517 appendix A.1 and RFC 8037 appendix A.2.
const EC_KEY: &str = r#"{"kty":"EC","crv":"P-256","kid":"ec","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#;
const ED_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const ED_PRIVATE: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}"#;

/// Fills the places of the keys in a body.
fn with_keys(body: &str) -> String {
    body.replace("{ec}", EC_KEY).replace("{ed}", ED_KEY).replace("{private}", ED_PRIVATE)
}

const LANGUAGES: &[&str] = &["en", "ko"];

/// The answers of a walk, by request.
struct Walk<'a> {
    language: &'a str,
    answers: BTreeMap<String, Value>,
}

impl Walk<'_> {
    /// Sends the request, and keeps the answer under that name.
    fn ask(&mut self, name: &str, request: Request) -> Value {
        let reply = request.header("Accept-Language", self.language).send();
        let body = reply.json();
        assert_eq!(reply.header("content-type"), Some("application/json"), "{name}");
        let answer = json!({"status": reply.status, "body": body});
        assert!(self.answers.insert(name.into(), answer).is_none(), "{name} is used twice");
        body
    }
}

#[test]
fn wire_format__successes() {
    for language in LANGUAGES {
        let dns = Dns::with(&[]);
        let server = dns.address.to_string();
        let audiences = "https://api.test https://files.test";
        let settings = [("PUBLIC_URL", "https://gate.test"), ("AUDIENCES", audiences), ("DNS_SERVER", &server)];
        let gate = Gate::with(&settings);
        let mut walk = Walk { language, answers: BTreeMap::new() };
        let account = json!({"username": "Alice", "password": PASSWORD, "nick": "앨리스"});
        let signed_up = walk.ask("POST /v1/signup", gate.post("/v1/signup").json(&account));
        let token = signed_up["token"].as_str().expect("a token");
        let sign_in = json!({"username": "alice", "password": PASSWORD});
        walk.ask("POST /v1/signin", gate.post("/v1/signin").json(&sign_in));
        walk.ask("GET /v1/me", gate.get("/v1/me").token(token));
        walk.ask("GET /v1/test by a user", gate.get("/v1/test").token(token));

        let new = json!({"host": "Shop.Example.com:8443", "type": "free"});
        let domain = walk.ask("POST /v1/domains", gate.post("/v1/domains").token(token).json(&new));
        let domain = &domain["payload"];
        let (id, secret) = (domain["id"].as_str().expect("an id"), domain["clientSecret"].as_str().expect("a secret"));
        let path = format!("/v1/domains/{id}");
        walk.ask("GET /v1/domains", gate.get("/v1/domains").token(token));
        walk.ask("GET /v1/domains/{id}", gate.get(&path).token(token));
        walk.ask("PATCH /v1/domains/{id}", gate.patch(&path).token(token).json(&json!({"type": "premium"})));

        walk.ask("GET /v1/audit, two of three", gate.get("/v1/audit?limit=2").token(token));
        let verification = format!("{path}/verification");
        let show = gate.get(&verification).token(token);
        let show = walk.ask("GET /v1/domains/{id}/verification", show);
        let value = show["payload"]["dns"]["value"].as_str().expect("a value");
        dns.set(&[("_gatebird.shop.example.com", Record::text(value))]);
        walk.ask("POST /v1/domains/{id}/verification", gate.post(&verification).token(token));
        walk.ask("GET /v1/domains/{id}, verified", gate.get(&path).token(token));

        let plain = json!({"clientSecret": secret});
        let access = walk.ask("POST /token as JSON", gate.post("/token").json(&plain));
        let access = access["token"].as_str().expect("a token");
        walk.ask("POST /v1/token as JSON", gate.post("/v1/token").json(&plain));
        let form = "grant_type=client_credentials";
        walk.ask("POST /token as a form", gate.post("/token").basic(id, secret).form(form));
        let narrow = format!("{form}&scope=posts:read&client_id={id}&client_secret={secret}");
        walk.ask("POST /token as a form, one scope", gate.post("/token").form(narrow));
        let elsewhere = format!("{form}&resource=https://gate.test&resource=https://api.test");
        let elsewhere = gate.post("/token").basic(id, secret).form(elsewhere);
        let elsewhere = walk.ask("POST /token as a form, for two audiences", elsewhere);
        let elsewhere = elsewhere["access_token"].as_str().expect("a token");
        walk.ask("GET /v1/test by a client", gate.get("/v1/test").token(access));

        walk.ask("GET /.well-known/oauth-authorization-server", gate.get("/.well-known/oauth-authorization-server"));
        walk.ask("GET /.well-known/jwks.json, HS256", gate.get("/.well-known/jwks.json"));
        let about = |path: &str, token: &str| gate.post(path).basic(id, secret).form(format!("token={token}"));
        walk.ask("POST /introspect", about("/introspect", elsewhere));
        walk.ask("POST /introspect, a user's token", about("/introspect", token));
        walk.ask("POST /introspect, no token", about("/introspect", "garbage"));
        walk.ask("POST /revoke", about("/revoke", elsewhere));
        walk.ask("POST /revoke, no token", about("/revoke", "garbage"));
        walk.ask("POST /introspect, a revoked token", about("/introspect", elsewhere));

        let limited = r#"{"host":"api.example.com","type":"free","scopes":["posts:read"],"audiences":["https://api.test","https://gate.test"]}"#;
        let keys = r#"{"host":"keys.example.com","type":"free","jwks":{"keys":[{ec},{ed}]}}"#;
        let register = |body: &str| gate.post("/v1/domains").token(token).body("application/json", with_keys(body));
        walk.ask("POST /v1/domains, with scopes and audiences", register(limited));
        let keys = walk.ask("POST /v1/domains, with keys", register(keys));
        let keys = format!("/v1/domains/{}", keys["payload"]["id"].as_str().expect("an id"));
        let others = gate.patch(&keys).token(token).body("application/json", with_keys(r#"{"jwks":{"keys":[{ed}]}}"#));
        walk.ask("PATCH /v1/domains/{id}, other keys", others);

        let post = json!({"content": "안녕 #인사 #Hello", "img": "https://img.example.com/a.png"});
        let post = walk.ask("POST /v1/posts", gate.post("/v1/posts").token(access).json(&post));
        let path = format!("/v1/posts/{}", post["payload"]["id"]);
        walk.ask("GET /v1/posts/{id}", gate.get(&path).token(access));
        walk.ask("PUT /v1/posts/{id}", gate.put(&path).token(access).json(&json!({"content": "#hello again"})));
        gate.post("/v1/posts").token(access).json(&json!({"content": "a second one"})).send().expect(201);
        walk.ask("GET /v1/posts/my", gate.get("/v1/posts/my").token(access));
        walk.ask("GET /v1/posts/my, first of two", gate.get("/v1/posts/my?limit=1").token(access));
        walk.ask("GET /v1/posts/hashtag/{title}", gate.get("/v1/posts/hashtag/HELLO").token(access));
        walk.ask("DELETE /v1/posts/{id}", gate.delete(&path).token(access));

        walk.ask("GET /healthz", gate.get("/healthz"));
        walk.ask("GET /readyz", gate.get("/readyz"));
        walk.ask("DELETE /v1/domains/{id}", gate.delete(&format!("/v1/domains/{id}")).token(token));
        let other = format!("other {PASSWORD}");
        let change = json!({"oldPassword": PASSWORD, "newPassword": other});
        walk.ask("PUT /v1/me/password", gate.put("/v1/me/password").token(token).json(&change));
        let sign_in = json!({"username": "ALICE", "password": other});
        let signed_in = walk.ask("POST /v1/signin after it", gate.post("/v1/signin").json(&sign_in));
        let token = signed_in["token"].as_str().expect("a token");
        let confirm = json!({"password": other});
        walk.ask("DELETE /v1/me", gate.delete("/v1/me").token(token).json(&confirm));
        gate.app.remove_leftovers().expect("the database answers");
        gate.app.drain();
        walk.ask("GET /readyz while draining", gate.get("/readyz"));
        snapshot(&format!("successes_{language}"), &walk.answers);
    }
}

#[test]
fn wire_format__refusals() {
    for language in LANGUAGES {
        let gate = Gate::start();
        let (alice, domain, access) = gate.tenant("alice");
        let mut walk = Walk { language, answers: BTreeMap::new() };
        let test = || gate.get("/v1/test");
        walk.ask("401 missing", test());
        walk.ask("401 invalid", test().token("garbage"));
        walk.ask("419 expired", test().token(expired_copy(&access)));
        let gone = gate.register(&alice, "gone.example.com");
        let revoked = gate.access_token(&gone);
        gate.delete(&format!("/v1/domains/{}", gone.id)).token(&alice.token).send().expect(200);
        walk.ask("401 revoked", test().token(revoked));

        let form = |form: &str| gate.post("/token").basic(&domain.id, &domain.secret).form(form);
        let unknown = json!({"clientSecret": "gbs_unknown"});
        walk.ask("401 unknown_client", gate.post("/token").json(&unknown));
        let basic = gate.post("/token").basic(&domain.id, "gbs_unknown").form("grant_type=client_credentials");
        walk.ask("401 unknown_client by Basic", basic);
        walk.ask("400 grant_type absent", form("scope=posts:read"));
        walk.ask("400 grant_type", form("grant_type=password"));
        walk.ask("400 scope", form("grant_type=client_credentials&scope=admin"));
        walk.ask("400 target", form("grant_type=client_credentials&resource=https://other.example"));
        walk.ask("400 two ways", form("grant_type=client_credentials&client_secret=x"));
        walk.ask("400 repeated", form("grant_type=client_credentials&grant_type=client_credentials"));
        walk.ask("400 client_id absent", gate.post("/token").form("grant_type=client_credentials&client_secret=x"));

        let assertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let asserted = |rest: &str| gate.post("/token").form(format!("grant_type=client_credentials{rest}"));
        walk.ask("400 client_assertion absent", asserted(&format!("&client_assertion_type={assertion}")));
        walk.ask("400 client_assertion_type absent", asserted("&client_assertion=x"));
        let unsigned = asserted(&format!("&client_assertion_type={assertion}&client_assertion=x"));
        walk.ask("401 unknown_client by an assertion", unsigned);
        for path in ["/introspect", "/revoke"] {
            let client = |request: Request| request.basic(&domain.id, &domain.secret);
            walk.ask(
                &format!("400 token absent, {path}"),
                client(gate.post(path)).form("token_type_hint=access_token"),
            );
            let by_token = gate.post(path).token(&access).form(format!("token={access}"));
            walk.ask(&format!("401 unknown_client by a token, {path}"), by_token);
            walk.ask(&format!("415 media_type, {path}"), client(gate.post(path)).json(&json!({"token": access})));
        }

        let verify = |query: &str| gate.get(&format!("/verify{query}"));
        walk.ask("401 missing, /verify", verify(""));
        walk.ask("401 invalid, /verify", verify("?audience=https://other.example").token(&access));
        walk.ask("401 expired, /verify", verify("").token(expired_copy(&access)));
        walk.ask("403 malformed, /verify", verify("?scopes=posts:read").token(&access));
        walk.ask("403 host, /verify", verify("?host=other.example.com").token(&access));
        walk.ask("403 scope, /verify", verify("?scope=posts:read+admin").token(&access));

        let reader = form("grant_type=client_credentials&scope=posts:read").send().expect(200);
        let reader = reader["access_token"].as_str().expect("a token");
        walk.ask("403 scope", gate.post("/v1/posts").token(reader).json(&json!({"content": "x"})));
        walk.ask("403 kind", gate.get("/v1/me").token(&access));
        let sign_in = |name: &str| json!({"username": name, "password": "wrong staple"});
        let wrong = walk.ask("401 credentials", gate.post("/v1/signin").json(&sign_in("alice")));
        let unknown = walk.ask("401 credentials of nobody", gate.post("/v1/signin").json(&sign_in("nobody")));
        assert_eq!(wrong["message"], unknown["message"]);
        let confirm = json!({"password": "wrong staple"});
        walk.ask("403 credentials", gate.delete("/v1/me").token(&alice.token).json(&confirm));
        let closed = Gate::with(&[("SIGNUP", "closed")]);
        let account = |name: &str| json!({"username": name, "password": PASSWORD});
        walk.ask("403 signup_closed", closed.post("/v1/signup").json(&account("alice")));
        walk.ask("409 taken username", gate.post("/v1/signup").json(&account("ALICE")));

        let verify = || gate.post(&format!("/v1/domains/{}/verification", domain.id)).token(&alice.token);
        walk.ask("409 unverified", verify());
        for _ in 0..4 {
            verify().send().refused(409, "unverified");
        }
        walk.ask("429 failures", verify());
        let required = Gate::with(&[("PROOF", "required")]);
        let unverified = required.register(&required.sign_up("alice"), "shop.example.com");
        walk.ask("400 unverified", required.post("/token").json(&json!({"clientSecret": unverified.secret})));

        walk.ask("404 not_found", gate.get("/nowhere"));
        walk.ask("404 post", gate.get("/v1/posts/99").token(&access));
        walk.ask("404 no results", gate.get("/v1/posts/hashtag/none").token(&access));
        walk.ask("405 method", gate.put("/token"));
        let post = || gate.post("/v1/posts").token(&access);
        walk.ask("400 malformed", post().body("application/json", "{"));
        walk.ask("413 too_large", post().body("application/json", " ".repeat(70_000)));
        walk.ask("415 media_type", post().body("text/plain", "x"));
        walk.ask("431 too_large", gate.get("/healthz").header("X-Filler", "x".repeat(17 << 10)));

        let limited = Gate::with(&[("LIMIT_FREE", "1/m")]);
        let (_, _, spent) = limited.tenant("spender");
        walk.ask("429 plan", limited.get("/v1/test").token(&spent));
        walk.ask("403 plan, /verify", limited.get("/verify").token(&spent));
        let limited = Gate::with(&[("LIMIT_CHANGES", "1/m")]);
        let spender = limited.sign_up("spender");
        let domain = limited.register(&spender, "shop.example.com");
        walk.ask("429 account", limited.post("/v1/domains").token(&spender.token).json(&json!({})));
        set_suspended(&limited, &domain.id, true);
        walk.ask("403 suspended", limited.delete(&format!("/v1/domains/{}", domain.id)).token(&spender.token));
        gate.app
            .db
            .write_now(|conn| Ok(conn.batch_execute("DROP TABLE post_hashtags; DROP TABLE posts")?))
            .expect("gone");
        walk.ask("500 internal", gate.get("/v1/posts/my").token(&access));
        snapshot(&format!("refusals_{language}"), &walk.answers);
    }
}

/// Requests with one invalid member, and their bodies. `{long}` is 300 characters, `{id}` a domain with a secret;
/// `{ec}`, `{ed}` and `{private}` are keys.
#[rustfmt::skip]
const FIELDS: &[(&str, &str)] = &[
    ("POST /v1/signup", r#"{"username":"x","password":"correct horse battery staple"}"#),
    ("POST /v1/signup", r#"{"username":"bob","password":"short"}"#),
    ("POST /v1/signup", r#"{"username":"bob","password":"password1"}"#),
    ("POST /v1/signup", r#"{"username":"bob","password":"correct horse battery staple","nick":""}"#),
    ("POST /v1/signup", r#"{"username":"bob"}"#),
    ("POST /v1/signup", r#"{"username":1,"password":"correct horse battery staple"}"#),
    ("POST /v1/signup", r#"{"username":"bob","password":"correct horse battery staple","admin":true}"#),
    ("POST /v1/domains", r#"{"host":"new.example.com","type":"gold"}"#),
    ("POST /v1/domains", r#"{"host":"alice.example.com","type":"free"}"#),
    ("POST /v1/domains", r#"{"host":"","type":"free"}"#),
    ("POST /v1/domains", r#"{"host":"{long}.example.com","type":"free"}"#),
    ("POST /v1/domains", r#"{"host":"https://example.com","type":"free"}"#),
    ("POST /v1/domains", r#"{"host":"*.example.com","type":"free"}"#),
    ("POST /v1/domains", r#"{"host":"10.0.0.1","type":"free"}"#),
    ("POST /v1/domains", r#"{"host":"co.uk","type":"free"}"#),
    ("POST /v1/domains", r#"{"host":"shop","type":"free"}"#),
    ("POST /v1/domains", r#"{"host":"shop..example.com","type":"free"}"#),
    ("POST /v1/domains", r#"{"host":"shop example.com","type":"free"}"#),
    ("POST /v1/domains", r#"{"host":"example.com:0","type":"free"}"#),
    ("POST /v1/domains", r#"{"host":"shop.invalid","type":"free"}"#),
    ("POST /v1/domains", r#"{"host":"xn--a.example.com","type":"free"}"#),
    ("POST /v1/domains", r#"{"host":"localhost:8080","type":"free"}"#),
    ("POST /v1/domains", r#"{"host":"new.example.com","type":"free","scopes":[]}"#),
    ("POST /v1/domains", r#"{"host":"new.example.com","type":"free","scopes":["posts:read","admin"]}"#),
    ("POST /v1/domains", r#"{"host":"new.example.com","type":"free","scopes":["posts:read","posts:read"]}"#),
    ("POST /v1/domains", r#"{"host":"new.example.com","type":"free","scopes":"posts:read"}"#),
    ("POST /v1/domains", r#"{"host":"new.example.com","type":"free","scopes":null}"#),
    ("POST /v1/domains", r#"{"host":"new.example.com","type":"free","audiences":[]}"#),
    ("POST /v1/domains", r#"{"host":"new.example.com","type":"free","audiences":["https://other.example"]}"#),
    ("POST /v1/domains", r#"{"host":"new.example.com","type":"free","jwks":null}"#),
    ("POST /v1/domains", r#"{"host":"new.example.com","type":"free","jwks":{"keys":[]}}"#),
    ("POST /v1/domains", r#"{"host":"new.example.com","type":"free","jwks":{"keys":[{ed},{ed}]}}"#),
    ("POST /v1/domains", r#"{"host":"new.example.com","type":"free","jwks":{"keys":[{"kty":"EC"}]}}"#),
    ("POST /v1/domains", r#"{"host":"new.example.com","type":"free","jwks":{"keys":[{ec},{private}]}}"#),
    ("POST /v1/domains", r#"{"host":"new.example.com","type":"free","jwks":{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}}"#),
    ("PATCH /v1/domains/{id}", "{}"),
    ("PATCH /v1/domains/{id}", r#"{"jwks":{"keys":[{ed}]}}"#),
    ("PATCH /v1/domains/{id}", r#"{"jwks":{"keys":[{private}]}}"#),
    ("PATCH /v1/domains/{id}", r#"{"scopes":["posts:read"]}"#),
    ("POST /v1/posts", r#"{"content":""}"#),
    ("POST /v1/posts", r#"{"content":"x","img":"javascript:alert(1)"}"#),
    ("GET /v1/posts/my?limit=101", ""),
    ("GET /v1/posts/my?cursor=x", ""),
    ("GET /v1/audit?limit=0", ""),
    ("GET /v1/audit?cursor=x", ""),
];

#[test]
fn wire_format__refused_members() {
    for language in LANGUAGES {
        let gate = Gate::with(&[("PUBLIC_URL", "https://gate.example.com")]);
        let (alice, domain, _) = gate.tenant("alice");
        let mut walk = Walk { language, answers: BTreeMap::new() };
        for (operation, body) in FIELDS {
            let (method, path) = operation.split_once(' ').expect("a method and a path");
            let request = gate.request(method, &path.replace("{id}", &domain.id)).token(&alice.token);
            let filled = with_keys(body).replace("{long}", &"x".repeat(300));
            let request = if body.is_empty() { request } else { request.body("application/json", filled) };
            let answer = walk.ask(&format!("{operation} {body}"), request);
            assert!(answer["field"].is_string(), "{operation} {body}: {answer}");
        }
        snapshot(&format!("members_{language}"), &walk.answers);
    }
}

/// A change waits for the one in progress, but not for ever.
#[test]
fn wire_format__refusal_while_the_database_is_busy() {
    let gate = Gate::start();
    let alice = gate.sign_up("alice");
    let mut walk = Walk { language: "ko", answers: BTreeMap::new() };
    let new = json!({"host": "shop.example.com", "type": "free"});
    let mut retry_after = None;
    let under_way = |_: &mut gatebird::db::Conn| {
        let request = gate.post("/v1/domains").token(&alice.token).json(&new);
        let reply = request.header("Accept-Language", "ko").send();
        retry_after = reply.header("retry-after").map(str::to_owned);
        walk.answers.insert("503 busy".into(), json!({"status": reply.status, "body": reply.json()}));
        Ok(())
    };
    gate.app.db.change_now(under_way, |_| Ok(())).expect("the change is made");
    assert_eq!(retry_after.as_deref(), Some("1"));
    snapshot("busy_ko", &walk.answers);
}

/// Status and headers, without those that change each time or belong to the connection, and without `Pragma`.
fn head(reply: &Reply) -> Value {
    let mut headers: BTreeMap<&str, &str> =
        reply.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers.len(), reply.headers.len(), "a header is repeated: {:?}", reply.headers);
    for name in ["date", "content-length", "x-request-id"] {
        assert!(headers.remove(name).is_some_and(|value| !value.is_empty()), "{name} is missing");
    }
    headers.retain(|name, _| !["connection", "pragma"].contains(name));
    json!({"status": reply.status, "headers": headers})
}

#[test]
fn wire_format__headers() {
    let gate = Gate::with(&[("PUBLIC_URL", "https://gate.example.com")]);
    let (alice, domain, access) = gate.tenant("alice");
    let limited = Gate::with(&[("LIMIT_FREE", "1/m")]);
    let (_, spent, spent_token) = limited.tenant("spender");
    let account = json!({"username": "bob", "password": PASSWORD, "nick": "밥 & bob"});
    let bob = gate.post("/v1/signup").json(&account).send().expect(201);
    let bob = bob["token"].as_str().expect("a token");
    let form = "grant_type=client_credentials";
    let expired = expired_copy(&access);
    let mut heads = BTreeMap::new();
    let mut ask = |name: &str, request: Request| {
        let reply = request.send();
        heads.insert(name.to_owned(), head(&reply));
        reply
    };
    let of_token = [
        ask("POST /token as JSON", gate.post("/token").json(&json!({"clientSecret": domain.secret}))),
        ask("POST /token as a form", gate.post("/token").basic(&domain.id, &domain.secret).form(form)),
        ask("POST /token, unknown secret", gate.post("/token").json(&json!({"clientSecret": "gbs_unknown"}))),
        ask("POST /token, unknown secret by Basic", gate.post("/token").basic(&domain.id, "gbs_unknown").form(form)),
        ask("POST /token, malformed", gate.post("/token").body("application/json", "{")),
        ask("POST /token, text/plain", gate.post("/token").body("text/plain", "{}")),
        ask("POST /token, over the limit", limited.post("/token").json(&json!({"clientSecret": spent.secret}))),
    ];
    ask("GET /token", gate.get("/token"));
    ask("GET /v1/test", gate.get("/v1/test").token(&access));
    ask("GET /v1/test without a token", gate.get("/v1/test"));
    ask("GET /v1/test with garbage", gate.get("/v1/test").token("garbage"));
    ask("GET /v1/test, expired", gate.get("/v1/test").token(expired));
    ask("GET /v1/me", gate.get("/v1/me").token(&alice.token));
    ask("GET /nowhere", gate.get("/nowhere"));
    ask("GET /openapi.json", gate.get("/openapi.json"));
    ask("GET /.well-known/oauth-authorization-server", gate.get("/.well-known/oauth-authorization-server"));
    ask("GET /.well-known/jwks.json", gate.get("/.well-known/jwks.json"));
    for path in ["/introspect", "/revoke"] {
        let about = |secret: &str| gate.post(path).basic(&domain.id, secret).form("token=x");
        ask(&format!("POST {path}"), about(&domain.secret));
        ask(&format!("POST {path}, unknown secret by Basic"), about("gbs_unknown"));
        ask(&format!("POST {path}, by a token"), gate.post(path).token(&access).form("token=x"));
    }
    let verify = |query: &str| gate.get(&format!("/verify{query}"));
    let demands = "?scope=posts:write+posts:read&host=ALICE.example.com&audience=https://gate.test";
    ask("GET /verify by a client", verify(demands).token(&access));
    ask("GET /verify by a user", verify("").token(bob));
    ask("GET /verify without a token", verify(""));
    ask("GET /verify with garbage", verify("").token("garbage"));
    ask("GET /verify, expired", verify("").token(expired_copy(&access)));
    ask("GET /verify, another audience", verify("?audience=https://other.example").token(&access));
    ask("GET /verify, another host", verify("?host=bob.example.com").token(&access));
    ask("GET /verify, a scope that it lacks", verify("?scope=admin").token(&access));
    ask("GET /verify, an unknown demand", verify("?scopes=posts:read").token(&access));
    ask("GET /verify, over the limit", limited.get("/verify").token(spent_token));
    gate.delete(&format!("/v1/domains/{}", domain.id)).token(&alice.token).send().expect(200);
    ask("GET /verify, revoked", verify("").token(&access));
    snapshot("headers", &heads);
    // RFC 6749 §5.1; and a refusal must not be cached for others either.
    for reply in of_token {
        let kept_by = (reply.header("cache-control"), reply.header("pragma"));
        assert_eq!(kept_by, (Some("no-store"), Some("no-cache")), "{} {}", reply.status, reply.text());
    }
}
