//! Malformed heads: answered in the usual shape, counted, and logged in one line without their bytes.

use std::time::Duration;

use super::{raw, raw_at};
use crate::binary::{Child, signal};
use crate::harness::{Database, Gate};

const SECRET: &str = "gbs_c4naryc4naryc4naryc4naryc4nary01234567";

/// The first bytes of a TLS connection.
const TLS_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x7a\x0a\r\n\r\n";

fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let with = |head: &str| format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n").into_bytes();
    vec![
        ("UTF-8 in the target", "GET /검색?q=é HTTP/1.1\r\nHost: x\r\n\r\n".into()),
        ("Latin-1 in the target", b"GET /caf\xe9 HTTP/1.1\r\nHost: x\r\n\r\n".into()),
        ("a TLS hello", TLS_HELLO.into()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
        ("no version", b"GET /healthz\r\nHost: x\r\n\r\n".into()),
        ("another version", b"GET / HTTP/3.0\r\nHost: x\r\n\r\n".into()),
        ("NUL", b"\0\0\0\0\r\n\r\n".into()),
        ("no host", b"GET / HTTP/1.1\r\n\r\n".into()),
        ("two hosts", with("Host: y")),
        ("a header without a colon", with(SECRET)),
        ("a length that is a secret", with(&format!("Content-Length: {SECRET}"))),
        ("an encoding that is a secret", with(&format!("Transfer-Encoding: {SECRET}"))),
        ("two lengths", with("Content-Length: 1\r\nContent-Length: 2")),
        ("a length with a sign", with("Content-Length: +1")),
        ("a length and chunks", with("Content-Length: 1\r\nTransfer-Encoding: chunked")),
        ("a name with a blank", with(&format!("X Y: {SECRET}"))),
        ("a folded line", with(&format!("X: a\r\n {SECRET}"))),
    ]
}

#[test]
fn malformed_head__has_a_request_id_and_is_counted() {
    let gate = Gate::start();
    let heads = malformed();
    for (name, bytes) in &heads {
        let answers = raw(&gate, bytes);
        assert_eq!(answers.len(), 1, "{name}");
        answers[0].refused(400, "malformed");
        assert!(answers[0].header("x-request-id").is_some_and(|id| !id.is_empty()), "{name}");
    }
    let line = format!("gatebird_malformed_heads_total {}", heads.len());
    assert!(gate.app.metrics_text().contains(&line), "{line}: {}", gate.app.metrics_text());
    // A well-formed head, or one that is only too large, is not counted.
    gate.get("/nowhere").send().refused(404, "not_found");
    gate.get("/healthz").header("X-Filler", "x".repeat(17_000)).send().refused(431, "too_large");
    assert!(gate.app.metrics_text().contains(&line));
}

#[test]
fn malformed_head__is_logged_in_one_debug_line() {
    for (filter, lines) in [("info", 0), ("debug", 1), ("trace", 1), ("trace,actix_http::h1=trace,actix_web=trace", 1)]
    {
        let database = Database::new();
        let child = Child::start(&database, &[("RUST_LOG", filter), ("ACCESS_LOG", "off")]);
        let heads = malformed();
        for (_, bytes) in &heads {
            raw_at(child.client.url.trim_start_matches("http://"), bytes);
        }
        // Secrets in places that a framework might log.
        for (name, value) in [("Expect", SECRET), ("Content-Type", SECRET), ("Cookie", SECRET), ("Range", SECRET)] {
            child
                .client
                .send("GET", &format!("/v1/posts/{SECRET}?limit={SECRET}"), &[(name, value)], "")
                .expect("an answer");
        }
        signal("TERM", child.pid());
        let outcome = child.wait(Duration::from_secs(20));
        let (out, err) = (outcome.stdout, outcome.stderr);
        assert!(!out.contains(SECRET) && !err.contains(SECRET), "{filter}: {err}");
        assert!(!err.contains("\"level\":\"ERROR\""), "{filter}: {err}");
        let logged: Vec<&str> = err.lines().filter(|line| line.contains("refused the head")).collect();
        assert_eq!(logged.len(), lines * heads.len(), "{filter}: {err}");
        assert!(logged.iter().all(|line| line.contains("\"DEBUG\"") && line.contains("127.0.0.1")), "{logged:?}");
    }
}
