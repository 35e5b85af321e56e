//! Fuzzing: malformed paths, queries, headers and bodies. Each value is sent once to every route. Some thousand random
//! combinations are sent to the real binary; `ATTACKS=200000 cargo test fuzz` sends more.

use std::time::{Duration, Instant};

use super::{LEAKS, assert_no_server_error};
use crate::binary::{Child, signal};
use crate::harness::{Database, Gate, Reply, Value, json};
use crate::http::keep_alive::KeepAlive;
use crate::oauth::ENDPOINTS;
use crate::random::Random;
use crate::verification::dns;

const METHODS: &[&str] =
    &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "QUERY", "BOGUS", "get"];

/// Values for a path's variables and its query. `{id}` is an existing id.
const SEGMENTS: &[&str] = &[
    "{id}",
    "0",
    "-0",
    "1",
    "-1",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "1e999",
    "NaN",
    "null",
    "true",
    "undefined",
    "%00",
    "a%00b",
    "%FF",
    "%FF%FE",
    "%ED%A0%80",
    "%C0%AE",
    "%C0%AE%C0%AE",
    "%D9%A1",
    "%E2%80%AE",
    "%F0%9F%98%80",
    "%0D%0A",
    "%0D%0AX:%20y",
    "%",
    "%25",
    "%zz",
    "%22",
    "%5C",
    "%3Cscript%3E",
    "%7B%22a%22:%5B%5D%7D",
    "'%20OR%201=1--",
    "$%7Bjndi:ldap://x%7D",
    "..%2F..%2Fetc%2Fpasswd",
    "a%2Fb",
    "*",
    "~",
    "dom_0123456789ABCDEFGHIJkl",
    "{long}",
];

/// `Authorization` headers, and other headers that the server reads.
const HEADERS: &[&str] = &[
    "",
    "Authorization: Bearer {user}\r\n",
    "Authorization: Bearer {client}\r\n",
    "Authorization: {client}\r\n",
    "Authorization: Bearer \u{1F600}\r\n",
    "Authorization: Bearer a.b.c\r\n",
    "Authorization: Basic OjpcZg==\r\n",
    "Authorization: Basic {basic}\r\n",
    "Authorization: Bearer {user}\r\nAuthorization: Bearer {client}\r\n",
    "Authorization: Bearer {user}\r\nOrigin: https://\u{1F600}\r\nAccess-Control-Request-Method: \u{1F600}\r\n",
    "Authorization: Bearer {user}\r\nX-Request-Id: \u{1F600}\r\nAccept-Language: ;q=,*;q=NaN\r\nX-Forwarded-For: 999.1\r\n",
    "Authorization: Bearer {user}\r\nIf-Match: \"\r\nRange: bytes=-0,9-1\r\nIf-None-Match: W/\r\n",
];

const TYPES: &[&str] = &[
    "application/json",
    "application/x-www-form-urlencoded",
    "text/plain",
    "\u{1F600}",
    "application/json; charset=utf-16",
];

const MEMBERS: &[&str] = &[
    "username",
    "password",
    "nick",
    "oldPassword",
    "newPassword",
    "host",
    "type",
    "content",
    "img",
    "clientSecret",
    "graceSeconds",
];

const VALUES: &[&str] = &[
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\u{1F600}\"",
    "\"a\u{202e}\u{200b}\"",
    "-0",
    "1e999",
    "9223372036854775808",
    "-9223372036854775809",
    "NaN",
    "0",
    "\"xn--\"",
    "\"::1\"",
    "\"http://[::\"",
    "\"#\u{1F600}##a\"",
];

/// Bodies that are malformed as a whole, and bodies with one member.
fn bodies() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = [
        "",
        "null",
        "[]",
        "{}",
        "\"\"",
        "1e999",
        "NaN",
        "{",
        "}",
        "{\"\":\"\"}",
        "{\"\":{}}",
        "{\"__proto__\":{},\"constructor\":1}",
        "\0",
        "\u{feff}{}",
        "=&=&%zz=%",
        "a[]=1;b=2",
        "grant_type=client_credentials&client_id={domain}&client_secret=%FF&scope=%00",
        "token=%FF&client_id={domain}&client_secret={secret}",
        "grant_type=client_credentials&client_assertion=a.b.c&client_assertion_type=x",
    ]
    .iter()
    .map(|body| body.as_bytes().to_vec())
    .collect();
    bodies.push(b"\xff\xfe".to_vec());
    bodies.push(b"\xff\xfe\x80".to_vec());
    for depth in [100, 127, 128, 7000] {
        bodies.push("[".repeat(depth).into_bytes());
        bodies.push(format!("{}{}", "[".repeat(depth), "]".repeat(depth)).into_bytes());
        bodies.push(format!("{}{}", "{\"content\":".repeat(depth), "}".repeat(depth)).into_bytes());
    }
    bodies.push(vec![b'a'; 17 * 1024]);
    bodies.push(vec![b'a'; 100 * 1024]);
    bodies.push(vec![b' '; 65 * 1024]);
    bodies.push(format!("{{\"content\":\"{}\"}}", "\u{1F600}".repeat(4000)).into_bytes());
    bodies.push(format!("{{{}\"a\":1}}", "\"a\":1,".repeat(2000)).into_bytes());
    for value in ["\"\"", "\"\\u0000\"", "\"\u{1F600}\"", "99999999999999999999"] {
        bodies.extend(MEMBERS.iter().map(|member| format!("{{\"{member}\":{value}}}").into_bytes()));
    }
    bodies
}

/// Bodies with one value for all members at once, so that every route reads it; and bodies that are good except for one
/// member.
fn bodies_with_values() -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for value in VALUES {
        let all: Vec<String> = MEMBERS.iter().map(|member| format!("\"{member}\":{value}")).collect();
        bodies.push(format!("{{{}}}", all.join(",")).into_bytes());
        for good in [
            r#"{"username":"fuzzed","password":@}"#,
            r#"{"host":@,"type":"free"}"#,
            r#"{"host":"x.example.com","type":@}"#,
            r#"{"content":@}"#,
            r#"{"content":"x","img":@}"#,
            r#"{"graceSeconds":@}"#,
            r#"{"clientSecret":@}"#,
            r#"{"type":@}"#,
            r#"{"oldPassword":@,"newPassword":@}"#,
        ] {
            bodies.push(good.replace('@', value).into_bytes());
        }
    }
    bodies
}

/// The number of requests of a run.
fn request_count() -> usize {
    #[expect(clippy::disallowed_methods, reason = "this is the tests' own setting")]
    let wanted = std::env::var("ATTACKS");
    wanted.ok().and_then(|number| number.parse().ok()).unwrap_or(6_000)
}

/// Credentials and ids for the requests. Some requests end them, so a run makes new ones.
struct Credentials {
    user: String,
    client: String,
    domain: String,
    secret: String,
    post: String,
}

impl Credentials {
    fn new(child: &Child, number: usize) -> Credentials {
        let (user, domain, client) = child.client.tenant(&format!("user{number}"));
        let post = child.client.post("/v1/posts", &user.token, json!({"content": "#x"})).expect(201);
        let post = post["payload"]["id"].to_string();
        Credentials { user: user.token, client, domain: domain.id, secret: domain.secret, post }
    }

    fn fill(&self, text: &str) -> String {
        let basic = format!("{}:{}", self.domain, self.secret);
        let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, basic);
        text.replace("{user}", &self.user)
            .replace("{client}", &self.client)
            .replace("{domain}", &self.domain)
            .replace("{secret}", &self.secret)
            .replace("{basic}", &basic)
    }
}

/// The segment as text, and the path with the segment for each of its variables.
fn filled(path: &str, segment: &str, id: &str) -> (String, String) {
    let segment = segment.replace("{id}", id).replace("{long}", &"a".repeat(3000));
    let path = path.replace("{id}", &segment).replace("{secretId}", &segment).replace("{title}", &segment);
    (segment, path)
}

/// The routes come from the OpenAPI document, so new ones are included.
#[test]
fn fuzz__every_route_with_every_malformed_value() {
    let gate = Gate::with(&[("TOKEN_TTL", "1h"), ("USER_TOKEN_TTL", "1h")]);
    let (user, _, token) = gate.tenant("alice");
    let signing_out = gate.sign_up("carol");
    let document = gate.get("/openapi.json").send().expect(200);
    let (mut routes, mut requests) = (0, 0);
    let mut check = |name: &str, reply: Reply| {
        assert!(reply.status < 500, "{name}: {} {}", reply.status, reply.text());
        let shown = reply.text().to_lowercase();
        let leak = LEAKS.iter().find(|leak| reply.status != 200 && shown.contains(*leak));
        assert_eq!(leak, None, "{name}: {shown}");
        requests += 1;
    };
    for (path, item) in document["paths"].as_object().expect("paths") {
        let methods = item.as_object().expect("methods").keys().filter(|key| *key != "parameters");
        for method in methods {
            routes += 1;
            let method = method.to_uppercase();
            for segment in SEGMENTS {
                let (segment, path) = filled(path, segment, "1");
                assert!(!path.contains('{'), "an unknown variable: {path}");
                let query = format!("{path}?limit={segment}&cursor={segment}&{segment}={segment}&");
                check(&format!("{method} {query:.200}"), gate.request(&method, &query).token(&token).send());
            }
            if method == "GET" {
                continue;
            }
            let caller = if path == "/v1/signout" { &signing_out } else { &user };
            let (_, plain) = filled(path, "1", "");
            let form = ENDPOINTS.contains(&path.as_str()).then_some("application/x-www-form-urlencoded");
            for body in bodies() {
                let name = format!("{method} {path} {:?}", String::from_utf8_lossy(&body[..body.len().min(60)]));
                for kind in ["application/json"].into_iter().chain(form) {
                    let request = gate.request(&method, &plain).token(&caller.token);
                    check(&name, request.body(kind, body.clone()).send());
                }
            }
        }
    }
    assert!(routes >= 20 && requests > 1000, "{routes} routes, {requests} requests");
    // The account, its domain and its tokens are unchanged.
    let domains = gate.get("/v1/domains").token(&user.token).send().expect(200);
    assert_eq!(domains["payload"].as_array().map(Vec::len), Some(1), "{domains}");
    gate.get("/v1/test").token(&token).send().expect(200);
    assert!(matches!(gate.get("/readyz").send().expect(200), Value::Object(_)));
}

#[test]
fn fuzz__no_request_causes_a_panic() {
    let database = Database::new();
    let resolver = dns::EMPTY.address.to_string();
    let settings = [("DNS_SERVER", resolver.as_str()), ("RUST_LOG", "warn"), ("ACCESS_LOG", "off")];
    let mut child = Child::start(&database, &settings);
    let document = child.client.get("/openapi.json", "").expect(200);
    let mut paths: Vec<&str> = document["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
    paths.extend(["/", "/v1", "/v1/posts/{id}/x", "//", "*"]);
    let bodies = [bodies(), bodies_with_values()].concat();
    let (mut connection, mut credentials) = (KeepAlive::to(&child.client.url), Credentials::new(&child, 0));
    let (mut slow, mut good, total) = (0, 0, request_count());
    let mut random = Random::seeded(0);
    for number in 1..=total {
        if number.is_multiple_of(1000) {
            credentials = Credentials::new(&child, number);
        }
        let (pattern, method) = (*random.pick(&paths), *random.pick(METHODS));
        let (headers, body) = (*random.pick(HEADERS), random.pick(&bodies));
        let (segment, kind, with_query) = (*random.pick(SEGMENTS), *random.pick(TYPES), random.below(3) == 0);
        let own = if pattern.starts_with("/v1/domains") { &credentials.domain } else { &credentials.post };
        let (segment, path) = filled(pattern, segment, own);
        let query = format!("?limit={segment}&cursor={segment}&days={segment}&scope={segment}&{segment}");
        let target = if with_query && path != "*" { path + &query } else { path };
        let headers = credentials.fill(&format!("{headers}Content-Type: {kind}\r\n"));
        let filled = str::from_utf8(body).map(|body| credentials.fill(body).into_bytes());
        let body = filled.as_ref().unwrap_or(body);
        let asked = Instant::now();
        let reply = connection.ask(method, &target, &headers, body);
        slow += usize::from(asked.elapsed() > Duration::from_secs(1));
        let what =
            format!("{number}: {method} {target} {headers}{}", String::from_utf8_lossy(&body[..body.len().min(200)]));
        let reply = reply.unwrap_or_else(|error| panic!("{what}: {error}"));
        if pattern != "/readyz" {
            assert_no_server_error(&what, &reply);
        }
        good += usize::from(reply.status < 300);
    }
    assert!(slow * 1000 <= total, "{slow} of {total} took more than a second");
    assert!(good * 100 > total, "{good} of {total} requests succeeded");
    assert!(child.is_running() && !child.stderr().contains("panicked"), "{}", child.stderr());
    let (_, domain, token) = child.client.tenant("afterwards");
    child.client.get("/v1/test", &token).expect(200);
    assert!(matches!(child.client.get(&format!("/v1/domains/{}", domain.id), &token).json(), Value::Object(_)));
    signal("TERM", child.pid());
    let outcome = child.wait(Duration::from_secs(20));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    println!("{total} requests, {good} of them good, {slow} slow");
}
