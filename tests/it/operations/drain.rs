//! SIGTERM and SIGINT: no new traffic, running requests finish, and the process ends successfully and in time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::binary::{Child, Client, signal, within};
use crate::harness::{Database, PASSWORD, json};

/// The time within which a process must end after the signal.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

fn connect(child: &Child) -> TcpStream {
    let stream = TcpStream::connect(child.client.url.trim_start_matches("http://")).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout");
    stream
}

/// A connection that has had one answer and waits for another.
fn idle(child: &Child) -> TcpStream {
    let mut stream = connect(child);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
    let mut status = String::new();
    BufReader::new(&stream).read_line(&mut status).expect("an answer");
    assert!(status.starts_with("HTTP/1.1 200"), "{status}");
    stream
}

/// A sign-up whose body stops after the first half.
struct Halfway {
    stream: TcpStream,
    rest: String,
}

impl Halfway {
    fn begin(child: &Child, username: &str) -> Halfway {
        let mut stream = connect(child);
        let body = json!({"username": username, "password": PASSWORD}).to_string();
        let (first, rest) = body.split_at(body.len() / 2);
        let length = body.len();
        let head = format!(
            "POST /v1/signup HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}"
        );
        write!(stream, "{head}\r\n\r\n{first}").expect("it reads");
        Halfway { stream, rest: rest.to_owned() }
    }

    fn finish(mut self) -> String {
        self.stream.write_all(self.rest.as_bytes()).expect("it still reads");
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).expect("a whole answer");
        answer
    }
}

#[test]
fn shutdown__sigterm_drains() {
    let database = Database::new();
    // A slow hash: about a second in a debug build.
    let child = Child::start(&database, &[("BCRYPT_COST", "12"), ("ACCESS_LOG", "all")]);
    let (user, _, token) = child.client.tenant("alice");
    let _idle = idle(&child);
    let halfway = Halfway::begin(&child, "bob");
    let signalled = std::thread::scope(|scope| {
        let running = scope.spawn(|| child.client.sign_in("alice", PASSWORD));
        let before = Client::new(&child.client.url);
        before.get("/readyz", "").expect(200);
        std::thread::sleep(Duration::from_millis(50));
        let signalled = Instant::now();
        signal("TERM", child.pid());
        let turned = within(Duration::from_millis(500), "/readyz turns 503", || {
            Client::new(&child.client.url).get("/readyz", "").status == 503
        });
        let body = Client::new(&child.client.url).get("/readyz", "").expect(503);
        assert_eq!(body["payload"]["draining"], json!(true), "after {turned:?}");
        // A request that still comes is answered, with `Connection: close`.
        let reply = before.get("/v1/test", &token);
        reply.expect(200);
        assert_eq!(reply.header("connection"), Some("close"));
        before.get("/v1/me", &user.token).expect(200);
        assert_eq!(running.join().expect("no panic").status, 200, "the running request finishes");
        let answer = halfway.finish();
        assert!(answer.starts_with("HTTP/1.1 201"), "the request with the slow body finishes: {answer}");
        signalled
    });
    let outcome = child.wait(SHUTDOWN_LIMIT.saturating_sub(signalled.elapsed()));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains("\"route\":\"/v1/signup\""), "the last lines of the log are written: {outcome:?}");
    // The acknowledged write exists.
    Child::start(&database, &[("BCRYPT_COST", "12")]).client.sign_in("bob", PASSWORD).expect(200);
}

#[test]
fn shutdown__sigint_finishes_running_requests() {
    let database = Database::new();
    let child = Child::start(&database, &[]);
    child.client.tenant("alice");
    let _idle = idle(&child);
    let halfway = Halfway::begin(&child, "bob");
    // A request counts as running once it is being read.
    std::thread::sleep(Duration::from_millis(200));
    let signalled = Instant::now();
    signal("INT", child.pid());
    std::thread::sleep(Duration::from_millis(300));
    let answer = halfway.finish();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let outcome = child.wait(SHUTDOWN_LIMIT);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(signalled.elapsed() < SHUTDOWN_LIMIT);
}

#[test]
fn shutdown__unfinished_request_is_cut_off() {
    let never = |name: &str| {
        let database = Database::new();
        let child = Child::start(&database, &[]);
        let _halfway = Halfway::begin(&child, "alice");
        let mut half_a_head = connect(&child);
        half_a_head.write_all(b"GET /healthz HTTP/1.1\r\nHost:").expect("it reads");
        std::thread::sleep(Duration::from_millis(200));
        signal(name, child.pid());
        let outcome = child.wait(SHUTDOWN_LIMIT);
        assert_eq!(outcome.code, Some(0), "{name} {outcome:?}");
    };
    // Each takes as long as the timeout of the server.
    std::thread::scope(|scope| ["TERM", "INT"].map(|name| scope.spawn(move || never(name))).map(drop));
}

#[test]
fn shutdown__repeated_signals() {
    let database = Database::new();
    let child = Child::start(&database, &[]);
    for name in ["TERM", "TERM", "INT"] {
        signal(name, child.pid());
        std::thread::sleep(Duration::from_millis(20));
    }
    let outcome = child.wait(SHUTDOWN_LIMIT);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}
