//! Authorization: every operation of the OpenAPI document, called by every identity. A route that is only here or only
//! in the document fails the test, and so does an answer that the document does not describe.

use std::collections::BTreeSet;

use crate::harness::{Domain, Gate, PASSWORD, Reply, Request, User, json, resigned};
use crate::openapi::Document;

/// The callers, in the order of the cells below. `deleted domain` is a client whose domain is deleted, `old password` a
/// user from before a password change, `their` belongs to another tenant, and `reader` and `writer` are clients with
/// one scope. These two, `client` and `user` belong to the tenant whose domain and post are in the paths.
const IDENTITIES: &[&str] = &[
    "nobody",
    "garbage",
    "expired client",
    "expired user",
    "deleted domain",
    "old password",
    "their client",
    "their user",
    "reader",
    "writer",
    "client",
    "user",
];

/// The result of each operation for each identity: a status, or the reason of a refusal. A single cell holds for all.
#[rustfmt::skip]
const ROUTES: &[(&str, &str)] = &[
    //                                none    garbage expired expired deleted old      their     their     reader    writer    client    user
    //                                                client  user    domain  password client    user
    ("GET /healthz",                 "200"),
    ("GET /readyz",                  "200"),
    ("GET /openapi.json",            "200"),
    ("GET /.well-known/oauth-authorization-server", "200"),
    ("GET /.well-known/openid-configuration", "200"),
    ("GET /.well-known/jwks.json",   "200"),
    ("POST /token",                  "200"),
    ("POST /v1/token",               "200"),
    // Authenticated by the form's credentials, whatever the token beside them.
    ("POST /introspect",             "200"),
    ("POST /revoke",                 "200"),
    ("GET /verify",                  "missing invalid expired expired revoked revoked  200       200       200       200       200       200"),
    ("POST /v1/signup",              "201"),
    ("POST /v1/signin",              "200"),
    ("POST /v1/signout",             "missing invalid expired expired revoked revoked  kind      200       kind      kind      kind      200"),
    ("GET /v1/test",                 "missing invalid expired expired revoked revoked  200       200       200       200       200       200"),
    ("GET /v1/me",                   "missing invalid expired expired revoked revoked  kind      200       kind      kind      kind      200"),
    ("PUT /v1/me/password",          "missing invalid expired expired revoked revoked  kind      200       kind      kind      kind      200"),
    ("DELETE /v1/me",                "missing invalid expired expired revoked revoked  kind      200       kind      kind      kind      200"),
    ("GET /v1/audit",                "missing invalid expired expired revoked revoked  kind      200       kind      kind      kind      200"),
    ("GET /v1/domains",              "missing invalid expired expired revoked revoked  kind      200       kind      kind      kind      200"),
    ("POST /v1/domains",             "missing invalid expired expired revoked revoked  kind      201       kind      kind      kind      201"),
    ("GET /v1/domains/{id}",         "missing invalid expired expired revoked revoked  kind      not_found kind      kind      kind      200"),
    ("PATCH /v1/domains/{id}",       "missing invalid expired expired revoked revoked  kind      not_found kind      kind      kind      200"),
    ("DELETE /v1/domains/{id}",      "missing invalid expired expired revoked revoked  kind      not_found kind      kind      kind      200"),
    ("POST /v1/domains/{id}/secrets","missing invalid expired expired revoked revoked  kind      not_found kind      kind      kind      201"),
    ("GET /v1/domains/{id}/secrets", "missing invalid expired expired revoked revoked  kind      not_found kind      kind      kind      200"),
    ("DELETE /v1/domains/{id}/secrets/{secretId}", "missing invalid expired expired revoked revoked  kind      not_found kind      kind      kind      200"),
    ("GET /v1/domains/{id}/usage",   "missing invalid expired expired revoked revoked  kind      not_found kind      kind      kind      200"),
    ("GET /v1/domains/{id}/verification",
                                     "missing invalid expired expired revoked revoked  kind      not_found kind      kind      kind      200"),
    ("POST /v1/domains/{id}/verification",
                                     "missing invalid expired expired revoked revoked  kind      not_found kind      kind      kind      unverified"),
    ("POST /v1/posts",               "missing invalid expired expired revoked revoked  201       201       scope     201       201       201"),
    ("GET /v1/posts/my",             "missing invalid expired expired revoked revoked  200       200       200       scope     200       200"),
    ("GET /v1/posts/hashtag/{title}","missing invalid expired expired revoked revoked  not_found not_found 200       scope     200       200"),
    ("GET /v1/posts/{id}",           "missing invalid expired expired revoked revoked  not_found not_found 200       scope     200       200"),
    ("PUT /v1/posts/{id}",           "missing invalid expired expired revoked revoked  not_found not_found scope     200       200       200"),
    ("DELETE /v1/posts/{id}",        "missing invalid expired expired revoked revoked  not_found not_found scope     200       200       200"),
];

/// The content type of OAuth 2.0 requests.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// Bodies of good requests: JSON, or a form.
#[rustfmt::skip]
const BODIES: &[(&str, &str)] = &[
    ("POST /token",             "grant_type=client_credentials&client_id={client}&client_secret={secret}"),
    ("POST /v1/token",          r#"{"clientSecret":"{secret}"}"#),
    ("POST /introspect",        "token={token}&client_id={client}&client_secret={secret}"),
    ("POST /revoke",            "token={token}&client_id={client}&client_secret={secret}"),
    ("POST /v1/signup",         r#"{"username":"new{n}","password":"{password}","nick":"새"}"#),
    ("POST /v1/signin",         r#"{"username":"{name}","password":"{password}"}"#),
    ("POST /v1/signout",        r#"{"everywhere":false}"#),
    ("PUT /v1/me/password",     r#"{"oldPassword":"{password}","newPassword":"other {password}"}"#),
    ("DELETE /v1/me",           r#"{"password":"{password}"}"#),
    ("POST /v1/domains",        r#"{"host":"new{n}.example.com","type":"premium"}"#),
    ("PATCH /v1/domains/{id}",  r#"{"type":"premium"}"#),
    ("POST /v1/domains/{id}/secrets", r#"{"graceSeconds":60}"#),
    ("POST /v1/posts",          r#"{"content":"new #post","img":"https://img.example.com/a.png"}"#),
    ("PUT /v1/posts/{id}",      r#"{"content":"changed #post","img":null}"#),
];

/// The status of a cell. Reverse proxies do not know 419.
fn status(operation: &str, cell: &str) -> u16 {
    match cell {
        "missing" | "invalid" | "revoked" => 401,
        "expired" if operation == "GET /verify" => 401,
        "expired" => 419,
        "kind" | "scope" => 403,
        "not_found" => 404,
        "unverified" => 409,
        number => number.parse().expect("a reason of this list or a status"),
    }
}

/// The body of a good request with its `{places}`; empty where there is none.
pub fn good_body(operation: &str) -> &'static str {
    BODIES.iter().find(|(name, _)| *name == operation).map_or("", |(_, body)| body)
}

/// The content type of a good request's body.
pub fn media_type(body: &str) -> &'static str {
    if body.starts_with('{') { "application/json" } else { FORM }
}

/// The request with that body, unless it is empty.
pub fn with_body(request: Request, body: &str) -> Request {
    if body.is_empty() { request } else { request.body(media_type(body), body) }
}

/// The token as it would have been more than an hour ago.
pub fn expired_copy(token: &str) -> String {
    resigned(token, |_, claims| {
        for member in ["iat", "exp"] {
            claims[member] = json!(claims[member].as_i64().expect("seconds") - 4000);
        }
    })
}

/// Two tenants with everything that the cells need.
pub struct Cast {
    pub name: String,
    pub user: User,
    pub domain: Domain,
    /// The id of a second secret.
    pub secret: String,
    pub post: String,
    pub client: String,
    pub reader: String,
    pub writer: String,
    /// Expired client, expired user, deleted domain, old password.
    pub dead: [String; 4],
    theirs: [String; 2],
}

impl Cast {
    pub fn new(gate: &Gate, number: usize) -> Cast {
        let name = format!("alice{number}");
        let (user, domain, client) = gate.tenant(&name);
        let scoped = |scope: &str| {
            let form = format!("grant_type=client_credentials&scope={scope}");
            let answer = gate.post("/token").basic(&domain.id, &domain.secret).form(form).send().expect(200);
            answer["access_token"].as_str().expect("a token").to_owned()
        };
        let (reader, writer) = (scoped("posts:read"), scoped("posts:write"));
        let content = json!({"content": format!("{name} wrote this #mine")});
        let post = gate.post("/v1/posts").token(&user.token).json(&content).send().expect(201);

        let more = gate.post(&format!("/v1/domains/{}/secrets", domain.id)).token(&user.token);
        let secret = more.json(&json!({"graceSeconds": 3600})).send().expect(201)["payload"]["id"].to_string();

        let closed = gate.register(&user, &format!("closed{number}.example.com"));
        let revoked = gate.access_token(&closed);
        gate.delete(&format!("/v1/domains/{}", closed.id)).token(&user.token).send().expect(200);
        let carol = gate.sign_up(&format!("carol{number}"));
        let change = json!({"oldPassword": PASSWORD, "newPassword": format!("other {PASSWORD}")});
        gate.put("/v1/me/password").token(&carol.token).json(&change).send().expect(200);
        let dead = [expired_copy(&client), expired_copy(&user.token), revoked, carol.token];

        let (mallory, _, their_client) = gate.tenant(&format!("mallory{number}"));
        let post = post["payload"]["id"].to_string();
        Cast { name, user, domain, secret, post, client, reader, writer, dead, theirs: [their_client, mallory.token] }
    }

    /// The token of an identity.
    fn token(&self, identity: &str) -> Option<&str> {
        Some(match identity {
            "nobody" => return None,
            "garbage" => "garbage",
            "expired client" => &self.dead[0],
            "expired user" => &self.dead[1],
            "deleted domain" => &self.dead[2],
            "old password" => &self.dead[3],
            "their client" => &self.theirs[0],
            "their user" => &self.theirs[1],
            "reader" => &self.reader,
            "writer" => &self.writer,
            "client" => &self.client,
            "user" => &self.user.token,
            other => panic!("unknown placeholder {other}"),
        })
    }

    /// Fills the `{places}` of a path or a body.
    pub fn fill(&self, text: &str, number: usize) -> String {
        let id = if text.starts_with("/v1/domains") { &self.domain.id } else { &self.post };
        text.replace("{id}", id)
            .replace("{secretId}", &self.secret)
            .replace("{title}", "mine")
            .replace("{client}", &self.domain.id)
            .replace("{secret}", &self.domain.secret)
            .replace("{token}", &self.client)
            .replace("{password}", PASSWORD)
            .replace("{name}", &self.name)
            .replace("{n}", &number.to_string())
    }

    /// A good request except for its credentials.
    pub fn request(&self, gate: &Gate, operation: &str, number: usize) -> Request {
        let (method, path) = operation.split_once(' ').expect("a method and a path");
        let request = gate.request(method, &self.fill(path, number));
        with_body(request, &self.fill(good_body(operation), number))
    }
}

/// The result of an answer in the words of the table.
fn cell(reply: &Reply) -> String {
    match reply.status {
        200..300 => reply.status.to_string(),
        _ => reply.json()["reason"].as_str().unwrap_or("no reason").to_owned(),
    }
}

#[test]
fn authorization__every_identity_on_every_route() {
    let gate = Gate::start();
    let document = Document::of(&gate);
    let mut cast = Cast::new(&gate, 0);
    let mut number = 0;
    let mut wrong = Vec::new();
    for (operation, cells) in ROUTES {
        let cells: Vec<&str> = cells.split_whitespace().collect();
        assert!(cells.len() == 1 || cells.len() == IDENTITIES.len(), "{operation} has {} cells", cells.len());
        for (index, identity) in IDENTITIES.iter().enumerate() {
            let expected = cells[index % cells.len()];
            number += 1;
            let mut request = cast.request(&gate, operation, number);
            if let Some(token) = cast.token(identity) {
                request = request.token(token);
            }
            let reply = request.send();
            if (reply.status, cell(&reply).as_str()) != (status(operation, expected), expected) {
                wrong.push(format!(
                    "{operation} by {identity}: {expected} expected, {} {}",
                    reply.status,
                    reply.text()
                ));
            }
            if reply.status >= 400 {
                reply.refused(reply.status, &cell(&reply));
            }
            wrong.extend(document.objections(operation, &reply));
            if identity.starts_with("their") && cells.len() > 1 && reply.text().contains(&cast.name) {
                wrong.push(format!("{operation} tells {identity} of another tenant: {}", reply.text()));
            }
            // The changes of a good request must not affect the next cell.
            let changes = ["PUT", "PATCH", "DELETE", "POST /revoke", "POST /v1/signout"];
            if reply.status < 300 && changes.iter().any(|start| operation.starts_with(start)) {
                cast = Cast::new(&gate, number);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn authorization__table_has_exactly_the_served_routes() {
    let gate = Gate::start();
    let routes = gatebird::server::routes(&gate.app.config, |_| {});
    let served: BTreeSet<String> =
        routes.operations().map(|route| format!("{} {}", route.method, route.path)).collect();
    let documented: BTreeSet<String> = Document::of(&gate).operations().map(|(name, _)| name).collect();
    assert_eq!(documented, served, "left: described in /openapi.json; right: served");
    let listed: BTreeSet<String> = ROUTES.iter().map(|(name, _)| name.to_string()).collect();
    let missing: Vec<_> = served.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&served).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not in the table: {missing:?}; not served: {gone:?}");
    assert_eq!(ROUTES.len(), listed.len(), "a route is listed twice");
}

/// A client cannot authenticate with a token, neither its own nor the one in question.
#[test]
fn client_authentication__token_is_no_credential() {
    let gate = Gate::start();
    let cast = Cast::new(&gate, 0);
    for path in ["/token", "/introspect", "/revoke"] {
        for identity in IDENTITIES {
            let form = format!("grant_type=client_credentials&token={}&client_id={}", cast.client, cast.domain.id);
            let request = gate.post(path).form(form);
            let reply = cast.token(identity).into_iter().fold(request, Request::token).send();
            assert_eq!(reply.status, 401, "{path} by {identity}: {}", reply.text());
            reply.refused(401, "missing");
        }
    }
    gate.get("/v1/test").token(&cast.client).send().expect(200);
}

#[test]
fn routing__every_other_method_is_405_with_allow() {
    let gate = Gate::start();
    let document = Document::of(&gate);
    let cast = Cast::new(&gate, 0);
    let paths: BTreeSet<&str> = ROUTES.iter().filter_map(|(operation, _)| operation.split(' ').nth(1)).collect();
    let mut wrong = Vec::new();
    for path in paths {
        let mut has = document.methods(path);
        if has.contains("GET") {
            has.insert("HEAD".into());
        }
        // Reverse proxies use any method there.
        if path == "/verify" {
            continue;
        }
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BOGUS"] {
            if has.contains(method) {
                continue;
            }
            // With a token and without: an unknown method is unknown to every caller.
            for token in [None, Some(&cast.user.token)] {
                let request = gate.request(method, &cast.fill(path, 0));
                let reply = token.into_iter().fold(request, Request::token).send();
                let allow: BTreeSet<&str> = reply.header("allow").unwrap_or_default().split(", ").collect();
                if reply.status != 405 || allow != has.iter().map(String::as_str).collect() {
                    wrong.push(format!("{method} {path}: {} {:?}", reply.status, reply.header("allow")));
                } else if method == "HEAD" {
                    assert!(reply.body.is_empty(), "{path}: an answer to HEAD has no body");
                } else {
                    reply.refused(405, "method");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
