//! Fuzzing of the real binary: every path with every method and with malformed paths, queries, headers and bodies. A
//! run takes some thousand of all combinations, evenly spread; `ATTACKS=200000 cargo test fuzz` takes more.

use std::time::{Duration, Instant};

use super::harmless;
use super::keep_alive::Line;
use crate::binary::{Child, signal};
use crate::harness::{Database, Value, json};
use crate::verification::dns;

const METHODS: &[&str] =
    &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "QUERY", "BOGUS", "get"];

/// Values for a path's variables and its query. `{id}` is an existing id.
const SEGMENTS: &[&str] = &[
    "{id}",
    "0",
    "-1",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "1e999",
    "-0",
    "NaN",
    "%F0%9F%98%80",
    "%00",
    "%FF%FE",
    "%ED%A0%80",
    "%C0%AE%C0%AE",
    "%D9%A1",
    "%0D%0AX:%20y",
    "%25",
    "%",
    "%zz",
    "..%2F..%2Fetc%2Fpasswd",
    "dom_0123456789ABCDEFGHIJkl",
    "%7B%22a%22:%5B%5D%7D",
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
        "{\"\":{}}",
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
    bodies.push(b"\xff\xfe\x80".to_vec());
    for depth in [100, 127, 128, 7000] {
        bodies.push("[".repeat(depth).into_bytes());
        bodies.push(format!("{}{}", "{\"content\":".repeat(depth), "}".repeat(depth)).into_bytes());
    }
    bodies.push(vec![b'a'; 100 * 1024]);
    bodies.push(format!("{{\"content\":\"{}\"}}", "\u{1F600}".repeat(4000)).into_bytes());
    bodies.push(format!("{{{}\"a\":1}}", "\"a\":1,".repeat(2000)).into_bytes());
    // One value for all members at once, so that every route reads it; and bodies that are good except for one member.
    for value in VALUES {
        let all: Vec<String> = MEMBERS.iter().map(|member| format!("\"{member}\":{value}")).collect();
        bodies.push(format!("{{{}}}", all.join(",")).into_bytes());
        for (good, member) in [
            (r#"{"username":"hunted","password":@}"#, "@"),
            (r#"{"host":@,"type":"free"}"#, "@"),
            (r#"{"host":"x.example.com","type":@}"#, "@"),
            (r#"{"content":@}"#, "@"),
            (r#"{"content":"x","img":@}"#, "@"),
            (r#"{"graceSeconds":@}"#, "@"),
            (r#"{"clientSecret":@}"#, "@"),
            (r#"{"type":@}"#, "@"),
            (r#"{"oldPassword":@,"newPassword":@}"#, "@"),
        ] {
            bodies.push(good.replace(member, value).into_bytes());
        }
    }
    bodies
}

/// The number of requests of a run.
fn wanted() -> usize {
    #[expect(clippy::disallowed_methods, reason = "this is the tests' own setting")]
    let wanted = std::env::var("ATTACKS");
    wanted.ok().and_then(|number| number.parse().ok()).unwrap_or(6_000)
}

/// Credentials and ids for the requests. Some requests end them, so a run makes new ones.
struct Prey {
    user: String,
    client: String,
    domain: String,
    secret: String,
    post: String,
}

impl Prey {
    fn new(child: &Child, number: usize) -> Prey {
        let (user, domain, client) = child.client.tenant(&format!("prey{number}"));
        let post = child.client.post("/v1/posts", &user.token, json!({"content": "#x"})).expect(201);
        let post = post["payload"]["id"].to_string();
        Prey { user: user.token, client, domain: domain.id, secret: domain.secret, post }
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

#[test]
fn fuzz__no_request_causes_a_panic() {
    let database = Database::new();
    let resolver = dns::EMPTY.address.to_string();
    let settings = [("DNS_SERVER", resolver.as_str()), ("RUST_LOG", "warn"), ("ACCESS_LOG", "off")];
    let mut child = Child::start(&database, &settings);
    let document = child.client.get("/openapi.json", "").expect(200);
    let mut paths: Vec<&str> = document["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
    paths.extend(["/", "/v1", "/v1/posts/{id}/x", "//", "*"]);
    let bodies = bodies();
    let (mut line, mut prey) = (Line::to(&child.client.url), Prey::new(&child, 0));
    let (mut slow, mut good, total) = (0, 0, wanted());
    // A step through all combinations that has no divisor in common with any of the lengths.
    let mut place = 0_u64;
    for number in 1..=total {
        if number.is_multiple_of(1000) {
            prey = Prey::new(&child, number);
        }
        place = place.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut rest = place >> 8;
        let mut pick = |length: usize| {
            let index = rest % length as u64;
            rest /= length as u64;
            index as usize
        };
        let (pattern, method) = (paths[pick(paths.len())], METHODS[pick(METHODS.len())]);
        let (headers, body) = (HEADERS[pick(HEADERS.len())], &bodies[pick(bodies.len())]);
        let (segment, kind, with_query) = (SEGMENTS[pick(SEGMENTS.len())], TYPES[pick(TYPES.len())], pick(3) == 0);
        let own = if pattern.starts_with("/v1/domains") { &prey.domain } else { &prey.post };
        let segment = segment.replace("{id}", own).replace("{long}", &"a".repeat(3000));
        let path = pattern.replace("{id}", &segment).replace("{secretId}", &segment).replace("{title}", &segment);
        let query = format!("?limit={segment}&cursor={segment}&days={segment}&scope={segment}&{segment}");
        let target = if with_query && path != "*" { path + &query } else { path };
        let headers = prey.fill(&format!("{headers}Content-Type: {kind}\r\n"));
        let filled = str::from_utf8(body).map(|body| prey.fill(body).into_bytes());
        let body = filled.as_ref().unwrap_or(body);
        let asked = Instant::now();
        let reply = line.ask(method, &target, &headers, body);
        slow += usize::from(asked.elapsed() > Duration::from_secs(1));
        let what =
            format!("{number}: {method} {target} {headers}{}", String::from_utf8_lossy(&body[..body.len().min(200)]));
        let reply = reply.unwrap_or_else(|error| panic!("{what}: {error}"));
        if pattern != "/readyz" {
            harmless(&what, &reply);
        }
        good += usize::from(reply.status < 300);
    }
    assert!(slow * 1000 <= total, "{slow} of {total} took more than a second");
    assert!(good * 100 > total, "{good} of {total} were good: it was not all refused at the door");
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
