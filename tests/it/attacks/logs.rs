//! Text of a caller stays within its own line of the log, as text.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::binary::{Child, PROMISED, within};
use crate::harness::{Database, Value, json};
use crate::operations::{access_lines, send_raw};

/// Values that would end a line or a string, or change a colour, if they were written unescaped.
const FORGERIES: &[&str] = &[
    "x\",\"forged\":1,\"y\":\"",
    "\\\",\"forged\":1,\"y\":\"",
    "x\\",
    "{\"forged\":1}",
    "\t{\"forged\":1}",
    "\u{1b}[2J\u{1b}[31mforged",
    "\u{9b}31m",
    "\u{2028}{\"forged\":1}",
    "\u{85}{\"forged\":1}",
    "\u{202e}degrof",
    "%0d%0a{\"forged\":1}",
    "\\n{\\\"forged\\\":1}",
    "\u{feff}",
    "${jndi:ldap://forged}",
    "%s%n%x",
    "\0",
    "\u{7f}",
    "\n{\"forged\":1}",
    "\r{\"forged\":1}",
];

#[test]
fn log_injection__each_event_stays_one_json_line() {
    let database = Database::new();
    let settings = [("ACCESS_LOG", "all"), ("RUST_LOG", "trace"), ("TOKEN_TTL", "1h")];
    let child = Child::start(&database, &settings);
    let (_, _, token) = child.client.tenant("alice");
    let greeting = child.stdout().lines().filter(|line| !line.is_empty() && !line.starts_with('{')).count();
    let signature = token.rsplit('.').next().expect("a signature");
    let mut sent = 0;
    for forgery in FORGERIES {
        for name in
            ["Host", "User-Agent", "Referer", "X-Forwarded-For", "Accept-Language", "Origin", "X-Request-Id", "Via"]
        {
            let host = if name == "Host" { "" } else { "Host: x\r\n" };
            send_raw(&child, &format!("GET /v1/test HTTP/1.1\r\n{host}{name}: {forgery}\r\nConnection: close\r\n\r\n"));
            sent += 1;
        }
        // In the header of a token, whose decoded text is not validated before.
        for member in ["kid", "alg", "typ"] {
            let mut header = json!({"alg": "HS256", "typ": "at+jwt", "kid": "x"});
            header[member] = json!(forgery);
            let header = URL_SAFE_NO_PAD.encode(header.to_string());
            let claims = token.split('.').nth(1).expect("claims");
            child.client.get("/v1/test", &format!("{header}.{claims}.{signature}")).refused(401, "invalid");
            sent += 1;
        }
        let encoded: String = forgery.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for path in
            ["/{}", "/v1/posts/{}", "/v1/domains/{}", "/v1/posts/hashtag/{}", "/token/{}?{}", "/v1/posts/my?limit={}"]
        {
            child.client.get(&path.replace("{}", &encoded), &token);
            sent += 1;
        }
        for (path, body) in [
            ("/v1/signin", json!({"username": forgery, "password": forgery})),
            ("/v1/signup", json!({"username": forgery, "password": forgery, "nick": forgery})),
            ("/token", json!({"clientSecret": forgery})),
            ("/v1/posts", json!({"content": forgery, *forgery: forgery})),
        ] {
            child.client.post(path, &token, body);
            sent += 1;
        }
    }
    child.client.send("GET", "/v1/test", &[("X-Request-Id", "the-last")], "").expect("an answer");
    within(PROMISED, "the last line", || child.stdout().contains("the-last"));
    let (out, err) = (child.stdout(), child.stderr());
    for line in out.lines().filter(|line| !line.is_empty()).skip(greeting).chain(err.lines()) {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert!(event.is_object() && event.get("forged").is_none(), "{line:?}");
        // A terminal must not interpret any of it either.
        assert!(!line.chars().any(|c| c.is_control() || "\u{2028}\u{2029}\u{202e}\u{feff}".contains(c)), "{line:?}");
    }
    // A request that HTTP itself refuses leaves no line; every other one leaves one.
    let lines = access_lines(&child).len();
    assert!(lines > sent / 2 && lines <= sent + 10, "{lines} lines of {sent} requests");
    child.client.get("/v1/test", &token).expect(200);
}
