//! The document at `/openapi.json`: whether it is well-formed, and whether it is true. Each operation gets good and bad
//! requests, and each answer is compared with the document.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::{Gate, PASSWORD, Reply, Request, Value, json};
use crate::matrix::{Cast, FORM, good_body, media_type, with_body};
use crate::verification::dns::{Dns, Record};

const METHODS: &[&str] = &["get", "post", "put", "patch", "delete", "head", "options", "trace"];

/// The served document.
pub struct Document(pub Value);

impl Document {
    pub fn of(gate: &Gate) -> Document {
        Document(gate.get("/openapi.json").send().expect(200))
    }

    /// Each operation with its name, such as `GET /v1/me`.
    pub fn operations(&self) -> impl Iterator<Item = (String, &Value)> {
        let paths = self.0["paths"].as_object().expect("paths");
        paths.iter().flat_map(|(path, item)| {
            let members = item.as_object().expect("a path item").iter();
            let operations = members.filter(|(method, _)| METHODS.contains(&method.as_str()));
            operations.map(move |(method, operation)| (format!("{} {path}", method.to_uppercase()), operation))
        })
    }

    /// The methods of a path.
    pub fn methods(&self, path: &str) -> BTreeSet<String> {
        let names = self.operations().filter_map(|(name, _)| name.strip_suffix(&format!(" {path}")).map(str::to_owned));
        names.collect()
    }

    /// The differences between an answer and the document: status, headers, content type and body.
    pub fn objections(&self, operation: &str, reply: &Reply) -> Vec<String> {
        let (method, path) = operation.split_once(' ').expect("a method and a path");
        let status = reply.status.to_string();
        let response = self.resolve(&self.0["paths"][path][method.to_lowercase()]["responses"][&status]);
        let media_type = reply.header("content-type").unwrap_or_default();
        let content = &response["content"];
        let schema = &content[media_type]["schema"];
        let mut found = Vec::new();
        match (response.is_null(), content.is_null(), schema.is_null()) {
            (true, _, _) => found.push(format!("status {status} is not documented")),
            // Documented without a body.
            (false, true, _) if media_type.is_empty() && reply.body.is_empty() => {}
            (false, _, true) => found.push(format!("{media_type:?} is not documented for {status}")),
            (false, _, false) => self.check("body", schema, &reply.json(), &mut found),
        }
        for header in ["WWW-Authenticate", "Allow", "Retry-After"] {
            let is_sent = reply.header(&header.to_lowercase()).is_some();
            let is_documented = response["headers"][header].is_object();
            // Not every 403 has a challenge or a `Retry-After`.
            let is_optional = status == "403" && is_documented;
            if is_sent != is_documented && !is_optional && !response.is_null() {
                found.push(format!("{header} of {status}: sent: {is_sent}, documented: {is_documented}"));
            }
        }
        found.iter().map(|mismatch| format!("{operation}: {mismatch} ({})", reply.text())).collect()
    }

    /// Follows a `$ref`.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            None => schema,
            Some(reference) => {
                let target = reference.strip_prefix('#').and_then(|pointer| self.0.pointer(pointer));
                self.resolve(target.unwrap_or_else(|| panic!("{reference} leads nowhere")))
            }
        }
    }

    /// Compares a value with a schema strictly: a member that it does not name is an error.
    fn check(&self, place: &str, schema: &Value, value: &Value, found: &mut Vec<String>) {
        let schema = self.resolve(schema);
        if let Some(variants) = schema["oneOf"].as_array() {
            let fits = |variant: &&Value| {
                let mut objections = Vec::new();
                self.check(place, variant, value, &mut objections);
                objections.is_empty()
            };
            let count = variants.iter().filter(fits).count();
            if count != 1 {
                found.push(format!("{place} fits {count} of the variants"));
            }
            return;
        }
        let actual = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        if !types(schema).contains(&actual) {
            found.push(format!("{place} is {actual}, not {:?}", types(schema)));
        }
        if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
            found.push(format!("{place} is {value}, not one of {}", schema["enum"]));
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            self.check(&format!("{place}[{index}]"), &schema["items"], item, found);
        }
        // An object without described members may have any.
        let (Some(members), Some(properties)) = (value.as_object(), schema["properties"].as_object()) else {
            return;
        };
        for (name, member) in members {
            match properties.get(name) {
                Some(property) => self.check(&format!("{place}.{name}"), property, member, found),
                None => found.push(format!("{place}.{name} is not documented")),
            }
        }
        for name in required(schema).filter(|name| !members.contains_key(*name)) {
            found.push(format!("{place}.{name} is missing"));
        }
    }
}

/// The types that a schema allows.
fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        Value::String(one) => vec![one],
        other => panic!("a schema without a type ({other}): {schema}"),
    }
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Calls `visit` with every object inside `value`.
fn each_object(value: &Value, visit: &mut impl FnMut(&Value)) {
    match value {
        Value::Object(members) => {
            visit(value);
            members.values().for_each(|member| each_object(member, visit));
        }
        Value::Array(items) => items.iter().for_each(|item| each_object(item, visit)),
        _ => {}
    }
}

#[test]
fn openapi__version_3_1_as_json() {
    let gate = Gate::with(&[("PUBLIC_URL", "https://gate.example.com")]);
    let reply = gate.get("/openapi.json").send();
    let document = reply.expect(200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")), "{}", document["openapi"]);
    assert_eq!(document["info"]["version"], json!(env!("CARGO_PKG_VERSION")));
    assert_eq!(document["servers"][0]["url"], json!("https://gate.example.com"));
}

#[test]
fn openapi__every_operation_is_complete() {
    let document = Document::of(&Gate::start());
    let mut ids = BTreeSet::new();
    let schemes = document.0["components"]["securitySchemes"].as_object().expect("security schemes");
    for (name, operation) in document.operations() {
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{name} has no operationId"));
        assert!(ids.insert(id), "{name}: operationId {id} is not unique");
        assert!(operation["summary"].is_string(), "{name} has no summary");
        let security = operation["security"].as_array().unwrap_or_else(|| panic!("{name} has no security requirement"));
        for scheme in security.iter().flat_map(|requirement| requirement.as_object().expect("an object").keys()) {
            assert!(schemes.contains_key(scheme), "{name}: there is no security scheme {scheme}");
        }
        let declared = |parameter: &&Value| parameter["in"] == "path";
        let declared = operation["parameters"].as_array().into_iter().flatten().filter(declared);
        let declared: BTreeSet<&str> = declared.filter_map(|parameter| parameter["name"].as_str()).collect();
        let places = name.split(['{', '}']).skip(1).step_by(2).collect();
        assert_eq!(declared, places, "{name}: the parameters of the path");
        let successes = operation["responses"].as_object().expect("responses").keys();
        assert!(
            successes.filter(|status| status.starts_with('2')).count() == 1,
            "{name} must have exactly one success status"
        );
    }
}

#[test]
fn openapi__every_reference_resolves() {
    let document = Document::of(&Gate::start());
    let mut seen = 0;
    each_object(&document.0, &mut |object| {
        seen += usize::from(object["$ref"].is_string());
        document.resolve(object);
    });
    assert!(seen > 10, "only {seen} references");
}

/// A generated client must not have to handle what never occurs.
#[test]
fn openapi__response_member_is_required_or_not_nullable() {
    let document = Document::of(&Gate::start());
    let mut wrong = BTreeSet::new();
    for (name, operation) in document.operations() {
        each_object(&operation["responses"], &mut |response| {
            let schema = document.resolve(response);
            each_object(schema, &mut |schema| {
                let schema = document.resolve(schema);
                for (member, property) in schema["properties"].as_object().into_iter().flatten() {
                    let present = required(schema).any(|name| name == member);
                    let nullable = property["type"].is_array() && types(property).contains(&"null");
                    if !present && nullable {
                        wrong.insert(format!("{name}: {member}"));
                    }
                }
            });
        });
    }
    assert!(wrong.is_empty(), "both optional and nullable: {wrong:#?}");
}

/// openapi-generator and orval refuse a document without it.
#[test]
fn openapi__license_identifier() {
    assert_eq!(Document::of(&Gate::start()).0["info"]["license"], json!({"name": "MIT", "identifier": "MIT"}));
}

/// Generators make one method for each operation, with one type of body and one answer.
#[test]
fn openapi__one_body_type_and_one_credential_per_requirement() {
    let document = Document::of(&Gate::start());
    for (name, operation) in document.operations() {
        let types = operation["requestBody"]["content"].as_object().map_or(0, |content| content.len());
        assert!(types <= 1, "{name} has {types} types of body");
        for requirement in operation["security"].as_array().expect("security") {
            assert!(
                requirement.as_object().expect("an object").len() <= 1,
                "{name} demands two kinds of credentials at once"
            );
        }
    }
}

/// openapi-python-client misreads a list that has only an empty requirement.
#[test]
fn openapi__no_empty_security_requirement() {
    let document = Document::of(&Gate::start());
    for (name, operation) in document.operations() {
        assert_ne!(operation["security"], json!([{}]), "{name}");
    }
    let (_, signup) = document.operations().find(|(name, _)| name == "POST /v1/signup").expect("the operation");
    assert_eq!(signup["security"], json!([]));
}

#[test]
fn openapi__status_419_only_if_used() {
    let document = Document::of(&Gate::with(&[("EXPIRED_TOKEN_STATUS", "401")]));
    for (name, operation) in document.operations() {
        assert!(operation["responses"]["419"].is_null(), "{name}");
    }
}

#[test]
fn openapi__variant_is_a_plain_reference() {
    let document = Document::of(&Gate::start());
    each_object(&document.0, &mut |object| {
        for variant in object["oneOf"].as_array().into_iter().flatten().filter(|variant| variant["$ref"].is_string()) {
            assert_eq!(variant.as_object().expect("an object").len(), 1, "{variant}");
        }
    });
}

#[test]
fn openapi__page_limits_are_documented() {
    let document = Document::of(&Gate::start());
    for name in ["GET /v1/posts/my", "GET /v1/posts/hashtag/{title}", "GET /v1/audit"] {
        let (_, operation) = document.operations().find(|(operation, _)| operation == name).expect("the operation");
        let mut parameters = operation["parameters"].as_array().expect("parameters").iter();
        let schema = &parameters.find(|parameter| parameter["name"] == "limit").expect("limit")["schema"];
        assert_eq!((&schema["minimum"], &schema["maximum"]), (&json!(1), &json!(100)), "{name}");
    }
}

/// Statuses that need a fault: a slow client, a bug, a database outage.
const NOT_PROVOKED: &[&str] = &["408", "500", "503"];

#[test]
fn openapi__statuses_match_the_answers() {
    let dns = Dns::with(&[]);
    let gate = Gate::with(&[("DNS_SERVER", &dns.address.to_string())]);
    let once = ["LIMIT_FREE", "LIMIT_FAILURES", "LIMIT_SIGNIN", "LIMIT_SIGNUP"].map(|key| (key, "1/h"));
    let limited = Gate::with(&once);
    let closed = Gate::with(&[("SIGNUP", "closed")]);
    let document = Document::of(&gate);
    // The token itself took the only request of the limit.
    let (_, spent, spent_token) = limited.tenant("spender");
    limited.post("/token").json(&json!({"clientSecret": "wrong"})).send().refused(401, "malformed_secret");
    limited.post("/v1/signin").json(&json!({"username": "x", "password": "x"})).send().refused(401, "credentials");
    let mut tried = Answers { document: &document, statuses: BTreeMap::new(), wrong: BTreeSet::new() };
    let mut number = 0;
    let mut cast = Cast::new(&gate, number);
    for (name, operation) in document.operations() {
        let (method, path) = name.split_once(' ').expect("a method and a path");
        let mut ask = |gate: &Gate, request: &dyn Fn(Request) -> Request, path: &str| {
            tried.record(&name, &request(gate.request(method, path)).send());
        };
        number += 1;
        let path = cast.fill(path, number);
        let good = cast.fill(good_body(&name), number);
        let with_body = |request: Request| with_body(request, &good);
        let user = |request: Request| request.token(&cast.user.token);

        let mut parameters = operation["parameters"].as_array().into_iter().flatten();
        if parameters.any(|parameter| parameter["name"] == "If-Match") {
            ask(&gate, &|request| with_body(user(request)).header("If-Match", "\"other\""), &path);
        }
        ask(&gate, &with_body, &path);
        let [expired, ..] = &cast.dead;
        for token in [expired, &cast.client, &cast.reader, &cast.writer] {
            ask(&gate, &|request| with_body(request).token(token), &path);
        }
        ask(&gate, &|request| with_body(user(request)).header("X-Filler", "x".repeat(17 << 10)), &path);
        ask(&limited, &|request| with_body(request).token(&spent_token), &path);
        ask(&closed, &|request| with_body(user(request)), &path);

        if path.contains(&format!("{}/", cast.domain.id)) {
            let other = path.replace(&cast.domain.id, "dom_0123456789ABCDEFGHIJkl");
            ask(&gate, &|request| with_body(user(request)), &other);
        }
        if let Some((folder, _)) = path.rsplit_once('/').filter(|_| name.ends_with('}')) {
            for segment in ["0", "no-such", "%FF", "9223372036854775808", "dom_0123456789ABCDEFGHIJkl"] {
                ask(&gate, &|request| with_body(user(request)), &format!("{folder}/{segment}"));
            }
        }
        if operation["parameters"].is_array() {
            for query in ["days=0", "limit=0", "limit=x", "cursor=x", "limit=1&limit=2", "unknown=1", "limit=100"] {
                ask(&gate, &|request| with_body(user(request)), &format!("{path}?{query}"));
            }
        }
        if operation["requestBody"].is_object() {
            let schema = &operation["requestBody"]["content"][media_type(&good)]["schema"];
            let mut objections = Vec::new();
            document.check("request", schema, &members(&good), &mut objections);
            assert!(objections.is_empty(), "{name} documents its request otherwise: {objections:?}");
            ask(&gate, &|request| user(request).body("text/plain", good.as_str()), &path);
            ask(&gate, &|request| user(request).body(media_type(&good), " ".repeat(70_000)), &path);
            // The empty object comes last, because it may sign the user out.
            for body in ["", "{", "[]", "null", r#"{"unknown":1}"#, "{}"] {
                ask(&gate, &|request| user(request).body("application/json", body), &path);
            }
            let wrong_password = good.replace(PASSWORD, "wrong staple battery horse");
            ask(&gate, &|request| user(request).body("application/json", wrong_password.as_str()), &path);
        }
        if name == "POST /v1/token" {
            let secret = json!({"clientSecret": spent.secret});
            ask(&limited, &|request| request.json(&secret), &path);
            ask(&gate, &|request| request.json(&secret), &path);
        }
        if operation["requestBody"]["content"][FORM].is_object() {
            // Each endpoint ignores the parameter that belongs to the other form.
            let form = "grant_type=client_credentials&token=x";
            ask(&limited, &|request| request.basic(&spent.id, &spent.secret).form(form), &path);
            ask(&gate, &|request| request.form(form), &path);
            for form in [form, "grant_type=password"] {
                ask(&gate, &|request| request.basic(&cast.domain.id, &cast.domain.secret).form(form), &path);
            }
        }
        // Twice: the second request may conflict, or find nothing.
        for _ in 0..2 {
            ask(&gate, &|request| with_body(user(request)), &path);
        }
        if name == "POST /v1/domains/{id}/verification" {
            let shown = gate.get(&path).token(&cast.user.token).send().expect(200);
            let value = shown["payload"]["dns"]["value"].as_str().expect("a value").to_owned();
            dns.set(&[(&format!("_gatebird.{}.example.com", cast.name), Record::text(&value))]);
            // The attempts of this minute are used up.
            gate.clock.advance(60);
            ask(&gate, &user, &path);
        }
        tried.record(&name, &gate.request("TRACE", &path).send());
        if method != "GET" {
            cast = Cast::new(&gate, number);
        }
    }
    gate.app.drain();
    let draining = gate.get("/readyz").send();
    assert_eq!(draining.status, 503);
    tried.record("GET /readyz", &draining);
    assert!(tried.wrong.is_empty(), "{}", tried.wrong.into_iter().collect::<Vec<_>>().join("\n"));

    for (name, operation) in document.operations() {
        let documented = operation["responses"].as_object().expect("responses").keys();
        let never: Vec<_> = documented
            .filter(|status| !NOT_PROVOKED.contains(&status.as_str()) && !tried.statuses[&name].contains(*status))
            .collect();
        assert!(never.is_empty(), "{name} documents statuses that were never answered: {never:?}");
    }
}

/// The members of a body of either type.
fn members(body: &str) -> Value {
    match media_type(body) {
        FORM => url::form_urlencoded::parse(body.as_bytes()).map(|(name, value)| (name, json!(value))).collect(),
        _ => serde_json::from_str(body).expect("JSON"),
    }
}

/// The statuses that the operations answered so far.
struct Answers<'a> {
    document: &'a Document,
    statuses: BTreeMap<String, BTreeSet<String>>,
    wrong: BTreeSet<String>,
}

impl Answers<'_> {
    fn record(&mut self, operation: &str, reply: &Reply) {
        self.statuses.entry(operation.into()).or_default().insert(reply.status.to_string());
        self.wrong.extend(self.document.objections(operation, reply));
    }
}
