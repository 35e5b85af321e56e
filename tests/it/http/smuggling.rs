//! Requests that two servers in a row could read differently, several requests on one connection, and `Expect`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::{raw, replies};
use crate::harness::{Gate, check_each, json};

#[test]
fn request_smuggling__ambiguous_framing_is_refused() {
    let gate = Gate::start();
    let (user, domain, token) = gate.tenant("alice");
    let body = json!({"content": "smuggled"}).to_string();
    let smuggled = format!(
        "POST /v1/posts HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let good = json!({"clientSecret": domain.secret}).to_string();
    let length = smuggled.len();
    let chunk = format!("{length:x}\r\n{smuggled}\r\n0\r\n\r\n");
    // The headers of a `POST /token`, and the bytes after them.
    let rows: Vec<(&str, String, String)> = vec![
        ("CL.TE", "Content-Length: 6\r\nTransfer-Encoding: chunked".into(), format!("0\r\n\r\n{smuggled}")),
        ("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 4".into(), chunk.clone()),
        ("TE.TE", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".into(), format!("0\r\n\r\n{smuggled}")),
        ("TE list", "Transfer-Encoding: chunked, identity".into(), format!("0\r\n\r\n{smuggled}")),
        ("TE unknown", "Transfer-Encoding: xchunked".into(), smuggled.clone()),
        (
            "TE unknown with CL",
            format!("Transfer-Encoding: xchunked\r\nContent-Length: {}", good.len()),
            format!("{good}{smuggled}"),
        ),
        ("TE twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked".into(), format!("0\r\n\r\n{smuggled}")),
        ("TE with a tab", "Transfer-Encoding:\tchunked\r\nContent-Length: 4".into(), chunk.clone()),
        ("TE with a vertical tab", "Transfer-Encoding: \x0bchunked\r\nContent-Length: 4".into(), chunk.clone()),
        ("TE, blank before the colon", "Transfer-Encoding : chunked\r\nContent-Length: 4".into(), chunk.clone()),
        ("TE folded", "Transfer-Encoding:\r\n chunked\r\nContent-Length: 4".into(), chunk.clone()),
        ("TE in a folded header", "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 4".into(), chunk),
        (
            "two lengths",
            format!("Content-Length: {}\r\nContent-Length: {length}", good.len()),
            format!("{good}{smuggled}"),
        ),
        (
            "two lengths, other order",
            format!("Content-Length: {length}\r\nContent-Length: {}", good.len()),
            format!("{good}{smuggled}"),
        ),
        (
            "length twice the same",
            format!("Content-Length: {0}\r\nContent-Length: {0}", good.len()),
            format!("{good}{smuggled}"),
        ),
        ("list of lengths", format!("Content-Length: {0}, {0}", good.len()), format!("{good}{smuggled}")),
        ("length with a sign", format!("Content-Length: +{}", good.len()), format!("{good}{smuggled}")),
        ("negative length", "Content-Length: -1".into(), smuggled.clone()),
        ("hexadecimal length", "Content-Length: 0x3".into(), format!("{good}{smuggled}")),
        ("length as a float", "Content-Length: 1e1".into(), format!("{good}{smuggled}")),
        ("length beyond 64 bits", "Content-Length: 18446744073709551616".into(), format!("{good}{smuggled}")),
        ("empty length", "Content-Length: ".into(), format!("{good}{smuggled}")),
        ("length in words", "Content-Length: ten".into(), format!("{good}{smuggled}")),
        ("length, blank before the colon", format!("Content-Length : {}", good.len()), format!("{good}{smuggled}")),
        ("folded length", format!("Content-Length:\r\n {}", good.len()), format!("{good}{smuggled}")),
        ("chunk of negative size", "Transfer-Encoding: chunked".into(), format!("-1\r\n{smuggled}\r\n0\r\n\r\n")),
        ("chunk of too great a size", "Transfer-Encoding: chunked".into(), format!("10000000000000000\r\n{smuggled}")),
        ("chunk of no size", "Transfer-Encoding: chunked".into(), format!("\r\n{smuggled}")),
        ("chunk size 0x", "Transfer-Encoding: chunked".into(), format!("0x0\r\n\r\n{smuggled}")),
        ("chunk without its end", "Transfer-Encoding: chunked".into(), format!("3\r\nabcXX0\r\n\r\n{smuggled}")),
        ("NUL in a name", "X\0Y: a".into(), smuggled.clone()),
        ("blank in a name", "X Y: a".into(), smuggled.clone()),
        ("empty name", ": a".into(), smuggled.clone()),
        ("no colon", "Content-Length".into(), smuggled.clone()),
        ("bare CR", "X: a\rContent-Length: 0".into(), smuggled.clone()),
        ("NUL in a value", "X: a\0b".into(), smuggled.clone()),
    ];
    check_each(rows, |(name, headers, rest)| {
        let request =
            format!("POST /token HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\n{headers}\r\n\r\n{rest}");
        let answers = raw(&gate, request.as_bytes());
        assert!(answers.iter().all(|reply| reply.status >= 400 && reply.status < 500), "{name}: {answers:?}");
        gate.get("/healthz").send().expect(200);
    });
    // Forms that a lenient server may accept, if it reads one request and not the one inside.
    let inside = smuggled.replace("\r\n", "\n");
    let lf = format!(
        "POST /token HTTP/1.1\nHost: gate\nContent-Type: text/plain\nContent-Length: {}\n\n{inside}",
        inside.len()
    );
    let answers = raw(&gate, lf.as_bytes());
    assert!(
        answers.len() <= 1 && answers.iter().all(|reply| matches!(reply.status, 400 | 415)),
        "bare LF: {answers:?}"
    );

    let posts = gate.get("/v1/posts/my").token(&user.token).send().expect(200);
    assert_eq!(posts["payload"], json!([]), "a smuggled request was carried out");
}

#[test]
fn pipelining__answers_keep_order_and_identity() {
    let gate = Gate::start();
    let (alice, bob) = (gate.sign_up("alice"), gate.sign_up("bob"));
    let names = ["alice", "bob", "bob", "nobody"].repeat(5);
    let requests: String = names
        .iter()
        .map(|name| {
            let token = match *name {
                "alice" => &alice.token,
                "bob" => &bob.token,
                _ => "invalid",
            };
            format!(
                "GET /v1/me HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {token}\r\nX-Request-Id: {name}\r\n\r\n"
            )
        })
        .collect();
    let answers = raw(&gate, requests.as_bytes());
    assert_eq!(answers.len(), 20);
    for (name, answer) in names.iter().zip(&answers) {
        assert_eq!(answer.header("x-request-id"), Some(*name));
        match *name {
            "nobody" => drop(answer.refused(401, "invalid")),
            name => assert_eq!(answer.expect(200)["payload"]["username"], *name),
        }
    }
    // A malformed request ends the connection and everything after it.
    let mut broken = format!("{requests}BROKEN\r\n\r\n{requests}");
    broken.push_str("GET /healthz HTTP/1.1\r\nHost: gate\r\n\r\n");
    let answers = raw(&gate, broken.as_bytes());
    assert!(answers.len() <= 21, "{}", answers.len());
    assert!(answers.last().is_some_and(|reply| reply.status == 400), "{:?}", answers.last());
}

#[test]
fn expect_100_continue__answered_before_the_body() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    let body = json!({"clientSecret": domain.secret}).to_string();
    let head = |length: usize, expect: &str| {
        format!(
            "POST /token HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Expect: {expect}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut stream = TcpStream::connect(gate.url.strip_prefix("http://").expect("plain HTTP")).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    stream.write_all(head(body.len(), "100-continue").as_bytes()).expect("sent");
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).expect("100 before the body is sent");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("a whole answer");
    replies(&answer)[0].expect(200);

    // A length that is too great is refused without any of the body.
    let answers = raw(&gate, head(1 << 30, "100-continue").as_bytes());
    answers.last().expect("an answer").refused(413, "too_large");
    let bogus = [head(body.len(), "bogus"), body].concat();
    let answers = raw(&gate, bogus.as_bytes());
    assert!(answers.iter().all(|reply| matches!(reply.status, 200 | 400 | 417)), "{answers:?}");
    gate.get("/healthz").send().expect(200);
}

#[test]
fn host_header__is_ignored() {
    let gate = Gate::start();
    let (_, _, token) = gate.tenant("alice");
    for host in ["Host: evil.test\r\n", "Host: evil.test\r\nX-Forwarded-Host: evil.test\r\n", "Host: \r\n"] {
        let request = format!("GET /v1/test HTTP/1.1\r\n{host}Connection: close\r\nAuthorization: {token}\r\n\r\n");
        let answers = raw(&gate, request.as_bytes());
        assert!(matches!(answers[0].status, 200 | 400), "{host}: {answers:?}");
        assert!(!answers[0].text().contains("evil"), "{answers:?}");
    }
    for request in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET http://evil.test/v1/test HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n",
        "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        "GET /v1/test HTTP/0.9\r\n\r\n",
        "GET  /v1/test HTTP/1.1\r\nHost: gate\r\n\r\n",
        "GET /v1/te\0st HTTP/1.1\r\nHost: gate\r\n\r\n",
        "GET /v1/posts/\u{7f}\u{ff} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n",
        "\u{16}\u{3}\u{1}\0\u{1}",
        "\r\n\r\n\r\n",
    ] {
        let answers = raw(&gate, request.as_bytes());
        assert!(answers.iter().all(|reply| (400..500).contains(&reply.status)), "{request:?}: {answers:?}");
    }
    gate.get("/healthz").send().expect(200);
}
