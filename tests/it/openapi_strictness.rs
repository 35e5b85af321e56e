//! The OpenAPI document is exactly as strict as the server: a value that its schema allows is never refused as
//! malformed, and a value that its schema refuses is refused. Each member and each parameter gets every value of one
//! list, and random ones.

use std::collections::BTreeSet;

use jsonschema::Validator;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use url::form_urlencoded;

use crate::harness::{Gate, Reply, Request, Value, json};
use crate::matrix::{Cast, FORM, good_body, media_type};
use crate::openapi::Document;

/// Rules that no schema can express: the refused member and a part of the message.
type Allowance = (&'static str, &'static str);

const BEYOND_A_BODYS_SCHEMA: &[Allowance] =
    &[("username", "one script"), ("password", "guess"), ("newPassword", "guess"), ("jwks", "registered with keys")];

/// A form needs all credentials of one kind.
const BEYOND_A_FORMS_SCHEMA: &[Allowance] = &[("", "one way"), ("client_id", "required")];

/// Texts at and around the limits of the members.
fn texts() -> Vec<String> {
    let plain = [
        "",
        " ",
        "a",
        "ab",
        "abc",
        "usr_7",
        "USR_7",
        "usr_x",
        "two words",
        "한글",
        "닉\u{200B}",
        "\u{0}",
        "a\u{7}b",
        "a\tb",
        "a\nb",
        "\u{7F}",
        "\u{9F}a",
        "\u{A0}",
        "\u{3000}",
        "🦜",
        "free",
        "premium",
        "Free",
        "client_credentials",
        "password",
        "https://img.example.com/a.png",
        "HTTPS://img.example.com",
        "http://한글.example.com/",
        "http://",
        "https:/a.example.com",
        "ftp://a.example.com",
        "https://a b.example.com",
        "javascript:alert(1)",
        "shop.example.com",
        "SHOP.example.com",
        "shop.example.com:8443",
        "shop.example.com:0",
        "shop.example.com:65535",
        "shop.example.com:65536",
        "shop.example.com:080",
        "shop.example.com:",
        "shop.example.com:1:2",
        "localhost",
        "localhost:3000",
        "*.example.com",
        "-a.example.com",
        "a-.example.com",
        "a-b.example.com",
        "a..example.com",
        ".example.com",
        "example.com.",
        "1.2.3.4",
        "0x7f.1",
        "[::1]",
        "me@example.com",
        "http://shop.example.com",
        "shop.example.com/",
        "shop_1.example.com",
        "가게.example.com",
        "intranet",
        "example.com",
        "shop.example.com ",
        "shop.example.com\n",
        "0",
        "1",
        "-1",
        "+1",
        "01",
        "1.0",
        "1e1",
        "50",
        "100",
        "101",
        "400",
        "401",
        "9223372036854775808",
        "AAAAAAAAAAE",
        "AAAAAAAAAAA",
        "AAAAAAAAAAF",
        "_AAAAAAAAAE",
        "AAAAAAAAAA",
        "posts:read",
        "posts:read posts:write",
        "dom_0123456789ABCDEFGHIJkl",
        "dom_0123456789ABCDEFGHIJk",
        "DOM_0123456789ABCDEFGHIJkl",
    ];
    let strong = "kX9$vQ2!mZ7&";
    let long = [
        "a".repeat(40),
        "a".repeat(41),
        "가".repeat(40),
        "가".repeat(41),
        "가".repeat(140),
        "가".repeat(141),
        strong[..7].to_owned(),
        strong[..8].to_owned(),
        strong.repeat(30)[..256].to_owned(),
        strong.repeat(30)[..257].to_owned(),
        format!("https://a.example.com/{}", "a".repeat(178)),
        format!("https://a.example.com/{}", "a".repeat(179)),
        format!("{}.example.com", "a".repeat(63)),
        format!("{}.example.com", "a".repeat(64)),
        format!("{}example.com", "a.".repeat(121)),
        format!("{}example.com:80", "a.".repeat(121)),
        format!("{}aexample.com", "a.".repeat(121)),
    ];
    let mut runner = TestRunner::deterministic();
    let random = proptest::prop_oneof!["\\PC{0,45}", "[ -~]{0,45}", "[a-z0-9.:-]{1,30}\\.example\\.com"];
    let random = (0..30).map(|_| random.new_tree(&mut runner).expect("a strategy without filters").current());
    plain.into_iter().map(str::to_owned).chain(long).chain(random.collect::<Vec<_>>()).collect()
}

/// Values of every type.
fn values(gate: &Gate) -> Vec<Value> {
    let issuer = &gate.app.config.issuer;
    let ec = json!({"kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"});
    let with = |member: &str, value: Value| {
        let mut key = ec.clone();
        key[member] = value;
        json!({"keys": [key]})
    };
    let mut values: Vec<Value> = texts().into_iter().map(Value::from).collect();
    values.extend([
        Value::Null,
        json!(true),
        json!(-1),
        json!(0),
        json!(1),
        json!(1.5),
        json!(2_592_000),
        json!(2_592_001),
        json!(u64::MAX),
        json!([]),
        json!({}),
        json!([""]),
        json!([1]),
        json!(["posts:read"]),
        json!(["posts:read", "posts:read"]),
        json!(["posts:read", "posts:write"]),
        json!(["no:such"]),
        json!([issuer]),
        json!([issuer, issuer]),
        json!({"keys": []}),
        json!({"keys": [{}]}),
        json!({"keys": [ec]}),
        json!({"keys": [ec, ec, ec, ec, ec]}),
        with("kid", json!("")),
        with("kid", json!("one")),
        with("kid", json!("a b")),
        with("kid", json!("k".repeat(129))),
        with("alg", json!("ES256")),
        with("alg", json!("RS256")),
        with("use", json!("sig")),
        with("use", json!("enc")),
        with("crv", json!("P-384")),
        with("x", json!("short")),
        with("x5t", json!("anything")),
        with("kty", json!("oct")),
    ]);
    values
}

fn validator(document: &Document, schema: &Value) -> Validator {
    let schema = json!({"components": document.0["components"], "allOf": [schema]});
    jsonschema::draft202012::new(&schema).expect("a valid schema")
}

/// Whether the request was refused for its content, and not for its caller or the state of the server.
fn is_refused(reply: &Reply) -> bool {
    let reasons = ["invalid_field", "malformed", "grant_type"];
    matches!(reply.status, 400 | 403) && reasons.contains(&reply.json()["reason"].as_str().unwrap_or_default())
}

/// Differences between schema and server.
struct Comparison {
    allowed: &'static [Allowance],
    used: BTreeSet<Allowance>,
    found: Vec<String>,
}

impl Comparison {
    fn new(allowed: &'static [Allowance]) -> Comparison {
        Comparison { allowed, used: BTreeSet::new(), found: Vec::new() }
    }

    fn compare(&mut self, what: &str, is_valid: bool, reply: &Reply) {
        match (is_valid, is_refused(reply)) {
            (true, true) if !self.is_allowed(reply) => {
                self.found.push(format!("the schema takes {what}: {}", reply.text()));
            }
            (false, false) => self.found.push(format!("the schema refuses {what}: {} {}", reply.status, reply.text())),
            _ => {}
        }
    }

    fn is_allowed(&mut self, reply: &Reply) -> bool {
        let body = reply.json();
        let message = body["error_description"].as_str().unwrap_or_default();
        let field = body["field"].as_str().unwrap_or_default();
        let allowed = self.allowed.iter().find(|(member, part)| field == *member && message.contains(part));
        self.used.extend(allowed);
        allowed.is_some()
    }

    /// Checks that there are no differences, and no unused allowances.
    fn finish(self) {
        assert!(self.found.is_empty(), "{} disagreements:\n{}", self.found.len(), self.found.join("\n"));
        let unused: Vec<_> = self.allowed.iter().filter(|allowed| !self.used.contains(*allowed)).collect();
        assert!(unused.is_empty(), "nothing needs {unused:?}");
    }
}

fn members(schema: &Value) -> Vec<String> {
    schema["properties"].as_object().expect("the members of a body").keys().cloned().collect()
}

#[test]
fn openapi_strictness__json_bodies() {
    let gate = Gate::start();
    let document = Document::of(&gate);
    let mut cast = Cast::new(&gate, 0);
    let mut comparison = Comparison::new(BEYOND_A_BODYS_SCHEMA);
    let mut number = 0;
    for (name, operation) in document.operations() {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            continue;
        }
        let validator = validator(&document, schema);
        let (method, path) = name.split_once(' ').expect("a method and a path");
        let mut ask = |body: Value| {
            number += 1;
            let request = gate.request(method, &cast.fill(path, number)).token(&cast.user.token);
            let reply = request.json(&body).send();
            comparison.compare(&format!("{name} {body}"), validator.is_valid(&body), &reply);
            if ["PUT /v1/me/password", "POST /v1/signout"].contains(&name.as_str()) && reply.status == 200 {
                // That revoked the token.
                cast = Cast::new(&gate, number);
            }
        };
        let good = good_body(&name).replace("{n}", "n").replace("{secret}", "s").replace("{name}", "n");
        let good: Value = serde_json::from_str(&good.replace("{password}", crate::harness::PASSWORD)).expect("JSON");
        ask(json!({}));
        for member in members(document.resolve(schema)) {
            for value in values(&gate) {
                let mut body = good.clone();
                body[&member] = value;
                ask(body);
            }
            let mut body = good.clone();
            body.as_object_mut().expect("an object").remove(&member);
            ask(body);
        }
        let mut body = good.clone();
        body["unknown"] = json!(1);
        ask(body);
    }
    comparison.finish();
}

#[test]
fn openapi_strictness__forms() {
    let gate = Gate::start();
    let document = Document::of(&gate);
    let cast = Cast::new(&gate, 0);
    let mut comparison = Comparison::new(BEYOND_A_FORMS_SCHEMA);
    for (name, operation) in document.operations() {
        let schema = &operation["requestBody"]["content"][FORM]["schema"];
        if schema.is_null() {
            continue;
        }
        let validator = validator(&document, schema);
        let (_, path) = name.split_once(' ').expect("a method and a path");
        let good = cast.fill(good_body(&name), 0);
        assert_eq!(media_type(&good), FORM);
        let good: Vec<(String, String)> = form_urlencoded::parse(good.as_bytes()).into_owned().collect();
        for member in members(document.resolve(schema)).iter().map(String::as_str).chain(["unknown"]) {
            let others: Vec<_> = good.iter().filter(|(name, _)| name != member).cloned().collect();
            let absent = std::iter::once(others.clone());
            let given = texts().into_iter().filter(|text| !text.is_empty());
            let given = given.map(|text| [others.as_slice(), &[(member.to_owned(), text)]].concat());
            for form in absent.chain(given) {
                let is_list = |name: &str| document.resolve(schema)["properties"][name]["type"] == "array";
                let value = |(name, value): &(String, String)| match is_list(name) {
                    true => (name.clone(), json!([value])),
                    false => (name.clone(), json!(value)),
                };
                let body: Value = form.iter().map(value).collect();
                let encoded = form_urlencoded::Serializer::new(String::new()).extend_pairs(&form).finish();
                let reply = gate.post(path).form(encoded).send();
                comparison.compare(&format!("{name} {body}"), validator.is_valid(&body), &reply);
            }
        }
    }
    comparison.finish();
}

#[test]
fn openapi_strictness__parameters() {
    let gate = Gate::start();
    let document = Document::of(&gate);
    let cast = Cast::new(&gate, 0);
    let mut comparison = Comparison::new(&[]);
    for (name, operation) in document.operations().filter(|(name, _)| name.starts_with("GET ")) {
        let path = name.strip_prefix("GET ").expect("a GET");
        let get = |path: &str| -> Request { gate.get(path).token(&cast.user.token) };
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let validator = validator(&document, &parameter["schema"]);
            let place = parameter["name"].as_str().expect("a name");
            for text in texts() {
                let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
                let number = number.filter(|_| parameter["schema"]["type"] == "integer");
                let is_valid = validator.is_valid(&number.map_or_else(|| json!(text), |number| json!(number)));
                let encoded: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
                let what = format!("{name} {place}={text:?}");
                if parameter["in"] == "query" {
                    let reply = get(&format!("{}?{place}={encoded}", cast.fill(path, 0))).send();
                    comparison.compare(&what, is_valid, &reply);
                } else if !is_valid && !text.is_empty() {
                    let path = path.replace(&format!("{{{place}}}"), &encoded.replace('+', "%20"));
                    let reply = get(&cast.fill(&path, 0)).send();
                    if reply.status != 404 {
                        comparison.found.push(format!("the schema refuses {what}: {} {}", reply.status, reply.text()));
                    }
                }
            }
        }
    }
    comparison.finish();
}
