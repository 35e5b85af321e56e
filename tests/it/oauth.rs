//! OAuth 2.0 in detail: authentication of clients, scopes and resources, and what becomes of tokens. This file has what
//! the endpoints share: authentication, refusals, and clients with keys.

mod assertions;
mod client_keys;
mod grants;
mod introspection;
mod refusals;
mod request_bodies;
pub mod revocation;

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use diesel::connection::SimpleConnection;
use gatebird::db::domain;
use gatebird::id::DomainId;

use crate::harness::{Domain, Gate, Reply, Request, User, Value, check_each, json};

pub const GRANT: &str = "grant_type=client_credentials";
pub const ISSUER: &str = "https://gate.test";
/// The base URL of the endpoints. It differs from the issuer, so that the two cannot be confused.
pub const PUBLIC_URL: &str = "https://public.test";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The endpoints at which clients authenticate.
pub const ENDPOINTS: [&str; 4] = ["/token", "/v1/token", "/introspect", "/revoke"];

/// A server whose endpoints have a public name.
fn gate(settings: &[(&str, &str)]) -> Gate {
    Gate::with(&[&[("PUBLIC_URL", PUBLIC_URL)], settings].concat())
}

/// A server that has been up for a while.
pub fn long_running() -> Gate {
    let gate = gate(&[]);
    gate.clock.advance(1000);
    gate
}

/// A value for a form.
pub fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The further members of a form that a good client needs for a 200.
fn rest_of_form(path: &str) -> &'static str {
    if path.ends_with("/token") { GRANT } else { "token=x" }
}

/// A form with credentials.
pub fn form(domain: &Domain, rest: &str) -> String {
    format!("{rest}&client_id={}&client_secret={}", domain.id, domain.secret)
}

/// An access token, requested like an OAuth 2.0 library does.
#[track_caller]
fn granted(gate: &Gate, domain: &Domain, rest: &str) -> String {
    let answer = gate.post("/token").form(form(domain, &format!("{GRANT}{rest}"))).send().expect(200);
    answer["access_token"].as_str().expect("a token").into()
}

fn claim(token: &str, name: &str) -> Value {
    crate::harness::parts(token).1[name].clone()
}

/// Checks the requirements of RFC 6749 §5.2 and RFC 6750 §3 on a refusal.
#[track_caller]
pub fn assert_error_response(name: &str, reply: &Reply) {
    let body = reply.json();
    assert_eq!(reply.header("content-type"), Some("application/json"), "{name}");
    assert_eq!((reply.header("cache-control"), reply.header("pragma")), (Some("no-store"), Some("no-cache")), "{name}");
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{name}");
    // %x20-21 / %x23-5B / %x5D-7E
    let allowed = |text: &str| text.bytes().all(|byte| matches!(byte, 0x20..=0x21 | 0x23..=0x5B | 0x5D..=0x7E));
    for member in ["error", "error_description"] {
        let text = body[member].as_str().unwrap_or_default();
        assert!(!text.is_empty() && text.len() < 250 && allowed(text), "{name}: {member} is {text:?}");
    }
    assert!(reply.header("x-injected").is_none() && reply.header("set-cookie").is_none(), "{name}: {reply:?}");
}

/// Checks that the client was refused, for any reason. The reasons are tested in `refusals`.
#[track_caller]
fn invalid_client(name: &str, reply: &Reply) {
    assert_eq!(reply.status, 401, "{name}: {}", reply.text());
    let reason = reply.json()["reason"].as_str().map(str::to_owned).unwrap_or_default();
    assert_eq!(reply.refused(401, &reason)["error"], "invalid_client", "{name}");
    assert_error_response(name, reply);
}

/// A client's private key.
pub struct ClientKey {
    alg: &'static str,
    pair: Pair,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl ClientKey {
    pub fn es256() -> ClientKey {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        ClientKey { alg: "ES256", pair: Pair::Ec(pair) }
    }

    fn ed_dsa() -> ClientKey {
        ClientKey { alg: "EdDSA", pair: Pair::Ed(Ed25519KeyPair::generate().expect("a key")) }
    }

    fn rs256() -> ClientKey {
        ClientKey { alg: "RS256", pair: Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key")) }
    }

    fn each() -> [ClientKey; 3] {
        [ClientKey::es256(), ClientKey::ed_dsa(), ClientKey::rs256()]
    }

    /// The public half, with the members in the order of RFC 7638 §3.
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.pair {
            Pair::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({"crv": "P-256", "kty": "EC", "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Pair::Ed(pair) => json!({"crv": "Ed25519", "kty": "OKP", "x": text(pair.public_key().as_ref())}),
            Pair::Rsa(pair) => {
                let (e, n) = (pair.public_key().exponent(), pair.public_key().modulus());
                let [e, n] = [e, n].map(|number| text(number.big_endian_without_leading_zero()));
                json!({"e": e, "kty": "RSA", "n": n})
            }
        }
    }

    fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, self.jwk().to_string().as_bytes()))
    }

    /// Signs any header and claims, even invalid ones.
    fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let (random, bytes) = (SystemRandom::new(), message.as_bytes());
        let signature = match &self.pair {
            Pair::Ec(pair) => pair.sign(&random, bytes).expect("it signs").as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(bytes).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature).expect("it signs");
                signature
            }
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// `jwk` with further members.
pub fn with(mut jwk: Value, members: Value) -> Value {
    jwk.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
    jwk
}

/// Registers a domain with further members in the body.
fn register_with(gate: &Gate, owner: &User, host: &str, members: Value) -> Reply {
    let body = with(json!({"host": host, "type": "free"}), members);
    gate.post("/v1/domains").token(&owner.token).json(&body).send()
}

/// A domain that authenticates with a key.
pub struct KeyClient<'a> {
    pub gate: &'a Gate,
    pub id: String,
    pub key: ClientKey,
}

impl<'a> KeyClient<'a> {
    pub fn register(gate: &'a Gate, owner: &User, host: &str, key: ClientKey) -> KeyClient<'a> {
        let answer = register_with(gate, owner, host, json!({"jwks": {"keys": [key.jwk()]}})).expect(201);
        KeyClient { gate, id: answer["payload"]["id"].as_str().expect("an id").into(), key }
    }

    /// The claims of a good assertion, each time with a new `jti`.
    pub fn claims(&self) -> Value {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (now, jti) = (self.gate.clock.now(), format!("jti-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        json!({"iss": self.id, "sub": self.id, "aud": ISSUER, "iat": now, "exp": now + 60, "jti": jti})
    }

    pub fn header(&self) -> Value {
        json!({"alg": self.key.alg, "typ": "JWT"})
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.key.sign(&header.to_string(), &claims.to_string())
    }

    pub fn assertion(&self) -> String {
        self.sign(&self.header(), &self.claims())
    }

    pub fn present(&self, path: &str, assertion: &str) -> Reply {
        let rest = rest_of_form(path);
        self.gate.post(path).form(format!("{rest}&{}", asserting(assertion))).send()
    }

    #[track_caller]
    pub fn token(&self) -> String {
        let answer = self.present("/token", &self.assertion()).expect(200);
        answer["access_token"].as_str().expect("a token").into()
    }
}

/// The credentials of a form.
pub fn asserting(assertion: &str) -> String {
    format!("client_assertion_type={}&client_assertion={}", encoded(JWT_BEARER), encoded(assertion))
}

pub fn set_suspended(gate: &Gate, id: &str, suspended: bool) {
    let id = DomainId::parse(id).expect("an id");
    let set = |conn: &mut gatebird::db::Conn| Ok(domain::set_suspended(conn, id, suspended)?);
    gate.app.db.change_now(set, |conn| gate.app.directory.catch_up(conn)).expect("the database answers");
}

const TABLES: [&str; 8] =
    ["users", "domains", "secrets", "revocations", "used_assertions", "signing_keys", "tombstones", "revision"];

/// Renames the tables, so that everything that needs the database fails.
pub fn out_of_reach(gate: &Gate) {
    let rename = TABLES.map(|table| format!("ALTER TABLE {table} RENAME TO {table}_away;")).concat();
    gate.app.db.write_now(|conn| Ok(conn.batch_execute(&rename)?)).expect("the database answers");
}

/// Undoes [`out_of_reach`].
pub fn back_in_reach(gate: &Gate) {
    let rename = TABLES.map(|table| format!("ALTER TABLE {table}_away RENAME TO {table};")).concat();
    gate.app.db.write_now(|conn| Ok(conn.batch_execute(&rename)?)).expect("the database answers");
}

/// RFC 6749 §2.3 and §3.2, RFC 7009 §2.1, RFC 7662 §2.1: one method at a time, and each parameter once. A parameter
/// without a value is absent, and an unknown one is ignored.
#[test]
fn client_authentication__same_at_every_endpoint() {
    type Row<'a> = (&'a str, &'a str, &'a dyn Fn(Request) -> Request, u16);
    let gate = gate(&[]);
    let (user, domain, token) = gate.tenant("alice");
    let (_, other, _) = gate.tenant("mallory");
    let Domain { id, secret } = &domain;
    let (plain, basic) = (&|request| request, |request: Request| request.basic(id, secret));
    let header = |value: String| move |request: Request| request.header("Authorization", &value);
    let mixed = |text: &str| text.replace('_', "%5f").replace('b', "%62").replace('g', "%67");
    let escaped = header(format!("basic {}", STANDARD.encode(format!("{}:{}", mixed(id), mixed(secret)))));
    let in_body = format!("&client_id={id}&client_secret={secret}");
    let assertion = asserting("a.b.c");
    let rows: &[Row<'_>] = &[
        ("Basic", "", &basic, 200),
        ("Basic, form-encoded", "", &escaped, 200),
        ("Basic and its own name", &format!("&client_id={id}"), &basic, 200),
        ("Basic and an empty name", "&client_id=", &basic, 200),
        ("Basic and empty credentials", "&client_secret=&client_assertion=&client_assertion_type", &basic, 200),
        ("the body", &in_body, plain, 200),
        ("the body, encoded", &format!("&client_id={}&client_secret={}", mixed(id), mixed(secret)), plain, 200),
        ("the body and an empty assertion", &format!("{in_body}&client_assertion=&client_assertion_type="), plain, 200),
        ("parameters that are not known", &format!("{in_body}&audiences=x&a%5B%5D=1&state=y&code"), plain, 200),
        ("another scheme beside the body", &in_body, &|request| request.token(&token), 200),
        ("Basic and a secret", &format!("&client_secret={secret}"), &basic, 400),
        ("Basic and the body", &in_body, &basic, 400),
        ("Basic and an assertion", &format!("&{assertion}"), &basic, 400),
        ("Basic and a part of an assertion", "&client_assertion=x", &basic, 400),
        ("Basic and the type of an assertion", &format!("&client_assertion_type={JWT_BEARER}"), &basic, 400),
        ("Basic twice", "", &|request| basic(basic(request)), 400),
        ("Basic and another scheme", "", &|request| basic(request).token(&token), 400),
        ("the body and an assertion", &format!("{in_body}&{assertion}"), plain, 400),
        ("a secret without a name", &format!("&client_secret={secret}"), plain, 400),
        ("a secret and an empty name", &format!("&client_secret={secret}&client_id="), plain, 400),
        ("an assertion without its type", "&client_assertion=a.b.c", plain, 400),
        ("the type of an assertion without one", &format!("&client_assertion_type={JWT_BEARER}"), plain, 400),
        ("client_id twice", &format!("{in_body}&client_id={id}"), plain, 400),
        ("client_secret twice", &format!("{in_body}&client_secret={secret}"), plain, 400),
        ("client_secret twice, once empty", &format!("{in_body}&client_secret="), plain, 400),
        ("scope twice, in two spellings", &format!("{in_body}&scope=x&sc%6fpe=x"), plain, 400),
        ("token twice", &format!("{in_body}&token=x&token=y"), plain, 400),
        ("an unknown parameter twice", &format!("{in_body}&state=1&state=2"), plain, 400),
        ("nothing", "", plain, 401),
        ("empty credentials", "&client_id=&client_secret=", plain, 401),
        ("a name only", &format!("&client_id={id}"), plain, 401),
        ("Basic and another's name", &format!("&client_id={}", other.id), &basic, 401),
        ("a wrong secret", &format!("&client_id={id}&client_secret=gbs_x"), plain, 401),
        ("another's secret", &format!("&client_id={id}&client_secret={}", other.secret), plain, 401),
        ("another's name", &format!("&client_id={}&client_secret={secret}", other.id), plain, 401),
        ("Basic, wrong", "", &|request| request.basic(id, &other.secret), 401),
        ("Basic without a name", "", &|request| request.basic("", secret), 401),
        ("Basic, garbled", "", &header("Basic %%%".into()), 401),
        ("Basic of a user", "", &|request| request.basic("alice", crate::harness::PASSWORD), 401),
        ("its own token", "", &|request| request.token(&token), 401),
        ("its own token and name", &format!("&client_id={id}"), &|request| request.token(&token), 401),
        ("its owner's token", "", &|request| request.token(&user.token), 401),
        ("its own token as a secret", &format!("&client_id={id}&client_secret={token}"), plain, 401),
        ("its secret as a bearer token", "", &|request| request.token(secret), 401),
        ("a cookie", "", &|request| request.header("Cookie", format!("client_id={id}; client_secret={secret}")), 401),
        ("a malformed assertion", &format!("&{assertion}"), plain, 401),
        ("another kind of assertion", "&client_assertion_type=x&client_assertion=a.b.c", plain, 401),
    ];
    for path in ENDPOINTS {
        check_each(rows, |(name, rest, authenticate, status)| {
            let name = format!("{path}: {name}");
            let body = format!("{}{rest}", rest_of_form(path));
            let reply = authenticate(gate.post(path)).form(body).send();
            assert_eq!(reply.status, *status, "{name}: {}", reply.text());
            match status {
                401 => invalid_client(&name, &reply),
                400 => {
                    assert_error_response(&name, &reply);
                    assert_eq!(reply.json()["error"], "invalid_request", "{name}");
                }
                _ => {}
            }
            let challenge = reply.header("www-authenticate").unwrap_or_default();
            assert_eq!(challenge.starts_with("Basic realm="), *status == 401, "{name}: {challenge}");
            assert!(!reply.text().contains(secret.as_str()), "{name} repeats the secret");
        });
        // The query is not read.
        let query = format!("{path}?{}", form(&domain, rest_of_form(path)));
        invalid_client(&query, &gate.post(&query).form(rest_of_form(path)).send());
    }
    set_suspended(&gate, id, true);
    for path in ENDPOINTS {
        invalid_client("suspended", &gate.post(path).form(form(&domain, rest_of_form(path))).send());
        invalid_client("suspended", &gate.post(path).form(rest_of_form(path)).basic(id, secret).send());
    }
}

#[test]
fn introspection_and_revocation__only_posted_forms() {
    let gate = gate(&[]);
    let (_, domain, token) = gate.tenant("alice");
    let Domain { id, secret } = &domain;
    for path in ["/introspect", "/revoke"] {
        for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let reply = gate.request(method, &format!("{path}?token={token}")).basic(id, secret).send();
            assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")), "{method} {path}");
        }
        let body = json!({"token": token, "client_id": id, "client_secret": secret}).to_string();
        for kind in ["application/json", "text/plain", "multipart/form-data; boundary=x", "application/jwt", ""] {
            for body in [body.clone(), form(&domain, &format!("token={token}"))] {
                let reply = gate.post(path).body(kind, body).basic(id, secret).send();
                assert_eq!(reply.status, 415, "{path} {kind}");
                reply.refused(415, "media_type");
                assert_error_response(kind, &reply);
            }
        }
        let zipped =
            gate.post(path).form(format!("token={token}")).basic(id, secret).header("Content-Encoding", "gzip");
        zipped.send().refused(415, "media_type");
        let charset = gate.post(path).body("application/x-www-form-urlencoded; charset=UTF-8", "token=x");
        charset.basic(id, secret).send().expect(200);
        for rest in ["", "token=", "token", "tokens=x", "token_type_hint=access_token"] {
            let reply = gate.post(path).form(form(&domain, rest)).send();
            let body = reply.refused(400, "invalid_field");
            assert_eq!((&body["error"], &body["field"]), (&json!("invalid_request"), &json!("token")), "{path} {rest}");
            assert_error_response(rest, &reply);
        }
        let large = gate.post(path).form(form(&domain, &format!("token={}", "a".repeat(16 * 1024)))).send();
        assert_eq!(large.refused(413, "too_large")["error"], "invalid_request");
    }
    gate.get("/v1/test").token(&token).send().expect(200);
}

/// RFC 6749 §5.2: an error description can stand in a header, whatever was sent.
#[test]
fn oauth_errors__do_not_echo_the_request() {
    let gate = gate(&[]);
    let (_, domain, _) = gate.tenant("alice");
    let hostile = [
        "c4nary\r\nX-Injected: 1",
        "c4nary\" error=\"x",
        "c4nary\\",
        "c4nary\u{7f}\u{0}",
        "c4nary 키 \u{202e}",
        "<script>c4nary</script>",
        "' OR 1=1 --c4nary",
        "${jndi:ldap://c4nary.example}",
    ];
    let names =
        ["grant_type", "scope", "resource", "client_id", "client_secret", "client_assertion_type", "token_type_hint"];
    for path in ENDPOINTS {
        for value in hostile {
            for name in names {
                let usual = form(&domain, rest_of_form(path));
                let pairs = usual.split('&').filter(|pair| !pair.starts_with(&format!("{name}=")));
                let pairs: Vec<&str> = pairs.collect();
                let body = format!("{}&{name}={}", pairs.join("&"), encoded(value));
                let reply = gate.post(path).form(body).send();
                assert!(matches!(reply.status, 200 | 400 | 401), "{path} {name}={value}: {}", reply.text());
                assert!(!format!("{reply:?}").contains("c4nary"), "{path} {name}={value} comes back: {reply:?}");
                if reply.status != 200 {
                    assert_error_response(name, &reply);
                }
            }
            let body = format!("{}&{}=1", form(&domain, rest_of_form(path)), encoded(value));
            gate.post(path).form(&*body).send().expect(200);
            let twice = gate.post(path).form(format!("{body}&{}=1", encoded(value))).send();
            assert!(!twice.text().contains("c4nary"), "{}", twice.text());
            assert_error_response(value, &twice);
        }
    }
}
