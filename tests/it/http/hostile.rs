//! Every route with malformed values in path, query and body: never a 5xx, never a dropped connection, and the next
//! good request works. The routes come from the OpenAPI document, so new ones are included.

use crate::harness::{Gate, Value};

/// Values for a path's variable or a query.
const SEGMENTS: &[&str] = &[
    "0",
    "-1",
    "1",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "1e999",
    "-0",
    "NaN",
    "null",
    "true",
    "undefined",
    "%F0%9F%98%80",
    "%00",
    "a%00b",
    "%FF",
    "%ED%A0%80",
    "%C0%AE",
    "%D9%A1",
    "%E2%80%AE",
    "%0D%0A",
    "'%20OR%201=1--",
    "%25",
    "%5C",
    "%22",
    "%3Cscript%3E",
    "$%7Bjndi:ldap://x%7D",
    "..%2F..%2Fetc%2Fpasswd",
    "a%2Fb",
    "*",
    "~",
];

/// Request bodies.
fn bodies() -> Vec<Vec<u8>> {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth)).into_bytes();
    // Every member of any route, with one value each.
    let with = |value: &str| {
        let members = [
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
        ];
        members.iter().map(|member| format!("{{\"{member}\":{value}}}").into_bytes()).collect::<Vec<_>>()
    };
    let mut bodies = vec![
        b"".to_vec(),
        b"\0".to_vec(),
        b"\xFF\xFE".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        b"\"\"".to_vec(),
        b"1e999".to_vec(),
        b"NaN".to_vec(),
        b"{\"\":\"\"}".to_vec(),
        b"{\"__proto__\":{},\"constructor\":1}".to_vec(),
        deep(100),
        deep(7000),
        vec![b'a'; 17 * 1024],
        vec![b' '; 65 * 1024],
    ];
    for value in ["\"\"", "\"\\u0000\"", "\"\u{1F600}\"", "99999999999999999999"] {
        bodies.extend(with(value));
    }
    bodies
}

#[test]
fn fuzz__no_request_is_a_server_error() {
    let gate = Gate::start();
    let (user, _, token) = gate.tenant("alice");
    let signing_out = gate.sign_up("carol");
    let document = gate.get("/openapi.json").send().expect(200);
    let mut routes = 0;
    let mut tried = 0;
    let mut check = |name: &str, reply: crate::harness::Reply| {
        assert!(reply.status < 500, "{name}: {} {}", reply.status, reply.text());
        let shown = reply.text().to_lowercase();
        for leak in ["sqlite", "postgres", "diesel", "panicked", "/src/", ".rs:", "backtrace", "select ", "insert into"]
        {
            assert!(!shown.contains(leak) || reply.status == 200, "{name}: {shown}");
        }
        tried += 1;
    };
    for (path, item) in document["paths"].as_object().expect("paths") {
        let methods = item.as_object().expect("methods").keys().filter(|key| *key != "parameters");
        for method in methods {
            routes += 1;
            let method = method.to_uppercase();
            let plain = path.replace("{id}", "1").replace("{title}", "rust").replace("{secretId}", "1");
            assert!(!plain.contains('{'), "a new kind of variable: {path}");
            for segment in SEGMENTS {
                let hostile = path.replace("{id}", segment).replace("{title}", segment).replace("{secretId}", segment);
                let query = format!("{hostile}?limit={segment}&cursor={segment}&{segment}={segment}&");
                check(&format!("{method} {query}"), gate.request(&method, &query).token(&token).send());
            }
            if method == "GET" {
                continue;
            }
            let caller = if path == "/v1/signout" { &signing_out } else { &user };
            for body in bodies() {
                let name = format!("{method} {path} {:?}", String::from_utf8_lossy(&body[..body.len().min(60)]));
                let send = |content_type: &str| {
                    gate.request(&method, &plain).token(&caller.token).body(content_type, body.clone()).send()
                };
                check(&name, send("application/json"));
                if path.ends_with("/token") {
                    check(&name, send("application/x-www-form-urlencoded"));
                }
            }
        }
    }
    assert!(routes >= 20 && tried > 1000, "{routes} routes, {tried} requests");
    // No request did harm: the account, its domain and its tokens are unchanged.
    let domains = gate.get("/v1/domains").token(&user.token).send().expect(200);
    assert_eq!(domains["payload"].as_array().map(Vec::len), Some(1), "{domains}");
    gate.get("/v1/test").token(&token).send().expect(200);
    assert!(matches!(gate.get("/readyz").send().expect(200), Value::Object(_)));
}
