//! HEAD on every route with GET (RFC 9110 §9.3.2), and offers of other protocols, which are ignored (§7.8).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::{raw, replies};
use crate::binary::free_port;
use crate::harness::{Gate, Reply};
use crate::matrix::Cast;
use crate::openapi::Document;

/// The headers of an answer without those that change each time.
fn steady(reply: &Reply) -> Vec<&(String, String)> {
    let differs = ["date", "x-request-id", "content-length", "ratelimit", "x-gatebird-token-expires"];
    let mut headers: Vec<_> = reply.headers.iter().filter(|(name, _)| !differs.contains(&name.as_str())).collect();
    headers.sort();
    headers
}

#[test]
fn head_method__same_as_get_without_the_body() {
    let gate = Gate::start();
    let cast = Cast::new(&gate, 0);
    let document = Document::of(&gate);
    let mut tried = 0;
    for (operation, _) in document.operations() {
        let Some(pattern) = operation.strip_prefix("GET ") else {
            continue;
        };
        let path = cast.fill(pattern, 0);
        for token in [Some(&cast.user.token), Some(&cast.client), None] {
            let ask = |method: &str| match token {
                Some(token) => gate.request(method, &path).token(token).send(),
                None => gate.request(method, &path).send(),
            };
            let (get, head) = (ask("GET"), ask("HEAD"));
            assert_eq!((head.status, head.text().as_str()), (get.status, ""), "{path}");
            assert_eq!(steady(&head), steady(&get), "{path}");
            assert!(head.header("content-length").is_some_and(|length| length != "0" || get.body.is_empty()), "{path}");
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried}");
}

#[test]
fn head_method__is_405_without_a_get_route() {
    let gate = Gate::start();
    for (path, allow) in [("/token", "POST"), ("/revoke", "POST"), ("/v1/signin", "POST"), ("/v1/me/password", "PUT")] {
        let reply = gate.request("HEAD", path).send();
        assert_eq!((reply.status, reply.header("allow"), reply.text().as_str()), (405, Some(allow), ""), "{path}");
    }
    assert_eq!(gate.request("HEAD", "/nowhere").send().status, 404);
    for (path, allow) in [
        ("/healthz", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
        ("/.well-known/jwks.json", "GET, HEAD"),
        ("/v1/posts/1", "GET, HEAD, PUT, DELETE"),
        ("/v1/domains", "GET, HEAD, POST"),
    ] {
        let reply = gate.request("BOGUS", path).send();
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{path}");
    }
}

#[test]
fn head_method__pipelined_answers_stay_in_step() {
    let gate = Gate::start();
    let mut stream = TcpStream::connect(gate.url.trim_start_matches("http://")).expect("the server listens");
    let head = |path: &str| format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let last = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let requests = [head("/openapi.json"), head("/healthz"), head("/v1/test"), head("/nowhere"), last.into()].concat();
    stream.write_all(requests.as_bytes()).expect("sent");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("the server answers and closes");
    let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "401", "404", "200"], "{answers}");
    assert_eq!(answers.matches("{\"code\"").count(), 1, "only the GET has a body: {answers}");
}

#[test]
fn head_method__counted_as_head_in_metrics() {
    let gate = Gate::start();
    gate.request("HEAD", "/healthz").send();
    gate.request("HEAD", "/v1/posts/my").send();
    let metrics = gate.app.metrics_text();
    for line in [
        "gatebird_requests_total{route=\"/healthz\",method=\"HEAD\",status=\"200\"} 1",
        "gatebird_requests_total{route=\"/v1/posts/my\",method=\"HEAD\",status=\"401\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

/// The answer to a HEAD on its own connection, which is only a head.
fn head_at(address: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.write_all(request).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server answers and closes");
    answer
}

#[test]
fn head_method__on_the_metrics_port() {
    let gate = Gate::start();
    let address = format!("127.0.0.1:{}", free_port()).parse().expect("an address");
    let app = gate.app.clone();
    let serving = std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let server = gatebird::server::bind_metrics(&app, address).expect("a free port");
            let handle = server.handle();
            let ask = actix_web::rt::task::spawn_blocking(move || {
                head_at(&address.to_string(), b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            });
            actix_web::rt::spawn(server);
            let answer = ask.await.expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
            handle.stop(true).await;
        });
    });
    serving.join().expect("it is answered");
}

/// Offers of other protocols that clients make, and other lists with `upgrade`.
const OFFERS: [&str; 12] = [
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n",
    "Connection: Upgrade\r\n",
    "connection: upgrade\r\n",
    "Connection: keep-alive, Upgrade\r\n",
    "Connection:upgrade,keep-alive\r\n",
    "Connection: keep-alive\r\nConnection: UPGRADE\r\n",
    "Upgrade: h2c\r\n",
    "Upgrade: websocket\r\n",
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n",
    "UPGRADE: WebSocket\r\nCONNECTION: x, upgrade ,y\r\n",
    "Upgrade: TLS/1.3, websocket, h2c\r\nConnection: Upgrade\r\n",
    "Upgrade: \r\nConnection: \r\n",
];

#[test]
fn protocol_upgrade__offer_is_ignored() {
    let gate = Gate::start();
    let body = "{\"clientSecret\":\"x\"}";
    let post = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let chunked =
        format!("Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n{body}\r\n0\r\n\r\n");
    for offer in OFFERS {
        for (first, status) in [
            (format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{offer}\r\n"), 200),
            (format!("POST /token HTTP/1.1\r\nHost: x\r\n{offer}{post}"), 401),
            (format!("POST /token HTTP/1.1\r\n{offer}Host: x\r\n{chunked}"), 401),
            (format!("GET /nowhere HTTP/1.1\r\nHost: x\r\n{offer}\r\n"), 404),
        ] {
            let second = "GET /v1/test HTTP/1.1\r\nHost: x\r\n\r\n";
            let answers = raw(&gate, format!("{first}{first}{second}").as_bytes());
            let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
            assert_eq!(statuses, [status, status, 401], "{first}");
            for answer in &answers {
                assert_eq!((answer.header("connection"), answer.header("upgrade")), (None, None), "{first}");
            }
        }
    }
}

#[test]
fn protocol_upgrade__offer_with_close_closes() {
    let gate = Gate::start();
    for connection in ["close, upgrade", "Upgrade, close", "upgrade\r\nConnection: close"] {
        let mut stream = TcpStream::connect(gate.url.trim_start_matches("http://")).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let request = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: {connection}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the server answers and closes");
        assert_eq!(replies(&answer)[0].header("connection"), Some("close"), "{connection}");
    }
}
